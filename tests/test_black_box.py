"""What a stranger can check from outside: order, caps, ghosts, tokens, spellings, repeats, restarts."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml
from house import DOCUMENT, House, RecordingOrigin, Visitor, alive, running, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def house(tmp_path: Path, origin: RecordingOrigin) -> Iterator[House]:
    """A room with two slots where everyone passes through the line."""
    with running(tmp_path, origin, {"always_queue": True}) as started:
        yield started


def admitted(visitor: Visitor, patience_s: float = 15.0) -> None:
    """Wait as a page does until called, and enter."""

    def enters() -> bool:
        status = visitor.me()
        return status["state"] in ("called", "missed") and visitor.is_in()

    until(enters, "never admitted", patience_s)


def test_ordinary_requests_pass_straight_through(house: House, origin: RecordingOrigin) -> None:
    """P7: a request that no room covers reaches the shop at once, byte for byte, and is told nothing of ours."""
    visitor = Visitor(house, **{"Waitroom-Number": "1", "waitroom_visitor": "me"})
    answer = visitor.get("/products//a%2Fb;c?x=1&y=%20")
    assert (answer.status_code, answer.text) == (200, "shop")
    assert "set-cookie" not in answer.headers
    seen = origin.seen[-1]
    assert seen.target == "/products//a%2Fb;c?x=1&y=%20"
    assert not [name for name, _ in seen.headers if "waitroom" in name.lower()]
    assert seen.header("Host") == f"127.0.0.1:{house.port}"


def test_a_body_reaches_the_shop_by_length_and_chunked(house: House, origin: RecordingOrigin) -> None:
    """A form arrives as it was sent, whichever way its length was told."""
    visitor = Visitor(house)
    visitor.post("/cart", data={"unit": "1"})
    assert origin.seen[-1].body == b"unit=1"
    visitor.post("/cart", content=iter([b"one ", b"two"]))
    assert origin.seen[-1].body == b"one two"


def test_the_line_is_served_in_order(house: House, origin: RecordingOrigin) -> None:
    """P1 and P3: of six who come and ask, the first two are called; then the next, as slots come free."""
    visitors = [Visitor(house) for _ in range(6)]
    for visitor in visitors:
        assert visitor.event().headers["waitroom-state"] == "waiting"
    for visitor in visitors:
        visitor.me()

    def called() -> list[int]:
        return [number for number, visitor in enumerate(visitors, 1) if visitor.me()["state"] == "called"]

    until(lambda: called() == [1, 2])
    assert visitors[0].is_in()
    assert visitors[1].is_in()
    time.sleep(0.6)
    assert called() == [], "a third was called while both slots are in use"
    visitors[1].post("/.waitroom/launch/leave")
    until(lambda: called() == [3])
    assert [seen.header("Waitroom-Number") for seen in origin.seen] == ["1", "2"]


def test_the_shop_is_told_who_came(house: House, origin: RecordingOrigin) -> None:
    """The origin gets room, number, visitor and time of admission from us, and never from outside."""
    visitor = Visitor(house, **{"Waitroom-Number": "999", "WAITROOM_VISITOR": "forged"})
    visitor.event()
    admitted(visitor)
    seen = origin.seen[-1]
    ours = [(name, value) for name, value in seen.headers if name.lower().startswith("waitroom")]
    assert [name for name, _ in ours] == [
        "Waitroom-Room",
        "Waitroom-Number",
        "Waitroom-Visitor",
        "Waitroom-Admitted-At",
        "Waitroom-Assertion",
    ]
    assert ours[0][1] == "launch"
    assert ours[1][1] == "1"
    assert abs(int(ours[3][1]) / 1000 - time.time()) < 30
    assert seen.header("Cookie") is None, "our cookie reached the shop"


def test_standby_lets_in_at_once_until_the_limits_are_reached(tmp_path: Path, origin: RecordingOrigin) -> None:
    """While there is room and nobody in line, a visitor notices nothing; from then on newcomers wait."""
    with running(tmp_path, origin) as house:
        assert httpx.get(f"{house.url}/.waitroom/launch/now", trust_env=False).json()["state"] == "open"
        first, second, third = (Visitor(house) for _ in range(3))
        assert first.is_in()
        assert second.is_in()
        assert third.event().headers["waitroom-state"] == "waiting"
        assert first.is_in(), "a pass holds while others wait"
        until(lambda: third.me() and httpx.get(f"{house.url}/.waitroom/launch/now").json()["state"] == "queueing")


def test_a_flood_at_one_instant_never_exceeds_the_cap(tmp_path: Path, origin: RecordingOrigin) -> None:
    """P3: forty who come at once for five slots: five are inside, and each has a number of their own (P2)."""
    with running(tmp_path, origin, {"total_active_users": 5}) as house, ThreadPoolExecutor(40) as pool:
        gate = threading.Barrier(40)

        def come(_: int) -> Visitor:
            visitor = Visitor(house)
            gate.wait()
            visitor.event()
            return visitor

        visitors = list(pool.map(come, range(40)))
        statuses = [visitor.me() for visitor in visitors]
        assert sum(status["state"] == "admitted" for status in statuses) == 5
        assert sorted(status["number"] for status in statuses) == list(range(1, 41))


def test_a_ghost_at_the_head_delays_nobody(house: House) -> None:
    """P4: two who joined and never asked once are passed over, and the third gets the slot within seconds."""
    ghosts = [Visitor(house) for _ in range(2)]
    for ghost in ghosts:
        ghost.event()
    third = Visitor(house)
    third.event()
    admitted(third, patience_s=8)


def test_who_was_passed_over_is_next(tmp_path: Path, origin: RecordingOrigin) -> None:
    """P5: an absent head keeps the number, and is called before anyone new when they come back."""
    with running(tmp_path, origin, {"always_queue": True, "total_active_users": 1}) as house:
        absent, present, later = (Visitor(house) for _ in range(3))
        for visitor in (absent, present, later):
            visitor.event()
        until(lambda: later.me() and present.me()["state"] == "called" and present.is_in())
        assert absent.me()["state"] == "missed"
        assert absent.me()["number"] == 1
        present.post("/.waitroom/launch/leave")
        until(lambda: (absent.me()["state"] == "called") | (later.me()["state"] == "called"))
        assert absent.me()["state"] == "called"
        assert later.me()["state"] == "waiting"


def test_a_missed_call_is_offered_again(tmp_path: Path, origin: RecordingOrigin) -> None:
    """P5: whoever is called and does not come loses the offer, not the place."""
    room = {"always_queue": True, "total_active_users": 1, "claim_within": "1s"}
    with running(tmp_path, origin, room) as house:
        first, second = Visitor(house), Visitor(house)
        first.event()
        second.event()
        until(lambda: second.me() and first.me()["state"] == "called")
        until(lambda: second.me()["state"] == "called")
        assert second.is_in()
        assert first.me()["state"] == "missed"
        second.post("/.waitroom/launch/leave")
        until(first.is_in)


def test_a_called_visitor_may_ask_for_more_time(tmp_path: Path, origin: RecordingOrigin) -> None:
    """Their turn begins anew, as often as a person may need, and meanwhile nobody else has the slot; not a new one."""
    room = {"always_queue": True, "total_active_users": 1, "claim_within": "5s"}
    with running(tmp_path, origin, room) as house:
        first, second = Visitor(house), Visitor(house)
        assert first.post("/.waitroom/launch/more").json()["state"] == "none"
        first.event()
        second.event()
        until(lambda: second.me() and first.me()["state"] == "called")
        ends = first.me()["claim_by"]
        time.sleep(0.3)  # by so much the turn is longer
        assert second.post("/.waitroom/launch/more").json()["state"] == "waiting"
        assert first.post("/.waitroom/launch/more").json()["claim_by"] == ends
        until(lambda: first.me()["claim_by"] >= ends + 300)
        assert second.me()["state"] == "waiting"
        assert first.is_in()
        inside = first.me()
        assert first.post("/.waitroom/launch/more").json() == inside


def test_refreshing_keeps_the_place(house: House) -> None:
    """P5 and P14: reloading, the back button and a second tab all show the same number."""
    visitor = Visitor(house)
    visitor.event()
    token = visitor.token()
    for _ in range(3):
        assert "set-cookie" not in visitor.event().headers
    assert visitor.token() == token
    assert visitor.me()["number"] == 1


def test_the_waiting_page_works_without_script(house: House) -> None:
    """The page says when to come back in a header and in its markup, and the same reload enters at the turn."""
    visitor = Visitor(house)
    page = visitor.event()
    assert page.status_code == 200
    assert page.headers["retry-after"].isdigit()
    assert page.headers["refresh"] == page.headers["retry-after"]
    assert f'<meta http-equiv="refresh" content="{page.headers["retry-after"]}">' in page.text.replace("\n", "")
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["x-robots-tag"] == "noindex"
    until(visitor.is_in)
    scripted = Visitor(house, **{"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "none"})
    assert "refresh" not in scripted.event().headers


SPELLINGS = [
    "/event/",
    "/event",
    "//event/",
    "/./event/",
    "/x/../event/",
    "/%65vent/",
    "/%2565vent/",
    "/EVENT/",
    "/event;a=1/",
    "/event%2Forder",
    "/%5Cevent%5Corder",
    "/event%00/",
    "/event/../event/order",
    "/x/..;/event/",
]


@pytest.mark.parametrize(("asked", "spoken"), [("ja, en;q=0.5", "en"), ("ko-KR,ko;q=0.9", "ko"), ("fr", "ko")])
def test_the_page_speaks_the_visitors_language(house_of_module: House, asked: str, spoken: str) -> None:
    """The one that the browser asks for among the room's, and the room's first where it asks for none of them."""
    page = Visitor(house_of_module, **{"Accept-Language": asked}).event()
    assert f'<html lang="{spoken}">' in page.text
    assert ("줄을 서 있습니다" in page.text) is (spoken == "ko")


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_no_spelling_walks_around_the_line(house_of_module: House, shop: RecordingOrigin, spelling: str) -> None:
    """P6: however the path is spelled, without a pass the shop is not reached."""
    before = len(shop.seen)
    status, _ = raw(house_of_module, f"GET {spelling} HTTP/1.1", "Host: shop.example", "Accept: */*")
    assert status in (400, 429)
    assert len(shop.seen) == before


@pytest.fixture(scope="module")
def shop() -> Iterator[RecordingOrigin]:
    """One origin for the tests that only look."""
    recording = RecordingOrigin()
    recording.start()
    yield recording
    recording.stop()


@pytest.fixture(scope="module")
def house_of_module(tmp_path_factory: pytest.TempPathFactory, shop: RecordingOrigin) -> Iterator[House]:
    """One house for the tests that only look; another room stands beside the first."""
    rooms = [
        {
            "name": name,
            "match": [{"path": path}],
            "admission": "fixed",
            "always_queue": True,
            "refresh": {"near": "250ms", "far": "1s", "farthest": "5s"},
        }
        for name, path in (("launch", "/event/"), ("other", "/other/"))
    ]
    with running(tmp_path_factory.mktemp("house"), shop, rooms=rooms) as started:
        yield started


def raw(house: House, *lines: str) -> tuple[int, bytes]:
    """Send a request as written, and return the status and the whole answer."""
    with socket.create_connection(("127.0.0.1", house.port), timeout=10) as sock:
        sock.sendall(("\r\n".join([*lines, "Connection: close"]) + "\r\n\r\n").encode("latin-1"))
        answer = b""
        while piece := sock.recv(65536):
            answer += piece
    return int(answer.split(b" ")[1]), answer


def tokens_of(house: House) -> tuple[str, str, str]:
    """Return a ticket, a pass of the same room, and a ticket of the other room."""
    visitor = Visitor(house)
    visitor.event()
    ticket = visitor.token()
    admitted(visitor)
    other = visitor.post("/.waitroom/other/join").json()["ticket"]
    return ticket, visitor.token(), other


def bent(token: str) -> dict[str, str]:
    """Return wrong tokens made of a good one, by what is wrong with them."""
    fields = token.split(".")
    last = token[-1]
    twin = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other_spelling = token[:-1] + twin[twin.index(last) ^ 1]
    return {
        "truncated": token[:-5],
        "altered": token.replace(f".{fields[5]}.", ".1.", 1) if fields[5] != "1" else token[:-1],
        "no signature": ".".join(fields[:-1]),
        "another spelling of the signature": other_spelling,
        "oversized": token + "A" * 500,
        "another kind": ("t" if fields[0] == "p" else "p") + token[1:],
        "padded": token + "=",
        "empty": "",
        "junk": "%00.%ff..\x7f",
    }


def test_a_bent_token_is_no_token(house_of_module: House, shop: RecordingOrigin) -> None:
    """P6: forged, altered, truncated, oversized, foreign, wrong kind: a new place, no origin hit, one log line."""
    _, good, other = tokens_of(house_of_module)
    wrong = bent(good) | {"another room's": other}
    for what, token in wrong.items():
        before, lines = len(shop.seen), len(house_of_module.log.read_text().splitlines())
        cookie = f"Cookie: waitroom_launch={token}"
        status, answer = raw(house_of_module, "GET /event/ HTTP/1.1", "Host: shop", "Accept: text/html", cookie)
        if what == "junk":  # a control byte in a header is refused on the wire
            assert status in (200, 400)
        else:
            assert status == 200, what
            assert b"Set-Cookie: waitroom_launch=t." in answer, what
            until(lambda lines=lines: len(house_of_module.log.read_text().splitlines()) > lines, what)
            new = house_of_module.log.read_text().splitlines()[lines:]
            assert len(new) == 1, what
            assert json.loads(new[0])["reason"].startswith("token-")
            assert token == "" or token not in new[0]
        assert len(shop.seen) == before, what


def test_a_ticket_is_no_pass_and_a_pass_no_ticket(house_of_module: House, shop: RecordingOrigin) -> None:
    """P6: a header says which kind it carries, and another kind in it is nothing."""
    visitor = Visitor(house_of_module)
    visitor.event()
    before = len(shop.seen)
    answer = httpx.get(
        f"{house_of_module.url}/event/order", headers={"Waitroom-Pass": visitor.token()}, trust_env=False
    )
    assert answer.status_code == 429
    assert len(shop.seen) == before


def test_what_is_no_document_gets_no_place(house_of_module: House, shop: RecordingOrigin) -> None:
    """Scripts, pictures and API calls get 429 with a problem that says where to join, and no cookie."""
    before = len(shop.seen)
    for headers in (
        {"Accept": "*/*"},
        {"Accept": "application/json"},
        {"Accept": "text/html", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
    ):
        answer = httpx.get(f"{house_of_module.url}/event/x", headers=headers, trust_env=False)
        assert answer.status_code == 429
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["join_url"] == "/.waitroom/launch/join"
        assert "retry-after" in answer.headers
        assert "set-cookie" not in answer.headers
    assert len(shop.seen) == before


def test_a_prefetch_neither_joins_nor_claims(house: House, origin: RecordingOrigin) -> None:
    """A page asked for ahead of time gets 503, makes no place, and spends no turn."""
    ahead = {"Sec-Purpose": "prefetch;prerender", "Sec-Fetch-Mode": "navigate"}
    answer = httpx.get(f"{house.url}/event/", headers=DOCUMENT | ahead, trust_env=False)
    assert answer.status_code == 503
    assert "set-cookie" not in answer.headers
    visitor = Visitor(house)
    visitor.event()
    assert visitor.me()["number"] == 1
    until(lambda: visitor.me()["state"] == "called")
    assert visitor.get("/event/", headers=ahead).status_code == 503
    assert visitor.me()["state"] == "called"
    assert origin.seen == []


def test_a_form_joins_and_is_said_to_be_lost(house_of_module: House, shop: RecordingOrigin) -> None:
    """A form without a pass makes a place; its page leads back to the page it was on, and says to send it again."""
    before = len(shop.seen)
    visitor = Visitor(house_of_module)
    referer = f"{house_of_module.url}/event/cart?step=2"
    page = visitor.post("/event/order", data={"unit": "1"}, headers={"Referer": referer})
    assert page.headers["waitroom-state"] == "waiting"
    assert "/event/cart?step=2" in page.text
    assert "form" in page.text.lower()
    away = Visitor(house_of_module).post("/event/order", headers={"Referer": "https://evil.example/event/"})
    assert "evil.example" not in away.text
    assert len(shop.seen) == before


def test_another_sites_form_makes_no_place(house_of_module: House, shop: RecordingOrigin) -> None:
    """A state-changing request from another site without our cookie never becomes a place."""
    before = len(shop.seen)
    headers = DOCUMENT | {"Origin": "https://evil.example"}
    answer = httpx.post(f"{house_of_module.url}/event/order", headers=headers, data={"a": "b"}, trust_env=False)
    assert answer.status_code == 429
    assert "set-cookie" not in answer.headers
    assert len(shop.seen) == before


def test_another_sites_page_cannot_end_a_visit(house_of_module: House) -> None:
    """Leave, claim and more by cookie are refused when another site's page sends them."""
    visitor = Visitor(house_of_module)
    visitor.event()
    number = visitor.me()["number"]
    for verb in ("leave", "claim", "more"):
        answer = visitor.post(f"/.waitroom/launch/{verb}", headers={"Sec-Fetch-Site": "cross-site"})
        assert answer.status_code == 403
    assert visitor.me()["number"] == number


