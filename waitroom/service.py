"""One room, as one worker sees it.

A waiting visitor is answered from here without the store: their number is signed, the view is in memory, and a position
is arithmetic. What has to reach the store is gathered. Who was heard and whose pass was used go with the next tick, all
in one operation. Joins that arrive while a commit is under way are numbered by the one after it, all together, in order
of arrival; so are claims.

When the store is away, the last view goes on being true enough: places are told from it, and passes are judged by a
clock that stands still, as the store's will have stood when it is back. Only who is new, or wants in, has to hear it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from waitroom.core import draw, gate
from waitroom.core.inlet import Pace, Pacer, expected_wait_s
from waitroom.core.queueing import GONE, SERIES_STEP, Claimed, Heard, Joined, JoinRequest
from waitroom.core.scoring import Estimates
from waitroom.core.waiting import FIRST_S, HALF_AN_HOUR_S, Thinning, interval_s, silence_s, wait_range
from waitroom.errors import InvalidToken, StoreAway
from waitroom.model import Pass, Phase, QueueingMethod, RoomState, Ticket, VisitorState
from waitroom.ports import Known, Lead, Noted, Stock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from waitroom.clock import Clock
    from waitroom.core.queueing import Snapshot
    from waitroom.core.tokens import Keyring
    from waitroom.model import Draw, Invite, Room
    from waitroom.ports import Store, Ticked

BATCH_MAX = 1_000
"""The most joins, or claims, in one store operation: a commit stays short however many arrive."""

BREAKPOINTS_MAX = 64
"""How many points of *people ahead* the shared status carries."""

VISITOR_BYTES = 8

VISITORS_AT_ONCE = 64
"""For how many visitors chance is fetched at a time."""

AWAY_S = 1.0
"""After so long without a view the store is away, and the clock of passes and turns stands still."""

AWAY_RETRY_MS = 2_000
"""When a claim is to be tried again that the store could not be asked for."""

CLOCK_SET_MS = 1_500
"""A wall clock that is further from where it was expected has been set, not merely kept right."""

AGAIN_TICKS = 2
"""What was given up, and is not known to be gone after so many views, is given up once more."""

_STOPPED = {
    RoomState.PREQUEUE: VisitorState.PREQUEUE,
    RoomState.HELD: VisitorState.HELD,
    RoomState.SOLD_OUT: VisitorState.SOLD_OUT,
    RoomState.CLOSED: VisitorState.CLOSED,
}
"""What waiting visitors are told while nobody is called."""

Wish = TypeVar("Wish")
Outcome = TypeVar("Outcome")
Made = TypeVar("Made")

_Wished = tuple[Wish, "asyncio.Future[Any]", "Callable[[Outcome], Any]", "Callable[[StoreAway], Any] | None"]
"""A wish, who waits for it, and what is to be made of its outcome, or of the store's being away."""


class Batch(Generic[Wish, Outcome]):
    """Wishes gathered while the previous commit runs, then committed together in order of arrival.

    Nobody who wishes needs a task of its own: what is to be made of an outcome is said with the wish, and is made when
    the commit is done.
    """

    def __init__(self, commit: Callable[[list[Wish]], Awaitable[Sequence[Outcome]]]) -> None:
        self._commit = commit
        self._gathered: list[_Wished[Wish, Outcome]] = []
        self._running: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def gathered(self) -> int:
        """How many wishes wait for the next commit."""
        return len(self._gathered)

    def add(self, wish: Wish) -> asyncio.Future[Outcome]:
        """Return the future outcome of ``wish``. Cancelling it takes nothing back: the wish is committed anyway."""
        return self.make(wish, _as_it_is)

    def make(
        self, wish: Wish, made: Callable[[Outcome], Made], away: Callable[[StoreAway], Made] | None = None
    ) -> asyncio.Future[Made]:
        """Return the future of what ``made`` makes of the outcome of ``wish``, or ``away`` of the store's being away.

        Both are called only while somebody waits for it.
        """
        loop = self._loop = self._loop or asyncio.get_running_loop()
        future: asyncio.Future[Made] = loop.create_future()
        self._gathered.append((wish, future, made, away))
        if self._running is None:
            self._running = loop.create_task(self._run())
        return future

    async def _run(self) -> None:
        try:
            while self._gathered:
                batch, self._gathered = self._gathered[:BATCH_MAX], self._gathered[BATCH_MAX:]
                try:
                    outcomes = await self._commit([one[0] for one in batch])
                except Exception as error:  # noqa: BLE001 - it is handed to each who asked
                    if isinstance(error, StoreAway):  # who came meanwhile would only wait as long for the same
                        batch, self._gathered = batch + self._gathered, []
                    for _, future, _, away in batch:
                        if isinstance(error, StoreAway) and away is not None:
                            _settle(future, away, error)
                        elif not future.done():
                            future.set_exception(error)
                else:
                    for (_, future, made, _), outcome in zip(batch, outcomes, strict=True):
                        _settle(future, made, outcome)
        finally:
            self._running = None


