"""A clock that is moved by hand, and crowds that live in its time.

Shipped, because whoever builds on Waitroom needs the same: an hour of a launch passes in a second, and every chance is
drawn from one seed that a failing test prints.

A ``Crowd`` drives the real service, ticker and store, and plays only the people. Each visitor keeps to what the page
was told, or fails to in a way a plan names: never asks once, vanishes, hides the page, comes back late. What happened
is judged from what the visitors saw and from the calls made, never from the store's own opinion of itself.
"""

from __future__ import annotations

import heapq
import itertools
import random
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from waitroom.core.tokens import Keyring
from waitroom.core.waiting import HIDDEN_S, silence_s
from waitroom.model import TICK_S, Pass, Ticket, VisitorState
from waitroom.service import RoomService
from waitroom.store.memory import MemoryStore
from waitroom.ticker import Ticker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from waitroom.core.queueing import Claimed, Joined, JoinRequest, Snapshot
    from waitroom.model import Room
    from waitroom.ports import Noted, Store, Ticked


class FakeClock:
    """Time stands still until a test moves it. ``wall_s`` may be stepped apart from it."""

    def __init__(self, wall_s: float = 1_700_000_000.0) -> None:
        self._wall_s = wall_s
        self._monotonic_s = 1_000.0

    def wall_s(self) -> float:
        """Return seconds since 1970."""
        return self._wall_s

    def monotonic_s(self) -> float:
        """Return seconds since some moment."""
        return self._monotonic_s

    def advance(self, seconds: float) -> None:
        """Let time pass on both faces."""
        self._wall_s += seconds
        self._monotonic_s += seconds

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock forwards or back, as an operator or NTP does."""
        self._wall_s += seconds


@dataclass(frozen=True, slots=True)
class Plan:
    """How a crowd behaves. Shares are of the crowd and are drawn in this order, each of the whole.

    ``never``: join and never ask once. ``leave``: ask a few times, then vanish. ``hidden``: leave the page in a hidden
    tab. ``late``: vanish before the call and come back up to ``late_s`` later. ``exodus``: when, and which share of all
    vanishes at once. Visits last ``visit_s`` on average and end by leaving, or without a word for a tenth; from
    ``faster[0]`` on they are ``faster[1]`` times as short, so that the line moves so many times as fast.
    """

    visitors: int = 500
    arrive_s: float = 20.0
    never: float = 0.0
    leave: float = 0.0
    hidden: float = 0.0
    late: float = 0.0
    late_s: float = 60.0
    exodus: tuple[float, float] | None = None
    visit_s: float = 20.0
    faster: tuple[float, float] | None = None


@dataclass(slots=True)
class Person:
    """One visitor's truth. Times are seconds of the crowd's own time."""

    kind: str
    asks_left: int
    carried: Ticket | Pass | None = None
    number: int = 0
    arrived_s: float = 0.0
    silent_until_s: float = 0.0
    waiting_since_s: float = 0.0
    asked: bool = False
    aheads: list[int] = field(default_factory=list)
    called_s: float | None = None
    admitted_s: float | None = None
    end_ms: int = 0
    gone: bool = False


@dataclass(slots=True)
class Outcome:
    """What a crowd saw, and what the promises make of it."""

    people: list[Person]
    calls: list[tuple[float, int]] = field(default_factory=list)
    overtakings: list[tuple[float, int, int]] = field(default_factory=list)
    most_active: int = 0
    most_in_a_minute: int = 0
    most_in_a_second: int = 0
    longest_idle_s: float = 0.0
    places_lost: int = 0
    store_operations: int = 0
    asks: int = 0
    rising: int = 0

    @property
    def admitted(self) -> list[Person]:
        """Everybody who got in."""
        return [person for person in self.people if person.admitted_s is not None]


SILENT_LEAVERS = 0.1
"""The share of visits that end without a word; their slots are free when the pass ends."""


class WatchedStore:
    """A store whose operations are counted, and whose calls are told to ``on_called`` at the moment they happen."""

    def __init__(self, store: Store, on_called: Callable[[Sequence[int]], None]) -> None:
        self._store = store
        self._on_called = on_called
        self.operations = 0

    async def join(self, room: str, requests: Sequence[JoinRequest]) -> list[Joined]:
        """Count and hand on."""
        self.operations += 1
        return await self._store.join(room, requests)

    async def claim(self, room: str, numbers: Sequence[tuple[int, float]]) -> list[Claimed]:
        """Count and hand on."""
        self.operations += 1
        return await self._store.claim(room, numbers)

    async def leave(self, room: str, numbers: Sequence[int]) -> None:
        """Count and hand on."""
        self.operations += 1
        await self._store.leave(room, numbers)

    async def tick(self, room: str, noted: Noted, budget: int) -> Ticked:
        """Hand on, and tell who was called. A tick is the room's, not a visitor's, and is not counted."""
        ticked = await self._store.tick(room, noted, budget)
        self._on_called(ticked.called)
        return ticked

    async def snapshot(self, room: str) -> Snapshot:
        """Hand on."""
        return await self._store.snapshot(room)

    async def close(self) -> None:
        """Hand on."""
        await self._store.close()


class Crowd:
    """Plays ``plan`` against one room; everything drawn by chance comes from ``seed``."""

    def __init__(self, room: Room, plan: Plan, seed: int) -> None:
        self.room = room
        self.plan = plan
        self.seed = seed
        self.clock = FakeClock()
        self._chance = random.Random(seed)
        self._idle_s = 0.0
        self._start_s = self.clock.monotonic_s()
        self._order = itertools.count()
        self._agenda: list[tuple[float, int, Person]] = []
        self._by_number: dict[int, Person] = {}
        self._waiting: set[int] = set()
        self.outcome = Outcome([self._person() for _ in range(plan.visitors)])
        for person in self.outcome.people:
            self._at(self._chance.uniform(0, plan.arrive_s), person)

    async def play(self, seconds: float) -> Outcome:
        """Let ``seconds`` pass, and return what came of it."""
        store = WatchedStore(MemoryStore([self.room], self.clock), self.called)
        view = await store.snapshot(self.room.name)
        self.service = RoomService(self.room, view, store, Keyring(["k" * 32]), self.clock)
        ticker = Ticker([self.service], store)
        next_tick_s = TICK_S
        while next_tick_s <= seconds:
            if self._agenda and self._agenda[0][0] <= next_tick_s:
                at_s, _, person = heapq.heappop(self._agenda)
                self.clock.advance(max(0.0, at_s - self.now_s))
                await self._act(person)
                continue
            self.clock.advance(max(0.0, next_tick_s - self.now_s))
            self._exodus()
            await ticker.step(self.service)
            self._observe()
            next_tick_s += TICK_S
        self.outcome.store_operations = store.operations
        self._judge_windows()
        return self.outcome

    @property
    def now_s(self) -> float:
        """The crowd's time, from zero."""
        return self.clock.monotonic_s() - self._start_s

    def called(self, numbers: Sequence[int]) -> None:
        """Judge the calls of one tick against who was present at that moment."""
        for number in numbers:
            person = self._by_number[number]
            for other in sorted(self._waiting):
                if other >= number:
                    break
                before = self._by_number[other]
                # Two ticks are what it takes for a return to be known everywhere.
                if before.waiting_since_s <= self.now_s - 2 * TICK_S and before.silent_until_s >= self.now_s:
                    self.outcome.overtakings.append((self.now_s, number, other))
            self._waiting.discard(number)
            person.called_s = self.now_s
            self.outcome.calls.append((self.now_s, number))

    def _person(self) -> Person:
        plan, drawn = self.plan, self._chance.random()
        for kind in ("never", "leave", "hidden", "late"):
            share: float = getattr(plan, kind)
            if drawn < share:
                return Person(kind, 0 if kind == "never" else self._chance.randint(1, 4))
            drawn -= share
        return Person("faithful", -1)

    def _at(self, at_s: float, person: Person) -> None:
        heapq.heappush(self._agenda, (at_s, next(self._order), person))

    async def _act(self, person: Person) -> None:
        if person.gone:
            return
        if person.carried is None:
            await self._arrive(person)
        elif isinstance(person.carried, Pass):
            await self._end_visit(person)
        else:
            await self._ask(person)

    async def _arrive(self, person: Person) -> None:
        person.arrived_s = self.now_s
        joined, told = await self.service.join()
        person.number = joined.number
        self._by_number[joined.number] = person
        if joined.end_ms:
            person.carried = self.service.entry_pass(joined.number, joined.visitor, joined.joined_ms, joined.end_ms)
            self._enter(person, joined.end_ms)
            return
        person.carried = Ticket(self.room.name, 1, joined.number, joined.visitor, joined.joined_ms)
        person.aheads.append(joined.ahead)
        self._wait(person, told.refresh_s)

    async def _ask(self, person: Person) -> None:
        assert isinstance(person.carried, Ticket)
        self.outcome.asks += 1
        person.asked = True
        hidden = person.kind == "hidden"
        carried = self.service.read([(self.service._keyring.sign_ticket(person.carried), None)])
        told = self.service.told(carried, hidden=hidden)
        if told.state is VisitorState.NONE:
            self.outcome.places_lost += 1
            person.gone = True
            return
        if told.state in (VisitorState.CALLED, VisitorState.MISSED):
            claimed = await self.service.claim(person.carried)
            if claimed.end_ms:
                if told.state is VisitorState.MISSED:  # called and claimed in one operation
                    self.called([person.number])
                ticket = person.carried
                person.carried = self.service.entry_pass(
                    ticket.number, ticket.visitor, claimed.admitted_ms, claimed.end_ms
                )
                self._enter(person, claimed.end_ms)
                return
            if claimed.called:
                self._come_back(person, max(claimed.retry_ms / 1000, TICK_S))
                return
        assert told.ahead is not None
        if told.state is VisitorState.WAITING:
            self.outcome.rising += told.ahead > min(person.aheads)
            person.aheads.append(told.ahead)
        self._wait(person, told.refresh_s)

    def _wait(self, person: Person, told_s: float) -> None:
        """Stand in line: from now on, if this person was absent or called before."""
        if person.number not in self._waiting or person.silent_until_s < self.now_s:
            person.waiting_since_s = self.now_s
            self._waiting.add(person.number)
        self._come_back(person, told_s)

    def _come_back(self, person: Person, told_s: float) -> None:
        """Ask again when told, as the page would; or do what this person's kind does instead."""
        longest_s = silence_s(told_s, self.room.refresh)
        person.silent_until_s = self.now_s + longest_s
        if person.asks_left == 0:
            if person.kind == "late":
                person.asks_left = -1
                self._at(self.now_s + longest_s + self._chance.uniform(1, self.plan.late_s), person)
            return
        person.asks_left -= 1
        wait_s = told_s * self._chance.uniform(1, 1 + self.room.refresh.jitter)
        self._at(self.now_s + (max(wait_s, HIDDEN_S) if person.asked and person.kind == "hidden" else wait_s), person)

    def _enter(self, person: Person, end_ms: int) -> None:
        self._waiting.discard(person.number)
        person.admitted_s = self.now_s
        person.end_ms = end_ms
        visit_s = self.plan.visit_s
        if self.plan.faster is not None and self.now_s >= self.plan.faster[0]:
            visit_s /= self.plan.faster[1]
        self._at(self.now_s + self._chance.expovariate(1 / visit_s), person)

    async def _end_visit(self, person: Person) -> None:
        assert isinstance(person.carried, Pass)
        person.gone = True
        if person.end_ms > self.service.now_ms() and self._chance.random() > SILENT_LEAVERS:
            await self.service.leave(self.service.read([(self.service.pass_text(person.carried), Pass)]))
            person.end_ms = self.service.now_ms()

    def _exodus(self) -> None:
        if self.plan.exodus is None or self.now_s < self.plan.exodus[0]:
            return
        for person in self.outcome.people:
            if person.admitted_s is None and person.number and self._chance.random() < self.plan.exodus[1]:
                person.gone = True
        self.plan = replace(self.plan, exodus=None)

    def _observe(self) -> None:
        """Count the passes that would open the door now, and for how long a slot stood idle before somebody present."""
        now_ms = self.service.now_ms()
        active = sum(1 for person in self.outcome.people if person.admitted_s is not None and person.end_ms > now_ms)
        self.outcome.most_active = max(self.outcome.most_active, active)
        free = self.room.total_active_users - active - len(self.service.view.turns)
        present = [number for number in self._waiting if self._by_number[number].silent_until_s >= self.now_s]
        head = self._by_number[min(present)] if present else None
        # Who has not asked once is waited for, not called; and a return takes two ticks to be known.
        ready = head is not None and head.asked and head.waiting_since_s < self.now_s - 2 * TICK_S
        self._idle_s = self._idle_s + TICK_S if free > 0 and ready else 0.0
        self.outcome.longest_idle_s = max(self.outcome.longest_idle_s, self._idle_s)

    def _judge_windows(self) -> None:
        times = sorted(person.admitted_s for person in self.outcome.people if person.admitted_s is not None)
        for index, end_s in enumerate(times):
            # Store time is whole milliseconds, so two admissions a second apart may look a millisecond closer.
            within = [at_s for at_s in times[: index + 1] if at_s > end_s - 59.999]
            self.outcome.most_in_a_minute = max(self.outcome.most_in_a_minute, len(within))
            second = sum(1 for at_s in within if at_s > end_s - 0.999)
            self.outcome.most_in_a_second = max(self.outcome.most_in_a_second, second)