def test_another_sites_form_gives_no_place_over_the_one_there_is(house_of_module: House) -> None:
    """A cookie that is Lax stays at home with another site's form, and the answer to it would still be kept."""
    for said in ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, {"Origin": "https://evil.example"}):
        answer = Visitor(house_of_module).post("/.waitroom/launch/join", headers=said)
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers
    app = {"Accept": "application/json", "Origin": "capacitor://localhost"}
    assert Visitor(house_of_module).post("/.waitroom/launch/join", headers=app).json()["number"]


def test_repeats_are_harmless(tmp_path: Path, origin: RecordingOrigin) -> None:
    """P14: the same key gets the same number; a claim twice at once gets one slot and the same pass."""
    with (
        running(tmp_path, origin, {"always_queue": True}) as house,
        httpx.Client(base_url=house.url, trust_env=False) as client,
    ):
        keyed = {"Idempotency-Key": "once"}
        first, again = (client.post("/.waitroom/launch/join", headers=keyed).json() for _ in range(2))
        assert first["number"] == again["number"] == 1
        client.cookies.clear()
        ticket = {"Waitroom-Ticket": first["ticket"]}
        assert client.post("/.waitroom/launch/join", headers=ticket).json()["number"] == 1
        client.cookies.clear()
        until(lambda: client.get("/.waitroom/launch/me", headers=ticket).json()["state"] == "called")
        with ThreadPoolExecutor(8) as pool:
            claims = list(
                pool.map(
                    lambda _: httpx.post(f"{house.url}/.waitroom/launch/claim", headers=ticket, trust_env=False).json(),
                    range(8),
                )
            )
        assert {claim["state"] for claim in claims} == {"admitted"}
        assert len({claim["pass"] for claim in claims}) == 1
        assert client.get("/event/", headers={"Waitroom-Pass": claims[0]["pass"]}).text == "shop"


