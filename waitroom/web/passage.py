"""One request's passage through the wire: what the desk decided is carried out, and the answer written.

A passage belongs to a request, not to a connection: what is told to it late, when its visitor is gone or has been
answered otherwise, finds that it is no longer the connection's ``passage`` and changes nothing. Toward the client the
framing is always ours: by length where it is known, chunked where it is not, and until the close for HTTP/1.0. An
answer that breaks off is made to look broken, by a reset.
"""

from __future__ import annotations

import asyncio
import logging
import os
from http import HTTPStatus
from typing import TYPE_CHECKING

from waitroom.errors import UpstreamError, UpstreamTimeout
from waitroom.upstream.framing import BODYLESS, NO_CONTENT, write_head
from waitroom.web.messages import Gather, Headers, Relay, Reply, Request, Verdict
from waitroom.web.websocket import GOING_AWAY, WebSocket, close_frame

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from waitroom.upstream import Answer, Exchange
    from waitroom.web.wire import Wire

log = logging.getLogger("waitroom.wire")

BUSY = Reply(
    503,
    [
        (b"Content-Type", b"text/plain; charset=utf-8"),
        (b"Cache-Control", b"no-store"),
        (b"Retry-After", b"1"),
        (b"X-Robots-Tag", b"noindex"),
    ],
    b"Please try again in a moment.\n",
    close=True,
)
"""The answer when a fault of ours kept us from deciding."""

STATUS_LINES = {status.value: b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode("ascii")) for status in HTTPStatus}
_NOT_FOR_BROWSERS = (b"waitroom-", b"cf-waiting-room-")


