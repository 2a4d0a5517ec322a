"""A crowd from one thread: whole answers only, bounded connections, visitors who do as they are told, honest times."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from array import array
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest
from certificates import serving
from house import RecordingOrigin, running, settled, until

from waitroom import checker
from waitroom.checker import Call, Stand
from waitroom.cli import main
from waitroom.crowd import adapters, flood
from waitroom.crowd.adapters import Cloudflare, Generic, Options, Standing, Told, Waitroom
from waitroom.crowd.answers import BODY_BYTES_MAX, whole
from waitroom.crowd.flood import Connections, Exchange, Flood
from waitroom.crowd.rehearsal import Plan, Rehearsal, State, Times, What
from waitroom.crowd.witness import Limits, Witness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nshop"
OPTIONS = Options("shop.example", "/event/")
CLOSING = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nshop"


def document(body: bytes = b"", *headers: str, status: int = 200) -> bytes:
    """Return an answer as it stands on the wire."""
    lines = [f"HTTP/1.1 {status} X", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def answer(body: bytes = b"", *headers: str, status: int = 200):
    """Return an answer, read."""
    found = whole(document(body, *headers, status=status))
    assert found is not None
    return found


# -- answers ----------------------------------------------------------------------------------------------------------

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nsho\r\n1;x=y\r\np\r\n0\r\nTrailer: x\r\n\r\n"


@pytest.mark.parametrize(
    ("came", "status", "body"),
    [
        pytest.param(OK, 200, b"shop", id="by length"),
        pytest.param(CHUNKED, 200, b"shop", id="in chunks"),
        pytest.param(b"HTTP/1.1 204 No Content\r\nWaitroom-State: none\r\n\r\n", 204, b"", id="without a body"),
        pytest.param(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK, 200, b"shop", id="after an interim one"),
    ],
)
def test_an_answer_is_taken_when_it_is_whole_and_not_before(came: bytes, status: int, body: bytes) -> None:
    """However an answer is cut on its way, no piece of it is taken for all of it; and one that ends early is none."""
    for size in range(len(came)):
        assert whole(came[:size]) is None
        with pytest.raises(ValueError, match="cut off"):
            whole(came[:size], ended=True)
    found = whole(came)
    assert found is not None
    assert (found.status, found.body, found.closes) == (status, body, False)


def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    """What states no length is whole when the other side closes, and nothing more is asked there."""
    came = b"HTTP/1.0 200 OK\r\n\r\nshop"
    assert whole(came) is None
    found = whole(came, ended=True)
    assert found is not None
    assert (found.body, found.closes) == (b"shop", True)


@pytest.mark.parametrize(
    "came",
    [
        pytest.param(b"SSH-2.0-OpenSSH\r\n\r\n", id="not HTTP"),
        pytest.param(b"HTTP/1.1 soon\r\n\r\n", id="no status"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", id="a length that is none"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", id="too long"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", id="a chunk that is none"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", id="a chunk below nothing"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", id="a coding that nobody asked for"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, id="headers without end"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (BODY_BYTES_MAX + 1), id="a body without end"),
    ],
)
def test_what_is_no_answer_is_refused(came: bytes) -> None:
    """Garbage is neither waited for nor believed, and nothing grows without bound."""
    with pytest.raises(ValueError, match=r"\w"):
        whole(came)


def test_headers_are_read_whatever_their_letters() -> None:
    """A header is found by its name in any letters, with its own, and all of one name."""
    found = answer(b"", "SET-cookie: A=B; Path=/", "x-set-cookie: no", "Set-Cookie:  c=d  ")
    assert found.headers(b"set-cookie") == ["A=B; Path=/", "c=d"]
    assert found.header(b"set-cookie") == "A=B; Path=/"
    assert found.header(b"retry-after") is None


def test_cookies_are_kept_as_a_browser_does() -> None:
    """Cookies are sent back as they were set, replaced by those of their name, and gone when taken away."""
    jar = adapters.keep(b"", answer(b"", "Set-Cookie: waitroom_launch=t.1; Path=/; HttpOnly"))
    assert jar == b"waitroom_launch=t.1"
    jar = adapters.keep(jar, answer(b"", "Set-Cookie: cart=a=b", "Set-Cookie: waitroom_launch=p.1; Path=/"))
    assert sorted(jar.split(b"; ")) == [b"cart=a=b", b"waitroom_launch=p.1"]
    assert adapters.keep(jar, answer()) == jar
    assert adapters.keep(jar, answer(b"", "Set-Cookie: cart=; Max-Age=0")) == b"waitroom_launch=p.1"
    assert adapters.keep(b"", answer(b"", "Set-Cookie: cart=x; Max-Age=0")) == b""
    assert adapters.keep(jar, answer(b"", f"Set-Cookie: big={'x' * 5000}")) == jar


# -- adapters ---------------------------------------------------------------------------------------------------------

PAGE = b'<main data-room="launch" data-number="7" data-ahead="3" data-jitter="0.25" data-me="/.waitroom/launch/me">'


@pytest.mark.parametrize(
    ("came", "told"),
    [
        (
            answer(PAGE, "Waitroom-State: waiting", "Retry-After: 15"),
            Told(Standing.WAITING, 15.0, number=7, jitter=0.25),
        ),
        (
            answer(PAGE, "Waitroom-State: prequeue", "Retry-After: 5", status=503),
            Told(Standing.WAITING, 5.0, 7, None, 0.25),
        ),
        (answer(b"", "Waitroom-State: full", "Retry-After: 30"), Told(Standing.WAITING, 30.0, why="full")),
        (answer(b"", "Waitroom-State: closed"), Told(Standing.TURNED_AWAY, why="closed")),
        (answer(b"shop"), Told(Standing.ADMITTED)),
        (answer(b"", "Location: /cart", status=303), Told(Standing.ADMITTED)),
        (answer(b"", status=502), Told(Standing.ERROR, why="status 502")),
    ],
)
def test_our_documents_are_understood(came, told: Told) -> None:
    """Where a visitor stands is read from the state, the time told, and what the page shows."""
    assert Waitroom(OPTIONS).read(came, asked=False) == told


@pytest.mark.parametrize(
    ("state", "more", "told"),
    [
        ("waiting", {"number": 7}, Told(Standing.WAITING, 2.0, 7)),
        ("waiting", {"number": 7, "place": 3}, Told(Standing.WAITING, 2.0, 7, 3)),
        ("missed", {"number": 7}, Told(Standing.WAITING, 2.0, 7)),
        ("called", {"number": 7, "claim_by": 9}, Told(Standing.CALLED, 2.0, 7, claim_by_ms=9)),
        ("admitted", {"pass_until": 99}, Told(Standing.ADMITTED, pass_until_ms=99)),
        ("none", {}, Told(Standing.LOST, why="none")),
        ("expired", {}, Told(Standing.LOST, why="expired")),
    ],
)
def test_our_me_is_understood(state: str, more: dict[str, Any], told: Told) -> None:
    """What `me` states is what its visitor is told."""
    body = json.dumps({"state": state, "number": None, "refresh_s": 2, **more}).encode()
    assert Waitroom(OPTIONS).read(answer(body, f"Waitroom-State: {state}"), asked=True) == told


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"state": 5}', b'{"state": null}', b"{}", b"[" * 100_000])
def test_what_no_adapter_understands_is_an_error(body: bytes) -> None:
    """An answer that says nothing is an error, and never a place or a way in."""
    for adapter in (Waitroom(OPTIONS), Generic(OPTIONS), Cloudflare(OPTIONS)):
        assert adapter.read(answer(body, status=500), asked=True).standing is Standing.ERROR


def test_our_requests_are_a_browsers() -> None:
    """A visitor opens the document, asks `me` with the cookie, whichever name it has, and leaves by a POST."""
    adapter = Waitroom(OPTIONS)
    cookies = b"a=b; __Host-waitroom_launch=t.1"
    assert adapter.first(b"", "").startswith(b"GET /event/ HTTP/1.1\r\nHost: shop.example\r\n")
    assert b"Cookie" not in adapter.first(b"", "")
    assert adapter.again(cookies, "").startswith(b"GET /.waitroom/launch/me HTTP/1.1\r\n")
    assert adapter.again(cookies, "").endswith(b"\r\nCookie: " + cookies + b"\r\n\r\n")
    assert adapter.again(b"", "") == adapter.first(b"", "")
    leave = adapter.leave(cookies)
    assert leave is not None
    assert leave.startswith(b"POST /.waitroom/launch/leave HTTP/1.1\r\n")
    assert b"\r\nContent-Length: 0\r\n" in leave


@pytest.mark.parametrize(
    ("came", "told"),
    [
        (answer(b"wait", "Retry-After: 9"), Told(Standing.WAITING, 9.0)),
        (answer(b"wait", "Refresh: 7; url=/q"), Told(Standing.WAITING, 7.0)),
        (answer(b'<META http-equiv="Refresh" content="5;url=/q">'), Told(Standing.WAITING, 5.0)),
        (answer(b"busy", status=503), Told(Standing.WAITING, 20.0)),
        (answer(b"busy", "Retry-After: -5", status=503), Told(Standing.WAITING, 0.0)),
        (answer(b"busy", "Retry-After: 1e99"), Told(Standing.WAITING, 3600.0)),
        (answer(b"gone", status=410), Told(Standing.TURNED_AWAY, why="status 410")),
        (answer(b"shop"), Told(Standing.ADMITTED)),
        (answer(b"", "Location: /queue?c=1", status=302), Told(Standing.ELSEWHERE, at="/queue?c=1")),
        (answer(b"", "Location: http://shop.example/in", status=302), Told(Standing.ELSEWHERE, at="/in")),
        (answer(b"", "Location: //evil.example/", status=302), Told(Standing.ERROR, why="leads to evil.example")),
        (answer(b"", "Location: http://[", status=302), Told(Standing.ERROR, why="a Location that is none")),
        (answer(b"oops", status=500), Told(Standing.ERROR, why="status 500")),
    ],
)
def test_any_room_that_works_without_script_is_understood(came, told: Told) -> None:
    """A page that says when to come back is the line, and one that does not is the site."""
    assert Generic(OPTIONS).read(came, asked=False) == told


def test_a_marker_says_what_is_the_site() -> None:
    """With a marker only a page that has it is the site, though another says nothing of coming back."""
    adapter = Generic(Options("shop.example", "/", marker="Add to cart"))
    assert adapter.read(answer(b"<p>Add to cart", "Retry-After: 5"), asked=False).standing is Standing.ADMITTED
    assert adapter.read(answer(b"<p>Please wait"), asked=False) == Told(Standing.WAITING, 20.0)


def test_cloudflares_object_is_understood() -> None:
    """The room of a Cloudflare customer is read by its JSON; without the object the answer is the site's."""
    adapter = Cloudflare(OPTIONS)
    told = {"inWaitingRoom": True, "refreshIntervalSeconds": 20, "queueingMethod": "fifo"}
    body = json.dumps({"cfWaitingRoom": told}).encode()
    assert adapter.read(answer(body), asked=False) == Told(Standing.WAITING, 20.0)
    rejected = json.dumps({"cfWaitingRoom": told | {"queueingMethod": "reject"}}).encode()
    assert adapter.read(answer(rejected), asked=False).standing is Standing.TURNED_AWAY
    assert adapter.read(answer(b'{"products": []}'), asked=False).standing is Standing.ADMITTED
    assert b"\r\nAccept: application/json\r\n" in adapter.first(b"", "")


