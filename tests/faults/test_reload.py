"""Reloads and stops under load: no request fails, and nobody is cut off without a word.

The clients here are as unforgiving as a client can be: they keep connections and open new ones, and never ask twice. A
request that got no whole answer counts as failed, whoever is to blame.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
import time

import pytest
from raw_sockets import Peer

from waitroom.channel import Orders
from waitroom.model import Address, Admin, PathRule, Room, Settings, StoreUrl, WireLimits
from waitroom.sockets import listen
from waitroom.supervisor import Supervisor

REQUESTS = 2_000
RELOADS = 10
PER_SECOND = 100

GOING_AWAY = b"\x88\x02\x03\xe9"
CLIENT_CLOSES = b"\x88\x82\x00\x00\x00\x00\x03\xe9"
HELLO = b"\x81\x85\x00\x00\x00\x00hello"


class Origin:
    """A shop that takes its time: ``/slow`` waits for ``release``, and ``/chat`` becomes a WebSocket that echoes."""

    def __init__(self):
        self.release = asyncio.Event()
        self.slow_count = 0
        self.goodbyes = 0
        self.chance = random.Random(1)

    async def talk(self, reader, writer):
        """Answer one connection's requests."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"GET /chat"):
                    await self.chat(reader, writer)
                    return
                if head.startswith(b"GET /slow"):
                    self.slow_count += 1
                    await self.release.wait()
                else:
                    await asyncio.sleep(self.chance.random() * 0.03)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole")
        writer.close()

    async def chat(self, reader, writer):
        """Echo what comes, unmasked, until it is a Close frame; answer that, and close."""
        writer.write(b"HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        while (data := await reader.read(1000)) and data[0] == HELLO[0]:
            writer.write(b"\x81\x05hello")
        if data[:2] == b"\x88\x82":
            code = bytes(byte ^ data[2 + index] for index, byte in enumerate(data[6:8]))
            self.goodbyes += code == GOING_AWAY[2:]
            writer.write(GOING_AWAY)
        writer.close()


@contextlib.asynccontextmanager
async def house(folder, workers=2, drain_s=8.0):
    """A supervisor with everything below it, ready, in front of an origin."""
    origin = Origin()
    server = await asyncio.start_server(origin.talk, "127.0.0.1", 0)
    settings = Settings(
        listen=Address("127.0.0.1", 0),
        origin=Address("127.0.0.1", server.sockets[0].getsockname()[1]),
        rooms=(Room("launch", (PathRule("/event/"),)),),
        store=StoreUrl("sqlite", folder / "record.db"),
        secret_keys_file=folder / "keys",
        admin=Admin(Address("127.0.0.1", 0), folder / "admin-token"),
        workers=workers,
        limits=WireLimits(drain_timeout_s=drain_s),
    )
    orders = Orders(settings, ("k" * 32,), "json")
    with listen(settings.listen, "choose another") as sock:
        it = Supervisor(orders, sock, lambda: dataclasses.replace(orders))
        it.port = sock.getsockname()[1]
        it.running = asyncio.create_task(it.run())
        try:
            await ready(it, workers)
            yield it, origin
        finally:
            it.stop()
            await asyncio.wait({it.running})
            server.close()


async def ready(it, workers):
    """Wait until every worker is ready."""
    async with asyncio.timeout(20):
        while len(it._workers) != workers or not all(post.child.was_ready for post in it._workers):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


class Client:
    """Asks one thing after the other, and counts what failed.

    It ``keeps`` its connection as long as it may. One that ``looks`` sees whether it was closed meanwhile before it
    asks again; any other believes what it was told in the last answer.
    """

    def __init__(self, port, *, keeps, looks=False):
        self.port = port
        self.keeps = keeps
        self.looks = looks
        self.peer = None
        self.answered = 0
        self.reused = 0
        self.failed = []

    async def ask(self, path=b"/"):
        """Ask once, on the kept connection if there is one."""
        try:
            if self.looks and self.peer is not None and self.peer.reader.at_eof():
                self.leave()
            self.reused += self.peer is not None
            if self.peer is None:
                self.peer = Peer(*await asyncio.open_connection("127.0.0.1", self.port))
            close = b"" if self.keeps else b"Connection: close\r\n"
            await self.peer.send(b"GET %b HTTP/1.1\r\nHost: a\r\n%b\r\n" % (path, close))
            answer = await asyncio.wait_for(self.peer.read_response(), 10)
        except (OSError, EOFError, TimeoutError) as error:
            self.failed.append(repr(error))
            self.leave()
            return
        if (answer.status, answer.body) == (200, b"whole"):
            self.answered += 1
        else:
            self.failed.append(f"{answer.status} {answer.body!r}")
        if not self.keeps or answer[b"Connection"] == b"close":
            self.leave()

    def leave(self):
        """Close the connection."""
        if self.peer is not None:
            self.peer.finish()
        self.peer = None

    async def go_on(self, every_s, until_s, chance):
        """Ask again and again, at random moments."""
        while time.monotonic() + (pause_s := every_s * chance.uniform(0.5, 1.5)) < until_s:
            await asyncio.sleep(pause_s)
            await self.ask()
        self.leave()


async def test_ten_reloads_fail_no_request(tmp_path):
    """0 of 2,000 requests fail in ten reloads at 100 a second: kept connections, busy and rare ones, and new ones."""
    chance = random.Random(7)
    async with house(tmp_path) as (it, _):
        kept = [Client(it.port, keeps=True) for _ in range(30)]
        rare = [Client(it.port, keeps=True, looks=True) for _ in range(8)]
        fresh = [Client(it.port, keeps=False) for _ in range(10)]
        until_s = time.monotonic() + REQUESTS / PER_SECOND
        asking = [client.go_on(0.45, until_s, chance) for client in kept]
        asking += [client.go_on(4.0, until_s, chance) for client in rare]
        asking += [client.go_on(0.25, until_s, chance) for client in fresh]
        crowd = asyncio.gather(*asking)
        clients = kept + rare + fresh
        try:
            for _ in range(RELOADS):
                await asyncio.sleep(REQUESTS / PER_SECOND / RELOADS * 0.95)
                it.reload()
                assert not any(client.failed for client in clients), [client.failed for client in clients]
            await crowd
        finally:
            crowd.cancel()
        failed = [error for client in clients for error in client.failed]
        answered = sum(client.answered for client in clients)
        assert not failed, failed
        assert answered > 0.85 * REQUESTS
        assert sum(client.reused for client in kept) > answered / 4
        assert it.stats()['reloads_total{outcome="done"}'] == RELOADS
        assert it.stats()['child_deaths_total{role="worker"}'] == 0


async def greet(port):
    """Return a WebSocket that has said hello and was answered."""
    peer = Peer(*await asyncio.open_connection("127.0.0.1", port))
    await peer.send(b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert b" 101 " in await peer.read_head()
    await peer.send(HELLO)
    assert await peer.read_exactly(7) == b"\x81\x05hello"
    return peer


@pytest.mark.parametrize("stops", [True, False], ids=["a stop", "a reload"])
async def test_what_is_in_flight_is_finished(tmp_path, stops):
    """50 requests are answered whole, and 20 WebSockets and their origin told 1001, while we end or are replaced."""
    async with house(tmp_path, drain_s=20.0) as (it, origin):
        clients = [Client(it.port, keeps=index % 2 == 0) for index in range(50)]
        asking = [asyncio.create_task(client.ask(b"/slow")) for client in clients]
        sockets = [await greet(it.port) for _ in range(20)]
        async with asyncio.timeout(20):
            while origin.slow_count < len(clients):  # noqa: ASYNC110 - the origin is in the same loop
                await asyncio.sleep(0.01)
        began = time.monotonic()
        if stops:
            it.stop()
        else:
            it.reload()
        for peer in sockets:
            assert await peer.read_exactly(4) == GOING_AWAY
            await peer.send(CLIENT_CLOSES)
        for peer in sockets:
            assert await peer.read_to_end() == b""
            peer.finish()
        if stops:
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", it.port)
        assert not any(task.done() for task in asking)
        origin.release.set()
        await asyncio.gather(*asking)
        assert [error for client in clients for error in client.failed] == []
        assert sum(client.answered for client in clients) == len(clients)
        assert all(client.peer is None for client in clients), "an answer did not say that the connection closes"
        assert origin.goodbyes == len(sockets)
        if stops:
            assert await it.running == 0
            assert time.monotonic() - began < 20.0