class Passage:
    """Carries out a verdict on ``request``; the ``Sink`` of its exchange. ``started`` once an answer's head is out."""

    __slots__ = (
        "_body",
        "_chunked",
        "_gather",
        "_held",
        "_relay",
        "_websocket",
        "_wire",
        "exchange",
        "request",
        "started",
        "tunnel",
    )

    def __init__(self, wire: Wire, request: Request) -> None:
        self._wire = wire
        self._relay: Relay | None = None
        self._gather: Gather | None = None
        self._body = b""
        self._chunked = False
        self._held = b""
        self._websocket: WebSocket | None = None
        self.request = request
        self.exchange: Exchange | None = None
        self.started = False
        self.tunnel = False

    # Deciding.

    def ask(self) -> None:
        """Ask the desk and do what it says, now or when it knows."""
        try:
            verdict = self._wire.hall.desk(self.request)
            if not isinstance(verdict, (Reply, Relay, Gather)):
                self._wait_for(verdict)
                return
        except Exception:
            log.exception("the desk failed")
            verdict = BUSY
        self._act(verdict)

    def _wait_for(self, verdict: Awaitable[Verdict]) -> None:
        future = asyncio.ensure_future(verdict)
        self._wire.hall.undecided.add(future)
        future.add_done_callback(self._decided)

    def _decided(self, future: asyncio.Future[Verdict]) -> None:
        self._wire.hall.undecided.discard(future)
        verdict: Verdict = BUSY
        if future.cancelled():
            log.error("the desk's decision was cancelled")
        elif (error := future.exception()) is not None:
            log.error("the desk failed", exc_info=error)
        else:
            verdict = future.result()
        if self._wire.passage is self:
            self._act(verdict)

    def _act(self, verdict: Verdict) -> None:
        try:
            if isinstance(verdict, Reply):
                self._wire.hall.tally.replies += 1
                self._reply(verdict)
            elif isinstance(verdict, Gather):
                self._wire.hall.tally.replies += 1
                self._begin_to_gather(verdict)
            else:
                self._wire.hall.tally.relays += 1
                self._start(verdict)
        except ValueError:
            log.exception("the desk made a head that cannot be sent")
            self._reply(BUSY)

    def _start(self, relay: Relay) -> None:
        request = self.request
        self._relay = relay
        self.exchange = relay.origin.send(
            request.method,
            request.target,
            relay.headers,
            body_length=request.body_length,
            sink=self,
            upgrade=request.upgrade,
        )
        self._wire.read_body()

    def _begin_to_gather(self, gather: Gather) -> None:
        self._gather = gather
        length = self.request.body_length
        if length == 0:
            self._gathered(b"")
        elif (length or 0) > gather.bytes_max or not self._wire.hall.may_gather(self._wire):
            self._gathered(None)
        else:
            self._wire.read_body(whole=True)

    def _gathered(self, body: bytes | None) -> None:
        assert self._gather is not None
        try:
            reply = self._gather.reply(body)
        except Exception:
            log.exception("answering a body failed")
            reply = BUSY
        self._body = b""
        self._reply(reply)

    def _reply(self, reply: Reply) -> None:
        wire, request, status, body = self._wire, self.request, reply.status, reply.body
        keep = wire.may_keep() and not reply.close
        tail = b"%bContent-Length: %d\r\n%b" % (wire.hall.date_line, len(body), self._connection(keep=keep))
        if status in BODYLESS:
            body = b""
            if status == NO_CONTENT:
                tail = wire.hall.date_line + self._connection(keep=keep)
        start = STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
        head = write_head(start, reply.headers, reply.ready + tail if reply.ready else tail)
        self.started = True
        wire.transport.write(head if request.method == b"HEAD" else head + body)
        wire.finish(self, keep=keep)

    def _connection(self, *, keep: bool) -> bytes:
        if not keep:
            return b"Connection: close\r\n"
        return b"" if self.request.http_version == "1.1" else b"Connection: keep-alive\r\n"

    # What the wire tells.

    def gather(self, piece: bytes, *, done: bool) -> None:
        """Take a piece of a body that is kept here, and answer it when it is whole, or too much."""
        assert self._gather is not None
        self._body += piece
        if len(self._body) > self._gather.bytes_max:
            self._gathered(None)
        elif done:
            self._gathered(self._body)

    def gone(self) -> None:
        """Know that the client is gone, or was answered otherwise."""
        if self.exchange is not None:
            self.exchange.cancel()

    def overdue(self) -> None:
        """Know that the request has taken longer than ``total_timeout``."""
        exchange = self.exchange
        if self.started:
            self._cut(UpstreamTimeout("total", sent=True))
        elif exchange is None:
            self._reply(BUSY)
        else:
            exchange.cancel()
            self._fall_back(UpstreamTimeout("total", sent=True))

    def upward(self, data: bytes) -> None:
        """Pass what the client sends through the tunnel on to the origin."""
        websocket = self._websocket
        if websocket is not None:
            data = websocket.from_client.take(data)
        if data and self.exchange is not None:
            self.exchange.write(data)
        if websocket is not None and websocket.over:
            self._took_leave()

    def part(self) -> bool:
        """Tell both sides of a WebSocket that we go; return whether there is anything to wait for."""
        websocket, exchange = self._websocket, self.exchange
        if websocket is None or websocket.lost or exchange is None:
            return False
        self._wire.transport.write(websocket.from_origin.part(close_frame(GOING_AWAY, None)))
        exchange.write(websocket.from_client.part(close_frame(GOING_AWAY, os.urandom(4))))
        return not websocket.over

    # What the exchange tells: see ``waitroom.upstream.Sink``.

    def informational(self, status: int, reason: bytes, headers: Headers) -> None:
        """Pass an interim answer on to a client that knows of such."""
        if self._wire.passage is self and self.request.http_version == "1.1":
            self._wire.transport.write(write_head(b"HTTP/1.1 %d %b\r\n" % (status, reason), _for_browsers(headers)))

    def head(self, answer: Answer) -> None:
        """Pass the answer's head on, with our framing."""
        headers = self._edited(answer)
        wire = self._wire
        if headers is None or self._wire.passage is not self:
            return
        keep = wire.may_keep_after_relay()
        framing = b""
        if answer.length is None:
            if self.request.http_version == "1.1":
                self._chunked = True
                framing = b"Transfer-Encoding: chunked\r\n"
            else:
                keep = False
        elif not answer.bodyless:
            framing = b"Content-Length: %d\r\n" % answer.length
        wire.keep = keep
        date = b"" if answer.dated else wire.hall.date_line
        self._write_head(answer, headers, b"%b%b%b" % (date, framing, self._connection(keep=keep)))

    def switched(self, answer: Answer, early: bytes) -> None:
        """Pass the 101 on, and be a tunnel from then on."""
        headers = self._edited(answer)
        if headers is None or self._wire.passage is not self:
            return
        self._write_head(answer, headers, b"Connection: Upgrade\r\nUpgrade: %b\r\n" % (answer.upgrade or b""))
        if self.started and self._wire.passage is self:
            self.tunnel = True
            if (answer.upgrade or b"").lower() == b"websocket":
                self._websocket = WebSocket()
            self.data(early)
            self.flush()
            self._wire.tunnel()

    def data(self, data: bytes) -> None:
        """Pass a piece of the body on."""
        if not data or self._wire.passage is not self:
            return
        websocket = self._websocket
        if websocket is not None:
            data = websocket.from_origin.take(data)
        if self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        if self._held:
            data = self._held + data
            self._held = b""
        self._wire.transport.write(data)
        if websocket is not None and websocket.over:
            self._took_leave()

    def flush(self) -> None:
        """Write the head now, if nothing of the body came with it."""
        if self._held and self._wire.passage is self:
            self._wire.transport.write(self._held)
            self._held = b""

    def end(self, trailers: Headers) -> None:
        """End the answer as a whole one."""
        # Or the two would keep each other alive until the garbage collector comes, which costs every request.
        self.exchange = None
        if self._wire.passage is not self:
            return
        wire = self._wire
        rest = self._held
        if self._chunked:
            rest += write_head(b"0\r\n", _for_browsers(trailers)) if trailers else b"0\r\n\r\n"
        if rest:
            wire.transport.write(rest)
        wire.finish(self, keep=wire.keep and not self.tunnel)

    def failed(self, error: UpstreamError) -> None:
        """Answer with the fallback, or make the cut visible when the answer was under way."""
        self.exchange = None
        if self._wire.passage is not self:
            return
        if not self.started:
            self._fall_back(error)
        elif self.tunnel:
            self._wire.finish(self, keep=False)
        else:
            self._cut(error)

    def pause_sending(self) -> None:
        """Read no more of the client's body: the origin does not keep up."""
        if self._wire.passage is self:
            self._wire.origin_full(full=True)

    def resume_sending(self) -> None:
        """Read on."""
        if self._wire.passage is self:
            self._wire.origin_full(full=False)

    def _took_leave(self) -> None:
        """End a conversation in which everything is said, if we are to end; else it is for the two to do it."""
        if self._wire.hall.draining:
            self._wire.end_tunnel()

    def _edited(self, answer: Answer) -> Headers | None:
        assert self._relay is not None
        try:
            return self._relay.edit(answer.status, answer.headers)
        except Exception:
            log.exception("editing an answer failed")
            self._give_up()
            return None

    def _write_head(self, answer: Answer, headers: Headers, tail: bytes) -> None:
        try:
            head = write_head(b"HTTP/1.1 %d %b\r\n" % (answer.status, answer.reason), headers, tail)
        except ValueError:
            log.exception("editing an answer made a head that cannot be sent")
            self._give_up()
            return
        self.started = True
        self._held = head

    def _give_up(self) -> None:
        if self._wire.passage is self:
            self.gone()
            self._reply(BUSY)

    def _cut(self, error: UpstreamError) -> None:
        """End an answer that is under way, so that nobody takes it for whole."""
        assert self._relay is not None
        self._wire.cut()
        self._relay.broke(error)

    def _fall_back(self, error: UpstreamError) -> None:
        assert self._relay is not None
        try:
            self._reply(self._relay.fallback(error))
        except Exception:
            log.exception("the page for a failed origin failed")
            self._reply(BUSY)


def _for_browsers(headers: Headers) -> Headers:
    """Return what of interim headers or trailers may go on: the origin's words to us never do."""
    return [field for field in headers if not field[0].lower().startswith(_NOT_FOR_BROWSERS)]
