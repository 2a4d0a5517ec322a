"""Judges a run by what the crowd and the shop wrote down, and by nothing else.

It imports none of the waiting room's own rules, so it can judge any other waiting room as well. It is *sound*: what it
reports has happened, whatever the network did to the answers. An answer says what was true at some moment between its
request and its arrival, and may be made from a view two ticks old; wherever that leaves a choice, the waiting room has
the benefit of it. A request without an answer may have been acted on or not: an unanswered leave counts as a leave, an
unanswered entry counts only if the shop saw it, and a pass is not held to be longer than its holder was last told.

A process may be killed in the middle (``Rules.killed_s``). Requests under way at that moment are cut, which nobody can
help; and who was heard by it in the two ticks before it died need not be known to be there until they ask again.

**The crowd's log** is one JSON object a line: the fields of ``Seen``, those that are null left out. **The shop's log**
has a line for every request, at least ``method``, ``path``, ``status``, and, as the waiting room stated them in
headers, as text or null, ``number``, ``visitor`` and ``admitted_at`` (milliseconds since 1970); for an order also
``order`` and ``sold`` (true when this very request took a unit). Both logs are of one clock, or of clocks kept in step.
"""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_left
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from operator import attrgetter
from posixpath import normpath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

IN_LINE = frozenset({"prequeue", "waiting", "missed", "held"})
"""What is told to those who stand in line, also before the start. *Missed* is a returner, called before anyone new."""

CALLED = frozenset({"called", "admitted"})

VIEW_S = 0.5
"""How old a view may be that an answer is made from: two ticks. A return, too, may take so long to be known."""

SILENCE_S = 2.0
"""A visitor is present for the time told, its jitter, and this much more."""

CLOCKS_S = 0.005
"""How far apart two readings of one moment may be: each program cuts to milliseconds, from a start of its own."""

GRACE_S = 1.0
"""A range is of whole seconds, and pages ask in steps of this order: a call that is so near to it is within it."""

HOLD_LEAST = 0.8
"""Of the waits that were shown, at least so many come true."""

MINUTE_MS = 60_000
OK = 200
REFUSED = 400
"""From this status on, an answer let nobody in."""

ORDERED = frozenset({201, 303, 409})
"""How a shop answers an order when it says whether there was a unit: made, see the order, sold out."""

Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Seen:
    """One thing a visitor did, and what they saw of it. Instants are unix seconds, with ``_ms`` milliseconds.

    ``what`` is ``document``, ``me``, ``claim``, ``leave``, ``cart``, ``order``, ``ordinary`` (a request that no room
    covers), ``cheat``, or ``time-up`` (the run ended while this visitor stood in line). ``status`` None is no answer.
    ``state`` is what the room told; for a document that the shop answered it is ``admitted``. ``told_s`` is in how
    many seconds to come back, ``low_s`` and ``high_s`` the range of the wait that was shown. ``posed_as`` is the
    visitor's name that a cheat wrote into headers of ours.
    """

    visitor: str
    what: str
    sent_s: float
    answered_s: float
    status: int | None = None
    state: str | None = None
    number: int | None = None
    ahead: int | None = None
    told_s: float | None = None
    claim_by_ms: int | None = None
    pass_until_ms: int | None = None
    order: str | None = None
    target: str | None = None
    posed_as: str | None = None
    low_s: int | None = None
    high_s: int | None = None

    def line(self) -> str:
        """Return the line of the log, without its end."""
        return json.dumps({key: value for key, value in asdict(self).items() if value is not None})


@dataclass(frozen=True, slots=True)
class Served:
    """One request as the shop saw it; ``number``, ``visitor`` and ``admitted_ms`` are what the waiting room stated."""

    method: str
    path: str
    status: int
    number: str | None = None
    visitor: str | None = None
    admitted_ms: int | None = None
    order: str | None = None
    sold: bool = False


