"""A strict reader of HTTP/1.1 messages, written from RFC 9110 and RFC 9112 and from nothing else.

It is the second opinion: what the proxy let through is read here once more, from the raw bytes of a connection, by
code that has no line in common with the proxy's and no leniency. Where the RFCs let a recipient be lenient (a bare LF,
an empty line before a request, a folded line, equal lengths said twice) this one is not, because the origin behind a
proxy may be the one that reads such a thing otherwise.

``requests`` and ``answers`` read all bytes of one direction. They return the whole messages and what is left at the
end, and raise ``Refused``, which says why and where, for anything that is no message.

One rule can be relaxed: ``any_visible_target``. RFC 3986 allows fewer characters in a target than browsers send, and
the proxy promises to send targets byte for byte; a ``|`` or a lone ``%`` is then the origin's to refuse. Control bytes,
spaces, ``#`` and bytes beyond ASCII are never let through.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

Fields = list[tuple[bytes, bytes]]

TCHAR = rb"!#$%&'*+\-.^_`|~0-9A-Za-z"
TOKEN = re.compile(rb"[%b]+" % TCHAR)
VALUE = re.compile(rb"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?")
VERSION = re.compile(rb"HTTP/1\.[01]")

UNRESERVED_AND_SUB = rb"A-Za-z0-9\-._~!$&'()*+,;="
PCHAR = rb"(?:[%b:@]|%%[0-9A-Fa-f]{2})" % UNRESERVED_AND_SUB
ORIGIN_FORM = re.compile(rb"(?:/%b*)+(?:\?(?:%b|[/?])*)?" % (PCHAR, PCHAR))
VISIBLE_ORIGIN_FORM = re.compile(rb"/[\x21\x22\x24-\x7e]*")
ABSOLUTE_FORM = re.compile(rb"[A-Za-z][A-Za-z0-9+\-.]*:[\x21\x22\x24-\x7e]+")
AUTHORITY_FORM = re.compile(rb"(?:[%b]|%%[0-9A-Fa-f]{2}|\[[0-9A-Fa-f:.]+\])+:[0-9]+" % UNRESERVED_AND_SUB)
HOST = re.compile(
    rb"(?:\[(?:[0-9A-Fa-f:.]{2,}|v[0-9A-Fa-f]+\.[%b:]+)\]|(?:[%b]|%%[0-9A-Fa-f]{2})+)(?::[0-9]*)?"
    % (UNRESERVED_AND_SUB, UNRESERVED_AND_SUB)
)

QUOTED = rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
CHUNK_LINE = re.compile(
    rb"([0-9A-Fa-f]+)(?:[ \t]*;[ \t]*[%b]+(?:[ \t]*=[ \t]*(?:[%b]+|%b))?)*" % (TCHAR, TCHAR, QUOTED)
)
"""A chunk's size and its extensions (RFC 9112, 7.1.1)."""

ONCE = (b"host", b"content-length", b"transfer-encoding")
"""Fields that say where a message goes and where it ends. Said twice, two readers may heed one each."""

NO_TRAILERS = frozenset(
    {b"transfer-encoding", b"content-length", b"host", b"connection", b"te", b"trailer", b"upgrade", b"expect"}
    | {b"authorization", b"content-encoding", b"content-type", b"content-range", b"cookie", b"set-cookie"}
)
"""What would change how a message is framed, routed or believed, were it said after the body (RFC 9110, 6.5.1)."""


class Refused(Exception):  # noqa: N818 - it is a judgement, not a failure of the reader
    """Why these bytes are no message. ``at`` is the offset of the message they belong to."""

    def __init__(self, why: str, at: int = 0) -> None:
        super().__init__(f"{why} (in the message at byte {at})")
        self.why = why
        self.at = at


class _More(Exception):  # noqa: N818 - it ends a reading, and is no failure either
    """The bytes end before the message does."""

    def __init__(self, head: Message | None) -> None:
        self.head = head


