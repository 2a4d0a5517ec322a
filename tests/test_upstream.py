"""The client to the origin: keeping and dropping connections, hostile answers, failures, cancelling."""

import asyncio
import socket
from dataclasses import dataclass, field

import pytest
from raw_sockets import GET_OK, RawOrigin, answers, proxy, until

from waitroom.errors import UpstreamTimeout
from waitroom.model import Address, WireLimits
from waitroom.upstream import Origin

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HOST = [(b"Host", b"a")]


@dataclass
class Notes:
    """A sink that writes down what it is told."""

    told: list = field(default_factory=list)
    answer: object = None
    error: object = None
    body: bytes = b""
    over: bool = False
    paused: bool = False

    def informational(self, status, reason, headers):
        """Note an interim answer."""
        self.told.append(status)

    def head(self, answer):
        """Note the head."""
        self.answer = answer

    def data(self, data):
        """Note a piece."""
        self.body += data

    def flush(self):
        """Note nothing."""

    def end(self, trailers):
        """Note the end."""
        assert not self.over
        self.over = True

    def failed(self, error):
        """Note the failure."""
        assert not self.over
        self.over = True
        self.error = error

    def switched(self, answer, early):
        """Note the switch."""
        self.answer = answer
        self.body += early

    def pause_sending(self):
        """Note it."""
        self.paused = True

    def resume_sending(self):
        """Note it."""
        self.paused = False


class Asker:
    """Sends requests through one origin, and notes what becomes of them."""

    def __init__(self, raw, limits=None, **more):
        self.origin = Origin(raw.address if isinstance(raw, RawOrigin) else raw, limits or WireLimits(), **more)

    def begin(self, method=b"GET", target=b"/", body_length=0):
        """Send a request; return what is noted of it."""
        notes = Notes()
        notes.exchange = self.origin.send(method, target, HOST, body_length=body_length, sink=notes)
        assert not notes.over
        return notes

    async def ask(self, *args, **kwargs):
        """Send a request and wait until it is over."""
        notes = self.begin(*args, **kwargs)
        await until(lambda: notes.over)
        return notes

    def later(self, seconds):
        """Let the pool believe that so much time has passed."""
        self.origin.reap(asyncio.get_running_loop().time() + seconds)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        self.origin.close()
        for link in tuple(self.origin._links):
            link.drop()
        await until(lambda: not self.origin.open)


async def test_draining_waits_for_what_is_under_way():
    """An order whose visitor has gone is still an order: the end waits for its answer, but not for ever."""
    release = asyncio.Event()

    async def script(origin, peer):
        await origin.read_request(peer)
        await release.wait()
        await peer.send(OK)
        await peer.closed()

    async with RawOrigin(script) as raw, Asker(raw) as asker:
        now = asyncio.get_running_loop().time
        await asker.origin.drain(now() + 5)
        order = asker.begin(b"POST")
        await asker.origin.drain(now() + 0.01)
        await until(lambda: raw.requests)
        order.exchange.cancel()
        await asker.origin.drain(now() + 0.1)
        assert not order.over
        drained = asyncio.ensure_future(asker.origin.drain(now() + 5))
        release.set()
        await asyncio.wait_for(drained, 20)
        assert order.over
        assert asker.origin.idle == 1


async def test_a_connection_is_kept_and_the_last_used_goes_first():
    """Answers free their connection; the most recently freed is used next, and no more are opened than needed."""
    async with RawOrigin(answers(*[OK] * 9)) as raw, Asker(raw) as asker:
        first, second = asker.begin(target=b"/1"), asker.begin(target=b"/2")
        await until(lambda: first.over and second.over)
        assert (asker.origin.open, asker.origin.idle) == (2, 2)
        last = asker.origin._idle[-1]
        for _ in range(3):
            assert (await asker.ask()).body == b"ok"
            assert asker.origin._idle[-1] is last
        assert len(raw.peers) == 2


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"X",
        OK + OK,
        OK.replace(b"Content", b"Connection: close\r\nContent"),
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nX",
    ],
)
async def test_a_connection_with_more_to_say_is_not_kept(answer):
    """Bytes beyond an answer, or an origin that closes, end the connection; the next answer is the next one's own."""

    async def script(origin, peer):
        await origin.read_request(peer)
        await peer.send(answer if len(origin.peers) == 1 else OK.replace(b"ok", b"hi"))
        await peer.closed()

    async with RawOrigin(script) as raw, Asker(raw) as asker:
        assert (await asker.ask()).body == b"ok"
        assert asker.origin.idle == 0
        assert (await asker.ask()).body == b"hi"