@dataclass(frozen=True, slots=True)
class Rules:
    """What was promised. ``jitter`` is the share of the time told that a page may add by chance.

    ``session_s`` is how long a pass lasts whose end its holder was never told; ``protected`` is the path of the room,
    without a final slash; ``killed_s`` is when a process was killed on purpose, and ``opens_s`` when the line opens, in
    unix seconds, 0 for from the first.
    """

    cap: int
    per_minute: int
    stock: int
    session_s: float
    jitter: float = 0.3
    protected: str = "/event"
    killed_s: tuple[float, ...] = ()
    opens_s: float = 0.0

    def cut(self, seen: Seen) -> bool:
        """Whether a request without an answer was under way when a process was killed."""
        return seen.status is None and any(
            seen.sent_s - VIEW_S <= at_s <= seen.answered_s + VIEW_S for at_s in self.killed_s
        )

    def unheard(self, seen: Seen) -> bool:
        """Whether a process that was killed may have been the only one to hear this visitor."""
        return any(seen.sent_s <= at_s <= seen.answered_s + VIEW_S for at_s in self.killed_s)


@dataclass(frozen=True, slots=True)
class Overtaking:
    """``number`` was called, at ``at_s`` or shortly before, while ``passed`` stood in line before it."""

    at_s: float
    number: int
    passed: int


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of one promise, in words."""

    promise: str
    seen: str
    kept: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the logs say.

    ``most_active`` is the most visitors inside at one moment, ``most_held`` the most slots in anybody's hand, offered
    ones with them. ``gathered`` had a place before the start, ``early`` were called or let in before it. ``buyers`` are
    those whose order the shop answered, with a unit or without. Of ``waits_told``, the ranges shown to who was then
    called without having been away, ``waits_held`` came true. ``unanswered`` requests are those of which nobody knows
    what became of them.
    """

    rules: Rules
    visitors: int
    joined: int
    admitted: int
    came_back: int
    gathered: int
    early: int
    orders: int
    sold: int
    buyers: int
    overtakings: tuple[Overtaking, ...]
    numbers_twice: int
    most_active: int
    most_held: int
    most_in_a_minute: int
    places_lost: tuple[str, ...]
    left_standing: int
    cheats_tried: int
    cheats_reached: int
    ordered_twice: int
    orders_unknown: int
    ordinary_served: int
    ordinary_errors: int
    ordinary_cut: int
    ordinary_p99_s: float | None
    unanswered: int
    waits_told: int = 0
    waits_held: int = 0

    @property
    def ok(self) -> bool:
        """Whether every promise was kept."""
        return all(finding.kept for finding in self.findings)

    @property
    def findings(self) -> list[Finding]:
        """What came of each promise."""
        cap, per_minute, stock = self.rules.cap, self.rules.per_minute, self.rules.stock
        p99 = "" if self.ordinary_p99_s is None else f", p99 {self.ordinary_p99_s * 1000:.0f} ms"
        cut = f", {self.ordinary_cut} cut by the kill" if self.rules.killed_s else ""
        first = "".join(f": first number {one.number} past {one.passed}" for one in self.overtakings[:1])
        lost = f": {', '.join(self.places_lost[:3])}" if self.places_lost else ""
        extra = f", {self.ordered_twice} got more than one" if self.ordered_twice else ""
        extra += f", {self.orders_unknown} confirmed and unknown to the shop" if self.orders_unknown else ""
        opening = Finding(
            "Nobody before the start",
            f"{self.gathered} gathered, {self.early} called or let in before it",
            not self.early,
        )
        share = self.waits_held / self.waits_told if self.waits_told else 1.0
        return [
            *([opening] if self.rules.opens_s else []),
            Finding("In order", f"{len(self.overtakings)} overtakings{first}", not self.overtakings),
            Finding(
                "A number is given once",
                f"{self.joined} joined, {self.numbers_twice} numbers twice",
                not self.numbers_twice,
            ),
            Finding(
                "Never too many inside",
                f"{self.most_active} at once, {self.most_held} with the called, of {cap}",
                max(self.most_active, self.most_held) <= cap,
            ),
            Finding(
                "Never too many in a minute",
                f"{self.most_in_a_minute} admitted, of {per_minute}",
                self.most_in_a_minute <= per_minute,
            ),
            Finding(
                "A place is never lost",
                f"{self.came_back} came back late, {len(self.places_lost)} places lost{lost}",
                not self.places_lost,
            ),
            Finding("Everybody's turn comes", f"{self.left_standing} left standing in line", not self.left_standing),
            Finding(
                "Four of five waits shown come true",
                f"{self.waits_held:,} of {self.waits_told:,} did, {math.floor(100 * share)} %",
                share >= HOLD_LEAST,
            ),
            Finding(
                "The gate holds",
                f"{self.cheats_tried:,} cheats, {self.cheats_reached} reached the shop",
                not self.cheats_reached,
            ),
            Finding(
                "Nothing is oversold",
                f"{self.sold} of {stock} sold, {self.buyers} wanted one{extra}",
                self.sold == min(stock, self.buyers) and not self.ordered_twice and not self.orders_unknown,
            ),
            Finding(
                "Ordinary shoppers feel nothing",
                f"{self.ordinary_served:,} served, {self.ordinary_errors} failed{cut}{p99}",
                not self.ordinary_errors,
            ),
        ]


