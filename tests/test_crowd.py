"""The crowd's own parts: a client that never takes half an answer for a whole one, and visitors dealt as promised."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import random
from collections import Counter
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from waitroom.checker import Seen
from waitroom.crowd import Crowd, Habits, Place, Plan, client
from waitroom.crowd.cheats import trials
from waitroom.crowd.client import Answer, Connection, Jar
from waitroom.crowd.people import Kind, Visitor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nshop"


@asynccontextmanager
async def listening(answer: Callable[[bytes], bytes | None], *, hang_up: bool = False) -> AsyncIterator[int]:
    """Yield the port of a server that answers each request's head; None closes, ``hang_up`` closes after an answer."""
    talks: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talks.add(task)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.partition(b"Content-Length: ")[2].split(b"\r\n")[0] or 0))
                answered = answer(head)
                writer.write(answered or b"")
                if answered is None or hang_up:
                    break
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
    await asyncio.wait_for(asyncio.gather(*talks), 20)


@asynccontextmanager
async def server(*answers: bytes | None, hang_up: bool = False) -> AsyncIterator[tuple[Connection, list[bytes]]]:
    """Yield a connection to a server that gives these answers in turn, and the requests it saw."""
    waiting, seen = list(answers), list[bytes]()

    def answer(head: bytes) -> bytes | None:
        seen.append(head)
        return waiting.pop(0)

    async with listening(answer, hang_up=hang_up) as port:
        connection = Connection("127.0.0.1", port)
        try:
            yield connection, seen
        finally:
            connection.close()


async def test_one_connection_carries_many_requests() -> None:
    """Answers by length, in chunks, without a body, and after an interim one are read whole, on one connection."""
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nsho\r\n1;x=y\r\np\r\n0\r\nTrailer: x\r\n\r\n"
    empty = b"HTTP/1.1 204 No Content\r\nWaitroom-State: none\r\n\r\n"
    interim = b"HTTP/1.1 100 Continue\r\n\r\n" + OK
    async with server(OK, chunked, empty, interim) as (connection, seen):
        answers = [await connection.ask("GET", "/event/", {"Accept": "text/html"}) for _ in range(4)]
    assert [answer and (answer.status, answer.body) for answer in answers] == [
        (200, b"shop"),
        (200, b"shop"),
        (204, b""),
        (200, b"shop"),
    ]
    assert seen[0].startswith(b"GET /event/ HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"\r\nAccept: text/html\r\n" in seen[0]
    assert answers[2] is not None
    assert answers[2].headers == {"waitroom-state": "none"}


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshop", id="cut off"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nshop", id="cut off in a chunk"),
        pytest.param(b"HTTP/1.1 200 OK\r\nConte", id="cut off in its headers"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n", id="too long"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", id="a length that is none"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", id="a chunk that is none"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, id="headers without end"),
        pytest.param(b"SSH-2.0-OpenSSH\r\n\r\n", id="not HTTP"),
        pytest.param(b"HTTP/1.1 soon\r\n\r\n", id="no status"),
        pytest.param(None, id="none at all"),
    ],
)
async def test_half_an_answer_is_none(answer: bytes | None) -> None:
    """An answer that is not whole and sound leaves the outcome unknown, and its connection is not used again."""
    async with server(answer, OK, hang_up=True) as (connection, _):
        assert await connection.ask("POST", "/event/order", {}) is None
        after = await connection.ask("GET", "/", {})
        assert after is not None
        assert after.body == b"shop"