# -- connections ------------------------------------------------------------------------------------------------------


@dataclass
class Site:
    """A server in a thread that answers each request's head by ``reply``; None closes without a word."""

    reply: Callable[[str], bytes | None]
    delay_s: float = 0.0
    port: int = 0
    peers: list[tuple[str, int]] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    under_way: int = 0
    most: int = 0
    server: Any = None

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer until the other side has gone."""
        self.peers.append(writer.get_extra_info("peername"))
        with closing(writer), suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                self.heads.append(head)
                self.under_way += 1
                self.most = max(self.most, self.under_way)
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                self.under_way -= 1
                reply = self.reply(head)
                if reply is None:
                    break
                writer.write(reply)
                if b"Connection: close" in reply:
                    break


@contextmanager
def site(reply: Callable[[str], bytes | None], **more: Any) -> Iterator[Site]:
    """Give a site that answers by ``reply``."""
    made = Site(reply, **more)
    loop, started = asyncio.new_event_loop(), threading.Event()

    async def serve() -> None:
        made.server = await asyncio.start_server(made.talk, "127.0.0.1", 0, backlog=1000)
        made.port = made.server.sockets[0].getsockname()[1]

    async def end() -> None:
        await settled()  # a server that is closed before it met whom it accepted leaves them open
        made.server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def live() -> None:
        loop.run_until_complete(serve())
        loop.call_soon(started.set)  # once it runs for ever, so that a stop meets that and nothing else
        loop.run_forever()
        loop.run_until_complete(end())
        loop.run_until_complete(asyncio.sleep(0.01))

    thread = threading.Thread(target=live)
    thread.start()
    assert started.wait(5)
    try:
        yield made
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()


GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Asking:
    """A flood whose outcomes are kept."""

    def __init__(self, port: int, *, under_way_max: int = 100, visitors: int = 1, **more: Any) -> None:
        self.outcomes: list[tuple[int, int | str]] = []
        self.times_s: list[float] = []
        target = flood.find("http", "127.0.0.1", port, visitors)
        self.flood = Flood(target, self._done, under_way_max=under_way_max, **more)

    def _done(self, exchange: Exchange, came: Any, failure: str) -> None:
        self.outcomes.append((exchange.who, came.status if came else failure))
        self.times_s.append(time.monotonic() - exchange.due_s)

    def ask(self, *who: int, keep: bool = False) -> list[tuple[int, int | str]]:
        """Ask for each of these at once; return what came of them."""
        self.outcomes.clear()
        for one in who:
            self.flood.ask(Exchange(one, 0, GET, time.monotonic(), keep=keep))
        deadline_s = time.monotonic() + 10
        while self.flood.under_way:
            assert time.monotonic() < deadline_s
            self.flood.turn(0.05)
        return sorted(self.outcomes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.flood.close()


def test_everybody_has_a_connection_of_their_own_and_its_address() -> None:
    """Each request opens a connection, and to this machine they come from many addresses, so ports do not run out."""
    with site(lambda _: OK) as shop, Asking(shop.port, visitors=50_000) as asking:
        assert asking.ask(*range(100)) == [(who, 200) for who in range(100)]
        assert len(shop.peers) == len(set(shop.peers)) == 100
        assert {host for host, _ in shop.peers} == {f"127.0.0.{last}" for last in range(2, 13)}
        assert asking.flood.counts.opened == 100


def test_requests_beyond_the_bound_wait_here_and_their_time_counts() -> None:
    """Never more are under way than allowed; who has to wait for it is slower, and not measured later."""
    with site(lambda _: OK, delay_s=0.1) as shop, Asking(shop.port, under_way_max=5) as asking:
        asking.ask(*range(20))
        assert shop.most <= 5
        assert (asking.flood.counts.most_under_way, asking.flood.counts.held_back) == (5, 15)
        assert max(asking.times_s) >= 0.3
        assert asking.flood.counts.latest_s >= 0.2


def test_an_answer_that_does_not_come_is_a_timeout() -> None:
    """A visitor waits for so long and no longer, and those beside are not kept waiting by it."""
    replies = iter([b"", OK])
    with site(lambda _: next(replies)) as shop, Asking(shop.port, patience_s=0.2) as asking:
        asking.flood.ask(Exchange(1, 0, GET, time.monotonic(), keep=False))
        until(lambda: asking.flood.turn(0.01) or shop.heads)
        assert asking.ask(2) == [(1, "timeout"), (2, 200)]


def test_every_failure_has_a_word() -> None:
    """Refused, closed, cut off and garbled are told apart."""
    with site(lambda _: OK) as shop:
        port = shop.port
    with Asking(port) as asking:
        assert asking.ask(1) == [(1, "refused")]
    replies = iter(
        [None, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nshop", b"SSH-2.0-x\r\n\r\n"]
    )
    with site(lambda _: next(replies)) as shop, Asking(shop.port) as asking:
        assert [asking.ask(1), asking.ask(1), asking.ask(1)] == [[(1, "closed")], [(1, "cut off")], [(1, "no HTTP/1")]]


def test_a_visitor_keeps_a_connection() -> None:
    """With kept connections a visitor asks over the one there is, until it has been idle for long."""
    with site(lambda _: OK) as shop, Asking(shop.port, connections=Connections.KEPT, keep_s=0.2) as asking:
        for _ in range(3):
            asking.ask(1, 2, keep=True)
        assert len(shop.peers) == 2
        time.sleep(0.3)
        asking.flood.turn(0)
        asking.ask(1, keep=True)
        assert len(shop.peers) == 3


def test_kept_connections_make_room() -> None:
    """When all that is allowed is open and idle, the longest idle one is closed for a newcomer."""
    with site(lambda _: OK) as shop, Asking(shop.port, connections=Connections.KEPT, under_way_max=3) as asking:
        for who in range(10):
            assert asking.ask(who, keep=True) == [(who, 200)]
            assert len(asking.flood._links) <= 3
        assert asking.ask(9, 8, keep=True) == [(8, 200), (9, 200)]
        assert len(shop.peers) == 10


def test_a_pool_is_shared() -> None:
    """With a pool, later requests of anybody go over a few connections; the first of each has its own."""
    with site(lambda _: OK) as shop, Asking(shop.port, connections=Connections.POOLED) as asking:
        asking.ask(*range(10), keep=False)
        for who in range(10):
            asking.ask(who, keep=True)
        assert len(shop.peers) == 11


def test_a_connection_closed_while_idle_is_opened_anew() -> None:
    """A request that meets the closing of its kept connection is sent once more, on a new one, and only once."""
    replies = iter([OK, None, OK, None, None])
    with site(lambda _: next(replies)) as shop, Asking(shop.port, connections=Connections.KEPT) as asking:
        assert asking.ask(1, keep=True) == asking.ask(1, keep=True) == [(1, 200)]
        assert len(shop.peers) == 2
        assert asking.ask(1, keep=True) == [(1, "closed")]
    with site(lambda _: CLOSING) as shop, Asking(shop.port, connections=Connections.KEPT) as asking:
        for _ in range(2):
            assert asking.ask(1, keep=True) == [(1, 200)]
            assert not asking.flood._links  # what said that it closes is not kept
        assert len(shop.peers) == 2


def test_https_is_spoken_and_verified() -> None:
    """A site by https is asked through TLS; a certificate that nobody vouches for is refused unless told otherwise."""
    origin = RecordingOrigin(tls=serving("localhost"))
    origin.start()
    try:
        seen = list[int | str]()
        for verify in (True, False):
            target = flood.find("https", "localhost", origin.port, 1, verify=verify)
            asking = Flood(
                target, lambda _, came, failure: seen.append(came.body if came else failure), under_way_max=9
            )
            for who in range(3):
                asking.ask(Exchange(who, 0, GET, time.monotonic(), keep=False))
            while asking.under_way:
                asking.turn(0.05)
            asking.close()
        assert seen == ["tls"] * 3 + [b"shop"] * 3
    finally:
        origin.stop()


# -- people -----------------------------------------------------------------------------------------------------------


class Foreign:
    """A waiting room of another make: HTML, a cookie, a meta refresh, so many let in at once in order of arrival.

    ``overtakes`` is a mistake of some: whoever asks first has the free slot.
    """

    def __init__(self, cap: int = 5, told_s: float = 0.1, stay_s: float = 0.05) -> None:
        self.cap, self.told_s, self.stay_s = cap, told_s, stay_s
        self.line: list[str] = []
        self.inside: dict[str, float] = {}
        self.entered: list[str] = []
        self.asked: dict[str, list[float]] = {}
        self._names = itertools.count(1)

    def reply(self, head: str) -> bytes:
        """Answer one request."""
        now_s = time.monotonic()
        found = re.search(r"(?m)^Cookie: (.*)\r$", head)
        jar = SimpleCookie(found[1] if found else "")
        name = jar["q"].value if "q" in jar else f"v{next(self._names)}"
        self.asked.setdefault(name, []).append(now_s)
        self.inside = {one: until_s for one, until_s in self.inside.items() if until_s > now_s}
        if name not in self.line and name not in self.entered:
            self.line.append(name)
            return document(b"", f"Set-Cookie: q={name}; Path=/", "Location: /queue", status=302)
        if head.startswith("GET /queue") and self.line and name == self.line[0] and len(self.inside) < self.cap:
            self.line.remove(name)
            self.entered.append(name)
            self.inside[name] = now_s + self.stay_s
            return document(b"<h1>Buy</h1>")
        return document(f'<meta http-equiv="refresh" content="{self.told_s}">please wait'.encode())


def play(port: int, adapter: adapters.Adapter, **plan: Any) -> Rehearsal:
    """Play a crowd at a port of this machine, and return it when it is over."""
    plan = {"over_s": 0.3, "visit_s": 0.1, "limit_s": 20.0, "jitter": 0.1, **plan}
    target = flood.find("http", "127.0.0.1", port, plan["visitors"])
    made = Rehearsal(Plan(**plan), target, adapter, under_way_max=500)
    made.play(lambda: None)
    return made


def test_a_room_of_another_make_is_driven() -> None:
    """A crowd waits in a foreign room as its page says, follows its redirect, keeps its cookie, and all get in."""
    room = Foreign(cap=5)
    with site(room.reply) as shop:
        played = play(shop.port, Generic(Options(f"127.0.0.1:{shop.port}", "/tickets", marker="Buy")), visitors=40)
    assert played.states[State.LEFT] == played.joined == len(room.entered) == 40
    assert room.entered == sorted(room.entered, key=lambda name: int(name[1:]))
    assert not played.errors
    gaps = [after - before for times in room.asked.values() for before, after in itertools.pairwise(times[1:])]
    assert gaps
    assert min(gaps) >= room.told_s


@pytest.mark.parametrize("connections", ["own", "kept", "pooled"])
def test_everybody_comes_on_a_connection_of_their_own(connections: str) -> None:
    """Each visitor's first request opens a connection, the one it leads on to too, however the later ones go."""
    room = Foreign(cap=50, told_s=0.3)
    room.line.append("somebody who never asks")
    with site(room.reply) as shop:
        adapter = Generic(Options(f"127.0.0.1:{shop.port}", "/tickets", marker="Buy"))
        play(shop.port, adapter, visitors=20, until=None, limit_s=1.5, connections=Connections(connections))
    came, asked = len(shop.peers), len(shop.heads)
    assert asked > 60
    if connections == "own":
        assert came >= asked
    elif connections == "kept":
        assert came == 20
    else:  # how many a pool opens is for its crowd to say; a visitor's first two requests never take one of them
        assert 40 <= came < asked


