"""What all connections of one worker share: the desk, the limits, the counters, the clock on the wall.

No connection has a timer. Each keeps its deadlines as numbers, and once a second the hall walks through all of them;
twenty thousand comparisons are a few milliseconds, a timer for each request would be several microseconds of every
request. Every time limit is therefore met within a second.

The hall also sees to the end. Whoever *drains* it lets everybody finish: a request under way gets its answer, and a
connection between two requests is given a moment for one more before it is closed. A client may be sending one just
now, and a close that crosses a request on its way is the one failure that nothing can mend afterwards.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from email.utils import formatdate
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from waitroom.model import WireLimits
    from waitroom.web.lane import Lane
    from waitroom.web.messages import Desk, Verdict
    from waitroom.web.wire import Wire

REAP_S = 1.0
"""How often deadlines are looked at and the Date is renewed."""

DRAIN_REAP_S = 0.05
"""How often deadlines are looked at while draining: its waits are short, and somebody waits for its end."""

ONE_MORE_S = 3.0
"""How long a connection may still bring one more request once draining has begun, if there is so much time.

The chance that a close crosses a request falls with the wait: whoever asks every second or two has asked by then, and
who has not is hardly asking in just this round trip.
"""


GATHERED_MAX = 512
"""Connections whose request's body is held here, or the answer to it: some 170 MB if all of them did their worst."""


@dataclass(slots=True)
class Tally:
    """What the wire counts. ``refused`` is by the refusal's one-word reason."""

    requests: int = 0
    replies: int = 0
    relays: int = 0
    refused: Counter[str] = field(default_factory=Counter)


class Hall:
    """The shared state of a worker's connections.

    ``draining`` is set once the server has begun to stop; ``drained_by`` is then the loop time at which it ends.
    ``served`` counts the connections within the limit, without those merely being told that there are too many.
    ``gathering`` has those whose body was kept here; the finished are taken out when there would be too many.
    """

    def __init__(self, desk: Desk, limits: WireLimits) -> None:
        self.desk = desk
        self.limits = limits
        self.tally = Tally()
        self.draining = False
        self.drained_by = inf
        self.one_more_s = ONE_MORE_S
        self.served = 0
        self.date_line = b""
        self.wires: set[Wire] = set()
        self.undecided: set[asyncio.Future[Verdict]] = set()
        self.gathering: set[Wire] = set()
        self.lane: Lane | None = None
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, wire: Wire) -> None:
        """Watch over ``wire`` from now on."""
        self.wires.add(wire)
        if self._timer is None:
            self._watch(asyncio.get_running_loop())

    def leave(self, wire: Wire) -> None:
        """Forget ``wire``."""
        self.wires.discard(wire)
        self.gathering.discard(wire)

    def may_gather(self, wire: Wire) -> bool:
        """Return whether there is room for another body that is held here; ``wire`` has it then until it is done."""
        if len(self.gathering) >= GATHERED_MAX:
            self.gathering = {one for one in self.gathering if one.busy()}
            if len(self.gathering) >= GATHERED_MAX:
                return False
        self.gathering.add(wire)
        return True

    def reap(self, now: float) -> None:
        """Enforce every time limit that passed before ``now``, in seconds of loop time."""
        for wire in tuple(self.wires):
            if wire.deadline <= now or wire.stalled_until <= now or wire.total_until <= now:
                wire.expire(now)

    def begin_to_drain(self, within_s: float) -> None:
        """Let every connection come to its end, those too that the loop has accepted and not told of yet."""
        self.draining = True
        self.drained_by = asyncio.get_running_loop().time() + within_s
        self.one_more_s = min(ONE_MORE_S, within_s / 2)
        for wire in tuple(self.wires):
            wire.shutdown()

    async def drain(self) -> None:
        """Wait until every connection has ended, and end those that are left when the time is over."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(DRAIN_REAP_S)  # for the loop to tell of what it had accepted
        while self.wires and loop.time() < self.drained_by:
            self.reap(loop.time())
            await asyncio.sleep(DRAIN_REAP_S)
        self.reap(loop.time())
        for wire in tuple(self.wires):
            wire.give_up()

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