@pytest.mark.parametrize(
    ("method", "answer"), [(b"HEAD", OK), (b"GET", b"HTTP/1.1 304 N\r\n\r\nok"), (b"GET", b"HTTP/1.1 204 N\r\n\r\nok")]
)
async def test_a_body_where_none_may_be_is_nobodys(method, answer):
    """A body after HEAD, 204 or 304 is not read as the next answer."""

    async def script(origin, peer):
        await origin.read_request(peer)
        await peer.send(answer if len(origin.peers) == 1 else OK)
        await peer.closed()

    async with RawOrigin(script) as raw, Asker(raw) as asker:
        assert (await asker.ask(method)).body == b""
        assert (await asker.ask()).body == b"ok"
        assert len(raw.peers) == 2


@pytest.mark.parametrize("seen", [True, False])
async def test_unasked_bytes_never_answer_the_next_request(seen):
    """What an origin says on an idle connection drops it, even when the event loop has not looked yet."""

    async def script(origin, peer):
        await origin.read_request(peer)
        await peer.send(OK if len(origin.peers) == 1 else OK.replace(b"ok", b"hi"))
        await peer.closed()

    async with RawOrigin(script) as raw, Asker(raw) as asker:
        await asker.ask()
        fd = socket.socket(fileno=socket.dup(raw.peers[0].writer.get_extra_info("socket").fileno()))
        fd.send(OK.replace(b"ok", b"XX"))
        fd.close()
        if seen:
            await until(lambda: not asker.origin.open)
        assert (await asker.ask()).body == b"hi"
        assert len(raw.peers) == 2


def stale(reset):
    """An origin that closes its first connection instead of answering the second request on it."""

    async def script(origin, peer):
        await origin.read_request(peer)
        await peer.send(OK)
        if len(origin.peers) == 1:
            await origin.read_request(peer)
            if reset:
                peer.reset()
            return
        await peer.closed()

    return script


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS"])
async def test_a_stale_connection_is_retried_once_for_safe_requests(method, reset):
    """A kept connection that closes before any byte of an answer is replaced, once, unseen by the visitor."""
    async with RawOrigin(stale(reset)) as raw, Asker(raw) as asker:
        await asker.ask()
        assert (await asker.ask(method, b"/again")).answer.status == 200
        assert [target for _, target, _, _ in raw.requests] == [b"/", b"/again", b"/again"]


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize(
    ("method", "size"), [(b"POST", 0), (b"POST", 3), (b"PUT", 3), (b"DELETE", 0), (b"PATCH", 0), (b"GET", 3)]
)
async def test_nothing_else_is_ever_sent_twice(method, size, reset):
    """A request that may change something, or has a body, fails instead of being repeated."""
    async with RawOrigin(stale(reset)) as raw, Asker(raw) as asker:
        await asker.ask()
        notes = asker.begin(method, b"/once", size)
        notes.exchange.write(b"x" * size)
        notes.exchange.end()
        await until(lambda: notes.over)
        assert notes.error.status == 502
        assert notes.error.sent
        assert len(raw.requests) == 2


async def test_an_answer_that_had_begun_is_not_asked_for_again():
    """A kept connection that breaks after the first byte of an answer fails the request: the origin has acted."""

    async def script(origin, peer):
        await origin.read_request(peer)
        await peer.send(OK)
        await origin.read_request(peer)
        await peer.send(b"HTTP/1.1 2")

    async with RawOrigin(script) as raw, Asker(raw) as asker:
        await asker.ask()
        assert (await asker.ask()).error.reason == "closed"
        assert len(raw.requests) == 2


async def test_a_connection_still_owed_a_body_is_not_kept():
    """When the answer comes before the body was sent whole, the rest would be read as a request: drop it."""

    async def script(origin, peer):
        await peer.read_head()
        await peer.send(OK)
        await peer.closed()

    async with RawOrigin(script) as raw, Asker(raw) as asker:
        notes = asker.begin(b"POST", body_length=10)
        await until(lambda: notes.over)
        notes.exchange.write(b"GET / HTTP")
        notes.exchange.end()
        assert asker.origin.idle == 0
        assert (await asker.ask()).body == b"ok"
        assert len(raw.peers) == 2


async def test_a_fresh_connection_is_not_retried():
    """An origin that closes every connection is asked once."""

    async def script(origin, peer):
        await origin.read_request(peer)

    async with RawOrigin(script) as raw, Asker(raw) as asker:
        notes = await asker.ask()
        assert (notes.error.reason, notes.error.status, notes.error.sent) == ("closed", 502, True)
        assert len(raw.requests) == 1


