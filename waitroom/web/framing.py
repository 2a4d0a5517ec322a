"""Judges a request's head: the raw bytes up to its empty line in, a ``Request`` or a ``Refusal`` out.

Everything that two readers could read differently is refused, because the origin behind us is such a second reader.
The request line is matched here, byte for byte; the header lines are read by llhttp, strictly, from a fresh parser for
every head, so that nothing of one message can reach into the next. What llhttp lets through is judged here: the Host, a
fragment in the target, codings beside ``chunked`` or on HTTP/1.0, an upgrade with a body, names that become a framing
header where ``_`` is read as ``-``. The target goes on verbatim; only an absolute one loses its scheme and authority.

A Host is required of HTTP/1.0 too: rooms are chosen by it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address
from typing import TYPE_CHECKING

import httptools

from waitroom.upstream.framing import LENGTH_DIGITS
from waitroom.web.messages import Headers, Request

if TYPE_CHECKING:
    from waitroom.model import WireLimits


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a message is not served. ``reason`` is one word for counters, ``text`` a line for whoever sent it."""

    status: int
    reason: str
    text: str


METHODS = frozenset(
    b"GET HEAD POST PUT DELETE PATCH OPTIONS QUERY "
    b"ACL BIND CHECKOUT COPY LINK LOCK MERGE MKACTIVITY MKCALENDAR MKCOL MOVE NOTIFY PROPFIND PROPPATCH PURGE REBIND "
    b"REPORT SEARCH SUBSCRIBE UNBIND UNLINK UNLOCK UNSUBSCRIBE M-SEARCH".split(),
)
"""HTTP's methods and WebDAV's, as far as llhttp knows them; its RTSP and ICE ones are no business of ours.

TRACE is none: a shop that answers it shows whoever asks what we wrote for the shop alone.
"""

REQUEST_LINE_BYTES = 32
"""What a request line has besides its target: the longest method, the version, two spaces and the line's end."""

_REQUEST_LINE = re.compile(rb"([A-Z-]{1,16}) ([\x21\x22\x24-\x7e]+) HTTP/1\.([01])\r\n")
_OTHER_VERSION = re.compile(rb"[A-Z-]{1,16} [^\r\n ]+ HTTP/(?:(?!1\.[01]\r)[0-9]\.[0-9]|[2-9])\r\n")
_LONG_METHOD = re.compile(rb"[A-Z-]{17}")
_ABSOLUTE = re.compile(rb"(https?)://([^/?]+)([^\r\n]*)", re.IGNORECASE)
_HOST = re.compile(
    rb"(?P<name>(?:[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*|\[[0-9a-f:.]{2,45}\])"
    rb"\.?(?::(?P<port>[0-9]{1,5}))?",
)
_HOPELESS = re.compile(rb"[^A-Z\r]|\r[^\n]|\r\n[^A-Z\r]")

HOST_BYTES = 253 + len(":65535")
"""The longest name DNS has, and a port."""

PORT_MAX = 65535

_UPGRADES_TO_HTTP = (b"h2", b"h3", b"http", b"tls")
"""Upgrades that would put another HTTP, which nobody here reads, behind the gate."""

_COMMON = b"""
Accept Accept-Encoding Accept-Language Authorization Cache-Control Connection Content-Length Content-Type Cookie
DNT Expect Forwarded Host If-Match If-Modified-Since If-None-Match If-Range Idempotency-Key Origin Pragma
Priority Range Referer Sec-CH-UA Sec-CH-UA-Mobile Sec-CH-UA-Platform Sec-Fetch-Dest Sec-Fetch-Mode Sec-Fetch-Site
Sec-Fetch-User Sec-GPC Sec-Purpose TE Transfer-Encoding Upgrade Upgrade-Insecure-Requests User-Agent Via
X-Forwarded-For X-Forwarded-Host X-Forwarded-Proto X-Requested-With
"""
_FIELDS = {name: name.lower() for spelling in (_COMMON, _COMMON.lower()) for name in spelling.split()}
"""Common spellings and their key, to save the folding. Fixed, so nobody outside can make it grow."""

