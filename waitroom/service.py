"""One room, as one worker sees it.

A waiting visitor is answered from here without the store: their number is signed, the view is in memory, and a position
is arithmetic. What has to reach the store is gathered. Who was heard and whose pass was used go with the next tick, all
in one operation. Joins that arrive while a commit is under way are numbered by the one after it, all together, in order
of arrival; so are claims.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, TypeVar

from waitroom.core import gate
from waitroom.core.inlet import Pace, Pacer, expected_wait_s
from waitroom.core.queueing import Claimed, Heard, Joined, JoinRequest
from waitroom.core.waiting import interval_s, silence_s, wait_range
from waitroom.errors import InvalidToken
from waitroom.model import Pass, QueueingMethod, RoomState, Ticket, VisitorState
from waitroom.ports import Noted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from waitroom.clock import Clock
    from waitroom.core.queueing import Snapshot
    from waitroom.core.tokens import Keyring
    from waitroom.model import Room
    from waitroom.ports import Store, Ticked

BATCH_MAX = 1_000
"""The most joins, or claims, in one store operation: a commit stays short however many arrive."""

BREAKPOINTS_MAX = 64
"""How many points of *people ahead* the shared status carries."""

VISITOR_BYTES = 8

Wish = TypeVar("Wish")
Outcome = TypeVar("Outcome")


class Batch(Generic[Wish, Outcome]):
    """Wishes gathered while the previous commit runs, then committed together in order of arrival."""

    def __init__(self, commit: Callable[[list[Wish]], Awaitable[Sequence[Outcome]]]) -> None:
        self._commit = commit
        self._gathered: list[tuple[Wish, asyncio.Future[Outcome]]] = []
        self._running: asyncio.Task[None] | None = None

    @property
    def gathered(self) -> int:
        """How many wishes wait for the next commit."""
        return len(self._gathered)

    def add(self, wish: Wish) -> asyncio.Future[Outcome]:
        """Return the future outcome of ``wish``. Cancelling it takes nothing back: the wish is committed anyway."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Outcome] = loop.create_future()
        self._gathered.append((wish, future))
        if self._running is None:
            self._running = loop.create_task(self._run())
        return future

    async def _run(self) -> None:
        try:
            while self._gathered:
                batch, self._gathered = self._gathered[:BATCH_MAX], self._gathered[BATCH_MAX:]
                try:
                    outcomes = await self._commit([wish for wish, _ in batch])
                except Exception as error:  # noqa: BLE001 - it is handed to each who asked
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(error)
                else:
                    for (_, future), outcome in zip(batch, outcomes, strict=True):
                        if not future.done():
                            future.set_result(outcome)
        finally:
            self._running = None


@dataclass(frozen=True, slots=True)
class Told:
    """What a visitor is told about themselves. Times are milliseconds of store time since 1970."""

    state: VisitorState
    number: int | None = None
    ahead: int | None = None
    wait_s: tuple[int, int] | None = None
    refresh_s: float = 60.0
    claim_by: int | None = None
    pass_until: int | None = None


@dataclass(frozen=True, slots=True)
class Carried:
    """The tokens a request carries for this room, as far as they are any good; ``invalid`` lists why others are not."""

    ticket: Ticket | None = None
    entry_pass: Pass | None = None
    ended: Pass | None = None
    invalid: tuple[str, ...] = ()


