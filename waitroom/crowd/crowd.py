"""A whole crowd: who comes, when, and what the run looks like while it lasts.

Half vanish. The kinds are dealt in fixed shares and shuffled, so that a small crowd has some of each; everything drawn
comes from one seed. Beside the crowd, ordinary shoppers ask at a steady pace for pages that no room covers: a request
every so many milliseconds whether or not the one before was answered, because people do not wait for each other.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import time
from bisect import insort
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from waitroom.checker import IN_LINE, Seen
from waitroom.crowd.client import Connection
from waitroom.crowd.people import Habits, Kind, Place, Visitor

if TYPE_CHECKING:
    from typing import TextIO

SHARES = {
    Kind.NEVER: 0.16,
    Kind.LEAVES: 0.20,
    Kind.VANISHES: 0.14,
    Kind.LATE: 0.06,
    Kind.MISSES: 0.04,
    Kind.CHEAT: 0.05,
    Kind.DOUBLE: 0.05,
    Kind.PLAIN: 0.05,
}
"""Shares of the crowd, rounded down; the first three make the half that vanishes, the rest is faithful."""

ORDINARY: tuple[str, ...] = ("/", "/products", "/products/1", "/products/2")
SHOPPERS_MAX = 200
"""Requests of ordinary shoppers under way at once; one beyond it is counted as failed."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Who comes. ``arrive_s``: most come in its first third. ``limit_s``: when whoever is still there is sent home."""

    visitors: int = 500
    seed: int = 1
    arrive_s: float = 8.0
    limit_s: float = 150.0
    ordinary_per_s: float = 50.0
    habits: Habits = field(default_factory=Habits)


@dataclass(frozen=True, slots=True)
class Numbers:
    """What the crowd has seen so far. ``inside`` counts who entered and neither left nor is past the pass's end."""

    elapsed_s: float
    joined: int
    waiting: int
    inside: int
    admitted: int
    sold: int
    ordinary_p99_s: float


class Crowd:
    """Plays ``plan`` at ``place``, and writes what everybody sees to ``log``, one line each."""

    def __init__(self, plan: Plan, place: Place, log: TextIO) -> None:
        self._plan = plan
        self._place = place
        self._log = log
        # As a store does: the wall at the start and monotonic time since, so that the log never runs backwards.
        self._wall_s, self._monotonic_s = time.time(), time.monotonic()
        self._chance = random.Random(plan.seed)  # noqa: S311 - a crowd that can be played again, no secret
        self._states: dict[str, str] = {}
        self._joined: set[str] = set()
        self._ends_s: dict[str, float] = {}
        self._admitted: set[str] = set()
        self._orders: set[str] = set()
        self._ordinary_s: list[float] = []

    def now_s(self) -> float:
        """Return unix seconds."""
        return self._wall_s + time.monotonic() - self._monotonic_s

    def saw(self, seen: Seen) -> None:
        """Write down what was seen, and count it for who watches."""
        self._log.write(seen.line() + "\n")
        if seen.what == "ordinary":
            insort(self._ordinary_s, seen.answered_s - seen.sent_s)
        elif seen.what != "cheat":
            self._count(seen)

    def numbers(self) -> Numbers:
        """Return what has been seen so far."""
        now_s, served = self.now_s(), len(self._ordinary_s)
        return Numbers(
            elapsed_s=now_s - self._wall_s,
            joined=len(self._joined),
            waiting=sum(state in IN_LINE or state == "called" for state in self._states.values()),
            inside=sum(end_s > now_s for end_s in self._ends_s.values()),
            admitted=len(self._admitted),
            sold=len(self._orders),
            ordinary_p99_s=self._ordinary_s[math.ceil(served * 0.99) - 1] if served else 0.0,
        )

    async def play(self) -> None:
        """Let everybody come and go; return when all have gone, or when the time is up."""
        visitors = [
            Visitor(
                f"visitor-{index}",
                kind,
                self._place,
                habits=self._plan.habits,
                log=self,
                chance=random.Random(f"{self._plan.seed} {index}"),  # noqa: S311 - the same
            )
            for index, kind in enumerate(self._kinds(), start=1)
        ]
        shoppers = asyncio.create_task(self._shop())
        tasks = [asyncio.create_task(self._come(visitor)) for visitor in visitors]
        try:
            await asyncio.wait(tasks, timeout=self._plan.limit_s)
            for visitor, task in zip(visitors, tasks, strict=True):
                if not task.done() and self._states.get(visitor.name) in IN_LINE:
                    visitor.time_up()
        finally:
            for task in (shoppers, *tasks):
                task.cancel()
            ended = await asyncio.gather(*tasks, shoppers, return_exceptions=True)
            self._log.flush()
        for outcome in ended:
            if isinstance(outcome, Exception):
                raise outcome  # a mistake of ours: nothing that a server answers raises here

    def _kinds(self) -> list[Kind]:
        kinds = [kind for kind, share in SHARES.items() for _ in range(int(share * self._plan.visitors))]
        kinds += [Kind.FAITHFUL] * (self._plan.visitors - len(kinds))
        self._chance.shuffle(kinds)
        return kinds

    async def _come(self, visitor: Visitor) -> None:
        # A rush: of each three, two come in the first third of the time.
        await asyncio.sleep(self._plan.arrive_s * self._chance.random() ** 2.7)
        try:
            await visitor.live()
        finally:
            if self._states.get(visitor.name) != "admitted":
                self._states.pop(visitor.name, None)

    def _count(self, seen: Seen) -> None:
        if seen.number is not None:
            self._joined.add(seen.visitor)
        if seen.state is not None and seen.what != "time-up":
            self._states[seen.visitor] = seen.state
        if seen.state == "admitted":
            self._admitted.add(seen.visitor)
            end_s = seen.pass_until_ms / 1000 if seen.pass_until_ms else seen.answered_s + 1
            self._ends_s[seen.visitor] = max(self._ends_s.get(seen.visitor, 0), end_s)
        if seen.what == "leave":
            self._ends_s.pop(seen.visitor, None)
        if seen.order is not None:
            self._orders.add(seen.order)

    async def _shop(self) -> None:
        """Send ordinary requests at a steady pace, each on an idle connection, or on a new one."""
        idle: list[Connection] = []
        under_way: set[asyncio.Task[None]] = set()
        start_s = asyncio.get_running_loop().time()
        try:
            for count in itertools.count():
                await asyncio.sleep(start_s + count / self._plan.ordinary_per_s - asyncio.get_running_loop().time())
                if len(under_way) >= SHOPPERS_MAX:
                    now_s = self.now_s()
                    self.saw(Seen("shopper", "ordinary", now_s, now_s))
                    continue
                connection = idle.pop() if idle else Connection(self._place.host, self._place.port)
                task = asyncio.create_task(self._look(connection, ORDINARY[count % len(ORDINARY)], idle))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
        finally:
            await asyncio.gather(*under_way, return_exceptions=True)
            for connection in idle:
                connection.close()

    async def _look(self, connection: Connection, target: str, idle: list[Connection]) -> None:
        sent_s = self.now_s()
        answer = await connection.ask("GET", target, {"Accept": "text/html"})
        status = answer.status if answer else None
        self.saw(Seen("shopper", "ordinary", sent_s, self.now_s(), status, target=target))
        idle.append(connection)
