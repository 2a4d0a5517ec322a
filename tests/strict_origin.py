"""An origin that keeps every byte it is sent, and reads them with the strict reader.

It runs in a thread, so that a test may talk to a real house in plain blocking code. Each whole request is answered with
what it asked for, so that an answer can be told from another's; ``X-Answer`` in a request chooses how that answer is
framed. A message that the strict reader refuses ends its connection and is kept in ``refused``, with its bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

from house import RecordingOrigin
from strict_reader import Message, Refused, requests


@dataclass
class Line:
    """One connection to the origin: every byte that came, and the requests they were."""

    raw: bytearray = field(default_factory=bytearray)
    heard: list[Message] = field(default_factory=list)
    done: int = 0
    continued: bool = False


def framed(how: bytes, text: bytes, *, head: bool) -> tuple[bytes, bool]:
    """Return an answer whose body is ``text``, framed as ``how`` says, and whether the connection ends behind it."""
    ok = b"HTTP/1.1 200 OK\r\n"
    if how == b"chunked":
        half = len(text) // 2
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (text[:half], text[half:]) if part)
        return ok + b"Transfer-Encoding: chunked\r\n\r\n" + (b"" if head else chunks + b"0\r\nX-Sum: 1\r\n\r\n"), False
    if how == b"close":
        # Without a body nothing but the word says that the connection ends.
        return ok + (b"Connection: close\r\n\r\n" if head else b"\r\n" + text), True
    if how == b"none":
        return b"HTTP/1.1 204 No Content\r\n\r\n", False
    if how == b"unchanged":
        return b"HTTP/1.1 304 Not Modified\r\nContent-Length: 999\r\n\r\n", False
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" if how == b"hints" else b""
    return interim + ok + b"Content-Length: %d\r\n\r\n" % len(text) + (b"" if head else text), False


class StrictOrigin(RecordingOrigin):
    """Listens on ``port`` once started. ``heard`` are all requests so far, in the order they became whole."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Message] = []
        self.refused: list[tuple[str, bytes]] = []
        self.lines: list[Line] = []

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = Line()
        self.lines.append(line)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            while data := await reader.read(65536):
                line.raw += data
                if not self._answer(line, writer):
                    break
                await writer.drain()
            else:
                self._judge_end(line)
        with contextlib.suppress(RuntimeError):
            writer.close()

    def _answer(self, line: Line, writer: asyncio.StreamWriter) -> bool:
        """Answer what has become whole; return whether the connection goes on."""
        unread = bytes(line.raw[line.done :])
        try:
            heard = requests(unread, any_visible_target=True)
        except Refused as refused:
            self.refused.append((str(refused), unread))
            writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return False
        line.done = len(line.raw) - len(heard.rest)
        for message in heard.messages:
            self.heard.append(message)
            line.heard.append(message)
            line.continued = False
            method, target, _ = message.start
            text = b"%b %b %b %d" % (message.one(b"x-turn") or b"-", method, target, len(message.body))
            answer, last = framed(message.one(b"x-answer") or b"", text, head=method == b"HEAD")
            writer.write(answer)
            if last:
                return False
        waiting = heard.unfinished
        if waiting is not None and waiting.all(b"expect") and not line.continued:
            line.continued = True
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True

    def _judge_end(self, line: Line) -> None:
        """A connection may end within a body, whose sender was cut off, but never within a head."""
        rest = bytes(line.raw[line.done :])
        if rest and requests(rest, any_visible_target=True).unfinished is None:
            self.refused.append(("the connection ended within a head", rest))
