"""Every wait ends: the wire's deadlines, by a reaper that is told the time, and its bounds on memory."""

import asyncio
import gc

import pytest
from raw_sockets import Front, RawOrigin, answers, echo, forward_to, proxy, until

from waitroom.model import WireLimits
from waitroom.upstream import Exchange, Origin
from waitroom.web.messages import Reply, Request
from waitroom.web.passage import Passage

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
MEGABYTE = b"x" * (1 << 20)


def ok(_):
    """Reply to everything."""
    return Reply(200, body=b"ok")


async def test_half_a_head_is_waited_for_so_long():
    """A head that does not come whole within header_timeout gets 408; trickling does not extend it."""
    async with Front(ok) as front:
        client = await front.connect()
        await client.send(b"G")
        await until(lambda: any(wire._partial for wire in front.hall.wires))
        (wire,) = front.hall.wires
        deadline = wire.deadline
        await client.send(b"ET ")
        await until(lambda: wire._partial == b"GET ")
        assert wire.deadline == deadline
        front.later(9)
        assert not front.hall.tally.refused
        front.later(10.1)
        response = await client.read_response()
        assert (response.status, response[b"Connection"]) == (408, b"close")
        assert await client.read_to_end() == b""


async def test_a_silent_connection_is_closed_silently():
    """A connection that never says anything, or nothing more, is closed without a word."""
    async with Front(ok) as front:
        silent = await front.connect()
        await until(lambda: front.hall.wires)
        front.later(10.1)
        assert await silent.read_to_end() == b""
        client = await front.connect()
        await client.send(GET)
        await client.read_response()
        front.later(64)
        await client.send(GET + b"\r\n")
        await client.read_response()
        front.later(65.1)
        assert await client.read_to_end() == b""


async def test_a_body_that_stops_coming_gets_408():
    """A body that pauses for body_idle_timeout is given up, here and at the origin."""
    async with proxy(echo) as front:
        client = await front.connect()
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
        await until(lambda: front.raw.heads)
        front.later(29)
        await client.send(b"d")
        await asyncio.sleep(0.01)
        front.later(30.1)
        response = await client.read_response()
        assert (response.status, response[b"Connection"]) == (408, b"close")
        await front.raw.peers[0].closed()
        assert not front.raw.requests


