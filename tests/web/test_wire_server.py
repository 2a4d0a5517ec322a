"""The wire under ``uvicorn.Server`` on an inherited socket: start, drain, and the seams it hangs on."""

import asyncio
import contextlib
import os
import socket
import time
from dataclasses import dataclass

import pytest
import uvicorn
from raw_sockets import Peer, RawOrigin, echo, forward_to, until

from waitroom.errors import StartError
from waitroom.model import WireLimits
from waitroom.upstream import Origin
from waitroom.web import wire as wire_module
from waitroom.web.hall import Hall
from waitroom.web.messages import Reply
from waitroom.web.wire import check_uvicorn, wire_class
from waitroom.worker import Server

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@dataclass
class Parts:
    """What a worker's server needs to know of its worker."""

    hall: Hall
    drain_s: float

    def uvicorn_config(self, backlog):
        """Return the configuration of a server that has no use for ASGI."""

        async def app(scope, receive, send):
            raise AssertionError("no request reaches ASGI")

        http = wire_class(self.hall)
        return uvicorn.Config(app, http=http, ws="none", lifespan="off", log_level="critical", access_log=False)

    def begin_to_drain(self):
        """Begin to drain."""
        self.hall.begin_to_drain(self.drain_s)

    async def drain(self):
        """Drain."""
        await self.hall.drain()


@contextlib.asynccontextmanager
async def serving(desk, drain_s=4.0):
    """A worker's server on a socket that was listening before it, and a way to connect."""
    hall = Hall(desk, WireLimits())
    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    server = Server(Parts(hall, drain_s))
    server.hall, server.port, server.clients = hall, port, []
    server.ended = asyncio.ensure_future(server.serve(sockets=[sock]))
    await until(lambda: server.started)
    try:
        yield server
    finally:
        server.stop()
        for client in server.clients:
            client.finish()
        await asyncio.wait_for(server.ended, 20)


async def connect(server):
    """Return a client of the server, which closes it in the end."""
    server.clients.append(Peer(*await asyncio.open_connection("127.0.0.1", server.port)))
    return server.clients[-1]


async def test_it_serves_under_uvicorn():
    """The server accepts and hands over; requests never reach ASGI; the end of the server ends idle connections."""
    async with serving(lambda _: Reply(200, body=b"ok")) as server:
        client = await connect(server)
        await client.send(GET)
        assert (await client.read_response()).body == b"ok"
        assert server.server_state.connections == server.hall.wires


async def test_draining_drops_nothing():
    """Begun to stop, a request under way is finished, an idle connection gets one more, and both are told to close."""
    release = asyncio.Event()

    async def slow(origin, peer):
        while True:
            _, target, _, _ = await origin.read_request(peer)
            if target == b"/slow":
                await release.wait()
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async with RawOrigin(slow) as raw:
        origin = Origin(raw.address, WireLimits())
        async with serving(forward_to(origin)) as server:
            idle, busy, silent = [await connect(server) for _ in range(3)]
            await idle.send(GET)
            await idle.read_response()
            await busy.send(GET.replace(b"/ ", b"/slow "))
            await until(lambda: len(raw.requests) == 2 and len(server.hall.wires) == 3)
            server.stop()
            await idle.send(GET)
            last = await idle.read_response()
            assert (last.body, last[b"Connection"]) == (b"ok", b"close")
            assert await idle.read_to_end() == b""
            release.set()
            last = await busy.read_response()
            assert (last.body, last[b"Connection"]) == (b"ok", b"close")
            assert await busy.read_to_end() == b""
            server.hall.reap(asyncio.get_running_loop().time() + 2.1)
            assert await silent.read_to_end() == b""
            origin.close()


async def test_nothing_is_accepted_after_the_word_to_stop():
    """From the moment it is told, a worker leaves new connections to its siblings, which listen on the same socket."""
    async with serving(lambda _: Reply(200, body=b"ok")) as server:
        client = await connect(server)
        await client.send(GET)
        await client.read_response()
        (listening,) = server.servers[0].sockets
        sibling = listening.dup()
        server.stop()
        with sibling:
            late = await connect(server)
            await late.send(GET)
            await asyncio.sleep(0.05)
            assert len(server.hall.wires) == 1
            accepted, address = sibling.accept()
            accepted.close()
            assert address == late.writer.get_extra_info("sockname")


async def test_a_connection_accepted_in_the_turn_of_the_stop_is_served():
    """The word to stop may come between the accepting of a connection and the moment the loop tells of it."""
    async with serving(lambda _: Reply(200, body=b"ok")) as server:
        bound = server.config.http_protocol_class

        class Sudden(bound):
            """A connection that is made just before the end."""

            def __init__(self, *args, **kwargs):
                super().__init__(*args, **kwargs)
                asyncio.get_running_loop().call_soon(server.stop)  # which runs before it is told ``connection_made``

            def connection_made(self, transport):
                """Look that it is so."""
                assert server.hall.draining
                super().connection_made(transport)

        server.config.http_protocol_class = Sudden
        client = await connect(server)
        await client.send(GET)
        last = await client.read_response()
        assert (last.body, last[b"Connection"]) == (b"ok", b"close")
        assert await client.read_to_end() == b""
        client.finish()
        await server.ended