def test_of_two_places_the_smaller_number_is_kept(house: House) -> None:
    """P14: a page that shows one ticket and a cookie with another keep the first, and the other is given up."""
    first = Visitor(house)
    first.event()
    second = Visitor(house)
    second.event()
    both = second.get("/.waitroom/launch/me", headers={"Waitroom-Ticket": first.token()}).json()
    assert both["number"] == 1
    until(lambda: second.me()["state"] == "none")


def test_a_dead_origin_costs_nobody_their_place(tmp_path: Path, origin: RecordingOrigin) -> None:
    """The shop being down is said on a page of ours; the pass stays, and the next try gets in."""
    with running(tmp_path, origin, {"always_queue": True}) as house:
        visitor = Visitor(house)
        visitor.event()
        until(lambda: visitor.me()["state"] == "called")
        port = origin.port
        origin.stop()
        page = visitor.event()
        assert page.status_code == 502
        assert "retry-after" in page.headers
        assert "<html" in page.text
        assert visitor.me()["state"] == "admitted"
        ordinary = httpx.get(f"{house.url}/", headers={"Accept": "application/json"}, trust_env=False)
        assert ordinary.status_code == 502
        assert "Traceback" not in ordinary.text
        origin.port = port
        origin.start()
        assert visitor.is_in()


