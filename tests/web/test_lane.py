"""The fast lane says what the ordinary way says, to the byte, and leaves behind what it leaves behind.

Every request is played on two wires that are alike but for the lane, each before a room of its own in which the same
has happened. What they write, what they count, and what is noted for the record must be equal, whatever was sent.
"""

from __future__ import annotations

import asyncio
from functools import cache
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

from waitroom import config
from waitroom.build import pages_of
from waitroom.core.assertion import AssertionSigner
from waitroom.core.tokens import Keyring
from waitroom.model import Pass, Ticket
from waitroom.service import RoomService
from waitroom.store.memory import MemoryStore
from waitroom.testing import FakeClock
from waitroom.ticker import Ticker
from waitroom.web import lane as lanes
from waitroom.web.desk import Desk
from waitroom.web.hall import Hall
from waitroom.web.joinlimit import JoinLimit
from waitroom.web.lane import HEAD_BYTES_MAX, SHAPES_MAX, Lane
from waitroom.web.wire import wire_class

SECRETS = ("o" * 32, "n" * 32)
KEYRING = Keyring(SECRETS)
TEXT = """
origin: http://127.0.0.1:9
store: "memory:"
trusted_proxies: [10.0.0.0/8]
rooms:
  - {name: launch, match: [{path: /event/}], always_queue: true, total_active_users: 2, session_duration: 20s}
  - {name: launch2, match: [{path: /other/}], always_queue: true, cookie: {secure: true}}
"""
BROWSER = (
    b"User-Agent: Mozilla/5.0 (iPhone; CPU iPhone OS 17_4)\r\nAccept: */*\r\nSec-Fetch-Site: same-origin\r\n"
    b"Accept-Language: ko-KR,ko;q=0.9\r\nAccept-Encoding: gzip, deflate, br\r\n"
)


class Transport(asyncio.Transport):
    """What a wire writes to."""

    def __init__(self, peer):
        super().__init__()
        self.peer = peer
        self.written = b""
        self.ended = False

    def get_extra_info(self, name, default=None):
        """Know the peer."""
        return (self.peer, 1) if name == "peername" else default

    def write(self, data):
        """Keep it."""
        self.written += data

    def write_eof(self):
        """End."""
        self.ended = True

    def close(self):
        """End."""
        self.ended = True

    abort = close

    def is_closing(self):
        """Whether it was ended."""
        return self.ended

    def get_write_buffer_size(self):
        """Nothing waits."""
        return 0

    def pause_reading(self):
        """Nobody sends."""

    def resume_reading(self):
        """Nobody sends."""


@cache
def pages(stated):
    """Return the pages, which take longest to make, and are the same each time."""
    return pages_of(stated)


class Half:
    """One worker, with the lane or without, and the rooms' record behind it."""

    def __init__(self, stated, *, fast):
        self.stated = stated
        self.fast = fast

    async def start(self):
        """Open the rooms."""
        self.clock = FakeClock()
        self.store = MemoryStore(self.stated.rooms, self.clock)
        ids = count(1)
        self.services = {}
        for room in self.stated.rooms:
            view = await self.store.snapshot(room.name)
            chance = lambda size: next(ids).to_bytes(size, "big")  # noqa: E731
            self.services[room.name] = RoomService(room, view, self.store, KEYRING, self.clock, chance=chance)
        self.ticker = Ticker(self.services.values(), self.store)
        self.desk = Desk(
            self.stated,
            self.services,
            {},
            pages(self.stated),
            JoinLimit(None, spare_private=True),
            signer=AssertionSigner(SECRETS[-1]),
            clock=self.clock,
        )
        self.hall = Hall(self.desk, self.stated.limits)
        self.hall.date_line = b"Date: Wed, 25 Nov 2026 12:00:00 GMT\r\n"
        self.hall.enter = self.hall.wires.add  # without the clock on the wall
        if self.fast:
            self.hall.lane = Lane(self.stated, self.services, self.hall)
        self.wires = {}
        return self

    async def play(self, step):
        """Do one step; return what was written by it and whether the connection was ended."""
        match step:
            case ("tick", seconds):
                self.clock.advance(seconds)
                for service in self.services.values():
                    await self.ticker.step(service)
            case ("operate", verbs):
                await self.store.operate("launch", verbs, "test")
            case ("ask", peer, data):
                wire = self.wires.get(peer)
                if wire is None or wire.transport.ended:
                    wire = wire_class(self.hall)(None, ServerState(), {})
                    wire.connection_made(Transport(peer))
                    self.wires[peer] = wire
                before = len(wire.transport.written)
                wire.data_received(data)
                for _ in range(3):
                    await asyncio.sleep(0)
                return wire.transport.written[before:], wire.transport.ended
        return None

    def noted(self):
        """Return what is left behind."""
        rooms = [
            (one._heard, one._used, one._left, one.known, one.estimates._told, one.estimates.judged)
            for one in self.services.values()
        ]
        return rooms, self.desk.counts, self.hall.tally


