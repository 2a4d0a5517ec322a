"""The HTTP/1.1 server: one object for each connection, from its first byte to its last.

A connection is always in exactly one state. It reads a *head*, byte-counted so that memory is bounded; hands it to the
desk through a passage; reads the *body*, counted by us and not by a parser, and passes it on piece by piece; *waits*
for the answer; and reads the next head. Whatever arrives while it waits stays unread: at most one segment is held, and
the rest is left to TCP. So requests that were sent ahead are served one after the other, in order, and what follows a
message that was refused is never read as a request. A switched connection is a *tunnel*. One that we end is
*lingering* for a moment when the client may still be sending, because a reset would take our answer away from it; and
then *closed*.

Nothing here runs as a task. uvicorn is met at five seams only, which ``check_uvicorn`` names: how a protocol class is
made, the set of connections, a connection's ``shutdown``, ``Config(http=…)``, and the server's own ``shutdown``, which
the worker extends; its own HTTP protocol is not involved.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import select
import socket
import struct
from math import inf
from typing import TYPE_CHECKING, Any, ClassVar, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from waitroom.errors import StartError
from waitroom.upstream.framing import Chunked, write_head
from waitroom.web.framing import Refusal, take_head
from waitroom.web.passage import Passage

if TYPE_CHECKING:
    from waitroom.web.hall import Hall
    from waitroom.web.lane import Shapes
    from waitroom.web.messages import Headers, Request

DRAIN_BYTES = 64 * 1024
"""A body nobody wants is read past up to this size, to keep the connection; beyond it the connection is closed."""

LOOK_S = 1.0
"""How often it is looked whether a client is still there that sent a request ahead: meanwhile it is not read from, and
so its leaving is not told."""

LINGER_S = 2.0
"""How long a connection we end is still read from, so that a client in the middle of sending gets to our answer."""

LINGER_BYTES = 16 * 1024 * 1024
"""How much is read meanwhile; then no more, and the rest of the time is waited out."""

PARTING_S = 2.0
"""How long the two sides of a WebSocket have to answer our Close frames when we stop."""

BURST_COUNT = 16
"""Requests served from one segment before other connections get their turn."""

SPARE_CONNECTIONS = 256
"""Connections beyond the limit that are told so; further ones are closed without a word."""

_HEAD, _BODY, _WAIT, _TUNNEL, _LINGERING, _CLOSED = range(6)

_STATUS_TEXT = {
    400: b"Bad Request",
    408: b"Request Timeout",
    413: b"Content Too Large",
    414: b"URI Too Long",
    431: b"Request Header Fields Too Large",
    501: b"Not Implemented",
    503: b"Service Unavailable",
    505: b"HTTP Version Not Supported",
}
_REFUSAL_HEADERS: Headers = [
    (b"Content-Type", b"text/plain; charset=utf-8"),
    (b"Cache-Control", b"no-store"),
    (b"X-Robots-Tag", b"noindex"),
]
_RETRY: Headers = [(b"Retry-After", b"5")]
_RESET = struct.pack("ii", 1, 0)


class Wire(asyncio.Protocol):
    """One client connection. ``wire_class`` binds it to a hall. All times are loop time in seconds.

    ``deadline`` ends what the state waits for, ``stalled_until`` the wait for a client that does not read,
    ``total_until`` the whole request.
    """

    hall: ClassVar[Hall]

    __slots__ = (
        "_body_open",
        "_body_seen",
        "_chunks",
        "_connections",
        "_left",
        "_loop",
        "_origin_full",
        "_partial",
        "_peer",
        "_read_paused",
        "_served",
        "_shapes",
        "_stash",
        "_state",
        "_taking",
        "_write_full",
        "deadline",
        "keep",
        "passage",
        "stalled_until",
        "total_until",
        "transport",
    )

    def __init__(
        self,
        config: uvicorn.Config,  # noqa: ARG002 - part of the seam
        server_state: ServerState,
        app_state: dict[str, Any],  # noqa: ARG002 - part of the seam
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._loop = _loop or asyncio.get_running_loop()
        self._connections = cast("set[Any]", server_state.connections)
        self._state = _HEAD
        self._peer = ""
        self._partial = b""
        self._stash = b""
        self._chunks: Chunked | None = None
        self._left = 0
        self._body_open = False
        self._body_seen = 0
        self._served = False
        self._shapes: Shapes | None = None
        self._taking = False
        self._read_paused = False
        self._write_full = False
        self._origin_full = False
        self.keep = True
        self.passage: Passage | None = None
        self.deadline = inf
        self.stalled_until = inf
        self.total_until = inf

    # What the transport and the server tell.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection in, or say that there are too many."""
        self.transport = cast("asyncio.Transport", transport)
        address = transport.get_extra_info("peername")
        self._peer = address[0] if isinstance(address, tuple) else ""
        hall = self.hall
        limits = hall.limits
        hall.enter(self)
        self._connections.add(self)
        self.deadline = self._loop.time() + limits.header_timeout_s
        self._served = hall.served < limits.connections_per_worker
        if self._served:
            hall.served += 1
            if hall.lane is not None:
                self._shapes = hall.lane.shapes(self._peer)
            if hall.draining:
                self.shutdown()
        elif len(hall.wires) - hall.served > SPARE_CONNECTIONS:
            hall.tally.refused["connections"] += 1
            self._state = _CLOSED
            self.transport.abort()
        else:
            self.refuse(Refusal(503, "connections", "There are too many connections."), _RETRY)

    def data_received(self, data: bytes) -> None:
        """Go on with what the state expects; what comes although reading is paused waits its turn."""
        if self._stash:
            self._stash += data
        elif not (self._state == _HEAD and self._shapes is not None and not self._partial and self._pass_by(data)):
            self._take(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - how it ended makes no difference
        """Let go of everything; the passage decides what becomes of the origin's part."""
        self._state = _CLOSED
        self._stash = self._partial = b""
        self.hall.leave(self)
        self.hall.served -= self._served
        self._connections.discard(self)
        passage, self.passage = self.passage, None
        if passage is not None:
            passage.gone()

    def pause_writing(self) -> None:
        """Stop the answer: the client does not keep up."""
        self._write_full = True
        self.stalled_until = self._loop.time() + self.hall.limits.idle_timeout_s
        if self.passage is not None and self.passage.exchange is not None:
            self.passage.exchange.pause_reading()

    def resume_writing(self) -> None:
        """Let the answer go on, or the next request begin."""
        self._write_full = False
        self.stalled_until = inf
        if self.passage is not None:
            if self.passage.exchange is not None:
                self.passage.exchange.resume_reading()
        elif self._state == _WAIT:
            self._next()
            self._go_on()

    def shutdown(self) -> None:
        """Begin to stop, the hall draining: what is under way is finished, one more request is answered."""
        if self._state == _TUNNEL and self.passage is not None:
            if self.passage.part():
                self.deadline = min(self._loop.time() + PARTING_S, self.hall.drained_by)
            else:
                self.end_tunnel()
        elif self._state == _HEAD and not self._partial:
            self.deadline = min(self.deadline, self._loop.time() + self.hall.one_more_s)

    def give_up(self) -> None:
        """End now: there is no more time to finish. What was under way is cut, so that it cannot look complete."""
        if self.passage is None and not self._partial and not self.transport.get_write_buffer_size():
            self._close()
        else:
            self.cut()

    def expire(self, now: float) -> None:
        """Act on the deadline that passed before ``now``."""
        passage = self.passage
        if self.stalled_until <= now or self._state == _CLOSED:
            self.cut()
        elif self.total_until <= now and passage is not None:
            self.total_until = inf
            passage.overdue()
        elif self._state == _BODY and passage is not None:
            self._spoil(Refusal(408, "body-idle-timeout", "The body did not come in time."))
        elif self._state == _HEAD and self._partial:
            self.refuse(Refusal(408, "header-timeout", "The header lines did not come in time."))
        elif self._state == _HEAD:
            self._end_idle()
        elif self._state == _TUNNEL:
            self.end_tunnel()
        elif self._state == _WAIT and passage is not None:
            if _poll(self.transport, select.POLLRDHUP):
                self.transport.abort()
            else:
                self.deadline = now + LOOK_S
        else:
            self._close()

    # What the passage asks.

    def may_keep(self) -> bool:
        """Return whether the connection can be kept if the request is answered now, its body perhaps unread."""
        if not self.keep or self.hall.draining:
            return False
        if not self._body_open:
            return True
        request = None if self.passage is None else self.passage.request
        return self._chunks is None and self._left <= DRAIN_BYTES and not (request and b"expect" in request.fields)

    def may_keep_after_relay(self) -> bool:
        """Return whether the connection can be kept after an answer that is about to begin."""
        return self.keep and not self.hall.draining

    def read_body(self, *, whole: bool = False) -> None:
        """Read the body, if there is one: its passage can take it now. ``whole``: it is short, and all of it is due."""
        if self._body_open:
            self._state = _BODY
            if not self._origin_full:
                self.deadline = self._loop.time() + self.hall.limits.body_idle_timeout_s
                if whole:
                    self.total_until = min(self.total_until, self.deadline)
            self._go_on()

    def busy(self) -> bool:
        """Return whether a request is being served, or its answer not yet taken by the client."""
        return self.passage is not None or self.transport.get_write_buffer_size() > 0

    def tunnel(self) -> None:
        """Pass raw bytes from now on, first those that came early."""
        self._state = _TUNNEL
        self.deadline = self.total_until = inf
        if self.hall.draining:
            self.shutdown()
        else:
            self._go_on()

    def end_tunnel(self) -> None:
        """Close both sides, the client's only for sending: what it still sends must not take from it what we sent."""
        passage, self.passage = self.passage, None
        if passage is not None:
            passage.gone()
        self._linger()

    def origin_full(self, *, full: bool) -> None:
        """Stop or go on reading the body."""
        self._origin_full = full
        if self._state == _BODY:
            self.deadline = inf if full else self._loop.time() + self.hall.limits.body_idle_timeout_s
        self._tune()

    def finish(self, passage: Passage, *, keep: bool) -> None:
        """Know that the answer is written whole, and whether the client was told that the connection stays."""
        if self.passage is not passage or self._state == _CLOSED:
            return
        may_keep = keep and self.may_keep()
        self.passage = None
        self.total_until = inf
        self._origin_full = False
        if not (may_keep or (keep and self.hall.draining and not self._body_open)):
            if self._body_open or self._stash or self._state == _TUNNEL or self.hall.draining:
                self._linger()
            else:
                self._close()
        elif self._body_open:
            self._state = _BODY
            self.deadline = self._loop.time() + self.hall.limits.body_idle_timeout_s
        else:
            self._next()
        self._go_on()

    def refuse(self, refusal: Refusal, more: Headers | None = None) -> None:
        """Say why the message is not served, and end the connection."""
        self.hall.tally.refused[refusal.reason] += 1
        body = refusal.text.encode("ascii") + b"\n"
        tail = b"%bContent-Length: %d\r\nConnection: close\r\n" % (self.hall.date_line, len(body))
        start = b"HTTP/1.1 %d %b\r\n" % (refusal.status, _STATUS_TEXT[refusal.status])
        self.transport.write(write_head(start, _REFUSAL_HEADERS + (more or []), tail) + body)
        self._linger()

    def cut(self) -> None:
        """End the connection so that nothing sent on it can look complete."""
        self._state = _CLOSED
        self.deadline = inf
        with contextlib.suppress(OSError):  # the client may have been quicker
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    # Taking bytes in.

    def _pass_by(self, data: bytes) -> bool:
        """Answer by the fast lane, if ``data`` is for it: what follows is as after any answer of ours."""
        hall = self.hall
        assert hall.lane is not None
        assert self._shapes is not None
        answer = None if hall.draining else hall.lane.answer(data, self._shapes)
        if answer is None:
            return False
        hall.tally.requests += 1
        hall.tally.replies += 1
        self.transport.write(answer)
        self._next()
        return True

    def _take(self, data: bytes) -> None:
        """Use up ``data`` as far as the state allows, and stash the rest."""
        self._taking = True
        served = 0
        while data:
            state = self._state
            if state == _BODY:
                data = self._take_body(data)
            elif state == _HEAD:
                if served == BURST_COUNT:
                    self._stash = data
                    self._loop.call_soon(self._go_on)
                    break
                data = self._take_head(data)
                served += 1
            elif state == _WAIT:
                self._stash = data
                if self.passage is not None:
                    self.deadline = self._loop.time() + LOOK_S
                break
            elif state == _TUNNEL and self.passage is not None:
                self.passage.upward(data)
                break
            else:
                self._body_seen += len(data)
                break
        self._taking = False
        self._tune()

    def _take_head(self, data: bytes) -> bytes:
        """Return what follows the head, when it is complete and served or relayed."""
        limits = self.hall.limits
        began = bool(self._partial)
        if began:
            data = self._partial + data
        request, rest = take_head(data, limits, self._peer)
        if request is None:
            self._partial = rest
            if rest and not began:
                self.deadline = self._loop.time() + limits.header_timeout_s
            return b""
        self._partial = b""
        if isinstance(request, Refusal):
            self.refuse(request)
            return b""
        if self._shapes is not None and self.hall.lane is not None:
            self.hall.lane.learn(data[: len(data) - len(rest)], request)
        self._begin(request)
        return rest

    def _begin(self, request: Request) -> None:
        hall = self.hall
        hall.tally.requests += 1
        self._state = _WAIT
        self.deadline = inf
        self.keep = request.keep_alive
        length = request.body_length
        if length != 0:
            self._body_open = True
            self._body_seen = 0
            self._chunks = Chunked() if length is None else None
            self._left = length or 0
        if hall.limits.total_timeout_s is not None:
            self.total_until = self._loop.time() + hall.limits.total_timeout_s
        self.passage = Passage(self, request)
        self.passage.ask()

    def _take_body(self, data: bytes) -> bytes:
        """Pass a piece of the body on, or drop it when its request has been answered; return what follows it."""
        limits = self.hall.limits
        chunks = self._chunks
        if chunks is None:
            payload = data[: self._left]
            data = data[self._left :]
            self._left -= len(payload)
            done = not self._left
        else:
            try:
                payload, data = chunks.feed(data)
            except ValueError:
                self._spoil(Refusal(400, "framing", "The body is malformed."))
                return b""
            self._body_seen += len(payload)
            if limits.body_bytes is not None and self._body_seen > limits.body_bytes:
                self._spoil(Refusal(413, "body-bytes", "The body is too large."))
                return b""
            done = chunks.done
        passage = self.passage
        exchange = None if passage is None else passage.exchange
        if done:
            self._body_open = False
            self._chunks = None
            self._state = _WAIT
            self.deadline = inf
        elif not self._origin_full:
            self.deadline = self._loop.time() + limits.body_idle_timeout_s
        if exchange is not None:
            exchange.write(payload)
            if done:
                exchange.end()
        elif passage is not None:
            passage.gather(payload, done=done)
        elif done:
            self._next()
        return data

    def _spoil(self, refusal: Refusal) -> None:
        """Refuse a request whose body turned out bad, after its head went on."""
        passage, self.passage = self.passage, None
        if passage is not None:
            passage.gone()
            if passage.started:
                self.hall.tally.refused[refusal.reason] += 1
                self.cut()
                return
        self.total_until = inf
        self.refuse(refusal)

    def _next(self) -> None:
        """Be ready for the next head, once the client has taken enough of what it was sent already."""
        if self._write_full:
            self._state = _WAIT
            self.deadline = inf
            return
        self._state = _HEAD
        wait = self.hall.one_more_s if self.hall.draining else self.hall.limits.keep_alive_timeout_s
        self.deadline = self._loop.time() + wait

    def _go_on(self) -> None:
        """Use what was stashed, if the state allows it by now."""
        if self._taking:
            return
        if self._stash and self._state != _WAIT:
            data, self._stash = self._stash, b""
            self._take(data)
        else:
            self._tune()

    def _tune(self) -> None:
        """Read from the socket exactly when there is room for what comes."""
        pause = bool(self._stash) or self._origin_full or (self._state == _LINGERING and self._body_seen > LINGER_BYTES)
        if pause != self._read_paused and not self.transport.is_closing():
            self._read_paused = pause
            if pause:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    # Ending.

    def _end_idle(self) -> None:
        """Close a connection that waits for a request, unless one has come that the loop has not told of yet."""
        if _poll(self.transport, select.POLLIN):
            self.deadline = self._loop.time() + self.hall.one_more_s
        else:
            self._linger()

    def _linger(self) -> None:
        """Close our side, and for a moment drop what the client still sends."""
        self._state = _LINGERING
        self.deadline = self._loop.time() + LINGER_S
        self._stash = self._partial = b""
        self._body_seen = 0
        self._origin_full = False
        if not self.transport.is_closing():
            self.transport.write_eof()
        self._tune()

    def _close(self) -> None:
        """Close once what was written is sent; a client that does not take it is cut at the deadline."""
        self._state = _CLOSED
        self._stash = self._partial = b""
        self.deadline = self._loop.time() + self.hall.limits.idle_timeout_s
        self.transport.close()


def _poll(transport: asyncio.Transport, what: int) -> bool:
    """Return whether ``what``, or an end, has come that the event loop has not seen yet: one system call.

    With ``POLLIN`` that is anything to read, with ``POLLRDHUP`` only that the client will send no more.
    """
    poll = select.poll()
    poll.register(transport.get_extra_info("socket"), what)
    return bool(poll.poll(0))


def wire_class(hall: Hall) -> type[Wire]:
    """Return the protocol class for ``uvicorn.Config(http=…)`` whose connections belong to ``hall``."""
    return type("BoundWire", (Wire,), {"__slots__": (), "hall": hall})


def check_uvicorn() -> None:
    """Raise ``StartError``, naming the version, when uvicorn is not built the way we plug into it."""
    made_with = list(inspect.signature(HttpToolsProtocol.__init__).parameters)[1:]
    config = uvicorn.Config(_no_app, http=Wire, ws="none", lifespan="off", log_config=None)
    config.load()
    fits = (
        made_with == ["config", "server_state", "app_state", "_loop"]
        and callable(getattr(HttpToolsProtocol, "shutdown", None))
        and getattr(config, "http_protocol_class", None) is Wire
        and isinstance(getattr(ServerState(), "connections", None), set)
        and list(inspect.signature(uvicorn.Server.shutdown).parameters) == ["self", "sockets"]
        and inspect.iscoroutinefunction(uvicorn.Server.shutdown)
    )
    if not fits:
        raise StartError(f"uvicorn {uvicorn.__version__} is built differently; install uvicorn>=0.50,<0.60")


async def _no_app(scope: Any, receive: Any, send: Any) -> None:
    """Stand where uvicorn wants an ASGI app; no request ever reaches it."""