def numbered(*states: tuple[str, int | None]) -> Callable[[str], bytes]:
    """Return a room like ours that says these things in turn, whoever asks."""
    said = iter(states)

    def reply(head: str) -> bytes:
        state, number = next(said)
        if state == "shop":
            return document(b"shop", "Set-Cookie: waitroom_a=p")
        if state == "broken":
            return document(b"", status=502)
        if "/me " in head or "/leave " in head:
            told = {"state": state, "number": number, "refresh_s": 0.1, "pass_until": 9_999_999_999_999}
            return document(json.dumps(told).encode(), f"Waitroom-State: {state}")
        page = f'<main data-number="{number}" data-jitter="0.0">' if number else ""
        told = ["Retry-After: 0", "Set-Cookie: waitroom_a=t"] if number else []
        return document(page.encode(), f"Waitroom-State: {state}", *told)

    return reply


@pytest.mark.parametrize(
    ("said", "ends", "asked"),
    [
        (
            [("waiting", 1), ("waiting", 1), ("called", 1), ("shop", None), ("admitted", None), ("none", None)],
            State.LEFT,
            [What.JOIN, What.ASK, What.ASK, What.ENTER, What.LOOK, What.LEAVE],
        ),
        ([("shop", None), ("admitted", None), ("none", None)], State.LEFT, [What.JOIN, What.LOOK, What.LEAVE]),
        ([("waiting", 1), ("none", None)], State.LOST, [What.JOIN, What.ASK]),
        ([("closed", None)], State.TURNED_AWAY, [What.JOIN]),
        (
            [("waiting", 1), ("called", 1), ("waiting", 1), ("closed", None)],
            State.TURNED_AWAY,
            [What.JOIN, What.ASK, What.ENTER, What.ASK],
        ),
    ],
)
def test_a_visitor_does_what_the_page_would(said: list[tuple[str, int | None]], ends: State, asked: list[What]) -> None:
    """A visitor waits, enters when called, looks how long, leaves; and goes when there is nothing to wait for."""
    with site(numbered(*said)) as shop:
        played = play(shop.port, Waitroom(Options(f"127.0.0.1:{shop.port}", "/event/")), visitors=1)
    assert played.states[ends] == 1
    assert [what for what in What for _ in range(played.asked[what])] == sorted(asked)


