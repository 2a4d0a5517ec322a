"""One HTTP/1.1 connection of one visitor: small, because a crowd has hundreds, and bounded in bytes and time.

An answer is either whole or *unknown*: cut off, too late, too long or garbled, one cannot tell what became of the
request, so ``ask`` returns None and the connection is dropped. A connection known to be closed is opened anew; a GET
that meets the closing on its way is sent once more, anything else is not.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

PATIENCE_S = 10.0
"""How long a visitor waits for an answer, connecting included."""

HEAD_BYTES_MAX = 64 * 1024
BODY_BYTES_MAX = 1024 * 1024
INFORMATIONAL = range(100, 200)
COOKIES_MAX = 20

Headers = dict[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. ``headers`` by lower-case name, the last of each; ``cookies`` are the Set-Cookie lines."""

    status: int
    headers: Headers
    cookies: tuple[str, ...]
    body: bytes


class Jar:
    """One browser's cookies for one site. Their paths and dates are not looked at: the site under test has none."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}

    def __getitem__(self, name: str) -> str:
        """Return a cookie's value, empty when there is none."""
        return self._values.get(name, "")

    def header(self) -> Headers:
        """Return the Cookie header to send."""
        text = "; ".join(f"{name}={value}" for name, value in self._values.items())
        return {"Cookie": text} if text else {}

    def keep(self, answer: Answer) -> None:
        """Take in what an answer sets, and let go of what it takes away."""
        for line in answer.cookies:
            pair, *attributes = line.split(";")
            name, _, value = pair.strip().partition("=")
            if any(attribute.strip().lower() == "max-age=0" for attribute in attributes):
                self._values.pop(name, None)
            elif name in self._values or len(self._values) < COOKIES_MAX:
                self._values[name] = value


class Connection:
    """A keep-alive connection to ``host:port``, opened when first needed; one request at a time."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, target: str, headers: Headers, body: bytes = b"") -> Answer | None:
        """Return the answer, or None when what became of the request is unknown."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self._host}:{self._port}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if method == "POST":
            lines.append(f"Content-Length: {len(body)}")
        message = "\r\n".join([*lines, "", ""]).encode("latin-1") + body
        try:
            async with asyncio.timeout(PATIENCE_S):
                if self._streams is not None and self._streams[0].at_eof():
                    self.close()
                idle = self._streams is not None
                answer = await self._exchange(method, message)
                if answer is None and idle and method == "GET":
                    answer = await self._exchange(method, message)
        except (TimeoutError, OSError, EOFError, ValueError, asyncio.LimitOverrunError):
            answer = None
        if answer is None or answer.headers.get("connection", "").lower() == "close":
            self.close()
        return answer

    def close(self) -> None:
        """Let go of the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _exchange(self, method: str, message: bytes) -> Answer | None:
        """Send, and return the answer; None when the other side closed before its first byte."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port, limit=HEAD_BYTES_MAX)
        reader, writer = self._streams
        try:
            writer.write(message)
            first = await reader.read(1)
        except ConnectionError:
            first = b""
        if not first:
            self.close()
            return None
        status, headers, cookies = _head(first + await reader.readuntil(b"\r\n\r\n"))
        while status in INFORMATIONAL:
            status, headers, cookies = _head(await reader.readuntil(b"\r\n\r\n"))
        if method == "HEAD" or status in (204, 304):
            return Answer(status, headers, cookies, b"")
        return Answer(status, headers, cookies, await _body(reader, headers))


def _head(block: bytes) -> tuple[int, Headers, tuple[str, ...]]:
    """Return status, headers and cookies. Raises ``ValueError`` for what is no answer."""
    start, *lines = block.decode("latin-1").split("\r\n")
    version, _, rest = start.partition(" ")
    if not version.startswith("HTTP/1."):
        raise ValueError("not HTTP/1")
    fields = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines if line)]
    return int(rest[:3]), dict(fields), tuple(value for name, value in fields if name == "set-cookie")


async def _body(reader: asyncio.StreamReader, headers: Headers) -> bytes:
    if headers.get("transfer-encoding", "").lower() != "chunked":
        return await reader.readexactly(_bounded(int(headers["content-length"])) if "content-length" in headers else 0)
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        _bounded(len(body) + size)
        body += (await reader.readexactly(size + 2))[:-2]
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass
    return body


def _bounded(size: int) -> int:
    if not 0 <= size <= BODY_BYTES_MAX:
        raise ValueError("too long")
    return size