async def test_a_body_over_the_limit_gets_413():
    """By length at once, without a word to the origin; chunked as soon as it is over."""
    async with proxy(echo, WireLimits(body_bytes=100)) as front:
        assert (await front.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 101\r\n\r\n")).status == 413
        assert not front.raw.peers
        chunk = b"32\r\n" + b"x" * 50 + b"\r\n"
        head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert (await front.ask(head + chunk * 2 + b"0\r\n\r\n")).body == b"/ 100"
        client = await front.connect()
        await client.send(head + chunk * 3)
        assert (await client.read_response()).status == 413
        assert await client.read_to_end() == b""
        assert len(front.raw.requests) == 1


async def test_too_many_connections_are_told_so():
    """A connection over the limit gets 503 and a time to come again; those within it go on."""
    async with Front(ok, WireLimits(connections_per_worker=1)) as front:
        first = await front.connect()
        await first.send(GET)
        assert (await first.read_response()).status == 200
        second = await front.connect()
        response = await second.read_response()
        assert (response.status, response[b"Retry-After"]) == (503, b"5")
        assert await second.read_to_end() == b""
        await first.send(GET)
        assert (await first.read_response()).status == 200
        assert len(front.hall.wires) == 2
        first.finish()
        await until(lambda: len(front.hall.wires) == 1)
        assert (await front.ask(GET)).status == 200


async def test_a_flood_of_connections_is_bounded():
    """Far beyond the limit connections are dropped without a word, so that saying no costs a bounded amount."""
    async with Front(ok, WireLimits(connections_per_worker=1)) as front:
        clients = [await front.connect() for _ in range(300)]
        await until(lambda: front.hall.tally.refused["connections"] == 299)
        assert len(front.hall.wires) <= 257
        assert await clients[-1].read_to_end() in {b"", None}


async def test_a_client_that_does_not_read_is_cut():
    """When the client takes nothing for idle_timeout, both connections end, and little was held for it."""

    async def script(origin, peer):
        await origin.read_request(peer)
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        while True:
            await peer.send(MEGABYTE)

    async with proxy(script) as front:
        client = await front.connect()
        await client.send(GET)
        await until(lambda: any(wire._write_full for wire in front.hall.wires))
        (wire,) = front.hall.wires
        assert wire.transport.get_write_buffer_size() < 1 << 20
        front.later(299)
        front.origin.reap(asyncio.get_running_loop().time() + 299)
        assert front.hall.wires
        front.later(300.1)
        await until(lambda: not front.hall.wires)
        await until(lambda: not front.origin.open)


async def test_a_client_that_never_reads_its_replies_stops_being_served():
    """Requests sent ahead without reading are not answered into memory without end."""
    async with Front(lambda _: Reply(200, body=MEGABYTE)) as front:
        client = await front.connect()
        client.writer.transport.pause_reading()
        client.writer.write(GET * 500)
        await until(lambda: any(wire._write_full for wire in front.hall.wires))
        await asyncio.sleep(0.02)
        (wire,) = front.hall.wires
        assert wire.transport.get_write_buffer_size() < 4 << 20
        assert front.hall.tally.requests < 100
        client.writer.transport.resume_reading()
        for _ in range(20):
            assert (await client.read_response()).body == MEGABYTE


async def test_requests_with_bodies_are_no_way_around_that():
    """The same holds when each request brings a small body that is read past."""
    post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"
    async with Front(lambda _: Reply(200, body=MEGABYTE)) as front:
        client = await front.connect()
        client.writer.transport.pause_reading()
        for _ in range(60):
            client.writer.write(post)
            await asyncio.sleep(0.001)
            client.writer.write(b"abc")
            await asyncio.sleep(0.001)
        (wire,) = front.hall.wires
        assert wire.transport.get_write_buffer_size() < 4 << 20
        client.writer.transport.resume_reading()
        for _ in range(60):
            assert (await client.read_response()).body == MEGABYTE


async def test_one_segment_full_of_requests_is_served_in_turns():
    """Hundreds of requests in one segment are all answered, but other connections are not kept waiting for it."""
    order = []

    def desk(request):
        order.append(request.target)
        return Reply(200)

    async with Front(desk) as front:
        greedy, other = await front.connect(), await front.connect()
        await until(lambda: len(front.hall.wires) == 2)
        greedy.writer.write(GET * 200)
        other.writer.write(GET.replace(b"/ ", b"/other "))
        await other.read_response()
        for _ in range(200):
            await greedy.read_response()
        assert order.index(b"/other") < 150


async def test_total_timeout_ends_a_request():
    """A request over total_timeout gets the fallback, or is cut when its answer had begun."""
    started = asyncio.Event()

    async def script(origin, peer):
        _, target, _, _ = await origin.read_request(peer)
        if target == b"/begun":
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart")
        started.set()
        await peer.closed()

    async with proxy(script, WireLimits(total_timeout_s=20)) as front:
        client = await front.connect()
        await client.send(GET)
        await started.wait()
        front.later(20.1)
        response = await client.read_response()
        assert (response.status, response[b"X-Reason"]) == (504, b"total")
        started.clear()
        await client.send(GET.replace(b"/ ", b"/begun "))
        await client.read_until(b"part")
        front.later(20.1)
        assert await client.read_to_end() is None
        await until(lambda: not front.origin.open)


async def test_an_undecided_request_ends_too():
    """total_timeout holds while the desk has not decided; the late decision changes nothing."""
    decided = asyncio.get_running_loop().create_future()
    async with Front(lambda _: decided, WireLimits(total_timeout_s=20)) as front:
        client = await front.connect()
        await client.send(GET)
        await until(lambda: front.hall.undecided)
        front.later(20.1)
        assert (await client.read_response()).status == 503
        decided.set_result(Reply(200))
        await until(lambda: not front.hall.undecided)
        assert await client.read_to_end() == b""


async def test_a_refused_client_that_keeps_sending_is_cut():
    """What a refused client still sends is dropped for a bounded time."""
    async with Front(ok) as front:
        client = await front.connect()
        await client.send(b"nonsense\r\n\r\n")
        assert (await client.read_response()).status == 400
        await client.send(b"more")
        front.later(1)
        assert front.hall.wires
        front.later(2.1)
        await until(lambda: not front.hall.wires)


@pytest.mark.parametrize("leave", ["finish", "reset"])
async def test_a_client_that_sent_ahead_and_left_is_noticed(leave):
    """While a request sent ahead waits its turn nothing is read; who leaves then is still gone for the origin."""

    async def script(origin, peer):
        await origin.read_request(peer)
        await peer.closed()

    async with proxy(script) as front:
        staying, leaving = await front.connect(), await front.connect()
        for client in (staying, leaving):
            await client.send(GET + GET)
        await until(lambda: len(front.raw.requests) == 2 and sum(bool(wire._stash) for wire in front.hall.wires) == 2)
        getattr(leaving, leave)()
        await asyncio.sleep(0.01)
        for _ in range(3):
            front.later(1.1)
        await until(lambda: len(front.hall.wires) == 1)
        await until(lambda: front.origin.open == 1)
        assert not front.hall.tally.refused


async def test_twenty_megabytes_stream_both_ways_in_bounded_memory():
    """A large body passes whole in both directions while a slow reader holds it back, and little is held meanwhile."""
    size = 20 * len(MEGABYTE)
    most = 0

    async def script(origin, peer):
        await peer.read_head()
        received = 0
        while received < size:
            received += len(await peer.read_some())
            await asyncio.sleep(0)
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(20):
            await peer.send(MEGABYTE)

    async with proxy(script) as front:
        client = await front.connect()

        async def upload():
            await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
            for _ in range(20):
                await client.send(MEGABYTE)
                note()

        def note():
            nonlocal most
            (wire,) = front.hall.wires
            held = wire.transport.get_write_buffer_size() + len(wire._stash)
            held += sum(link.transport.get_write_buffer_size() for link in front.origin._links)
            most = max(most, held)

        await upload()
        await client.read_head()
        received = 0
        while received < size:
            data = await client.read_some()
            assert not data.strip(b"x")
            received += len(data)
            note()
            await asyncio.sleep(0)
        assert received == size
        assert most < 2 << 20


async def test_a_slow_origin_holds_the_upload_back():
    """When the origin does not take the body, the client is not read either, and its own deadline rests."""

    async def script(origin, peer):
        await peer.read_head()
        peer.writer.transport.pause_reading()
        await asyncio.sleep(10)

    async with proxy(script, WireLimits(body_bytes=None)) as front:
        client = await front.connect()
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n")
        await until(lambda: front.raw.heads or front.raw.peers)
        client.writer.write(MEGABYTE * 50)
        await until(lambda: any(wire._origin_full for wire in front.hall.wires))
        (wire,) = front.hall.wires
        front.later(100)
        assert not front.hall.tally.refused
        front.origin.reap(asyncio.get_running_loop().time() + 301)
        client.writer.transport.resume_reading()
        assert (await client.read_response())[b"X-Reason"] == b"idle"
        assert wire.deadline < float("inf")


async def test_a_slow_client_does_not_make_the_origin_late():
    """While a slow client holds the answer back, the origin is not blamed for being silent."""

    async def script(origin, peer):
        await origin.read_request(peer)
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (30 << 20))
        for _ in range(30):
            await peer.send(MEGABYTE)

    async with proxy(script) as front:
        client = await front.connect()
        await client.send(GET)
        await until(lambda: any(wire._write_full for wire in front.hall.wires))
        await asyncio.sleep(0.01)
        front.origin.reap(asyncio.get_running_loop().time() + 10_000)
        await client.read_head()
        assert await client.read_exactly(30 << 20) == MEGABYTE * 30


async def test_an_idle_wire_holds_nothing():
    """After a request nothing of it is kept, not even in cycles for the garbage collector."""
    async with RawOrigin(answers(*[b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"] * 9)) as raw:
        origin = Origin(raw.address, WireLimits())
        async with Front(forward_to(origin)) as front:
            gc.collect()
            gc.disable()
            try:
                client = await front.connect()
                for _ in range(9):
                    await client.send(GET)
                    await client.read_response()
                left = [type(thing) for thing in gc.get_objects() if isinstance(thing, (Exchange, Passage, Request))]
            finally:
                gc.enable()
            assert not left
            origin.close()
