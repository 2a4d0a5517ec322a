"""How an HTTP/1.1 message is framed: where a body ends, how a head is written, what an answer's head promises.

A message whose end two parties see at different places is how one visitor's request becomes another's answer. So the
end is never guessed here: llhttp reads a head, exactly one and from a fresh parser each time, and this module counts
the body itself. What llhttp lets through although it is ambiguous (codings beside ``chunked``, a coding on HTTP/1.0) is
refused. Nothing in this file does IO; both sides of the wire use it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import inf

import httptools

from waitroom.errors import UpstreamError

Headers = list[tuple[bytes, bytes]]

HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"proxy-connection"},
)
"""Headers that speak about one connection only, besides ``proxy-*`` and those that ``Connection`` names."""

FRAMING = HOP_BY_HOP | {b"content-length"}

_PLAIN = b"""
Accept Accept-Encoding Accept-Language Accept-Ranges Age Authorization Cache-Control Content-Encoding Content-Language
Content-Security-Policy Content-Type Cookie ETag Expect Expires Forwarded Host If-Modified-Since If-None-Match
Last-Modified Link Location Origin Pragma Priority Range Referer Sec-Fetch-Dest Sec-Fetch-Mode Sec-Fetch-Site
Sec-Fetch-User Server Set-Cookie Strict-Transport-Security Upgrade-Insecure-Requests User-Agent Vary Via
Waitroom-Admitted-At Waitroom-Assertion Waitroom-Number Waitroom-Room Waitroom-Visitor X-Content-Type-Options
X-Forwarded-For X-Forwarded-Host X-Forwarded-Proto X-Frame-Options X-Powered-By X-Requested-With
"""
PLAIN = frozenset((_PLAIN + _PLAIN.lower()).split())
"""Common spellings of headers that are no framing, to know them at one look. Others are folded and compared."""

LOWEST, FINAL = 100, 200
"""The lowest status HTTP has, and the lowest that is not interim.

Those beyond 599 are nobody's, but shops send them: they are final, and how they end is not in doubt. To a client they
are 5xx (RFC 9110, 15), and what it makes of one is not ours to decide.
"""

SWITCHING, NO_CONTENT = 101, 204

BODYLESS = frozenset({NO_CONTENT, 304})
"""Final statuses whose answers never have a body, whatever their headers say (RFC 9112, 6.3)."""

LENGTH_DIGITS = 18
"""The longest Content-Length: what surely fits 63 bits, wherever the message goes."""

LINE_BYTES = 4096
"""The longest chunk-size line or trailer line. Real ones have a dozen bytes."""

EXTENSION_BYTES = 16 * 1024
"""All chunk extensions of a body together: they mean nothing to anyone, and are no way to send data past a limit."""

TRAILER_COUNT = 64
"""Trailer lines of one body."""

TRAILER_BYTES = 16 * 1024
"""All trailer lines of a body together."""

_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILER_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")

_KEPT = re.compile(rb'(?:^|[,;])[ \t]*timeout[ \t]*=[ \t]*"?([0-9]{1,9})"?[ \t]*(?=[,;]|$)', re.IGNORECASE)
"""What ``Keep-Alive`` says of time (RFC 2068, 19.7.1, as servers write it); anything else there says nothing."""

_REASON = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
"""The reason behind a status (RFC 9112, 4), of which llhttp says nothing."""

_SIZE, _DATA, _DATA_END, _TRAILER = range(4)


class Chunked:
    """Takes a chunked body apart, however it was cut into segments. ``done`` tells whether the end was seen."""

    __slots__ = ("_carry", "_extension_bytes", "_left", "_state", "_trailer_bytes", "done", "trailers")

    def __init__(self) -> None:
        self.done = False
        self.trailers: Headers = []
        self._state = _SIZE
        self._left = 0
        self._carry = b""
        self._extension_bytes = 0
        self._trailer_bytes = 0

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Return the payload in ``data``, and what follows the body once it is ``done``.

        Raises ``ValueError`` for anything but strict framing; the body's end is unknown from then on.
        """
        if self._carry:
            data = self._carry + data
            self._carry = b""
        payloads = []
        at, end = 0, len(data)
        while at < end:
            if self._state == _DATA:
                payload = data[at : at + self._left]
                payloads.append(payload)
                at += len(payload)
                self._left -= len(payload)
                if not self._left:
                    self._state = _DATA_END
                continue
            if self._state == _DATA_END:
                ending = data[at : at + 2]
                if ending == b"\r\n":
                    at += 2
                    self._state = _SIZE
                    continue
                if ending == b"\r":
                    self._carry = ending
                    break
                raise ValueError("chunk is longer than its size says")
            stop = data.find(b"\r\n", at)
            line = data[at:] if stop < 0 else data[at:stop]
            if len(line) > LINE_BYTES or b"\n" in line:
                raise ValueError("chunk line is too long or ends in a bare LF")
            if stop < 0:
                self._carry = line
                break
            at = stop + 2
            if self._state == _SIZE:
                self._size(line)
            elif line:
                self._trailer(line)
            else:
                self.done = True
                break
        return b"".join(payloads), data[at:] if self.done else b""

    def _size(self, line: bytes) -> None:
        found = _SIZE_LINE.fullmatch(line)
        if found is None:
            raise ValueError("chunk size is no hexadecimal number")
        size, extension = found.groups()
        if extension:
            self._extension_bytes += len(extension)
            if self._extension_bytes > EXTENSION_BYTES:
                raise ValueError("too many chunk extensions")
        self._left = int(size, 16)
        self._state = _DATA if self._left else _TRAILER

    def _trailer(self, line: bytes) -> None:
        found = _TRAILER_LINE.fullmatch(line)
        self._trailer_bytes += len(line)
        if found is None or self._trailer_bytes > TRAILER_BYTES or len(self.trailers) >= TRAILER_COUNT:
            raise ValueError("trailer is malformed, or there are too many")
        name, value = found.groups()
        if name.lower() not in FRAMING:
            self.trailers.append((name, value))