async def test_a_request_on_its_way_is_read_before_the_close():
    """A request that has arrived, but that a busy loop has not told of, keeps the connection from being closed."""
    async with serving(lambda _: Reply(200, body=b"ok")) as server:
        client = await connect(server)
        await client.send(GET)
        await client.read_response()
        server.stop()
        os.write(client.writer.get_extra_info("socket").fileno(), GET)
        server.hall.reap(asyncio.get_running_loop().time() + 2.1)
        last = await client.read_response()
        assert (last.body, last[b"Connection"]) == (b"ok", b"close")
        assert await client.read_to_end() == b""


async def test_an_idle_connection_is_closed_by_halves():
    """What a client sends across our close takes nothing from it: it sees an orderly end, not a reset."""
    async with serving(lambda _: Reply(200, body=b"ok")) as server:
        client = await connect(server)
        await client.send(GET)
        await client.read_response()
        server.stop()
        server.hall.reap(asyncio.get_running_loop().time() + 2.1)
        await client.send(GET)
        assert await client.read_to_end() == b""


async def test_what_does_not_end_is_cut_when_the_time_is_over():
    """An answer still under way at the end of drain_timeout is reset, so that it does not look complete."""

    async def endless(origin, peer):
        await origin.read_request(peer)
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\nsome of it")
        await peer.closed()

    async with RawOrigin(endless) as raw:
        origin = Origin(raw.address, WireLimits())
        async with serving(forward_to(origin), drain_s=0.3) as server:
            client = await connect(server)
            await client.send(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
            await client.read_until(b"some of it")
            began = time.monotonic()
            server.stop()
            assert await client.read_to_end() is None
            await server.ended
            assert time.monotonic() - began > 0.2


async def test_a_connection_accepted_while_draining_is_served_once():
    """A connection that the loop had accepted, and not told of, at the end gets its answer and is told to close."""
    hall = Hall(lambda _: Reply(200, body=b"ok"), WireLimits())
    loop = asyncio.get_running_loop()
    state = uvicorn.server.ServerState()
    server = await loop.create_server(lambda: wire_class(hall)(None, state, {}), "127.0.0.1", 0)
    client = Peer(*await asyncio.open_connection(*server.sockets[0].getsockname()))
    hall.begin_to_drain(5)
    drained = asyncio.ensure_future(hall.drain())
    await client.send(GET)
    response = await client.read_response()
    assert (response.body, response[b"Connection"]) == (b"ok", b"close")
    assert await client.read_to_end() == b""
    client.finish()
    await drained
    assert not hall.wires
    server.close()


async def test_draining_closes_tunnels():
    """A tunnel would never end by itself: it is closed when the server stops."""

    async def script(origin, peer):
        await peer.read_head()
        await peer.send(b"HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\nhello")
        await peer.closed()

    async with RawOrigin(script) as raw:
        origin = Origin(raw.address, WireLimits())
        async with serving(forward_to(origin)) as server:
            client = await connect(server)
            await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n")
            await client.read_until(b"hello")
            server.stop()
            assert await client.read_to_end() == b""
            await until(lambda: not origin.open)


async def test_the_reaper_runs_by_itself():
    """Deadlines and the Date are looked after while there is a connection, and no timer is left without one."""
    hall = Hall(lambda _: Reply(200), WireLimits(header_timeout_s=0.01))
    async with RawOrigin(echo):
        assert hall._timer is None
        server = await asyncio.get_running_loop().create_server(
            lambda: wire_class(hall)(None, uvicorn.server.ServerState(), {}), "127.0.0.1", 0
        )
        client = Peer(*await asyncio.open_connection(*server.sockets[0].getsockname()))
        await until(lambda: hall.wires)
        assert hall.date_line.startswith(b"Date: ")
        hall._timer.cancel()
        await asyncio.sleep(0.02)
        hall._tick(asyncio.get_running_loop())
        assert await client.read_to_end() == b""
        client.finish()
        await until(lambda: not hall.wires)
        hall._tick(asyncio.get_running_loop())
        assert hall._timer is None
        server.close()


def test_the_installed_uvicorn_fits():
    """The version installed has every seam the wire hangs on."""
    check_uvicorn()


@pytest.mark.parametrize(
    ("where", "name", "value"),
    [
        (wire_module.HttpToolsProtocol, "__init__", lambda *_: None),
        (wire_module.HttpToolsProtocol, "shutdown", None),
        (wire_module.ServerState, "__init__", lambda _: None),
        (wire_module.uvicorn.Server, "shutdown", lambda _self, _sockets: None),
    ],
)
def test_another_uvicorn_is_named(monkeypatch, where, name, value):
    """A uvicorn built differently is refused at the start, by version and with what would be right."""
    monkeypatch.setattr(where, name, value)
    with pytest.raises(StartError, match=rf"uvicorn {uvicorn.__version__} .*uvicorn>=0\.50"):
        check_uvicorn()
