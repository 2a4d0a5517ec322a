"""After hundreds of connections that ended badly, nothing of them is left; and while they last, nobody else waits.

Descriptors and memory are counted from outside, in a real worker; tasks, pooled connections and the wire's own sets
from inside, on the same wire in this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from house import House, RecordingOrigin, running, until
from raw_sockets import proxy
from raw_sockets import until as until_here

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RESET = struct.pack("ii", 1, 0)
ROUNDS = 100
HEAD = b"Host: a\r\n"
BIG = 1 << 20

HOSTILE = {
    "within a head": b"GET /plain HTTP/1.1\r\nHo",
    "within a body": b"POST /plain HTTP/1.1\r\n" + HEAD + b"Content-Length: 100\r\n\r\nabc",
    "within a chunk": b"POST /plain HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n40\r\nabc",
    "while waiting": b"GET /hang HTTP/1.1\r\n" + HEAD + b"\r\n",
    "while waiting, sent ahead": b"GET /hang HTTP/1.1\r\n" + HEAD + b"\r\nGET /plain HTTP/1.1\r\n" + HEAD + b"\r\n",
    "after an order": b"POST /plain HTTP/1.1\r\n" + HEAD + b"Content-Length: 3\r\n\r\nabc",
    "within an answer": b"GET /big HTTP/1.1\r\n" + HEAD + b"\r\n",
    "in a tunnel": b"GET /tunnel HTTP/1.1\r\n" + HEAD + b"Connection: Upgrade\r\nUpgrade: x\r\n\r\n",
    "the shop resets": b"GET /reset HTTP/1.1\r\n" + HEAD + b"\r\n",
    "the shop resets within an answer": b"GET /cut HTTP/1.1\r\n" + HEAD + b"\r\n",
    "nonsense": b"\x16\x03\x01nonsense\r\n\r\n",
    "in line": b"GET /event/ HTTP/1.1\r\n" + HEAD + b"Accept: text/html\r\n\r\n",
}
SPEAK_FIRST = ("within an answer", "in a tunnel", "the shop resets", "the shop resets within an answer", "nonsense")
"""Of these something is read before the connection is ended."""


async def misbehave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Be a shop that answers, hangs, streams, switches or resets, as the path says."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"Content-Length: (\d+)", head)
            if length:
                await reader.readexactly(int(length[1]))
            match head.split(b" ")[1]:
                case b"/hang":
                    await reader.read()
                case b"/big":
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 * BIG))
                    while not writer.is_closing():
                        writer.write(b"x" * BIG)
                        await writer.drain()
                case b"/tunnel":
                    writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
                    await reader.read()
                case b"/reset" | b"/cut" as path:
                    if path == b"/cut":
                        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
                        await asyncio.sleep(0.005)
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    writer.transport.abort()
                    return
                case _:
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nshop")


class Shop(RecordingOrigin):
    """That shop, listening in a thread."""

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await misbehave(reader, writer)
        with contextlib.suppress(RuntimeError):
            writer.close()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house with a full room and little patience for half a head."""
    shop = Shop()
    shop.start()
    limits = {"joins_per_client": None, "header_timeout": "2s", "drain_timeout": "2s"}
    room = {"always_queue": True, "queue_all": True}
    try:
        with running(tmp_path_factory.mktemp("leaks"), shop, room, limits=limits) as started:
            yield started
    finally:
        shop.stop()


