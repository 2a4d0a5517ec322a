"""Forwarding and answering, as a client and an origin see it."""

import asyncio
import logging
import re

import pytest
from raw_sockets import Front, RawOrigin, answers, echo, forward_to, proxy, until

from waitroom.model import Address, WireLimits
from waitroom.upstream import Origin
from waitroom.web.messages import Reply

STATUSES = (b"200 OK", b"304 N", b"204 N")
MADE = b"HTTP/1.1 201 Made\r\nDate: d\r\nWaitroom-Stock: 4\r\nContent-Length: 0\r\n\r\n"
GET = b"GET %b HTTP/1.1\r\nHost: shop.example\r\n\r\n"


async def test_a_request_is_forwarded_and_the_connections_are_kept():
    """Request after request reaches the origin, with and without a body, on the same two connections."""
    async with proxy(echo) as front:
        client = await front.connect()
        for index in range(3):
            await client.send(GET % (b"/%d" % index))
            assert (await client.read_response()).body == b"/%d" % index
        await client.send(b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
        assert (await client.read_response()).body == b"/p 5"
        await client.send(b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
        assert (await client.read_response()).body == b"/p 5"
        assert len(front.raw.peers) == 1
        assert front.hall.tally.requests == front.hall.tally.relays == 5


async def test_the_head_arrives_verbatim():
    """The origin gets the target byte for byte, and headers with their order, case and duplicates."""
    target = b"/a//b/../%2F;x=1/\\'\"?q=%00&r=a+b&&=|{}"
    headers = (
        b"HOST: Shop.Example:80\r\nX-b: 1\r\nx-A:2\r\nX-B: \xc3\xa9\t3\r\nCookie: a=b\r\nCOOKIE: c=d\r\nEmpty:\r\n"
    )
    async with proxy(echo) as front:
        await front.ask(b"GET " + target + b" HTTP/1.1\r\n" + headers + b"\r\n")
        first, rest = front.raw.heads[0].split(b"\r\n", 1)
    assert first == b"GET " + target + b" HTTP/1.1"
    assert rest == headers.replace(b"x-A:2", b"x-A: 2").replace(b"Empty:", b"Empty: ") + b"\r\n"


@pytest.mark.parametrize(
    ("sent", "framing"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", None),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", None),
        (b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", (b"Content-Length", b"0")),
        (b"DELETE / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab", (b"Content-Length", b"2")),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 002\r\n\r\nab", (b"Content-Length", b"2")),
        (
            b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n\r\n",
            (b"Transfer-Encoding", b"chunked"),
        ),
    ],
)
async def test_framing_to_the_origin_is_ours(sent, framing):
    """The origin gets one framing header, in our spelling, or none where none is needed."""
    async with proxy(echo) as front:
        assert (await front.ask(sent)).status == 200
        fields = front.raw.requests[0][2]
    assert [pair for pair in fields if pair[0] != b"Host"] == ([] if framing is None else [framing])


async def test_an_absolute_target_goes_on_as_a_path():
    """A target with scheme and authority loses them when the authority is the Host."""
    async with proxy(echo) as front:
        for target, sent in [
            (b"http://SHOP.example/x?y", b"/x?y"),
            (b"http://shop.example:80", b"/"),
            (b"HTTP://shop.example?y", b"/?y"),
        ]:
            assert (await front.ask(GET % target)).body == sent


async def test_pipelined_requests_are_answered_in_order():
    """Requests sent ahead are each answered, in order, whether relayed, with a body, or answered by us."""
    count = 40
    async with RawOrigin(echo) as raw:
        origin = Origin(raw.address, WireLimits())
        relay = forward_to(origin)

        def desk(request):
            return (
                Reply(200, body=request.target)
                if request.method == b"GET" and request.target[-1:] == b"5"
                else relay(request)
            )

        async with Front(desk) as front:
            client = await front.connect()
            post = b"POST /%d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
            sent = b"".join(post % n if n % 3 == 1 else GET % (b"/%d" % n) for n in range(count))
            await client.send(sent)
            for n in range(count):
                assert (await client.read_response()).body.split()[0] == b"/%d" % n
            origin.close()


async def test_a_segment_cut_anywhere_is_the_same_message():
    """A request cut into single bytes is the same request."""
    head = b"\r\nPOST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    raw = head + b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nT: 1\r\n\r\n"
    async with proxy(echo) as front:
        client = await front.connect()
        for index in range(len(raw)):
            await client.send(raw[index : index + 1])
        assert (await client.read_response()).body == b"/p 5"
        assert front.raw.requests[0][3] == b"abcde"
        assert not [name for name, _ in front.raw.requests[0][2] if name == b"T"]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n", b"ok"),
        (b"HTTP/1.1 404 Nope\r\nContent-Length: 0\r\n\r\n", b""),
        (b"HTTP/1.1 999 Denied\r\nContent-Length: 2\r\n\r\nno", b"no"),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", b"ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 999\r\n\r\n", b""),
    ],
)
async def test_every_framing_of_an_answer_arrives_whole(answer, expected):
    """However the origin frames its answer, the client gets it whole and may ask again on the same connection."""
    async with proxy(answers(answer, answer)) as front:
        client = await front.connect()
        for _ in range(2):
            await client.send(GET % b"/")
            response = await client.read_response()
            assert response.body == expected
            assert response.status == int(answer.split()[1])
            assert response[b"Connection"] is None
        assert len(front.raw.peers) == 1


