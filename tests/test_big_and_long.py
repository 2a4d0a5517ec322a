"""Big and long messages through a real worker process: what streams is not held, and what waits is not waited for."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import threading
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from house import House, RecordingOrigin, running
from strict_reader import answers

if TYPE_CHECKING:
    from collections.abc import Iterator

MEBI = 1 << 20
SIZE = 200 * MEBI
BLOCK = bytes(index * 31 % 251 for index in range(MEBI))
PAUSE_S = 0.2
"""How long each side does not read, in the middle: what would be held meanwhile would be held now."""

TOLD_S = 10
"""How long the shop waits to be told to go on: a test that failed says nothing any more."""

PAGE = bytes(range(256)) * 4


class Shop(RecordingOrigin):
    """A shop with something big, something that comes bit by bit, something that is waited for, and ranges."""

    def __init__(self) -> None:
        super().__init__()
        self.received = 0
        self.sum = 0
        self.go_on = threading.Semaphore(0)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                match head.split(b" ")[1]:
                    case b"/big":
                        await self._take_big(reader)
                        await self._send_big(writer)
                    case b"/events":
                        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
                        for turn in range(5):
                            await self._told()
                            writer.write(b"data: %d\n\n" % turn)
                        break
                    case b"/poll":
                        await self._told()
                        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nnow")
                    case _:
                        writer.write(ranged(head))
        with contextlib.suppress(RuntimeError):
            writer.close()

    async def _told(self) -> None:
        """Wait until the test says so."""
        await asyncio.get_running_loop().run_in_executor(None, self._allowed)

    def _allowed(self) -> bool:
        return self.go_on.acquire(timeout=TOLD_S)

    async def _take_big(self, reader: asyncio.StreamReader) -> None:
        while self.received < SIZE:
            data = await reader.read(MEBI)
            if not data:
                raise ConnectionError
            if self.received < SIZE // 2 <= self.received + len(data):
                await asyncio.sleep(PAUSE_S)
            self.received += len(data)
            self.sum = zlib.crc32(data, self.sum)

    async def _send_big(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
        for _ in range(SIZE // MEBI):
            writer.write(BLOCK)
            await writer.drain()


def ranged(head: bytes) -> bytes:
    """Answer a request for a part of the page, as RFC 9110 (14) has it."""
    found = re.search(rb"\r\nRange: bytes=(\d+)-(\d*)\r\n", head)
    if not found:
        return b"HTTP/1.1 200 OK\r\nAccept-Ranges: bytes\r\nContent-Length: %d\r\n\r\n%b" % (len(PAGE), PAGE)
    first, last = int(found[1]), int(found[2] or len(PAGE) - 1)
    if first >= len(PAGE):
        return b"HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */%d\r\nContent-Length: 0\r\n\r\n" % len(
            PAGE
        )
    part = PAGE[first : last + 1]
    span = (first, last, len(PAGE), len(part), part)
    return b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes %d-%d/%d\r\nContent-Length: %d\r\n\r\n%b" % span


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    """One shop for all of it."""
    started = Shop()
    started.start()
    yield started
    started.stop()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, shop: Shop) -> Iterator[House]:
    """A house that takes bodies of any size."""
    limits = {"joins_per_client": None, "body_bytes": None}
    with running(tmp_path_factory.mktemp("big"), shop, limits=limits) as started:
        yield started


def memory_kib(pid: int, name: str) -> int:
    """Return a line of a process's own account of its memory."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])


def connect(house: House) -> socket.socket:
    """Return a connection to the house."""
    return socket.create_connection(("127.0.0.1", house.port), timeout=20)


def until_mark(sock: socket.socket, mark: bytes) -> bytes:
    """Read up to a mark."""
    came = b""
    while mark not in came:
        piece = sock.recv(65536)
        assert piece, came
        came += piece
    return came


def test_two_hundred_megabytes_pass_both_ways_in_twenty(house: House, shop: Shop) -> None:
    """A body of 200 MB up and one of 200 MB down, each held up on its way, and the worker never holds 20 MB more."""
    worker = house.worker_pid()
    with connect(house) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        until_mark(sock, PAGE[-256:])
        before = memory_kib(worker, "VmRSS")
        Path(f"/proc/{worker}/clear_refs").write_text("5")  # the peak counts from here
        sock.sendall(b"POST /big HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % SIZE)
        wanted = 0
        for _ in range(SIZE // MEBI):
            sock.sendall(BLOCK)
            wanted = zlib.crc32(BLOCK, wanted)
        head, _, came = until_mark(sock, b"\r\n\r\n").partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert (shop.received, shop.sum) == (SIZE, wanted)
        size, found = len(came), zlib.crc32(came)
        threading.Event().wait(PAUSE_S)
        while size < SIZE:
            piece = sock.recv(MEBI)
            assert piece
            size += len(piece)
            found = zlib.crc32(piece, found)
        assert (size, found) == (SIZE, wanted)
    assert memory_kib(worker, "VmHWM") - before < 20 * 1024


def test_events_come_one_by_one_and_a_long_poll_when_it_is_answered(house: House, shop: Shop) -> None:
    """Each event is here before the shop makes the next, and a poll's answer as soon as there is one."""
    with connect(house) as sock:
        sock.sendall(b"GET /events HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\nConnection: close\r\n\r\n")
        came = until_mark(sock, b"\r\n\r\n")
        assert b"data" not in came
        for turn in range(5):
            shop.go_on.release()
            came += until_mark(sock, b"data: %d\n\n" % turn)
        came += sock.recv(65536)
        [stream] = answers(came, ended=True).messages
        assert stream.body == b"".join(b"data: %d\n\n" % turn for turn in range(5))
    with connect(house) as sock:
        sock.sendall(b"GET /poll HTTP/1.1\r\nHost: a\r\n\r\n")
        sock.settimeout(PAUSE_S)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        shop.go_on.release()
        sock.settimeout(20)
        assert until_mark(sock, b"now").startswith(b"HTTP/1.1 200 ")


def test_ranges_are_the_shops_to_give(house: House) -> None:
    """A part, the rest, and a part that there is not: asked for and answered as they stand, on one connection."""
    with connect(house) as sock:
        for span in (b"bytes=0-9", b"bytes=1000-", b"bytes=4000-"):
            sock.sendall(b"GET /page HTTP/1.1\r\nHost: a\r\nRange: %b\r\n\r\n" % span)
        sock.sendall(b"GET /page HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        came = b""
        while piece := sock.recv(65536):
            came += piece
    part, rest, none, page = answers(came, ended=True).messages
    assert (part.status, part.body, part.one(b"content-range")) == (206, PAGE[:10], b"bytes 0-9/1024")
    assert (rest.status, rest.body, rest.one(b"content-range")) == (206, PAGE[1000:], b"bytes 1000-1023/1024")
    assert (none.status, none.one(b"content-range")) == (416, b"bytes */1024")
    assert (page.status, page.body, page.one(b"accept-ranges")) == (200, PAGE, b"bytes")
