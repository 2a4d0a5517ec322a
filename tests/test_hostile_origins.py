"""A shop that lies, hangs, resets and never ends, behind a whole house: what becomes of the visitor, and of the next.

Each deed is done on the connection to the shop, to a GET, to a POST and to an HTTP/1.0 client. Whatever it is, the
visitor gets an answer of ours or one that is visibly cut, and keeps the pass; nobody else gets any of it, because that
connection is never used again; a POST was sent once; and the operator reads of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from house import House, RecordingOrigin, Visitor, running, until
from strict_reader import Message, answers, requests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE_S = 10.0
OK = b"HTTP/1.1 200 OK\r\n"
FOUR = OK + b"Content-Length: 4\r\n\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
LONG = OK + b"Content-Length: 100000\r\n\r\n"

CLOSE, RESET, HANG = "close", "reset", "hang"


class Forever(bytes):
    """Bytes that are sent again and again, until nobody takes them any more."""


class Drip(bytes):
    """Bytes that are sent one at a time, a few in a second, again and again."""


@dataclass(frozen=True)
class Deed:
    """What a shop sends, step by step, and what a visitor gets of it: statuses, or ``cut``.

    ``logged`` says that an operator should read of it, ``kept`` that the connection is as good as before.
    """

    steps: tuple[bytes | str, ...]
    gets: tuple[int | str, ...]
    logged: bool = True
    kept: bool = False


def broken(*steps: bytes | str) -> Deed:
    """Return a deed that nobody gets to see: 502."""
    return Deed(steps, (502,))


def cut(*steps: bytes | str) -> Deed:
    """Return a deed that is seen to be cut."""
    return Deed(steps, ("cut",))


DEEDS = {
    # The head.
    "no HTTP": broken(b"hello\r\n\r\n", HANG),
    "a bad version": broken(b"HTP/1.1 200 OK\r\n\r\n", HANG),
    "HTTP/2": broken(b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", HANG),
    "a status of two digits": broken(b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n", HANG),
    "a status of four digits": broken(b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n", HANG),
    "status 99": broken(b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n", HANG),
    "headers without end": broken(OK, Forever(b"X: y\r\n")),
    "a header without end": broken(OK + b"X: ", Forever(b"y" * 1000)),
    "a status line without end": broken(b"HTTP/1.1 200 ", Forever(b"y" * 1000)),
    "a long header": broken(OK + b"Content-Length: 4\r\nX: " + b"y" * 70_000 + b"\r\n\r\nshop", HANG),
    "many headers": broken(OK + b"Content-Length: 4\r\n" + b"X: y\r\n" * 300 + b"\r\nshop", HANG),
    "two lengths": broken(OK + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nshop!", HANG),
    "the same length twice": broken(OK + b"Content-Length: 4\r\nContent-Length: 4\r\n\r\nshop", HANG),
    "a list of lengths": broken(OK + b"Content-Length: 4, 4\r\n\r\nshop", HANG),
    "a signed length": broken(OK + b"Content-Length: +4\r\n\r\nshop", HANG),
    "a negative length": broken(OK + b"Content-Length: -4\r\n\r\nshop", HANG),
    "a length of 30 digits": broken(OK + b"Content-Length: %b4\r\n\r\nshop" % (b"0" * 29), HANG),
    "a length and a coding": broken(OK + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", HANG),
    "a coding and a length": broken(OK + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n", HANG),
    "another coding": broken(OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", HANG),
    "chunked twice": broken(OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", HANG),
    "a coding on 1.0": broken(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", HANG),
    "a NUL in a value": broken(OK + b"X: a\x00b\r\nContent-Length: 4\r\n\r\nshop", HANG),
    "a NUL in a name": broken(OK + b"X\x00: a\r\nContent-Length: 4\r\n\r\nshop", HANG),
    "a CR in a value": broken(OK + b"X: a\rb\r\nContent-Length: 4\r\n\r\nshop", HANG),
    "a control byte in the reason": broken(b"HTTP/1.1 200 O\x00K\r\nContent-Length: 4\r\n\r\nshop", HANG),
    "a folded line": broken(OK + b"X: a\r\n b\r\nContent-Length: 4\r\n\r\nshop", HANG),
    "a space before the colon": broken(OK + b"Content-Length : 4\r\n\r\nshop", HANG),
    "a line without a colon": broken(OK + b"nothing\r\nContent-Length: 4\r\n\r\nshop", HANG),
    "bare LF": broken(b"HTTP/1.1 200 OK\nContent-Length: 4\n\nshop", HANG),
    "bare LF within": broken(OK + b"X: y\nContent-Length: 4\r\n\r\nshop", HANG),
    # Interim answers, and switching.
    "100 without end": broken(Forever(b"HTTP/1.1 100 Continue\r\n\r\n")),
    "103 without end, with fields": broken(Forever(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")),
    "an interim answer with a body": broken(b"HTTP/1.1 100 Continue\r\nContent-Length: 4\r\n\r\nshop", HANG),
    "a switch nobody asked for": broken(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", HANG
    ),
    # The body.
    "no chunk's size": cut(CHUNKED + b"zz\r\n", HANG),
    "a chunk longer than its size": cut(CHUNKED + b"4\r\nshop!\r\n0\r\n\r\n", HANG),
    "a size of 20 digits": cut(CHUNKED + b"f" * 20 + b"\r\nshop", HANG),
    "a size without end": cut(CHUNKED, Forever(b"0" * 1000)),
    "bare LF after a size": cut(CHUNKED + b"4\nshop\r\n0\r\n\r\n", HANG),
    "extensions without end": cut(CHUNKED, Forever(b"1;" + b"x" * 1000 + b"\r\ny\r\n")),
    "trailers without end": cut(CHUNKED + b"4\r\nshop\r\n0\r\n", Forever(b"X: y\r\n")),
    "a bad trailer": cut(CHUNKED + b"4\r\nshop\r\n0\r\nX : y\r\n\r\n", HANG),
    "longer than said": Deed((FOUR + b"shop and more",), (200,)),
    "an answer too many": Deed((FOUR + b"shop" + FOUR + b"evil", HANG), (200,)),
    "an answer too many, later": Deed((FOUR + b"shop", "pause", FOUR + b"evil", HANG), (200,)),
    "a body with 204": Deed((b"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nevil", HANG), (204,)),
    "a body with 304": Deed((b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nevil", HANG), (304,)),
    # Its end.
    "closes at once": broken(CLOSE),
    "closes within the head": broken(OK + b"Content-Le", CLOSE),
    "closes within the body": cut(LONG + b"shop", CLOSE),
    "closes within a chunk": cut(CHUNKED + b"40\r\nshop", CLOSE),
    "closes between chunks": cut(CHUNKED + b"4\r\nshop\r\n", CLOSE),
    "closes before the trailers end": cut(CHUNKED + b"4\r\nshop\r\n0\r\n", CLOSE),
    "resets at once": broken(RESET),
    "resets within the head": broken(OK + b"Content-Le", "pause", RESET),
    "resets after the head": cut(LONG, "pause", RESET),
    "resets within the body": cut(LONG + b"shop", "pause", RESET),
    "resets between chunks": cut(CHUNKED + b"4\r\nshop\r\n", "pause", RESET),
    "resets a body until the close": cut(OK + b"\r\nshop", "pause", RESET),
    "resets after the answer": Deed((FOUR + b"shop", "pause", RESET), (200,), logged=False),
    # Silence.
    "hangs before the head": Deed((HANG,), (504,)),
    "hangs within the head": Deed((OK + b"Content-Le", HANG), (504,)),
    "a head that drips": Deed((OK, Drip(b"X: y\r\n")), (504,)),
    "hangs after an interim answer": Deed((b"HTTP/1.1 100 Continue\r\n\r\n", HANG), (504,)),
    "hangs after the head": cut(LONG, HANG),
    "hangs within the body": cut(LONG + b"shop", HANG),
    "hangs within a chunk": cut(CHUNKED + b"40\r\nshop", HANG),
    "hangs until the close": cut(OK + b"\r\nshop", HANG),
    # What is no fault, and none of our business.
    "redirects in a circle": Deed(
        (b"HTTP/1.1 302 Found\r\nLocation: /event/deed\r\nContent-Length: 0\r\n\r\n",), (302,), logged=False, kept=True
    ),
}


@dataclass
class Line:
    """One connection to the shop: what was asked on it, and whether a deed was done."""

    heard: list[Message] = field(default_factory=list)
    done_after: int | None = None
    kept: bool = False
    over: bool = False


class HostileOrigin(RecordingOrigin):
    """A shop that answers each request with its own mark, or does the deed that the request names."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[Line] = []

    def settled(self) -> bool:
        """Whether every deed is done with, and its connection where it must not be kept."""
        return all(line.over for line in self.lines if line.done_after is not None)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line, unread = Line(), b""
        self.lines.append(line)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            while data := await reader.read(65536):
                heard = requests(unread + data)
                unread = heard.rest
                for message in heard.messages:
                    line.heard.append(message)
                    deed = message.one(b"x-deed")
                    if deed is None:
                        mark = message.one(b"x-mark") or b"-"
                        writer.write(OK + b"Content-Length: %d\r\n\r\n" % len(mark) + mark)
                    else:
                        line.done_after, line.kept = len(line.heard), DEEDS[deed.decode()].kept
                        try:
                            await self._do(DEEDS[deed.decode()], reader, writer)
                        finally:
                            line.over = True
        with contextlib.suppress(RuntimeError):
            writer.close()

    async def _do(self, deed: Deed, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for step in deed.steps:
            match step:
                case "pause":
                    await asyncio.sleep(0.03)
                case "close":
                    writer.close()
                case "reset":
                    sock = writer.get_extra_info("socket")
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    writer.transport.abort()
                case "hang":
                    await reader.read()
                case Forever():
                    while not writer.is_closing():
                        writer.write(step * 20)
                        await writer.drain()
                case Drip():
                    while not writer.is_closing():
                        for byte in step:
                            writer.write(bytes([byte]))
                            await asyncio.sleep(0.02)
                case bytes():
                    writer.write(step)
                    await writer.drain()


@pytest.fixture(scope="module")
def origin() -> Iterator[HostileOrigin]:
    """One shop for all deeds."""
    hostile = HostileOrigin()
    hostile.start()
    yield hostile
    hostile.stop()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, origin: HostileOrigin) -> Iterator[House]:
    """A house with one place, and little patience with its shop."""
    limits = {"joins_per_client": None, "first_byte_timeout": "1s", "idle_timeout": "1s"}
    room = {"always_queue": True, "total_active_users": 1, "session_duration": "2h"}
    with running(tmp_path_factory.mktemp("hostile-origins"), origin, room, limits=limits) as started:
        yield started


