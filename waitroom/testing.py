"""A clock that is moved by hand, and crowds that live in its time.

Shipped, because whoever builds on Waitroom needs the same: an hour of a launch passes in a second, and every chance is
drawn from one seed that a failing test prints.

A ``Crowd`` drives the real service, ticker and store, and plays only the people. Each visitor keeps to what the page
was told, or fails to in a way a plan names: never asks once, vanishes, hides the page, comes back late. Several workers
share a store, each visitor comes to any of them, and a plan says which process dies when. What happened is judged from
what the visitors saw and from the calls made, never from the store's own opinion of itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import random
from collections import Counter
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, assert_never

from waitroom.core.gate import Forward, Shown, pass_end_ms
from waitroom.core.tokens import Keyring
from waitroom.core.waiting import HIDDEN_S, silence_s
from waitroom.errors import StoreAway
from waitroom.model import TICK_S, Pass, RoomState, Ticket, VisitorState
from waitroom.service import RoomService
from waitroom.store.memory import MemoryStore
from waitroom.store.notes import Notes
from waitroom.store.sqlite import SqliteStore
from waitroom.ticker import Ticker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from waitroom.core.draw import Order
    from waitroom.core.queueing import Claimed, Joined, JoinRequest, Snapshot
    from waitroom.model import Room
    from waitroom.ports import Drawn, Known, Lead, Noted, Status, Store, Ticked


class FakeClock:
    """Time stands still until a test moves it. ``wall_s`` may be stepped apart from it."""

    def __init__(self, wall_s: float = 1_700_000_000.0) -> None:
        self._wall_s = wall_s
        self._monotonic_s = 1_000.0
        self._booted_s = 0.0

    def wall_s(self) -> float:
        """Return seconds since 1970."""
        return self._wall_s

    def monotonic_s(self) -> float:
        """Return seconds since some moment."""
        return self._monotonic_s

    def boot_s(self) -> float:
        """Return seconds since the machine's boot."""
        return self._monotonic_s - self._booted_s

    def boot_id(self) -> str:
        """Return which boot this is."""
        return f"boot {self._booted_s}"

    def reboot(self) -> None:
        """Begin a new boot."""
        self._booted_s = self._monotonic_s

    def advance(self, seconds: float) -> None:
        """Let time pass on all faces."""
        self._wall_s += seconds
        self._monotonic_s += seconds

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock forwards or back, as an operator or NTP does."""
        self._wall_s += seconds


class Fault(StrEnum):
    """What may befall the house."""

    ALL = "all"
    """Every process is killed and started anew on what was left behind."""
    KEEPER = "keeper"
    """The process that keeps the record is killed and started anew."""
    WORKER = "worker"
    """One worker is killed, with all that it noted, and started anew."""
    AWAY = "away"
    """The record cannot be reached for ``AWAY_S``, and is then opened anew."""
    ASLEEP = "asleep"
    """The worker that leads is stopped for ``ASLEEP_S``, and goes on as if nothing had been."""
    CLOCK = "clock"
    """The wall clock is set forwards or back by two hours."""


SEEDS_SEED = 12
"""A crowd whose order is drawn is played the same each time: the seeds of its draws are no secret."""

AWAY_S = 5.0
ASLEEP_S = 30.0
RETRY_S = 2.0
"""When somebody comes again who was told that nothing can be done at the moment."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a crowd behaves. Shares are of the crowd and are drawn in this order, each of the whole.

    ``never``: join and never ask once. ``leave``: ask a few times, then vanish. ``hidden``: leave the page in a hidden
    tab. ``late``: vanish before the call and come back up to ``late_s`` later. ``exodus``: when, and which share of all
    vanishes at once. Visits last ``visit_s`` on average, with one click halfway, and end by leaving, or without a word
    for a tenth; from ``faster[0]`` on they are ``faster[1]`` times as short, so that the line moves so many times as
    fast. ``repeat``, drawn apart: joins and claims twice at once, and claims again when the visit ends. ``faults``:
    what befalls the house, and when.
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
    repeat: float = 0.0
    faults: tuple[tuple[float, Fault], ...] = ()