@dataclass
class Message:
    """One message: its start line in three parts, its fields as they stood, its body without framing."""

    start: tuple[bytes, bytes, bytes]
    fields: Fields
    body: bytes = b""
    trailers: Fields = field(default_factory=list)

    def all(self, name: bytes) -> list[bytes]:
        """Return the values of a field, in their order."""
        return [value for key, value in self.fields if key.lower() == name]

    def one(self, name: bytes) -> bytes | None:
        """Return the first value of a field."""
        return next(iter(self.all(name)), None)

    def options(self, name: bytes) -> list[bytes]:
        """Return the members of a list of tokens, in lower case."""
        found = []
        for value in self.all(name):
            for member in value.split(b","):
                option = member.strip(b" \t").lower()
                if option and not TOKEN.fullmatch(option):
                    raise Refused(f"{name.decode()} holds what is no token")
                if option:
                    found.append(option)
        return found

    @property
    def status(self) -> int:
        """An answer's status."""
        return int(self.start[1])


@dataclass
class Heard:
    """What one direction of a connection holds. ``unfinished`` is the head of a message whose body is not whole."""

    messages: list[Message]
    rest: bytes = b""
    unfinished: Message | None = None


def requests(data: bytes, *, any_visible_target: bool = False) -> Heard:
    """Return the requests in ``data``; raise ``Refused`` for what is none."""
    heard, at = Heard([]), 0
    while at < len(data):
        try:
            message, at_next = _request(data, at, any_visible_target=any_visible_target)
        except _More as more:
            heard.rest, heard.unfinished = data[at:], more.head
            break
        except Refused as refused:
            raise Refused(refused.why, at) from None
        heard.messages.append(message)
        at = at_next
    return heard


def answers(data: bytes, *, ended: bool, heads: bool = False) -> Heard:
    """Return the answers in ``data``, interim ones included; raise ``Refused`` for what is none.

    ``ended`` says that the connection was closed in order behind them, which ends a body that has no other end.
    ``heads`` says that some requests may have been HEAD: an answer may then lack the body it tells of.
    """
    heard, at = Heard([]), 0
    while at < len(data):
        try:
            message, at_next = _answer(data, at, ended=ended, heads=heads)
        except _More as more:
            heard.rest, heard.unfinished = data[at:], more.head
            break
        except Refused as refused:
            raise Refused(refused.why, at) from None
        heard.messages.append(message)
        at = at_next
    return heard


def _line(data: bytes, at: int, head: Message | None = None) -> tuple[bytes, int]:
    """Return a line without its CRLF, and where the next begins."""
    end = data.find(b"\r\n", at)
    line = data[at:] if end < 0 else data[at:end]
    if b"\n" in line or b"\r" in (line[:-1] if end < 0 else line):
        raise Refused("a CR or LF stands alone")
    if end < 0:
        raise _More(head)
    return line, end + 2


def _fields(data: bytes, at: int, head: Message | None = None) -> tuple[Fields, int]:
    """Return the field lines up to the empty one, and where the next byte is."""
    found: Fields = []
    while True:
        line, at = _line(data, at, head)
        if not line:
            return found, at
        if line[:1] in (b" ", b"\t"):
            raise Refused("a field line is folded")
        name, colon, value = line.partition(b":")
        if not colon or not TOKEN.fullmatch(name):
            raise Refused("a field's name is no token")
        value = value.strip(b" \t")
        if not VALUE.fullmatch(value):
            raise Refused("a field's value holds a control byte")
        found.append((name, value))


def _request(data: bytes, at: int, *, any_visible_target: bool) -> tuple[Message, int]:
    line, at = _line(data, at)
    parts = line.split(b" ")
    if len(parts) != 3:
        raise Refused("the request line has not three parts")
    method, target, version = parts
    if not TOKEN.fullmatch(method):
        raise Refused("the method is no token")
    if not VERSION.fullmatch(version):
        raise Refused("the version is none of HTTP/1")
    _judge_target(method, target, any_visible=any_visible_target)
    fields, at = _fields(data, at)
    message = Message((method, target, version), fields)
    _judge_once(message)
    hosts = message.all(b"host")
    if len(hosts) != 1 and (hosts or version == b"HTTP/1.1"):
        raise Refused("there is not one Host")
    if hosts and not HOST.fullmatch(hosts[0]):
        raise Refused("the Host is impossible")
    _judge_hops(message)
    lengths, codings = message.all(b"content-length"), message.all(b"transfer-encoding")
    if codings:
        _judge_coding(message, version)
        return _chunked(data, at, message)
    if lengths:
        return _counted(data, at, message, _length(lengths))
    return message, at


