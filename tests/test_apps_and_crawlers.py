"""Those who read no pages: apps that ask a page's address for JSON, and programs that read pages for others."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import httpx
import pytest
from house import DOCUMENT, House, RecordingOrigin, Visitor, running, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

JSON = {"Accept": "application/json"}
GOOGLE = {"User-Agent": "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"}
ME = {
    "room",
    "state",
    "number",
    "place",
    "ahead",
    "wait_s",
    "refresh_s",
    "opens_at",
    "claim_by",
    "pass_until",
    "message",
}
TIMES = ("timeUntilEventStart", "timeUntilEventEnd")


@pytest.fixture
def house(tmp_path: Path, origin: RecordingOrigin) -> Iterator[House]:
    """A room with two slots where everyone passes through the line, and a waiting document has status 202."""
    with running(tmp_path, origin, {"always_queue": True, "queueing_status_code": 202}) as started:
        yield started


def ask(house: House, **headers: str) -> httpx.Response:
    """Ask for the event's page once, without keeping cookies."""
    return httpx.get(f"{house.url}/event/", headers={**DOCUMENT, **headers}, trust_env=False)


def test_an_app_in_line_is_told_where_it_stands_by_the_page_s_own_address(
    house: House, origin: RecordingOrigin
) -> None:
    """With a ticket, a document's URL answers ``Accept: application/json`` by the ``me`` object and its twin."""
    visitors = [Visitor(house) for _ in range(3)]
    for visitor in visitors:
        assert visitor.event().status_code == 202
    until(lambda: visitors[0].me()["state"] == visitors[1].me()["state"] == "called")
    answer = visitors[2].get("/event/shoes?x=1", headers=JSON)
    assert (answer.status_code, answer.headers["content-type"]) == (202, "application/json")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["waitroom-state"] == "waiting"
    assert int(answer.headers["retry-after"]) >= 1
    body = answer.json()
    twin = body.pop("cfWaitingRoom")
    assert body.keys() == ME
    assert (body["room"], body["state"], body["number"], body["ahead"]) == ("launch", "waiting", 3, 0)
    assert dt.datetime.fromisoformat(twin.pop("lastUpdated")).tzinfo is not None
    minutes = -(-body["wait_s"][1] // 60) if body["wait_s"] else 0
    words = "unavailable" if body["wait_s"] is None else "1 minute" if minutes == 1 else f"{minutes} minutes"
    assert twin == {
        "inWaitingRoom": True,
        "waitTimeKnown": body["wait_s"] is not None,
        "waitTime": minutes,
        "waitTimeFormatted": words,
        "queueIsFull": False,
        "queueAll": False,
        "refreshIntervalSeconds": int(answer.headers["retry-after"]),
        "queueingMethod": "fifo",
        "isFIFOQueue": True,
        "isRandomQueue": False,
        "isPassthroughQueue": False,
        "isRejectQueue": False,
        "isEventActive": False,
        "isEventPrequeueing": False,
        "shuffleAtEventStart": False,
        **dict.fromkeys(TIMES, 0),
        **{f"{name}Formatted": "unavailable" for name in TIMES},
    }
    told = visitors[0].get("/event/", headers=JSON)
    assert told.json()["state"] == "called", "asking is no claim"
    assert origin.seen == []


def test_asking_for_json_is_being_heard(tmp_path: Path, origin: RecordingOrigin) -> None:
    """An app that asks nothing but the page's address as JSON keeps its turn in line like any other."""
    with running(tmp_path, origin, {"always_queue": True, "total_active_users": 1}) as house:
        first, app = Visitor(house), Visitor(house)
        first.event()
        app.event()
        until(lambda: first.me()["state"] == "called")
        assert first.is_in()
        for _ in range(30):
            assert app.get("/event/", headers=JSON).json()["state"] == "waiting"
        first.post("/.waitroom/launch/leave")
        until(lambda: app.get("/event/", headers=JSON).json()["state"] == "called")


def test_an_event_is_told_in_minutes(tmp_path: Path, origin: RecordingOrigin) -> None:
    """While people gather, and once it runs: how long until it starts and ends."""
    now = dt.datetime.now(dt.UTC)
    times = {"prequeue_start_time": -10, "start_time": 95, "end_time": 600}
    event = {
        name: (now + dt.timedelta(seconds=seconds)).isoformat(timespec="milliseconds")
        for name, seconds in times.items()
    }
    with running(tmp_path, origin, {"events": [{"name": "noon", "shuffle_at_event_start": True, **event}]}) as house:
        visitor = Visitor(house)
        visitor.event()
        twin = visitor.get("/event/", headers=JSON).json()["cfWaitingRoom"]
        assert (twin["isEventActive"], twin["isEventPrequeueing"], twin["shuffleAtEventStart"]) == (True, True, True)
        assert (twin["timeUntilEventStart"], twin["timeUntilEventStartFormatted"]) == (2, "2 minutes")
        assert (twin["timeUntilEventEnd"], twin["timeUntilEventEndFormatted"]) == (10, "10 minutes")


def test_json_gives_no_place_and_takes_none(house: House, origin: RecordingOrigin) -> None:
    """Without a ticket, and for whatever is not GET, JSON is refused as before; with a pass the shop answers."""
    assert ask(house, **JSON).status_code == 429
    visitor = Visitor(house)
    visitor.event()
    assert visitor.me()["number"] == 1
    posted = visitor.post("/event/", headers=JSON)
    assert (posted.status_code, posted.headers["content-type"]) == (429, "application/problem+json")
    assert visitor.get("/event/", headers={"Accept": "*/*"}).status_code == 429
    until(lambda: visitor.me()["state"] == "called")
    assert visitor.is_in()
    assert visitor.get("/event/", headers=JSON).text == "shop"
    visitor.post("/.waitroom/launch/leave")
    seen = len(origin.seen)
    assert visitor.get("/event/", headers=JSON).status_code == 429
    assert len(origin.seen) == seen


def test_a_crawler_gets_503_and_no_place(house: House, origin: RecordingOrigin) -> None:
    """A search engine takes nobody's place, is told to come back, and never sees the line as the shop's page."""
    answer = ask(house, **GOOGLE)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "3600")
    assert answer.headers["x-robots-tag"] == "noindex"
    assert "set-cookie" not in answer.headers
    visitor = Visitor(house)
    visitor.event()
    assert visitor.me()["number"] == 1, "a crawler took a number"
    assert origin.seen == []


def test_a_crawler_with_a_place_is_somebody(house: House) -> None:
    """Who got a ticket as an app does is not asked what it calls itself."""
    ticket = httpx.post(f"{house.url}/.waitroom/launch/join", headers=GOOGLE, trust_env=False).json()["ticket"]
    answer = ask(house, **GOOGLE, **{"Waitroom-Ticket": ticket})
    assert (answer.status_code, answer.headers["waitroom-state"]) == (202, "waiting")


def test_in_standby_a_crawler_reads_the_shop_and_holds_no_slot(tmp_path: Path, origin: RecordingOrigin) -> None:
    """Its requests go through as a script's do, without a pass; both slots stay free for people."""
    with running(tmp_path, origin) as house:
        for _ in range(4):
            answer = ask(house, **GOOGLE)
            assert (answer.status_code, answer.text) == (200, "shop")
            assert "set-cookie" not in answer.headers
        assert all(Visitor(house).is_in() for _ in range(2))
        until(lambda: ask(house, **GOOGLE).status_code == 503)
