"""The origin as we reach it: a stack of kept connections, and how a fresh one is made.

Idle links lie on a stack, so the warmest is used first and the others grow old enough to be closed; taking one is a
pop, however many there are. A link that died in the stack, or said something unasked, is noticed when it is popped, or
by the reaper. There is no limit to links in use here: ordinary traffic is always sent at once, and the number of
visitors bounds it.

How a fresh link comes about stands in ``dialler``, and where the origin is in ``names``. Connecting is the only thing
done in a task, and it is rare.
"""

from __future__ import annotations

import asyncio
import logging
from math import inf
from typing import TYPE_CHECKING

from waitroom.errors import UpstreamError
from waitroom.upstream.dialler import Dialler
from waitroom.upstream.exchange import Exchange, Sink
from waitroom.upstream.framing import FRAMING, PLAIN, Headers, write_head
from waitroom.upstream.link import Link

if TYPE_CHECKING:
    from waitroom.model import Address, WireLimits
    from waitroom.upstream.dialler import Connect
    from waitroom.upstream.names import Lookup

log = logging.getLogger("waitroom.upstream")

IDLE_COUNT = 1024
"""Kept connections at most; each costs the origin one as well."""

IDLE_S = 30.0
"""How long a connection is kept unused. Shorter than most origins keep it, so that the race at their end is rare."""

MARGIN_S = 1.0
"""How much sooner than an origin that says when (``Keep-Alive: timeout=``) we end a connection's idleness: a request on
its way when the origin closes is lost, and an order is not sent twice. Of a short time it is half."""

AGE_S = 300.0
"""How old a connection may be and still be kept. Under constant load none is ever idle for long, and without an end to
them an origin that moved to another address would never be followed."""

REAP_S = 1.0
"""How often deadlines are looked at; every time limit is met within this much."""

DRAIN_LOOK_S = 0.05

_WITH_LENGTH = frozenset({b"POST", b"PUT", b"PATCH"})
"""Methods whose request says ``Content-Length: 0`` when there is no body; some origins insist (RFC 9110, 8.6)."""


class Origin:
    """A site being protected. Belongs to the event loop that first sends through it, or to ``loop``.

    ``reap(now)`` enforces every time limit, ``now`` being loop time in seconds; it runs by itself once a second while
    there is a connection. ``lookup`` and ``connect`` stand in for the resolver and for what connects: see ``Dialler``.
    """

    def __init__(
        self,
        address: Address,
        limits: WireLimits,
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        lookup: Lookup | None = None,
        connect: Connect | None = None,
    ) -> None:
        self.address = address
        self.limits = limits
        self._loop = loop
        self._dialler = Dialler(
            address,
            limits.connect_timeout_s,
            lambda: Link(self, self._running_loop()),
            lookup=lookup,
            connect=connect,
        )
        self._links: set[Link] = set()
        self._idle: list[Link] = []
        self._connecting: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def send(
        self,
        method: bytes,
        target: bytes,
        headers: Headers,
        *,
        body_length: int | None,
        sink: Sink,
        upgrade: bytes | None = None,
    ) -> Exchange:
        """Send a request; its answer goes to ``sink``, never before this returns.

        ``body_length`` is None for a body of unknown length; unless it is 0, ``write`` and ``end`` of the returned
        exchange follow. ``headers`` come without framing, which is written here. ``upgrade`` asks for a tunnel.
        Raises ``ValueError`` when a header contains a line break.
        """
        tail = b""
        if body_length is None:
            tail = b"Transfer-Encoding: chunked\r\n"
        elif body_length or method in _WITH_LENGTH:
            tail = b"Content-Length: %d\r\n" % body_length
        if upgrade is not None:
            tail += b"Connection: Upgrade\r\nUpgrade: %b\r\n" % upgrade
        kept = [field for field in headers if field[0] in PLAIN or field[0].lower() not in FRAMING]
        head = write_head(b"%b %b HTTP/1.1\r\n" % (method, target), kept, tail)
        exchange = Exchange(self, sink, method, head, body_length=body_length, upgrade=upgrade)
        idle = self._idle
        while idle:
            link = idle.pop()
            if link.usable():
                link.reused = True
                exchange.travel(link)
                return exchange
        self.connect(exchange)
        return exchange

    @property
    def idle(self) -> int:
        """Kept connections, the dead ones not yet noticed included."""
        return len(self._idle)

    @property
    def open(self) -> int:
        """All connections, idle and in use."""
        return len(self._links)

    def reap(self, now: float) -> None:
        """Enforce the time limits that passed before ``now``, and forget what died in the stack."""
        self._idle = [link for link in self._idle if not link.transport.is_closing() and link.deadline > now]
        for link in tuple(self._links):
            if link.deadline <= now:
                link.expire()

    def close(self) -> None:
        """Close the idle connections and stop connecting; exchanges under way are left to finish."""
        for task in self._connecting:
            task.cancel()
        self._dialler.close()
        for link in self._idle:
            link.close()
        self._idle = []

    async def drain(self, until: float) -> None:
        """Wait until no exchange is under way any more, at the longest until loop time ``until``."""
        while self.time() < until and self._busy():  # noqa: ASYNC110 - an end is no event of anybody's
            await asyncio.sleep(DRAIN_LOOK_S)

    # For the exchanges and links of this origin.

    def _busy(self) -> bool:
        return bool(self._connecting) or any(link.exchange is not None for link in self._links)

    def time(self) -> float:
        """Return the loop's time in seconds."""
        return self._running_loop().time()

    def joined(self, link: Link) -> None:
        """Note a link that is open now."""
        self._links.add(link)
        self._watch()

    def left(self, link: Link) -> None:
        """Forget a link that is closed."""
        self._links.discard(link)

    def release(self, link: Link, kept_s: float = inf) -> None:
        """Keep a link for the next request, but not for as long as the origin does, where it says for how long."""
        now = self.time()
        if len(self._idle) >= IDLE_COUNT or now - link.born > AGE_S or not kept_s:
            link.close()
            return
        link.rest(now + min(IDLE_S, kept_s - min(MARGIN_S, kept_s / 2)))
        self._idle.append(link)

    def connect(self, exchange: Exchange) -> None:
        """Make a fresh link for ``exchange``."""
        task = self._running_loop().create_task(self._connect(exchange))
        self._connecting.add(task)
        task.add_done_callback(lambda task: self._connected(task, exchange))

    def _connected(self, task: asyncio.Task[None], exchange: Exchange) -> None:
        self._connecting.discard(task)
        if task.cancelled():
            exchange.fail(UpstreamError("stopped", sent=False))
        elif (error := task.exception()) is not None:
            # Nothing foreseen raises here. Whatever it was, the visitor must not be left waiting for it.
            log.error("connecting to %s failed", self.address, exc_info=error)
            exchange.fail(UpstreamError("refused", sent=False))

    async def _connect(self, exchange: Exchange) -> None:
        try:
            link = await self._dialler.dial()
        except UpstreamError as error:
            exchange.fail(error)
            return
        if exchange.over:
            self.release(link)
        else:
            exchange.travel(link)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    def _watch(self) -> None:
        if self._timer is None:
            self._timer = self._running_loop().call_later(REAP_S, self._tick)

    def _tick(self) -> None:
        self._timer = None
        try:
            self.reap(self.time())
        finally:
            if self._links:
                self._watch()
