"""One connection to the origin: writes a request, reads its answer, and tells whether it may be used again.

At most one exchange is on a link at a time. Whatever the origin sends while none is, or beyond the end of an answer,
belongs to nobody: the link is dropped, or the next visitor would get it. An answer that ends with the connection is
whole only when the origin closed in order; a reset, or a close before the announced end, is a cut. Times are not
watched by timers but kept as one ``deadline``, which ``Origin.reap`` compares once a second.
"""

from __future__ import annotations

import asyncio
import logging
import select
import ssl
from math import inf
from typing import TYPE_CHECKING, cast

from waitroom.errors import UpstreamError, UpstreamTimeout
from waitroom.upstream import tls
from waitroom.upstream.framing import FINAL, SWITCHING, Answer, Chunked, Headers, read_answer

if TYPE_CHECKING:
    from waitroom.upstream.exchange import Exchange
    from waitroom.upstream.pool import Origin

logger = logging.getLogger("waitroom.upstream")

ANSWER_HEAD_BYTES = 64 * 1024
"""The longest head of an answer. Twice what common servers send at most, so that no shop's cookies hit it."""

ANSWER_HEADER_COUNT = 256
"""Headers of one answer."""

INTERIM_COUNT = 16
"""Interim (1xx) answers to one request: a few hints are sense, a stream of them is a way to never answer."""

_HEAD, _LENGTH, _CHUNKED, _UNTIL_CLOSE, _TUNNEL = range(5)
_NO_TRAILERS: Headers = []