class RoomService:
    """A room's view, its line's pace, and what is gathered for the store."""

    def __init__(self, room: Room, view: Snapshot, store: Store, keyring: Keyring, clock: Clock) -> None:
        self.room = room
        self.view = view
        self._store = store
        self._keyring = keyring
        self._clock = clock
        self._view_s = clock.monotonic_s()
        self._now_ms = view.at_ms
        self._heard: dict[int, Heard] = {}
        self._used: dict[int, Pass] = {}
        self._left: set[int] = set()
        self._unawaited: set[asyncio.Future[None]] = set()
        self._joins: Batch[JoinRequest, Joined] = Batch(lambda wishes: store.join(room.name, wishes))
        self._claims: Batch[tuple[int, float], Claimed] = Batch(lambda wishes: store.claim(room.name, wishes))
        self._pacer = Pacer(view.at_ms)
        self._pace = Pace()
        self.shared_status = b""
        self.shared_etag = b""
        self._free = 0
        self._note_pace(0.0, 0)
        self._share()

    # -- for the desk -------------------------------------------------------------------------------------------

    def now_ms(self) -> int:
        """Return store time, from the view's own moment and the time since; it never runs backwards here."""
        now_ms = self.view.at_ms + int((self._clock.monotonic_s() - self._view_s) * 1000)
        self._now_ms = max(self._now_ms, now_ms)
        return self._now_ms

    def read(self, tokens: Iterable[tuple[str, type[Ticket | Pass] | None]]) -> Carried:
        """Judge the texts a request carries. The second of each pair is the only kind it may be, if that is known.

        Of several places the smallest number is kept and the others are given up (P14).
        """
        tickets: dict[int, Ticket] = {}
        entry_pass: Pass | None = None
        ended: Pass | None = None
        invalid: list[str] = []
        now_ms = self.now_ms()
        for text, kind in tokens:
            try:
                token = self._keyring.read(text)
            except InvalidToken as error:
                invalid.append(error.reason)
                continue
            if kind is not None and not isinstance(token, kind):
                invalid.append("wrong-kind")
            elif token.room != self.room.name:
                invalid.append("other-room")
            elif token.generation != self.view.generation:
                invalid.append("other-generation")
            elif isinstance(token, Pass):
                if token.number not in self._left and gate.pass_end_ms(self.view, token, now_ms):
                    entry_pass = entry_pass or token
                else:
                    ended = token
            elif token.number not in self._left:
                tickets[token.number] = token
        kept = self._keep(tickets, now_ms)
        return Carried(kept, entry_pass, ended, tuple(invalid))

    def decide(self, shown: gate.Shown) -> gate.Decision:
        """Return the gate's decision, and note a pass that is to slide."""
        decision = gate.decide(self.room, self.view, shown, self.now_ms())
        if isinstance(decision, gate.Forward) and decision.renew and decision.entry_pass is not None:
            self._used[decision.entry_pass.number] = decision.entry_pass
        return decision

    async def join(self, idempotency_key: str | None = None) -> tuple[Joined, Told]:
        """Take a place, or go straight in. The number is zero where nobody is taken into line."""
        told_s = self._told_s(self.view.present + self._joins.gathered, first=True)
        visitor = os.urandom(VISITOR_BYTES).hex()
        joined = await self._joins.add(JoinRequest(visitor, told_s, idempotency_key))
        if joined.end_ms:
            return joined, Told(VisitorState.ADMITTED, joined.number, pass_until=joined.end_ms)
        if not joined.number:
            rejects = self.room.queueing_method is QueueingMethod.REJECT
            return joined, Told(VisitorState.REJECTED if rejects else VisitorState.FULL)
        if joined.visitor != visitor:  # a repeat: they may be called by now, and are told another interval
            return joined, self.told(Carried(ticket=self.ticket(joined)))
        # This view may not know yet who left; what is shown first must not be less than what it will answer.
        joined = replace(joined, ahead=max(joined.ahead, self.view.ahead(joined.number)))
        state = VisitorState.HELD if self.view.state is RoomState.HELD else VisitorState.WAITING
        waits = wait_range(self._wait_s(joined.ahead))
        return joined, Told(state, joined.number, joined.ahead, waits, told_s)

    async def claim(self, ticket: Ticket) -> Claimed:
        """Trade a called ticket for a pass; repeatable. A visitor who has to go on waiting was heard by it."""
        told_s = self._told_s(self.view.ahead(ticket.number))
        return await self._claims.add((ticket.number, silence_s(told_s, self.room.refresh)))

    async def leave(self, carried: Carried) -> None:
        """Give up the place and the pass."""
        numbers = {token.number for token in (carried.ticket, carried.entry_pass) if token is not None}
        self._left |= numbers
        await self._store.leave(self.room.name, sorted(numbers))

    def told(self, carried: Carried, *, hidden: bool = False) -> Told:
        """Return where a visitor stands; whoever waits is heard by asking."""
        now_ms = self.now_ms()
        if carried.entry_pass is not None:
            end_ms = gate.pass_end_ms(self.view, carried.entry_pass, now_ms)
            return Told(VisitorState.ADMITTED, carried.entry_pass.number, pass_until=end_ms)
        if carried.ticket is None:
            return Told(VisitorState.NONE if carried.ended is None else VisitorState.EXPIRED)
        number = carried.ticket.number
        state = gate.stands(self.view, number, now_ms)
        if state is VisitorState.NONE:
            return Told(state)
        if state is VisitorState.ADMITTED:
            return Told(state, number, pass_until=self.view.inside[number])
        if state is VisitorState.CALLED:
            told_s = self._told_s(0, hidden=hidden)
            self.hear(number, told_s, visible=not hidden)
            return Told(state, number, 0, (0, 0), told_s, claim_by=self.view.turns[number])
        return self.waiting(number, state, hidden=hidden)

    def waiting(self, number: int, state: VisitorState, *, hidden: bool = False, whole: bool = False) -> Told:
        """Return what a waiting visitor is told, and note that they were heard.

        ``whole``: told in whole seconds, rounded up, as a page without script can only count those.
        """
        ahead = self.view.ahead(number)
        told_s = self._told_s(ahead, hidden=hidden)
        told_s = math.ceil(told_s) if whole else told_s
        self.hear(number, told_s, visible=not hidden)
        if self.view.state is RoomState.HELD:
            state = VisitorState.HELD
        return Told(state, number, ahead, wait_range(self._wait_s(ahead)), told_s)

    def hear(self, number: int, told_s: float, *, visible: bool) -> None:
        """Note that a number asked for itself and was told to come back in ``told_s``."""
        silent_until_ms = self.now_ms() + int(silence_s(told_s, self.room.refresh) * 1000)
        before = self._heard.get(number)
        self._heard[number] = Heard(number, silent_until_ms, visible or (before is not None and before.visible))

    def ticket(self, joined: Joined) -> Ticket:
        """Return the ticket of a place."""
        return Ticket(self.room.name, self.view.generation, joined.number, joined.visitor, joined.joined_ms)

    def ticket_text(self, ticket: Ticket) -> str:
        """Return a ticket as the visitor carries it."""
        return self._keyring.sign_ticket(ticket)

    def entry_pass(self, number: int, visitor: str, admitted_ms: int, end_ms: int) -> Pass:
        """Return the pass for an end that the store holds."""
        return Pass(self.room.name, self.view.generation, number, visitor, admitted_ms, end_ms)

    def pass_text(self, entry_pass: Pass) -> str:
        """Return a pass as the visitor carries it."""
        return self._keyring.sign_pass(entry_pass)

    def renewed(self, entry_pass: Pass) -> Pass | None:
        """Return the pass with the later end that the store holds, or None when it holds no later one."""
        end_ms = self.view.inside.get(entry_pass.number, 0)
        return replace(entry_pass, end_ms=end_ms) if end_ms > entry_pass.end_ms else None

    # -- for the ticker -----------------------------------------------------------------------------------------

    def take_noted(self) -> Noted:
        """Return what was gathered since the last tick, and begin anew."""
        noted = Noted(list(self._heard.values()), list(self._used.values()))
        self._heard, self._used = {}, {}
        return noted

    def put_back(self, noted: Noted) -> None:
        """Keep what a failed tick did not take; what was noted since then is newer and stays."""
        for heard in noted.heard:
            newer = self._heard.get(heard.number, heard)
            self._heard[heard.number] = replace(newer, visible=newer.visible or heard.visible)
        self._used = {used.number: used for used in noted.used} | self._used

    def budget(self) -> int:
        """Return how many the pace allows to call now."""
        return self._pacer.credit(self.now_ms(), self.room.new_users_per_minute)

    def take(self, ticked: Ticked) -> None:
        """Replace the view by the one after a tick."""
        elapsed_s = max(0, ticked.snapshot.at_ms - self.view.at_ms) / 1000
        self._pacer.spend(len(ticked.called))
        self.view = ticked.snapshot
        self._view_s = self._clock.monotonic_s()
        self._left.clear()
        self._note_pace(elapsed_s, len(ticked.called))
        self._share()

    # -- how ----------------------------------------------------------------------------------------------------

    def _keep(self, tickets: dict[int, Ticket], now_ms: int) -> Ticket | None:
        """Return the ticket that counts: the smallest number whose place still exists. The others are given up."""
        alive = sorted(number for number in tickets if gate.stands(self.view, number, now_ms) is not VisitorState.NONE)
        if not alive:
            return None
        if given_up := alive[1:]:
            self._left.update(given_up)
            task = asyncio.ensure_future(self._store.leave(self.room.name, given_up))
            self._unawaited.add(task)  # or it could be collected before it ends
            task.add_done_callback(self._unawaited.discard)
        return tickets[alive[0]]

    def _note_pace(self, elapsed_s: float, called: int) -> None:
        self._free = self.room.total_active_users - len(self.view.inside) - len(self.view.turns)
        self._pace.step(
            elapsed_s,
            called,
            full=self._free <= 0 and self.view.present > 0,
            promised_per_s=self.room.total_active_users / self.room.session_duration_s,
        )

    def _wait_s(self, ahead: int) -> float | None:
        """Return the expected wait behind ``ahead`` people; None when nothing can be said."""
        if self.view.state is RoomState.HELD:
            return None
        return expected_wait_s(ahead, self._free, self.room.new_users_per_minute, self._pace.per_s)

    def _rate_per_minute(self) -> float:
        """Return the pace at this moment: the cap's while slots are free, else as fast as they come free."""
        most = float(self.room.new_users_per_minute)
        return most if self._free > 0 else round(min(most, self._pace.per_s * 60), 1)

    def _told_s(self, ahead: int, *, hidden: bool = False, first: bool = False) -> float:
        return interval_s(self._wait_s(ahead), self.room.refresh, hidden=hidden, first=first)

    def _share(self) -> None:
        """Make what is the same for everybody: once a tick, not once a visitor."""
        view = self.view
        first, last = view.serving + 1, view.issued
        step = max(1, math.ceil((last - first + 1) / (BREAKPOINTS_MAX - 1)))
        points = [*range(first, last, step), last] if first <= last else []
        refresh = self.room.refresh
        status = {
            "room": self.room.name,
            "state": view.state,
            "final": False,
            "generation": view.generation,
            "serving": view.serving,
            "issued": view.issued,
            "present": view.present,
            "ahead": [[number, view.ahead(number)] for number in points],
            "rate_per_minute": self._rate_per_minute(),
            "refresh": {
                "near": refresh.near_s,
                "far": refresh.far_s,
                "farthest": refresh.farthest_s,
                "jitter": refresh.jitter,
            },
            "opens_at": None,
            "stock": None,
            "message": None,
        }
        self.shared_status = json.dumps(status, separators=(",", ":")).encode()
        self.shared_etag = b'"' + hashlib.sha256(self.shared_status).hexdigest()[:16].encode() + b'"'
