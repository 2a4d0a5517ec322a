"""The strict reader judges others, so it is judged first: by messages that are right and by ones that are not."""

import pytest
from strict_reader import Refused, answers, requests

HOST = b"Host: a\r\n"


def post(*lines):
    """Return the head of a POST with these lines."""
    return b"POST /p HTTP/1.1\r\n" + HOST + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


CHUNKED = post(b"Transfer-Encoding: chunked")

GOOD = {
    "the least": (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", [b""]),
    "no Host on 1.0": (b"GET / HTTP/1.0\r\n\r\n", [b""]),
    "a path and a query": (b"GET /a%2Fb;c=d//e?x=/?&y HTTP/1.1\r\nHost: a.b:80\r\n\r\n", [b""]),
    "an absolute target": (b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", [b""]),
    "about all of the server": (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", [b""]),
    "a tunnel's authority": (b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", [b""]),
    "IPv6": (b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", [b""]),
    "an empty value": (b"GET / HTTP/1.1\r\nHost: a\r\nX:\r\nY: \t \r\n\r\n", [b""]),
    "bytes beyond ASCII in a value": (b"GET / HTTP/1.1\r\nHost: a\r\nX: \xc3\xa9 \xff\r\n\r\n", [b""]),
    "a field twice": (b"GET / HTTP/1.1\r\nHost: a\r\nAccept: a\r\nAccept: b\r\n\r\n", [b""]),
    "a length": (post(b"Content-Length: 3") + b"abc", [b"abc"]),
    "a length of nothing": (post(b"Content-Length: 0"), [b""]),
    "chunks": (CHUNKED + b"3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n", [b"abc0123456789"]),
    "chunks with extensions": (CHUNKED + b'3;a=b;c ; d = "e;\\"f"\r\nabc\r\n00\r\n\r\n', [b"abc"]),
    "chunks with a trailer": (CHUNKED + b"0\r\nX-Sum: 1\r\n\r\n", [b""]),
    "a CR within a chunk": (CHUNKED + b"3\r\n\r\n\r\r\n0\r\n\r\n", [b"\r\n\r"]),
    "an upgrade": (post(b"Connection: keep-alive, Upgrade", b"Upgrade: websocket"), [b""]),
    "an expectation": (post(b"Expect: 100-continue", b"Content-Length: 1") + b"x", [b"x"]),
    "several": (post(b"Content-Length: 3") + b"GET" + CHUNKED + b"1\r\nx\r\n0\r\n\r\n" + post(), [b"GET", b"x", b""]),
}


@pytest.mark.parametrize("what", GOOD)
def test_a_message_that_is_right_is_read(what):
    """Each is read whole, by its own framing, and nothing is left."""
    raw, bodies = GOOD[what]
    heard = requests(raw)
    assert [message.body for message in heard.messages] == bodies
    assert (heard.rest, heard.unfinished) == (b"", None)


@pytest.mark.parametrize("what", GOOD)
def test_a_message_cut_anywhere_is_unfinished_and_never_wrong(what):
    """A prefix of what is right is no mistake, and makes no message more than it holds."""
    raw, bodies = GOOD[what]
    for cut in range(len(raw)):
        assert len(requests(raw[:cut]).messages) < len(bodies)


BAD = {
    "two spaces": (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "three parts"),
    "a space in the target": (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", "three parts"),
    "no version": (b"GET /\r\nHost: a\r\n\r\n", "three parts"),
    "an empty line before": (b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "three parts"),
    "a method that is none": (b"G@T / HTTP/1.1\r\nHost: a\r\n\r\n", "method"),
    "HTTP/2": (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", "version"),
    "http in small letters": (b"GET / http/1.1\r\nHost: a\r\n\r\n", "version"),
    "a fragment": (b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", "target"),
    "a backslash": (b"GET /a\\b HTTP/1.1\r\nHost: a\r\n\r\n", "target"),
    "a lone percent": (b"GET /a%zz HTTP/1.1\r\nHost: a\r\n\r\n", "target"),
    "a byte beyond ASCII": (b"GET /\xe9 HTTP/1.1\r\nHost: a\r\n\r\n", "target"),
    "a NUL in the target": (b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n", "target"),
    "no path": (b"GET a HTTP/1.1\r\nHost: a\r\n\r\n", "target"),
    "a star for GET": (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS"),
    "CONNECT to a path": (b"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", "authority"),
    "a bare LF": (b"GET / HTTP/1.1\nHost: a\r\n\r\n", "stands alone"),
    "a bare LF after a field": (b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", "stands alone"),
    "a bare CR": (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", "stands alone"),
    "a folded line": (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", "folded"),
    "a space before the colon": (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", "name"),
    "an empty name": (b"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", "name"),
    "no colon": (b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", "name"),
    "a NUL in a value": (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", "control byte"),
    "no Host": (b"GET / HTTP/1.1\r\n\r\n", "one Host"),
    "two Hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", "host is said twice"),
    "an empty Host": (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", "impossible"),
    "a Host with a user": (b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", "impossible"),
    "a Host with a path": (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "impossible"),
    "two lengths": (post(b"Content-Length: 1", b"Content-Length: 1") + b"x", "content-length is said twice"),
    "a list of lengths": (post(b"Content-Length: 1, 1") + b"x", "no number"),
    "a signed length": (post(b"Content-Length: +1") + b"x", "no number"),
    "an empty length": (post(b"Content-Length:"), "no number"),
    "a length and a coding": (post(b"Content-Length: 1", b"Transfer-Encoding: chunked") + b"0\r\n\r\n", "and a coding"),
    "a coding twice": (post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), "encoding is said twice"),
    "another coding": (post(b"Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n", "not chunked"),
    "a coding that is no token": (post(b"Transfer-Encoding: \x0bchunked"), "control byte"),
    "a coding on 1.0": (CHUNKED.replace(b"1.1", b"1.0") + b"0\r\n\r\n", "on HTTP/1.0"),
    "a chunk's size that is none": (CHUNKED + b"xyz\r\n", "no size"),
    "a chunk's size with a prefix": (CHUNKED + b"0x1\r\nx\r\n0\r\n\r\n", "no size"),
    "a chunk's size and a space": (CHUNKED + b"1 \r\nx\r\n0\r\n\r\n", "no size"),
    "an extension that is none": (CHUNKED + b"1;\r\nx\r\n0\r\n\r\n", "no size"),
    "a bare LF after a size": (CHUNKED + b"1\nx\r\n0\r\n\r\n", "stands alone"),
    "a chunk too long": (CHUNKED + b"1\r\nxy\r\n0\r\n\r\n", "longer than its size"),
    "a chunk too short": (CHUNKED + b"3\r\nx\r\n0\r\n\r\n", "longer than its size"),
    "a length in a trailer": (CHUNKED + b"0\r\nContent-Length: 1\r\n\r\n", "only in a head"),
    "a folded trailer": (CHUNKED + b"0\r\nX: y\r\n z\r\n\r\n", "folded"),
    "an unnamed upgrade": (post(b"Upgrade: websocket"), "not named"),
    "close and keep": (post(b"Connection: close, keep-alive"), "both"),
    "an option that is no token": (post(b"Connection: a b"), "no token"),
    "what follows a body": (post(b"Content-Length: 1") + b"xy\r\n\r\n", "three parts"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_message_that_is_wrong_is_refused(what):
    """Each is refused for what is wrong with it, also behind a message that is right."""
    raw, why = BAD[what]
    with pytest.raises(Refused, match=why):
        requests(raw)
    with pytest.raises(Refused, match=why) as refused:
        requests(post() + raw)
    assert refused.value.at >= len(post())


@pytest.mark.parametrize("target", [b"/a\\b", b"/%", b"/%zz", b"/a|b{c}", b'/"<>^`'])
def test_visible_characters_in_a_target_can_be_let_be(target):
    """Relaxed for that alone, the reader takes any visible target, and still no space, fragment or control byte."""
    assert requests(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n", any_visible_target=True).messages
    for bad in (b" ", b"#", b"\x7f", b"\x00", b"\x80", b"\t"):
        with pytest.raises(Refused):
            requests(b"GET " + target + bad + b" HTTP/1.1\r\nHost: a\r\n\r\n", any_visible_target=True)


OK = b"HTTP/1.1 200 OK\r\n"
GOOD_ANSWERS = {
    "a length": (OK + b"Content-Length: 2\r\n\r\nok", [b"ok"]),
    "chunks and a trailer": (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: y\r\n\r\n", [b"ok"]),
    "until the end": (OK + b"\r\nwhatever\r\n\r\n", [b"whatever\r\n\r\n"]),
    "an empty reason": (b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", [b""]),
    "304 with a length": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", [b""]),
    "interim ones first": (
        b"HTTP/1.1 100 Continue\r\n\r\n" * 2 + OK + b"Content-Length: 2\r\n\r\nok",
        [b"", b"", b"ok"],
    ),
    "several": ((OK + b"Content-Length: 2\r\n\r\nok") * 3, [b"ok"] * 3),
}


@pytest.mark.parametrize("what", GOOD_ANSWERS)
def test_an_answer_that_is_right_is_read(what):
    """Each is read whole, by its own framing; what only the close ends is unfinished before that."""
    raw, bodies = GOOD_ANSWERS[what]
    assert [message.body for message in answers(raw, ended=True).messages] == bodies
    assert bool(answers(raw, ended=False).unfinished) == (what == "until the end")


def test_an_answer_to_a_head_has_no_body():
    """Where a HEAD may have been asked, an answer may be followed by the next at once."""
    head = OK + b"Content-Length: 2\r\n\r\n"
    heard = answers(head + head + b"ok" + head, ended=False, heads=True)
    assert [message.body for message in heard.messages] == [b"", b"ok", b""]
    assert answers(head, ended=True).unfinished is not None


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 900 OK\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"hello\r\n\r\n",
        OK + b"Content-Length: 2\r\n\r\nok\r\n",
        OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        OK + b"X : y\r\nContent-Length: 0\r\n\r\n",
        OK + b"X: y\x00\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_an_answer_that_is_wrong_is_refused(raw):
    """What is no answer, or lies about its body, or has something behind it."""
    with pytest.raises(Refused):
        answers(raw, ended=True)