def test_a_restart_keeps_every_place(tmp_path: Path, origin: RecordingOrigin) -> None:
    """P5, P2 and P3 across a restart: old tickets count, their holders go first, and passes that are out fill slots."""
    room = {"always_queue": True, "total_active_users": 1}
    with running(tmp_path, origin, room) as house:
        inside, first, second = (Visitor(house) for _ in range(3))
        inside.event()
        admitted(inside)
        for visitor in (first, second):
            visitor.event()
            visitor.me()
        assert house.stop() == 0
        house.start()
        newcomer = Visitor(house)
        newcomer.event()
        assert newcomer.me()["number"] > 1_000_000, "a number could be given twice"
        assert inside.is_in(), "a pass outlives a restart"
        assert (first.me()["number"], second.me()["number"]) == (2, 3)
        time.sleep(0.8)
        assert {first.me()["state"], second.me()["state"]} == {"waiting"}
        inside.post("/.waitroom/launch/leave")


def test_sigterm_finishes_what_is_in_flight(tmp_path: Path, origin: RecordingOrigin) -> None:
    """A request under way when we are told to stop gets its answer; the exit code is 0."""
    origin.delay_s = 1.0
    with running(tmp_path, origin) as house, ThreadPoolExecutor(1) as pool:
        slow = pool.submit(httpx.get, f"{house.url}/slow", trust_env=False)
        until(lambda: origin.seen)
        assert house.stop() == 0
        assert slow.result().text == "shop"