def _answer(data: bytes, at: int, *, ended: bool, heads: bool) -> tuple[Message, int]:
    line, at = _line(data, at)
    version, _, rest = line.partition(b" ")
    status, space, reason = rest.partition(b" ")
    if not VERSION.fullmatch(version):
        raise Refused("the version is none of HTTP/1")
    if not re.fullmatch(rb"[1-5][0-9]{2}", status) or not space:
        raise Refused("the status line has no status of three digits and a space behind it")
    if not re.fullmatch(rb"[\t\x20-\x7e\x80-\xff]*", reason):
        raise Refused("the reason holds a control byte")
    fields, at = _fields(data, at)
    message = Message((version, status, reason), fields)
    _judge_once(message)
    _judge_hops(message)
    lengths, codings = message.all(b"content-length"), message.all(b"transfer-encoding")
    if (lengths or codings) and (message.status < 200 or message.status == 204):
        raise Refused("an answer that has no body tells of one")
    length = _length(lengths) if lengths else None
    if codings:
        _judge_coding(message, version)
    if message.status < 200 or message.status in (204, 304):
        return message, at
    if heads and (at == len(data) or data.startswith(b"HTTP/1.", at)):
        return message, at
    if codings:
        return _chunked(data, at, message)
    if length is not None:
        return _counted(data, at, message, length)
    if not ended:
        raise _More(message)
    message.body = data[at:]
    return message, len(data)


def _judge_target(method: bytes, target: bytes, *, any_visible: bool) -> None:
    if method == b"CONNECT":
        if not AUTHORITY_FORM.fullmatch(target):
            raise Refused("CONNECT asks for no authority")
    elif target == b"*":
        if method != b"OPTIONS":
            raise Refused("only OPTIONS asks about all of a server")
    elif target.startswith(b"/"):
        if not (VISIBLE_ORIGIN_FORM if any_visible else ORIGIN_FORM).fullmatch(target):
            raise Refused("the target holds what no URI does")
    elif not ABSOLUTE_FORM.fullmatch(target):
        raise Refused("the target is no path and no URI")


def _judge_once(message: Message) -> None:
    names = [name.lower() for name, _ in message.fields]
    for name in ONCE:
        if names.count(name) > 1:
            raise Refused(f"{name.decode()} is said twice")


def _judge_hops(message: Message) -> None:
    """What speaks of one connection must be named as such (RFC 9110, 7.6.1)."""
    options = message.options(b"connection")
    for name in (b"te", b"upgrade"):
        if message.all(name) and name not in options:
            raise Refused(f"{name.decode()} is not named by Connection")
    if b"close" in options and b"keep-alive" in options:
        raise Refused("Connection says both to close and to keep")


def _judge_coding(message: Message, version: bytes) -> None:
    if message.all(b"content-length"):
        raise Refused("there is a length and a coding")
    if version != b"HTTP/1.1":
        raise Refused("a coding on HTTP/1.0")
    if message.options(b"transfer-encoding") != [b"chunked"]:
        raise Refused("a coding that is not chunked")


def _length(values: list[bytes]) -> int:
    if not re.fullmatch(rb"[0-9]{1,18}", values[0]):
        raise Refused("the length is no number")
    return int(values[0])


def _counted(data: bytes, at: int, message: Message, length: int) -> tuple[Message, int]:
    if len(data) - at < length:
        raise _More(message)
    message.body = data[at : at + length]
    return message, at + length


def _chunked(data: bytes, at: int, message: Message) -> tuple[Message, int]:
    body = []
    while True:
        line, at = _line(data, at, message)
        found = CHUNK_LINE.fullmatch(line)
        if found is None:
            raise Refused("a chunk's line is no size with extensions")
        size = int(found[1], 16)
        if not size:
            break
        if len(data) - at < size + 2:
            if not b"\r\n".startswith(data[at + size :]):
                raise Refused("a chunk is longer than its size")
            raise _More(message)
        body.append(data[at : at + size])
        if data[at + size : at + size + 2] != b"\r\n":
            raise Refused("a chunk is longer than its size")
        at += size + 2
    message.trailers, at = _fields(data, at, message)
    for name, _ in message.trailers:
        if name.lower() in NO_TRAILERS:
            raise Refused("a trailer that may stand only in a head")
    message.body = b"".join(body)
    return message, at
