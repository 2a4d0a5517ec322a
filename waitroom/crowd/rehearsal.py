"""A very large crowd in one thread: visitors who come, wait as they are told, enter, and leave.

Nobody here is an object. A visitor is an index into arrays: where they stand, their cookies, when they came. What they
do next hangs on a wheel of timers, a slot for every fiftieth of a second. Answers are read by an adapter, so any
waiting room may be on the other side, and everything said is seen by a ``Witness``.

A time is counted from when a visitor *would* have asked: if this process, or the bound on connections, keeps them
waiting, that shows as a slow answer and not as a smaller crowd.
"""

from __future__ import annotations

import math
import random
import time
from array import array
from collections import Counter
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Any

from waitroom.crowd.adapters import JITTER, Standing, keep
from waitroom.crowd.flood import Connections, Exchange, Flood
from waitroom.crowd.witness import Limits, Witness

if TYPE_CHECKING:
    from collections.abc import Callable

    from waitroom.crowd.adapters import Adapter, Told
    from waitroom.crowd.answers import Answer
    from waitroom.crowd.flood import Target

SLOT_S = 0.02
TURN_MAX_S = 0.1
COMINGS_A_TURN = 256
"""How many may come between two looks at the answers: as many as those, or a busy crowd would fall behind itself."""

ASK_AGAIN_MIN_S = 0.1
"""A room that says *at once* is not asked in a loop."""

ERROR_S = (1.0, 3.0)
"""After how long somebody tries again who got no answer, or none that says anything."""

TRIES_MAX = 5
HOPS_MAX = 5
IDLE_S = (5.0, 60.0)
"""How much later than told somebody comes back who idles."""

ASKS_BEFORE_GOING = 4
UNTOLD_S = 20.0
SHARES = (0.5, 0.9, 0.99, 0.999)


class What(IntEnum):
    """What a visitor asks for."""

    JOIN = 0
    ASK = 1
    ENTER = 2
    LOOK = 3
    """Inside: until when the pass holds."""
    LEAVE = 4


class State(IntEnum):
    """Where a visitor is."""

    TO_COME = 0
    COMING = 1
    IN_LINE = 2
    CALLED = 3
    INSIDE = 4
    LEFT = 5
    """Was inside and has left."""
    VANISHED = 6
    TURNED_AWAY = 7
    LOST = 8
    FAILED = 9
    """Gave up after errors."""


_WHATS, _STATES = tuple(What), tuple(State)


class Fate(IntEnum):
    """What a visitor will do that a page would not."""

    STAYS = 0
    VANISHES = 1
    IDLES = 2


class Until(StrEnum):
    """When a rehearsal is over, at the latest when its time is up."""

    JOINED = "joined"
    """When everybody has a place, was let in, or gave up."""
    ADMITTED = "admitted"
    """When nobody stands in line any more."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Who comes and how they behave.

    ``over_s``: they come within so many seconds, evenly by chance. ``limit_s`` is the most the whole may last.
    ``vanish`` is the share of all who vanish while in line, ``idle`` of those who once come back late. A visit lasts
    ``visit_s``, then its visitor leaves. ``jitter`` None is what the page tells.
    """

    visitors: int = 1_000
    over_s: float = 60.0
    until: Until | None = Until.ADMITTED
    limit_s: float = 600.0
    vanish: float = 0.0
    idle: float = 0.0
    visit_s: float = 10.0
    jitter: float | None = None
    seed: int = 1
    patience_s: float = 30.0
    connections: Connections = Connections.OWN
    keep_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Times:
    """Exact percentiles of times in seconds; of nothing, all are 0."""

    count: int = 0
    p50_s: float = 0.0
    p90_s: float = 0.0
    p99_s: float = 0.0
    p999_s: float = 0.0
    most_s: float = 0.0

    @classmethod
    def of(cls, seconds: array[float]) -> Times:
        """Return the percentiles of all of these: the time within which so many of them were over."""
        if not seconds:
            return cls()
        ordered = sorted(seconds)
        p50_s, p90_s, p99_s, p999_s = (ordered[math.ceil(len(ordered) * share) - 1] for share in SHARES)
        return cls(len(ordered), p50_s, p90_s, p99_s, p999_s, ordered[-1])

    def stated(self) -> dict[str, float]:
        """Return them for JSON, to a tenth of a millisecond."""
        names = ("p50_s", "p90_s", "p99_s", "p999_s", "most_s")
        return {"count": self.count} | {name: round(getattr(self, name), 4) for name in names}


