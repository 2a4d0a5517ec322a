"""One room's line: who is next, who is inside, and what is remembered of a number.

Every number is in one standing at a time:

    NEW ──heard──▶ WAITING ──called──▶ CALLED ──claimed──▶ INSIDE ──ended──▶ GONE
     └──silent past its due time──▶ SILENT ◀──missed──┘
                                      │ heard again
               ahead of serving: BACK ┴ behind it: RETURNER ──called──▶ CALLED

``serving`` moves over the numbers in order. It calls who is present, passes over who has been silent past the time
told, and *waits* at a number that was never heard but whose first time has not come: a ghost then costs its few seconds
once, and no slot. Returners are called before anyone new, smallest number first. *Called* is a fact in this record (a
set of open turns), never a comparison with ``serving``.

A waiting visitor costs five bytes: one for the standing, four for the due time, in chunks of 4,096 numbers, so that a
gap between two series costs nothing. A chunk that can matter to nobody any more is forgotten.

``ahead`` must never rise for anyone (P10), although people come back. So whoever was left out of the count once, being
silent, is counted again only for the numbers given out after their return.

Where an event's order is drawn (``core/draw.py``), those who gathered have *places* other than their numbers. Nobody is
called until all are dealt; then everything in here is by place, and numbers are translated where they come in and go
out. Whoever joins later has the place of the number.

Both hard caps are judged here, at the call and at the claim (P3): what a caller believes is a tick old. Nothing in this
file reads a clock: ``now_ms`` is store time, given.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, insort
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final, NamedTuple

from waitroom.core import draw as lots
from waitroom.core.inlet import Admissions
from waitroom.core.waiting import OFFER_S, SILENCE_S, silence_s
from waitroom.model import Draw, Overrides, Phase, QueueingMethod, RoomState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from waitroom.core.draw import JoinList, Order
    from waitroom.core.schedule import Reading
    from waitroom.model import Opening, Room

NONE: Final = 0
NEW: Final = 1
WAITING: Final = 2
BACK: Final = 3
SILENT: Final = 4
RETURNER: Final = 5
CALLED: Final = 6
INSIDE: Final = 7
GONE: Final = 8

SHIFT = 12
CHUNK = 1 << SHIFT
MASK = CHUNK - 1

DUE_STEP_MS = 100
"""Due times are kept in tenths of a second since the line began, rounded up: 32 bits last thirteen years."""

MISSES_MAX = 2
"""After so many offers missed in a row, a place gets none until a person shows up in front of the page."""

MORE_MAX = 12
"""How often an open turn begins anew because its holder asks: ten times by hand, which WCAG 2.2.1 wants, and twice by a
page that heard of it late. Then it is missed as any other, so nobody keeps a slot from those behind for good."""

IN_LINE = (NEW, WAITING, BACK, SILENT)

WHOLE = 1_000_000
"""One call, in the parts in which the share of the invited is counted: sums of fractions would drift."""

INVITE_KEY = "\n"
"""Before the id of an invite, where it is kept among the keys of repeats: no header can hold it."""

MEMBER_KEY = "\r"
"""The same before the pseudonym of an account."""

MEMBERS_A_SWEEP = 500
"""How many accounts a sweep looks at, in turn, to forget those whose place is no more."""

INVITES_LOOK_MS = 1_000
"""How often used invites that are over are looked for: a crowd of invited comes at once, and each look is at all."""

LOOKS_MAX = 8
"""How often a tick may draw somebody who turns out to be silent: each look costs a tenth of a millisecond."""

_DEALT = bytes.maketrans(bytes((NONE, BACK, RETURNER)), bytes((SILENT, WAITING, WAITING)))
"""What becomes of a standing when places are dealt: nobody has been called, so nobody was passed over."""

_SILENCED = bytes.maketrans(bytes((NEW, WAITING)), bytes((SILENT, SILENT)))

IDEMPOTENCY_MS = 600_000
IDEMPOTENCY_KEYS_MAX = 100_000
SILENT_CHUNKS_A_SWEEP = 2

SERIES_STEP = 1_000_000
"""A fresh series begins at unix seconds times this, or at a later multiple: at least so far beyond what is known."""

MINUTE_MS = 60_250
"""A minute, and the bucket in which it is counted."""

LEASE_MS = 3_000
"""For how long a worker leads without saying so again."""

OVERTAKEN_MS = 1_000
"""What was heard so long ago may be older than what is known: the later due time of the two is kept."""

LATE_MS = 250
"""A slot is kept a tick past its end: the use of its pass may still be on the way, noted by another worker."""


class JoinRequest(NamedTuple):
    """A wish to join: the new visitor's id, when their page is told to ask first, and an optional repeat key.

    It and ``Joined`` are tuples because a crowd makes three of them each: they cost a third, and travel as they are.
    ``invite`` is the id of an invite, good until ``invite_until_ms``; with it comes the ``number`` of who has a place.
    ``members`` are pseudonyms of the account that the place is to belong to, all of the same one; none: of nobody's.
    """

    visitor: str
    told_s: float
    idempotency_key: str | None = None
    invite: str | None = None
    invite_until_ms: int = 0
    number: int = 0
    members: tuple[str, ...] = ()


class Joined(NamedTuple):
    """The number given, and how many are before it.

    ``end_ms`` above zero means admitted, since ``joined_ms``; the clock has stood still for ``stood_ms`` by now.
    ``number`` zero means that nobody is taken into line here. ``ahead`` None: the order is still to be drawn.
    ``spent``: the invite was used by somebody else, or its time is over.
    """

    number: int
    visitor: str
    joined_ms: int
    ahead: int | None = 0
    end_ms: int = 0
    generation: int = 1
    stood_ms: int = 0
    spent: bool = False


@dataclass(frozen=True, slots=True)
class Heard:
    """A number that asked for itself, and until when it may be silent now.

    ``visible``: a person may be looking. ``at_ms``: when it asked, 0 for just now; one that was long on the way may
    have been overtaken by a later one, heard by another worker.
    """

    number: int
    silent_until_ms: int
    visible: bool = True
    at_ms: int = 0


@dataclass(frozen=True, slots=True)
class Claimed:
    """The outcome of a claim.

    ``end_ms`` above zero: admitted, since ``admitted_ms``; the clock has stood still for ``stood_ms`` by now. Otherwise
    ``retry_ms`` says when to ask again; ``gone`` says that the place no longer exists.
    """

    number: int
    admitted_ms: int = 0
    end_ms: int = 0
    retry_ms: int = 0
    called: bool = False
    gone: bool = False
    stood_ms: int = 0


@dataclass(slots=True)
class Inside:
    """A slot in use: since when, until when, and for how long the clock had stood still when it began."""

    admitted_ms: int
    end_ms: int
    stood_ms: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A worker's whole view of a room. It is replaced, never edited, so a request sees one moment only."""

    room: str
    generation: int
    base: int
    issued: int
    serving: int
    state: RoomState
    at_ms: int
    chunks: Mapping[int, bytes] = field(repr=False)
    before: Mapping[int, int] = field(repr=False)
    counted: int
    late: Sequence[int] = field(repr=False)
    returners: Sequence[int] = field(repr=False)
    turns: Mapping[int, int] = field(repr=False)
    inside: Mapping[int, int] = field(repr=False)
    present: int = 0
    adopting: bool = False
    earlier: tuple[tuple[int, int], ...] = ()
    overrides: Overrides = field(default_factory=Overrides)
    stood_ms: int = 0
    still_since_ms: int = 0
    rolls_until_ms: int = 0
    former: Mapping[tuple[int, int], int] = field(default_factory=dict, repr=False)
    calls: int = 0
    opening: Opening | None = None
    draws: tuple[Draw, ...] = ()
    undrawn: bool = False
    order: Order | None = None
    invited: Mapping[int, int] = field(default_factory=dict, repr=False)
    """Of who was invited and is not inside yet: how many of them joined before, by place."""

    @property
    def closed(self) -> bool:
        """Whether the line has ended, by somebody's word or because its event has."""
        return self.overrides.closed or (self.opening is not None and self.opening.phase is Phase.ENDED)

    def place(self, number: int) -> int:
        """Return the place of ``number``: itself, unless the order was drawn."""
        return number if self.order is None else self.order.place(number)

    def standing(self, number: int) -> int:
        """Return the standing of ``number``; NONE for one that this view does not know but cannot rule out."""
        number = self.place(number)
        chunk = self.chunks.get(number >> SHIFT)
        known = chunk[number & MASK] if chunk is not None else NONE
        if known == NONE and (
            self.base <= number <= self.issued
            or (number < self.base and not (self.adopting and not _within(number, self.earlier)))
        ):
            return GONE
        return known

    def clock_ms(self, now_ms: int) -> int:
        """Return the time by which turns and passes are judged: it stands while the room is held."""
        return self.still_since_ms or now_ms

    def ahead(self, number: int) -> int:
        """Return how many visitors will be called before ``number``. For one number this never rises."""
        place = self.place(number)
        # Whoever is invited is called at their turn in either line; all invited count, so that none can come back.
        before = self.invited.get(place)
        return self.ahead_of(place) if before is None else min(self.ahead_of(place), before)

    def ahead_of(self, place: int) -> int:
        """Return how many visitors will be called before whoever has ``place``."""
        number = place
        if number <= self.serving:
            return bisect_left(self.returners, number)
        # Numbers given out since this view was made are taken for present: that can only fall. They are not half a
        # step: rather a series has begun, at a whole step, which this view does not know.
        unseen = max(0, number - self.issued - 1)
        offset = number % SERIES_STEP if unseen >= SERIES_STEP // 2 else unseen
        number -= unseen
        start = number & ~MASK
        chunk = self.chunks.get(number >> SHIFT, b"")
        low, high = max(self.serving + 1 - start, 0), number - start
        counted = chunk.count(NEW, low, high) + chunk.count(WAITING, low, high)
        before = self.before.get(number >> SHIFT)
        if before is None:  # a place that the record does not know yet, or one beyond all that it knows
            later = (count for chunk_id, count in self.before.items() if chunk_id > number >> SHIFT)
            before = next(later, self.counted)
        return before + counted + offset + bisect_left(self.late, number)