@dataclass(slots=True)
class Person:
    """One visitor's truth. Times are seconds of the crowd's own time."""

    kind: str
    asks_left: int
    repeats: bool = False
    carried: Ticket | Pass | None = None
    number: int = 0
    arrived_s: float = 0.0
    silent_until_s: float = 0.0
    waiting_since_s: float = 0.0
    asked: bool = False
    asked_at: tuple[RoomService, float] | None = None
    aheads: list[int] = field(default_factory=list)
    called_s: float | None = None
    admitted_s: float | None = None
    clicked: bool = False
    gone: bool = False


@dataclass(slots=True)
class Outcome:
    """What a crowd saw, and what the promises make of it.

    ``overtakings`` are (when, who was let past, who was present and before them). ``wishes`` counts joins, claims and
    leaves: what may cost a store operation each, at most.
    """

    people: list[Person]
    calls: list[tuple[float, int]] = field(default_factory=list)
    overtakings: list[tuple[float, int, int]] = field(default_factory=list)
    most_active: int = 0
    most_in_a_minute: int = 0
    most_in_a_second: int = 0
    longest_idle_s: float = 0.0
    places_lost: int = 0
    passes_refused: int = 0
    given_twice: int = 0
    repeats_differ: int = 0
    store_operations: int = 0
    wishes: int = 0
    asks: int = 0
    asks_in_s: Counter[int] = field(default_factory=Counter)
    rising: int = 0

    @property
    def admitted(self) -> list[Person]:
        """Everybody who got in."""
        return [person for person in self.people if person.admitted_s is not None]


SILENT_LEAVERS = 0.1
"""The share of visits that end without a word; their slots are free when the pass ends."""


class Opened(Protocol):
    """A store that is open in this process, and how its process dies."""

    @property
    def store(self) -> Store:
        """The store as its callers have it."""

    def is_called(self, room: str, number: int) -> bool:
        """Whether the record has an open turn for ``number``."""

    def crash(self) -> None:
        """End without a word: nothing is written that was not before."""


class _OpenedHere:
    store: MemoryStore | SqliteStore

    def is_called(self, room: str, number: int) -> bool:
        """Whether the record has an open turn for ``number``."""
        line = self.store._book.lines[room]
        return line.has_turn(number) or number in line.ends()


class OpenedMemory(_OpenedHere):
    """``memory:`` on the note in ``folder``; without a folder it forgets everything."""

    def __init__(self, room: Room, clock: FakeClock, folder: Path | None) -> None:
        notes = None if folder is None else Notes(folder / "notes")
        self.store = MemoryStore([room], clock, notes, chance=random.Random(SEEDS_SEED).randbytes)

    def crash(self) -> None:
        """Leave the note as it is."""


class OpenedSqlite(_OpenedHere):
    """``sqlite:`` on the file in ``folder``."""

    def __init__(self, room: Room, clock: FakeClock, folder: Path | None) -> None:
        assert folder is not None
        notes, seal = Notes(folder / "notes"), folder / "seal"
        chance = random.Random(SEEDS_SEED).randbytes
        self.store = SqliteStore([room], clock, folder / "record.db", notes, seal, chance=chance)

    def crash(self) -> None:
        """Let go of the file, as the system does when a process ends."""
        assert isinstance(self.store, SqliteStore)
        self.store.abandon()


