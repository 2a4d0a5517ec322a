"""Both ends of a wire under test: an origin whose every byte is scripted, a client that sends raw bytes, and a front.

Nothing here is clever about HTTP on purpose: what the wire makes of odd bytes must be seen as it is. ``strict`` is the
script for an origin that takes only well-framed requests and notes them, so that a smuggled one would show.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
from dataclasses import dataclass, field

from uvicorn.server import ServerState

from waitroom.model import Address, WireLimits
from waitroom.upstream import Origin
from waitroom.web.hall import Hall
from waitroom.web.messages import Relay, Reply
from waitroom.web.wire import wire_class

PATIENCE_S = 5.0
"""How long a test waits for what must come at once; it only matters when the test fails."""


class Peer:
    """One end of a connection."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    async def send(self, data):
        """Send bytes."""
        self.writer.write(data)
        await self.writer.drain()

    async def read_until(self, mark):
        """Read up to and with a mark."""
        return await asyncio.wait_for(self.reader.readuntil(mark), PATIENCE_S)

    async def read_exactly(self, size):
        """Read so many bytes."""
        return await asyncio.wait_for(self.reader.readexactly(size), PATIENCE_S)

    async def read_some(self):
        """Read what there is; nothing means the end."""
        return await asyncio.wait_for(self.reader.read(65536), PATIENCE_S)

    async def read_head(self):
        """Read up to and with an empty line."""
        return await self.read_until(b"\r\n\r\n")

    async def read_to_end(self):
        """Everything until the other side closes; ``None`` when it was reset instead."""
        try:
            return await asyncio.wait_for(self.reader.read(), PATIENCE_S)
        except ConnectionError:
            return None

    async def closed(self):
        """Wait until the other side has ended, however."""
        with contextlib.suppress(ConnectionError):
            while await self.read_some():
                pass

    def finish(self):
        """Close in order."""
        self.writer.close()

    def reset(self):
        """Close by a reset."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def read_response(self, method=b"GET"):
        """Read one answer, by its own framing."""
        return await read_response(self, method)


@dataclass
class Response:
    """One answer as a client read it. ``headers`` as they stood; ``trailers`` of a chunked one."""

    status: int
    headers: list
    body: bytes
    trailers: list = field(default_factory=list)
    raw_head: bytes = b""

    def __getitem__(self, name):
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


def abort(peer):
    """Close at once, if that is still to be done; the standard loop fails when it is not."""
    with contextlib.suppress(AttributeError):
        peer.writer.transport.abort()


def _fields(lines):
    return [(name, value) for name, _, value in (line.partition(b": ") for line in lines if line)]


async def _chunked(peer):
    body = b""
    while size := int((await peer.read_until(b"\r\n")), 16):
        body += await peer.read_exactly(size)
        assert await peer.read_exactly(2) == b"\r\n"
    trailers = []
    while (line := await peer.read_until(b"\r\n")) != b"\r\n":
        trailers.append(line[:-2])
    return body, _fields(trailers)


async def read_response(peer, method=b"GET"):
    """Read one answer, by its own framing."""
    head = await peer.read_head()
    first, *lines = head[:-4].split(b"\r\n")
    response = Response(int(first.split(b" ")[1]), _fields(lines), b"", raw_head=head)
    if method == b"HEAD" or response.status in {204, 304} or response.status < 200:
        return response
    if response[b"Transfer-Encoding"] == b"chunked":
        response.body, response.trailers = await _chunked(peer)
    elif response[b"Content-Length"] is not None:
        response.body = await peer.read_exactly(int(response[b"Content-Length"]))
    else:
        response.body = await peer.read_to_end()
    return response


class RawOrigin:
    """A server whose connections each run ``script(peer)``; ``peers`` are all that ever connected.

    ``tls`` is the context to speak TLS with.
    """

    def __init__(self, script, tls=None):
        self.script = script
        self.tls = tls
        self.peers = []
        self.heads = []
        self.requests = []
        self.failures = []

    async def __aenter__(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20, ssl=self.tls)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self.server.close()
        for peer in self.peers:
            abort(peer)
        await asyncio.sleep(0)
        assert not self.failures, self.failures

    @property
    def address(self):
        """Where it listens."""
        return Address("127.0.0.1", self.port)

    async def _serve(self, reader, writer):
        peer = Peer(reader, writer)
        self.peers.append(peer)
        try:
            await self.script(self, peer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except AssertionError as error:
            self.failures.append(error)
        finally:
            writer.close()

    async def read_request(self, peer):
        """One request, strictly framed; its head and body are noted."""
        head = await peer.read_head()
        self.heads.append(head)
        line, *lines = head[:-4].split(b"\r\n")
        assert re.fullmatch(rb"[A-Z-]+ [!-~]+ HTTP/1\.1", line), head
        for name_value in lines:
            assert re.fullmatch(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+: [^\x00-\x08\x0a-\x1f\x7f]*", name_value), head
        fields = _fields(lines)
        names = [name.lower() for name, _ in fields]
        assert names.count(b"host") == 1, head
        assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1, head
        values = dict(zip(names, (value for _, value in fields), strict=True))
        body = b""
        if b"transfer-encoding" in values:
            assert values[b"transfer-encoding"] == b"chunked"
            body, trailers = await _chunked(peer)
            assert not trailers
        elif b"content-length" in values:
            body = await peer.read_exactly(int(values[b"content-length"]))
        method, target, _ = line.split(b" ")
        self.requests.append((method, target, fields, body))
        return method, target, fields, body


def answers(*parts):
    """A script that reads one strict request for each part and answers with those bytes."""

    async def script(origin, peer):
        for part in parts:
            await origin.read_request(peer)
            await peer.send(part)

    return script


async def echo(origin, peer):
    """A script that answers each request with its own target, so that an answer can be told from another's."""
    while True:
        method, target, _, body = await origin.read_request(peer)
        text = target if not body else target + b" " + b"%d" % len(body)
        await peer.send(
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text) + (text if method != b"HEAD" else b"")
        )


