"""Upgrades: raw tunnels when the origin switches, an ordinary answer and the end when it does not."""

import asyncio
import contextlib

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


async def test_big_and_small_messages_come_back_in_order():
    """What is sent with the handshake comes first, then long and short messages in turn, and no byte is lost."""

    async def mirror(origin, peer):
        await peer.read_head()
        await peer.send(SWITCH)
        while data := await peer.read_some():
            await peer.send(data)

    sent = [b"with the handshake;", *(part for index in range(10) for part in (b"%d" % index * 49152, b"short;"))]
    async with proxy(mirror) as front:
        client = await front.connect()
        await client.send(UPGRADE + sent[0])
        assert (await client.read_response()).status == 101
        assert await client.read_exactly(len(sent[0])) == sent[0]
        for message in sent[1:]:
            await client.send(message)
        assert await client.read_exactly(sum(map(len, sent[1:]))) == b"".join(sent[1:])


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


# Draining.

GOING_AWAY = b"\x88\x02\x03\xe9"
FROM_ORIGIN = b"\x81\x05hello"
FROM_CLIENT = b"\x81\x85\x00\x00\x00\x00hello"
CLIENT_CLOSES = b"\x88\x82\x00\x00\x00\x00\x03\xe9"


class Conversation:
    """An origin's side of WebSockets: ``heard`` is what came, ``say`` sends; it answers a Close frame and closes."""

    def __init__(self):
        self.heard = b""
        self.peer = None

    async def __call__(self, origin, peer):
        """Be the origin's script."""
        await peer.read_head()
        self.peer = peer
        await peer.send(SWITCH)
        while data := await peer.read_some():
            self.heard += data
            if b"\x88\x82" in data:
                await peer.send(GOING_AWAY)
                return

    async def say(self, data):
        """Send bytes."""
        await self.peer.send(data)


def unmasked(data):
    """Return the payload of a short masked frame."""
    return bytes(byte ^ data[2 + index % 4] for index, byte in enumerate(data[6:]))


@contextlib.asynccontextmanager
async def conversing():
    """A client in a WebSocket conversation, and the origin's side of it."""
    origin = Conversation()
    async with proxy(origin) as front:
        client = await front.connect()
        await client.send(UPGRADE)
        await client.read_head()
        yield front, client, origin


async def test_a_websocket_is_told_that_we_go():
    """Draining, both sides get a Close frame 1001, the origin's masked; when both have answered both are closed."""
    async with conversing() as (front, client, origin):
        await client.send(FROM_CLIENT)
        await origin.say(FROM_ORIGIN)
        assert await client.read_exactly(7) == FROM_ORIGIN
        await until(lambda: origin.heard == FROM_CLIENT)
        front.hall.begin_to_drain(5)
        assert await client.read_exactly(4) == GOING_AWAY
        await client.send(CLIENT_CLOSES)
        assert await client.read_to_end() == b""
        client.finish()
        await until(lambda: not front.origin.open and not front.hall.wires)
        assert origin.heard[11:13] == b"\x88\x82"
        assert unmasked(origin.heard[11:]) == b"\x03\xe9"
        assert len(origin.heard) == 11 + 8


async def test_a_frame_that_is_half_sent_is_finished_first():
    """The Close frame waits for the frame under way, in each direction for itself; what follows it goes nowhere."""
    async with conversing() as (front, client, origin):
        await origin.say(FROM_ORIGIN[:3])
        await client.send(FROM_CLIENT[:3])
        assert await client.read_exactly(3) == FROM_ORIGIN[:3]
        await until(lambda: origin.heard)
        front.hall.begin_to_drain(5)
        await origin.say(FROM_ORIGIN[3:] + FROM_ORIGIN)
        assert await client.read_exactly(8) == FROM_ORIGIN[3:] + GOING_AWAY
        await client.send(FROM_CLIENT[3:] + FROM_CLIENT)
        assert await client.read_to_end() == b""
        await until(lambda: len(origin.heard) >= 19)
        assert origin.heard[:11] == FROM_CLIENT
        assert unmasked(origin.heard[11:]) == b"\x03\xe9"


async def test_who_does_not_answer_a_close_frame_is_closed_anyway():
    """Two sides that say nothing more hold nobody up; a frame that is never finished neither."""

    async def mute(origin, peer):
        await peer.read_head()
        await peer.send(SWITCH + FROM_ORIGIN[:4])
        await peer.closed()

    async with proxy(mute) as front:
        client = await front.connect()
        await client.send(UPGRADE)
        await client.read_head()
        assert await client.read_exactly(4) == FROM_ORIGIN[:4]
        front.hall.begin_to_drain(5)
        front.later(1.9)
        assert front.origin.open
        front.later(2.1)
        assert await client.read_to_end() == b""
        await until(lambda: not front.origin.open)


async def test_an_ordinary_goodbye_is_theirs():
    """While we stay, a Close frame is passed on like anything else, and it is for the two of them to end."""
    async with conversing() as (_, client, origin):
        await client.send(CLIENT_CLOSES)
        assert await client.read_exactly(4) == GOING_AWAY
        assert origin.heard == CLIENT_CLOSES
        assert await client.read_to_end() == b""


async def test_what_is_no_websocket_is_closed_plainly():
    """Another protocol, or what only calls itself a WebSocket, is not spoken into."""
    for upgrade in (b"raw", b"websocket"):

        async def script(origin, peer, upgrade=upgrade):
            await peer.read_head()
            await peer.send(SWITCH.replace(b"websocket", upgrade) + b"not a frame")
            await peer.closed()

        async with proxy(script) as front:
            client = await front.connect()
            await client.send(UPGRADE.replace(b"WebSocket", upgrade))
            await client.read_until(b"not a frame")
            front.hall.begin_to_drain(5)
            assert await client.read_to_end() == b""
            await until(lambda: not front.origin.open)


async def test_a_websocket_begun_while_draining_is_told_at_once():
    """A request that still came may switch; it is told to go right after."""
    async with proxy(Conversation()) as front:
        client = await front.connect()
        await client.send(b"GET / HTTP/1.1\r\n")
        front.hall.begin_to_drain(5)
        await client.send(UPGRADE.partition(b"\r\n")[2])
        assert (await client.read_response()).status == 101
        assert await client.read_exactly(4) == GOING_AWAY