@pytest.fixture(scope="module")
def inside(house: House) -> bytes:
    """The cookie of the one who is inside."""
    visitor = Visitor(house)
    visitor.event()
    until(lambda: visitor.me()["state"] == "called" and visitor.event().text == "-")
    visitor.event()
    until(lambda: visitor.me()["pass_until"] / 1000 - time.time() > 3600)
    return b"Cookie: waitroom_launch=%b\r\n" % visitor.token().encode()


@pytest.fixture(scope="module")
def waiting(house: House, inside: bytes) -> Visitor:
    """Somebody in line."""
    visitor = Visitor(house)
    visitor.event()
    return visitor


def said(house: House, since: int) -> list[dict[str, object]]:
    """Return what the log says of the shop from a place on, and that it holds no fault of ours."""
    with house.log.open("rb") as log:
        log.seek(since)
        lines = [json.loads(line) for line in log.read().splitlines() if line.startswith(b"{")]
    faults = [line for line in lines if "traceback" in line or line["level"] == "error"]
    assert not faults, faults
    return [line for line in lines if str(line.get("reason", "")).startswith("origin-")]


def ask(house: House, raw: bytes, *, settled: Callable[[], bool] | None = None) -> tuple[int | str, list[Message]]:
    """Send one request; return the status, or ``cut`` for an answer that does not look whole, and what came."""
    came, reset = b"", False
    with socket.create_connection(("127.0.0.1", house.port), timeout=PATIENCE_S) as sock:
        sock.sendall(raw)
        try:
            while piece := sock.recv(65536):
                came += piece
        except ConnectionError:
            reset = True
    if settled is not None:
        until(settled)
    heard = answers(came, ended=not reset, heads=False)
    final = [message for message in heard.messages if message.status >= 200]
    if reset or heard.rest or not final:
        return "cut", heard.messages
    assert len(final) == 1, heard
    return final[0].status, heard.messages