async def test_an_answer_that_ends_with_the_connection_is_chunked_for_the_client():
    """An answer of unknown length that the origin ends in order is whole, and the client's connection stays."""
    async with proxy(answers(b"HTTP/1.1 200 OK\r\n\r\nall of it")) as front:
        client = await front.connect()
        for _ in range(2):
            await client.send(GET % b"/")
            response = await client.read_response()
            assert (response.body, response[b"Transfer-Encoding"]) == (b"all of it", b"chunked")


@pytest.mark.parametrize("framing", [b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b""])
async def test_nothing_waits_for_what_comes_later(framing):
    """A head, and each piece of a stream, reach the client as soon as the origin sent them."""
    more = asyncio.Event()

    async def script(origin, peer):
        await origin.read_request(peer)
        await peer.send(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n")
        for piece in (b"a", b"b", b"c"):
            await more.wait()
            more.clear()
            await peer.send(b"1\r\n" + piece + b"\r\n" if b"chunked" in framing else piece)
        if b"chunked" in framing:
            await peer.send(b"0\r\n\r\n")

    async with proxy(script) as front:
        client = await front.connect()
        await client.send(GET % b"/")
        await client.read_head()
        for piece in (b"a", b"b", b"c"):
            more.set()
            await client.read_until(piece)


async def test_headers_without_a_body_keep_their_length():
    """HEAD and 304 keep the length they speak of; 204 has none."""
    length = b"Content-Length: 1234\r\n\r\n"
    async with proxy(answers(*[b"HTTP/1.1 %b\r\n" % status + length for status in STATUSES])) as front:
        client = await front.connect()
        await client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await client.read_response(b"HEAD"))[b"Content-Length"] == b"1234"
        await client.send(GET % b"/")
        assert (await client.read_response())[b"Content-Length"] == b"1234"
        await client.send(GET % b"/")
        assert (await client.read_response())[b"Content-Length"] is None