def _settle(future: asyncio.Future[Any], make: Callable[[Any], Any], outcome: object) -> None:
    """Hand what is made of an outcome to who waits for it; a fault in the making is theirs alone."""
    if future.done():
        return
    try:
        future.set_result(make(outcome))
    except Exception as error:  # noqa: BLE001 - it is handed to who asked
        future.set_exception(error)


def _as_it_is(outcome: Outcome) -> Outcome:
    return outcome


class Told(NamedTuple):
    """What a visitor is told about themselves. Times are milliseconds of store time since 1970.

    ``place`` is the drawn one, from 1; None unless the order was drawn and they were among those.
    """

    state: VisitorState
    number: int | None = None
    ahead: int | None = None
    wait_s: tuple[int, int] | None = None
    refresh_s: float = 60.0
    claim_by: int | None = None
    pass_until: int | None = None
    place: int | None = None


class Carried(NamedTuple):
    """The tokens a request carries for this room, as far as they are any good; ``invalid`` lists why others are not.

    ``newer``: one is of a generation that the record lost. It will know it again in a moment; until then nothing may
    take the token's place. ``resign``: the ticket was signed by a key that is not the newest, and is to be signed anew
    before that one is retired.
    """

    ticket: Ticket | None = None
    entry_pass: Pass | None = None
    ended: Pass | None = None
    invalid: tuple[str, ...] = ()
    newer: bool = False
    resign: bool = False