def read_crowd(path: Path) -> list[Seen]:
    """Return the lines of a crowd's log. Raises ``ValueError`` or ``TypeError`` for a line that is none."""
    return [Seen(**fields) for fields in _objects(path)]


def read_shop(path: Path) -> list[Served]:
    """Return the lines of a shop's log. Raises ``ValueError`` or ``KeyError`` for a line that is none."""
    return [
        Served(
            method=fields["method"],
            path=fields["path"],
            status=fields["status"],
            number=fields.get("number"),
            visitor=fields.get("visitor"),
            admitted_ms=_whole(fields.get("admitted_at")),
            order=fields.get("order"),
            sold=fields.get("sold") is True,
        )
        for fields in _objects(path)
    ]


def judge(crowd: Iterable[Seen], shop: Iterable[Served], rules: Rules) -> Verdict:
    """Return what the two logs say."""
    run = _Run(crowd, shop, rules)
    people = run.people.values()
    sales = Counter(served.visitor for served in run.shop if served.sold)
    told = {seen.order for seen in run.seen if seen.order is not None}
    ordinary = [seen for seen in run.seen if seen.what == "ordinary"]
    waits = [held for rows in people for held in _waits(rows)]
    cut = sum(rules.cut(seen) for seen in ordinary)
    errors = sum(seen.status != OK for seen in ordinary) - cut
    return Verdict(
        rules=rules,
        visitors=len(people),
        joined=sum(any(seen.number is not None for seen in rows) for rows in people),
        admitted=len(run.admitted_s),
        came_back=sum(run.came_back(rows) for rows in people),
        gathered=sum(
            any(seen.number is not None and seen.answered_s < rules.opens_s for seen in rows) for rows in people
        ),
        early=len(run.early()),
        orders=len(told),
        sold=sales.total(),
        buyers=len({served.visitor for served in run.shop if _is_order(served) and served.status in ORDERED}),
        overtakings=tuple(run.overtakings()),
        numbers_twice=run.numbers_twice(),
        most_active=most_at_once([run.visit(number) for number in run.admitted_s]),
        most_held=most_at_once(run.held()),
        most_in_a_minute=most_in_a_minute(run.stated_ms.values()),
        places_lost=tuple(name for name, rows in run.people.items() if run.lost(rows)),
        left_standing=sum(seen.what == "time-up" for seen in run.seen),
        cheats_tried=sum(seen.what == "cheat" for seen in run.seen),
        cheats_reached=run.cheats_reached(),
        ordered_twice=sum(count > 1 for count in sales.values()) + run.ordered_twice(),
        orders_unknown=len(told - {served.order for served in run.shop}),
        ordinary_served=len(ordinary) - errors - cut,
        ordinary_errors=errors,
        ordinary_cut=cut,
        ordinary_p99_s=_p99([seen.answered_s - seen.sent_s for seen in ordinary]),
        unanswered=sum(seen.status is None and seen.what != "time-up" for seen in run.seen),
        waits_told=len(waits),
        waits_held=sum(waits),
    )


@dataclass(frozen=True, slots=True)
class Call:
    """A number was called at some moment from ``from_s`` to ``by_s``."""

    number: int
    from_s: float
    by_s: float


@dataclass(frozen=True, slots=True)
class Stand:
    """A number stood in line since ``since_s``, was told so last when it asked at ``asked_s``, and is due again."""

    number: int
    since_s: float
    asked_s: float
    due_s: float