def test_who_gets_errors_tries_again_and_then_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error is counted by its kind, tried again a few times, and the time without a place counts from the coming."""
    monkeypatch.setattr("waitroom.crowd.rehearsal.ERROR_S", (0.1, 0.1))
    said = [("broken", None), ("broken", None), ("waiting", 1), *[("broken", None)] * 5]
    with site(numbered(*said)) as shop:
        played = play(shop.port, Waitroom(Options(f"127.0.0.1:{shop.port}", "/event/")), visitors=1)
    assert played.states[State.FAILED] == 1
    assert played.errors == {"status 502": 7}
    assert played.join_s[0] >= 0.2


def test_some_vanish_and_some_come_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shares of the crowd vanish or idle, as one seed deals them; the rest are let in."""
    monkeypatch.setattr("waitroom.crowd.rehearsal.IDLE_S", (0.3, 0.5))
    room = Foreign(cap=1, told_s=0.05, stay_s=0.05)
    with site(room.reply) as shop:
        adapter = Generic(Options(f"127.0.0.1:{shop.port}", "/tickets", marker="Buy"))
        played = play(shop.port, adapter, visitors=40, idle=1.0, until=None, limit_s=3.0)
        assert played.came_back_late
        gone = play(shop.port, adapter, visitors=40, vanish=1.0, until=None, limit_s=1.5)
    assert gone.states[State.VANISHED] == 40 - gone.states[State.LEFT] > 20