def series_base(now_ms: int, known: int) -> int:
    """Return the first number of a series that begins now, beyond ``known``; it fits 53 bits for centuries."""
    return max(now_ms // 1000, -(-known // SERIES_STEP) + 1 if known else 0) * SERIES_STEP


def _within(number: int, series: Iterable[tuple[int, int]]) -> bool:
    """Whether ``number`` was given out in one of ``series``, each from its first to its last."""
    return any(first <= number <= last for first, last in series)


def _first(_: int) -> int:
    """Stand in for chance where nothing is left to it."""
    return 0


def _waiting(chunk: _Chunk) -> int:
    """Return how many in a chunk wait in line, and were heard."""
    return chunk.standing.count(WAITING) + chunk.standing.count(BACK)


def _pieces(series: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """Return which chunks hold these numbers, each with the first index in it and the one after the last."""
    for first, last in series:
        for chunk_id in range(first >> SHIFT, (last >> SHIFT) + 1):
            start = chunk_id << SHIFT
            yield chunk_id, max(0, first - start), min(CHUNK, last - start + 1)


class _Chunk:
    """The standings and due times of 4,096 numbers. ``live`` counts those that serving must look at."""

    __slots__ = ("due", "live", "standing")

    def __init__(self) -> None:
        self.standing = bytearray(CHUNK)
        self.due = array("I", bytes(4 * CHUNK))
        self.live = 0


class Line:
    """The record of one room and generation.

    ``base`` is the first number of this series, ``earlier`` the series before it as far as they are known;
    ``assumed_until_ms`` is until when every slot must be taken for used, after a record was lost while passes were out;
    ``rolls_until_ms`` until when nobody is called or passed over, because not everybody had the time to be heard.
    ``former`` are passes of generations before this one that run out by themselves: generation, number, and the end.
    ``opening`` is the event that this generation is of, ``readings`` how the times of the room's events are read.
    ``seeds`` are of the draws of events to come, ``draw`` is the list of this one's, ``order`` what was drawn.
    """

    def __init__(
        self,
        room: Room,
        now_ms: int,
        *,
        generation: int = 1,
        base: int = 1,
        assumed_until_ms: int = 0,
        overrides: Overrides | None = None,
        opening: Opening | None = None,
    ) -> None:
        self.configured = room
        self.overrides = overrides or Overrides()
        self.opening = opening
        self.readings: tuple[Reading, ...] = ()
        self.seeds: dict[str, bytes] = {}
        self.draw: JoinList | None = None
        self.order: Order | None = None
        self.room = self.overrides.over(room.during(opening))
        self.generation = generation
        self.base = base
        self.earlier: list[tuple[int, int]] = []
        self.former: dict[tuple[int, int], int] = {}
        self.stood_ms = 0
        self.still_since_ms = now_ms if self.room.queue_all else 0
        self.rolls_until_ms = 0
        self.leader = ""
        self.term = 0
        self.leads_until_ms = 0
        self.calls = 0
        self.admitted = 0
        self.joined = 0
        self.overtakings = 0
        self.cap_exceeded = 0
        self.touched: set[int] | None = None
        self.touched_chunks: set[int] = set()
        self.touched_keys: set[str] = set()
        self.issued = base - 1
        self.serving = base - 1
        self.admissions = Admissions(self.room.new_users_per_minute)
        self._born_ms = now_ms
        self._lost_ms = now_ms
        self.assumed_until_ms = assumed_until_ms
        self._chunks: dict[int, _Chunk] = {}
        self._chunk_ids: list[int] = []
        self._frozen: dict[int, bytes] = {}
        self._tally = [0] * (GONE + 1)
        self._turns: dict[int, int] = {}
        self._inside: dict[int, Inside] = {}
        self._misses: dict[int, int] = {}
        self._more: dict[int, int] = {}
        self._heap: list[int] = []
        self._in_heap: set[int] = set()
        self._returners: set[int] = set()
        self._late: dict[int, int] = {}
        self._unseen_returns: set[int] = set()
        self._asks_by_ms = 0
        self._repeats: dict[str, tuple[int, Joined]] = {}
        self.invites: dict[str, tuple[int, Joined]] = {}
        self.invites_used = 0
        self.members: dict[str, Joined] = {}
        self._members_to_look_at: list[str] = []
        self._invites_looked_at_ms = 0
        self.invited_credit = 0
        self._invited: dict[int, None] = {}
        self._silent_cursor = 0
        self._forget_cursor = 0

    # -- what is asked of the line ------------------------------------------------------------------------------

    def join(self, requests: Iterable[JoinRequest], now_ms: int) -> list[Joined]:
        """Give the requests numbers in order of arrival; in standby admit as many as there is room for."""
        return [
            self._repeat(request, now_ms) or self._join(request, now_ms)
            if request.invite is None
            else self._redeem(request, request.invite, now_ms)
            for request in requests
        ]

    def hear(self, heard: Iterable[Heard], now_ms: int) -> None:
        """Note who asked for themselves, and by when each must ask again."""
        for one in heard:
            self._hear(self._place(one.number), one, now_ms)

    def call(self, budget: int, now_ms: int, below: Callable[[int], int] = _first) -> list[int]:
        """Open turns for at most ``budget`` visitors: returners first, then on from ``serving``. Return the called.

        In a line without an order (``random``) the rest are drawn among those present: ``below`` returns a number from
        0 to less than its argument, by chance. Moves over the absent even when there is nothing to give, so that the
        count of the present stays true.
        """
        if now_ms < self.rolls_until_ms or self._gathers:
            return []
        if self.room.queue_all or self._ended or self.overrides.sold_out:
            budget = 0
        free = max(0, min(budget, self.free_slots(now_ms), self.admissions.minute_room(now_ms)))
        called: list[int] = []  # by place
        while free and (number := self._next_returner(now_ms)) is not None:
            called.append(number)
            self._open_turn(number, now_ms)
            free -= 1
        self._earn(len(called))
        invited = self._present_invited(now_ms)
        walked: list[int] = []
        while free and self._invited:
            # One at a time, so that a share of the calls is a share of them, and not of those of whole ticks.
            if self.invited_credit >= WHOLE and (place := next(invited, None)) is not None:
                self.invited_credit -= WHOLE
                self._open_turn(place, now_ms)
                called.append(place)
            else:
                before = len(walked)
                self._call_next(1, now_ms, walked, below)
                called += walked[before:]
                if len(walked) == before:
                    break
            self._earn(1)
            free -= 1
        before = len(walked)
        self._call_next(free, now_ms, walked, below)
        called += walked[before:]
        self._earn(len(walked) - before)
        self._count_calls(called, walked, now_ms)
        return [self._number(place) for place in called]

    def claim(self, number: int, now_ms: int, silent_until_ms: int) -> Claimed:
        """Trade a called number for a slot; or, for one who missed their call, call and claim at once.

        Repeatable: a number that is inside gets the same slot again.
        """
        claimed = self._claim(self._place(number), now_ms, silent_until_ms)
        return claimed if self.order is None else replace(claimed, number=number)

    def _claim(self, number: int, now_ms: int, silent_until_ms: int) -> Claimed:
        standing = self._standing(number, now_ms)
        if standing == INSIDE:
            return self._claimed(number)
        if standing == GONE:
            return Claimed(number, gone=True)
        if standing == CALLED and self._turns[number] < self.clock_ms(now_ms):
            self._miss(number)
        if standing != CALLED or number not in self._turns:
            self._hear(number, Heard(number, silent_until_ms), now_ms)
            if self._rests(now_ms) or self._next_returner(now_ms) != number or self.free_slots(now_ms) <= 0:
                return Claimed(number)
        if self.room.queue_all or not self.admissions.room(now_ms) or self._ended:
            retry_ms = self.admissions.wait_ms(now_ms)
            if number in self._turns:  # to find the minute spent is no miss: the offer's end moves on
                end_ms = self.clock_ms(now_ms) + retry_ms + self._claim_within_ms
                self._turns[number] = max(self._turns[number], end_ms)
                self._touch(number)
            return Claimed(number, retry_ms=retry_ms, called=number in self._turns)
        self.calls += number not in self._turns
        self._admit(number, now_ms, self._session_ms)
        return self._claimed(number)

    def renew(self, number: int, admitted_ms: int, end_ms: int, now_ms: int) -> int:
        """Slide the end of a pass that was used, and return the end now held; 0 when it is held no more.

        A pass given in standby becomes a whole session with the first request that brings it back. A pass that this
        record does not know, because it was given after the record was copied, is taken in as it states itself.
        """
        number = self._place(number)
        standing = self._standing(number, now_ms)
        if standing not in (INSIDE, GONE) and end_ms > self.clock_ms(now_ms):
            if standing == NONE:
                self._adopt(number, now_ms)
            self._set(number, INSIDE)
            self._inside[number] = Inside(admitted_ms, end_ms, self.stood_ms)
        slot = self._inside.get(number)
        if slot is None:
            return 0
        whole = slot.end_ms - slot.admitted_ms - (self.stood_ms - slot.stood_ms) >= self._session_ms
        if not (whole and self.room.disable_session_renewal):
            self._slide(number, slot, self.clock_ms(now_ms) + self._session_ms)
        return slot.end_ms

    def extend(self, number: int, by_ms: int, now_ms: int) -> None:
        """Add to a session what the origin says, within ``session_limit``.

        An open turn begins anew instead, ``MORE_MAX`` times at most: its holder is who asks for more time, and says no
        milliseconds. If they were let in meanwhile, their session is none the longer.
        """
        number = self._place(number)
        standing = self._standing(number, now_ms)
        if standing == INSIDE:
            slot = self._inside[number]
            self._slide(number, slot, slot.end_ms + by_ms)
        elif standing == CALLED:
            end_ms = self.clock_ms(now_ms) + self._claim_within_ms
            if self.clock_ms(now_ms) <= self._turns[number] < end_ms and self._more.get(number, 0) < MORE_MAX:
                self._more[number] = self._more.get(number, 0) + 1
                self._turns[number] = end_ms
                self._touch(number)

    def held_end_ms(self, number: int, now_ms: int) -> int:
        """Return the end of a slot that is in use; 0 for any other number."""
        number = self._place(number)
        return self._inside[number].end_ms if self._standing(number, now_ms) == INSIDE else 0

    def leave(self, number: int, now_ms: int) -> None:
        """Give up a place or a slot."""
        number = self._place(number)
        standing = self._standing(number, now_ms)
        if standing == NONE:
            self._adopt(number, now_ms)
        if standing != GONE:
            self._set(number, GONE)

    def has_turn(self, number: int) -> bool:
        """Whether a turn is open for ``number``."""
        return self._place(number) in self._turns

    def ends(self) -> dict[int, int]:
        """Return the end of every slot in use."""
        return {self._number(place): slot.end_ms for place, slot in self._inside.items()}

    def sweep(self, now_ms: int) -> None:
        """Let time pass: turns not taken are missed, slots end, the silent are marked, the forgotten forgotten."""
        clock_ms = self.clock_ms(now_ms)
        for number in [number for number, end_ms in self._turns.items() if end_ms < clock_ms]:
            self._miss(number)
        for number in [number for number, slot in self._inside.items() if slot.end_ms + LATE_MS <= clock_ms]:
            self._set(number, GONE)
        for former in [former for former, end_ms in self.former.items() if end_ms + LATE_MS <= clock_ms]:
            del self.former[former]
        if now_ms >= self.rolls_until_ms:
            self._next_returner(now_ms)
            self._mark_silent(now_ms)
            self._forget(now_ms)
            self._forget_members(now_ms)

    def lead(self, worker: str, now_ms: int, *, resign: bool = False) -> int:
        """Return the term in which ``worker`` leads, 0 when another does; it leads until ``LEASE_MS`` from now."""
        if self.leader != worker:
            if now_ms < self.leads_until_ms:
                return 0
            self.leader = worker
            self.term += 1
        elif now_ms >= self.leads_until_ms:
            self.term += 1  # whoever slept through its lease finds that its term is over, also if nobody took the lead
        self.leads_until_ms = 0 if resign else now_ms + LEASE_MS
        return 0 if resign else self.term

    def configure(self, room: Room, overrides: Overrides, now_ms: int) -> None:
        """Go on with other settings, or with other words over them. Nobody inside is thrown out, no place is lost."""
        self.configured, self.overrides = room, overrides
        self.room = overrides.over(room.during(self.opening))
        self.admissions.per_minute = self.room.new_users_per_minute
        if self.room.queue_all:
            self.still_since_ms = self.still_since_ms or now_ms
        elif self.still_since_ms:
            still_ms, self.still_since_ms = now_ms - self.still_since_ms, 0
            self.stand(still_ms)

    def stand(self, still_ms: int, *, unheard: bool = False) -> None:
        """Let all turns and passes end ``still_ms`` later: the clock stood still for so long.

        ``unheard``: nobody could be heard meanwhile either, so everybody may be silent for so much longer.
        """
        self.stood_ms += still_ms
        self.assumed_until_ms += still_ms  # passes that this record does not know end later too
        for slot in self._inside.values():
            slot.end_ms += still_ms
        self._turns = {number: end_ms + still_ms for number, end_ms in self._turns.items()}
        self.former = {former: end_ms + still_ms for former, end_ms in self.former.items()}
        if self.still_since_ms:  # held meanwhile: what has been counted now is not counted again when it ends
            self.still_since_ms += still_ms
        if unheard:
            self._born_ms += still_ms
            self._lost_ms += still_ms
            self._asks_by_ms += still_ms
        if self.touched is not None:
            self.touched.update(self._inside, self._turns)

    def begin_series(self, known: int, now_ms: int, *, rests_until_ms: int | None = None) -> None:
        """Go on numbering beyond ``known``: this record forgot something, and calls the roll before it calls anyone.

        Whoever shows a number that is signed and unknown to every series is taken in. Until ``rests_until_ms`` every
        slot is taken for used and nobody is passed over; without it, for as long as a pass that was given a moment ago
        may last, and until everybody had the time to ask.
        """
        base = series_base(now_ms, max(known, self.issued))
        if rests_until_ms is None:
            asks_s = silence_s(self.room.refresh.far_s, self.room.refresh)
            rests_until_ms = now_ms + max(self._session_ms, MINUTE_MS, int(asks_s * 1000))
            rests_until_ms = max(rests_until_ms, self.asks_by_ms)
        if self.issued >= self.base:
            self.earlier.append((self.base, self.issued))
        self.base, self.issued = base, base - 1
        self._lost_ms = now_ms
        self.assumed_until_ms = max(self.assumed_until_ms, rests_until_ms)
        self.rolls_until_ms = max(self.rolls_until_ms, rests_until_ms)
        # A turn may have been taken since, a pass renewed, and whoever seems to be silent heard: each shows itself.
        for number in [*self._turns, *(n for n, slot in self._inside.items() if slot.end_ms <= self.assumed_until_ms)]:
            self._set(number, SILENT)
        now_step = self._step(now_ms)
        for chunk in self._chunks.values():
            chunk.due = array("I", (max(due, now_step) for due in chunk.due))
        self.touched_chunks.update(self._chunks)

    def snapshot(self, now_ms: int) -> Snapshot:
        """Return the view that workers answer from. Chunks that did not change are shared with the one before."""
        self._count_returns()
        before: dict[int, int] = {}
        counted = 0
        first = (self.serving + 1) >> SHIFT
        for chunk_id in self._chunk_ids[bisect_left(self._chunk_ids, first) :]:
            before[chunk_id] = counted
            standing = self._chunks[chunk_id].standing
            low = max(self.serving + 1 - (chunk_id << SHIFT), 0)
            counted += standing.count(NEW, low) + standing.count(WAITING, low)
        for chunk_id in self._chunks.keys() - self._frozen.keys():
            self._frozen[chunk_id] = bytes(self._chunks[chunk_id].standing)
        return Snapshot(
            room=self.room.name,
            generation=self.generation,
            base=self.base,
            issued=self.issued,
            serving=self.serving,
            state=self.state(now_ms),
            at_ms=now_ms,
            chunks=dict(self._frozen),
            before=before,
            counted=counted,
            late=tuple(self._late.values()),
            returners=tuple(sorted(self._returners)),
            turns={self._number(place): end_ms for place, end_ms in self._turns.items()},
            inside=self.ends(),
            present=self.present,
            adopting=self._adopts(now_ms),
            earlier=tuple(self.earlier),
            overrides=self.overrides,
            stood_ms=self.stood_ms,
            still_since_ms=self.still_since_ms,
            rolls_until_ms=self.rests_until_ms if now_ms < self.rests_until_ms else 0,
            former=dict(self.former),
            calls=self.calls,
            opening=self.opening,
            draws=self.draws,
            undrawn=self.draw is not None and self.order is None,
            order=self.order,
            invited={place: before for before, place in enumerate(self._invited)},
        )

    # -- the draw -------------------------------------------------------------------------------------------------

    @property
    def draws(self) -> tuple[Draw, ...]:
        """What everybody may know of this event's draw, and of those to come."""
        this = () if self.draw is None else (self.draw.shown(),)
        return this + tuple(Draw(event, lots.commitment(seed)) for event, seed in self.seeds.items())

    @property
    def to_deal(self) -> bool:
        """Whether the list of the draw is closed, and places are still to be dealt."""
        return self.draw is not None and self.draw.closed and self.order is None

    def deal(self, order: Order, now_ms: int) -> None:
        """Give everybody on the list the place that was drawn.

        Who is on the list is known to this record from now on, although a part of it may have been lost.
        """
        self.serving = min([self.serving, *(first - 1 for first, _ in order.series)])
        if self.touched is not None:
            self.touched.update(self._turns, self._inside)
        self._permute(order, now_ms)
        self.order = order
        self._turns = {order.place(number): end_ms for number, end_ms in self._turns.items()}
        self._inside = {order.place(number): slot for number, slot in self._inside.items()}
        self._misses = {order.place(number): count for number, count in self._misses.items()}
        self._more = {order.place(number): count for number, count in self._more.items()}
        self._invited = {order.place(number): None for number in self._invited}
        if self.touched is not None:
            self.touched.update(self._turns, self._inside)

    # -- what it knows ------------------------------------------------------------------------------------------

    @property
    def present(self) -> int:
        """How many wait in line and are not known to be absent."""
        return self._tally[NEW] + self._tally[WAITING] + self._tally[BACK] + self._tally[RETURNER]

    def free_slots(self, now_ms: int) -> int:
        """Return the slots in nobody's hand: neither inside nor offered. The hard cap on active users is here."""
        if now_ms < self.rests_until_ms:
            return 0
        return self.room.total_active_users - self._tally[INSIDE] - self._tally[CALLED] - len(self.former)

    @property
    def rests_until_ms(self) -> int:
        """Until when nobody new is called or admitted, because this record may have lost something."""
        return max(self.assumed_until_ms, self.rolls_until_ms)

    @property
    def silent(self) -> int:
        """How many places are kept for who was not heard of within the time told, or missed a call."""
        return self._tally[SILENT]

    @property
    def inside(self) -> int:
        """How many slots are in use."""
        return self._tally[INSIDE] + len(self.former)

    @property
    def called(self) -> int:
        """How many turns are open."""
        return self._tally[CALLED]

    def clock_ms(self, now_ms: int) -> int:
        """Return the time by which turns and passes are judged: it stands while the room is held."""
        return self.still_since_ms or now_ms

    def state(self, now_ms: int) -> RoomState:
        """Return what the room is doing."""
        # The configuration opens no door before an event's start, nor after its end; an operator may.
        said = self.overrides.queueing_method if self._gathers or self._over else self.room.queueing_method
        if self.room.suspended or said is QueueingMethod.PASSTHROUGH:
            return RoomState.PASSTHROUGH
        if self.overrides.closed or self._over:
            return RoomState.CLOSED
        if self.overrides.sold_out:
            return RoomState.SOLD_OUT
        if self.room.queue_all:
            return RoomState.HELD
        if self._gathers:
            return RoomState.PREQUEUE
        return RoomState.OPEN if self._standby(now_ms) else RoomState.QUEUEING

    def opens_ms(self, now_ms: int) -> int:
        """Return in how many milliseconds the line of an event opens; 0 when it has, or there is none."""
        return max(1, self.opening.start_ms - now_ms) if self.opening is not None and self._gathers else 0

    @property
    def passes_end_ms(self) -> int:
        """The latest end of a pass that is out; 0 when nobody is inside."""
        return max((*(slot.end_ms for slot in self._inside.values()), *self.former.values()), default=0)

    @property
    def asks_by_ms(self) -> int:
        """By when everybody in line was told to have asked again; 0 when nobody is in line."""
        return self._asks_by_ms if self.present or self._turns else 0

    # -- how ----------------------------------------------------------------------------------------------------

    @property
    def _session_ms(self) -> int:
        return int(self.room.session_duration_s * 1000)

    @property
    def _claim_within_ms(self) -> int:
        return int(self.room.claim_within_s * 1000)

    def _standby(self, now_ms: int) -> bool:
        """Whether newcomers may go straight in: the limits have room and nobody is in line."""
        return (
            not self.room.always_queue
            and not self._rests(now_ms)
            and not self.present
            and self.free_slots(now_ms) > 0
            and self.admissions.room(now_ms) > 0
        )

    @property
    def _gathers(self) -> bool:
        """Whether the line's event has not started, or its order is being dealt: people join, and nobody is called."""
        return self.to_deal or (self.opening is not None and self.opening.phase is Phase.PREQUEUE)

    @property
    def _over(self) -> bool:
        """Whether the line's event has ended."""
        return self.opening is not None and self.opening.phase is Phase.ENDED

    @property
    def _ended(self) -> bool:
        """Whether the line has ended: closed, sold out for good, or its event is over."""
        return self.overrides.closed or self.overrides.final or self._over

    def _rests(self, now_ms: int) -> bool:
        """Whether nobody is let in now who was not called before."""
        stopped = self.room.queue_all or self._ended or self.overrides.sold_out or self._gathers
        return stopped or now_ms < self.rests_until_ms

    @property
    def _full(self) -> bool:
        return self.room.max_waiting is not None and self.present >= self.room.max_waiting

    def _repeat(self, request: JoinRequest, now_ms: int) -> Joined | None:
        """Return what the same account was answered before, or the same request within ten minutes, by its key."""
        if (joined := self._of_member(request, now_ms)) is not None:
            return self._again(joined)
        while self._repeats:
            oldest = next(iter(self._repeats))
            if self._repeats[oldest][0] > now_ms and len(self._repeats) <= IDEMPOTENCY_KEYS_MAX:
                break
            del self._repeats[oldest]
        if request.idempotency_key is None or request.idempotency_key not in self._repeats:
            return None
        joined = self._repeats[request.idempotency_key][1]
        if self._standing(self._place(joined.number), now_ms) == GONE:
            del self._repeats[request.idempotency_key]
            return None
        return self._again(joined)

    def _again(self, joined: Joined) -> Joined:
        """Return the answer to a join as it is now."""
        slot = self._inside.get(self._place(joined.number))
        if slot is None:
            return joined._replace(end_ms=0)
        # Whoever was admitted meanwhile gets the very pass again, which states the time of the admission.
        return joined._replace(joined_ms=slot.admitted_ms, end_ms=slot.end_ms, stood_ms=self.stood_ms)

    def _of_member(self, request: JoinRequest, now_ms: int) -> Joined | None:
        """Return how the account of a request got the place that it has; None when it has none."""
        for one in request.members:
            joined = self.members.get(one)
            if joined is not None and self._standing(self._place(joined.number), now_ms) != GONE:
                self._belongs(joined, request.members)
                return joined
        return None

    def _belongs(self, joined: Joined, members: Iterable[str]) -> None:
        """Let a place belong to an account, under every pseudonym: not all workers have the same keys at once."""
        for one in members:
            if self.members.get(one) != joined:
                self.members[one] = joined
                if self.touched is not None:
                    self.touched_keys.add(MEMBER_KEY + one)

    def _forget_members(self, now_ms: int) -> None:
        """Forget the accounts whose place is no more; some of them a sweep, in turn."""
        self._members_to_look_at = self._members_to_look_at or list(self.members)
        for one in self._members_to_look_at[-MEMBERS_A_SWEEP:]:
            if self._standing(self._place(self.members[one].number), now_ms) == GONE:
                del self.members[one]
                if self.touched is not None:
                    self.touched_keys.add(MEMBER_KEY + one)
        del self._members_to_look_at[-MEMBERS_A_SWEEP:]

    def _redeem(self, request: JoinRequest, invite: str, now_ms: int) -> Joined:
        """Let the bearer of an invite join the line of the invited: with the place they have, or a new one."""
        if now_ms >= self._invites_looked_at_ms + INVITES_LOOK_MS:
            self._invites_looked_at_ms = now_ms
            self.invites = {one: kept for one, kept in self.invites.items() if kept[0] > now_ms}
        spent = Joined(0, request.visitor, now_ms, generation=self.generation, spent=True)
        if self.room.priority is None or request.invite_until_ms <= now_ms:
            return spent
        if invite in self.invites:
            joined = self.invites[invite][1]
            # Who was never heard never got the answer: it was lost, and whoever asks again is taken for the same.
            unheard = self._standing(self._place(joined.number), now_ms) == NEW
            return joined if unheard or joined.number == request.number else spent
        theirs = None if request.number else self._of_member(request, now_ms)
        number, visitor = (request.number, request.visitor) if theirs is None else (theirs.number, theirs.visitor)
        place = self._place(number)
        standing = self._standing(place, now_ms) if number else GONE
        if standing in (CALLED, INSIDE):
            joined = Joined(number, visitor, now_ms, generation=self.generation)
            return joined if theirs is None else self._again(theirs)
        if standing in IN_LINE:
            joined = Joined(number, visitor, now_ms, generation=self.generation)
        else:
            joined = self._join(request, now_ms)
            place = joined.number
        if joined.number:
            # How many were used before it stands where people ahead do: their line is in this order.
            self.invites[invite] = (request.invite_until_ms, joined._replace(ahead=self.invites_used))
            self.invites_used += 1
            if self.touched is not None:
                self.touched_keys.add(INVITE_KEY + invite)
            if not joined.end_ms:
                self._invited[place] = None
        return joined

    def _join(self, request: JoinRequest, now_ms: int) -> Joined:
        standby = self._standby(now_ms)
        rejects = self.room.queueing_method is QueueingMethod.REJECT and not self._gathers
        full = self._full and request.invite is None
        if self._ended or (not standby and (rejects or full)):
            return Joined(0, request.visitor, now_ms, generation=self.generation)
        self.issued = number = self.issued + 1
        self.joined += 1
        if self.draw is not None and not self.draw.closed:
            ticket = lots.ticket_hash(self.room.name, self.generation, number, request.visitor)
            self.draw.write(number, ticket)
        if standby:
            # Who keeps no cookie holds a slot for a minute, not for a session.
            self.calls += 1
            slot = self._admit(number, now_ms, min(self._claim_within_ms, self._session_ms))
            joined = Joined(number, request.visitor, now_ms, 0, slot.end_ms, self.generation, self.stood_ms)
        else:
            ahead = None if self.draw is not None and self.order is None else self.present
            told_ms = request.told_s * (1 + self.room.refresh.jitter) * 1000 + SILENCE_S * 1000
            self._set(number, NEW)
            self._set_due(number, now_ms + int(told_ms))
            joined = Joined(number, request.visitor, now_ms, ahead, generation=self.generation)
        self._belongs(joined, request.members)
        if request.idempotency_key is not None:
            self._repeats[request.idempotency_key] = (now_ms + IDEMPOTENCY_MS, joined)
            if self.touched is not None:
                self.touched_keys.add(request.idempotency_key)
        return joined

    def _hear(self, number: int, heard: Heard, now_ms: int) -> None:
        standing = self._standing(number, now_ms)
        if standing == GONE:
            return
        if standing == NONE:
            self._adopt(number, now_ms)
            standing = SILENT
        late = heard.at_ms and now_ms - heard.at_ms > OVERTAKEN_MS
        if not late or self._step(heard.silent_until_ms) >= self._chunks[number >> SHIFT].due[number & MASK]:
            self._set_due(number, heard.silent_until_ms)
        if standing == INSIDE:
            return  # they asked before they knew
        missed = number in self._misses
        if heard.visible:
            self._misses.pop(number, None)
        if standing == NEW:
            self._set(number, WAITING)
        elif standing == SILENT and number > self.serving and not missed:
            self._set(number, BACK)
        elif standing == SILENT and self._misses.get(number, 0) < MISSES_MAX:
            self._set(number, RETURNER)
            if number not in self._in_heap:
                self._in_heap.add(number)
                heappush(self._heap, number)

    def _next_returner(self, now_ms: int) -> int | None:
        """Return the first returner who is present; the absent before them are passed over."""
        while self._heap:
            number = self._heap[0]
            if self._at(number) == RETURNER:
                if not self._is_silent(number, now_ms):
                    return number
                self._set(number, SILENT)
            heappop(self._heap)
            self._in_heap.discard(number)
        return None

    def _walk(self, free: int, now_ms: int, called: list[int]) -> None:
        """Move ``serving`` on while there is somebody to pass over, or a slot for who is next."""
        now_step = self._step(now_ms)
        while self.serving < self.issued:
            number = self.serving + 1
            chunk = self._chunks.get(number >> SHIFT)
            if chunk is None:  # a gap between two series: on to the next chunk there is
                index = bisect_left(self._chunk_ids, number >> SHIFT)
                if index == len(self._chunk_ids):
                    self.serving = self.issued
                    return
                self.serving = (self._chunk_ids[index] << SHIFT) - 1
                continue
            last = min(number | MASK, self.issued)
            self._silence_all(number >> SHIFT, now_step)
            if not chunk.live:
                self.serving = last
                continue
            for candidate in range(number, last + 1):
                if NEW <= chunk.standing[candidate & MASK] <= BACK:
                    if chunk.due[candidate & MASK] < now_step:
                        self._set(candidate, SILENT)
                    elif chunk.standing[candidate & MASK] == NEW or not free:
                        return
                    else:
                        self._open_turn(candidate, now_ms)
                        called.append(candidate)
                        free -= 1
                self.serving = candidate

    def _call_next(self, free: int, now_ms: int, called: list[int], below: Callable[[int], int]) -> None:
        """Open turns for ``free`` of the line, by its method."""
        if self.room.queueing_method is QueueingMethod.RANDOM:
            self._walk(0, now_ms, called)
            self._pick(free, now_ms, called, below)
        else:
            self._walk(free, now_ms, called)

    def _earn(self, calls: int) -> None:
        """Let the invited have their share of so many calls; what they do not use goes to the line."""
        if self.room.priority is not None:
            earned = self.invited_credit + calls * int(self.room.priority.share * WHOLE)
            # While nobody is there to use it no more is saved than one call; it takes two to give a large share.
            self.invited_credit = min(2 * WHOLE if self._invited else WHOLE, earned)

    def _present_invited(self, now_ms: int) -> Iterator[int]:
        """Give the invited who are present and were heard, in order. Nobody is heard meanwhile: one look is enough."""
        waits = (WAITING, BACK)
        return (place for place in self._invited if self._at(place) in waits and not self._is_silent(place, now_ms))

    def _pick(self, free: int, now_ms: int, called: list[int], below: Callable[[int], int]) -> None:
        """Open turns for ``free`` of those who are present and were heard, each of them as likely as any other."""
        ids = self._chunk_ids[bisect_left(self._chunk_ids, (self.serving + 1) >> SHIFT) :]
        counts = [_waiting(self._chunks[chunk_id]) for chunk_id in ids]
        looks = free + LOOKS_MAX
        while free and looks and (total := sum(counts)):
            looks -= 1
            drawn, at = below(total), 0
            while drawn >= counts[at]:
                drawn, at = drawn - counts[at], at + 1
            chunk_id, chunk = ids[at], self._chunks[ids[at]]
            waiting = [index for index, standing in enumerate(chunk.standing) if standing in (WAITING, BACK)]
            number = (chunk_id << SHIFT) + waiting[drawn]
            if self._is_silent(number, now_ms):
                # Drawn anew, and whoever else is silent here is found out at once, so that it happens seldom.
                for index in waiting:
                    if self._is_silent((chunk_id << SHIFT) + index, now_ms):
                        self._set((chunk_id << SHIFT) + index, SILENT)
            else:
                self._open_turn(number, now_ms)
                called.append(number)
                free -= 1
            counts[at] = _waiting(chunk)

    def _open_turn(self, number: int, now_ms: int) -> None:
        """Offer a slot. The offer never ends before its holder's page asks again."""
        asks_by_ms = self._born_ms + self._chunks[number >> SHIFT].due[number & MASK] * DUE_STEP_MS
        grace_ms = int((OFFER_S - SILENCE_S) * 1000)
        self._set(number, CALLED)
        self._turns[number] = max(now_ms + self._claim_within_ms, asks_by_ms + grace_ms)

    def _count_calls(self, called: list[int], walked: list[int], now_ms: int) -> None:
        """Count the calls, and judge them once more by other means: what this counts should stay at 0.

        ``walked`` are those of ``called`` who are neither returners nor had the turn of the invited.
        """
        self.calls += len(called)
        passed = walked and any(not self._is_silent(number, now_ms) for number in self._returners)
        ordered = self.room.queueing_method is not QueueingMethod.RANDOM
        self.overtakings += bool(passed or (ordered and walked != sorted(walked)))
        self._judge_cap(bool(called))

    def _judge_cap(self, given: bool) -> None:
        self.cap_exceeded += given and self.inside + self.called > self.room.total_active_users

    def _claimed(self, number: int) -> Claimed:
        slot = self._inside[number]
        return Claimed(number, admitted_ms=slot.admitted_ms, end_ms=slot.end_ms, stood_ms=self.stood_ms)

    def _miss(self, number: int) -> None:
        self._set(number, SILENT)
        self._misses[number] = self._misses.get(number, 0) + 1

    def _admit(self, number: int, now_ms: int, length_ms: int) -> Inside:
        self.admissions.add(now_ms)
        self.admitted += 1
        uncalled = number not in self._turns
        self._set(number, INSIDE)
        self._misses.pop(number, None)
        self._inside[number] = slot = Inside(now_ms, now_ms + length_ms, self.stood_ms)
        self._judge_cap(uncalled)
        return slot

    def _slide(self, number: int, slot: Inside, end_ms: int) -> None:
        """Move a slot's end on, within ``session_limit``; never back."""
        if self.room.session_limit_s is not None:
            limit_ms = int(self.room.session_limit_s * 1000) + self.stood_ms - slot.stood_ms
            end_ms = min(end_ms, slot.admitted_ms + limit_ms)
        slot.end_ms = max(slot.end_ms, end_ms)
        self._touch(number)

    def _adopts(self, now_ms: int) -> bool:
        """Whether a signed number from before this record may still be somebody's place."""
        # Kept since its holder was last due, which may lie ahead of the birth by the longest silence a page was told.
        kept_s = silence_s(self.room.refresh.farthest_s, self.room.refresh) + self.room.ticket_keep_s
        return now_ms < self._lost_ms + int(kept_s * 1000)

    def _adopt(self, number: int, now_ms: int) -> None:
        """Take in a number that is signed but unknown: a place from before the record was lost."""
        if number > self.issued:
            self.begin_series(number, now_ms)
        self._set(number, SILENT)
        self._set_due(number, now_ms)

    def _standing(self, number: int, now_ms: int) -> int:
        """Return a number's standing; an ended slot, and a ticket not heard for ``ticket_keep``, are gone from here."""
        standing = self._at(number)
        if standing == NONE:
            known = self.base <= number <= self.issued or _within(number, self.earlier)
            return GONE if known or not self._adopts(now_ms) else NONE
        keep_ms = int(self.room.ticket_keep_s * 1000)
        ended = standing == INSIDE and self._inside[number].end_ms + LATE_MS <= self.clock_ms(now_ms)
        if ended or (standing == SILENT and self._is_silent(number, now_ms - keep_ms)):
            self._set(number, GONE)
            return GONE
        return standing

    def _place(self, number: int) -> int:
        return number if self.order is None else self.order.place(number)

    def _number(self, place: int) -> int:
        return place if self.order is None else self.order.number(place)

    def _permute(self, order: Order, now_ms: int) -> None:
        """Move what stands at each number on the list to its place, all at once."""
        standing, due = bytearray(), array("I")
        for chunk_id, low, high in _pieces(order.series):
            chunk = self._chunk(chunk_id)
            standing += chunk.standing[low:high]
            due.extend(chunk.due[low:high])
        if standing.count(NONE):
            # Their tickets are signed: they may come back for as long as any place from before a loss.
            kept = self._step(now_ms + int(silence_s(self.room.refresh.farthest_s, self.room.refresh) * 1000))
            due = array("I", (kept if old == NONE else step for old, step in zip(standing, due, strict=True)))
        for old in (NONE, BACK, RETURNER):
            self._tally[old] -= standing.count(old)
            self._tally[_DEALT[old]] += standing.count(old)
        dealt, dues = lots.permuted(standing.translate(_DEALT), due, order)
        at = 0
        for chunk_id, low, high in _pieces(order.series):
            chunk, size = self._chunks[chunk_id], high - low
            chunk.standing[low:high], chunk.due[low:high] = dealt[at : at + size], dues[at : at + size]
            chunk.live = sum(chunk.standing.count(waits) for waits in (NEW, WAITING, BACK))
            self._frozen.pop(chunk_id, None)
            self.touched_chunks.add(chunk_id)
            at += size
        apart = {number for number in self._returners if lots.position(order.series, number) is None}
        self._returners, self._in_heap, self._heap = apart, set(apart), sorted(apart)
        self._unseen_returns = {n for n in self._unseen_returns if lots.position(order.series, n) is None}
        self._late = {n: since for n, since in self._late.items() if lots.position(order.series, n) is None}

    def _chunk(self, chunk_id: int) -> _Chunk:
        """Return a chunk, a new one where there is none."""
        chunk = self._chunks.get(chunk_id)
        if chunk is None:
            chunk = self._chunks[chunk_id] = _Chunk()
            insort(self._chunk_ids, chunk_id)
        return chunk

    def _at(self, number: int) -> int:
        chunk = self._chunks.get(number >> SHIFT)
        return NONE if chunk is None else chunk.standing[number & MASK]

    def _set(self, number: int, standing: int) -> None:
        """Move a number to another standing, and all counts with it."""
        chunk_id = number >> SHIFT
        chunk = self._chunk(chunk_id)
        old = chunk.standing[number & MASK]
        chunk.standing[number & MASK] = standing
        chunk.live += (NEW <= standing <= BACK) - (NEW <= old <= BACK)
        self._tally[old] -= 1
        self._tally[standing] += 1
        self._frozen.pop(chunk_id, None)
        self._touch(number)
        if old in (BACK, RETURNER):
            if number in self._unseen_returns:
                self._unseen_returns.remove(number)
            else:
                del self._late[number]
        elif old == CALLED:
            del self._turns[number]
            self._more.pop(number, None)
        elif old == INSIDE:
            del self._inside[number]
        if old == RETURNER:
            self._returners.remove(number)
        if standing in (INSIDE, GONE):  # until then they count: a call may be missed
            self._invited.pop(number, None)
        if standing in (BACK, RETURNER):
            self._unseen_returns.add(number)
            if standing == RETURNER:
                self._returners.add(number)
        elif standing == GONE:
            self._misses.pop(number, None)

    def _count_returns(self) -> None:
        """Count who came back for the numbers given out from now on: those before may have been told less already.

        Not at the return itself, but with the view that first knows of it; a number given out in between is told its
        place from the view before. What is added last is the largest, so the values stand in order without sorting.
        """
        self._late.update(dict.fromkeys(self._unseen_returns, self.issued))
        self._unseen_returns.clear()

    def _touch(self, number: int) -> None:
        """Remember that ``number`` has changed, where somebody keeps this record."""
        if self.touched is not None:
            self.touched.add(number)

    def _step(self, at_ms: int) -> int:
        return (at_ms - self._born_ms) // DUE_STEP_MS

    def _set_due(self, number: int, silent_until_ms: int) -> None:
        self._asks_by_ms = max(self._asks_by_ms, silent_until_ms)
        self._chunks[number >> SHIFT].due[number & MASK] = min(max(0, self._step(silent_until_ms) + 1), 0xFFFFFFFF)
        self._touch(number)

    def _is_silent(self, number: int, now_ms: int) -> bool:
        return self._chunks[number >> SHIFT].due[number & MASK] < self._step(now_ms)

    def _mark_silent(self, now_ms: int) -> None:
        """Mark the silent ahead of ``serving``, a few chunks at a time, so that *ahead* leaves them out."""
        now_step = self._step(now_ms)
        ids = self._chunk_ids[bisect_left(self._chunk_ids, (self.serving + 1) >> SHIFT) :]
        for turn in range(min(SILENT_CHUNKS_A_SWEEP, len(ids))):
            chunk_id = ids[(self._silent_cursor + turn) % len(ids)]
            chunk = self._chunks[chunk_id]
            self._silence_all(chunk_id, now_step)
            if chunk.live:
                for index, standing in enumerate(bytes(chunk.standing)):
                    if NEW <= standing <= BACK and chunk.due[index] < now_step:
                        self._set((chunk_id << SHIFT) + index, SILENT)
        self._silent_cursor += SILENT_CHUNKS_A_SWEEP

    def _silence_all(self, chunk_id: int, now_step: int) -> None:
        """Mark everybody waiting in a chunk at once, if all of them are silent.

        A crowd that came together falls silent together; one by one, a hundred thousand would hold everything up.
        """
        chunk = self._chunks[chunk_id]
        if not chunk.live or max(chunk.due) >= now_step or chunk.standing.count(BACK):
            return
        for standing in (NEW, WAITING):
            self._tally[standing] -= chunk.standing.count(standing)
        self._tally[SILENT] += chunk.live
        chunk.standing = chunk.standing.translate(_SILENCED)
        chunk.live = 0
        self._frozen.pop(chunk_id, None)
        self.touched_chunks.add(chunk_id)

    def _forget(self, now_ms: int) -> None:
        """Drop a chunk once nobody in it can come back: memory is bounded by who may still matter.

        One chunk a sweep, in turn, so that a single pass that is renewed for days keeps only its own.
        """
        if not self._chunk_ids:
            return
        index = self._forget_cursor % len(self._chunk_ids)
        chunk_id = self._chunk_ids[index]
        chunk = self._chunks[chunk_id]
        behind = (chunk_id << SHIFT) + MASK <= self.serving
        keep_ms = int(self.room.ticket_keep_s * 1000)
        if behind and max(chunk.due) < self._step(now_ms - keep_ms) and not self._holds_anybody(chunk):
            del self._chunks[chunk_id], self._chunk_ids[index]
            self._frozen.pop(chunk_id, None)
            self.touched_chunks.add(chunk_id)
            for number in [number for number in self._misses if number >> SHIFT == chunk_id]:
                del self._misses[number]
        else:
            self._forget_cursor += 1

    @staticmethod
    def _holds_anybody(chunk: _Chunk) -> bool:
        return any(chunk.standing.count(standing) for standing in (RETURNER, CALLED, INSIDE))