async def test_hop_by_hop_headers_of_an_answer_stay_behind():
    """What speaks of the origin's connection, or is named by its Connection, does not reach the client."""
    answer = (
        b"HTTP/1.1 200 Fine\r\nServer: x\r\nDate: then\r\nKeep-Alive: timeout=5\r\n"
        b"Connection: keep-alive, X-Private\r\nX-Private: 1\r\nProxy-Authenticate: a\r\n"
        b"TE: a\r\nTrailer: b\r\nUpgrade: c\r\nX-Kept: 1\r\nx-kept: 2\r\nContent-Length: 0\r\n\r\n"
    )
    async with proxy(answers(answer)) as front:
        response = await front.ask(GET % b"/")
    assert response.raw_head == (
        b"HTTP/1.1 200 Fine\r\nServer: x\r\nDate: then\r\nX-Kept: 1\r\nx-kept: 2\r\nContent-Length: 0\r\n\r\n"
    )


async def test_edit_has_the_last_word_on_headers():
    """The desk's edit sees the status and headers and decides what the client gets."""
    seen = []

    def edit(status, headers):
        seen.append((status, headers))
        return [(b"X-Edited", b"yes")]

    async with proxy(
        answers(b"HTTP/1.1 201 Made\r\nDate: d\r\nWaitroom-Stock: 4\r\nContent-Length: 0\r\n\r\n"), edit=edit
    ) as front:
        response = await front.ask(GET % b"/")
    assert response.headers == [(b"X-Edited", b"yes"), (b"Content-Length", b"0")]
    assert seen == [(201, [(b"Date", b"d"), (b"Waitroom-Stock", b"4")])]


async def test_interim_answers_and_trailers_pass():
    """1xx and trailers reach an HTTP/1.1 client, without the origin's words to us."""
    answer = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\nWaitroom-Stock: 1\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\nWaitroom-Command: revoke\r\n"
        b"Content-Length: 5\r\n\r\n"
    )
    async with proxy(answers(answer)) as front:
        client = await front.connect()
        await client.send(GET % b"/")
        assert (await client.read_response()).raw_head == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert (await client.read_response()).headers == [(b"Link", b"</a>")]
        response = await client.read_response()
        assert (response.body, response.trailers) == (b"ok", [(b"X-Sum", b"1")])


async def test_expect_continue_works_end_to_end():
    """The client's body is sent only after the origin said 100, and that word came from the origin."""

    async def script(origin, peer):
        head = await peer.read_head()
        assert b"Expect: 100-continue" in head
        await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await peer.read_exactly(5) == b"hello"
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async with proxy(script) as front:
        client = await front.connect()
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert (await client.read_response()).status == 100
        await client.send(b"hello")
        assert (await client.read_response()).body == b"ok"