def test_percentiles_are_exact() -> None:
    """A percentile is a time that was measured, the one within which so many of all were over."""
    seconds = array("d", random.Random(1).sample(range(1, 1001), 1000))
    times = Times.of(seconds)
    assert (times.count, times.p50_s, times.p90_s, times.p99_s, times.p999_s, times.most_s) == (
        1000,
        500,
        900,
        990,
        999,
        1000,
    )
    assert Times.of(array("d")) == Times()
    assert Times.of(array("d", [3.0])).p50_s == 3.0


# -- what a witness says ----------------------------------------------------------------------------------------------


def waits(witness: Witness, who: int, number: int, *asked_s: float, told_s: float = 1.0) -> None:
    """Let a witness see somebody told to wait, at these moments."""
    for at_s in asked_s:
        witness.saw(who, Told(Standing.WAITING, told_s, number), at_s, at_s + 0.01)


TWO = Limits(2, 3)


def broken(witness: Witness, limits: Limits = TWO, left: int = 0, shop: tuple = ()) -> list[str]:
    """Return the promises that a witness found broken."""
    return [finding.promise for finding in witness.judge(limits, shop, left).findings if not finding.kept]


def enters(witness: Witness, who: int, at_s: float, until_s: float, number: int | None = None) -> None:
    """Let a witness see somebody let in."""
    witness.saw(who, Told(Standing.ADMITTED, number=number), at_s, at_s + 0.01)
    witness.saw(who, Told(Standing.ADMITTED, pass_until_ms=int(until_s * 1000)), at_s + 0.02, at_s + 0.03)


