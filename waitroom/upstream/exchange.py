"""One request to the origin and its answer, from the moment it is asked for until it is over.

An exchange outlives the link it travels on in one case: a kept connection that the origin had closed meanwhile, before
a single byte of an answer. A request that may be repeated (safe, and without a body) is then sent once more, on a fresh
link; any other has failed, for nobody can know whether the origin acted on it.

When the visitor goes away the link is closed, which tells the origin to stop. Not so for a request that changes
something and was sent whole: the order is placed, and what the origin says about it (a revoked pass, new stock) is
still read, within bounds, although its body reaches nobody.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from waitroom.errors import UpstreamError
    from waitroom.upstream.framing import Answer, Headers
    from waitroom.upstream.link import Link
    from waitroom.upstream.pool import Origin

SAFE = frozenset({b"GET", b"HEAD", b"OPTIONS"})
"""Methods that ask and change nothing: without a body they may be sent twice."""

IDEMPOTENT = SAFE | {b"PUT", b"DELETE"}
"""Methods whose repetition by the visitor does no harm: their answer is not worth waiting for when nobody reads it."""

ABANDONED_S = 30.0
"""How long the answer to an abandoned order is waited for."""

ABANDONED_BYTES = 1024 * 1024
"""How much of the body of such an answer is read past, to keep the connection."""


class Sink(Protocol):
    """Who gets the answer. Either ``end`` or ``failed`` is called, once and last; never from within ``Origin.send``.

    After ``Exchange.cancel`` nothing is called any more, except for an order sent whole, whose sink still gets
    ``head`` and then ``end`` or ``failed``, but no ``data``. ``flush`` follows ``head`` unless the answer is over.
    """

    def informational(self, status: int, reason: bytes, headers: Headers) -> None:
        """Take an interim answer: 100, 102, 103."""

    def head(self, answer: Answer) -> None:
        """Take the final answer's head."""

    def data(self, data: bytes) -> None:
        """Take a piece of the body, or of what comes through a tunnel."""

    def flush(self) -> None:
        """Know that what came together with the head has been told, so that the two can be written together."""

    def end(self, trailers: Headers) -> None:
        """Take the end of a whole answer, or of a tunnel."""

    def failed(self, error: UpstreamError) -> None:
        """Take the failure; after ``head`` it means that the body was cut."""

    def switched(self, answer: Answer, early: bytes) -> None:
        """Take a 101: from now on ``data`` and ``Exchange.write`` carry raw bytes, of which ``early`` are the first."""

    def pause_sending(self) -> None:
        """Stop writing the body: the origin does not keep up."""

    def resume_sending(self) -> None:
        """Go on writing the body."""


class Exchange:
    """A handle on one request under way. ``ended`` tells whether the whole request was handed over."""

    __slots__ = (
        "_budget",
        "_chunked",
        "_head",
        "_link",
        "_origin",
        "_over",
        "_repeatable",
        "_waiting",
        "abandoned_until",
        "ended",
        "method",
        "sink",
        "upgrade",
    )

    def __init__(
        self,
        origin: Origin,
        sink: Sink,
        method: bytes,
        head: bytes,
        *,
        body_length: int | None,
        upgrade: bytes | None,
    ) -> None:
        self._origin = origin
        self._head = head
        self._chunked = body_length is None
        self._link: Link | None = None
        self._waiting: list[bytes] | None = None
        self._over = False
        self._repeatable = body_length == 0 and upgrade is None and method in SAFE
        self._budget = ABANDONED_BYTES
        self.abandoned_until = inf
        self.ended = body_length == 0
        self.sink = sink
        self.method = method
        self.upgrade = upgrade

    # What the sender does.

    def write(self, data: bytes) -> None:
        """Send a piece of the body; framed here when its length is not known."""
        if self._over or not data:
            return
        if self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        if self._link is not None:
            self._link.transport.write(data)
            self._link.took()
            return
        if self._waiting is None:
            self._waiting = []
            self.sink.pause_sending()
        self._waiting.append(data)

    def end(self) -> None:
        """Tell that the body is complete."""
        if self._over or self.ended:
            return
        self.ended = True
        if self._link is None:
            if self._chunked:
                self._waiting = [*(self._waiting or ()), b"0\r\n\r\n"]
            return
        if self._chunked:
            self._link.transport.write(b"0\r\n\r\n")
        self._link.await_progress()

    def pause_reading(self) -> None:
        """Take no more of the answer for now."""
        if self._link is not None and not self._over:
            self._link.pause_reading()

    def resume_reading(self) -> None:
        """Go on taking the answer."""
        if self._link is not None and not self._over:
            self._link.resume_reading()

    def cancel(self) -> None:
        """Give the exchange up: nobody is left to take the answer."""
        if self._over or self.abandoned_until != inf:
            return
        link = self._link
        if link is None:
            self._over = True
        elif self.upgrade is not None:
            self._over = True
            link.close()
        elif self.ended and self.method not in IDEMPOTENT:
            self.abandoned_until = self._origin.time() + ABANDONED_S
            link.resume_reading()
            link.await_progress()
        else:
            self._over = True
            link.drop()

    # What the pool and the link do.

    @property
    def over(self) -> bool:
        """Whether nothing more will happen."""
        return self._over

    def travel(self, link: Link) -> None:
        """Go out on ``link``."""
        self._link = link
        waiting = self._waiting
        if waiting is None:
            link.carry(self, self._head)
            return
        self._waiting = None
        link.carry(self, b"".join((self._head, *waiting)))
        if not link.write_paused:
            self.sink.resume_sending()

    def repeat(self) -> bool:
        """Go out once more on a fresh link, if that is safe; return whether it is."""
        if not self._repeatable or self._over:
            return False
        self._repeatable = False
        self._link = None
        self._origin.connect(self)
        return True

    def data(self, data: bytes) -> None:
        """Hand on a piece of the answer, or drop it when nobody is left to take it."""
        if self.abandoned_until == inf:
            self.sink.data(data)
            return
        self._budget -= len(data)
        if self._budget < 0 and self._link is not None:
            self._over = True
            self._link.drop()
            self.sink.end([])

    def finish(self, trailers: Headers) -> None:
        """End well."""
        self._over = True
        self._link = None
        self.sink.end(trailers)

    def fail(self, error: UpstreamError) -> None:
        """End badly."""
        if not self._over:
            self._over = True
            self._link = None
            self.sink.failed(error)