class WatchedStore:
    """A store that tells of each operation, and of each call at the moment it happens; away while there is none."""

    def __init__(
        self, opened: Opened, on_operation: Callable[[], None], on_called: Callable[[Sequence[int]], None]
    ) -> None:
        self.opened: Opened | None = opened
        self.order: Order | None = None
        self._on_operation = on_operation
        self._on_called = on_called

    @property
    def _store(self) -> Store:
        if self.opened is None:
            raise StoreAway("the record does not answer")
        return self.opened.store

    async def join(self, room: str, known: Known, requests: Sequence[JoinRequest]) -> list[Joined]:
        """Count and hand on."""
        self._on_operation()
        return await self._store.join(room, known, requests)

    async def claim(
        self, room: str, known: Known, numbers: Sequence[tuple[int, float]], visitors: Sequence[str] = ()
    ) -> list[Claimed]:
        """Count and hand on."""
        self._on_operation()
        return await self._store.claim(room, known, numbers, visitors)

    async def leave(self, room: str, known: Known, numbers: Sequence[int]) -> None:
        """Count and hand on."""
        self._on_operation()
        await self._store.leave(room, known, numbers)

    async def look_up(self, room: str, known: Known, passes: Sequence[Pass]) -> list[int]:
        """Count and hand on."""
        self._on_operation()
        return await self._store.look_up(room, known, passes)

    async def tick(self, room: str, known: Known, noted: Noted, lead: Lead) -> Ticked:
        """Hand on, and tell who was called. A tick is the room's, not a visitor's, and is not counted."""
        ticked = await self._store.tick(room, known, noted, lead)
        self.order = ticked.snapshot.order or self.order
        self._on_called(ticked.called)
        return ticked

    async def operate(self, room: str, verbs: Mapping[str, Any], who: str) -> Status:
        """Hand on."""
        return await self._store.operate(room, verbs, who)

    async def status(self, room: str) -> Status:
        """Hand on."""
        return await self._store.status(room)

    async def snapshot(self, room: str) -> Snapshot:
        """Hand on."""
        return await self._store.snapshot(room)

    async def drawn(self, room: str) -> Drawn | None:
        """Hand on."""
        return await self._store.drawn(room)

    async def close(self) -> None:
        """Hand on."""
        await self._store.close()