def test_a_good_run_has_nothing_against_it() -> None:
    """Two in order, each with a number, in and out: every promise is kept, and an unsaid limit is not judged."""
    witness = Witness(2)
    waits(witness, 0, 1, 0, 1, 2)
    waits(witness, 1, 2, 0, 1, 2, 3, 4)
    enters(witness, 0, 3, 10)
    witness.leaves(0, 4.5)
    enters(witness, 1, 5, 12)
    assert broken(witness) == []
    assert len(witness.judge(Limits(2, 3), (), 0).findings) == 6
    assert [one.promise for one in witness.judge(Limits(in_order=False)).findings] == [
        "A number is given once",
        "A place is never lost",
    ]


def test_a_witness_finds_an_overtaking() -> None:
    """Number 2 is called while number 1 stands in line before and after; silence past the time told ends a stand."""
    for first, found in (((0, 1, 2, 3, 4, 5, 6), ["In order"]), ((0, 10, 11), [])):
        witness = Witness(2)
        waits(witness, 0, 1, *first)
        waits(witness, 1, 2, 0, 1, 2, 3)
        enters(witness, 1, 4, 10)
        assert broken(witness) == found


def test_a_witness_finds_a_number_given_twice() -> None:
    """Two visitors who are shown one number have it twice; and so has the shop that is told of one for two."""
    witness = Witness(2)
    waits(witness, 0, 7, 0)
    waits(witness, 1, 7, 0)
    assert broken(witness) == ["A number is given once"]
    twice = tuple(checker.Served("GET", "/", 200, "7", name) for name in ("a", "b"))
    assert broken(Witness(2), shop=twice) == []
    witness = Witness(2)
    waits(witness, 0, 7, 0)
    assert broken(witness, shop=twice) == ["A number is given once"]


def test_a_witness_finds_a_lost_place() -> None:
    """Another number, or none, while in line is a lost place; not after an entry that had no answer."""
    moved, gone, unsure = (Witness(1) for _ in range(3))
    for witness in (moved, gone, unsure):
        waits(witness, 0, 7, 0)
    waits(moved, 0, 8, 1)
    gone.saw(0, Told(Standing.LOST, why="none"), 1, 1.1)
    unsure.unanswered(0)
    unsure.saw(0, Told(Standing.LOST, why="expired"), 1, 1.1)
    assert broken(moved) == broken(gone) == ["A place is never lost"]
    assert broken(unsure) == []


def test_a_witness_finds_too_many() -> None:
    """Three inside where two may be, and four let in within a minute where three may be, are found."""
    witness = Witness(4)
    for who in range(3):
        enters(witness, who, who, 10)
    assert broken(witness) == ["Never too many inside"]
    witness.leaves(0, 1.5)
    assert broken(witness) == []
    enters(witness, 3, 50, 55)
    assert broken(witness) == ["Never too many in a minute"]
    later = Witness(4)
    for who, at_s in enumerate((0, 20, 40, 61)):
        enters(later, who, at_s, at_s + 5)
    assert broken(later) == []


def test_the_shop_may_know_better_when_somebody_came_in() -> None:
    """What the shop was told of the moment of admission counts, where it is known."""
    witness = Witness(3)
    for who in range(3):
        waits(witness, who, who + 1, 0)
        enters(witness, who, 5 + 3 * who, 7 + 3 * who)
    shop = tuple(checker.Served("GET", "/", 200, str(number), f"v{number}", 5000) for number in (1, 2, 3))
    assert broken(witness) == []
    assert broken(witness, shop=shop) == ["Never too many inside"]


def test_a_line_that_stands_still_is_found() -> None:
    """For how long nobody was called while somebody waited is known, at least; silence of those in line is no pause."""
    witness = Witness(3)
    waits(witness, 2, 3, *range(31))
    waits(witness, 0, 1, 0, 1)
    waits(witness, 1, 2, *range(20))
    enters(witness, 0, 2, 3)
    enters(witness, 1, 20, 21)
    # From the arrival of the answer that told of the first call to two ticks before the last wait of the second.
    assert witness.judge(Limits()).longest_pause_s == pytest.approx(16.49, abs=0.01)
    assert broken(witness, Limits(pause_s=16)) == ["Ghosts hold up nobody"]
    assert broken(witness, Limits(pause_s=17)) == []
    frozen, nobody, quiet = Witness(2), Witness(2), Witness(2)
    for one in (frozen, nobody):
        waits(one, 0, 1, 0, 1)
        enters(one, 0, 2, 3)
    waits(frozen, 1, 2, *range(60))
    waits(nobody, 1, 2, 40, 41, 42)
    waits(quiet, 1, 2, *range(60))
    gone = Witness(4)
    waits(gone, 0, 1, 0, 1)
    enters(gone, 0, 2, 3)
    waits(gone, 1, 2, *range(11))
    waits(gone, 2, 3, 1, 2, 3)
    waits(gone, 3, 4, *range(45, 50))
    enters(gone, 3, 50, 51)
    assert gone.judge(Limits()).longest_pause_s == pytest.approx(7.99, abs=0.01)
    assert frozen.judge(Limits()).longest_pause_s == pytest.approx(56.99, abs=0.01)
    assert nobody.judge(Limits()).longest_pause_s == 0
    assert quiet.judge(Limits()).longest_pause_s == 0


