"""What a hostile or unlucky crowd does from outside: odd bytes, repeats, aborts, generated spellings, a broken shop."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import re
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from house import DOCUMENT, House, RecordingOrigin, Visitor, running, until

if TYPE_CHECKING:
    from collections.abc import Iterator

RESET = struct.pack("ii", 1, 0)
UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\n"
)


@pytest.fixture(scope="module")
def origin() -> Iterator[RecordingOrigin]:
    """One origin for all of it; tests look at what came since they began."""
    recording = RecordingOrigin()
    recording.start()
    yield recording
    recording.stop()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, origin: RecordingOrigin) -> Iterator[House]:
    """A room through whose line everyone passes, with slots enough for these tests."""
    with running(
        tmp_path_factory.mktemp("hostile"), origin, {"always_queue": True, "total_active_users": 500}
    ) as started:
        yield started


def raw(house: House, request: str | bytes) -> bytes:
    """Send bytes as they are, and return all that comes back until the end."""
    with socket.create_connection(("127.0.0.1", house.port), timeout=10) as sock:
        sock.sendall(request.encode("latin-1") if isinstance(request, str) else request)
        answer = b""
        while piece := sock.recv(65536):
            answer += piece
    return answer


def statuses(answers: bytes) -> list[int]:
    """Return the statuses of a row of answers."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", answers)]


def joined(house: House, **headers: str) -> dict[str, object]:
    """Join as an app does, as a new visitor."""
    told: dict[str, object] = httpx.post(
        f"{house.url}/.waitroom/launch/join", headers=headers, trust_env=False, timeout=20
    ).json()
    return told


def called(house: House, ticket: str) -> bool:
    """Whether the holder of a ticket is called by now."""
    url = f"{house.url}/.waitroom/launch/me"
    told = httpx.get(url, headers={"Waitroom-Ticket": ticket}, trust_env=False, timeout=20).json()
    return bool(told["state"] == "called")


# -- what stands on an answer ------------------------------------------------------------------------------------------

OURS = {
    "a page": ("GET", "/event/", DOCUMENT, 200),
    "a page's head": ("HEAD", "/event/", DOCUMENT, 200),
    "no document": ("GET", "/event/x.png", {}, 429),
    "a preflight": ("OPTIONS", "/event/order", {"Origin": "https://shop.example"}, 429),
    "a prefetch": ("GET", "/event/", DOCUMENT | {"Sec-Purpose": "prefetch"}, 503),
    "another site's form": ("POST", "/event/", DOCUMENT | {"Origin": "https://evil.example"}, 429),
    "me": ("GET", "/.waitroom/launch/me", {}, 200),
    "join": ("POST", "/.waitroom/launch/join", {}, 200),
    "an impossible key": ("POST", "/.waitroom/launch/join", {"Idempotency-Key": "x" * 201}, 400),
    "claim": ("POST", "/.waitroom/launch/claim", {}, 200),
    "more": ("POST", "/.waitroom/launch/more", {}, 200),
    "leave": ("POST", "/.waitroom/launch/leave", {}, 200),
    "another site's leave": (
        "POST",
        "/.waitroom/launch/leave",
        {"Cookie": "waitroom_launch=x", "Sec-Fetch-Site": "cross-site"},
        403,
    ),
    "now": ("GET", "/.waitroom/launch/now", {}, 200),
}


@pytest.mark.parametrize("what", OURS)
def test_every_answer_about_a_room_carries_what_belongs_to_it(house: House, what: str) -> None:
    """State, caching, no indexing, and when to come back: on pages, statuses and refusals alike."""
    method, target, headers, status = OURS[what]
    answer = httpx.request(method, f"{house.url}{target}", headers=headers, trust_env=False)
    assert answer.status_code == status
    assert answer.headers["waitroom-state"] in {"none", "waiting", "queueing"}
    assert answer.headers["cache-control"] == ("public, max-age=1" if what == "now" else "no-store")
    assert answer.headers["x-robots-tag"] == "noindex"
    assert "retry-after" in answer.headers or status not in (429, 503)


def test_a_shared_status_that_was_marked_weak_on_the_way_is_still_the_same(house: House) -> None:
    """A proxy that compresses turns the tag into a weak one; it saves the bytes all the same."""
    url = f"{house.url}/.waitroom/launch/now"

    def unchanged() -> bool:  # between two ticks
        tag = httpx.get(url, trust_env=False).headers["etag"]
        return httpx.get(url, headers={"If-None-Match": f'"x", W/{tag}'}, trust_env=False).status_code == 304

    until(unchanged)


