"""Upgrades: raw tunnels when the origin switches, an ordinary answer and the end when it does not."""

import asyncio

from raw_sockets import proxy, until

UPGRADE = (
    b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
    b"Sec-WebSocket-Key: x\r\n\r\n"
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: y\r\n\r\n"
)


async def parrot(origin, peer):
    """Switch, and say back what is said."""
    origin.heads.append(await peer.read_head())
    await peer.send(SWITCH + b"early;")
    while data := await peer.read_some():
        await peer.send(b"<" + data + b">")


async def test_a_tunnel_carries_raw_bytes_with_the_early_ones():
    """Bytes sent before and together with the 101 arrive, in both directions, and nothing is parsed any more."""
    async with proxy(parrot) as front:
        client = await front.connect()
        await client.send(UPGRADE + b"GET /not-a-request HTTP/1.1\r\n\r\n")
        response = await client.read_response()
        assert response.status == 101
        assert (response[b"Upgrade"], response[b"Connection"]) == (b"websocket", b"Upgrade")
        assert response[b"Sec-WebSocket-Accept"] == b"y"
        assert await client.read_until(b">") == b"early;<GET /not-a-request HTTP/1.1\r\n\r\n>"
        await client.send(b"\x00\xff\r\n\r\n")
        assert await client.read_until(b">") == b"<\x00\xff\r\n\r\n>"
        assert b"Connection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n" in front.raw.heads[0]
        assert front.hall.tally.requests == 1


async def test_either_end_ends_the_tunnel():
    """When one side closes, what it said arrives and the other side is closed."""

    async def farewell(origin, peer):
        await peer.read_head()
        await peer.send(SWITCH + b"bye")

    async with proxy(farewell) as front:
        client = await front.connect()
        await client.send(UPGRADE)
        await client.read_head()
        assert await client.read_to_end() == b"bye"
        await until(lambda: not front.origin.open)
    async with proxy(parrot) as front:
        client = await front.connect()
        await client.send(UPGRADE)
        await client.read_until(b"early;")
        client.finish()
        await until(lambda: not front.origin.open and not front.hall.wires)


async def test_a_tunnel_has_backpressure():
    """A side that does not read holds the other back; nothing is lost."""
    size = 16 << 20

    async def script(origin, peer):
        await peer.read_head()
        await peer.send(SWITCH)
        await peer.send(b"y" * size)
        assert await peer.read_exactly(size) == b"x" * size
        await peer.send(b"done")

    async with proxy(script) as front:
        client = await front.connect()
        await client.send(UPGRADE)
        client.writer.write(b"x" * size)
        await until(lambda: any(wire._write_full for wire in front.hall.wires))
        (wire,) = front.hall.wires
        assert wire.transport.get_write_buffer_size() < 1 << 20
        await client.read_head()
        assert await client.read_exactly(size + 4) == b"y" * size + b"done"


async def test_an_origin_that_does_not_switch_answers_and_that_is_the_end():
    """The origin's ordinary answer is passed on; what the client sent early is never read as a request."""

    async def script(origin, peer):
        await origin.read_request(peer)
        await peer.send(b"HTTP/1.1 426 No\r\nContent-Length: 2\r\n\r\nno")
        assert await peer.read_to_end() in {b"", None}

    async with proxy(script) as front:
        client = await front.connect()
        await client.send(UPGRADE + b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
        response = await client.read_response()
        assert (response.status, response.body, response[b"Connection"]) == (426, b"no", b"close")
        assert await client.read_to_end() == b""
        assert len(front.raw.requests) == 1


async def test_a_switch_nobody_asked_for_is_an_error():
    """A 101 to an ordinary request, or to another protocol than asked for, is a broken answer."""

    async def script(origin, peer):
        await peer.read_head()
        await peer.send(SWITCH.replace(b"Upgrade: websocket", b"Upgrade: h2c") + b"HTTP/1.1 200 OK\r\n\r\n")
        await peer.closed()

    async with proxy(script) as front:
        for raw in (UPGRADE, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"):
            response = await front.ask(raw)
            assert (response.status, response[b"X-Reason"]) == (502, b"switched")


async def test_an_upgrade_header_alone_asks_for_nothing():
    """Without ``Connection: Upgrade`` the header means nothing and is dropped."""

    async def script(origin, peer):
        while True:
            await origin.read_request(peer)
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with proxy(script) as front:
        client = await front.connect()
        for _ in range(2):
            await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n")
            assert (await client.read_response()).status == 200
        assert [name for name, _ in front.raw.requests[0][2]] == [b"Host"]


async def test_a_silent_tunnel_is_closed():
    """A tunnel in which neither side speaks for idle_timeout ends; one side speaking is enough to keep it."""

    async def mute(origin, peer):
        await peer.read_head()
        await peer.send(SWITCH + b"early;")
        await peer.read_until(b"x")
        await peer.closed()

    async with proxy(mute) as front:
        client = await front.connect()
        await client.send(UPGRADE)
        await client.read_until(b"early;")
        (link,) = front.origin._links
        link.deadline = 0.0
        await client.send(b"x")
        await until(lambda: link.deadline > 0.0)
        now = asyncio.get_running_loop().time()
        front.origin.reap(now + 299)
        assert front.origin.open
        front.origin.reap(now + 301)
        assert await client.read_to_end() == b""
        await until(lambda: not front.origin.open)
