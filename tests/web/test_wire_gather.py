"""A body that is kept here and answered: by length, in chunks, too long, too slow, too many at once."""

import asyncio
import logging

import pytest
from raw_sockets import Front, until

from waitroom.model import WireLimits
from waitroom.web import hall
from waitroom.web.messages import Gather, Reply

MOST = 1000


def gathering(got, reply=None):
    """A desk that keeps every body up to ``MOST`` bytes and answers with its length."""

    def answer(body):
        got.append(body)
        return Reply(200, [], b"%d" % (-1 if body is None else len(body)))

    return lambda _: Gather(MOST, reply or answer)


def by_length(body):
    """A request whose body's length is told."""
    return b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def in_chunks(body):
    """A request whose body comes in chunks."""
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (body[:7], body[7:]) if piece)
    return b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


@pytest.mark.parametrize("framed", [by_length, in_chunks])
@pytest.mark.parametrize("size", [0, 1, MOST])
async def test_a_body_is_kept_whole_and_the_connection_goes_on(framed, size):
    """However it is framed and cut, the answer is to all of it, and the next request is read where it ends."""
    got = []
    body = b"x" * size
    async with Front(gathering(got)) as front:
        client = await front.connect()
        await client.send(framed(body) + framed(body))
        for _ in range(2):
            assert (await client.read_response()).body == b"%d" % size
        for byte in framed(body):
            await client.send(bytes([byte]))
        assert (await client.read_response()).body == b"%d" % size
        assert got == [body] * 3
        assert front.hall.tally.replies == 3


async def test_a_body_told_to_be_too_long_is_not_kept():
    """It is answered at once, and read past where that is short."""
    got = []
    async with Front(gathering(got)) as front:
        client = await front.connect()
        await client.send(by_length(b"x" * (MOST + 1))[:-5])
        assert (await client.read_response()).body == b"-1"
        await client.send(b"x" * 5 + by_length(b"ab"))
        assert (await client.read_response()).body == b"2"
        assert got == [None, b"ab"]


async def test_a_body_that_turns_out_too_long_ends_the_connection():
    """In chunks nobody knows how much is to come; it is answered as soon as it is too much."""
    got = []
    async with Front(gathering(got)) as front:
        client = await front.connect()
        await client.send(in_chunks(b"x" * (MOST + 1))[:-7])
        response = await client.read_response()
        assert (response.body, response[b"Connection"]) == (b"-1", b"close")
        assert got == [None]


async def test_a_malformed_body_is_refused():
    """What cannot be framed is never answered as if it could."""
    got = []
    async with Front(gathering(got)) as front:
        client = await front.connect()
        await client.send(in_chunks(b"abc")[:-5] + b"x\r\n\r\n")
        assert (await client.read_response()).status == 400
        assert got == []


async def test_all_of_a_body_is_due_within_the_time_of_one_silence():
    """Whoever trickles it is not waited for: it is short, and it is kept in memory."""
    got = []
    async with Front(gathering(got), WireLimits(body_idle_timeout_s=0.3)) as front:
        client = await front.connect()
        await client.send(by_length(b"x" * MOST)[:-500])

        async def trickle():
            for _ in range(490):
                await client.send(b"x")
                front.hall.reap(asyncio.get_running_loop().time())
                await asyncio.sleep(0.01)

        trickling = asyncio.create_task(trickle())
        response = await asyncio.wait_for(client.read_response(), 3)
        trickling.cancel()
        assert response.status in {408, 503}
        assert response[b"Connection"] == b"close"
        assert got == []


async def test_only_so_many_bodies_are_kept_at_once(monkeypatch):
    """Beyond it they are answered without; whoever is done, or gone, makes room."""
    monkeypatch.setattr(hall, "GATHERED_MAX", 2)
    got = []
    async with Front(gathering(got)) as front:
        slow = [await front.connect() for _ in range(2)]
        for client in slow:
            await client.send(by_length(b"abc")[:-1])
        last = await front.connect()
        await until(lambda: len(front.hall.wires) == 3 and sum(wire.busy() for wire in front.hall.wires) == 2)
        await last.send(by_length(b"abcd"))
        assert (await last.read_response()).body == b"-1"
        await slow[0].send(b"c")
        assert (await slow[0].read_response()).body == b"3"
        await last.send(by_length(b"abcd"))
        assert (await last.read_response()).body == b"4"
        slow[1].writer.close()
        await until(lambda: len(front.hall.wires) == 2)
        for _ in range(3):
            await last.send(by_length(b"abcd"))
            assert (await last.read_response()).body == b"4"


async def test_an_answer_that_is_not_taken_counts_as_kept(monkeypatch):
    """A page that nobody reads is as long as the form was, so it holds its room until it is gone."""
    monkeypatch.setattr(hall, "GATHERED_MAX", 1)
    big = Reply(200, [], b"x" * 20_000_000)
    async with Front(gathering([], lambda body: Reply(200, [], b"no") if body is None else big)) as front:
        deaf = await front.connect()
        await deaf.send(by_length(b"abc"))
        await until(lambda: any(wire.transport.get_write_buffer_size() for wire in front.hall.wires))
        other = await front.connect()
        await other.send(by_length(b"abc"))
        assert (await other.read_response()).body == b"no"


async def test_a_fault_while_answering_a_body_is_ours(caplog):
    """The visitor is told to try again, and the log has the fault."""
    caplog.set_level(logging.CRITICAL, "waitroom.wire")

    def fail(body):
        raise RuntimeError(body)

    for request in (by_length(b"abc"), by_length(b"")):
        async with Front(gathering([], fail)) as front:
            client = await front.connect()
            await client.send(request)
            assert (await client.read_response()).status == 503


async def test_a_visitor_who_leaves_while_sending_leaves_nothing():
    """Half a body, and the end: nothing is answered, and nothing is kept."""
    got = []
    async with Front(gathering(got)) as front:
        client = await front.connect()
        await client.send(by_length(b"abc")[:-1])
        await until(lambda: any(wire.busy() for wire in front.hall.wires))
        client.writer.close()
        await until(lambda: not front.hall.wires)
        assert got == []
        assert not front.hall.gathering