def test_the_browser_keeps_a_ticket_longer_than_any_silence(tmp_path: Path, origin: RecordingOrigin) -> None:
    """P5: ``ticket_keep`` counts from when its holder was last heard, so a long wait must not end with the cookie."""
    with running(tmp_path, origin, {"always_queue": True, "ticket_keep": "1s", "total_active_users": 1}) as house:
        first, second = Visitor(house), Visitor(house)
        first.event()
        age = re.search(r"Max-Age=(\d+)", second.event().headers["set-cookie"])
        assert age is not None
        assert int(age[1]) >= 7 * 86_400
        until(lambda: second.me() and first.me()["state"] == "called" and first.is_in())
        begun = time.monotonic()
        while time.monotonic() - begun < 3:  # well beyond ticket_keep, and heard all the time
            assert second.me()["number"] == 2
            time.sleep(0.1)


def test_who_leaves_without_saying_from_where_is_shown_the_front_page(house: House) -> None:
    """The page after leaving never leads back to the address that only takes a POST."""
    visitor = Visitor(house)
    visitor.event()
    page = visitor.post("/.waitroom/launch/leave")
    assert 'href="/"' in page.text
    assert "/.waitroom/launch/leave" not in page.text
    visitor.event()
    referer = {"Referer": f"{house.url}/event/cart"}
    assert 'href="/event/cart"' in visitor.post("/.waitroom/launch/leave", headers=referer).text


@pytest.mark.parametrize(
    "line",
    [
        b"Cookie: waitroom_launch=\xff\xfe\x80",
        b'Cookie: waitroom_launch="t.1"',
        b"Cookie: waitroom_launch=" + b"." * 399,
        b"Cookie: " + b"; ".join(b"waitroom_launch=%d" % number for number in range(500)),
        b"Cookie: =waitroom_launch; waitroom_launch; \x80waitroom_launch=x",
        b"Referer: http://a/\xff",
        b'Referer: http://a/evil"><script>',
        b"Referer: http://a//evil.example/",
        b"Referer: http://a/\\evil.example/",
        b"Referer: javascript:evil()",
        b"Waitroom-Ticket: \xff\xff",
        b"X-Forwarded-For: " + b"1," * 4000,
        b"Accept: " + b"text/html;q=x," * 900,
    ],
    ids=lambda line: line[:24].decode("latin-1"),
)
def test_odd_bytes_are_answered_and_reach_no_page(house: House, line: bytes) -> None:
    """Whatever a header holds, a form gets the waiting page, and nothing of the header stands in it."""
    head = b"POST /event/ HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\nContent-Length: 3\r\nConnection: close\r\n"
    answer = raw(house, head + line + b"\r\n\r\na=b")
    assert statuses(answer) == [200]
    assert b"evil" not in answer.replace(b"/evil&#34;&gt;&lt;script&gt;", b""), "not escaped, or another host's"


# -- the gate ----------------------------------------------------------------------------------------------------------


def spelled(chance: random.Random) -> str:
    """Return the event's path as nobody would write it."""

    def letter(plain: str) -> str:
        escaped = f"%{ord(plain):02x}"
        return chance.choice([plain, plain, plain.upper(), escaped, escaped.upper(), escaped.replace("%", "%25")])

    before = ["/", "//", "/./", "/x/../", "/%2e/", "/x/%2e%2e/", "/;a/../", "/\\", "/%5c", "/%2f", "/x;/..;/", "///"]
    before += ["/a/b/../../", "/index.php/", "/%00/../", "/%09/", "/%252e/"]
    after = [
        "",
        "/",
        "/order",
        "%2forder",
        "/./",
        "//",
        "/;x",
        "%00",
        "?a=b",
        "/%23",
        "%3f",
        "\\order",
        "/a;j=1",
        "%20",
    ]
    return chance.choice(before) + "".join(map(letter, "event")) + chance.choice(after)