def test_a_dead_worker_is_replaced(tmp_path: Path, origin: RecordingOrigin) -> None:
    """A worker that dies is followed by another on the same socket, and old tickets still count."""
    with running(tmp_path, origin, {"always_queue": True}) as house:
        visitor = Visitor(house)
        visitor.event()
        time.sleep(0.5)
        os.kill(house.worker_pid(), signal.SIGKILL)
        until(lambda: house.logged("worker-died"))
        house.wait_ready()
        assert visitor.me()["number"] == 1
        assert len(house.logged("worker-died")) == 1


def test_sighup_reads_the_file_anew(tmp_path: Path, origin: RecordingOrigin) -> None:
    """A file with mistakes is refused, each of them logged, and nothing changes; a good one holds from then on."""
    with running(tmp_path, origin, {"always_queue": True}) as house:
        visitor = Visitor(house)
        visitor.event()
        worker, keeper = house.worker_pid(), house.keeper_pid()
        good = yaml.safe_load(house.config.read_text())

        def reload(settings: dict[str, Any]) -> None:
            house.config.write_text(yaml.safe_dump(settings))
            house.process.send_signal(signal.SIGHUP)

        def said(words: str) -> bool:
            return words in house.log.read_text()

        reload({**good, "limits": {"drain_timeout": "soon"}, **{f"unknown{number}": 1 for number in range(20)}})
        until(lambda: said("reload refused: 21 mistakes in the configuration; the old configuration stays"))
        assert said("limits.drain_timeout: `soon`")
        assert all(said(f"unknown{number}: is no setting") for number in range(20))
        assert house.worker_pid() == worker
        (house.folder / "var" / "keys").rename(house.folder / "var" / "moved")
        reload(good)
        until(lambda: said("there are no signing keys"))
        assert not (house.folder / "var" / "keys").exists(), "a new key would throw everybody out"
        (house.folder / "var" / "moved").rename(house.folder / "var" / "keys")
        reload({**good, "rooms": [*good["rooms"], {**good["rooms"][0], "name": "other", "match": [{"path": "/o/"}]}]})
        until(lambda: httpx.get(f"{house.url}/.waitroom/other/now", trust_env=False).status_code == 200)
        until(lambda: not alive(worker))
        assert house.keeper_pid() == keeper
        assert visitor.me()["number"] == 1
        assert httpx.get(f"{house.url}/o/", headers=DOCUMENT, trust_env=False).headers["waitroom-state"] == "waiting"