@pytest.fixture(scope="module")
def stated(tmp_path_factory):
    """Two rooms of which one's name begins like the other's, and a network of proxies."""
    file = tmp_path_factory.mktemp("lane") / "waitroom.yaml"
    file.write_text(TEXT)
    return config.load(file, {})


@pytest.fixture(scope="module")
def joined(stated):
    """The places that everybody here has: the first are called, those after them wait."""

    async def join():
        half = await Half(stated, fast=False).start()
        return [half.services[name].ticket((await half.services[name].join())[0]) for name in ROOMS]

    return asyncio.run(join())


ROOMS = ["launch"] * 6 + ["launch2"] * 2
HEADS = {
    "me": b"GET /.waitroom/launch/me HTTP/1.1\r\nHost: shop.example\r\n%b" + BROWSER + b"\r\n",
    "me, hidden": b"GET /.waitroom/launch/me?hidden=1 HTTP/1.1\r\nHost: shop.example\r\n" + BROWSER + b"%b\r\n",
    "me of the other room": b"GET /.waitroom/launch2/me HTTP/1.1\r\nHost: shop.example\r\n%b" + BROWSER + b"\r\n",
    "me, disguised": b"GET /%2ewaitroom/launch/me HTTP/1.1\r\nHost: shop.example\r\n%b\r\n",
    "me, over https": (
        b"GET /.waitroom/launch/me HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\nX-Forwarded-For: 192.0.2.1\r\n"
        b"%b\r\n"
    ),
    "me, asked by HTTP/1.0": b"GET /.waitroom/launch/me HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n%b\r\n",
    "me, and no more": b"GET /.waitroom/launch/me HTTP/1.1\r\nHost: a\r\nConnection: close\r\n%b\r\n",
    "HEAD of me": b"HEAD /.waitroom/launch/me HTTP/1.1\r\nHost: a\r\n%b\r\n",
    "now": b"GET /.waitroom/launch/now HTTP/1.1\r\nHost: a\r\n%b" + BROWSER + b"\r\n",
    "now, if it changed": b'GET /.waitroom/launch/now HTTP/1.1\r\nHost: a\r\nIf-None-Match: "x", "y"\r\n%b\r\n',
    "now, with a body": b"GET /.waitroom/launch/now HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n%b\r\nab",
    "no such room": b"GET /.waitroom/other/me HTTP/1.1\r\nHost: a\r\n%b\r\n",
    "no such thing": b"GET /.waitroom/launch/you HTTP/1.1\r\nHost: a\r\n%b\r\n",
    "the room": b"GET /event/ HTTP/1.1\r\nHost: a\r\nAccept: image/png\r\n%b\r\n",
    "an empty line first": b"\r\nGET /.waitroom/launch/me HTTP/1.1\r\nHost: a\r\n%b\r\n",
    "two hosts": b"GET /.waitroom/launch/me HTTP/1.1\r\nHost: a\r\nHost: b\r\n%b\r\n",
    "half": b"GET /.waitroom/launch/me HTTP/1.1\r\nHost: a\r\n%b",
    "two at once": 2 * (b"GET /.waitroom/launch/me HTTP/1.1\r\nHost: a\r\n%b\r\n"),
    "large": b"GET /.waitroom/launch/me HTTP/1.1\r\nHost: a\r\nX: " + HEAD_BYTES_MAX * b"x" + b"\r\n%b\r\n",
}
LINES = [
    b"Cookie: %b\r\n",
    b"cookie: %b\r\n",
    b"COOKIE: %b\r\n",
    b"Cookie:%b\r\n",
    b"Cookie: %b \r\n",
    b"Cookie:  %b\r\n",
    b"Cookie: %b\r\nCookie: a=b\r\n",
    b"cookie: a=b\r\nCookie: %b\r\n",
    b"cookie: waitroom_launch=%a\r\nCookie: %b\r\n",
    b"Waitroom-Ticket: %b\r\n",
    b"X: y\r\n",
]
COOKIES = [
    "waitroom_launch={}",
    "__Host-waitroom_launch={}",
    "__Host-waitroom_launch2={}",
    "waitroom_launch2={}",
    "a=b; waitroom_launch={}",
    "a=b;waitroom_launch={}",
    "a=b; waitroom_launch={}; c=d",
    "waitroom_launch={} ; c=d",
    "waitroom_launch = {}",
    'waitroom_launch="{}"',
    "xwaitroom_launch={}",
    "waitroom_launch={0}; waitroom_launch={1}",
    "waitroom_launch={0}; __Host-waitroom_launch={1}",
    "waitroom_launch={0}; waitroom_launch ={1}",
    "waitroom_launch={}\x01",
    "waitroom_launch={}\t",
    "waitroom_launch={}é",
    "waitroom_launch=",
    "a=b",
    "",
]
"""With what comes of a visitor's tokens; ``waitroom_launch2`` is another room's, over https only."""