async def test_an_answer_that_does_not_come_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A visitor waits for so long and no longer."""
    monkeypatch.setattr(client, "PATIENCE_S", 0.05)

    async with server(b"", b"") as (connection, _):
        assert await connection.ask("GET", "/", {}) is None


async def test_nobody_there_is_unknown() -> None:
    """A port on which nobody listens gives no answer, and no exception."""
    async with listening(lambda _: None) as port:
        pass
    assert await Connection("127.0.0.1", port).ask("GET", "/", {}) is None


async def test_only_a_get_is_sent_again() -> None:
    """A GET that finds its idle connection closed is sent once more; an order never is."""
    async with server(OK, None, OK) as (connection, seen):
        await connection.ask("GET", "/", {})
        again = await connection.ask("GET", "/again", {})
        assert again is not None
        assert [request.split()[1] for request in seen] == [b"/", b"/again", b"/again"]
    async with server(OK, None, OK) as (connection, seen):
        await connection.ask("GET", "/", {})
        assert await connection.ask("POST", "/order", {}) is None
        assert [request.split()[1] for request in seen] == [b"/", b"/order"]


async def test_a_connection_closed_while_idle_is_opened_anew() -> None:
    """What is sent after the other side has closed in good time goes over a new connection, an order too."""
    async with server(OK, OK, hang_up=True) as (connection, seen):
        await connection.ask("GET", "/", {})
        await asyncio.sleep(0.05)
        assert await connection.ask("POST", "/order", {}) is not None
    assert len(seen) == 2


def test_a_jar_keeps_what_is_set_and_lets_go() -> None:
    """A cookie is sent back as it was set, replaced by one of its name, and gone with Max-Age=0; a jar has an end."""
    jar = Jar()
    jar.keep(Answer(200, {}, ("waitroom_launch=t.1.x; Path=/; HttpOnly", "shop_session=a=b"), b""))
    assert jar.header() == {"Cookie": "waitroom_launch=t.1.x; shop_session=a=b"}
    jar.keep(Answer(200, {}, ("waitroom_launch=p.1.y; Path=/", "shop_session=; Max-Age=0"), b""))
    assert jar.header() == {"Cookie": "waitroom_launch=p.1.y"}
    jar.keep(Answer(200, {}, tuple(f"c{index}=1" for index in range(100)), b""))
    assert len(jar.header()["Cookie"].split("; ")) == client.COOKIES_MAX
    assert jar["waitroom_launch"] == "p.1.y"
    assert jar["another"] == ""


def test_no_cheat_shows_a_good_ticket_where_it_would_be_one() -> None:
    """Every trial differs from what its visitor may rightly do: none opens the page with the ticket that is theirs."""
    ticket = "t.1.0123abcd.launch.1.17.00112233445566aa.1700000000000.abcDEF-_123"
    found = trials(random.Random(1), "posing", "waitroom_launch", ticket)
    assert len(found) == len({(trial.method, trial.target, str(trial.headers)) for trial in found})
    for trial in found:
        assert not (trial.method == "GET" and trial.headers.get("Cookie") == f"waitroom_launch={ticket}")
        assert (trial.posed_as is not None) == ("posing" in trial.headers.values())
    assert found != trials(random.Random(2), "posing", "waitroom_launch", ticket)


# -- people -----------------------------------------------------------------------------------------------------------


def page(state: str, number: int, told_s: int = 0) -> bytes:
    """Return a waiting page."""
    body = f'<main data-number="{number}" data-ahead="3">'.encode()
    head = f"HTTP/1.1 200 OK\r\nWaitroom-State: {state}\r\nRetry-After: {told_s}\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body


def me(state: str, number: int | None = 1, **more: object) -> bytes:
    """Return an answer of `me`."""
    body = json.dumps({"state": state, "number": number, "ahead": 1, "refresh_s": 0.001, **more}).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body


class Notebook:
    """A log in memory."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []

    def now_s(self) -> float:
        """Return the loop's time."""
        return asyncio.get_running_loop().time()

    def saw(self, seen: Seen) -> None:
        """Keep it."""
        self.seen.append(seen)