class Crowd:
    """Plays ``plan`` against one room; everything drawn by chance comes from ``seed``.

    ``folder`` is where the record is left, needed when the plan has anybody killed. ``opener`` opens it.
    """

    def __init__(
        self,
        room: Room,
        plan: Plan,
        seed: int,
        folder: Path | None = None,
        *,
        opener: Callable[[Room, FakeClock, Path | None], Opened] = OpenedMemory,
        workers: int = 1,
    ) -> None:
        self.room = room
        self.plan = plan
        self.seed = seed
        self.clock = FakeClock()
        self._folder = folder
        self._opener = opener
        self._workers = workers
        self._asleep: tuple[RoomService, float] | None = None
        self._back_s = 0.0
        self._chance = random.Random(seed)
        self._visitors = random.Random(f"visitors of {seed}")
        self._idle_s = 0.0
        self._start_s = self.clock.monotonic_s()
        self._order = itertools.count()
        self._agenda: list[tuple[float, int, Person]] = []
        self._by_number: dict[int, Person] = {}
        self._waiting: set[int] = set()
        self._passes: dict[int, Pass] = {}
        self.outcome = Outcome([self._person() for _ in range(plan.visitors)])
        for person in self.outcome.people:
            self._at(self._chance.uniform(0, plan.arrive_s), person)

    async def play(self, seconds: float) -> Outcome:
        """Let ``seconds`` pass, and return what came of it."""
        await self._start()
        turns = itertools.cycle(range(self._workers))
        turn_s = TICK_S / self._workers
        next_tick_s = turn_s
        while next_tick_s <= seconds:
            if self._agenda and self._agenda[0][0] <= next_tick_s:
                at_s, _, person = heapq.heappop(self._agenda)
                self.clock.advance(max(0.0, at_s - self.now_s))
                await self._act(person)
                continue
            self.clock.advance(max(0.0, next_tick_s - self.now_s))
            self._exodus()
            await self._befall()
            turn = next(turns)
            await self._tick(self.services[turn])
            if turn == self._workers - 1:
                self._observe()
            next_tick_s += turn_s
        self._judge_windows()
        if self._watched.opened is not None:
            self._watched.opened.crash()
        return self.outcome

    @property
    def service(self) -> RoomService:
        """A worker, as the network chooses it: any that is awake."""
        if self._workers == 1:
            return self.services[0]
        asleep = self._asleep[0] if self._asleep else None
        return self._chance.choice([service for service in self.services if service is not asleep])

    @property
    def now_s(self) -> float:
        """The crowd's time, from zero."""
        return self.clock.monotonic_s() - self._start_s

    def called(self, numbers: Sequence[int]) -> None:
        """Judge the calls of one tick against who was present at that moment."""
        for number in numbers:
            self._judge_order(number)
            self._waiting.discard(number)
            self._by_number[number].called_s = self.now_s
            self.outcome.calls.append((self.now_s, number))

    async def _start(self) -> None:
        """Start everything, for the first time or on what killed processes left behind."""
        self._process_since_s = self.now_s
        opened = self._opener(self.room, self.clock, self._folder)
        self._watched = WatchedStore(opened, self._operated, self.called)
        self._ticker = Ticker([], self._watched)
        self.services = [await self._worker() for _ in range(self._workers)]

    async def _worker(self) -> RoomService:
        view = await self._watched.snapshot(self.room.name)
        name = f"worker {next(self._order)}"
        keyring, chance = Keyring(["k" * 32]), self._visitors.randbytes
        return RoomService(self.room, view, self._watched, keyring, self.clock, worker=name, chance=chance)

    async def _tick(self, service: RoomService) -> None:
        if self._asleep is not None and self._asleep[0] is service:
            if self.now_s < self._asleep[1]:
                return
            self._asleep = None
        with contextlib.suppress(StoreAway):
            await self._ticker.step(service)

    async def _befall(self) -> None:
        """Let happen what the plan has for this moment."""
        if self._watched.opened is None and self.now_s >= self._back_s:
            self._watched.opened = self._opener(self.room, self.clock, self._folder)
        while self.plan.faults and self.now_s >= self.plan.faults[0][0] and self._watched.opened is not None:
            fault, self.plan = self.plan.faults[0][1], replace(self.plan, faults=self.plan.faults[1:])
            match fault:
                case Fault.ALL:
                    self._watched.opened.crash()
                    self._forget_unticked(self.services)
                    await self._start()
                case Fault.KEEPER | Fault.AWAY:
                    self._watched.opened.crash()
                    self._watched.opened = None
                    self._back_s = self.now_s + (AWAY_S if fault is Fault.AWAY else TICK_S)
                case Fault.WORKER:
                    index = self._chance.randrange(self._workers)
                    self._forget_unticked([self.services[index]])
                    self.services[index] = await self._worker()
                case Fault.ASLEEP:
                    leads = next((service for service in self.services if service.term), self.services[0])
                    self._forget_unticked([leads])
                    self._asleep = (leads, self.now_s + ASLEEP_S)
                case Fault.CLOCK:
                    self.clock.step_wall(self._chance.choice((-7_200, 7_200)))
                case _:
                    assert_never(fault)

    def _forget_unticked(self, killed: Sequence[RoomService]) -> None:
        """Take for absent, until they ask again, whom only a killed or stopped worker had heard since its last tick."""
        for number in self._waiting:
            person = self._by_number[number]
            if person.asked_at is not None:
                service, at_s = person.asked_at
                if service in killed and at_s >= self.now_s - TICK_S:
                    person.silent_until_s = self.now_s

    def _operated(self) -> None:
        self.outcome.store_operations += 1

    def _judge_order(self, number: int) -> None:
        """Note everybody present whom the holder of ``number`` is let past."""
        place = self._place(number)
        for other in sorted(self._waiting, key=self._place):
            if self._place(other) >= place:
                break
            before = self._by_number[other]
            # Two ticks are what it takes for a return to be known everywhere.
            if before.waiting_since_s <= self.now_s - 2 * TICK_S and before.silent_until_s >= self.now_s:
                self.outcome.overtakings.append((self.now_s, number, other))

    def _place(self, number: int) -> int:
        """Return the place of a number: drawn, as workers have been told by now, or itself."""
        order = self._watched.order
        return number if order is None else order.place(number)

    def _person(self) -> Person:
        plan, drawn = self.plan, self._chance.random()
        repeats = self._chance.random() < plan.repeat
        for kind in ("never", "leave", "hidden", "late"):
            share: float = getattr(plan, kind)
            if drawn < share:
                return Person(kind, 0 if kind == "never" else self._chance.randint(1, 4), repeats)
            drawn -= share
        return Person("faithful", -1, repeats)

    def _at(self, at_s: float, person: Person) -> None:
        heapq.heappush(self._agenda, (at_s, next(self._order), person))

    async def _act(self, person: Person) -> None:
        if person.gone:
            return
        if person.carried is None:
            await self._arrive(person)
        elif isinstance(person.carried, Pass):
            await (self._end_visit(person) if person.clicked else self._click(person))
        else:
            await self._ask(person)

    async def _arrive(self, person: Person) -> None:
        person.arrived_s = self.now_s
        key = f"visit {id(person)}" if person.repeats else None
        service = self.service
        try:
            answers = await asyncio.gather(*(self.service.join(key) for _ in range(1 + person.repeats)))
        except StoreAway:
            self._at(self.now_s + RETRY_S, person)
            return
        joined, told = answers[0]
        self.outcome.wishes += len(answers)
        places = {(one.number, one.visitor, one.end_ms) for one, _ in answers}
        self.outcome.repeats_differ += len(places) > 1
        self.outcome.given_twice += joined.number in self._by_number
        person.number = joined.number
        self._by_number[joined.number] = person
        if joined.end_ms:
            self._judge_order(joined.number)
            self._enter(person, service.joined_pass(joined))
            return
        person.carried = service.ticket(joined)
        person.aheads += [told.ahead] if told.ahead is not None else []
        self._wait(person, told.refresh_s)

    async def _ask(self, person: Person) -> None:
        assert isinstance(person.carried, Ticket)
        self.outcome.asks += 1
        self.outcome.asks_in_s[int(self.now_s)] += 1
        person.asked = True
        hidden = person.kind == "hidden"
        service = self.service
        carried = service.read([(service.ticket_text(person.carried), None)])
        told = service.told(carried, hidden=hidden)
        person.asked_at = (service, self.now_s)
        if told.state is VisitorState.NONE:
            self.outcome.places_lost += 1
            person.gone = True
            return
        if told.state in (VisitorState.CALLED, VisitorState.MISSED):
            called_before = self._is_called(person.number)
            claimed = await self._claim(person, person.carried)
            if claimed.end_ms:
                if not called_before:  # called and claimed in one operation
                    self.called([person.number])
                self._enter(person, service.claimed_pass(person.carried, claimed))
                return
            if claimed.called:
                self._come_back(person, max(claimed.retry_ms / 1000, TICK_S))
                return
        if told.ahead is not None and told.state in (VisitorState.WAITING, VisitorState.PREQUEUE):
            self.outcome.rising += told.ahead > min(person.aheads, default=told.ahead)
            person.aheads.append(told.ahead)
        self._wait(person, told.refresh_s)

    def _is_called(self, number: int) -> bool:
        """Whether the record has an open turn for ``number``, whatever a worker's view says; or had, when it went."""
        if (opened := self._watched.opened) is not None:
            return opened.is_called(self.room.name, number)
        return self._by_number[number].called_s is not None and number not in self._waiting

    async def _claim(self, person: Person, ticket: Ticket) -> Claimed:
        service = self.service
        try:
            answers = await asyncio.gather(*(self.service.claim(ticket) for _ in range(1 + person.repeats)))
        except StoreAway:
            return service.unclaimed(ticket)
        self.outcome.wishes += len(answers)
        self.outcome.repeats_differ += any(answer != answers[0] for answer in answers)
        return answers[0]

    def _wait(self, person: Person, told_s: float) -> None:
        """Stand in line: from now on, if this person was absent or called before."""
        if self._is_called(person.number):
            pass  # called by another worker a moment ago; this one's view will know within a tick
        elif person.number not in self._waiting or person.silent_until_s < self.now_s:
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

    def _enter(self, person: Person, entry_pass: Pass) -> None:
        self._waiting.discard(person.number)
        person.carried = self._passes[person.number] = entry_pass
        person.admitted_s = self.now_s
        visit_s = self.plan.visit_s
        if self.plan.faster is not None and self.now_s >= self.plan.faster[0]:
            visit_s /= self.plan.faster[1]
        visit_s = self._chance.expovariate(1 / visit_s)
        person.clicked = False
        self._at(self.now_s + visit_s / 2, person)
        self._at(self.now_s + visit_s, person)

    async def _click(self, person: Person) -> None:
        """Look at another page of the shop; the pass must open the door, and may slide."""
        assert isinstance(person.carried, Pass)
        person.clicked = True
        service = self.service
        ended = person.carried.end_ms <= service.now_ms()
        carried = service.read([(service.pass_text(person.carried), Pass)])
        decision = service.decide(Shown(document=True, entry_pass=carried.entry_pass))
        self.outcome.passes_refused += not isinstance(decision, Forward) and not ended

    async def _end_visit(self, person: Person) -> None:
        assert isinstance(person.carried, Pass)
        person.gone = True
        service = self.service
        entry_pass = service.renewed(person.carried) or person.carried
        carried = service.read([(service.pass_text(entry_pass), Pass)])
        if carried.entry_pass is None:
            return
        # The tab that was left open claims with the same ticket. A process before this one took its record with it.
        if person.repeats and person.admitted_s is not None and person.admitted_s >= self._process_since_s:
            ticket = Ticket(self.room.name, entry_pass.generation, person.number, entry_pass.visitor, 0)
            again = await self._claim(person, ticket)
            self.outcome.repeats_differ += bool(again.end_ms) and again.admitted_ms != entry_pass.admitted_ms
        if self._chance.random() > SILENT_LEAVERS:
            self.outcome.wishes += 1
            with contextlib.suppress(StoreAway):
                await service.leave(carried)
            del self._passes[person.number]

    def _exodus(self) -> None:
        if self.plan.exodus is None or self.now_s < self.plan.exodus[0]:
            return
        for person in self.outcome.people:
            if person.admitted_s is None and person.number and self._chance.random() < self.plan.exodus[1]:
                person.gone = True
        self.plan = replace(self.plan, exodus=None)

    def _observe(self) -> None:
        """Count the passes that would open the door now, and for how long a slot stood idle before somebody present."""
        asleep = self._asleep[0] if self._asleep else None
        awake = [service for service in self.services if service is not asleep]
        view = awake[-1].view
        open_still = {
            number: entry_pass
            for number, entry_pass in self._passes.items()
            if any(pass_end_ms(service.view, entry_pass, service.judged_ms) for service in awake)
        }
        ended = len(self._passes) - len(open_still)  # such a slot is kept for a tick, see LATE_MS
        self._passes = open_still
        active = len(self._passes)
        self.outcome.most_active = max(self.outcome.most_active, active)
        free = self.room.total_active_users - active - ended - len(view.turns)
        present = [number for number in self._waiting if self._by_number[number].silent_until_s >= self.now_s]
        head = self._by_number[min(present, key=self._place)] if present else None
        # Who has not asked once is waited for, not called; and a return takes two ticks to be known.
        ready = head is not None and head.asked and head.waiting_since_s < self.now_s - 2 * TICK_S
        idle = free > 0 and ready and view.state is not RoomState.PREQUEUE
        self._idle_s = self._idle_s + TICK_S if idle else 0.0
        self.outcome.longest_idle_s = max(self.outcome.longest_idle_s, self._idle_s)

    def _judge_windows(self) -> None:
        times = sorted(person.admitted_s for person in self.outcome.people if person.admitted_s is not None)
        for index, end_s in enumerate(times):
            # Store time is whole milliseconds, so two admissions a second apart may look a millisecond closer.
            within = [at_s for at_s in times[: index + 1] if at_s > end_s - 59.999]
            self.outcome.most_in_a_minute = max(self.outcome.most_in_a_minute, len(within))
            second = sum(1 for at_s in within if at_s > end_s - 0.999)
            self.outcome.most_in_a_second = max(self.outcome.most_in_a_second, second)