ASKED = st.tuples(
    st.just("ask"),
    st.sampled_from(["192.0.2.1", "10.0.0.1"]),
    st.sampled_from(["me", "me, hidden", "me of the other room", "me, over https", "now"]),
    st.just(LINES[0]),
    st.one_of(st.just(COOKIES[0]), st.sampled_from(COOKIES)),
    st.integers(0, 11),
    st.integers(0, 11),
)
STEPS = st.lists(
    st.one_of(
        ASKED,
        ASKED,
        ASKED,
        st.tuples(st.just("tick"), st.sampled_from([0.25, 1.0, 30.0])),
        st.tuples(
            st.just("operate"),
            st.sampled_from([{"queue_all": True}, {"queue_all": None}, {"message": 'a "b" <c>'}, {"stock": 0}]),
        ),
    ),
    min_size=1,
    max_size=20,
)


def tokens(joined):
    """Return what a cookie may hold: tickets, one by the older key, passes, and what is none of them."""
    whole = [KEYRING.sign_ticket(ticket) for ticket in joined]
    first = joined[0]
    entry_pass = Pass(
        first.room, first.generation, first.number, first.visitor, first.issued_ms, first.issued_ms + 9_000
    )
    later = Ticket(first.room, first.generation + 1, 9, first.visitor, first.issued_ms)
    others = [Keyring(SECRETS[:1]).sign_ticket(joined[2]), KEYRING.sign_pass(entry_pass), KEYRING.sign_ticket(later)]
    return [*whole, *others, whole[3][:-1] + ("A" if whole[3][-1] != "A" else "B")]


def as_sent(step, held):
    """Return a step with the bytes that are sent in it."""
    if step[0] != "ask":
        return step
    _, peer, head, line, cookie, one, other = step
    value = cookie.format(held[one], held[other]).encode()
    return "ask", peer, HEADS[head].replace(b"%b", line.replace(b"%a", held[3].encode()).replace(b"%b", value))


async def both(stated, steps):
    """Play steps on two that differ by the lane alone, and compare; return the one with it."""
    slow, fast = await Half(stated, fast=False).start(), await Half(stated, fast=True).start()
    for half in (slow, fast):
        for name in ROOMS:
            await half.services[name].join()
    for step in steps:
        assert await slow.play(step) == await fast.play(step), step
        assert slow.noted() == fast.noted(), step
    return fast


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("peer", ["192.0.2.1", "10.0.0.1"])
def test_however_it_is_spelled_the_answer_is_the_ordinary_one(stated, joined, head, peer):
    """Every spelling of a cookie, in every line that may hold it, from one whose shape was learned from a good one."""
    held = tokens(joined)

    async def play():
        for line in LINES:
            steps = [("tick", 1.0)]
            for cookie in COOKIES:
                for one, other in ((4, 5), (0, 3), (5, 4), (6, 7), (8, 4), (9, 4), (10, 5), (11, 4)):
                    steps.append(as_sent(("ask", peer, head, line, COOKIES[0], 4, 4), held))
                    steps.append(as_sent(("ask", peer, head, line, cookie, one, other), held))
            await both(stated, steps)

    asyncio.run(play())


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_the_lane_says_and_leaves_what_the_ordinary_way_does(stated, joined, steps):
    """Whatever is asked, by whom, and whatever the rooms do meanwhile."""
    held = tokens(joined)
    asyncio.run(both(stated, [as_sent(step, held) for step in steps]))