def end_badly(port: int, what: str, *, reset: bool) -> None:
    """Begin something, and end the connection at once, by a reset or in order."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(HOSTILE[what])
        if what in SPEAK_FIRST:
            with contextlib.suppress(ConnectionError):
                sock.recv(1000)
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def open_files(pid: int) -> int:
    """Return how many files a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def resident_kib(pid: int) -> int:
    """Return how much memory a process has."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])


def ask(house: House, target: str = "/plain") -> None:
    """Be an ordinary visitor."""
    assert httpx.get(house.url + target, trust_env=False, timeout=60).text == "shop"


def came(sock: socket.socket) -> bytes | None:
    """Return what has come on a connection by now: its end is no bytes, and nothing at all is None."""
    sock.settimeout(0)
    try:
        return sock.recv(1000)
    except BlockingIOError:
        return None
    except ConnectionError:
        return b""
    finally:
        sock.settimeout(10)


def test_a_worker_keeps_nothing_of_connections_that_ended_badly(house: House) -> None:
    """Hundreds of each kind: the worker has as many files open as before, and hardly more memory."""
    worker = house.worker_pid()

    def play(rounds: int) -> None:
        for turn in range(rounds):
            for what in HOSTILE:
                end_badly(house.port, what, reset=bool(turn % 2))

    def settled(files: int) -> Callable[[], bool]:
        return lambda: open_files(worker) <= files

    ask(house)
    files = open_files(worker) + 4  # what is kept for the next request to the shop
    play(20)  # what is made once has been made then
    until(settled(files))
    before = resident_kib(worker)
    play(ROUNDS)
    until(settled(files), "files are left open")
    assert resident_kib(worker) - before < 4 * 1024
    ask(house)
    text = house.log.read_text()
    assert "raceback" not in text
    assert '"level": "error"' not in text


def test_slow_senders_keep_nobody_waiting_and_come_to_an_end(house: House) -> None:
    """Hundreds send a head or a body byte by byte: others are served meanwhile, and half a head has only its time.

    That nobody waits for them is seen by the order of things, not by a clock: visitors are answered while the last of
    the slow ones, who has just begun, is still being waited for. On a busy machine that may take more than one try.
    """
    drip = {
        b"GET /plain HTTP/1.1\r\nX: ": b"y",
        b"POST /plain HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n\r\n": b"y",
        b"POST /plain HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n": b"1\r\ny\r\n",
    }
    slow: list[tuple[socket.socket, bytes]] = []

    def begin() -> None:
        while slow:
            slow.pop()[0].close()
        for start, more in [*drip.items()][::-1] * 100:
            slow.append((socket.create_connection(("127.0.0.1", house.port), timeout=10), more))
            slow[-1][0].sendall(start)

    def trickle() -> None:
        for sock, more in slow:
            with contextlib.suppress(ConnectionError):
                sock.sendall(more)

    def served_beside_them() -> bool:
        begin()
        for _ in range(2):  # at the first answer all have been accepted; their time goes on until the second
            trickle()
            ask(house)
        return came(slow[-1][0]) is None

    assert any(served_beside_them() for _ in range(8)), "visitors wait until the slow ones' time is over"
    answers: dict[socket.socket, bytes] = {}

    def heads_ended() -> bool:
        trickle()
        for sock, _ in slow[2::3]:
            if sock not in answers and (answer := came(sock)) is not None:
                answers[sock] = answer
        return len(answers) == len(slow) // 3

    until(heads_ended, "trickling bought more time")
    assert {answer[:12] for answer in answers.values()} <= {b"HTTP/1.1 408", b""}
    ask(house)
    while slow:
        slow.pop()[0].close()
    worker = house.worker_pid()
    until(lambda: open_files(worker) < 100)


@pytest.mark.parametrize("what", [what for what in HOSTILE if what != "in line"])
async def test_nothing_is_left_inside_of_connections_that_ended_badly(what: str) -> None:
    """No task, no connection to the shop but idle ones, nothing undecided, and no wire."""

    async def script(_: object, peer: object) -> None:
        await misbehave(peer.reader, peer.writer)

    async with proxy(script) as front:
        tasks = len(asyncio.all_tasks())
        for turn in range(2 * ROUNDS):
            client = await front.connect()
            await client.send(HOSTILE[what])
            if what in SPEAK_FIRST:
                with contextlib.suppress(ConnectionError):
                    await client.read_some()
            if turn % 2:
                client.reset()
            else:
                client.finish()
        del client
        front.clients.clear()
        await asyncio.sleep(0.05)  # for the ends to arrive
        front.later(1.1)  # a second later, who sent ahead and left is noticed
        await until_here(lambda: not front.hall.wires and not front.hall.undecided)
        await until_here(lambda: front.origin.open == front.origin.idle)
        assert front.origin.idle <= 2 * ROUNDS
        front.origin.close()
        await until_here(lambda: front.origin.open == 0 and not front.origin._connecting)
        await until_here(lambda: len(asyncio.all_tasks()) <= tasks)
