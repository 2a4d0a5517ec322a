"""Whatever visitors do, in any order: the caps hold, the order holds, and nothing told is taken back.

Hypothesis plays a line with random operations. A model of a few dictionaries, which knows only what visitors know,
judges each step; what the line counts is counted again by hand.
"""

from __future__ import annotations

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from rooms import room

from waitroom.core.queueing import (
    BACK,
    CALLED,
    CHUNK,
    GONE,
    INSIDE,
    MISSES_MAX,
    NEW,
    NONE,
    RETURNER,
    SHIFT,
    SILENT,
    WAITING,
    Heard,
    JoinRequest,
    Line,
)

START_MS = 1_700_000_000_000
OLD_TICKETS = (1, 2, 3, CHUNK - 4)
OLD_PASSES = (10, 11)
OLD_PASS_END_MS = START_MS + 8_000


class AnyLine(RuleBasedStateMachine):
    """Random visitors do random things to a line; a model of a few dictionaries judges it."""

    @initialize(
        total_active_users=st.integers(1, 4),
        new_users_per_minute=st.sampled_from([3, 60, 150, 6000]),
        always_queue=st.booleans(),
        max_waiting=st.sampled_from([None, None, 4]),
        session_limit_s=st.sampled_from([None, 12]),
        ticket_keep_s=st.sampled_from([30, 7200]),
        base=st.sampled_from([1, CHUNK - 3]),
    )
    def begin(self, base, **drawn):
        """Open a room with small limits; where it has a past, old passes may be out."""
        self.room = room(session_duration_s=10, claim_within_s=3, **drawn)
        self.now_ms = START_MS
        self.line = Line(self.room, START_MS, base=base, assumed_until_ms=OLD_PASS_END_MS if base > 1 else 0)
        self.view = self.line.snapshot(START_MS)
        self.serving = self.line.serving
        self.numbers = []  # given out, or known to be signed
        self.silent_until_ms = {}
        self.granted = []
        self.shown = {}
        if base > 1:
            self.numbers += OLD_TICKETS
            self.passes = dict.fromkeys(OLD_PASSES[: self.room.total_active_users], OLD_PASS_END_MS)
        else:
            self.passes = {}
        self.given = set(self.numbers)

    @rule(ms=st.sampled_from([50, 250, 250, 250, 1_000, 3_001, 31_000]))
    def time_passes(self, ms):
        """Let time pass, without a tick."""
        self.now_ms += ms

    @rule(count=st.integers(1, 3), told_s=st.sampled_from([1, 5]))
    def join(self, count, told_s):
        """Some join; no number is given twice, and what is shown first is what a worker shows."""
        for joined in self.line.join([JoinRequest("a" * 16, told_s)] * count, self.now_ms):
            if not joined.number:
                assert self.room.max_waiting is not None
                continue
            assert joined.number not in self.given
            self.given.add(joined.number)
            self.numbers.append(joined.number)
            if joined.end_ms:
                self.grant(joined.number, joined.end_ms)
                self.judge_order(joined.number, among=lambda _: True)
            else:
                self.silent_until_ms[joined.number] = self.now_ms + int(told_s * 1300 + 2000)
                self.shown[joined.number] = max(joined.ahead, self.view.ahead(joined.number))

    @precondition(lambda self: self.numbers)
    @rule(data=st.data(), told_s=st.sampled_from([1, 4, 20]), visible=st.booleans())
    def hear(self, data, told_s, visible):
        """Somebody asks."""
        number = data.draw(st.sampled_from(self.numbers))
        until_ms = self.now_ms + told_s * 1000
        self.line.hear([Heard(number, until_ms, visible)], self.now_ms)
        self.silent_until_ms[number] = until_ms

    @rule(count=st.integers(0, 4), late=st.booleans())
    def a_busy_tick(self, count, late):
        """Some arrive, all who are there ask, a tick passes; the called may be too late."""
        self.join(count, 5)
        self.everybody_asks(4)
        self.tick(10)
        self.time_passes(5_001 if late else 250)
        self.everybody_called_claims()

    @rule(told_s=st.sampled_from([4, 20]))
    def everybody_asks(self, told_s):
        """All pages happen to ask at once."""
        until_ms = self.now_ms + told_s * 1000
        self.line.hear([Heard(number, until_ms) for number in self.numbers], self.now_ms)
        self.silent_until_ms.update(dict.fromkeys(self.numbers, until_ms))

    @rule()
    def everybody_called_claims(self):
        """All who were called come in the same moment."""
        for number in sorted(self.line._turns):
            claimed = self.line.claim(number, self.now_ms, self.now_ms + 2_000)
            if claimed.end_ms:
                self.grant(number, claimed.end_ms)

    @precondition(lambda self: self.numbers)
    @rule(data=st.data())
    def claim(self, data):
        """Somebody claims, called or not; twice, to the same effect."""
        number = data.draw(st.sampled_from(self.numbers))
        called, was_inside = number in self.line._turns, number in self.line._inside
        claimed = self.line.claim(number, self.now_ms, self.now_ms + 2_000)
        assert claimed == self.line.claim(number, self.now_ms, self.now_ms + 2_000)
        if claimed.end_ms and not was_inside:
            self.grant(number, claimed.end_ms)
            if not called:
                self.judge_order(number, among=lambda other: other <= self.line.serving)
        elif not (claimed.end_ms or claimed.gone or claimed.called):
            self.silent_until_ms[number] = self.now_ms + 2_000

    @precondition(lambda self: self.passes)
    @rule(data=st.data())
    def renew(self, data):
        """Somebody uses a pass that has not ended."""
        number = data.draw(st.sampled_from(sorted(self.passes)))
        if self.passes[number] > self.now_ms:
            end_ms = self.line.renew(number, self.now_ms - 5_000, self.passes[number], self.now_ms)
            assert end_ms == 0 or end_ms >= self.passes[number]
            self.passes[number] = end_ms

    @precondition(lambda self: self.numbers)
    @rule(data=st.data())
    def leave(self, data):
        """Somebody gives up their place, or their slot."""
        number = data.draw(st.sampled_from(self.numbers))
        self.line.leave(number, self.now_ms)
        self.numbers.remove(number)
        self.passes.pop(number, None)

    @rule(budget=st.sampled_from([0, 1, 3, 3]))
    def tick(self, budget):
        """Sweep, call, and let workers see it: in order, and never more ahead than was shown."""
        for number, end_ms in self.line._turns.items():
            if end_ms < self.now_ms:  # missed: whatever was told, they are back when they next ask
                self.silent_until_ms[number] = 0
        self.line.sweep(self.now_ms)
        serving = self.line.serving
        called = self.line.call(budget, self.now_ms)
        assert len(called) <= budget
        returners = [number for number in called if number <= serving]
        assert called == sorted(returners) + sorted(set(called) - set(returners))
        for number in called:
            new = number not in returners
            self.judge_order(number, among=lambda other, new=new: new or other <= serving)
        self.view = self.line.snapshot(self.now_ms)
        for number in self.numbers:
            if self.line._at(number) in (NEW, WAITING, BACK) and number in self.shown:
                assert self.view.ahead(number) <= self.shown[number]
                self.shown[number] = self.view.ahead(number)

    def grant(self, number, end_ms):
        """Note an admission, and judge the windows that end with it."""
        self.passes[number] = end_ms
        self.granted.append(self.now_ms)
        cap = self.room.new_users_per_minute
        assert sum(1 for at_ms in self.granted if at_ms > self.now_ms - 60_000) <= cap
        assert sum(1 for at_ms in self.granted if at_ms > self.now_ms - 1_000) <= -(-cap // 60)

    def judge_order(self, number, among):
        """Assert that nobody with a smaller number, ``among`` those compared, is present and still not called."""
        for other in self.numbers:
            if other < number and among(other) and self.silent_until_ms.get(other, 0) >= self.now_ms:
                standing = self.line._at(other)
                given_up = self.line._misses.get(other, 0) >= MISSES_MAX
                aged = standing == NONE  # an old ticket, unknown since ticket_keep is over
                assert standing in (CALLED, INSIDE, GONE) or given_up or aged, (other, number, standing)

    @invariant()
    def the_cap_holds(self):
        """Inside and called, counted by hand, are within the cap, and so are the passes that open the door."""
        if hasattr(self, "line"):
            taken = sum(
                chunk.standing.count(INSIDE) + chunk.standing.count(CALLED) for chunk in self.line._chunks.values()
            )
            assert taken <= self.room.total_active_users
            open_passes = sum(1 for end_ms in self.passes.values() if end_ms > self.now_ms)
            assert open_passes <= self.room.total_active_users

    @invariant()
    def the_tallies_agree_with_a_recount(self):
        """No count drifts from what it counts."""
        if hasattr(self, "line"):
            for standing in range(NEW, GONE):
                recount = sum(chunk.standing.count(standing) for chunk in self.line._chunks.values())
                if standing not in (SILENT, GONE):  # forgotten numbers stay in these
                    assert self.line._tally[standing] == recount
            assert sorted(self.line._turns) == self.all_standing(CALLED)
            assert sorted(self.line._inside) == self.all_standing(INSIDE)
            assert (
                len(self.line._late) + len(self.line._unseen_returns)
                == self.line._tally[BACK] + self.line._tally[RETURNER]
            )
            for chunk in self.line._chunks.values():
                assert chunk.live == sum(chunk.standing.count(standing) for standing in (NEW, WAITING, BACK))

    @invariant()
    def serving_never_moves_backwards(self):
        """The line only moves on, and never past what was given out."""
        if hasattr(self, "line"):
            assert self.serving <= self.line.serving <= self.line.issued
            self.serving = self.line.serving

    def all_standing(self, standing):
        """Return every number of one standing, in order."""
        return [
            (chunk_id << SHIFT) + index
            for chunk_id in sorted(self.line._chunks)
            for index, known in enumerate(self.line._chunks[chunk_id].standing)
            if known == standing
        ]


# Derandomised: the same lines every time, so that a red run is about the change at hand. Not shrunk: it takes minutes,
# and fifty steps can be read.
AnyLine.TestCase.settings = settings(
    max_examples=150, stateful_step_count=50, deadline=None, derandomize=True, phases=[Phase.generate]
)
TestAnyLine = AnyLine.TestCase
