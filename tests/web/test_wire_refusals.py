"""What is refused, and that nothing of a refused message is ever read as a request."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_sockets import echo, proxy
from wire_cases import BAD_CHUNKS, DISGUISES, PLACES, REFUSED, SMUGGLED, SOUND, disguised, post

from waitroom.model import WireLimits
from waitroom.web.framing import Refusal, judge_partial, read_host, read_request
from waitroom.web.messages import Request


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


@pytest.mark.parametrize("place", PLACES)
async def test_no_byte_disguises_a_coding(place):
    """Whatever byte stands by a coding's name or value: with a length beside it, the message is refused."""
    async with proxy(echo) as front:
        for byte in DISGUISES:
            client = await front.connect()
            await client.send(disguised(place, byte) + SMUGGLED)
            response = await client.read_response()
            assert (response.status, byte) in {(400, byte), (501, byte)}
            assert await client.read_to_end() == b""
        assert front.raw.requests == []


@pytest.mark.parametrize("case", SOUND)
async def test_an_odd_but_sound_message_is_read_to_its_end(case):
    """The origin gets its body, no more and no less, and the request after it is the next one."""
    raw, body = SOUND[case]
    async with proxy(echo) as front:
        client = await front.connect()
        await client.send(raw + SMUGGLED)
        assert (await client.read_response()).status == 200
        assert (await client.read_response()).body == b"/smuggled"
        assert [request[3] for request in front.raw.requests] == [body, b""]


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
