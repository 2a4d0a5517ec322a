"""What is kept of a line is the line: restored from its pieces it goes on as if nothing had been."""

from __future__ import annotations

import pytest
from ledger import Ledger
from rooms import room

from waitroom.core import lasting
from waitroom.core.queueing import BACK, CHUNK, IDEMPOTENCY_MS, Heard, JoinRequest, Line
from waitroom.model import Overrides, QueueingMethod

START_MS = 1_700_000_000_000


@pytest.fixture
def ledger():
    """An empty record."""
    return Ledger()


def busy(**settings):
    """Return a line with somebody in each standing, watched from its first moment."""
    line = Line(room(total_active_users=3, claim_within_s=5, session_duration_s=600, **settings), START_MS)
    lasting.watch(line)
    line.join([JoinRequest("a" * 16, 2.0)] * 12, START_MS)
    line.hear([Heard(number, START_MS + 8_000) for number in range(1, 11)], START_MS)
    line.call(3, START_MS)
    line.claim(1, START_MS, START_MS + 1_000)
    line.leave(9, START_MS)
    line.sweep(START_MS + 9_000)  # the turns of 2 and 3 are missed, 4 to 12 fall silent
    line.hear([Heard(2, START_MS + 90_000), Heard(6, START_MS + 90_000), Heard(7, START_MS + 90_000)], START_MS + 9_000)
    line.call(1, START_MS + 9_000)
    line.hear(
        [Heard(3, START_MS + 90_000, visible=False)], START_MS + 9_000
    )  # a returner, for whom there is no slot yet
    return line


def shape(line, now_ms):
    """Return everything that anybody can see of a line, and what the next step goes by."""
    view = line.snapshot(now_ms)
    numbers = range(1, line.issued + 2)
    return {
        "standings": [view.standing(number) for number in numbers],
        "turns": view.turns,
        "inside": view.inside,
        "returners": view.returners,
        "counts": (line.issued, line.serving, line.present, line.called, line.inside, line.calls, line.joined),
        "misses": line._misses,
        "due": [line._is_silent(number, now_ms) for number in numbers[:-1]],
        "state": view.state,
    }


@pytest.mark.parametrize("merged", [False, True])
def test_a_line_restored_is_the_line(ledger, merged):
    """Standings, turns, slots, who returns, what was missed: from the journal alone, or from whole chunks."""
    line = busy()
    ledger.keep(line, merged=merged)
    now_ms = START_MS + 9_500
    assert shape(ledger.restored(line.configured), now_ms) == shape(line, now_ms)


def test_pieces_kept_at_different_moments_agree(ledger):
    """A chunk kept whole overrules the journal before it, and the journal after it overrules the chunk."""
    line = busy()
    for step in range(12):
        now_ms = START_MS + 9_500 + step * 250
        line.join([JoinRequest("b" * 16, 2.0)] * 3, now_ms)
        line.hear([Heard(line.issued - step % 3, now_ms + 5_000)], now_ms)
        line.hear([Heard(2, now_ms + 90_000)] if step == 6 else [], now_ms)
        line.leave(1, now_ms) if step == 8 else None
        line.sweep(now_ms)
        line.call(1, now_ms)
        ledger.keep(line, merged=step % 5 == 4)
        assert shape(ledger.restored(line.configured), now_ms) == shape(line, now_ms)


def test_what_was_kept_whole_overrules_the_journal_before_it(ledger):
    """A crowd that falls silent together changes its chunk and no number by itself: the journal has it waiting."""
    line = Line(room(), START_MS)
    lasting.watch(line)
    line.join([JoinRequest("a" * 16, 2.0)] * 5, START_MS)
    ledger.keep(line)
    now_ms = START_MS + 60_000
    line.call(9, now_ms)
    ledger.keep(line)
    restored = ledger.restored(line.configured)
    assert ledger.journal
    assert (restored.present, restored.serving) == (line.present, line.serving) == (0, 5)
    assert shape(restored, now_ms) == shape(line, now_ms)


def test_ends_that_moved_are_kept(ledger):
    """An offer that goes on because the second is spent, a pass that slid, a session made longer."""
    line = Line(room(new_users_per_minute=120, claim_within_s=20, session_duration_s=60), START_MS)
    lasting.watch(line)
    line.join([JoinRequest("a" * 16, 2.0)] * 3, START_MS)
    line.hear([Heard(number, START_MS + 2_000) for number in (1, 2, 3)], START_MS)
    line.call(3, START_MS)
    now_ms = START_MS + 19_000
    assert [bool(line.claim(number, now_ms, now_ms).end_ms) for number in (1, 2)] == [True, True]
    moves = [
        lambda: line.claim(3, now_ms, now_ms),
        lambda: line.renew(1, now_ms, now_ms + 60_000, now_ms + 40_000),
        lambda: line.extend(2, 10_000, now_ms + 40_000),
    ]
    for move in moves:
        ledger.keep(line)
        before = (line._turns.copy(), line.ends())
        move()
        ledger.keep(line)
        restored = ledger.restored(line.configured)
        assert (restored._turns, restored.ends()) == (line._turns, line.ends()) != before


def test_the_order_goes_on_where_it_was(ledger):
    """Returners first, the smallest number first; then on from serving, past the absent."""
    line = busy()
    ledger.keep(line)
    restored = ledger.restored(line.configured)
    now_ms = START_MS + 10_000
    for one in (line, restored):
        one.leave(1, now_ms)
        one.hear([Heard(3, now_ms + 90_000), Heard(12, now_ms + 90_000)], now_ms)
    assert restored.call(9, now_ms) == line.call(9, now_ms) != []


