"""Whatever visitors do, in any order: the caps hold, the order holds, and nothing told is taken back.

Hypothesis plays a line with random operations. A model of a few dictionaries, which knows only what visitors know,
judges each step; what the line counts is counted again by hand. At any moment the process may end: the line is then
what its record says, and has to be the same line. The record may also turn out to be an older copy.
"""

from __future__ import annotations

import copy
from dataclasses import replace

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from ledger import Ledger
from rooms import room

from waitroom.core import lasting
from waitroom.core.inlet import Admissions
from waitroom.core.queueing import (
    BACK,
    CALLED,
    CHUNK,
    GONE,
    IDEMPOTENCY_MS,
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
from waitroom.model import Overrides

START_MS = 1_700_000_000_000
OLD_TICKETS = (1, 2, 3, CHUNK - 4)
OLD_PASSES = (10, 11)
OLD_END_MS = START_MS + 8_000
FORMER = (0, 1)


def observed(line, now_ms):
    """Return all that anybody can find out about a line, by name."""
    return {
        "chunks": {
            chunk_id: (line._chunks[chunk_id].standing, line._chunks[chunk_id].due, line._chunks[chunk_id].live)
            for chunk_id in line._chunk_ids
        },
        "tally": [line._tally[standing] for standing in (NEW, WAITING, BACK, RETURNER, CALLED, INSIDE)],
        "counts": (line.present, line.called, line.inside, line.free_slots(now_ms)),
        "turns": line._turns,
        "inside": line._inside,
        "former": line.former,
        "misses": line._misses,
        "returners": line._returners,
        "numbers": (line.generation, line.base, line.issued, line.serving, line.earlier),
        "clocks": (line.stood_ms, line.still_since_ms, line.rests_until_ms, line.rolls_until_ms, line.asks_by_ms),
        "minute": line.admissions.in_minute(now_ms),
        "counted": (line.calls, line.admitted, line.joined, line.overtakings, line.cap_exceeded),
        "repeats": {
            key: (until_ms, joined.number, joined.visitor, joined.joined_ms, joined.ahead)
            for key, (until_ms, joined) in line._repeats.items()
            if until_ms > now_ms and line._at(joined.number) not in (NONE, GONE)
        },
        "said": (line.overrides, line.room),
        "next": everybody_in_order(line, now_ms),
    }


def everybody_in_order(line, now_ms):
    """Return the order in which a line would call those who are in it, if nothing kept it from calling."""
    line = copy.deepcopy(line)
    line.configure(line.configured, Overrides(), now_ms)
    line.admissions = Admissions(6_000)
    line.assumed_until_ms = line.rolls_until_ms = 0
    line.former.clear()
    for number in [*line._inside, *line._turns]:
        line.leave(number, now_ms)
    order = []
    while called := line.call(1, now_ms):
        order += called
        line.leave(called[0], now_ms)
    return order


class AnyLine(RuleBasedStateMachine):
    """Random visitors do random things to a line; a model of a few dictionaries judges it."""

    @initialize(
        total_active_users=st.integers(1, 4),
        new_users_per_minute=st.sampled_from([3, 60, 150, 6000]),
        always_queue=st.booleans(),
        max_waiting=st.sampled_from([None, None, 4]),
        session_limit_s=st.sampled_from([None, 12]),
        disable_session_renewal=st.booleans(),
        claim_within_s=st.sampled_from([3, 30]),
        ticket_keep_s=st.sampled_from([60, 7200]),
        base=st.sampled_from([1, CHUNK - 3]),
        former=st.booleans(),
        comes=st.lists(st.sampled_from(["in time", "late", "never"]), max_size=3),
    )
    def begin(self, base, former, comes, **drawn):
        """Open a room with small limits, for the first who come; where it has a past, passes from then may be out."""
        self.room = room(session_duration_s=10, **drawn)
        self.now_ms = START_MS
        self.line = Line(self.room, START_MS, base=base, assumed_until_ms=OLD_END_MS if base > 1 else 0)
        self.view = self.line.snapshot(START_MS)
        self.serving = self.line.serving
        self.numbers = []  # given out, or known to be signed
        self.told_ms = dict.fromkeys(OLD_TICKETS, START_MS)  # until when each may be silent, as they were told
        self.missed = set()  # called in vain, and not heard since
        self.used = set()
        self.granted = []
        self.shown = {}
        self.passes = {}  # by number: the end, and how long the clock had stood still when it was signed
        if base > 1:
            self.numbers += OLD_TICKETS
            self.passes = dict.fromkeys(OLD_PASSES[: self.room.total_active_users], (OLD_END_MS, 0))
        elif former:
            self.line.former[FORMER] = OLD_END_MS
        self.given = set(self.numbers)
        self.lost_ms = START_MS
        self.series = base
        self.keys = {}
        self.copies = []
        self.go_on_with(self.line)
        for come in comes:
            self.a_busy_tick(3, come, kept=True)

    # -- visitors ------------------------------------------------------------------------------------------------

    @rule(ms=st.sampled_from([50, 250, 250, 250, 1_000, 3_001, 31_000]))
    def time_passes(self, ms):
        """Let time pass, without a tick."""
        self.now_ms += ms

    @rule(count=st.integers(1, 3), told_s=st.sampled_from([1, 5]))
    def join(self, count, told_s):
        """Some join."""
        for joined in self.line.join([JoinRequest("a" * 16, told_s)] * count, self.now_ms):
            self.take(joined, told_s)

    @rule(key=st.sampled_from("ab"))
    def join_by_key(self, key):
        """Somebody joins, perhaps again: within ten minutes the same key is the same place, whatever died meanwhile."""
        number, until_ms = self.keys.get(key, (0, 0))
        [joined] = self.line.join([JoinRequest("b" * 16, 5, key)], self.now_ms)
        if self.now_ms < until_ms and self.line._at(number) not in (NONE, GONE):
            assert joined.number == number
            assert joined.end_ms == self.line.ends().get(number, 0)
        else:
            self.take(joined, 5)
            self.keys[key] = (joined.number, self.now_ms + IDEMPOTENCY_MS if joined.number else 0)

    @precondition(lambda self: self.numbers)
    @rule(data=st.data(), told_s=st.sampled_from([1, 4, 20]), visible=st.booleans())
    def hear(self, data, told_s, visible):
        """Somebody asks."""
        number = data.draw(st.sampled_from(self.numbers))
        until_ms = self.now_ms + told_s * 1000
        self.line.hear([Heard(number, until_ms, visible)], self.now_ms)
        self.tell(number, until_ms)

    @rule(count=st.integers(0, 4), come=st.sampled_from(["in time", "late", "never"]), kept=st.booleans())
    def a_busy_tick(self, count, come, kept):
        """Some arrive, all who are there ask, a tick passes; the called may be too late, or not come at all."""
        self.join(count, 5)
        self.everybody_asks(4)
        self.tick(10)
        self.time_passes(250 if come == "in time" else 5_001)
        if come != "never":
            self.everybody_called_claims()
        if kept:
            self.keep(merged=False)

    @rule(kept=st.booleans())
    def two_quiet_minutes(self, kept):
        """Nobody asks for so long that all fall silent, and whoever may be forgotten is."""
        self.time_passes(121_000)
        for _ in range(3):
            self.tick(1)
        if kept:
            self.keep(merged=False)

    @rule(told_s=st.sampled_from([4, 20]))
    def everybody_asks(self, told_s):
        """All pages happen to ask at once."""
        until_ms = self.now_ms + told_s * 1000
        self.line.hear([Heard(number, until_ms) for number in self.numbers], self.now_ms)
        for number in self.numbers.copy():
            self.tell(number, until_ms)

    @rule()
    def everybody_called_claims(self):
        """All who were called come in the same moment."""
        for number in sorted(self.line._turns):
            self.come(number)

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
                assert not self.said.sold_out
                self.judge_order(number, among=lambda other: other <= self.line.serving)
        elif not (claimed.end_ms or claimed.called):
            self.tell(number, self.now_ms + 2_000)

    @precondition(lambda self: self.passes)
    @rule(data=st.data())
    def renew(self, data):
        """Somebody uses a pass that has not ended."""
        self.use(data.draw(st.sampled_from(sorted(self.passes))))

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
            if end_ms < self.clock_ms:  # missed: whatever was told, they are back when they next ask
                self.missed.add(number)
        self.line.sweep(self.now_ms)
        serving = self.line.serving
        called = self.line.call(budget, self.now_ms)
        assert len(called) <= budget
        assert not (called and (self.held_since_ms or self.said.closed or self.said.sold_out))
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

    # -- operators, the origin, and clocks that stand still -------------------------------------------------------

    @rule(held=st.booleans(), then_s=st.sampled_from([0, 8, 40]))
    def hold_or_open(self, held, then_s):
        """An operator holds the room, or lets it go on: turns and passes end later by what was held, and no other."""
        was_held_since_ms = self.held_since_ms
        still_ms = self.now_ms - was_held_since_ms if was_held_since_ms and not held else 0
        expected = self.ends_later_by(still_ms)
        self.say(queue_all=held)
        assert self.ends_later_by(0) == expected
        if held:
            assert self.held_since_ms == (was_held_since_ms or self.now_ms)
        self.life_goes_on(self.now_ms + then_s * 1_000)

    @rule(
        closed=st.sampled_from([False, False, True]),
        stock=st.sampled_from([None, 0, 5]),
        then_s=st.sampled_from([0, 8, 40]),
    )
    def close_or_open(self, closed, stock, then_s):
        """An operator closes the line or opens it again, the origin says what it has: nobody's times move."""
        expected = self.ends_later_by(0)
        self.say(closed=closed, stock=stock)
        assert self.ends_later_by(0) == expected
        self.life_goes_on(self.now_ms + then_s * 1_000)

    @rule(ms=st.sampled_from([250, 3_001, 1_000_000]), rolls=st.booleans())
    def the_store_is_away(self, ms, rolls):
        """For a while nobody is heard, and no clock goes on; afterwards there may be a moment to hear everybody."""
        expected = self.ends_later_by(ms)
        held_for_ms = self.now_ms - self.held_since_ms
        self.now_ms += ms
        self.line.stand(ms, unheard=True)
        if rolls:
            self.line.rolls_until_ms = max(self.line.rolls_until_ms, self.now_ms + 1_000)
        self.told_ms = {number: until_ms + ms for number, until_ms in self.told_ms.items()}
        self.lost_ms += ms
        assert self.ends_later_by(0) == expected
        assert not self.held_since_ms or held_for_ms == self.now_ms - self.held_since_ms

    # -- the process ends -----------------------------------------------------------------------------------------

    @rule(merged=st.booleans())
    def keep(self, merged):
        """A commit: what has changed since the last is kept, with every chunk whole now and then."""
        self.ledger.keep(self.line, merged=merged)

    @rule(merged=st.booleans(), again=st.booleans())
    def die_and_restore(self, merged, again):
        """The process ends after a commit, and perhaps once more while starting: nobody can tell, from anything."""
        self.ledger.keep(self.line, merged=merged)
        line = self.ledger.restored(self.room)
        if again:
            line = self.ledger.restored(self.room)
        found = observed(line, self.now_ms)
        for name, was in observed(self.line, self.now_ms).items():
            assert found[name] == was, name
        assert line.admissions.room(self.now_ms) <= self.line.admissions.room(self.now_ms)
        before, after = self.line.snapshot(self.now_ms), line.snapshot(self.now_ms)
        for number in sorted(self.given):
            assert after.standing(number) == before.standing(number)
            assert after.ahead(number) <= before.ahead(number)
        self.go_on_with(line)

    @rule()
    def back_up(self):
        """An operator copies the file, as it was kept last."""
        self.copies.append(copy.deepcopy(self.ledger))

    @precondition(lambda self: self.passes and not self.held_since_ms)
    @rule(older=st.integers(0, 2), after_s=st.sampled_from([0, 8, 90]), rolled=st.booleans())
    def lose(self, older, after_s, rolled):
        """The process ends, and the record is an older copy: from then on, no more than the note is known for sure.

        ``after_s`` in which life goes on; ``rolled``: it goes on until the roll has been called.
        """
        self.everybody_asks(20)
        self.tick(3)
        self.keep(merged=False)
        self.back_up()
        self.life_goes_on(self.now_ms + after_s * 1_000)
        del self.copies[max(1, len(self.copies) - older) :]
        line = self.copies[-1].restored(self.room)
        if line.still_since_ms:
            return
        line.begin_series(self.series, self.now_ms)
        self.shown.clear()
        self.lost_ms = self.now_ms
        self.series, self.serving = line.base, line.serving
        self.keys = {key: (joined.number, until_ms) for key, (until_ms, joined) in line._repeats.items()}
        self.go_on_with(line)
        if rolled:
            self.life_goes_on(line.rests_until_ms)

    def life_goes_on(self, until_ms):
        """Let everybody ask and use their passes, and let half of the called come; all of it is kept."""
        while self.now_ms < until_ms:
            self.everybody_asks(20)
            for number in sorted(self.passes):
                self.use(number)
            self.tick(3)
            self.keep(merged=False)
            self.time_passes(4_000)
            for number in sorted(self.line._turns)[::2]:
                self.come(number)
                self.keep(merged=False)

    def go_on_with(self, line):
        """Play on with a restored line, and a record that begins anew."""
        self.line = line
        self.ledger = Ledger()
        lasting.watch(line)
        lasting.everything(line)
        self.keep(merged=True)

    # -- the model ------------------------------------------------------------------------------------------------

    @property
    def said(self):
        """What the operator and the origin said."""
        return self.line.overrides

    @property
    def held_since_ms(self):
        """Since when the room is held; 0 when it is not."""
        return self.line.still_since_ms

    @property
    def clock_ms(self):
        """The time by which turns and passes are judged."""
        return self.held_since_ms or self.now_ms

    def say(self, **words):
        """Say something over the configuration."""
        self.line.configure(self.room, replace(self.said, **words), self.now_ms)

    def end_ms(self, number):
        """Return the end of a pass, as the gate reads it: moved by what the clock has stood still since."""
        end_ms, stood_ms = self.passes[number]
        return end_ms + max(0, self.line.stood_ms - stood_ms)

    def ends_later_by(self, still_ms):
        """Return every end there is, of turns, slots and former passes, moved by this."""
        return (
            {number: end_ms + still_ms for number, end_ms in self.line._turns.items()},
            {number: end_ms + still_ms for number, end_ms in self.line.ends().items()},
            {former: end_ms + still_ms for former, end_ms in self.line.former.items()},
            self.line.stood_ms + still_ms,
        )

    def use(self, number):
        """Use a pass: while it opens the door it is renewed, also where the record has lost it, for ``ticket_keep``."""
        before_ms = self.end_ms(number)
        if before_ms > self.clock_ms:
            end_ms = self.line.renew(number, self.now_ms - 5_000, before_ms, self.now_ms)
            forgotten = self.now_ms > self.lost_ms + self.room.ticket_keep_s * 1000
            assert end_ms >= before_ms or (forgotten and number not in self.line._inside)
            self.passes[number] = (end_ms, self.line.stood_ms)

    def come(self, number):
        """Claim a turn."""
        claimed = self.line.claim(number, self.now_ms, self.now_ms + 2_000)
        if claimed.end_ms:
            self.grant(number, claimed.end_ms)

    def take(self, joined, told_s):
        """Note a new place, or an admission; no number is given twice, and what is shown is what a worker shows."""
        if not joined.number:
            assert self.room.max_waiting is not None or self.said.closed
            return
        assert not self.said.closed
        assert joined.number not in self.given
        self.given.add(joined.number)
        self.numbers.append(joined.number)
        if joined.end_ms:
            assert not self.said.sold_out
            self.grant(joined.number, joined.end_ms)
            self.judge_order(joined.number, among=lambda _: True)
        else:
            self.told_ms[joined.number] = self.now_ms + int(told_s * 1300 + 2000)
            self.shown[joined.number] = max(joined.ahead, self.view.ahead(joined.number))
            assert self.shown[joined.number] < len(self.given)

    def tell(self, number, until_ms):
        """Note until when somebody may be silent; who has no place any more has used it, or was silent for long."""
        if self.line._at(number) in (NONE, GONE):
            assert number in self.used or self.told_ms[number] + self.room.ticket_keep_s * 1000 < self.now_ms
            self.numbers.remove(number)
        self.told_ms[number] = until_ms
        self.missed.discard(number)

    def grant(self, number, end_ms):
        """Note an admission, and judge the windows that end with it."""
        assert not self.held_since_ms
        assert not self.said.closed
        self.passes[number] = (end_ms, self.line.stood_ms)
        self.used.add(number)
        self.granted.append(self.now_ms)
        cap = self.room.new_users_per_minute
        assert sum(1 for at_ms in self.granted if at_ms > self.now_ms - 60_000) <= cap
        assert sum(1 for at_ms in self.granted if at_ms > self.now_ms - 1_000) <= -(-cap // 60)

    def judge_order(self, number, among):
        """Assert that nobody with a smaller number, ``among`` those compared, is present and still not called."""
        for other in self.numbers:
            present = self.told_ms.get(other, 0) >= self.now_ms and other not in self.missed and other not in self.used
            if other < number and among(other) and present:
                standing = self.line._at(other)
                given_up = self.line._misses.get(other, 0) >= MISSES_MAX
                assert standing in (CALLED, INSIDE) or given_up, (other, number, standing)

    @invariant()
    def the_cap_holds(self):
        """Inside and called, counted by hand, are within the cap, and so are the passes that open the door."""
        if hasattr(self, "line"):
            former = sum(1 for end_ms in self.line.former.values() if end_ms > self.clock_ms)
            taken = len(self.all_standing(INSIDE)) + len(self.all_standing(CALLED))
            assert taken + former <= self.room.total_active_users
            open_passes = sum(1 for number in self.passes if self.end_ms(number) > self.clock_ms)
            assert open_passes + former <= self.room.total_active_users
            assert self.line.cap_exceeded == 0
            assert self.line.overtakings == 0

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
            if self.line._chunks[chunk_id].standing.count(standing)
            for index, known in enumerate(self.line._chunks[chunk_id].standing)
            if known == standing
        ]


# Derandomised: the same lines every time, so that a red run is about the change at hand. Not shrunk: it takes minutes,
# and fifty steps can be read.
AnyLine.TestCase.settings = settings(
    max_examples=300, stateful_step_count=50, deadline=None, derandomize=True, phases=[Phase.generate]
)
TestAnyLine = AnyLine.TestCase