def test_nothing_outlives_a_killed_supervisor(tmp_path: Path, origin: RecordingOrigin) -> None:
    """When the supervisor is killed its children end too, and the next start works at once."""
    with running(tmp_path, origin) as house:
        children = [house.keeper_pid(), house.worker_pid()]
        house.stop(signal.SIGKILL)
        until(lambda: not any(map(alive, children)))
        house.start()
        assert Visitor(house).get("/").text == "shop"


def test_the_key_file_is_ours_alone(house: House) -> None:
    """The key is made at the first start, readable by its owner only, and appears in no log."""
    keys = house.folder / "var" / "keys"
    assert keys.stat().st_mode & 0o777 == 0o600
    secret = keys.read_text().splitlines()[-1]
    assert secret not in house.log.read_text()


def test_joins_per_client_are_limited(tmp_path: Path, origin: RecordingOrigin) -> None:
    """One address behind a trusted proxy gets its share of places, then a page that tries again, and no place."""
    limits = {"joins_per_client": "3/m"}
    with running(tmp_path, origin, {"always_queue": True}, limits=limits, trusted_proxies=["127.0.0.0/8"]) as house:

        def come(client: str) -> httpx.Response:
            return httpx.get(f"{house.url}/event/", headers=DOCUMENT | {"X-Forwarded-For": client}, trust_env=False)

        answers = [come("203.0.113.9") for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert "set-cookie" not in answers[-1].headers
        assert "retry-after" in answers[-1].headers
        assert come("203.0.113.10").status_code == 200


def test_cookies_over_https_carry_the_prefix(tmp_path: Path, origin: RecordingOrigin) -> None:
    """Behind a trusted proxy that ends TLS the cookie is Secure, SameSite=None and named __Host-."""
    with running(tmp_path, origin, {"always_queue": True}, trusted_proxies=["127.0.0.0/8"]) as house:
        secure = DOCUMENT | {"X-Forwarded-Proto": "https"}
        answer = httpx.get(f"{house.url}/event/", headers=secure, trust_env=False)
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Host-waitroom_launch=t.")
        assert "Secure" in cookie
        assert "SameSite=None" in cookie
        assert "Path=/" in cookie


def test_one_place_on_all_hosts_of_a_domain(tmp_path: Path, origin: RecordingOrigin) -> None:
    """With cookie.domain the cookie says so, is taken away as it was given, and never where a request gets nothing."""
    room = {"match": [{"path": "/event/", "host": "*.shop.example"}], "cookie": {"domain": "shop.example"}}
    with running(tmp_path, origin, room | {"always_queue": True}, trusted_proxies=["127.0.0.0/8"]) as house:

        def ask(path: str, host: str, cookie: str = "", **more: str) -> httpx.Response:
            headers = DOCUMENT | {"Host": host, "X-Forwarded-Proto": "https", "Cookie": cookie} | more
            return httpx.request(
                "GET" if path == "/event/" else "POST", house.url + path, headers=headers, trust_env=False
            )

        (given,) = ask("/event/", "www.shop.example").headers.get_list("set-cookie")
        pair, _, attributes = given.partition("; ")
        assert pair.startswith("__Secure-waitroom_launch=t.")
        assert attributes.endswith("; HttpOnly; Secure; SameSite=None; Domain=shop.example")
        again = ask("/event/", "m.shop.example", pair)
        assert (again.headers["waitroom-state"], again.headers.get_list("set-cookie")) == ("waiting", [])
        refused = [
            ask("/event/", "m.shop.example", f"{pair}x; waitroom_launch=junk", Accept="image/png"),
            ask("/.waitroom/launch/leave", "m.shop.example", pair, Origin="https://evil.example"),
        ]
        assert [(answer.status_code, answer.headers.get_list("set-cookie")) for answer in refused] == [
            (429, []),
            (403, []),
        ]
        (taken,) = ask("/.waitroom/launch/leave", "m.shop.example", pair).headers.get_list("set-cookie")
        assert (
            taken == f"__Secure-waitroom_launch=; Path=/; Max-Age=0; {attributes.partition('; ')[2].partition('; ')[2]}"
        )


def test_a_cookie_of_the_present_name_goes_before_the_others(tmp_path: Path, origin: RecordingOrigin) -> None:
    """Nobody's cookie in clear takes the place of one with the prefix; without that it counts, and is replaced."""
    with running(tmp_path, origin, {"always_queue": True}, trusted_proxies=["127.0.0.0/8"]) as house:

        def ask(path: str, cookie: str = "", proto: str = "https") -> httpx.Response:
            headers = DOCUMENT | {"X-Forwarded-Proto": proto, "Cookie": cookie}
            return httpx.get(house.url + path, headers=headers, trust_env=False)

        tossed = ask("/event/", proto="http").headers["set-cookie"].partition(";")[0]
        mine = ask("/event/").headers["set-cookie"].partition(";")[0]
        assert (tossed.partition("=")[0], mine.partition("=")[0]) == ("waitroom_launch", "__Host-waitroom_launch")
        me = "/.waitroom/launch/me"
        for both in (f"{tossed}; {mine}", "; ".join([tossed] * 40 + [mine])):
            assert ask(me, both).json()["number"] == 2
        assert ask(me, tossed).json()["number"] == 1, "it was not given up for that"
        assert ask(me, f"{tossed}; __Host-waitroom_launch=junk").json()["number"] == 1

        until(lambda: ask(me, tossed).json()["state"] == "called")
        entered = ask("/event/", tossed)
        assert entered.text == "shop"
        given, taken = entered.headers.get_list("set-cookie")
        assert given.startswith("__Host-waitroom_launch=p.")
        assert taken == "waitroom_launch=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"


def test_paths_of_ours_never_reach_the_shop(house_of_module: House, shop: RecordingOrigin) -> None:
    """Nothing below /.waitroom/ is forwarded, however it is spelled."""
    before = len(shop.seen)
    for path, status in {
        "/.waitroom/health/live": 200,
        "/.waitroom/health/ready": 200,
        "/.waitroom/launch/now": 200,
        "/.waitroom/nowhere/me": 404,
        "/.waitroom/": 404,
        "/.waitroom/launch/claim": 405,
        "/.waitroom/launch/more": 405,
        "/%2ewaitroom/launch/now": 404,
        "//.waitroom/launch/me": 404,
    }.items():
        assert raw(house_of_module, f"GET {path} HTTP/1.1", "Host: shop")[0] == status, path
    assert len(shop.seen) == before


def test_now_is_the_same_for_everyone(house_of_module: House) -> None:
    """The shared status may be cached for a second, is open to any site, and answers 304 to who has it."""
    url = f"{house_of_module.url}/.waitroom/other/now"
    answer = httpx.get(url, trust_env=False)
    assert answer.headers["cache-control"] == "public, max-age=1"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert set(answer.json()) == {
        "room",
        "state",
        "final",
        "generation",
        "serving",
        "issued",
        "present",
        "ahead",
        "rate_per_minute",
        "refresh",
        "opens_at",
        "stock",
        "message",
    }
    again = httpx.get(url, headers={"If-None-Match": answer.headers["etag"]}, trust_env=False)
    assert (again.status_code, again.content) in ((304, b""), (200, again.content))


def test_a_304_says_the_length_of_what_it_spares(house_of_module: House) -> None:
    """RFC 9110, 8.6: none, or that of the 200; a cache that took a length of nothing for it would keep nothing."""

    def spared() -> bool:
        url = f"{house_of_module.url}/.waitroom/other/draw"
        answer = httpx.get(url, trust_env=False)
        again = httpx.get(url, headers={"If-None-Match": answer.headers["etag"]}, trust_env=False)
        assert again.headers["content-length"] == answer.headers["content-length"]
        return again.status_code == 304

    until(spared)


def test_a_bypass_goes_around_the_line(tmp_path: Path, origin: RecordingOrigin) -> None:
    """A bypass rule lets its own path and method through, and no other spelling or method."""
    room = {"always_queue": True, "bypass": [{"path": "/event/pay/callback", "method": "POST"}]}
    with running(tmp_path, origin, room) as house:
        assert httpx.post(f"{house.url}/event/pay/callback", trust_env=False).text == "shop"
        assert httpx.get(f"{house.url}/event/pay/callback", trust_env=False).status_code == 429
        assert raw(house, "POST /event/pay/callback/../../order HTTP/1.1", "Host: a", "Content-Length: 0")[0] == 429
        assert house.logged("bypass")


def test_a_bypass_by_a_secret_lets_its_holder_around(tmp_path: Path, origin: RecordingOrigin) -> None:
    """Whoever shows the header goes around, by WebSocket too; the shop does not see it, the log does not tell it."""
    key = "open-sesame-" + "x" * 20
    origin.answer = origin.answer.replace(b"\r\n\r\n", b"\r\nCache-Control: public, max-age=60\r\n\r\n")
    with running(tmp_path, origin, {"always_queue": True, "bypass": [{"header": {"X-Bypass-Key": key}}]}) as house:

        def ask(*headers: tuple[str, str], path: str = "/event/order") -> httpx.Response:
            return httpx.post(f"{house.url}{path}", headers=[*DOCUMENT.items(), *headers], trust_env=False)

        shown = ask(("x-bypass-key", key))
        assert (shown.text, shown.headers["cache-control"]) == ("shop", "private, max-age=60")
        assert "set-cookie" not in shown.headers
        for headers in (
            [],
            [("X-Bypass-Key", key[:-1])],
            [("X-Bypass-Key", key), ("X-Bypass-Key", key)],
            [("X_Bypass_Key", key)],
            [("X-Bypass-Key", f"{key}, {key}")],
        ):
            assert ask(*headers).text != "shop"
        assert ask(("X-Bypass-Key", key), path="/elsewhere").headers["cache-control"] == "public, max-age=60"
        assert [seen.target for seen in origin.seen] == ["/event/order", "/elsewhere"]
        assert not [name for seen in origin.seen for name, _ in seen.headers if "bypass" in name.lower()]
        until(lambda: house.logged("bypass"))
        assert [(line["room"], line["why"]) for line in house.logged("bypass")] == [("launch", "* with x-bypass-key")]
        assert key not in house.log.read_text()
        for command in (
            ["check", str(house.config)],
            ["explain", "--config", str(house.config), f"{house.url}/event/"],
        ):
            done = subprocess.run(
                [sys.executable, "-m", "waitroom.cli", *command], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0
            assert key not in done.stdout + done.stderr


def test_a_bypass_by_address_follows_the_trusted_proxies(tmp_path: Path, origin: RecordingOrigin) -> None:
    """Whom the proxy names goes around, and nobody who names himself, or comes by a proxy that is not listed."""
    room = {"always_queue": True, "bypass": [{"ip": "192.0.2.0/24"}, {"ip": "127.0.0.3"}]}
    with running(tmp_path, origin, room, trusted_proxies=["127.0.0.1"]) as house:

        def ask(source: str, *lines: str) -> bool:
            with socket.create_connection(("127.0.0.1", house.port), timeout=10, source_address=(source, 0)) as sock:
                sock.sendall(
                    "\r\n".join(["GET /event/ HTTP/1.1", "Host: shop", "Connection: close", *lines, "", ""]).encode()
                )
                return sock.makefile("rb").read().endswith(b"shop")

        assert ask("127.0.0.1", "X-Forwarded-For: 192.0.2.7")
        assert ask("127.0.0.3")
        assert not ask("127.0.0.2")
        assert not ask("127.0.0.1")
        assert not ask("127.0.0.1", "X-Forwarded-For: 192.0.2.7, 203.0.113.9")
        assert not ask("127.0.0.2", "X-Forwarded-For: 192.0.2.7")
        for _ in range(3):
            assert not ask("127.0.0.3", "X-Forwarded-For: 192.0.2.7")
        assert len(origin.seen) == 2
        until(lambda: house.logged("unlisted-proxy"))
        (line,) = house.logged("unlisted-proxy")
        assert (line["client"], line["room"]) == ("127.0.0.3", "launch")


def test_a_mistake_is_said_without_a_traceback(tmp_path: Path) -> None:
    """A wrong configuration, a taken port, a missing file: one line each, exit code 1."""
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text('listen: 127.0.0.1:1\nstore: "memory:"\nroms: []\n')
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        busy = tmp_path / "busy.yaml"
        listen = f"listen: 127.0.0.1:{taken.getsockname()[1]}"
        busy.write_text(f'{listen}\nadmin: {{listen: 127.0.0.1:0}}\nstore: "memory:"\nrooms: []\n')
        for file, words in ((wrong, "rooms"), (tmp_path / "none.yaml", "none.yaml"), (busy, "cannot listen")):
            command = [sys.executable, "-m", "waitroom.cli", "serve", "--config", str(file)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
            assert done.returncode == 1, file
            assert words in done.stderr
            assert "Traceback" not in done.stderr