class _Run:
    """Both logs in order: what each visitor saw, and what the shop was told of each number."""

    def __init__(self, crowd: Iterable[Seen], shop: Iterable[Served], rules: Rules) -> None:
        self.rules = rules
        self.seen = sorted(crowd, key=attrgetter("answered_s"))
        self.shop = list(shop)
        self.people: dict[str, list[Seen]] = defaultdict(list)
        self.holders: dict[int, set[str]] = defaultdict(set)
        for seen in self.seen:
            if seen.what not in ("cheat", "ordinary"):
                self.people[seen.visitor].append(seen)
            if seen.number is not None:
                self.holders[seen.number].add(seen.visitor)
        self.stated_ms: dict[int, int] = {}
        for served in self.shop:
            number = _whole(served.number)
            if number is not None and served.admitted_ms is not None:
                self.stated_ms[number] = served.admitted_ms
        # Where the waiting room stated no time, the moment the visitor saw it has to do.
        self.admitted_s = {number: at_ms / 1000 for number, at_ms in self.stated_ms.items()}
        for rows in self.people.values():
            for seen in rows:
                if seen.state == "admitted" and seen.number is not None:
                    self.admitted_s.setdefault(seen.number, seen.answered_s)

    def early(self) -> set[int]:
        """Return the numbers that were called or let in before the start, by anybody's word."""
        start_s = self.rules.opens_s - CLOCKS_S
        told = {
            seen.number
            for rows in self.people.values()
            for seen in rows
            if seen.state in CALLED and seen.number is not None and seen.answered_s < start_s
        }
        return told | {number for number, at_s in self.admitted_s.items() if at_s < start_s}

    # -- in order -----------------------------------------------------------------------------------------------

    def overtakings(self) -> Iterator[Overtaking]:
        """Yield who was called while somebody before them stood in line and was not."""
        people = self.people.values()
        return overtakings(
            (call for rows in people for call in _calls(rows)),
            (stand for rows in people for stand in _stands(rows, self.rules)),
        )

    def came_back(self, rows: Sequence[Seen]) -> bool:
        """Whether this visitor was silent for longer than told, and came again."""
        answered = [seen for seen in rows if seen.status is not None]
        return any(
            before.told_s is not None and later.sent_s > _due_s(before, before.told_s, self.rules.jitter)
            for before, later in pairwise(answered)
        )

    # -- once, and never lost -----------------------------------------------------------------------------------

    def numbers_twice(self) -> int:
        """Return how many numbers were seen with two visitors, by the crowd or by the shop."""
        stated: dict[int | None, set[str | None]] = defaultdict(set)
        for served in self.shop:
            stated[_whole(served.number)].add(served.visitor)
        stated.pop(None, None)
        return len({number for held in (self.holders, stated) for number, names in held.items() if len(names) > 1})

    def lost(self, rows: Sequence[Seen]) -> bool:
        """Whether this visitor was told of no place, or of another, while theirs was good."""
        number: int | None = None
        good_until_s = math.inf
        for seen in sorted(rows, key=attrgetter("sent_s")):
            if seen.what == "leave":
                return False
            moved = seen.number is not None and seen.number != number
            if number is not None and seen.answered_s < good_until_s and (seen.state in ("none", "expired") or moved):
                return True
            number = seen.number if seen.number is not None else number
            if number in self.admitted_s:
                good_until_s = self.visit(number)[1]
            elif seen.status is None and seen.what in ("document", "claim"):
                # Perhaps they were let in and never knew; the pass may be over a session later.
                good_until_s = min(good_until_s, seen.sent_s + self.rules.session_s)
        return False

    # -- never too many -----------------------------------------------------------------------------------------

    def visit(self, number: int) -> Span:
        """Return from when to when a number that was let in was certainly inside."""
        start_s = self.admitted_s[number]
        rows = [seen for name in self.holders.get(number, ()) for seen in self.people.get(name, ())]
        told_s = [seen.pass_until_ms / 1000 for seen in rows if seen.pass_until_ms is not None]
        left_s = [seen.sent_s for seen in rows if seen.what == "leave" and seen.sent_s >= start_s]
        return start_s, min([max(told_s, default=start_s + self.rules.session_s), *left_s])

    def held(self) -> list[Span]:
        """Return from when to when each slot was certainly in somebody's hand, offered or used."""
        spans: dict[int, list[Span]] = defaultdict(list)
        for number in self.admitted_s:
            spans[number].append(self.visit(number))
        for rows in self.people.values():
            left_s = min((seen.sent_s for seen in rows if seen.what == "leave"), default=math.inf)
            for seen in rows:
                if seen.state == "called" and seen.number is not None and seen.claim_by_ms is not None:
                    # An offer is over when it is taken, when it is given up, and when it ends.
                    taken_s = self.admitted_s.get(seen.number, math.inf)
                    spans[seen.number].append((seen.answered_s, min(seen.claim_by_ms / 1000, left_s, taken_s)))
        return [span for number in spans for span in _joined(spans[number])]

    # -- the gate, and the stock --------------------------------------------------------------------------------

    def cheats_reached(self) -> int:
        """Return how many requests reached the shop that no pass allowed. One may show in both logs, or in one."""
        posed = {seen.posed_as for seen in self.seen if seen.posed_as is not None}
        outside = {
            number
            for number, names in self.holders.items()
            if not any(_may_be_in(seen) for name in names for seen in self.people.get(name, ()))
        }
        in_shop = in_answers = 0
        for served in self.shop:
            if self._is_protected(served.path):
                number = _whole(served.number)
                in_shop += number is None or number in outside or served.visitor in posed
            else:
                in_shop += served.number is not None or served.visitor is not None
        for seen in self.seen:
            let_in = seen.status is not None and seen.status < REFUSED and seen.state in (None, "admitted")
            in_answers += seen.what == "cheat" and let_in and self._is_protected(seen.target or "")
        return max(in_shop, in_answers)

    def ordered_twice(self) -> int:
        """Return how many visitors were told of two different orders."""
        orders: dict[str, set[str]] = defaultdict(set)
        for seen in self.seen:
            if seen.order is not None:
                orders[seen.visitor].add(seen.order)
        return sum(len(theirs) > 1 for theirs in orders.values())

    def _is_protected(self, target: str) -> bool:
        """Whether some shop would read ``target`` as a path of the room, however it is spelled."""
        path = target.partition("?")[0]
        for _ in range(3):
            plain = re.sub(r";[^/]*", "", path.replace("\\", "/"))
            plain = normpath(re.sub("/+", "/", plain)).lower()
            if plain == self.rules.protected or plain.startswith(f"{self.rules.protected}/"):
                return True
            path = unquote(path)
        return False