class Link(asyncio.Protocol):
    """A connection to the origin, without an ``exchange`` while idle. ``born`` and ``deadline`` are loop times."""

    __slots__ = (
        "_answer",
        "_chunks",
        "_interims",
        "_left",
        "_loop",
        "_origin",
        "_partial",
        "_poll",
        "_read_paused",
        "_state",
        "born",
        "deadline",
        "exchange",
        "heard",
        "reused",
        "transport",
        "write_paused",
    )

    def __init__(self, origin: Origin, loop: asyncio.AbstractEventLoop) -> None:
        self._origin = origin
        self._loop = loop
        self.exchange: Exchange | None = None
        self.born = loop.time()
        self.deadline = inf
        self.reused = False
        self.heard = False
        self.write_paused = False
        self._read_paused = False
        self._state = _HEAD
        self._partial = b""
        self._poll = select.poll()
        self._answer: Answer | None = None
        self._chunks: Chunked | None = None
        self._left = 0
        self._interims = 0

    # What the exchange asks.

    def carry(self, exchange: Exchange, data: bytes) -> None:
        """Begin ``exchange`` by writing ``data``, its head and what there is of its body."""
        self.exchange = exchange
        self.heard = False
        self._state = _HEAD
        self._answer = None
        self._interims = 0
        self.transport.write(data)
        if exchange.ended and not self.write_paused:
            self.deadline = self._loop.time() + self._origin.limits.first_byte_timeout_s
        else:
            self.await_progress()

    def await_progress(self) -> None:
        """Set the deadline for what is due next from the origin: to take our bytes, or to answer."""
        exchange = self.exchange
        assert exchange is not None
        limits = self._origin.limits
        if self.write_paused:
            self.deadline = self._loop.time() + limits.idle_timeout_s
        elif self._answer is None and exchange.ended:
            self.deadline = self._loop.time() + limits.first_byte_timeout_s
        elif self._answer is None or self._read_paused:
            self.deadline = inf
        else:
            self.deadline = self._loop.time() + limits.idle_timeout_s
        self.deadline = min(self.deadline, exchange.abandoned_until)

    def took(self) -> None:
        """Know that more was written: while an answer or a tunnel is open, either side's words keep it so."""
        if self._answer is not None:
            self.await_progress()

    def pause_reading(self) -> None:
        """Stop reading the answer: whoever gets it cannot take more just now."""
        if not self._read_paused:
            self._read_paused = True
            self.transport.pause_reading()
            self.await_progress()

    def resume_reading(self) -> None:
        """Go on reading the answer."""
        if self._read_paused:
            self._read_paused = False
            self.transport.resume_reading()
            self.await_progress()

    def usable(self) -> bool:
        """Return whether the idle link is open, not idle for too long, and nothing came on it unseen; else drop it.

        One system call, worth it: bytes sent unasked would be read as the answer to the next visitor's request, and a
        close not yet seen would fail a request that must not be repeated.
        """
        if self.transport.is_closing():
            return False
        if self.deadline <= self._loop.time():  # by now the origin may be closing it, and an order must not meet that
            self.close()
            return False
        if self._poll.poll(0):
            self.transport.abort()
            return False
        return True

    def rest(self, until: float) -> None:
        """Be idle, until then at the latest."""
        self.deadline = until

    def drop(self) -> None:
        """Close at once; the exchange, if any, hears nothing of it."""
        self.exchange = None
        self.transport.abort()

    def close(self) -> None:
        """Close once what was written is sent; the exchange, if any, hears nothing of it."""
        self.exchange = None
        self.deadline = self._loop.time() + self._origin.limits.idle_timeout_s
        self.transport.close()

    def expire(self) -> None:
        """Give up waiting."""
        exchange = self.exchange
        if exchange is None:
            self.transport.abort()
            return
        reason = "first-byte" if self._answer is None and not self.write_paused else "idle"
        self.drop()
        exchange.fail(UpstreamTimeout(reason, sent=True))

    # What the transport tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)
        self._poll.register(transport.get_extra_info("socket"), select.POLLIN)
        self._origin.joined(self)

    def data_received(self, data: bytes) -> None:
        """Read on in the answer."""
        exchange = self.exchange
        if exchange is None:
            self._note_surplus()
            self.transport.abort()
            return
        self.heard = True
        try:
            if self._state == _HEAD:
                rest = self._read_heads(exchange, data)
                if rest is None:
                    return
                self._read_body(exchange, rest)
                if self.exchange is exchange:
                    exchange.sink.flush()
            else:
                self._read_body(exchange, data)
        except UpstreamError as error:
            self.drop()
            exchange.fail(error)

    def eof_received(self) -> None:
        """Take an orderly close as the end of an answer that has no other; the transport then closes."""
        if self.exchange is not None and self._state in (_UNTIL_CLOSE, _TUNNEL) and _is_orderly(self.transport):
            self._finish(self.exchange, b"", _NO_TRAILERS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the exchange that its answer will not be completed."""
        self._origin.left(self)
        exchange, self.exchange = self.exchange, None
        if exchange is None:
            return
        if self.reused and not self.heard and exchange.repeat():
            return
        reason = "cut" if self._answer is not None else "reset" if exc is not None else "closed"
        # Whether a client must show a certificate is said by TLS 1.3 only after all seemed well.
        why = tls.words(exc, self._origin.address.host) if isinstance(exc, ssl.SSLError) else ""
        exchange.fail(UpstreamError(reason, sent=True, why=why))

    def pause_writing(self) -> None:
        """Ask the sender of the body to wait."""
        self.write_paused = True
        if self.exchange is not None:
            self.await_progress()
            self.exchange.sink.pause_sending()

    def resume_writing(self) -> None:
        """Ask the sender of the body to go on."""
        self.write_paused = False
        if self.exchange is not None:
            self.await_progress()
            self.exchange.sink.resume_sending()

    # Reading.

    def _read_heads(self, exchange: Exchange, data: bytes) -> bytes | None:
        """Return what follows the final head, or None when it has not come yet or the exchange is over."""
        while True:
            if self._partial:
                data = self._partial + data
                self._partial = b""
            found = data.find(b"\r\n\r\n")
            end = found + 4 if found >= 0 else len(data)
            if end > ANSWER_HEAD_BYTES:
                raise UpstreamError("header-bytes", sent=True)
            if found < 0:
                if data[:7] != b"HTTP/1."[: len(data)] or b"\n\n" in data:
                    raise UpstreamError("head", sent=True)
                self._partial = data
                return None
            answer = read_answer(data[:end], exchange.method, ANSWER_HEADER_COUNT)
            data = data[end:]
            if answer.status >= FINAL:
                break
            if answer.status == SWITCHING:
                self._switch(exchange, answer, data)
                return None
            self._interims += 1
            if self._interims > INTERIM_COUNT:
                raise UpstreamError("interim", sent=True)
            self.await_progress()
            exchange.sink.informational(answer.status, answer.reason, answer.headers)
            if self.exchange is not exchange or not data:
                return None
        self._answer = answer
        if answer.length is not None:
            self._state, self._left = _LENGTH, answer.length
        elif answer.chunked:
            self._state, self._chunks = _CHUNKED, Chunked()
        else:
            self._state = _UNTIL_CLOSE
        exchange.sink.head(answer)
        return data if self.exchange is exchange else None

    def _switch(self, exchange: Exchange, answer: Answer, early: bytes) -> None:
        asked = exchange.upgrade
        if asked is None or answer.upgrade is None or answer.upgrade.lower() not in _tokens(asked):
            raise UpstreamError("switched", sent=True)
        self._answer = answer
        self._state = _TUNNEL
        self.await_progress()
        exchange.sink.switched(answer, early)

    def _read_body(self, exchange: Exchange, data: bytes) -> None:
        state = self._state
        if state == _LENGTH:
            left = self._left
            size = len(data)
            if size < left:
                self._left = left - size
                self._deliver(exchange, data)
                return
            if size == left:
                if data:
                    exchange.data(data)
                rest = b""
            else:
                if left:
                    exchange.data(data[:left])
                rest = data[left:]
            if self.exchange is exchange:
                self._finish(exchange, rest, _NO_TRAILERS)
        elif state == _CHUNKED:
            assert self._chunks is not None
            try:
                payload, rest = self._chunks.feed(data)
            except ValueError as error:
                raise UpstreamError("framing", sent=True) from error
            self._deliver(exchange, payload)
            if self._chunks.done and self.exchange is exchange:
                self._finish(exchange, rest, self._chunks.trailers)
        else:
            self._deliver(exchange, data)

    def _deliver(self, exchange: Exchange, data: bytes) -> None:
        if data:
            exchange.data(data)
        if self.exchange is exchange:
            self.await_progress()

    def _finish(self, exchange: Exchange, rest: bytes, trailers: Headers) -> None:
        """End the exchange; keep the link only when both sides are exactly between two messages."""
        answer = self._answer
        assert answer is not None
        self.exchange = None
        if rest:
            self._note_surplus()
        clean = answer.keep_alive and exchange.ended and not rest and exchange.upgrade is None
        if clean and not self.write_paused and self._state in (_LENGTH, _CHUNKED) and not self.transport.is_closing():
            if self._read_paused:
                self._read_paused = False
                self.transport.resume_reading()
            self._origin.release(self, answer.kept_s)
        else:
            self.close()
        exchange.finish(trailers)

    def _note_surplus(self) -> None:
        """Say that bytes came that answer nobody: whoever runs the origin should know why it is hung up on."""
        origin = str(self._origin.address)
        logger.warning("more came than an answer", extra={"reason": "origin-surplus", "origin": origin})


def _tokens(upgrade: bytes) -> list[bytes]:
    return [token.strip(b" \t") for token in upgrade.lower().split(b",")]


def _is_orderly(transport: asyncio.Transport) -> bool:
    """Return whether an end that has come is the origin's own word: under TLS anybody on the way can send a FIN.

    Its word is ``close_notify`` (RFC 9112, 9.8). uvloop tells of no other end; asyncio does.
    """
    secured = transport.get_extra_info("ssl_object")
    if secured is None:
        return True
    try:
        return bool(secured.read(1) == b"")
    except ssl.SSLError:
        return False
