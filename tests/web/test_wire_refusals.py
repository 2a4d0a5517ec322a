"""What is refused, and that nothing of a refused message is ever read as a request."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_sockets import echo, proxy

from waitroom.model import WireLimits
from waitroom.web.framing import Refusal, judge_partial, read_host, read_request
from waitroom.web.messages import Request

HOST = b"Host: shop.example\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: shop.example\r\n\r\n"


def post(*lines):
    """Return the head of a POST with these header lines."""
    return b"POST /p HTTP/1.1\r\n" + HOST + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


REFUSED = {
    "length and coding": (400, post(b"Content-Length: 5", b"Transfer-Encoding: chunked") + b"0\r\n\r\n"),
    "coding and length": (400, post(b"Transfer-Encoding: chunked", b"Content-Length: 5") + b"0\r\n\r\n"),
    "coding on 1.0": (400, post(b"Transfer-Encoding: chunked").replace(b"1.1", b"1.0") + b"0\r\n\r\n"),
    "coding twice": (400, post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked")),
    "gzip": (501, post(b"Transfer-Encoding: gzip")),
    "gzip, chunked": (501, post(b"Transfer-Encoding: gzip, chunked")),
    "chunked, identity": (400, post(b"Transfer-Encoding: chunked, identity")),
    "identity": (501, post(b"Transfer-Encoding: identity")),
    "xchunked": (501, post(b"Transfer-Encoding: xchunked")),
    "coding with a control byte": (400, post(b"Transfer-Encoding: \x0bchunked")),
    "empty coding": (400, post(b"Transfer-Encoding:")),
    "coding by underscore": (400, post(b"Transfer_Encoding: chunked", b"Content-Length: 0")),
    "length by underscore": (400, post(b"Content_Length: 5", b"Content-Length: 0")),
    "only a length by underscore": (400, post(b"Content_Length: 5")),
    "only a coding by underscore": (400, post(b"transfer_encoding: chunked")),
    "two lengths": (400, post(b"Content-Length: 5", b"Content-Length: 6")),
    "two equal lengths": (400, post(b"Content-Length: 5", b"Content-Length: 5")),
    "a list of lengths": (400, post(b"Content-Length: 5, 5")),
    "signed length": (400, post(b"Content-Length: +5")),
    "negative length": (400, post(b"Content-Length: -1")),
    "hexadecimal length": (400, post(b"Content-Length: 0x5")),
    "empty length": (400, post(b"Content-Length:")),
    "length beyond 64 bits": (400, post(b"Content-Length: 18446744073709551621")),
    "length beyond 18 digits": (400, post(b"Content-Length: 1000000000000000000")),
    "length with a space": (400, post(b"Content-Length: 5 5")),
    "bare LF": (400, b"GET / HTTP/1.1\nHost: a\n\n"),
    "bare LF after a header": (400, b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n"),
    "bare LF before": (400, b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "bare CR in a value": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n"),
    "bare CR in the target": (400, b"GET /\r/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    "obs-fold": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n"),
    "fold of the first line": (400, b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
    "space before colon": (400, b"GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
    "no colon": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n"),
    "empty name": (400, b"GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n"),
    "NUL in a name": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX\x00: x\r\n\r\n"),
    "NUL in a value": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n"),
    "DEL in a value": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: \x7f\r\n\r\n"),
    "fragment": (400, b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"),
    "space in the target": (400, b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
    "two spaces": (400, b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "tab": (400, b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    "space at the end": (400, b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n"),
    "non-ASCII target": (400, b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "NUL in the target": (400, b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "DEL in the target": (400, b"GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n"),
    "no slash": (400, b"GET x HTTP/1.1\r\nHost: a\r\n\r\n"),
    "star for GET": (400, b"GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
    "another authority": (400, b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    "another port": (400, b"GET http://a:81/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    "user in the authority": (400, b"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    "another scheme": (400, b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    "no authority": (400, b"GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n"),
    "CONNECT": (400, b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n"),
    "no Host": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "no Host on 1.0": (400, b"GET / HTTP/1.0\r\n\r\n"),
    "two Hosts": (400, b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
    "empty Host": (400, b"GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    "Host with a path": (400, b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    "Host with a user": (400, b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"),
    "Host with a bad port": (400, b"GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n"),
    "a list of Hosts": (400, b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"),
    "lower-case method": (400, b"get / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "unknown method": (501, b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "RTSP method": (501, b"DESCRIBE / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "RTSP": (400, b"OPTIONS / RTSP/1.0\r\nHost: a\r\n\r\n"),
    "ICE": (400, b"SOURCE / ICE/1.0\r\nHost: a\r\n\r\n"),
    "no version": (400, b"GET /\r\n\r\n"),
    "HTTP/0.9": (505, b"GET / HTTP/0.9\r\nHost: a\r\n\r\n"),
    "HTTP/1.2": (505, b"GET / HTTP/1.2\r\nHost: a\r\n\r\n"),
    "HTTP/2.0": (505, b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
    "HTTP/2 preface": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "HTTP/1.10": (400, b"GET / HTTP/1.10\r\nHost: a\r\n\r\n"),
    "TLS": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    "empty lines": (400, b"\r\n\r\n\r\n\r\n"),
    "upgrade with a length": (400, post(b"Connection: Upgrade", b"Upgrade: x", b"Content-Length: 45") + SMUGGLED),
    "upgrade with chunks": (400, post(b"Connection: upgrade", b"Upgrade: h2c", b"Transfer-Encoding: chunked")),
    "long target": (414, b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n"),
    "endless target": (414, b"GET /" + b"a" * 9000),
    "many headers": (431, b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 100 + b"\r\n"),
    "long headers": (431, b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 33000 + b"\r\n\r\n"),
    "endless headers": (431, b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 33000),
    "long body": (413, post(b"Content-Length: 104857601")),
}

BAD_CHUNKS = {
    "no number": b"zz\r\n",
    "negative": b"-1\r\n",
    "prefixed": b"0x3\r\nabc\r\n",
    "space before": b" 3\r\nabc\r\n",
    "space after": b"3 \r\nabc\r\n",
    "bare LF after the size": b"3\nabc\r\n0\r\n\r\n",
    "bare CR after the size": b"3\rabc\r\n",
    "longer than its size": b"3\r\nabcd\r\n0\r\n\r\n",
    "LF after the data": b"3\r\nabc\n0\r\n\r\n",
    "size beyond 60 bits": b"1" + b"0" * 15 + b"\r\n",
    "endless size": b"0" * 5000,
    "control byte in an extension": b"3;\x00\r\nabc\r\n",
    "endless extensions": b"1;" + b"x" * 4000 + b"\r\na\r\n" + (b"1;" + b"x" * 4000 + b"\r\na\r\n") * 4,
    "bad trailer": b"0\r\nX : y\r\n\r\n",
    "folded trailer": b"0\r\nX: y\r\n z\r\n\r\n",
    "many trailers": b"0\r\n" + b"X: y\r\n" * 65 + b"\r\n",
}


@pytest.mark.parametrize("case", REFUSED)
async def test_a_refused_head_ends_the_connection(case):
    """A message two readers could read differently gets its status and the end; the next visitor their own answer."""
    status, raw = REFUSED[case]
    async with proxy(echo) as front:
        client = await front.connect()
        await client.send(raw if case.startswith("endless") else raw + SMUGGLED)
        response = await client.read_response()
        assert response.status == status
        assert response[b"Connection"] == b"close"
        assert response[b"Cache-Control"] == b"no-store"
        assert response[b"Content-Type"] == b"text/plain; charset=utf-8"
        assert response.body.endswith(b".\n")
        assert await client.read_to_end() == b""
        assert front.hall.tally.refused.total() == 1
        assert (await front.ask(b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n")).body == b"/next"
        assert [target for _, target, _, _ in front.raw.requests] == [b"/next"]


@pytest.mark.parametrize("case", BAD_CHUNKS)
async def test_bad_chunks_end_the_connection(case):
    """A body whose end is unsure is refused, the origin's copy is cut, and nothing after it is read."""
    async with proxy(echo) as front:
        client = await front.connect()
        await client.send(post(b"Transfer-Encoding: chunked") + BAD_CHUNKS[case] + SMUGGLED)
        response = await client.read_response()
        assert (response.status, response[b"Connection"]) == (400, b"close")
        assert await client.read_to_end() == b""
        assert (await front.ask(b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n")).body == b"/next"
        assert [target for _, target, _, _ in front.raw.requests] == [b"/next"]


async def test_a_pipelined_bad_message_spares_the_good_one():
    """The request before a bad one is answered first; the bad one is refused after it."""
    async with proxy(echo) as front:
        client = await front.connect()
        await client.send(b"GET /good HTTP/1.1\r\nHost: a\r\n\r\n" + REFUSED["length and coding"][1] + SMUGGLED)
        assert (await client.read_response()).body == b"/good"
        assert (await client.read_response()).status == 400
        assert await client.read_to_end() == b""
        assert len(front.raw.requests) == 1


async def test_a_body_is_a_body():
    """What looks like a request inside a body is forwarded as body and never served."""
    async with proxy(echo) as front:
        client = await front.connect()
        length = b"Content-Length: %d" % len(SMUGGLED)
        await client.send(post(length) + SMUGGLED)
        assert (await client.read_response()).body == b"/p %d" % len(SMUGGLED)
        await client.send(post(b"Upgrade: x", length) + SMUGGLED)
        assert (await client.read_response()).body == b"/p %d" % len(SMUGGLED)
        assert [body for *_, body in front.raw.requests] == [SMUGGLED] * 2


async def test_the_answer_to_a_large_upload_can_be_read():
    """A client in the middle of sending gets to read why it was refused."""
    async with proxy(echo, WireLimits(body_bytes=1000)) as front:
        client = await front.connect()
        await client.send(post(b"Content-Length: 3000000") + b"x" * 3_000_000)
        assert (await client.read_response()).status == 413
        assert await client.read_to_end() == b""


@pytest.mark.parametrize("seed", range(3))
async def test_mutilated_messages_never_reach_the_origin_ill_framed(seed):
    """However a message is mutilated, the origin sees well-framed requests only, and nobody gets another's answer."""
    chance = random.Random(seed)
    whole = [
        post(b"Content-Length: %d" % len(SMUGGLED)) + SMUGGLED,
        post(b"Transfer-Encoding: chunked") + b"%x\r\n" % len(SMUGGLED) + SMUGGLED + b"\r\n0\r\n\r\n",
        *(raw for _, raw in REFUSED.values() if len(raw) < 1000),
    ]
    scraps = [
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b"\t",
        b"\x00",
        b"0",
        b":",
        b"chunked",
        b"Content-Length: 3\r\n",
        b"\r\n\r\n",
        b";",
    ]
    async with proxy(echo) as front:
        for index in range(120):
            raw = bytearray(b"".join(chance.choices(whole, k=chance.randint(1, 3))))
            for _ in range(chance.randint(0, 3)):
                at = chance.randrange(len(raw))
                raw[at : at + chance.randint(0, 2)] = chance.choice(scraps)
            client = await front.connect()
            cut = chance.randrange(len(raw))
            await client.send(bytes(raw[:cut]))
            await client.send(bytes(raw[cut:]))
            mine = b"/visitor/%d" % index
            assert (await front.ask(b"GET " + mine + b" HTTP/1.1\r\nHost: a\r\n\r\n")).body == mine, (seed, bytes(raw))
            assert not front.raw.failures, (seed, bytes(raw))


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_a_request_or_a_refusal(raw):
    """No bytes make the judge fail, and only a proper request line makes a request."""
    for head in (raw + b"\r\n\r\n", b"GET / HTTP/1.1\r\n" + raw + b"\r\n\r\n"):
        verdict = read_request(head, WireLimits(), "")
        assert isinstance(verdict, (Request, Refusal))
    judge_partial(raw, WireLimits())


@given(
    st.lists(
        st.tuples(st.from_regex(rb"\A[A-Za-z-]{1,12}\Z"), st.from_regex(rb"\A([!-~\x80-\xff]([ -~]{0,9}[!-~])?)?\Z"))
    )
)
@settings(max_examples=200, deadline=None)
def test_headers_are_read_as_they_stand(headers):
    """Whatever passes keeps every header as it stood, and finds the first of each name by its key."""
    head = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"%b: %b\r\n" % pair for pair in headers) + b"\r\n"
    request = read_request(head, WireLimits(), "")
    if isinstance(request, Request):
        assert request.headers == [(b"Host", b"a"), *headers]
        assert request.fields == {name.lower(): value for name, value in reversed(request.headers)}


@pytest.mark.parametrize(
    ("value", "host"),
    [
        (b"Shop.Example", ("shop.example", None)),
        (b"shop.example.:8080", ("shop.example", 8080)),
        (b"127.0.0.1", ("127.0.0.1", None)),
        (b"[::1]:80", ("[::1]", 80)),
        (b"[0:0::0001]:80", ("[::1]", 80)),
        (b"[2001:DB8::0]", ("[2001:db8::]", None)),
        (b"[1::2::3]", None),
        (b"[1.2.3.4]", None),
        (b"my_shop-2", ("my_shop-2", None)),
        (b"", None),
        (b".", None),
        (b"a..b", None),
        (b"-a", None),
        (b"a:", None),
        (b"a:0", None),
        (b"a%2eb", None),
        (b"[::1", None),
        (b"a b", None),
        (b"\xc3\xa9", None),
        (b"a" * 300, None),
    ],
)
def test_a_host_is_read_one_way(value, host):
    """One spelling for each host: lower case, no final dot, no port; the impossible is none."""
    assert read_host(value) == host


@pytest.mark.parametrize("token", [b"h2c", b"H2C", b"websocket, h2c", b"HTTP/2.0", b"TLS/1.0"])
async def test_no_other_http_gets_behind_the_gate(token):
    """An upgrade to another HTTP is not asked of the origin; the request is served, and the connection ends."""
    async with proxy(echo) as front:
        client = await front.connect()
        await client.send(
            b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: " + token + b"\r\n\r\n" + SMUGGLED
        )
        response = await client.read_response()
        assert (response.body, response[b"Connection"]) == (b"/a", b"close")
        assert await client.read_to_end() == b""
        assert [name for name, _ in front.raw.requests[0][2]] == [b"Host"]
        assert len(front.raw.requests) == 1