class Rehearsal:
    """Plays ``plan`` at ``target``. ``turn`` is called again and again by whoever owns the thread."""

    def __init__(self, plan: Plan, target: Target, adapter: Adapter, *, under_way_max: int) -> None:
        count = plan.visitors
        self.plan = plan
        self.witness = Witness(count)
        self.states: Counter[State] = Counter({State.TO_COME: count})
        self.errors: Counter[str] = Counter()
        self.turned_away: Counter[str] = Counter()
        self.asked: Counter[What] = Counter()
        self.joined = 0
        self.join_s, self.ask_s, self.enter_s = (array("d") for _ in range(3))
        self.last_join_s = 0.0
        self.came_back_late = 0
        self.finished_s: float | None = None
        self._adapter = adapter
        self._flood = Flood(
            target,
            self._answered,
            under_way_max=under_way_max,
            patience_s=plan.patience_s,
            connections=plan.connections,
            keep_s=plan.keep_s,
        )
        chance = random.Random(plan.seed)  # noqa: S311 - a crowd that can be played again, no secret
        self._chance = chance
        self._comings_s = array("d", sorted(chance.uniform(0, plan.over_s) for _ in range(count)))
        self._fates = bytearray(self._fate() for _ in range(count))
        self._asks_left = bytearray(chance.randrange(ASKS_BEFORE_GOING) for _ in range(count))
        self._state = bytearray(count)
        self._tries = bytearray(count)
        self._has_place = bytearray(count)
        self._cookies: list[bytes] = [b""] * count
        self._at: dict[int, str] = {}
        self._came = 0
        self._jitter = JITTER if plan.jitter is None else plan.jitter
        self._wheel: dict[int, array[int]] = {}
        self._slot = 0
        self._keeps = plan.connections is not Connections.OWN
        # After a leave there is nothing to keep a connection for; and a first visit has one that nobody had before.
        self._own = What.JOIN if plan.connections is Connections.POOLED else What.LEAVE
        # As a store does: the wall at the start and monotonic time since, so that time never runs backwards.
        self._start_s = time.monotonic()
        self._wall_s = time.time() - self._start_s

    @property
    def elapsed_s(self) -> float:
        """How long it has been going on, or went on."""
        return (self.finished_s if self.finished_s is not None else time.monotonic()) - self._start_s

    @property
    def counts(self) -> Any:
        """What the connections did."""
        return self._flood.counts

    @property
    def under_way(self) -> int:
        """How many requests have no answer yet."""
        return self._flood.under_way

    @property
    def waiting(self) -> int:
        """How many stand in line, called or not; who vanished is not counted."""
        return self.states[State.IN_LINE] + self.states[State.CALLED]

    def in_line(self) -> list[tuple[int, bytes]]:
        """Return who stands in line, by index, with the cookies of each."""
        return [(who, self._cookies[who]) for who, state in enumerate(self._state) if state == State.IN_LINE]

    def play(self, beside: Callable[[], None]) -> None:
        """Let everybody come and go, calling ``beside`` at least ten times a second; return when it is over."""
        try:
            while not self.is_over():
                self.turn()
                beside()
        finally:
            self.stop()

    def stop(self) -> None:
        """Drop what is under way."""
        if self.finished_s is None:
            self.finished_s = time.monotonic()
            self._flood.close()

    def is_over(self) -> bool:
        """Whether there is nothing more to see."""
        if self.elapsed_s >= self.plan.limit_s:
            return True
        coming = self.states[State.TO_COME] + self.states[State.COMING]
        if coming or self.plan.until is None:
            return False
        if self.plan.until is Until.JOINED:
            return True
        return not self.waiting and not self.states[State.INSIDE] and not self._flood.under_way

    def turn(self) -> None:
        """Let those come who are due, and those ask; then take what was answered."""
        now_s = time.monotonic()
        since_s = now_s - self._start_s
        for _ in range(COMINGS_A_TURN):
            if self._came >= self.plan.visitors or self._comings_s[self._came] > since_s:
                break
            who = self._came
            self._came += 1
            self._become(who, State.COMING)
            self._ask(who, What.JOIN, self._start_s + self._comings_s[who])
        current = int(since_s / SLOT_S)
        while self._slot < current:
            self._slot += 1
            for packed in self._wheel.pop(self._slot, ()):
                self._due(packed >> 3, _WHATS[packed & 7], self._start_s + self._slot * SLOT_S)
        self._flood.turn(self._rest_s(since_s))

    # -- what somebody does ------------------------------------------------------------------------------------

    def _fate(self) -> Fate:
        drawn = self._chance.random()
        if drawn < self.plan.vanish:
            return Fate.VANISHES
        return Fate.IDLES if drawn < self.plan.vanish + self.plan.idle else Fate.STAYS

    def _rest_s(self, since_s: float) -> float:
        """Return how long nothing is due."""
        due_s = (self._slot + 1) * SLOT_S if self._wheel else since_s + TURN_MAX_S
        if self._came < self.plan.visitors:
            due_s = min(due_s, self._comings_s[self._came])
        return due_s - since_s

    def _become(self, who: int, state: State) -> None:
        self.states[_STATES[self._state[who]]] -= 1
        self.states[state] += 1
        self._state[who] = state

    def _later(self, who: int, what: What, seconds: float) -> None:
        slot = max(self._slot + 1, math.ceil((time.monotonic() - self._start_s + seconds) / SLOT_S))
        held = self._wheel.get(slot)
        if held is None:
            held = self._wheel[slot] = array("q")
        held.append(who << 3 | what)

    def _due(self, who: int, what: What, due_s: float) -> None:
        if what is What.ASK and self._fates[who] != Fate.STAYS:
            if self._asks_left[who]:
                self._asks_left[who] -= 1
            elif self._fates[who] == Fate.VANISHES:
                self._become(who, State.VANISHED)
                self._cookies[who] = b""
                return
            else:
                self._fates[who] = Fate.STAYS
                self.came_back_late += 1
                self._later(who, What.ASK, self._chance.uniform(*IDLE_S))
                return
        self._ask(who, what, due_s)

    def _ask(self, who: int, what: What, due_s: float) -> None:
        message = self._message(who, what)
        if message is None:
            self._become(who, State.LEFT)
            return
        if what is What.LEAVE:
            self.witness.leaves(who, self._wall_s + time.monotonic())
        self.asked[what] += 1
        self._flood.ask(Exchange(who, what, message, due_s, keep=self._keeps and what is not self._own))

    def _message(self, who: int, what: What) -> bytes | None:
        if what is What.LEAVE:
            return self._adapter.leave(self._cookies[who])
        write = self._adapter.again if what is What.ASK or what is What.LOOK else self._adapter.first
        return write(self._cookies[who], self._at.get(who, ""))

    # -- what somebody is told ---------------------------------------------------------------------------------

    def _answered(self, exchange: Exchange, answer: Answer | None, failure: str) -> None:
        who, what = exchange.who, _WHATS[exchange.what]
        now_s = time.monotonic()
        if what is What.LEAVE:
            self._become(who, State.LEFT)
            self._cookies[who] = b""
            if answer is None:
                self.errors[failure] += 1
            return
        if answer is None:
            self._fails(who, what, failure)
            return
        self._cookies[who] = keep(self._cookies[who], answer)
        told = self._adapter.read(answer, asked=what in (What.ASK, What.LOOK))
        if told.standing is Standing.ELSEWHERE:
            self._goes(who, what, told, exchange)
            return
        if told.standing is Standing.ERROR:
            self._fails(who, what, told.why)
            return
        if told.jitter is not None and self.plan.jitter is None:
            self._jitter = min(told.jitter, 1.0)
        self.witness.saw(who, told, self._wall_s + exchange.sent_s, self._wall_s + now_s, self._jitter)
        self._time(who, what, told, now_s - exchange.due_s, now_s)
        self._tries[who] = 0
        self._goes_on(who, what, told)

    def _time(self, who: int, what: What, told: Told, seconds: float, now_s: float) -> None:
        if what is What.ASK or what is What.LOOK:
            self.ask_s.append(seconds)
        elif what is What.ENTER:
            self.enter_s.append(seconds)
        placed = told.number is not None or not self._adapter.states_numbers or told.standing is Standing.ADMITTED
        if not self._has_place[who] and placed and told.standing is not Standing.TURNED_AWAY:
            self._has_place[who] = 1
            self.joined += 1
            self.last_join_s = now_s - self._start_s
            # From when they came, whatever failed in between: that is how long they were without a place.
            self.join_s.append(self.last_join_s - self._comings_s[who])

    def _goes_on(self, who: int, what: What, told: Told) -> None:
        match told.standing:
            case Standing.WAITING:
                if self._has_place[who] and self._state[who] != State.IN_LINE:
                    self._become(who, State.IN_LINE)
                told_s = UNTOLD_S if told.come_back_s is None else max(told.come_back_s, ASK_AGAIN_MIN_S)
                again = What.ASK if self._has_place[who] else What.JOIN
                self._later(who, again, told_s * self._chance.uniform(1, 1 + self._jitter))
            case Standing.CALLED:
                self._called(who, what)
            case Standing.ADMITTED:
                self._enters(who, what)
            case Standing.LOST:
                self._become(who, State.LOST)
            case _:
                self.turned_away[told.why] += 1
                self._become(who, State.TURNED_AWAY)

    def _called(self, who: int, what: What) -> None:
        if self._fates[who] == Fate.VANISHES:
            self._become(who, State.VANISHED)
            return
        if self._state[who] != State.CALLED:
            self._become(who, State.CALLED)
        if what is What.ENTER:
            self._later(who, What.ENTER, 1.0)
        else:
            self._ask(who, What.ENTER, time.monotonic())

    def _enters(self, who: int, what: What) -> None:
        if what is What.LOOK:
            self._later(who, What.LEAVE, self.plan.visit_s)
            return
        self._become(who, State.INSIDE)
        if self._adapter.states_numbers:
            self._ask(who, What.LOOK, time.monotonic())
        else:
            self._later(who, What.LEAVE, self.plan.visit_s)

    def _goes(self, who: int, what: What, told: Told, exchange: Exchange) -> None:
        """Go where the answer leads, as a browser does, which counts the hops."""
        self._tries[who] += 1
        if self._tries[who] > HOPS_MAX:
            self._fails(who, what, "too many redirects")
            return
        self._at[who] = told.at
        self._ask(who, what, exchange.due_s)

    def _fails(self, who: int, what: What, failure: str) -> None:
        self.errors[failure] += 1
        self._tries[who] += 1
        if what is What.ENTER:
            self.witness.unanswered(who)
        if what is What.LOOK:
            self._later(who, What.LEAVE, self.plan.visit_s)
        elif self._tries[who] >= TRIES_MAX:
            self._become(who, State.FAILED)
        else:
            self._later(who, what, self._chance.uniform(*ERROR_S))

    # -- what came of it ---------------------------------------------------------------------------------------

    def figures(self) -> dict[str, Any]:
        """Return every figure, for JSON."""
        counts = self._flood.counts
        return {
            "visitors": self.plan.visitors,
            "elapsed_s": round(self.elapsed_s, 3),
            "arrived": self._came,
            "joined": self.joined,
            "last_join_s": round(self.last_join_s, 3),
            "states": {state.name.lower(): self.states[state] for state in State if self.states[state]},
            "came_back_late": self.came_back_late,
            "errors": sum(self.errors.values()),
            "errors_by_kind": dict(self.errors.most_common()),
            "turned_away": dict(self.turned_away.most_common()),
            "requests": {what.name.lower(): self.asked[what] for what in What},
            "join": Times.of(self.join_s).stated(),
            "ask": Times.of(self.ask_s).stated(),
            "enter": Times.of(self.enter_s).stated(),
            "connections": {
                "opened": counts.opened,
                "most_at_once": counts.most_under_way,
                "held_back": counts.held_back,
                "received_bytes": counts.received_bytes,
                "latest_start_s": round(counts.latest_s, 4),
            },
        }

    def left_standing(self) -> int | None:
        """Return how many stand in line at the end; None when the run was not to go on until nobody does."""
        return self.waiting if self.plan.until is Until.ADMITTED else None


__all__ = ["Limits", "Plan", "Rehearsal", "State", "Times", "Until", "What"]