class RoomService:
    """A room's view, its line's pace, and what is gathered for the store.

    ``worker`` names this worker among those that may lead. ``room`` is the configuration with what was said over it.
    ``views`` counts the views: what was worked out from ``room`` and ``view`` holds until it changes.
    ``chance`` makes the ids of visitors.
    """

    def __init__(
        self,
        room: Room,
        view: Snapshot,
        store: Store,
        keyring: Keyring,
        clock: Clock,
        *,
        worker: str = "worker",
        chance: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._chance = chance
        self.room = view.overrides.over(room.during(view.opening))
        self.view = view
        self.term = 0
        self._configured = room
        self._worker = worker
        self._store = store
        self._keyring = keyring
        self._clock = clock
        self._view_s = clock.monotonic_s()
        self._now_ms = view.at_ms
        self._heard: dict[int, Heard] = {}
        self._used: dict[int, Pass] = {}
        self._left: dict[int, int] = {}
        self._looked_up: set[int] = set()
        self._more: set[int] = set()
        self._extended: list[tuple[int, int]] = []
        self._extended_before = 0
        self._around: dict[tuple[str, str], int] = {}
        self._around_told: dict[tuple[str, str], int] = {}
        self._stock: Stock | None = None
        self._ended: str | None = None
        self._known = Known(view.generation, view.issued)
        self._joins: Batch[JoinRequest, Joined] = Batch(lambda wishes: store.join(room.name, self._known, wishes))
        self._claims: Batch[tuple[Ticket, float], Claimed] = Batch(self._claim_all)
        self._leaves: Batch[tuple[int, int], None] = Batch(self._leave_all)
        self._pacer = Pacer(view.at_ms)
        self._pace = Pace()
        self._thinning = Thinning()
        self.estimates = Estimates()
        self.shared_status = b""
        self.shared_etag = b""
        self.shared_draws = b""
        self.shared_draws_etag = b""
        self._free = 0
        self.views = 0
        self._visitors = b""
        self._newest: int | None = None
        self._far_from: int | None = None
        self._freed_per_s = 0.0
        self._note_pace(0.0, 0)
        self._share()

    # -- for the desk -------------------------------------------------------------------------------------------

    def now_ms(self) -> int:
        """Return store time, from the view's own moment and the time since; it never runs backwards here."""
        now_ms = self.view.at_ms + int((self._clock.monotonic_s() - self._view_s) * 1000)
        self._now_ms = max(self._now_ms, now_ms)
        return self._now_ms

    @property
    def judged_ms(self) -> int:
        """The time by which passes and turns are judged: it stands while the room is held, or the store is away."""
        return self.view.clock_ms(min(self.now_ms(), self.view.at_ms + int(AWAY_S * 1000)))

    @property
    def away(self) -> bool:
        """Whether the store has not been heard of for a while."""
        return self._clock.monotonic_s() - self._view_s > AWAY_S

    def read(self, tokens: Iterable[tuple[str, type[Ticket | Pass] | None]]) -> Carried:
        """Judge the texts a request carries. The second of each pair is the only kind it may be, if that is known.

        Of several places the smallest number is kept and the others are given up (P14).
        """
        tickets: dict[int, Ticket] = {}
        entry_pass: Pass | None = None
        ended: Pass | None = None
        invalid: list[str] = []
        newer = False
        old_keys: set[int] = set()
        now_ms = self.judged_ms
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
            elif token.generation > self.view.generation:
                newer = True
                self._know(token.generation, token.number)
            elif token.generation < self.view.generation:
                if isinstance(token, Pass) and gate.pass_end_ms(self.view, token, now_ms):
                    entry_pass = entry_pass or token
                else:
                    invalid.append("other-generation")
            elif isinstance(token, Pass):
                self._know(token.generation, token.number)
                if token.number not in self._left and gate.pass_end_ms(self.view, token, now_ms):
                    entry_pass = entry_pass or token
                else:
                    ended = token
            elif token.number not in self._left:
                self._know(token.generation, token.number)
                tickets[token.number] = token
                if not self._keyring.is_newest(text):
                    old_keys.add(token.number)
        kept = self._keep(tickets, now_ms)
        resign = kept is not None and kept.number in old_keys
        return Carried(kept, entry_pass, ended, tuple(invalid), newer, resign)

    def decide(self, shown: gate.Shown) -> gate.Decision:
        """Return the gate's decision, and note a pass that is to slide."""
        decision = gate.decide(self.room, self.view, shown, self.judged_ms)
        if isinstance(decision, gate.Forward) and decision.renew and decision.entry_pass is not None:
            self._used[decision.entry_pass.number] = decision.entry_pass
        return decision

    async def join(self, idempotency_key: str | None = None, member: bytes | None = None) -> tuple[Joined, Told]:
        """Take a place, or go straight in. The number is zero where nobody is taken into line.

        ``member`` is the account that the place belongs to: one that has a place, or a pass, gets no other.
        """
        return await self.joining(lambda joined, told: (joined, told), None, idempotency_key, member)

    def joining(
        self,
        made: Callable[[Joined, Told], Made],
        away: Callable[[StoreAway], Made] | None,
        idempotency_key: str | None = None,
        member: bytes | None = None,
    ) -> asyncio.Future[Made]:
        """Join, and return the future of what ``made`` makes of it, or ``away`` of the store's being away."""
        told_s = self._first_s()
        visitor = self._visitor()

        def tell(joined: Joined) -> Made:
            return made(joined, self._told_joined(joined, visitor, told_s))

        wish = JoinRequest(visitor, told_s, idempotency_key, members=self._pseudonyms(member))
        return self._joins.make(wish, tell, away)

    def invite(self, text: str) -> Invite | None:
        """Return the invite that a link brings; None for one that is not for this room, forged, or over."""
        try:
            invite = self._keyring.read_invite(text)
        except InvalidToken:
            return None
        good = invite.room == self.room.name and invite.until_ms > self.now_ms() and self.room.priority is not None
        return invite if good else None

    async def redeem(self, invite: Invite, ticket: Ticket | None, member: bytes | None = None) -> Joined:
        """Join the line of the invited, with the place that ``ticket`` is of, or ``member`` has, or a new one."""
        told_s = self._first_s()
        visitor = self._visitor()
        number = 0 if ticket is None else ticket.number
        wish = JoinRequest(visitor, told_s, None, invite.id, invite.until_ms, number, self._pseudonyms(member))
        joined = await self._joins.add(wish)
        self._know(joined.generation, joined.number)
        return joined

    def go_around(self, reason: str, rule: str = "") -> None:
        """Count a request that is let around the room: by one of its rules, or by the state that it is in."""
        self._around[reason, rule] = self._around.get((reason, rule), 0) + 1

    async def claim(self, ticket: Ticket) -> Claimed:
        """Trade a called ticket for a pass; repeatable. A visitor who has to go on waiting was heard by it."""
        told_s = self._told_s(self.view.ahead(ticket.number))
        return await self._claims.add((ticket, silence_s(told_s, self.room.refresh)))

    def unclaimed(self, ticket: Ticket) -> Claimed:
        """Return what a claim comes to while the store is away: nothing yet, and nothing lost."""
        called = gate.stands(self.view, ticket.number, self.judged_ms) is VisitorState.CALLED
        return Claimed(ticket.number, retry_ms=AWAY_RETRY_MS, called=called)

    def joined_pass(self, joined: Joined) -> Pass:
        """Return the pass of somebody who went straight in."""
        times_ms = (joined.joined_ms, joined.end_ms, joined.stood_ms)
        return Pass(self.room.name, joined.generation, joined.number, joined.visitor, *times_ms)

    def claimed_pass(self, ticket: Ticket, claimed: Claimed) -> Pass:
        """Return the pass that a ticket was traded for."""
        times_ms = (claimed.admitted_ms, claimed.end_ms, claimed.stood_ms)
        return Pass(self.room.name, ticket.generation, ticket.number, ticket.visitor, *times_ms)

    def opens_at_ms(self) -> int | None:
        """Return when the line opens, by the wall clock that our ``Date`` headers show; None when it has, or never.

        It is the time that was configured, unless the clock was set since that was read: what is left does not change.
        """
        opening = self.view.opening
        if opening is None or opening.phase is not Phase.PREQUEUE:
            return None
        stated_ms = opening.start_ms + opening.ahead_ms
        seen_ms = int(self._clock.wall_s() * 1000) + opening.start_ms - self.now_ms()
        return stated_ms if abs(seen_ms - stated_ms) < CLOCK_SET_MS else round(seen_ms, -3)

    def opens_s(self) -> int | None:
        """Return in how many whole seconds the line opens; None when it has, or never."""
        opening = self.view.opening
        if opening is None or opening.phase is not Phase.PREQUEUE:
            return None
        return max(0, math.ceil((opening.start_ms - self.now_ms()) / 1000))

    def notes(self) -> list[str]:
        """Return what an operator would want to know of this room, a line each: none when all is well."""
        found = []
        opening, opens_at_ms = self.view.opening, self.opens_at_ms()
        if opening is not None and opens_at_ms is not None and opens_at_ms != opening.start_ms + opening.ahead_ms:
            found.append(
                f"{self.room.name}: the clock was set since event {opening.event} was read; "
                f"it starts in {self.opens_s()} s, as the clock went before"
            )
        if self.away:
            found.append(f"{self.room.name}: the store is away; places and passes hold, nobody new is let in")
        if (rolls_s := (self.view.rolls_until_ms - self.now_ms()) / 1000) > 0:
            found.append(f"{self.room.name}: calling the roll; nobody is called for {math.ceil(rolls_s)} s")
        return found

    async def leave(self, carried: Carried) -> None:
        """Give up the place and the pass; a pass of an earlier generation runs out by itself."""
        tokens = [token for token in (carried.ticket, carried.entry_pass) if token is not None]
        numbers = [token.number for token in tokens if token.generation == self.view.generation]
        await asyncio.gather(*(self._give_up(number) for number in numbers))

    async def look_up(self, ended: Pass) -> Pass | None:
        """Return a pass that ended less than a session ago with the later end that the record may hold; once a tick."""
        session_ms = int(self.room.session_duration_s * 1000)
        if ended.number in self._left or ended.number in self._looked_up or self.judged_ms > ended.end_ms + session_ms:
            return None
        self._looked_up.add(ended.number)
        [end_ms] = await self._store.look_up(self.room.name, self._known, [ended])
        return replace(ended, end_ms=end_ms, stood_ms=self.view.stood_ms) if end_ms > self.judged_ms else None

    # -- what the origin says -----------------------------------------------------------------------------------

    def revoke(self, entry_pass: Pass) -> None:
        """End a pass: here at once, on every other worker within a tick. One of another generation runs out."""
        if entry_pass.generation == self.view.generation:
            self._give_up(entry_pass.number)

    def extend(self, entry_pass: Pass, by_ms: int) -> None:
        """Add to a session with the next tick; not to one of another generation, whose number is somebody else's."""
        if entry_pass.generation == self.view.generation:
            self._extended.append((entry_pass.number, by_ms))

    def more(self, ticket: Ticket) -> None:
        """Let a called visitor's turn begin anew with the next tick; the record judges how often that may be."""
        number = ticket.number
        if ticket.generation == self.view.generation and number in self.view.turns and number not in self._more:
            self._more.add(number)
            self._extended.append((number, 0))

    def say_stock(self, stock: Stock) -> None:
        """Note what is left, to be told to everyone with the next tick."""
        if self._stock is None or stock.version is None or stock.version >= (self._stock.version or 0):
            self._stock = stock

    def end_line(self, why: str) -> None:
        """End the line with the next tick: ``sold-out`` for good, or ``close``."""
        self._ended = why

    # -- what visitors are told ---------------------------------------------------------------------------------

    def told(self, carried: Carried, *, hidden: bool = False) -> Told:
        """Return where a visitor stands; whoever waits is heard by asking."""
        now_ms = self.judged_ms
        if carried.entry_pass is not None:
            end_ms = gate.pass_end_ms(self.view, carried.entry_pass, now_ms)
            number, place = carried.entry_pass.number, self._place(carried.entry_pass)
            return Told(VisitorState.ADMITTED, number, pass_until=end_ms, place=place)
        if carried.ticket is None:
            return Told(VisitorState.NONE if carried.ended is None else VisitorState.EXPIRED)
        number = carried.ticket.number
        state = gate.stands(self.view, number, now_ms)
        if state is VisitorState.NONE:
            return Told(state)
        if state is VisitorState.ADMITTED:
            return Told(state, number, pass_until=self.view.inside[number], place=self._place(carried.ticket))
        if state is VisitorState.CALLED and self.view.state is not RoomState.CLOSED and not self.view.overrides.final:
            told_s = self._told_s(0, hidden=hidden)
            self.hear(number, told_s, visible=not hidden)
            claim_by, place = self.view.turns[number], self._place(carried.ticket)
            return Told(state, number, 0, (0, 0), told_s, claim_by=claim_by, place=place)
        return self.waiting(number, state, hidden=hidden)

    def waiting(self, number: int, state: VisitorState, *, hidden: bool = False, whole: bool = False) -> Told:
        """Return what a waiting visitor is told, and note that they were heard.

        ``whole``: told in whole seconds, rounded up, as a page without script can only count those.
        """
        view, now_ms = self.view, self.now_ms()
        ahead = view.ahead(number)
        wait_s = self._wait_s(ahead)
        told_s = self._interval_s(ahead, wait_s, hidden=hidden)
        told_s = math.ceil(told_s) if whole else told_s
        self._hear(number, told_s, now_ms, visible=not hidden)
        state = _STOPPED.get(view.state, state)
        if self.unordered:
            told = Told(state, number, None, self._random_range(), told_s)
        else:
            place = None if view.order is None else view.order.rank(number)
            wait_s = self._invited_wait_s(number, wait_s) if view.invited else wait_s
            told = Told(state, number, ahead, self._range(wait_s), told_s, None, None, place)
        self._judge_later(told, now_ms)
        return told

    def receipt(self, carried: Carried) -> dict[str, object] | None:
        """Return what a visitor finds again in a draw's published list; None for who is on no such list."""
        token, drawn = carried.entry_pass or carried.ticket, self._draw()
        if token is None or drawn is None or token.generation != drawn.generation:
            return None
        index = draw.position(drawn.series, token.number)
        if index is None:
            return None
        ticket = draw.ticket_hash(self.room.name, token.generation, token.number, token.visitor)
        return {"number": token.number, "position": index + 1, "ticket": ticket.hex()}

    def hear(self, number: int, told_s: float, *, visible: bool) -> None:
        """Note that a number asked for itself and was told to come back in ``told_s``."""
        self._hear(number, told_s, self.now_ms(), visible=visible)

    def _hear(self, number: int, told_s: float, now_ms: int, *, visible: bool) -> None:
        silent_until_ms = now_ms + int(silence_s(told_s, self.room.refresh) * 1000)
        before = self._heard.get(number)
        self._heard[number] = Heard(number, silent_until_ms, visible or (before is not None and before.visible), now_ms)

    def ticket(self, joined: Joined) -> Ticket:
        """Return the ticket of a place."""
        return Ticket(self.room.name, joined.generation, joined.number, joined.visitor, joined.joined_ms)

    def joined_text(self, joined: Joined) -> str:
        """Return the ticket of a place as the visitor carries it."""
        room, generation = self.room.name, joined.generation
        return self._keyring.sign_place(room, generation, joined.number, joined.visitor, joined.joined_ms)

    def ticket_text(self, ticket: Ticket) -> str:
        """Return a ticket as the visitor carries it."""
        return self._keyring.sign_ticket(ticket)

    def pass_text(self, entry_pass: Pass) -> str:
        """Return a pass as the visitor carries it."""
        return self._keyring.sign_pass(entry_pass)

    def renewed(self, entry_pass: Pass) -> Pass | None:
        """Return the pass with the later end that the store holds, or None when it holds no later one."""
        if entry_pass.generation != self.view.generation or entry_pass.number in self._left:
            return None
        end_ms = self.view.inside.get(entry_pass.number, 0)
        later = end_ms > gate.stated_end_ms(self.view, entry_pass)
        return replace(entry_pass, end_ms=end_ms, stood_ms=self.view.stood_ms) if later else None

    # -- for the ticker -----------------------------------------------------------------------------------------

    def take_noted(self) -> Noted:
        """Return what was gathered since the last tick, and begin anew."""
        noted = Noted(
            list(self._heard.values()),
            list(self._used.values()),
            tuple(self._extended),
            self._stock,
            self._ended,
            self.view.generation,
            self._extended_before,
            {
                why: (told, count)
                for why, count in self._around.items()
                if (told := self._around_told.get(why, 0)) != count
            },
        )
        self._around_told |= {why: count for why, (_, count) in noted.around.items()}
        self._extended_before += len(self._extended)
        self._heard, self._used, self._extended, self._stock, self._ended = {}, {}, [], None, None
        return noted

    def put_back(self, noted: Noted) -> None:
        """Keep what a failed tick did not take; what was noted since then is newer and stays."""
        for heard in noted.heard:
            newer = self._heard.get(heard.number, heard)
            self._heard[heard.number] = replace(newer, visible=newer.visible or heard.visible)
        self._used = {used.number: used for used in noted.used} | self._used
        self._extended = [*noted.extended, *self._extended]
        self._extended_before -= len(noted.extended)
        self._around_told |= {why: told for why, (told, _) in noted.around.items()}
        newer_stock, self._stock = self._stock, noted.stock
        if newer_stock is not None:
            self.say_stock(newer_stock)
        self._ended = self._ended or noted.ended

    @property
    def known(self) -> Known:
        """The largest generation and number that were issued or seen here."""
        return self._known

    def lead(self) -> Lead:
        """Return this worker's bid to call as many as the pace allows."""
        budget = self._pacer.credit(self.now_ms(), self.room.new_users_per_minute)
        return Lead(self._worker, self.term, self.view.serving, budget)

    def resign(self) -> Lead:
        """Return the word that this worker leads no longer."""
        return Lead(self._worker, self.term, self.view.serving, -1)

    def take(self, ticked: Ticked) -> None:
        """Replace the view by the one after a tick."""
        before, view = self.view, ticked.snapshot
        elapsed_s = max(0, view.at_ms - before.at_ms) / 1000
        self._pacer.spend(len(ticked.called))
        self.term = ticked.term
        self.view = view
        self.views += 1
        self._newest = self._far_from = None
        self._view_s = self._clock.monotonic_s()
        if (view.overrides, view.opening) != (before.overrides, before.opening):
            self.room = view.overrides.over(self._configured.during(view.opening))
        self._know(view.generation, view.issued)
        self._looked_up.clear()
        self._more.clear()
        if view.generation != before.generation:  # what was noted while the tick was under way is of the one before
            self._heard, self._used, self._extended = {}, {}, []
            self.estimates.clear()
        self.estimates.call((*view.turns, *view.inside), view.at_ms, view.stood_ms)
        self._watch_left(view, same=view.generation == before.generation)
        called = max(0, view.calls - before.calls)
        self._note_pace(elapsed_s, called)
        if view.generation == before.generation:
            self._note_thinning(before, elapsed_s, called)
        self._share()

    # -- how ----------------------------------------------------------------------------------------------------

    def _pseudonyms(self, member: bytes | None) -> tuple[str, ...]:
        return () if member is None else self._keyring.pseudonyms(self.room.name, member)

    def _visitor(self) -> str:
        """Return the id of a new visitor. Chance is fetched for many at a time: a call of the system is for all."""
        if len(self._visitors) < VISITOR_BYTES:
            self._visitors = self._chance(VISITOR_BYTES * VISITORS_AT_ONCE)
        found, self._visitors = self._visitors[:VISITOR_BYTES], self._visitors[VISITOR_BYTES:]
        return found.hex()

    def _first_s(self) -> float:
        """Return in how many seconds whoever joins now asks first. From some length of the line on it is the same."""
        ahead, refresh = self.view.present + self._joins.gathered, self.room.refresh
        longest_s = max(refresh.near_s, FIRST_S)
        if self._far_from is not None and ahead >= self._far_from:
            return longest_s
        told_s = self._told_s(ahead, first=True)
        # Before the line opens it depends on the time as well; and where nothing can be told, it is ``far`` at most.
        if told_s == longest_s <= refresh.far_s and self.view.state is not RoomState.PREQUEUE:
            self._far_from = ahead
        return told_s

    def _told_joined(self, joined: Joined, visitor: str, told_s: float) -> Told:
        """Return what who has just joined as ``visitor`` is told, having been told ``told_s`` already."""
        self._know(joined.generation, joined.number)
        if joined.end_ms:
            return Told(VisitorState.ADMITTED, joined.number, pass_until=joined.end_ms)
        if not joined.number:
            return Told(self.refused())
        if joined.visitor != visitor:  # a repeat: they may be called by now, and are told another interval
            told = self.told(Carried(ticket=self.ticket(joined)))
            if told.state is not VisitorState.NONE:  # else this view is older than the place
                return told
        state = _STOPPED.get(self.view.state, VisitorState.WAITING)
        if joined.ahead is None or self.unordered:
            told = Told(state, joined.number, None, self._random_range(), told_s)
        else:
            # This view may not know yet who left; what is shown first must not be less than what it will answer.
            ahead = max(joined.ahead, self._ahead(joined.number))
            told = Told(state, joined.number, ahead, self._range(self._wait_s(ahead)), told_s)
        self._judge_later(told, self.now_ms())
        return told

    def _ahead(self, number: int) -> int:
        """Return how many are before ``number``. For those that this view does not know yet it is counted once."""
        view = self.view
        unseen = number - view.issued - 1
        if unseen < 0 or unseen >= SERIES_STEP // 2 or view.order is not None or view.invited:
            return view.ahead(number)
        if self._newest is None:
            self._newest = view.ahead(view.issued + 1)
        return self._newest + unseen

    def _keep(self, tickets: dict[int, Ticket], now_ms: int) -> Ticket | None:
        """Return the ticket that counts: the smallest number whose place still exists. The others are given up."""
        if not tickets:
            return None
        alive = [number for number in tickets if gate.stands(self.view, number, now_ms) is not VisitorState.NONE]
        if not alive:
            return None
        kept = min(alive)
        for number in alive:
            if number != kept:
                self._give_up(number)
        return tickets[kept]

    def _give_up(self, number: int) -> asyncio.Future[None]:
        """Count a number for gone from now on, and have the store know; what fails is asked for again."""
        self._left[number] = 0
        given_up = self._leaves.add((self.view.generation, number))
        given_up.add_done_callback(_retrieve)
        return given_up

    async def _claim_all(self, wishes: Sequence[tuple[Ticket, float]]) -> list[Claimed]:
        """Claim for the tickets of the generation that is known by now; a place of one before it is gone."""
        known = self._known
        good = [(ticket, told_s) for ticket, told_s in wishes if ticket.generation == known.generation]
        asked = [(ticket.number, told_s) for ticket, told_s in good]
        visitors = [ticket.visitor for ticket, _ in good]
        claimed = iter(await self._store.claim(self.room.name, known, asked, visitors) if asked else ())
        return [
            next(claimed) if ticket.generation == known.generation else Claimed(ticket.number, gone=True)
            for ticket, _ in wishes
        ]

    async def _leave_all(self, wishes: Sequence[tuple[int, int]]) -> list[None]:
        known = self._known
        numbers = [number for generation, number in wishes if generation == known.generation]
        if numbers:
            await self._store.leave(self.room.name, known, numbers)
        return [None] * len(wishes)

    def _watch_left(self, view: Snapshot, *, same: bool) -> None:
        """Forget what was given up once the view knows it; ask again for what it still does not."""
        self._left = {
            number: views + 1 for number, views in self._left.items() if same and view.standing(number) != GONE
        }
        for number in [number for number, views in self._left.items() if views >= AGAIN_TICKS]:
            self._give_up(number)

    def _know(self, generation: int, number: int) -> None:
        """Remember the largest number that was issued or is signed."""
        known = self._known
        if generation > known.generation or (generation == known.generation and number > known.number):
            self._known = Known(generation, number)

    def refused(self) -> VisitorState:
        """Return why nobody is taken into line."""
        if self.view.state in (RoomState.CLOSED, RoomState.SOLD_OUT):
            return _STOPPED[self.view.state]
        return VisitorState.REJECTED if self.room.queueing_method is QueueingMethod.REJECT else VisitorState.FULL

    def _note_pace(self, elapsed_s: float, called: int) -> None:
        view = self.view
        self._free = self.room.total_active_users - len(view.inside) - len(view.turns) - len(view.former)
        self._pace.step(
            elapsed_s,
            called,
            full=self._free <= 0 and self.view.present > 0,
            promised_per_s=self.room.total_active_users / self.room.session_duration_s,
        )
        self._freed_per_s = self._pace.per_s

    def _note_thinning(self, before: Snapshot, elapsed_s: float, called: int) -> None:
        """Note how many stood before the last in line, and are neither called nor before that one any more."""
        stood = before.ahead_of(before.issued)
        left = self.view.ahead_of(before.issued) if before.issued > self.view.serving else 0
        self._thinning.step(elapsed_s, stood, max(0, stood - left - called))

    def _wait_s(self, ahead: int) -> float | None:
        """Return the expected wait behind ``ahead`` people; None when nothing can be said."""
        return None if self.view.state in _STOPPED else self._pace_wait_s(ahead)

    @property
    def at_random(self) -> bool:
        """Whether people are called in no order."""
        return self.room.queueing_method is QueueingMethod.RANDOM

    @property
    def unordered(self) -> bool:
        """Whether nobody can tell who is ahead of whom: the order is still to be drawn, or there is none."""
        return self.view.undrawn or self.at_random

    def _range(self, wait_s: float | None) -> tuple[int, int] | None:
        """Return the range that is told where ``wait_s`` is expected if nobody ahead gives up."""
        return wait_range(wait_s, thinning=self._thinning, gap_s=self._pace.gap_s)

    def _random_range(self) -> tuple[int, int] | None:
        """Return the range that is told to everybody alike where nobody is ahead of anybody."""
        return wait_range(self._wait_s(self.view.present) if self.at_random else None, at_random=True)

    def _judge_later(self, told: Told, now_ms: int) -> None:
        """Note the wait that a visitor is told; of who missed a call, or is told that nobody is called, none counts."""
        assert told.number is not None
        if told.state is not VisitorState.WAITING:
            self.estimates.forget(told.number)
        elif told.wait_s is not None and self.estimates.keeps(told.number):
            self.estimates.tell(told.number, told.wait_s, now_ms, self.view.stood_ms)

    def _pace_wait_s(self, ahead: int) -> float | None:
        return expected_wait_s(ahead, self._free, self.room.new_users_per_minute, self._freed_per_s)

    def _invited_wait_s(self, number: int, wait_s: float | None) -> float | None:
        """Return the expected wait of a number that would be ``wait_s``; an invited one is called in either line."""
        before = self.view.invited.get(self.view.place(number))
        if before is None or self.room.priority is None or wait_s is None:
            return wait_s
        in_line_s = self._wait_s(self.view.ahead_of(self.view.place(number)))
        among_invited_s = self._wait_s(math.ceil((before + 1) / self.room.priority.share) - 1)
        return min((one for one in (in_line_s, among_invited_s) if one is not None), default=wait_s)

    def _rate_per_minute(self) -> float:
        """Return the pace at this moment: the cap's while slots are free, else as fast as they come free."""
        most = float(self.room.new_users_per_minute)
        return most if self._free > 0 else round(min(most, self._pace.per_s * 60), 1)

    def _told_s(self, ahead: int, *, hidden: bool = False, first: bool = False) -> float:
        if first and self.view.undrawn:
            # Whoever is drawn first and was never heard is waited for: so everybody is to be heard soon after joining.
            return interval_s(0.0, self.room.refresh)
        return self._interval_s(ahead, self._wait_s(ahead), hidden=hidden, first=first)

    def _interval_s(self, ahead: int, wait_s: float | None, *, hidden: bool = False, first: bool = False) -> float:
        if self.at_random and wait_s is not None:
            wait_s = min(self._wait_s(self.view.present // 2) or 0.0, HALF_AN_HOUR_S)
        if self.view.state is RoomState.PREQUEUE and self.view.opening is not None:
            # As in any line: by how long it may still take. So those in front hear of the start within seconds, nobody
            # aims at its very second, and a crowd asks no more often than the same crowd does while it is let in.
            opens_s = max(0, self.view.opening.start_ms - self.now_ms()) / 1000
            wait_s = opens_s + (self._pace_wait_s(ahead) or 0.0)
            if self.unordered:
                # Anybody may be first. Nobody is kept from hearing of it for longer than ``far``, nor may all of a
                # large crowd come at once: they ask as if they stood in its middle, within half an hour of the front.
                middle_s = opens_s + (self._pace_wait_s(self.view.present // 2) or 0.0)
                wait_s = max(opens_s, min(middle_s, HALF_AN_HOUR_S))
        return interval_s(wait_s, self.room.refresh, hidden=hidden, first=first)

    def _share(self) -> None:
        """Make what is the same for everybody: once a tick, not once a visitor."""
        view = self.view
        first, last = view.serving + 1, view.issued
        step = max(1, math.ceil((last - first + 1) / (BREAKPOINTS_MAX - 1)))
        points = [*range(first, last, step), last] if first <= last and not self.unordered else []
        refresh = self.room.refresh
        status = {
            "room": self.room.name,
            "state": view.state,
            "final": view.overrides.final,
            "generation": view.generation,
            "serving": view.serving,
            "issued": view.issued,
            "present": view.present,
            "ahead": [[place, view.ahead_of(place)] for place in points],
            "rate_per_minute": self._rate_per_minute(),
            "refresh": {
                "near": refresh.near_s,
                "far": refresh.far_s,
                "farthest": refresh.farthest_s,
                "jitter": refresh.jitter,
            },
            "opens_at": self.opens_at_ms(),
            "stock": view.overrides.stock,
            "message": view.overrides.message,
        }
        self.shared_status, self.shared_etag = _shared(status)
        draws = [_published(one, dealt=not view.undrawn) for one in view.draws]
        self.shared_draws, self.shared_draws_etag = _shared({"room": self.room.name, "draws": draws})

    def _draw(self) -> Draw | None:
        """Return what is known of the draw of this generation; None when there is none."""
        return next((one for one in self.view.draws if one.generation == self.view.generation), None)

    def _place(self, token: Ticket | Pass) -> int | None:
        order = self.view.order
        return None if order is None or token.generation != self.view.generation else order.rank(token.number)


def _shared(said: dict[str, object]) -> tuple[bytes, bytes]:
    """Return ready bytes that are the same for everybody, and the tag by which a cache knows them."""
    text = json.dumps(said, separators=(",", ":")).encode()
    return text, b'"' + hashlib.sha256(text).hexdigest()[:16].encode() + b'"'


def _published(one: Draw, *, dealt: bool) -> dict[str, object]:
    """Return a draw as everybody is told of it. ``dealt``: places are known, of the one whose list is closed."""
    gathered = "gathering" if not one.seed else "drawn" if dealt else "closed"
    return {
        "event": one.event,
        "state": gathered if one.generation else "committed",
        "commitment": one.commitment,
        "generation": one.generation or None,
        "count": draw.count(one.series),
        "numbers": one.series,
        "digest": one.digest or None,
        "seed": one.seed or None,
    }


def _retrieve(future: asyncio.Future[None]) -> None:
    """Look at the error of a leave that nobody waits for: it is asked for again with a later tick."""
    if not future.cancelled():
        future.exception()