def test_who_is_left_in_line_is_found() -> None:
    """A line that stands still lets nobody overtake, and is broken all the same; unless it was not to go on."""
    witness = Witness(1)
    waits(witness, 0, 1, 0)
    assert broken(witness, left=1) == ["Everybody's turn comes"]
    assert [one for one in witness.judge(Limits(), (), None).findings if not one.kept] == []


@pytest.mark.parametrize("seed", range(30))
def test_overtakings_are_found_as_by_comparing_everybody_with_everybody(seed: int) -> None:
    """The quick way finds the very stands that the slow one does, which compares each with every call."""
    chance = random.Random(seed)
    calls, stands = list[Call](), list[Stand]()
    for number in range(60):
        begins, lasts = round(chance.uniform(0, 20), 1), round(chance.uniform(0, 10), 1)
        stands.append(Stand(number, begins, begins + lasts, begins + lasts + 3))
        called, late = begins + lasts + round(chance.uniform(-2, 5), 1), round(chance.uniform(0, 2), 1)
        calls.append(Call(number, called, called + late))
    slow = {
        stand.number
        for stand in stands
        for call in calls
        if call.number > stand.number
        and call.by_s <= stand.asked_s - checker.VIEW_S
        and call.from_s >= stand.since_s + checker.VIEW_S
    }
    found = list(checker.overtakings(calls, stands))
    assert sorted(one.passed for one in found) == sorted(slow)
    for one in found:
        assert one.number > one.passed
    assert slow


