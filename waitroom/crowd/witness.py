"""What a very large crowd saw, kept small enough to be judged: some tens of bytes a visitor, however often they ask.

``waitroom.checker`` judges logs, a line for each answer. Three hundred thousand visitors who ask for an hour see
millions of answers, so here each is folded into the visitor's state as it comes: since when they have stood in line
without a break, when they were last told to wait, between which moments they were called. The judgements are the
checker's own, and sound in the same way: what is reported has happened.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass
from itertools import accumulate, pairwise
from operator import attrgetter
from typing import TYPE_CHECKING

from waitroom import checker
from waitroom.checker import MINUTE_MS, SILENCE_S, VIEW_S, Call, Finding, Stand
from waitroom.crowd.adapters import JITTER, Standing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from waitroom.checker import Served, Span
    from waitroom.crowd.adapters import Told


@dataclass(frozen=True, slots=True)
class Limits:
    """What the operator of the room promised: None is not said, and not judged.

    ``pause_s`` is how long at most nobody is called while somebody waits: whoever vanished must not hold up the rest.
    """

    cap: int | None = None
    per_minute: int | None = None
    in_order: bool = True
    pause_s: float | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """What came of the promises that could be judged, and the counts behind it."""

    findings: tuple[Finding, ...]
    numbers_twice: int
    overtakings: int
    places_lost: int
    left_standing: int
    most_inside: int
    most_in_a_minute: int
    longest_pause_s: float

    @property
    def ok(self) -> bool:
        """Whether everything judged was kept."""
        return all(finding.kept for finding in self.findings)


class Witness:
    """Sees every answer that ``visitors`` people get, by their index. Instants are unix seconds."""

    def __init__(self, visitors: int) -> None:
        self.numbers = array("q", bytes(8 * visitors))
        self._since_s = array("d", bytes(8 * visitors))
        self._asked_s = array("d", bytes(8 * visitors))
        self._due_s = array("d", bytes(8 * visitors))
        self._ranks = array("q", bytes(8 * visitors))
        self._told_wait_s = array("d", bytes(8 * visitors))
        self._is_called = bytearray(visitors)
        self._unsure = bytearray(visitors)
        self._lost: dict[int, str] = {}
        self._stands: list[Stand] = []
        self._calls: list[Call] = []
        self._entries: list[tuple[float, float]] = []
        self._inside: dict[int, list[float]] = {}
        """For each who was let in: since when they were certainly inside, and until when at least."""

    def saw(self, who: int, told: Told, sent_s: float, answered_s: float, jitter: float = JITTER) -> None:
        """Take in one answer."""
        before = self.numbers[who]
        if told.number is not None:
            if before and told.number != before:
                self._lost.setdefault(who, f"{before} became {told.number}")
            self.numbers[who] = told.number
        standing = told.standing
        if standing is Standing.WAITING and told.number is not None:
            self._waits(who, told, sent_s, answered_s, jitter)
        elif standing in (Standing.CALLED, Standing.ADMITTED):
            self._is_over(who)
            if not self._is_called[who] and self.numbers[who]:
                waited_s = self._told_wait_s[who]
                self._calls.append(Call(self._rank(who), waited_s - VIEW_S if waited_s else sent_s, answered_s))
                self._is_called[who] = 1
            if standing is Standing.ADMITTED:
                self._enters(who, told, sent_s, answered_s)
        elif standing is Standing.LOST:
            self._is_over(who)
            if before and who not in self._inside and not self._unsure[who]:
                self._lost.setdefault(who, f"{before} became {told.why}")
        elif standing is Standing.TURNED_AWAY:
            self._is_over(who)

    def unanswered(self, who: int) -> None:
        """Take in that a request, which may have let them in, has no answer."""
        self._unsure[who] = 1

    def leaves(self, who: int, sent_s: float) -> None:
        """Take in that a visitor gave up the pass, or that this is sent now."""
        if who in self._inside:
            span = self._inside[who]
            span[1] = min(span[1], sent_s)

    def judge(self, limits: Limits, shop: Sequence[Served] = (), left_standing: int | None = None) -> Judgement:
        """Return what can be said.

        ``shop`` is what the site wrote down, as ``checker.read_shop`` gives it. ``left_standing`` is how many stood in
        line when the run was over, None when it was not to go on so long.
        """
        for who in range(len(self.numbers)):
            self._is_over(who)
        twice = self._numbers_twice(shop)
        passed = list(checker.overtakings(self._calls, self._stands)) if limits.in_order else []
        stated_ms = {
            int(served.number): served.admitted_ms
            for served in shop
            if served.number is not None and served.number.isdecimal() and served.admitted_ms is not None
        }
        inside = checker.most_at_once(self._spans(stated_ms))
        minute = checker.most_in_a_minute(stated_ms.values()) if stated_ms else self._most_in_a_minute()
        pause_s = self._longest_pause_s()
        findings: list[Finding] = []
        if any(self.numbers):
            placed = sum(number > 0 for number in self.numbers)
            if limits.in_order:
                first = "".join(f": first {one.number} past {one.passed}" for one in passed[:1])
                called = f"{len(self._calls):,} called, {len(passed):,} passed by somebody behind them{first}"
                findings.append(Finding("In order", called, not passed))
            findings.append(Finding("A number is given once", f"{placed:,} placed, {twice:,} numbers twice", not twice))
            lost = "".join(f": {words}" for words in list(self._lost.values())[:1])
            findings.append(Finding("A place is never lost", f"{len(self._lost):,} places lost{lost}", not self._lost))
        if limits.cap is not None:
            findings.append(
                Finding("Never too many inside", f"{inside:,} at once, of {limits.cap:,}", inside <= limits.cap)
            )
        if limits.per_minute is not None:
            seen = f"{minute:,} admitted, of {limits.per_minute:,}"
            findings.append(Finding("Never too many in a minute", seen, minute <= limits.per_minute))
        if limits.pause_s is not None:
            seen = f"{pause_s:.1f} s without a call that anybody saw, of {limits.pause_s:g} s"
            findings.append(Finding("Ghosts hold up nobody", seen, pause_s <= limits.pause_s))
        if left_standing is not None:
            seen = f"{left_standing:,} left standing in line"
            findings.append(Finding("Everybody's turn comes", seen, not left_standing))
        left = left_standing or 0
        return Judgement(tuple(findings), twice, len(passed), len(self._lost), left, inside, minute, round(pause_s, 2))

    # -- one visitor --------------------------------------------------------------------------------------------

    def _waits(self, who: int, told: Told, sent_s: float, answered_s: float, jitter: float) -> None:
        self._is_called[who] = 0
        self._told_wait_s[who] = sent_s
        rank = told.place if told.place is not None else self.numbers[who]
        if told.come_back_s is None:
            self._is_over(who)
            return
        if self._since_s[who] and (answered_s > self._due_s[who] or rank != self._ranks[who]):
            self._is_over(who)
        if not self._since_s[who]:
            self._since_s[who] = answered_s
        self._ranks[who] = rank
        self._asked_s[who] = sent_s
        self._due_s[who] = sent_s + told.come_back_s * (1 + jitter) + SILENCE_S

    def _is_over(self, who: int) -> None:
        """End a stand in line. One that was never confirmed by a second answer can have been passed by nobody."""
        since_s, asked_s = self._since_s[who], self._asked_s[who]
        if since_s and asked_s - VIEW_S >= since_s + VIEW_S:
            self._stands.append(Stand(self._ranks[who], since_s, asked_s, self._due_s[who]))
        self._since_s[who] = 0.0

    def _rank(self, who: int) -> int:
        return self._ranks[who] or self.numbers[who]

    def _enters(self, who: int, told: Told, sent_s: float, answered_s: float) -> None:
        span = self._inside.get(who)
        if span is None:
            self._entries.append((sent_s, answered_s))
            span = self._inside[who] = [answered_s, answered_s]
        if told.pass_until_ms is not None:
            span[1] = max(span[1], told.pass_until_ms / 1000)

    # -- all of them --------------------------------------------------------------------------------------------

    def _numbers_twice(self, shop: Iterable[Served]) -> int:
        found = {before for before, after in pairwise(sorted(self.numbers)) if before == after and before}
        stated: dict[str, set[str | None]] = defaultdict(set)
        for served in shop:
            if served.number is not None:
                stated[served.number].add(served.visitor)
        return len(found | {int(number) for number, names in stated.items() if len(names) > 1 and number.isdecimal()})

    def _longest_pause_s(self) -> float:
        """Return the longest time for which nobody was called although one and the same visitor stood in line.

        Between two calls lies at least what lies between the last moment of one and the first of the next. After the
        last one it goes on until somebody was told to wait for the last time.
        """
        stands = sorted(self._stands, key=attrgetter("since_s"))
        since_s = [stand.since_s for stand in stands]
        until_s = list(accumulate((stand.asked_s for stand in stands), max))
        calls = sorted(self._calls, key=attrgetter("by_s"))
        ends_s = [call.from_s for call in calls]
        # A call may have been at any time before its holder knew: nothing later may begin before the earliest of these.
        ends_s = list(accumulate(reversed(ends_s), min))[::-1][1:] + until_s[-1:]
        longest_s = 0.0
        for call, end_s in zip(calls, ends_s, strict=False):
            there = bisect_right(since_s, call.by_s)
            if there:
                longest_s = max(longest_s, min(end_s, until_s[there - 1]) - call.by_s)
        return longest_s

    def _spans(self, stated_ms: dict[int, int]) -> Iterator[Span]:
        """Yield from when to when everybody was certainly inside; the site may know of an earlier start."""
        for who, (start_s, end_s) in self._inside.items():
            at_ms = stated_ms.get(self.numbers[who])
            yield (start_s if at_ms is None else min(start_s, at_ms / 1000)), end_s

    def _most_in_a_minute(self) -> int:
        """Return how many were certainly let in within some minute: asked in it, and answered in it."""
        answered_s = sorted(answered for _, answered in self._entries)
        minute_s = MINUTE_MS / 1000
        return max(
            (
                bisect_right(answered_s, sent + minute_s - checker.CLOCKS_S) - before
                for before, (sent, _) in enumerate(sorted(self._entries))
            ),
            default=0,
        )