async def lives(kind: Kind, answer: Callable[[str, int], bytes]) -> list[tuple[str, str | None]]:
    """Let one visitor live before a server that answers by target and count of requests; return what was seen."""
    count = itertools.count(1)
    notebook = Notebook()
    async with listening(lambda head: answer(head.split(b" ")[1].decode(), next(count))) as port:
        habits = Habits(late_s=0.01, think_s=0.001, silent_leavers=0)
        place = Place("127.0.0.1", port)
        visitor = Visitor("v", kind, place, habits=habits, log=notebook, chance=random.Random(1))
        visitor._told_s = 0.001
        await asyncio.wait_for(visitor.live(), 20)
    return [(seen.what, seen.state) for seen in notebook.seen]


async def test_a_faithful_visitor_waits_enters_orders_and_leaves() -> None:
    """The page is opened, asks until it is called, opens the document, and the visit ends with a leave."""

    def answer(target: str, count: int) -> bytes:
        if target.endswith("/me"):
            return me("waiting" if count < 4 else "called" if count == 4 else "admitted", pass_until=9)
        if target.endswith("/leave"):
            return me("none", None)
        return page("waiting", 1) if count == 1 else OK

    assert await lives(Kind.FAITHFUL, answer) == [
        ("document", "waiting"),
        ("me", "waiting"),
        ("me", "waiting"),
        ("me", "called"),
        ("document", "admitted"),
        ("me", "admitted"),
        ("cart", None),
        ("cart", None),
        ("order", None),
        ("leave", "none"),
    ]


@pytest.mark.parametrize(
    ("kind", "seen"),
    [
        (Kind.NEVER, [("document", "waiting")]),
        (Kind.VANISHES, [("document", "waiting"), ("me", "called")]),
    ],
)
async def test_a_ghost_is_gone(kind: Kind, seen: list[tuple[str, str | None]]) -> None:
    """Who vanishes asks for nothing after it: not once, or not after the call."""
    assert await lives(kind, lambda target, _: me("called") if target.endswith("/me") else page("waiting", 1)) == seen


async def test_who_is_told_of_no_place_gives_up() -> None:
    """A lost place is written down, not papered over by joining again."""
    answer = await lives(Kind.FAITHFUL, lambda target, _: me("none", None) if "/me" in target else page("waiting", 1))
    assert answer == [("document", "waiting"), ("me", "none")]


async def test_a_shop_that_fails_has_let_nobody_in() -> None:
    """An error page is no admission; the visitor tries to arrive a few times and goes."""
    failing = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"
    assert set(await lives(Kind.FAITHFUL, lambda *_: failing)) == {("document", None)}


@pytest.mark.parametrize("visitors", [1, 10, 120, 500])
def test_half_vanish_and_every_kind_is_dealt(visitors: int) -> None:
    """Of a crowd half vanish, a small one has a bit of everything, and one seed deals the same crowd again."""
    plan = Plan(visitors)
    kinds = Crowd(plan, Place("127.0.0.1", 1), io.StringIO())._kinds()
    assert len(kinds) == visitors
    assert kinds == Crowd(plan, Place("127.0.0.1", 1), io.StringIO())._kinds()
    counts = Counter(kinds)
    vanishing = counts[Kind.NEVER] + counts[Kind.LEAVES] + counts[Kind.VANISHES]
    assert abs(vanishing - visitors / 2) <= 3
    if visitors >= 120:
        assert counts.keys() == set(Kind)


async def test_who_still_stands_in_line_when_the_time_is_up_is_written_down() -> None:
    """A line that stands still is told as such: the run ends, and says who was left."""
    log = io.StringIO()
    async with listening(lambda _: page("waiting", 7, 60)) as port:
        place = Place("127.0.0.1", port)
        crowd = Crowd(Plan(1, arrive_s=0, limit_s=0.1, ordinary_per_s=100), place, log)
        await crowd.play()
    rows = [Seen(**json.loads(line)) for line in log.getvalue().splitlines()]
    assert [(seen.what, seen.number) for seen in rows if seen.what != "ordinary"] == [("document", 7), ("time-up", 7)]
    assert any(seen.what == "ordinary" for seen in rows)
    assert crowd.numbers().joined == 1
