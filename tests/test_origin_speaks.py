"""What the shop says on its answers reaches everyone: every worker within a tick, and everybody who waits."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import httpx
import pytest
from house import RecordingOrigin, Visitor, running, until

if TYPE_CHECKING:
    from pathlib import Path

SQLITE = {"store": "sqlite:///record.db", "workers": 2}
WITHIN_S = 0.9
"""Two ticks, one to bring it and one to hear of it, and what a busy machine adds."""


def says(origin: RecordingOrigin, *headers: str) -> None:
    """Have the shop say this on each answer from now on."""
    more = "".join(f"{header}\r\n" for header in headers)
    origin.answer = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n{more}Content-Length: 4\r\n\r\nshop".encode()


def everywhere(house, visitor) -> set[bool]:
    """Return whether the visitor's pass opens the door, asked on many new connections, so of every worker."""
    cookies = dict(visitor.cookies)
    found = set()
    for _ in range(12):
        answer = httpx.get(
            f"{house.url}/event/", cookies=cookies, headers={"Accept": "application/json"}, trust_env=False
        )
        found.add(answer.text == "shop")
    return found


def state(house) -> str:
    """Return what the room is doing, as everyone is told."""
    told: str = httpx.get(f"{house.url}/.waitroom/launch/now", trust_env=False).json()["state"]
    return told


def test_a_revoked_pass_is_known_to_every_worker_within_a_tick(tmp_path: Path, origin: RecordingOrigin) -> None:
    """`revoke` after the order: here at once, at every worker within a tick, and the slot is free."""
    with running(tmp_path, origin, {"always_queue": True, "total_active_users": 1}, **SQLITE) as house:
        visitor, waiting = Visitor(house), Visitor(house)
        visitor.event()
        until(lambda: visitor.me()["state"] == "called")
        assert visitor.is_in()
        waiting.event()
        time.sleep(WITHIN_S)
        assert everywhere(house, visitor) == {True}
        says(origin, "Waitroom-Command: revoke")
        page = visitor.event()
        assert (page.text, [name for name in page.headers if "waitroom" in name]) == ("shop", [])
        says(origin)
        time.sleep(WITHIN_S)
        assert everywhere(house, visitor) == {False}
        until(lambda: waiting.me()["state"] == "called")


def test_only_a_visitor_inside_can_be_spoken_of(tmp_path: Path, origin: RecordingOrigin) -> None:
    """On answers to anybody else the words are dropped: an ordinary page cannot end a line."""
    says(origin, "Waitroom-Command: sold-out", "Waitroom-Stock: 0")
    with running(tmp_path, origin, {"bypass": [{"path": "/event/assets/"}]}, **SQLITE) as house:
        visitor = Visitor(house)
        visitor.get("/ordinary")
        visitor.get("/event/assets/a.css")
        time.sleep(WITHIN_S)
        assert state(house) == "open"


def test_a_session_is_extended(tmp_path: Path, origin: RecordingOrigin) -> None:
    """`extend`: the end moves on, and the browser learns of it with a later answer."""
    with running(tmp_path, origin, {"always_queue": True, "session_duration": "60s"}, **SQLITE) as house:
        visitor = Visitor(house)
        visitor.event()
        until(lambda: visitor.me()["state"] == "called")
        assert visitor.is_in()
        before = visitor.me()["pass_until"]
        says(origin, "Waitroom-Command: extend=10m")
        visitor.event()
        says(origin)
        until(lambda: visitor.me()["pass_until"] >= before + 599_000)


def test_sold_out_for_now_is_said_to_everyone_and_is_taken_back(tmp_path: Path, origin: RecordingOrigin) -> None:
    """Stock 0: nobody is called and every place is kept; when a payment fails the line goes on in order."""
    with running(tmp_path, origin, {"always_queue": True, "total_active_users": 1}, **SQLITE) as house:
        inside, first, second = (Visitor(house) for _ in range(3))
        for visitor in (inside, first, second):
            visitor.event()
        until(lambda: inside.me()["state"] == "called")
        says(origin, "Waitroom-Stock: 0;v=2")
        assert inside.is_in()
        until(lambda: state(house) == "sold_out")
        until(lambda: {first.me()["state"], second.me()["state"]} == {"sold_out"})
        newcomer = Visitor(house)
        assert newcomer.event().status_code == 200
        assert newcomer.me()["number"] == 4
        says(origin, "Waitroom-Stock: 9;v=1")
        inside.event()
        time.sleep(WITHIN_S)
        assert state(house) == "sold_out", "an older word was heard over a newer one"
        says(origin, "Waitroom-Stock: 1;v=3")
        inside.event()
        inside.post("/.waitroom/launch/leave")
        until(lambda: first.me()["state"] == "called")
        assert second.me()["state"] == "waiting"


@pytest.mark.parametrize(("word", "told"), [("sold-out", "sold_out"), ("close", "closed")])
def test_the_line_ends_for_good(tmp_path: Path, origin: RecordingOrigin, word: str, told: str) -> None:
    """Whoever waits and whoever comes is told so, by page and API; who is inside stays; a restart changes nothing."""
    with running(tmp_path, origin, {"always_queue": True, "total_active_users": 1}, **SQLITE) as house:
        inside, waiting = Visitor(house), Visitor(house)
        for visitor in (inside, waiting):
            visitor.event()
        until(lambda: inside.me()["state"] == "called")
        says(origin, f"Waitroom-Command: {word}")
        assert inside.is_in()
        says(origin)
        until(lambda: state(house) == told)
        until(lambda: waiting.me()["state"] == told)
        assert house.stop() == 0
        house.start()
        page = waiting.event()
        assert (page.status_code, page.headers["waitroom-state"]) == (503, told)
        newcomer = Visitor(house)
        assert (newcomer.event().status_code, "set-cookie" in newcomer.event().headers) == (503, False)
        assert newcomer.post("/.waitroom/launch/join", headers={"Accept": "application/json"}).json()["state"] == told
        assert inside.is_in()