_ONCE = {
    b"host": ("host", "There must be one Host, and it must be possible."),
    b"content-length": ("framing", "The body's length is ambiguous."),
    b"transfer-encoding": ("framing", "The body's length is ambiguous."),
}
"""Headers that stand in a request at most once, and what is said otherwise."""

_LISTS = frozenset({b"connection", b"upgrade"})
"""Headers of which all lines count, as one list."""

_FRAMING = frozenset({*_ONCE, *_LISTS})


def _bad(reason: str, text: str) -> Refusal:
    return Refusal(400, reason, text)


_UNKNOWN_METHOD = Refusal(501, "method", "This method is not known here.")


class _Reader:
    """Collects what llhttp calls out while it reads one head."""

    __slots__ = ("complete", "headers")

    def __init__(self) -> None:
        self.headers: Headers = []
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.complete = True


def take_head(data: bytes, limits: WireLimits, peer: str) -> tuple[Request | Refusal | None, bytes]:
    """Take the head at the start of ``data``: what it states, or why it is refused, and the bytes that follow it.

    None while it is not complete; the bytes are then those to keep. An empty line before a request is passed over.
    """
    if data[:2] == b"\r\n":
        data = data[2:]
    found = data.find(b"\r\n\r\n")
    end = found + 4 if found >= 0 else len(data)
    if found < 0 or end > limits.header_bytes:
        return judge_partial(data[:end], limits) if data else None, data
    return read_request(data[:end], limits, peer), data[end:]


def read_request(head: bytes, limits: WireLimits, peer: str) -> Request | Refusal:
    """Return the request that ``head`` states, or why it is refused. ``head`` ends with its empty line."""
    line = _REQUEST_LINE.match(head)
    if line is None:
        return _judge_line(head)
    method, target, minor = line.groups()
    if len(target) > limits.target_bytes:
        return Refusal(414, "target-bytes", "The address is too long.")
    if method not in METHODS:
        if method == b"CONNECT":
            return _bad("connect", "This server is no forward proxy.")
        return _UNKNOWN_METHOD
    reader = _Reader()
    fault = None
    try:
        httptools.HttpRequestParser(reader).feed_data(head)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError:
        fault = _bad("head", "The header lines are malformed.")
    if not reader.complete:
        return fault or _bad("head", "The header lines are malformed.")
    if len(reader.headers) > limits.header_count:
        return Refusal(431, "header-count", "There are too many header lines.")
    request = _judge(
        method=method,
        target=target,
        version="1.1" if minor == b"1" else "1.0",
        headers=reader.headers,
        limits=limits,
        peer=peer,
    )
    return fault if fault is not None and isinstance(request, Request) else request


def judge_partial(head: bytes, limits: WireLimits) -> Refusal | None:
    """Return why a head, not complete or too long, will not do, or None while there is hope."""
    if _HOPELESS.match(head) or head.count(b"\n") != head.count(b"\r\n"):
        return _bad("head", "This is no HTTP request.")
    line_end = head.find(b"\r\n")
    if _LONG_METHOD.match(head):
        return _UNKNOWN_METHOD
    if (len(head) if line_end < 0 else line_end) > limits.target_bytes + REQUEST_LINE_BYTES:
        return Refusal(414, "target-bytes", "The address is too long.")
    if len(head) > limits.header_bytes:
        return Refusal(431, "header-bytes", "The header lines are too long.")
    return None


def _judge_line(head: bytes) -> Refusal:
    if _OTHER_VERSION.match(head):
        return Refusal(505, "version", "This server speaks HTTP/1.1.")
    if _LONG_METHOD.match(head):
        return _UNKNOWN_METHOD
    return _bad("request-line", "The request line is malformed.")