def test_hundreds_of_thousands_are_judged_in_seconds() -> None:
    """A line of 300,000, a tenth of whom were called while the rest stand, is judged in a few seconds."""
    count = 300_000
    stands = [Stand(number, number / 5000, 100 + number / 5000, 200.0) for number in range(count)]
    calls = [Call(number, 60 + number / 1000, 61 + number / 1000) for number in range(count // 10)]
    begun_s = time.process_time()
    assert next(checker.overtakings(calls, stands[count // 10 :]), None) is None
    assert time.process_time() - begun_s < 10


# -- the whole of it --------------------------------------------------------------------------------------------------

LINE = {"always_queue": True, "total_active_users": 30, "new_users_per_minute": 6000}


def rehearse(*arguments: str) -> subprocess.Popen[str]:
    """Start the command."""
    return subprocess.Popen(
        [sys.executable, "-m", "waitroom.cli", "rehearse", *arguments],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_two_thousand_come_to_a_house_at_once(tmp_path: Path, origin: RecordingOrigin) -> None:
    """2,000 visitors in two seconds, each on a connection of its own: all have a place, none twice, no error."""
    with running(tmp_path, origin, LINE, store="sqlite:///record.db", workers=2) as house:
        command = rehearse(f"{house.url}/event/", "--visitors", "2000", "--over", "2s", "--until", "joined", "--json")
        out, err = command.communicate(timeout=60)
    seen = json.loads(out)
    assert command.returncode == 0, err
    assert (seen["joined"], seen["errors"], seen["numbers_twice"], seen["ok"]) == (2000, 0, 0, True)
    assert seen["join"]["count"] == 2000
    assert 0 < seen["join"]["p50_s"] <= seen["join"]["p99_s"] <= seen["join"]["most_s"]
    assert seen["connections"]["opened"] == sum(seen["requests"].values()) >= 2000
    assert re.search(
        r"came 2,000 placed 2,000 waiting [0-9,]+ in [0-9]+ [0-9,]+/s p50 [0-9.]+m?s p99 [0-9.]+m?s\n", err
    )


def test_a_whole_launch_is_judged(tmp_path: Path, origin: RecordingOrigin) -> None:
    """Visitors come, wait, enter and leave, some vanish; ordinary shoppers are timed; every promise is kept."""
    room = {**LINE, "session_duration": "20s", "claim_within": "2s", "refresh": {"near": "250ms", "far": "1s"}}
    with running(tmp_path, origin, room) as house:
        words = [f"{house.url}/event/", "--visitors", "150", "--over", "2s", "--visit", "500ms", "--vanish", "0.2"]
        words += ["--cap", "30", "--per-minute", "6000", "--ordinary", f"{house.url}/", "--ordinary-rate", "20"]
        command = rehearse(*words, "--before", "1s", "--at-most", "60s")
        out, err = command.communicate(timeout=90)
    assert command.returncode == 0, out + err
    assert re.search(r"inside, and left +1[0-4][0-9]\n", out)
    assert re.search(r"vanished +[1-5][0-9]\n", out)
    assert re.search(r"ordinary, beside +[0-9]{2,}", out)
    assert out.count("\nkept  ") == 6
    assert "the crowd comes in" in err
    assert "/" in origin.paths()


def test_ctrl_c_ends_it_with_what_was_seen(tmp_path: Path, origin: RecordingOrigin) -> None:
    """An interrupted rehearsal reports on those who came; that some are left in line is no fault then."""
    with running(tmp_path, origin, {**LINE, "total_active_users": 1}) as house:
        command = rehearse(f"{house.url}/event/", "--visitors", "1000", "--over", "50s", "--json")
        assert command.stderr is not None
        until(lambda: " came " in command.stderr.readline())
        time.sleep(1)
        command.send_signal(signal.SIGINT)
        out, err = command.communicate(timeout=20)
    assert command.returncode == 130, err
    seen = json.loads(out)
    assert 0 < seen["joined"] <= seen["arrived"] < 1000
    assert seen["cut_short"]
    assert seen["ok"]
    assert "Traceback" not in err


def test_a_room_that_fails_is_told_as_failing() -> None:
    """Errors make the exit code 1, and are told by their kind."""
    with site(lambda _: None) as shop:
        command = rehearse(f"http://127.0.0.1:{shop.port}/", "--visitors", "3", "--over", "1s", "--until", "3s")
        out, _ = command.communicate(timeout=30)
    assert command.returncode == 1
    assert re.search(r"failed: closed +[0-9]+", out)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["http://93.184.215.14/"], "--i-operate-this"),
        (["https://[2606:2800:21f:cb07:6820:80da:af6b:8b2c]/"], "--i-operate-this"),
        (["http://127.0.0.1:1/", "--ordinary", "http://93.184.215.14/"], "--i-operate-this"),
        (
            ["http://93.184.215.14/", "--i-operate-this", "--visitors", "500000"],
            "the most that is sent to another network",
        ),
        (["http://127.0.0.1:1/", "--visitors", "0"], "write 1 to 1000000"),
        (["http://127.0.0.1:1/", "--visitors", "1000001"], "write 1 to 1000000"),
        (["http://127.0.0.1:1/", "--visitors", "300000", "--over", "1s"], "20000 visitors a second"),
        (["http://127.0.0.1:1/", "--over", "soon"], "--over"),
        (["http://127.0.0.1:1/", "--at-most", "7h"], "write at most 6h"),
        (["http://127.0.0.1:1/", "--until", "never"], "--until"),
        (["http://127.0.0.1:1/", "--vanish", "2"], "write 0 to 1"),
        (["http://127.0.0.1:1/", "--vanish", "0.6", "--idle", "0.6"], "more than 1"),
        (["http://127.0.0.1:1/", "--adapter", "queue"], "module:Class"),
        (["http://127.0.0.1:1/", "--adapter", "waitroom.nothing:Here"], "--adapter waitroom.nothing:Here"),
        (["http://127.0.0.1:1/", "--origin-log", "/nowhere"], "there is no such file"),
        (["http://127.0.0.1:1/", "--ordinary", "http://127.0.0.1:1/", "--ordinary-rate", "0"], "--ordinary-rate"),
        (["ftp://127.0.0.1/"], "is no address"),
        (["http://user@127.0.0.1/"], "is no address"),
        (["http://127.0.0.1:99999/"], "is no address"),
        (["http://127.0.0.1/a b"], "has bytes that no address has"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_in_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slip of the hand sends nothing to anybody, least of all to a stranger's site: a sentence says what is wrong."""
    monkeypatch.setattr(socket, "socket", lambda *_: pytest.fail("a socket was made"))
    assert main(["rehearse", *words]) == 1
    err = capsys.readouterr().err
    assert err.startswith("waitroom: ")
    assert said in err
    assert err.count("\n") == 1


def test_an_adapter_of_ones_own_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A module of the operator's own that has an adapter drives a room that none of ours understands."""
    (tmp_path / "mine.py").write_text(
        "from waitroom.crowd.adapters import *\n"
        "class Mine(Generic):\n"
        "    def read(self, answer, *, asked):\n"
        "        return Told(Standing.TURNED_AWAY, why='mine')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with site(lambda _: OK) as shop:
        played = play(shop.port, adapters.find("mine:Mine", Options(f"127.0.0.1:{shop.port}", "/")), visitors=3)
    assert played.turned_away == {"mine": 3}


@pytest.mark.parametrize("reply", [OK, b""], ids=["answered", "never answered"])
def test_the_shoppers_beside_a_crowd_end_with_it(reply: bytes) -> None:
    """The process of the ordinary shoppers does not outlive whoever started it, however that ended."""
    with site(lambda _: reply) as shop:
        script = (
            "import time\nfrom waitroom.crowd.ordinary import Ordinary\n"
            f"made = Ordinary('http', '127.0.0.1', {shop.port}, '/', 50.0, fresh=True, verify=True)\n"
            "print(made._process.pid, flush=True)\ntime.sleep(60)"
        )
        starter = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        until(lambda: len(shop.heads) > 5)
        starter.kill()
        starter.communicate()
        until(lambda: not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_text())
        assert len(shop.peers) >= len(shop.heads)


def test_a_launch_is_measured_in_plain_numbers() -> None:
    """``bench/crowd.py`` plays a small launch, kills the house, asks again, and returns nothing but numbers."""
    file = Path(__file__).parent.parent / "bench" / "crowd.py"
    words = ["--visitors", "200", "--over", "1", "--before", "2", "--json"]
    played = subprocess.run(
        [sys.executable, str(file), *words], capture_output=True, text=True, timeout=90, check=False
    )
    figures = json.loads(played.stdout)
    for name in ("without_a_place", "errors", "twice", "broken", "ordinary_failed", "lost_by_the_kill"):
        assert figures[name] == 0, name
    assert figures["asked_after_the_kill"] == 200
    for name in ("join_p99_s", "ordinary_p99_ratio", "more_mb", "house_cpu_us", "crowd_cpu_us"):
        assert isinstance(figures[name], float), name