def fine(house: House, target: bytes, mark: bytes, more: bytes = b"") -> None:
    """Ask for something plain, and get one's own answer."""
    head = b"GET %b HTTP/1.1\r\nHost: a\r\nX-Mark: %b\r\nConnection: close\r\n%b\r\n" % (target, mark, more)
    status, heard = ask(house, head)
    assert (status, heard[-1].body) == (200, mark)


@pytest.mark.parametrize("what", DEEDS)
def test_a_hostile_shop_harms_nobody_but_itself(
    house: House, origin: HostileOrigin, inside: bytes, waiting: Visitor, what: str
) -> None:
    """The visitor's answer is ours or visibly cut, the place and the pass are kept, and the next gets their own."""
    deed = DEEDS[what]
    mark = re.sub(rb"[^a-z0-9]+", b"-", what.lower().encode())
    since, number = house.log.stat().st_size, waiting.me()["number"]
    head = b"Host: a\r\nX-Mark: %b\r\nX-Deed: %b\r\nConnection: close\r\n%b" % (mark, what.encode(), inside)
    row = [
        b"POST /event/deed HTTP/1.1\r\n" + head + b"Content-Length: 5\r\n\r\norder",
        b"GET /event/deed HTTP/1.1\r\n" + head + b"\r\n",
        b"GET /event/deed HTTP/1.0\r\n" + head + b"\r\n",
    ]
    fine(house, b"/before", b"before-" + mark)  # and leave a kept connection, for the order to go out on
    # What comes after an answer is waited for: once the next request is out, nobody could tell it from its answer.
    whole = not {502, 504, "cut"} & set(deed.gets)
    with ThreadPoolExecutor(1 if whole else len(row)) as pool:
        for status, heard in pool.map(lambda raw: ask(house, raw, settled=origin.settled if whole else None), row):
            assert status in deed.gets, heard
            if status in (502, 504):
                assert heard[-1].one(b"waitroom-state") == b"admitted"
                assert heard[-1].one(b"retry-after") is not None
            assert not any(b"evil" in message.body for message in heard)
    fine(house, b"/next", b"next-" + mark)
    fine(house, b"/event/next", b"inside-" + mark, inside)
    told = waiting.me()
    assert (told["state"], told["number"], told["ahead"]) == ("waiting", number, 0)

    until(lambda: sum(line.done_after is not None for line in origin.lines) >= 3)
    for line in origin.lines:
        assert line.kept or line.done_after in (None, len(line.heard)), "a connection was used again"
    asked = [message for line in origin.lines for message in line.heard if message.one(b"x-mark") == mark]
    assert sum(message.start[0] == b"POST" for message in asked) == 1
    found = said(house, since)
    if deed.logged and not found:  # ten lines a second a reason are written, and the deeds before had them
        time.sleep(1)
        ask(house, row[1])
        found = said(house, since)
    assert bool(found) == deed.logged, found
    assert all(line.get("room", "launch") == "launch" for line in found)