def ask(head, cookie, peer="192.0.2.1"):
    """Return the step in which a browser asks with this cookie."""
    return "ask", peer, HEADS[head].replace(b"%b", b"Cookie: %b\r\n" % cookie.encode())


async def by_lane(half, step):
    """Return whether a step was answered without the desk."""
    asked = []
    way = half.hall.desk
    half.hall.desk = lambda request: asked.append(request) or way(request)
    try:
        written, _ = await half.play(step)
    finally:
        half.hall.desk = way
    assert written.startswith(b"HTTP/1.1 ")
    return not asked


def test_waiting_visitors_of_one_browser_are_answered_without_the_desk(stated, joined):
    """The first of a kind is read; others with other places, and everybody who asks for what all may know, are not."""
    held = tokens(joined)

    async def play():
        fast = await both(stated, [("tick", 1.0), ask("me", f"a=b; waitroom_launch={held[4]}"), ask("now", "a=b")])
        assert await by_lane(fast, ask("me", f"waitroom_launch={held[5]}"))
        assert await by_lane(fast, ask("now", ""))
        assert await by_lane(fast, ask("now", f"waitroom_launch={held[5]}"))
        assert not await by_lane(fast, ask("me", f"waitroom_launch={held[-1]}"))  # forged
        assert not await by_lane(fast, ask("me", f"waitroom_launch={held[9]}"))  # of an older key: to be signed anew
        assert not await by_lane(fast, ask("me", f"waitroom_launch={held[10]}"))  # a pass, which may be renewed
        assert not await by_lane(
            fast, ask("me", f"waitroom_launch={held[5]}", peer="10.0.0.1")
        )  # a proxy's word counts

    asyncio.run(play())


def test_who_drains_takes_no_more_by_the_lane(stated, joined):
    """The last answer on a connection says that it is the last: that is the ordinary way's to say."""
    held = tokens(joined)

    async def play():
        fast = await both(stated, [ask("me", f"waitroom_launch={held[4]}")])
        fast.hall.begin_to_drain(5.0)
        assert not await by_lane(fast, ask("me", f"waitroom_launch={held[4]}"))

    asyncio.run(play())


def test_a_fault_in_the_lane_is_logged_and_the_ordinary_way_taken(stated, joined, monkeypatch, caplog):
    """Nobody is left without an answer."""
    held = tokens(joined)

    async def play():
        fast = await both(stated, [ask("me", f"waitroom_launch={held[4]}")])
        monkeypatch.setattr(lanes._Me, "__call__", lambda *_: 1 / 0)
        assert not await by_lane(fast, ask("me", f"waitroom_launch={held[4]}"))
        assert "the fast lane failed" in caplog.text

    asyncio.run(play())


def test_shapes_are_forgotten_before_they_are_too_many(stated, joined):
    """A client that never asks alike makes the lane forget, and nothing grow."""
    held = tokens(joined)

    async def play():
        fast = await both(stated, [])
        shapes = fast.hall.lane.shapes("192.0.2.1")
        for turn in range(SHAPES_MAX + 10):
            head = HEADS["me"].replace(b"Host: shop.example", b"Host: shop.example\r\nX: %d" % turn)
            await fast.play(
                ("ask", "192.0.2.1", head.replace(b"%b", b"Cookie: waitroom_launch=%b\r\n" % held[4].encode()))
            )
        assert len(shapes) == 10
        await fast.play(("ask", "192.0.2.1", HEADS["large"].replace(b"%b", b"")))
        assert len(shapes) == 10

    asyncio.run(play())