def test_no_generated_spelling_reaches_the_shop(house: House, origin: RecordingOrigin) -> None:
    """P6: hundreds of spellings by every method: refused, and the shop sees none of them."""
    chance, before = random.Random(5), len(origin.seen)
    for _ in range(40):
        row = [(chance.choice(["GET", "POST", "PUT", "HEAD", "PATCH"]), spelled(chance)) for _ in range(10)]
        for method, target in row:
            answer = raw(
                house, f"{method} {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
            assert statuses(answer)[0] in (400, 404, 429), (method, target)
    assert len(origin.seen) == before


def test_an_upgrade_needs_a_pass_too(house: House, origin: RecordingOrigin) -> None:
    """A WebSocket without a pass is refused, and nothing that follows it on the connection is read as a request."""
    before = len(origin.seen)
    answer = raw(house, f"GET /event/live HTTP/1.1\r\nHost: a\r\n{UPGRADE}\r\nGET /event/ HTTP/1.1\r\nHost: a\r\n\r\n")
    assert statuses(answer) == [429]
    assert len(origin.seen) == before


def test_requests_sent_ahead_are_answered_in_their_order(house: House, origin: RecordingOrigin) -> None:
    """Ours and the shop's answers alternate on one connection, each where it belongs."""
    before = len(origin.seen)
    row = [f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n" for target in ("/a", "/.waitroom/launch/now", "/event/", "/b")]
    row.append("POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    row.append("GET /event/ HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n\r\n")
    row.append("GET /d HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert statuses(raw(house, "".join(row))) == [200, 200, 429, 200, 200, 200, 200]
    assert [seen.target for seen in origin.seen[before:]] == ["/a", "/b", "/c", "/d"]
    assert origin.seen[-2].body == b"abc"


# -- repeats and aborts ------------------------------------------------------------------------------------------------


def test_fifty_joins_with_one_key_and_fifty_claims_are_one_place_and_one_pass(house: House) -> None:
    """P14: however many come at once, and whichever way they claim; and the key then gives the same pass again."""
    with ThreadPoolExecutor(50) as pool:
        places = list(pool.map(lambda _: joined(house, **{"Idempotency-Key": "fifty"}), range(50)))
        assert len({(place["number"], place["ticket"]) for place in places}) == 1
        ticket = str(places[0]["ticket"])
        until(lambda: called(house, ticket))
        time.sleep(0.05)  # the place and the admission differ in time

        def claim(turn: int) -> str:
            if turn % 2:
                url, headers = f"{house.url}/.waitroom/launch/claim", {"Waitroom-Ticket": ticket}
                return str(httpx.post(url, headers=headers, trust_env=False, timeout=20).json()["pass"])
            page = httpx.get(
                f"{house.url}/event/",
                headers=DOCUMENT | {"Cookie": f"waitroom_launch={ticket}"},
                trust_env=False,
                timeout=20,
            )
            assert page.text == "shop"
            return page.headers["set-cookie"].partition("=")[2].partition(";")[0]

        [entry_pass] = set(pool.map(claim, range(50)))
    assert joined(house, **{"Idempotency-Key": "fifty"})["pass"] == entry_pass


def test_a_repeat_by_key_finds_its_place_when_the_line_is_full(tmp_path: Path, origin: RecordingOrigin) -> None:
    """P14: whoever took the last place and lost the answer is not told that there is none."""
    room = {"always_queue": True, "max_waiting": 1, "queue_all": True}
    with running(tmp_path, origin, room) as house:
        number = joined(house, **{"Idempotency-Key": "mine"})["number"]
        until(lambda: httpx.get(f"{house.url}/.waitroom/launch/now", trust_env=False).json()["present"] == 1)
        assert joined(house)["state"] == "full"
        assert joined(house, **{"Idempotency-Key": "mine"})["number"] == number
        assert joined(house, **{"Idempotency-Key": "another"})["state"] == "full"


def test_nobody_gets_the_answer_of_who_went_away(house: House) -> None:
    """A hundred joins and claims are aborted at once; those who stay get their own answers, and nothing is logged."""
    staying = [joined(house) for _ in range(4)]
    leaving = [str(joined(house)["ticket"]) for _ in range(25)]
    ended, wrong = threading.Event(), []

    def poll(place: dict[str, object]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", house.port, timeout=10)
        while not ended.is_set():
            connection.request("GET", "/.waitroom/launch/me", headers={"Waitroom-Ticket": str(place["ticket"])})
            told = json.loads(connection.getresponse().read())
            if told["number"] != place["number"]:
                wrong.append(told)
        connection.close()

    with ThreadPoolExecutor(len(staying)) as pool:
        for place in staying:
            pool.submit(poll, place)
        for ticket in leaving * 2 + [""] * 50:
            with socket.create_connection(("127.0.0.1", house.port), timeout=10) as sock:
                head = f"GET /event/ HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\nWaitroom-Ticket: {ticket}\r\n\r\n"
                sock.sendall(head.encode())
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        ended.set()
    assert not wrong
    errors = [line for line in house.log.read_text().splitlines() if '"level": "error"' in line]
    assert not errors


def test_idle_and_slow_connections_keep_nobody_waiting(house: House) -> None:
    """Hundreds that say nothing, or half of something, cost the others nothing, and are forgotten when they go."""
    with contextlib.ExitStack() as stack:
        for turn in range(300):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", house.port), timeout=10))
            sock.sendall(
                [b"", b"GET /event/ HTTP/1.1\r\nHo", b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\na"][
                    turn % 3
                ]
            )
        assert Visitor(house).event().headers["waitroom-state"] == "waiting"
        assert open_files(house) > 300
    until(lambda: open_files(house) < 100)


def open_files(house: House) -> int:
    """Return how many files the worker has open."""
    return len(list(Path(f"/proc/{house.worker_pid()}/fd").iterdir()))


# -- passes ------------------------------------------------------------------------------------------------------------


def ends(visitor: Visitor) -> float:
    """Return in how many seconds the visitor's pass ends."""
    return visitor.me()["pass_until"] / 1000 - time.time()


def test_a_standby_pass_is_short_until_it_is_brought_back(tmp_path: Path, origin: RecordingOrigin) -> None:
    """Who keeps no cookie holds a slot for ``claim_within``; who does has a session, and both end as ``expired``."""
    room = {"claim_within": "1s", "session_duration": "3s"}
    with running(tmp_path, origin, room) as house:
        once, twice = Visitor(house), Visitor(house)
        assert once.is_in()
        assert twice.is_in()
        assert ends(once) <= 1.1
        short = twice.token()
        assert twice.is_in()
        until(lambda: ends(twice) > 1.5)
        twice.me()
        assert twice.token() != short, "the later end did not reach the browser"
        until(lambda: once.me()["state"] == "expired")
        assert twice.me()["state"] == "admitted"
        until(lambda: twice.me()["state"] == "expired")
        assert twice.is_in()
        assert twice.me()["number"] == 3


def test_a_pass_slides_to_the_session_limit_and_never_beyond(tmp_path: Path, origin: RecordingOrigin) -> None:
    """Used all the time, a pass moves in steps up to ``session_limit``; every end a browser was given is kept to."""
    room = {"always_queue": True, "session_duration": "1s", "session_limit": "2500ms"}
    with running(tmp_path, origin, room) as house:
        visitor = Visitor(house)
        visitor.event()
        until(lambda: visitor.me()["state"] == "called" and visitor.is_in())
        given = set()
        while visitor.is_in():
            admitted_ms, end_ms = map(int, visitor.token().split(".")[7:9])
            given.add(end_ms - admitted_ms)
            time.sleep(0.05)
        assert 2000 < max(given) <= 2500
        assert len(given) >= 3
        assert visitor.me()["number"] == 2, "the visit went on after its end"


# -- a broken shop at the turn -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def broken(answer: bytes | None) -> Iterator[int]:
    """Give the port of a shop that sends ``answer`` to everything and hangs up; None resets instead."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def talk() -> None:
            with contextlib.suppress(OSError):
                while True:
                    sock, _ = listening.accept()
                    with sock, contextlib.suppress(OSError):
                        sock.recv(65536)
                        if answer is None:
                            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                        else:
                            sock.sendall(answer)

        thread = threading.Thread(target=talk, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(5)


ALL_OURS = (
    b"Set-Cookie: waitroom_launch=evil\r\nWaitroom-Number: 5\r\nWaitroom-State: held\r\nWaitroom_Command: explode\r\n"
)
SHOPS = {
    "resets": (None, 502),
    "hangs up": (b"", 502),
    "half a head": (b"HTTP/1.1 200 OK\r\nContent-Le", 502),
    "no HTTP": (b"hello\r\n\r\n", 502),
    "half a body": (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc", None),
    "one answer too many": (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nshop" * 2, 200),
    "words that are ours": (b"HTTP/1.1 200 OK\r\n%bContent-Length: 4\r\n\r\nshop" % ALL_OURS, 200),
}


@pytest.mark.parametrize("what", SHOPS)
def test_a_shop_that_breaks_at_the_turn_takes_nothing_from_the_visitor(tmp_path: Path, what: str) -> None:
    """The claim holds: the pass comes with our page, or with the next try, and nothing false with either."""
    answer, status = SHOPS[what]
    with broken(answer) as port:
        shop = RecordingOrigin(port=port)
        with running(tmp_path, shop, {"always_queue": True}) as house:
            visitor = Visitor(house)
            visitor.event()
            until(lambda: visitor.me()["state"] == "called")
            if status is None:
                with pytest.raises(httpx.TransportError):
                    visitor.event()
            else:
                page = visitor.event()
                assert page.status_code == status
                assert page.headers["set-cookie"].startswith("waitroom_launch=p.")
                assert page.text == "shop" or "Retry-After" in page.headers
                said = {name: value for name, value in page.headers.items() if "waitroom" in name}
                assert said == ({} if status == 200 else {"waitroom-state": "admitted"})
            assert visitor.me()["state"] == "admitted"
            if status == 502:
                assert {line["room"] for line in lines(house) if str(line.get("reason")).startswith("origin-")} == {
                    "launch"
                }


def lines(house: House) -> list[dict[str, object]]:
    """Return every line of the log."""
    return [json.loads(line) for line in house.log.read_text().splitlines() if line.startswith("{")]