def _judge(
    *,
    method: bytes,
    target: bytes,
    version: str,
    headers: Headers,
    limits: WireLimits,
    peer: str,
) -> Request | Refusal:
    fields: dict[bytes, bytes] = {}
    lists: dict[bytes, bytes] = {}
    for name, value in headers:
        key = _FIELDS.get(name)
        if key is None:
            key = name.lower().replace(b"_", b"-")
            if key in _FRAMING and b"_" in name:
                return _bad("underscore", "A header line is ambiguous.")
        if key not in fields:
            fields[key] = value
        elif key in _ONCE:
            return _bad(*_ONCE[key])
        elif key in _LISTS:
            lists[key] = lists.get(key, fields[key]) + b", " + value

    host = read_host(fields.get(b"host", b""))
    if host is None:
        return _bad(*_ONCE[b"host"])
    if not target.startswith(b"/"):
        origin_form = _origin_form(method, target, host)
        if origin_form is None:
            return _bad("target", "The request target is not for this server.")
        target = origin_form

    length: int | None = 0
    coding = fields.get(b"transfer-encoding")
    digits = fields.get(b"content-length")
    if coding is not None:
        if digits is not None or version == "1.0":
            return _bad(*_ONCE[b"content-length"])
        if coding.strip(b" \t").lower() != b"chunked":
            return Refusal(501, "coding", "This transfer coding is not known here.")
        length = None
    elif digits is not None:
        digits = digits.strip(b" \t")
        if not digits.isdigit() or len(digits) > LENGTH_DIGITS:
            return _bad(*_ONCE[b"content-length"])
        length = int(digits)
        if limits.body_bytes is not None and length > limits.body_bytes:
            return Refusal(413, "body-bytes", "The body is too large.")

    keep_alive = version == "1.1"
    upgrade: bytes | None = None
    options = lists.get(b"connection") or fields.get(b"connection")
    if options == b"keep-alive":
        keep_alive = True
    elif options is not None:
        tokens = [token.strip(b" \t") for token in options.lower().split(b",")]
        keep_alive = b"close" not in tokens and (keep_alive or b"keep-alive" in tokens)
        if b"upgrade" in tokens:
            upgrade = lists.get(b"upgrade") or fields.get(b"upgrade")
    if upgrade is not None:
        if length != 0:
            return _bad("upgrade-body", "An upgrade has no body.")
        keep_alive = False
        if version == "1.0" or any(
            token.strip().startswith(_UPGRADES_TO_HTTP) for token in upgrade.lower().split(b",")
        ):
            upgrade = None
    return Request(method, target, version, headers, fields, host[0], peer, length, upgrade, keep_alive)


@lru_cache(maxsize=1024)
def read_host(value: bytes) -> tuple[str, int | None] | None:
    """Return a Host's name in its one spelling, without a final dot, and its port; or None when it is impossible.

    That is lower case, and an IPv6 address as short as it can be: rules compare hosts letter by letter.
    """
    value = value.strip(b" \t").lower()
    found = _HOST.fullmatch(value)
    if found is None or len(value) > HOST_BYTES:
        return None
    port = found["port"]
    if port is not None and not 0 < int(port) <= PORT_MAX:
        return None
    name = found["name"].decode("ascii")
    if name.startswith("["):
        try:
            name = f"[{IPv6Address(name[1:-1])}]"
        except ValueError:
            return None
    return name, None if port is None else int(port)


def _origin_form(method: bytes, target: bytes, host: tuple[str, int | None]) -> bytes | None:
    """Return what to send to the origin for a target that is no path, or None when it is not for this server."""
    if target == b"*":
        return target if method == b"OPTIONS" else None
    found = _ABSOLUTE.fullmatch(target)
    if found is None:
        return None
    scheme, authority, rest = found.groups()
    usual = 443 if scheme.lower() == b"https" else 80
    named = read_host(authority)
    if named is None or (named[0], named[1] or usual) != (host[0], host[1] or usual):
        return None
    if not rest:
        return b"*" if method == b"OPTIONS" else b"/"
    return rest if rest.startswith(b"/") else b"/" + rest