def test_ahead_never_rises_by_a_restore(ledger):
    """Who came back counts only for numbers given out after the restore; nobody is shown more than before."""
    line = busy()
    ledger.keep(line)
    before = line.snapshot(START_MS + 9_500)
    after = ledger.restored(line.configured).snapshot(START_MS + 9_500)
    assert {line._at(6), line._at(7)} == {BACK}
    for number in range(1, line.issued + 1):
        assert after.ahead(number) <= before.ahead(number)


def test_everything_is_kept_of_a_record_that_begins_anew(ledger):
    """After the file was lost under a running process: nothing has changed, and all of it is written."""
    line = busy()
    Ledger().keep(line)
    assert not lasting.has_changed(line)
    lasting.everything(line)
    ledger.keep(line)
    assert shape(ledger.restored(line.configured), START_MS + 9_500) == shape(line, START_MS + 9_500)


def test_a_forgotten_chunk_stays_forgotten(ledger):
    """The journal may still speak of it; the empty chunk that was kept later overrules that."""
    line = Line(room(ticket_keep_s=10, total_active_users=1), START_MS)
    lasting.watch(line)
    line.join([JoinRequest("a" * 16, 2.0)] * CHUNK, START_MS)
    line.hear([Heard(CHUNK, START_MS + 90_000_000)], START_MS)
    ledger.keep(line)
    now_ms = START_MS + 60_000
    for _ in range(4):
        line.sweep(now_ms)
        line.call(0, now_ms)
    line.sweep(now_ms)
    ledger.keep(line)
    assert 0 not in line._chunks
    restored = ledger.restored(line.configured)
    assert restored._chunks.keys() == line._chunks.keys()
    assert (restored.serving, restored.present) == (line.serving, line.present)


def test_a_key_is_answered_as_before(ledger):
    """What a repeat gets is kept, for whom it was given."""
    line = busy()
    [joined] = line.join([JoinRequest("c" * 16, 2.0, "key")], START_MS + 9_000)
    ledger.keep(line)
    again = ledger.restored(line.configured).join([JoinRequest("d" * 16, 2.0, "key")], START_MS + 9_500)
    assert again == [joined]


def test_a_restored_key_is_forgotten_when_its_time_is_over(ledger):
    """Keys come back in the order of a file; each is still good for its own ten minutes and no longer."""
    line = Line(room(), START_MS)
    lasting.watch(line)
    line.join([JoinRequest("a" * 16, 2.0, "zebra")], START_MS)
    line.join([JoinRequest("b" * 16, 2.0, "ant")], START_MS + 300_000)
    ledger.keep(line)
    restored = ledger.restored(line.configured)
    now_ms = START_MS + IDEMPOTENCY_MS
    zebra, ant = restored.join([JoinRequest("c" * 16, 2.0, "zebra"), JoinRequest("d" * 16, 2.0, "ant")], now_ms)
    assert (zebra.number, ant.number) == (3, 2)


def test_what_was_said_and_the_last_minute_are_kept(ledger):
    """The operator's words, the claims of the last minute, the term, the passes of the generation before."""
    line = busy(new_users_per_minute=60)
    said = Overrides(
        queueing_method=QueueingMethod.REJECT, total_active_users=7, stock=0, stock_version=9, message="hi"
    )
    line.configure(line.configured, said, START_MS + 9_000)
    line.former = {(1, 77): START_MS + 50_000}
    line.lead("one", START_MS)
    ledger.keep(line)
    line.begin_series(500, START_MS + 9_000)
    ledger.keep(line)
    restored = ledger.restored(line.configured)
    assert restored.overrides == said
    assert restored.room == line.room
    assert (restored.former, restored.term, restored.earlier) == (line.former, line.term, line.earlier)
    assert restored.admissions.in_minute(START_MS + 9_000) == line.admissions.in_minute(START_MS + 9_000) == 1
    assert restored.rests_until_ms == line.rests_until_ms
    assert restored._chunks[0].due == line._chunks[0].due


def test_the_second_is_kept_on_the_safe_side(ledger):
    """Whether claims of the last second came early or late in their bucket is not kept: late is what is assumed."""
    line = busy(new_users_per_minute=60)
    line.hear([Heard(2, START_MS + 90_000)], START_MS + 9_000)
    assert line.claim(2, START_MS + 9_000, START_MS + 90_000).end_ms
    ledger.keep(line)
    restored = ledger.restored(line.configured)
    assert restored.admissions.room(START_MS + 9_999) == 0
    assert restored.admissions.room(START_MS + 10_250) == 1


def test_a_busy_line_is_told_from_a_quiet_one():
    """Time that nobody kept matters only where somebody waits, was called, or is inside."""
    line = Line(room(), START_MS)
    assert not lasting.is_busy(line)
    line.join([JoinRequest("a" * 16, 2.0)], START_MS)
    assert lasting.is_busy(line)


def test_a_slot_without_its_standing_is_a_fault_that_shows(ledger):
    """The caps count both; a record in which they disagree is not gone on with."""
    line = busy()
    ledger.keep(line)
    ledger.slots.pop(next(number for number, slot in ledger.slots.items() if slot.admitted_ms))
    with pytest.raises(AssertionError):
        ledger.restored(line.configured)
