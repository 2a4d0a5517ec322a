"""What all connections of one worker share: the desk, the limits, the counters, the clock on the wall.

No connection has a timer. Each keeps its deadlines as numbers, and once a second the hall walks through all of them;
twenty thousand comparisons are a few milliseconds, a timer for each request would be several microseconds of every
request. Every time limit is therefore met within a second.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from waitroom.model import WireLimits
    from waitroom.web.messages import Desk, Verdict
    from waitroom.web.wire import Wire

REAP_S = 1.0
"""How often deadlines are looked at and the Date is renewed."""


@dataclass(slots=True)
class Tally:
    """What the wire counts. ``refused`` is by the refusal's one-word reason."""

    requests: int = 0
    replies: int = 0
    relays: int = 0
    refused: Counter[str] = field(default_factory=Counter)


class Hall:
    """The shared state of a worker's connections.

    ``draining`` is set once the server has begun to stop. ``served`` counts the connections within the limit, without
    those that are merely being told that there are too many.
    """

    def __init__(self, desk: Desk, limits: WireLimits) -> None:
        self.desk = desk
        self.limits = limits
        self.tally = Tally()
        self.draining = False
        self.served = 0
        self.date_line = b""
        self.wires: set[Wire] = set()
        self.undecided: set[asyncio.Future[Verdict]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, wire: Wire) -> None:
        """Watch over ``wire`` from now on."""
        self.wires.add(wire)
        if self._timer is None:
            self._watch(asyncio.get_running_loop())

    def leave(self, wire: Wire) -> None:
        """Forget ``wire``."""
        self.wires.discard(wire)

    def reap(self, now: float) -> None:
        """Enforce every time limit that passed before ``now``, in seconds of loop time."""
        for wire in tuple(self.wires):
            if wire.deadline <= now or wire.stalled_until <= now or wire.total_until <= now:
                wire.expire(now)

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        self.date_line = b"Date: %b\r\n" % formatdate(usegmt=True).encode("ascii")
        self._timer = loop.call_later(REAP_S, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        try:
            self.reap(loop.time())
        finally:
            if self.wires:
                self._watch(loop)