async def test_a_closed_connection_is_not_used():
    """A connection the origin closed meanwhile is not even tried, so an order does not fail by it."""

    async def script(origin, peer):
        await origin.read_request(peer)
        await peer.send(OK)

    async with RawOrigin(script) as raw, Asker(raw) as asker:
        for _ in range(3):
            assert (await asker.ask(b"POST")).body == b"ok"
            await asyncio.sleep(0.005)
        assert len(raw.requests) == len(raw.peers) == 3


BROKEN = {
    "head": [b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\n\n", b"\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"220 mail\r\n\r\n"],
    "header-bytes": [b"HTTP/1.1 200 OK\r\nA: " + b"b" * 66000, b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 12000 + b"\r\n"],
    "header-count": [b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 300 + b"\r\n"],
    "interim": [b"HTTP/1.1 100 Continue\r\n\r\n" * 17],
    "status": [b"HTTP/1.1 099 X\r\n\r\n"],
    "framing": [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n"],
    "switched": [b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"],
    "closed": [b"", b"HTTP/1.1 200 OK\r\nA:"],
}


@pytest.mark.parametrize(("reason", "raw_answer"), [(reason, raw) for reason, raws in BROKEN.items() for raw in raws])
async def test_a_broken_answer_is_an_error_with_a_reason(reason, raw_answer):
    """An answer that is none is a 502 that says why, and its connection is gone."""

    async def script(origin, peer):
        await origin.read_request(peer)
        await peer.send(raw_answer)
        if reason != "closed":
            await peer.closed()

    async with RawOrigin(script) as raw, Asker(raw) as asker:
        notes = await asker.ask()
        assert (notes.error.reason, notes.error.status) == (reason, 502)
        assert notes.answer is None
        await until(lambda: not asker.origin.open)


async def test_an_answer_in_single_bytes_is_the_same_answer():
    """However slowly an answer drips, it is the same."""

    async def script(origin, peer):
        await origin.read_request(peer)
        raw = b"HTTP/1.1 103 E\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nT: u\r\n\r\n"
        for index in range(len(raw)):
            await peer.send(raw[index : index + 1])
            await asyncio.sleep(0)

    async with RawOrigin(script) as raw, Asker(raw) as asker:
        notes = await asker.ask()
        assert (notes.told, notes.answer.status, notes.body, notes.error) == ([103], 200, b"ok", None)


async def test_an_origin_that_never_answers_is_late():
    """No byte within first_byte_timeout of the whole request is a 504; so is silence in the middle of an answer."""
    async with RawOrigin(lambda *_: asyncio.sleep(5)) as raw, Asker(raw) as asker:
        notes = asker.begin(b"POST", body_length=4)
        notes.exchange.write(b"ab")
        await until(lambda: asker.origin.open)
        asker.later(1000)
        assert not notes.over
        notes.exchange.write(b"cd")
        notes.exchange.end()
        await until(lambda: not notes.paused)
        asker.later(59)
        assert not notes.over
        asker.later(60.1)
        assert isinstance(notes.error, UpstreamTimeout)
        assert (notes.error.reason, notes.error.status, notes.error.sent) == ("first-byte", 504, True)
    async with RawOrigin(stuck) as raw, Asker(raw) as asker:
        notes = asker.begin()
        await until(lambda: notes.body)
        asker.later(299)
        assert not notes.over
        asker.later(300.1)
        assert notes.error.reason == "idle"


async def stuck(origin, peer):
    """Answer a part and then nothing."""
    await peer.read_head()
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx")
    await peer.closed()


async def test_unused_connections_are_closed():
    """A connection nobody used for a while is given back to the origin."""
    async with RawOrigin(answers(OK, OK)) as raw, Asker(raw) as asker:
        await asker.ask()
        asker.later(29)
        assert asker.origin.idle == 1
        asker.later(30.1)
        assert asker.origin.idle == 0
        await until(lambda: not asker.origin.open)


@pytest.mark.parametrize(
    ("said", "kept_s"),
    [
        (b"timeout=5", 4.0),
        (b"max=99, TIMEOUT=5;x", 4.0),
        (b"timeout=1", 0.5),
        (b"timeout=2", 1.0),
        (b"timeout=5, timeout=3", 2.0),
        (b"timeout=3600", 30.0),
        (b"timeout=-5", 30.0),
        (b"timeout=5.5", 30.0),
        (b"timeout=9999999999", 30.0),
        (b"timeout", 30.0),
        (b"max=5, notimeout=5", 30.0),
        (b"\xff,,;=", 30.0),
        (b"timeout=0", None),
    ],
)
async def test_a_connection_is_kept_shorter_than_the_origin_says_it_keeps_it(said, kept_s):
    """``Keep-Alive: timeout`` bounds how long a connection may be idle, with a margin; nonsense there says nothing.

    What is too old is not used, although nobody has looked since: the origin may close it under the next order.
    """
    answer = OK.replace(b"Content", b"Keep-Alive: " + said + b"\r\nContent")
    async with RawOrigin(answers(answer, answer)) as raw, Asker(raw) as asker:
        loop = asyncio.get_running_loop()
        skewed = Skewed(loop)
        asker.origin._loop = skewed
        began = loop.time()
        await asker.ask()
        if kept_s is None:
            assert asker.origin.idle == 0
            return
        (link,) = asker.origin._idle
        assert link.deadline - began == pytest.approx(kept_s, abs=0.2)
        skewed.ahead_s = kept_s - 0.3
        assert (await asker.ask(b"POST")).body == b"ok"
        assert len(raw.peers) == 1


async def test_a_connection_that_was_idle_for_too_long_is_not_used_but_closed():
    """However long ago the reaper looked: an order goes out on a fresh one."""
    answer = OK.replace(b"Content", b"Keep-Alive: timeout=5\r\nContent")
    async with RawOrigin(answers(answer, answer)) as raw, Asker(raw) as asker:
        asker.origin._loop = skewed = Skewed(asyncio.get_running_loop())
        both = [asker.begin(), asker.begin()]
        await until(lambda: all(notes.over for notes in both))
        skewed.ahead_s = 4.1
        assert (await asker.ask(b"POST")).body == b"ok"
        assert len(raw.peers) == 3
        await until(lambda: asker.origin.open == 1)


class Skewed:
    """An event loop whose clock can be put forward."""

    def __init__(self, loop):
        self._loop = loop
        self.ahead_s = 0.0

    def __getattr__(self, name):
        return getattr(self._loop, name)

    def time(self):
        """Tell the time."""
        return self._loop.time() + self.ahead_s


async def test_the_reaper_runs_by_itself():
    """Deadlines are looked at while there is a connection, and no timer is left without one."""
    async with RawOrigin(answers(OK, OK)) as raw, Asker(raw) as asker:
        assert asker.origin._timer is None
        await asker.ask()
        assert asker.origin._timer is not None
        asker.origin._timer.cancel()
        for link in asker.origin._links:
            link.deadline = 0.0
        asker.origin._tick()
        await until(lambda: not asker.origin.open)
        asker.origin._timer.cancel()
        asker.origin._tick()
        assert asker.origin._timer is None


async def test_a_fault_while_connecting_leaves_nobody_waiting(monkeypatch, caplog):
    """What nobody foresaw while connecting is a 502 to the visitor, and a line for the operator."""

    async def breaks(_):
        raise RuntimeError("nobody foresaw this")

    monkeypatch.setattr("waitroom.upstream.dialler.Dialler.dial", breaks)
    async with Asker(Address("127.0.0.1", 1)) as asker:
        notes = await asker.ask()
        assert (notes.error.reason, notes.error.status, notes.error.sent) == ("refused", 502, False)
    assert "connecting to 127.0.0.1:1 failed" in caplog.text


async def test_a_link_kept_while_paused_reads_again():
    """An answer that ends while its reader has paused leaves a connection the next request can use."""
    async with RawOrigin(answers(OK, OK)) as raw, Asker(raw) as asker:
        notes = asker.begin()
        notes.data = lambda _: notes.exchange.pause_reading()
        await until(lambda: notes.over)
        assert (await asker.ask()).body == b"ok"
        assert len(raw.peers) == 1


async def test_the_stack_of_kept_connections_is_bounded(monkeypatch):
    """Beyond the bound a connection is closed instead of kept."""
    monkeypatch.setattr("waitroom.upstream.pool.IDLE_COUNT", 1)
    async with RawOrigin(answers(OK)) as raw, Asker(raw) as asker:
        both = [asker.begin(), asker.begin()]
        await until(lambda: all(notes.over for notes in both))
        assert asker.origin.idle == 1


async def test_an_old_connection_is_not_kept(monkeypatch):
    """However busy the connections are, none is used for ever: an origin that moved is followed."""
    async with RawOrigin(answers(OK, OK, OK, OK)) as raw, Asker(raw) as asker:
        for _ in range(2):
            assert (await asker.ask()).body == b"ok"
        assert len(raw.peers) == 1
        monkeypatch.setattr("waitroom.upstream.pool.AGE_S", 0.0)
        await asker.ask()
        assert asker.origin.idle == 0
        monkeypatch.undo()
        assert (await asker.ask()).body == b"ok"
        assert len(raw.peers) == 2


async def test_nobody_listening_is_refused():
    """A connection refused is a 502 of which the origin saw nothing."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    async with Asker(Address("127.0.0.1", port)) as asker:
        notes = await asker.ask(b"POST")
        assert (notes.error.reason, notes.error.sent) == ("refused", False)


async def test_a_visitor_who_leaves_cancels_the_request():
    """A client that goes away takes its request at the origin with it, before or amid the answer."""
    begun = asyncio.Event()

    async def script(origin, peer):
        _, target, _, _ = await origin.read_request(peer)
        if target == b"/mid":
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx")
        begun.set()
        await peer.closed()
        origin.requests.append("closed")

    for target in (b"/before", b"/mid"):
        begun.clear()
        async with proxy(script) as front:
            client = await front.connect()
            await client.send(GET_OK % target)
            await begun.wait()
            client.finish()
            await until(lambda: front.raw.requests[-1] == "closed")
            assert not front.origin.open


async def test_half_an_order_is_cancelled():
    """A body that will never be whole is cut at the origin, which must not take it for whole."""
    async with proxy(answers(OK)) as front:
        client = await front.connect()
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await until(lambda: front.raw.heads)
        client.finish()
        await until(front.raw.peers[0].reader.at_eof)
        assert not front.raw.requests


async def test_a_whole_order_is_heard_to_its_end():
    """An order sent whole is not cancelled with its visitor: the answer's headers are heeded, the connection kept."""
    release, heeded = asyncio.Event(), []

    async def script(origin, peer):
        await origin.read_request(peer)
        await release.wait()
        await peer.send(
            b"HTTP/1.1 200 OK\r\nWaitroom-Command: revoke\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100000
        )
        await origin.read_request(peer)
        await peer.send(OK)

    async with proxy(script, edit=lambda _, headers: heeded.append(headers) or headers) as front:
        client = await front.connect()
        await client.send(b"POST /order HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
        await until(lambda: front.raw.requests)
        client.reset()
        await until(lambda: not front.hall.wires)
        release.set()
        await until(lambda: front.origin.idle)
        assert heeded == [[(b"Waitroom-Command", b"revoke")]]
        assert (await front.ask(GET_OK % b"/next")).body == b"ok"
        assert len(front.raw.peers) == 1


@pytest.mark.parametrize("endless", [True, False])
async def test_an_abandoned_answer_is_bounded(endless):
    """The answer to an order nobody waits for is read for a bounded time and a bounded size."""

    async def script(origin, peer):
        await origin.read_request(peer)
        if endless:
            await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                await peer.send(b"x" * 100_000)
        await peer.closed()

    async with RawOrigin(script) as raw, Asker(raw) as asker:
        notes = asker.begin(b"POST")
        await until(lambda: raw.requests)
        notes.exchange.cancel()
        notes.exchange.cancel()
        if not endless:
            asker.later(29)
            assert not notes.over
            asker.later(30.1)
        await until(lambda: notes.over and not asker.origin.open)


async def test_cancelling_while_connecting_sends_nothing():
    """A request cancelled before its connection is there never reaches the origin; the connection is kept."""
    async with RawOrigin(answers(OK)) as raw, Asker(raw) as asker:
        notes = asker.begin(b"POST")
        notes.exchange.cancel()
        await until(lambda: asker.origin.idle)
        assert not raw.requests
        assert not notes.over
        assert (await asker.ask()).body == b"ok"


async def test_closing_the_pool_fails_what_was_connecting():
    """Closing ends idle connections and tells those who wait for one."""
    async with RawOrigin(answers(OK)) as raw:
        asker = Asker(raw)
        await asker.ask()
        asker.origin.close()
        await until(lambda: not asker.origin.open)
        notes = asker.begin()
        asker.origin.close()
        await until(lambda: notes.over)
        assert (notes.error.reason, notes.error.sent) == ("stopped", False)


async def test_framing_in_the_headers_is_not_sent():
    """Framing that strays into the header list does not stand beside our own."""
    async with RawOrigin(answers(OK)) as raw, Asker(raw) as asker:
        notes = Notes()
        stray = [
            (b"transfer-Encoding", b"chunked"),
            (b"CONTENT-LENGTH", b"9"),
            (b"connection", b"close"),
            (b"te", b"x"),
        ]
        asker.origin.send(b"GET", b"/", HOST + stray, body_length=0, sink=notes)
        await until(lambda: notes.over)
        assert raw.requests[0][2] == HOST
        with pytest.raises(ValueError, match="line break"):
            asker.origin.send(b"GET", b"/", [(b"A", b"b\r\nC: d")], body_length=0, sink=notes)