GET_OK = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n"

HOP = {b"connection", b"keep-alive", b"te", b"upgrade", b"transfer-encoding", b"content-length", b"proxy-connection"}


def forward_to(origin, *, edit=lambda _, headers: headers):
    """A desk that relays everything, and answers a failed origin with its reason."""

    def desk(request):
        return Relay(
            origin,
            [pair for pair in request.headers if pair[0].lower() not in HOP],
            edit,
            lambda error: Reply(error.status, [(b"X-Reason", error.reason.encode())], b"fallback"),
            lambda _: None,
        )

    return desk


class Front:
    """A listening wire with its hall; ``connect`` gives a raw client."""

    def __init__(self, desk, limits=None):
        self.hall = Hall(desk, limits or WireLimits())
        self.state = ServerState()
        self.clients = []

    async def __aenter__(self):
        bound = wire_class(self.hall)
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(
            lambda: bound(config=None, server_state=self.state, app_state={}), "127.0.0.1", 0
        )
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self.server.close()
        for client in self.clients:
            abort(client)
        for wire in tuple(self.hall.wires):
            wire.transport.abort()
        await until(lambda: not self.hall.wires)

    async def connect(self):
        """Return a new client."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)
        client = Peer(reader, writer)
        self.clients.append(client)
        return client

    def later(self, seconds):
        """Let the hall believe that so much time has passed."""
        self.hall.reap(asyncio.get_running_loop().time() + seconds)

    async def ask(self, raw, method=b"GET"):
        """Send raw bytes on a connection of their own and read one answer."""
        client = await self.connect()
        await client.send(raw)
        return await client.read_response(method)


@contextlib.asynccontextmanager
async def proxy(script, limits=None, **more):
    """An origin running ``script``, and a front that relays everything to it."""
    limits = limits or WireLimits()
    async with RawOrigin(script) as raw:
        origin = Origin(raw.address, limits)
        async with Front(forward_to(origin, **more), limits) as front:
            front.raw = raw
            front.origin = origin
            yield front
            origin.close()


async def until(condition):
    """Let the loop run until ``condition()`` holds."""
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("it never came to be")
