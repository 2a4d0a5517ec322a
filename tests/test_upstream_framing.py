"""Where messages end: the chunk reader, and what an answer's head may say."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waitroom.errors import UpstreamError
from waitroom.upstream.framing import Chunked, read_answer, write_head


@given(st.lists(st.binary(min_size=1, max_size=40)), st.binary(max_size=10), st.data())
def test_chunks_are_read_however_they_are_cut(chunks, after, data):
    """Any body in any chunks, cut into any segments, comes out whole; what follows its end is given back untouched."""
    raw = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0;e=1\r\nA: b \r\n\r\n" + after
    reader, body, rest = Chunked(), b"", b""
    while raw:
        size = data.draw(st.integers(1, len(raw)))
        segment, raw = raw[:size], raw[size:]
        if reader.done:
            rest += segment
            continue
        payload, more = reader.feed(segment)
        body += payload
        rest += more
    assert reader.done
    assert (body, rest) == (b"".join(chunks), after)
    assert reader.trailers == [(b"A", b"b ")]


@given(st.binary(max_size=60))
def test_bad_chunks_raise_nothing_but_value_errors(raw):
    """Any bytes are a body, a part of one, or a ``ValueError``."""
    with contextlib.suppress(ValueError):
        Chunked().feed(raw)


def test_framing_trailers_are_dropped():
    """A trailer that would speak of framing is not kept."""
    reader = Chunked()
    reader.feed(b"0\r\nContent-Length: 5\r\nTransfer-Encoding: x\r\nX: y\r\n\r\n")
    assert reader.trailers == [(b"X", b"y")]


@pytest.mark.parametrize("field", [(b"X", b"a\r\nB: c"), (b"X", b"a\nb"), (b"X", b"a\r"), (b"X\r\n", b"a")])
def test_no_header_breaks_out_of_its_line(field):
    """A head with a line break in a name or value is not written."""
    assert write_head(b"S\r\n", [(b"A", b"b")], b"T: u\r\n") == b"S\r\nA: b\r\nT: u\r\n\r\n"
    with pytest.raises(ValueError, match="line break"):
        write_head(b"S\r\n", [field])


REFUSED = {
    "length and coding": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    "coding and length": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n",
    "signed length": b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n",
    "list of lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n",
    "long length": b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000000000\r\n",
    "other coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n",
    "chunked twice": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "NUL in the reason": b"HTTP/1.1 200 O\x00K\r\n",
    "identity": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n",
    "coding on 1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n",
    "status 1000": b"HTTP/1.1 1000 X\r\n",
    "status 099": b"HTTP/1.1 099 X\r\n",
    "bare LF": b"HTTP/1.1 200 OK\nA: b\r\n",
    "obs-fold": b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n",
    "space before colon": b"HTTP/1.1 200 OK\r\nA : b\r\n",
    "NUL": b"HTTP/1.1 200 OK\r\nA: \x00\r\n",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\n",
    "RTSP": b"RTSP/1.0 200 OK\r\n",
    "a request": b"GET / HTTP/1.1\r\n",
    "many headers": b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 257,
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_ambiguous_answer_is_an_error(case):
    """An answer that leaves it open where it ends, or is no HTTP/1.x, is refused."""
    with pytest.raises(UpstreamError):
        read_answer(REFUSED[case] + b"\r\n", b"GET", 256)


@pytest.mark.parametrize(
    ("head", "method", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"GET", (5, False, False, True)),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: CHUNKED\r\n\r\n", b"GET", (None, True, False, True)),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"GET", (None, False, False, False)),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", b"GET", (5, False, False, False)),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n", b"GET", (5, False, False, True)),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n", b"GET", (5, False, False, False)),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"HEAD", (0, False, True, True)),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"HEAD", (0, False, True, True)),
        (b"HTTP/1.1 304 N\r\nContent-Length: 5\r\n\r\n", b"GET", (0, False, True, True)),
        (b"HTTP/1.1 204 N\r\nContent-Length: 5\r\n\r\n", b"GET", (0, False, True, True)),
        (b"HTTP/1.1 100 C\r\n\r\n", b"GET", (0, False, True, True)),
    ],
)
def test_where_an_answer_ends(head, method, expected):
    """Length, chunks, the close, or no body at all: by status, method and headers together."""
    answer = read_answer(head, method, 256)
    assert (answer.length, answer.chunked, answer.bodyless, answer.keep_alive) == expected