async def test_http_1_0_gets_what_it_understands():
    """A 1.0 client gets no chunks and no 1xx; its connection stays only when it asks and a length is known."""
    chunked = b"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    known = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    async with proxy(answers(known, known, chunked)) as front:
        client = await front.connect()
        await client.send(b"GET / HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\n")
        assert (await client.read_response())[b"Connection"] == b"keep-alive"
        await client.send(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
        assert (await client.read_response())[b"Connection"] == b"close"
        assert await client.read_to_end() == b""
        response = await front.ask(b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
        assert (response.body, response[b"Transfer-Encoding"], response[b"Connection"]) == (b"ok", None, b"close")
        assert front.raw.heads[-1].startswith(b"GET / HTTP/1.1\r\n")


async def test_close_is_heeded():
    """After ``Connection: close`` the answer says so, and what was sent beyond is not read as a request."""
    async with proxy(echo) as front:
        client = await front.connect()
        await client.send(b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" + GET % b"/b")
        response = await client.read_response()
        assert (response.body, response[b"Connection"]) == (b"/a", b"close")
        assert await client.read_to_end() == b""
        assert len(front.raw.requests) == 1


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
async def test_a_reply_of_ours_is_complete(method):
    """A reply has Date and length; HEAD gets the same head and no body; the connection stays."""
    async with Front(lambda _: Reply(202, [(b"X-Ours", b"1")], b"wait")) as front:
        client = await front.connect()
        for _ in range(2):
            await client.send(method + b" / HTTP/1.1\r\nHost: a\r\n\r\n")
            response = await client.read_response(method)
            assert re.match(
                rb"HTTP/1.1 202 Accepted\r\nX-Ours: 1\r\n"
                rb"Date: \w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT\r\nContent-Length: 4\r\n\r\n$",
                response.raw_head,
            )
            assert response.body == (b"" if method == b"HEAD" else b"wait")
        assert front.hall.tally.replies == 2


async def test_bodyless_replies_have_no_body():
    """204 carries neither body nor length, 304 no body."""
    async with Front(lambda request: Reply(int(request.target[1:]), body=b"x")) as front:
        client = await front.connect()
        await client.send(GET % b"/204" + GET % b"/304" + GET % b"/599")
        assert (await client.read_response())[b"Content-Length"] is None
        assert (await client.read_response())[b"Content-Length"] == b"1"
        assert (await client.read_response()).body == b"x"


async def test_a_small_unread_body_is_read_past():
    """A reply does not wait for the body; a small one is dropped and the next request served."""
    async with Front(lambda request: Reply(200, body=request.target)) as front:
        client = await front.connect()
        await client.send(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nGET /")
        assert (await client.read_response()).body == b"/a"
        await client.send(b"evil" + GET % b"/b")
        assert (await client.read_response()).body == b"/b"


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 70000", b"Transfer-Encoding: chunked", b"Content-Length: 9\r\nExpect: 100-continue"]
)
async def test_a_large_or_unsure_unread_body_ends_the_connection(framing):
    """Where the unread body may be large, or may never come, the reply is readable and the connection closes."""
    async with Front(lambda request: Reply(200, body=request.target)) as front:
        client = await front.connect()
        await client.send(b"POST /a HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n")
        response = await client.read_response()
        assert (response.body, response[b"Connection"]) == (b"/a", b"close")
        await client.send(GET % b"/b" * 2000)
        assert await client.read_to_end() == b""
        assert front.hall.tally.requests == 1


async def test_a_decision_may_take_its_time():
    """An awaited verdict is carried out when it is there, body and later requests included."""
    async with RawOrigin(echo) as raw:
        origin = Origin(raw.address, WireLimits())
        decided = asyncio.get_running_loop().create_future()

        async def desk(request):
            await decided
            return forward_to(origin)(request)

        async with Front(desk) as front:
            client = await front.connect()
            await client.send(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab")
            await client.send(b"cd" + GET % b"/b")
            await until(lambda: front.hall.undecided)
            assert not raw.requests
            decided.set_result(None)
            assert (await client.read_response()).body == b"/a 4"
            assert (await client.read_response()).body == b"/b"
            origin.close()


async def test_a_decision_survives_its_visitor():
    """When the client goes, the pending decision is finished, not cancelled, and its result dropped."""
    decided, finished = asyncio.Event(), []

    async def desk(request):
        await decided.wait()
        finished.append(request.target)
        return Reply(200)

    async with Front(desk) as front:
        client = await front.connect()
        await client.send(GET % b"/a")
        await until(lambda: front.hall.undecided)
        client.reset()
        await until(lambda: not front.hall.wires)
        decided.set()
        await until(lambda: finished and not front.hall.undecided)


async def _raises(_):
    raise RuntimeError("the store is on fire")


@pytest.mark.parametrize(
    "desk",
    [
        lambda _: 1 / 0,
        lambda _: None,
        _raises,
        lambda _: Reply(200, [(b"X", b"a\r\nSet-Cookie: b")]),
        lambda _: Reply(200, [(b"X\n", b"a")]),
    ],
)
async def test_a_desk_that_fails_says_nothing_of_itself(desk, caplog):
    """A failing desk is logged with its traceback; the visitor is asked to come again, and sees no trace of it."""
    async with Front(desk) as front:
        client = await front.connect()
        await client.send(GET % b"/")
        response = await client.read_response()
        assert (response.status, response[b"Retry-After"], response[b"Connection"]) == (503, b"1", b"close")
        assert response[b"Cache-Control"] == b"no-store"
        assert b"fire" not in response.body
        assert await client.read_to_end() == b""
    assert [record.exc_info is not None for record in caplog.records if record.levelno == logging.ERROR] == [True]


@pytest.mark.parametrize("edited", [lambda *_: 1 / 0, lambda *_: [(b"X", b"a\nb")]])
async def test_a_failing_edit_shows_nothing_of_the_answer(edited, caplog):
    """When the headers cannot be edited the origin's answer is withheld."""
    async with proxy(echo, edit=edited) as front:
        response = await front.ask(GET % b"/secret")
        assert response.status == 503
        assert b"secret" not in response.body
    assert "editing an answer" in caplog.text


async def test_an_origin_that_is_down_gets_the_fallback():
    """A refused connection is answered by the desk's fallback, and the client's connection stays."""
    async with RawOrigin(echo) as raw:
        address = raw.address
    origin = Origin(Address(address.host, address.port), WireLimits())
    async with Front(forward_to(origin)) as front:
        client = await front.connect()
        for _ in range(2):
            await client.send(GET % b"/")
            response = await client.read_response()
            assert (response.status, response[b"X-Reason"], response.body) == (502, b"refused", b"fallback")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\npart",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\nzz\r\n",
    ],
)
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
async def test_an_answer_cut_short_looks_cut(answer, version):
    """An answer the origin broke off is ended by a reset, so that no framing makes it look complete."""

    async def script(origin, peer):
        await origin.read_request(peer)
        await peer.send(answer)

    async with proxy(script) as front:
        client = await front.connect()
        await client.send(b"GET / HTTP/" + version + b"\r\nHost: a\r\n\r\n")
        assert await client.read_to_end() is None


async def test_a_reset_origin_never_looks_complete():
    """An answer that ends with the connection is cut when the origin resets instead of closing."""
    sent = asyncio.Event()

    async def script(origin, peer):
        await origin.read_request(peer)
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\npart")
        await sent.wait()
        peer.reset()

    for version in (b"1.1", b"1.0"):
        sent.clear()
        async with proxy(script) as front:
            client = await front.connect()
            await client.send(b"GET / HTTP/" + version + b"\r\nHost: a\r\n\r\n")
            await client.read_until(b"part")
            sent.set()
            assert await client.read_to_end() is None


async def test_a_body_that_turns_bad_under_the_answer_cuts_it():
    """When the answer has begun, a malformed body can only end both connections visibly."""

    async def script(origin, peer):
        await peer.read_head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart")
        await peer.closed()

    async with proxy(script) as front:
        client = await front.connect()
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        await client.read_until(b"part")
        await client.send(b"zz\r\n")
        assert await client.read_to_end() is None
        await until(lambda: not front.origin.open)


async def test_a_page_that_fails_is_replaced(caplog):
    """When even the page for a failed origin fails, the visitor is asked to come again."""
    async with RawOrigin(lambda origin, peer: origin.read_request(peer)) as raw:
        origin = Origin(raw.address, WireLimits())
        relay = forward_to(origin)

        def desk(request):
            verdict = relay(request)
            verdict.fallback = lambda _: 1 / 0
            return verdict

        async with Front(desk) as front:
            assert (await front.ask(GET % b"/"))[b"Retry-After"] == b"1"
    assert "page for a failed origin" in caplog.text


async def test_an_early_answer_is_passed_on():
    """An origin that answers before the body is there is heard; the rest of the body goes nowhere."""

    async def script(origin, peer):
        await peer.read_head()
        await peer.send(b"HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno")
        await peer.closed()

    async with proxy(script) as front:
        client = await front.connect()
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 90000\r\n\r\nabc")
        assert (await client.read_response()).status == 413
        await client.send(GET % b"/" * 100)
        assert await client.read_to_end() == b""
        assert front.hall.tally.requests == 1