def write_head(start: bytes, headers: Headers, tail: bytes = b"") -> bytes:
    """Return a head: the start line, the headers, and ``tail``, lines of our own that end in CRLF.

    Raises ``ValueError`` when a name or value would break out of its line: whoever made that list was tricked, and the
    rest of the message would be theirs to write.
    """
    head = b"%b%b%b\r\n" % (start, b"".join([b"%b: %b\r\n" % field for field in headers]), tail)
    lines = len(headers) + 2 + (tail.count(b"\n") if tail else 0)
    if head.count(b"\n") != lines or head.count(b"\r") != lines:
        raise ValueError("a header contains a line break")
    return head


@dataclass(slots=True, eq=False)
class Answer:
    """An answer's head. ``headers`` are without the hop-by-hop ones, and without Content-Length where a body follows.

    ``length`` is the body's, None where only its end tells; ``chunked`` then says how the end is told. ``bodyless``
    answers (to HEAD, 204, 304) keep their Content-Length among the headers: it speaks of a body that is not sent.
    ``dated`` tells whether the origin sent a Date. ``upgrade`` is what a 101 switches to. ``kept_s`` is for how long
    the origin says it keeps the connection unused, infinite where it does not say.
    """

    status: int
    reason: bytes
    headers: Headers
    length: int | None
    chunked: bool
    bodyless: bool
    keep_alive: bool
    dated: bool
    upgrade: bytes | None
    kept_s: float = inf


class _Reader:
    """Collects what llhttp calls out while it reads one head."""

    __slots__ = ("complete", "headers", "reason")

    def __init__(self) -> None:
        self.headers: Headers = []
        self.reason = b""
        self.complete = False

    def on_status(self, reason: bytes) -> None:
        self.reason = reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.complete = True


def read_answer(head: bytes, method: bytes, header_count: int) -> Answer:
    """Return what ``head`` says, the raw bytes of an answer to ``method`` up to and with its empty line.

    Raises ``UpstreamError`` when it is no HTTP/1.x, or leaves it open where the answer ends.
    """
    reader = _Reader()
    parser = httptools.HttpResponseParser(reader)
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        raise UpstreamError("head", sent=True) from error
    version = head[:8]
    if not reader.complete or version not in {b"HTTP/1.1", b"HTTP/1.0"}:
        raise UpstreamError("head", sent=True)
    if reader.reason != b"OK" and not _REASON.fullmatch(reader.reason):
        raise UpstreamError("head", sent=True)
    status = parser.get_status_code()
    if status < LOWEST:
        raise UpstreamError("status", sent=True)
    if len(reader.headers) > header_count:
        raise UpstreamError("header-count", sent=True)
    return _judge(status, reader, method, version)


def _judge(status: int, reader: _Reader, method: bytes, version: bytes) -> Answer:
    kept: Headers = []
    length: bytes | None = None
    coding: bytes | None = None
    options: bytes | None = None
    upgrade: bytes | None = None
    dated = False
    kept_s = inf
    for field in reader.headers:
        name, value = field
        if name in PLAIN:
            kept.append(field)
            continue
        name = name.lower()
        if name == b"date":
            dated = True
            kept.append(field)
        elif name == b"content-length":
            length = value.strip(b" \t")
        elif name == b"connection":
            options = value.lower() if options is None else options + b"," + value.lower()
        elif name == b"transfer-encoding":
            coding = value.strip(b" \t").lower() if coding is None else b"said twice"
        elif name == b"upgrade":
            upgrade = value
        elif name not in HOP_BY_HOP and not name.startswith(b"proxy-"):
            kept.append(field)
        elif name == b"keep-alive":
            kept_s = min(kept_s, *map(float, _KEPT.findall(value)), inf)
    keep_alive = version == b"HTTP/1.1"
    if options == b"keep-alive":
        keep_alive = True
    elif options is not None:
        named = {option.strip(b" \t") for option in options.split(b",")}
        if b"close" in named:
            keep_alive = False
        elif b"keep-alive" in named:
            keep_alive = True
        named -= {b"close", b"keep-alive", b"upgrade"}
        if named:
            kept = [field for field in kept if field[0].lower() not in named]
    if coding is not None and (coding != b"chunked" or version != b"HTTP/1.1" or length is not None):
        raise UpstreamError("framing", sent=True)
    if length is not None and not (length.isdigit() and len(length) <= LENGTH_DIGITS):
        raise UpstreamError("framing", sent=True)
    bodyless = method == b"HEAD" or status in BODYLESS or status < FINAL
    if bodyless and length is not None and status >= FINAL and status != NO_CONTENT:
        kept.append((b"Content-Length", length))
    chunked = coding is not None and not bodyless
    size = 0 if bodyless else None if length is None else int(length)
    if size is None and not chunked:
        keep_alive = False
    return Answer(status, reader.reason, kept, size, chunked, bodyless, keep_alive, dated, upgrade, kept_s)
