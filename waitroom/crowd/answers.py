"""Whole answers out of bytes, for a client that reads a hundred thousand of them and looks at little of each.

``whole`` takes everything that came so far and says whether an answer stands in it. Heads are searched, not taken
apart: of a waiting page's twelve header lines a visitor needs three. A length, chunks and an end of the connection are
all understood, because any waiting room may stand on the other side.
"""

from __future__ import annotations

import json
from typing import Any

HEAD_BYTES_MAX = 64 * 1024
BODY_BYTES_MAX = 1024 * 1024
INFORMATIONAL = range(100, 200)
BODILESS = frozenset({204, 304})


class Answer:
    """A whole answer. ``closes``: nothing more can be asked on its connection."""

    __slots__ = ("_head", "_low", "body", "closes", "status")

    def __init__(self, status: int, head: bytes, low: bytes, body: bytes, *, closes: bool) -> None:
        self.status = status
        self.body = body
        self.closes = closes
        self._head = head
        self._low = low

    def header(self, name: bytes) -> str | None:
        """Return the first value of a header, named in small letters."""
        value, _ = _field(self._head, self._low, name)
        return None if value is None else value.decode("latin-1")

    def headers(self, name: bytes) -> list[str]:
        """Return every value of a header, named in small letters."""
        found = list[str]()
        value, after = _field(self._head, self._low, name)
        while value is not None:
            found.append(value.decode("latin-1"))
            value, after = _field(self._head, self._low, name, after)
        return found

    def object(self) -> dict[str, Any]:
        """Return the JSON object of the body; empty for anything else."""
        try:
            found = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}


def whole(came: bytes, *, ended: bool = False) -> Answer | None:
    """Return the answer that ``came`` begins with, None while more is to come.

    ``ended``: the other side has closed, so nothing more comes. Raises ``ValueError`` for what is no answer, or too
    long, or cut off.
    """
    start = 0
    while True:
        end = came.find(b"\r\n\r\n", start)
        if end < 0:
            if ended or len(came) - start > HEAD_BYTES_MAX:
                raise ValueError("cut off" if ended else "a head without end")
            return None
        status = _status(came[start : start + 13])
        if status not in INFORMATIONAL:
            break
        start = end + 4
    head, begin = came[start : end + 2], end + 4
    low = head.lower()
    connection, _ = _field(low, low, b"connection")
    closes = connection == b"close" or (low.startswith(b"http/1.0") and connection != b"keep-alive")
    stated, _ = _field(head, low, b"content-length")
    coding, _ = _field(low, low, b"transfer-encoding")
    if status in BODILESS:
        return Answer(status, head, low, b"", closes=closes)
    if coding is not None:
        if coding != b"chunked":
            raise ValueError("an unknown coding")
        body = _chunks(came, begin)
    elif stated is not None:
        length = _length(stated)
        body = came[begin : begin + length] if len(came) >= begin + length else None
    else:
        if len(came) - begin > BODY_BYTES_MAX:
            raise ValueError("too long")
        return Answer(status, head, low, came[begin:], closes=True) if ended else None
    if body is None:
        if ended:
            raise ValueError("cut off")
        return None
    return Answer(status, head, low, body, closes=closes)


def _field(head: bytes, low: bytes, name: bytes, start: int = 0) -> tuple[bytes | None, int]:
    """Return the next value of a header from ``start`` on, and where it ends. Twice as fast as a regular expression."""
    at = low.find(b"\r\n%b:" % name, start)
    if at < 0:
        return None, len(low)
    begin = at + len(name) + 3
    end = low.find(b"\r\n", begin)
    return head[begin:end].strip(), end


def _status(start: bytes) -> int:
    if not start.startswith(b"HTTP/1.") or not start[9:12].isdigit():
        raise ValueError("no HTTP/1")
    return int(start[9:12])


def _length(text: bytes) -> int:
    if not text.isdigit() or int(text) > BODY_BYTES_MAX:
        raise ValueError("no length, or too long")
    return int(text)


def _chunks(came: bytes, at: int) -> bytes | None:
    """Return the body in chunks that begins at ``at``, None while it is not whole."""
    body = b""
    while True:
        end = came.find(b"\r\n", at)
        if end < 0:
            return None
        size = int(came[at:end].split(b";")[0], 16)
        if size < 0 or len(body) + size > BODY_BYTES_MAX:
            raise ValueError("too long")
        at = end + 2
        if not size:
            # Trailers, if any, end with an empty line.
            return body if came.startswith(b"\r\n", at) or came.find(b"\r\n\r\n", at) >= 0 else None
        if len(came) < at + size + 2:
            return None
        body += came[at : at + size]
        at += size + 2