def overtakings(calls: Iterable[Call], stands: Iterable[Stand]) -> Iterator[Overtaking]:
    """Yield each stand that somebody was called past, with the call that went furthest past it.

    A call came after the making of the last answer that said *wait*, and before the arrival of the one that told of it.
    Who was passed stood in line through all of that time, long enough to be known to be back, and was told to wait once
    more when every view knew of the call.

    Both are taken in the order of time, so that a stand meets the calls that were known by its end; of those a tree has
    the largest number for any *called since*. A line of hundreds of thousands is judged in seconds.
    """
    known = sorted(calls, key=attrgetter("by_s"))
    since_s = sorted(call.from_s for call in known)
    furthest: list[Call | None] = [None] * (len(known) + 1)  # a Fenwick tree over since_s, from its end
    added = 0
    for stand in sorted(stands, key=attrgetter("asked_s")):
        while added < len(known) and known[added].by_s <= stand.asked_s - VIEW_S:
            call = known[added]
            at = len(since_s) - bisect_left(since_s, call.from_s)
            while at < len(furthest):
                best = furthest[at]
                if best is None or best.number < call.number:
                    furthest[at] = call
                at += at & -at
            added += 1
        at = len(since_s) - bisect_left(since_s, stand.since_s + VIEW_S)
        passing: Call | None = None
        while at:
            best = furthest[at]
            if best is not None and best.number > (stand.number if passing is None else passing.number):
                passing = best
            at -= at & -at
        if passing is not None:
            yield Overtaking(passing.by_s, passing.number, stand.number)


def _calls(rows: Sequence[Seen]) -> Iterator[Call]:
    """Yield between which moments a visitor was called, for each time they were."""
    told_wait_s: float | None = None
    called = False
    for seen in rows:
        if seen.number is None:
            continue
        if seen.state in IN_LINE:
            told_wait_s, called = seen.sent_s, False
        elif seen.state in CALLED and not called:
            # Straight in, without a line, is a call too: whoever stands in the line was passed by it.
            from_s = seen.sent_s if told_wait_s is None else told_wait_s - VIEW_S
            yield Call(seen.number, from_s, seen.answered_s)
            called = True


def _waits(rows: Sequence[Seen]) -> Iterator[bool]:
    """Yield of each wait that a visitor was shown whether it came true, if they stood in line until they were called.

    The call came after the last answer that said *wait*, and before the one that told of it.
    """
    told: list[Seen] = []
    for seen in rows:
        if seen.state == "waiting" and seen.low_s is not None and seen.high_s is not None:
            told.append(seen)
        elif seen.state in CALLED:
            for one in told:
                least_s, most_s = told[-1].sent_s - VIEW_S - one.answered_s, seen.answered_s - one.sent_s
                yield least_s <= (one.high_s or 0) + GRACE_S and most_s >= (one.low_s or 0) - GRACE_S
            told = []
        elif seen.state is not None:  # missed, held or left: then it is not the estimate's doing
            told = []


def _stands(rows: Sequence[Seen], rules: Rules) -> list[Stand]:
    """Return the times through which a visitor stood in line without a break."""
    stands: list[Stand] = []
    standing = False
    for seen in rows:
        if seen.what != "leave" and (seen.status is None or seen.state is None):
            continue  # says nothing; a leave ends the stand, answered or not
        if seen.state not in IN_LINE or seen.number is None or seen.told_s is None or rules.unheard(seen):
            standing = False
            continue
        due_s = _due_s(seen, seen.told_s, rules.jitter, since_s=seen.sent_s)
        if standing and seen.number == stands[-1].number and seen.answered_s <= stands[-1].due_s:
            stands[-1] = replace(stands[-1], asked_s=seen.sent_s, due_s=due_s)
        else:
            stands.append(Stand(seen.number, seen.answered_s, seen.sent_s, due_s))
        standing = True
    return stands


def _due_s(seen: Seen, told_s: float, jitter: float, since_s: float | None = None) -> float:
    """Return by when a visitor was to ask again: counted from the answer's arrival, or from ``since_s``."""
    return (seen.answered_s if since_s is None else since_s) + told_s * (1 + jitter) + SILENCE_S


def _may_be_in(seen: Seen) -> bool:
    """Whether a visitor who saw this may have been let in afterwards: called, or left without an answer."""
    return seen.state in CALLED or seen.state == "missed" or seen.status is None


def _is_order(served: Served) -> bool:
    return served.method == "POST" and served.path.endswith("/order")


def _joined(spans: Iterable[Span]) -> list[Span]:
    """Return the spans of one slot without overlaps, so that it is counted once."""
    joined: list[Span] = []
    for start_s, end_s in sorted(spans):
        if joined and start_s <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end_s))
        else:
            joined.append((start_s, end_s))
    return joined


def most_at_once(spans: Iterable[Span]) -> int:
    """Return how many spans overlap at most; one that ends where another starts does not."""
    steps = [step for start_s, end_s in spans if end_s > start_s for step in ((start_s, 1), (end_s - CLOCKS_S, -1))]
    now = most = 0
    for _, step in sorted(steps):
        now += step
        most = max(most, now)
    return most


def most_in_a_minute(instants_ms: Iterable[int]) -> int:
    """Return how many instants lie within any 60 s, both ends of which are not the same moment."""
    ordered = sorted(instants_ms)
    most = first = 0
    for count, at_ms in enumerate(ordered, start=1):
        while ordered[first] <= at_ms - MINUTE_MS:
            first += 1
        most = max(most, count - first)
    return most


def _p99(seconds: Sequence[float]) -> float | None:
    """Return the time within which 99 of 100 were answered; None of nobody."""
    return sorted(seconds)[math.ceil(len(seconds) * 0.99) - 1] if seconds else None


def _objects(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            fields: dict[str, Any] = json.loads(line)
            yield fields


def _whole(text: str | None) -> int | None:
    """Return the number that a header states; None for anything that is none of ours."""
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,16}", text, re.ASCII) else None
