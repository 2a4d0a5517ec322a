"""Events: each begins, opens and ends once, in store time, whatever is done to clocks and files."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ledger import Ledger
from rooms import room

from waitroom.core import gate, lasting, schedule
from waitroom.core.queueing import Heard, JoinRequest, Line
from waitroom.model import Opening, Overrides, Phase, QueueingMethod, RoomEvent, RoomState, Ticket

NOON_MS = 1_700_000_000_000
GATHERS_MS = NOON_MS - 1_800_000
ENDS_MS = NOON_MS + 3_600_000
NOON = RoomEvent("noon", NOON_MS, ENDS_MS, GATHERS_MS)
NEXT = RoomEvent("next", ENDS_MS + 60_000, ENDS_MS + 90_000)


def stepped(now_ms, *events, before=None, ahead_ms=0):
    """Return the opening at ``now_ms``, all times read by a clock that far ahead."""
    return schedule.step(events, schedule.read(events, (), ahead_ms), before, now_ms)


def phase(now_ms, *events, **how):
    """Return the name and the phase of that opening."""
    opening = stepped(now_ms, *events, **how)
    return opening and (opening.event, opening.phase)


@pytest.mark.parametrize(
    ("now_ms", "expected"),
    [
        (GATHERS_MS - 1, None),
        (GATHERS_MS, ("noon", Phase.PREQUEUE)),
        (NOON_MS - 1, ("noon", Phase.PREQUEUE)),
        (NOON_MS, ("noon", Phase.OPEN)),
        (ENDS_MS - 1, ("noon", Phase.OPEN)),
        (ENDS_MS, ("noon", Phase.ENDED)),
        (ENDS_MS + 59_999, ("noon", Phase.ENDED)),
        (ENDS_MS + 60_000, ("next", Phase.OPEN)),
        (ENDS_MS + 90_000, ("next", Phase.ENDED)),
    ],
)
@pytest.mark.parametrize("ahead_ms", [0, 7_200_000, -7_200_000])
@pytest.mark.parametrize("slowly", [False, True])
def test_each_phase_begins_at_its_millisecond(now_ms, expected, ahead_ms, slowly):
    """The times of the file, less what the wall clock was ahead when they were read; seen or unseen as time passes."""
    opening = None
    for at_ms in (GATHERS_MS, NOON_MS, ENDS_MS, now_ms) if slowly else ():
        opening = stepped(min(at_ms, now_ms) - ahead_ms, NOON, NEXT, before=opening, ahead_ms=ahead_ms)
    found = stepped(now_ms - ahead_ms, NOON, NEXT, before=opening, ahead_ms=ahead_ms)
    assert (found and (found.event, found.phase)) == expected


def test_what_was_read_is_not_read_again_by_another_clock():
    """A start finds the times as they were read; a reload reads those again that have not begun, and no others."""
    read = schedule.read([NOON, NEXT], (), 5)
    assert schedule.read([NOON, NEXT], read, 7_200_000) == read
    again = schedule.read([NOON, NEXT], read, 7_200_000, reloaded_ms=GATHERS_MS)
    assert [one.ahead_ms for one in again] == [5, 7_200_000]
    moved = replace(NOON, start_time_ms=NOON_MS + 1)
    assert schedule.read([moved], read, 9)[0].ahead_ms == 9


def test_an_opened_line_is_not_closed_by_a_later_start():
    """Once open, the start is no more to be waited for; in the pre-queue it is."""
    later = replace(NOON, start_time_ms=NOON_MS + 600_000)
    assert phase(NOON_MS, later, before=stepped(GATHERS_MS, NOON)) == ("noon", Phase.PREQUEUE)
    assert phase(NOON_MS, later, before=stepped(NOON_MS, NOON)) == ("noon", Phase.OPEN)


def test_a_later_end_opens_again_what_it_had_closed():
    """The sale is lengthened: the same line goes on."""
    ended = stepped(ENDS_MS, NOON)
    found = stepped(ENDS_MS + 5, replace(NOON, end_time_ms=ENDS_MS + 50), before=ended)
    assert (found.phase, found.begun_ms) == (Phase.OPEN, ended.begun_ms)


def test_an_event_that_ended_begins_anew_on_another_day():
    """The same name with the times of tomorrow is closed until then, and is then another event."""
    ended = stepped(ENDS_MS, NOON)
    day_ms = 86_400_000
    tomorrow = RoomEvent("noon", NOON_MS + day_ms, ENDS_MS + day_ms)
    assert stepped(ENDS_MS + 5, tomorrow, before=ended) == ended
    found = stepped(NOON_MS + day_ms, tomorrow, before=ended)
    assert (found.phase, found.begun_ms) == (Phase.OPEN, NOON_MS + day_ms)


@pytest.mark.parametrize("now_ms", [GATHERS_MS, NOON_MS, ENDS_MS])
def test_an_event_taken_out_of_the_file_says_nothing_more(now_ms):
    """It is dropped, brings no earlier one back, and goes on where it was when it stands there again."""
    early = RoomEvent("early", GATHERS_MS - 10, GATHERS_MS - 5)
    opening = stepped(now_ms, early, NOON)
    dropped = stepped(now_ms, early, before=opening)
    assert (dropped.event, dropped.phase) == ("noon", Phase.DROPPED)
    assert stepped(now_ms, early, NOON, before=dropped) == opening


def test_the_file_may_speak_of_what_is_long_over():
    """Of several events that a new record finds in the past, the last one counts: it has ended."""
    assert phase(ENDS_MS + 900_000, NOON, NEXT) == ("next", Phase.ENDED)


class Played:
    """A line of an event, at a moment of it."""

    def __init__(self, now_ms=GATHERS_MS, event=NOON, **settings):
        self.room = room(events=(event,), **settings)
        self.line = Line(self.room, now_ms, generation=2, opening=stepped(now_ms, event))
        self.now_ms = now_ms

    def to(self, now_ms):
        """Let it be another moment."""
        self.now_ms = now_ms
        self.line.opening = stepped(now_ms, *self.room.events, before=self.line.opening)
        self.line.configure(self.room, self.line.overrides, now_ms)
        return self

    def join(self):
        """Let somebody join and ask once; return what they got."""
        [joined] = self.line.join([JoinRequest("a" * 16, 2.0)], self.now_ms)
        if joined.number and not joined.end_ms:
            self.line.hear([Heard(joined.number, ENDS_MS)], self.now_ms)
        return joined

    @property
    def state(self):
        """What the room does."""
        return self.line.state(self.now_ms)

    def decide(self, **shown):
        """Return what becomes of a request."""
        view = self.line.snapshot(self.now_ms)
        return gate.decide(self.line.room, view, gate.Shown(**{"document": True, **shown}), self.now_ms)


@pytest.mark.parametrize("settings", [{}, {"always_queue": False}, {"queueing_method": QueueingMethod.REJECT}])
def test_people_gather_and_nobody_is_called_before_the_start(settings):
    """P6: in the pre-queue places are given whatever the room does else, and neither a call nor a claim succeeds."""
    played = Played(**settings)
    assert isinstance(played.decide(), gate.Join)
    numbers = [played.join().number for _ in range(3)]
    assert numbers == [1, 2, 3]
    played.now_ms = NOON_MS - 1
    assert played.state is RoomState.PREQUEUE
    assert played.line.call(10, played.now_ms) == []
    assert not played.line.claim(1, played.now_ms, ENDS_MS).end_ms
    assert played.decide(document=False) == gate.TurnAway(gate.Refusal.NOT_A_DOCUMENT)
    assert isinstance(played.decide(ticket=Ticket("launch", 2, 1, "a", 0)), gate.Wait)
    assert played.to(NOON_MS).line.call(10, NOON_MS) == [1, 2, 3]


def test_who_is_silent_in_the_pre_queue_keeps_the_rank():
    """Nobody is passed over before the start: who comes back in time has lost nothing."""
    played = Played()
    for _ in range(2):
        played.join()
    played.line.hear([Heard(1, GATHERS_MS + 10)], GATHERS_MS)
    played.line.sweep(GATHERS_MS + 60_000)
    assert played.line.present == 1
    played.line.call(5, GATHERS_MS + 60_000)
    played.line.hear([Heard(1, ENDS_MS)], GATHERS_MS + 70_000)
    assert played.to(NOON_MS).line.call(1, NOON_MS) == [1]


def test_after_the_end_the_line_is_over_and_nobody_is_let_in():
    """No places, no calls, no claims, not even of those called; the gate says closed."""
    played = Played()
    for _ in range(2):
        played.join()
    assert played.to(NOON_MS).line.call(1, NOON_MS) == [1]
    played.to(ENDS_MS)
    assert played.state is RoomState.CLOSED
    assert played.join().number == 0
    assert played.line.call(5, ENDS_MS) == []
    assert not played.line.claim(1, ENDS_MS, ENDS_MS).end_ms
    assert played.decide() == gate.TurnAway(gate.Refusal.CLOSED)


def test_an_event_has_limits_of_its_own():
    """They hold from its beginning to its end, under what an operator says; then the room's hold again."""
    event = replace(NOON, total_active_users=3, queue_all=True, max_waiting=1)
    played = Played(event=event)
    assert (played.line.room.total_active_users, played.state) == (3, RoomState.HELD)
    played.join()
    assert played.join().number == 0
    played.line.configure(played.room, Overrides(total_active_users=2), GATHERS_MS)
    assert played.line.room.total_active_users == 2
    played.line.configure(played.room, Overrides(), GATHERS_MS)
    assert played.to(ENDS_MS).line.room == played.room
    assert replace(NOON).over(played.room) is played.room
    assert played.room.during(replace(played.line.opening, event="gone", phase=Phase.OPEN)) is played.room


@pytest.mark.parametrize("now_ms", [GATHERS_MS, ENDS_MS])
def test_only_an_operator_opens_the_door_before_the_start_and_after_the_end(now_ms):
    """A room configured to let everyone through does so while the event is open; said by an operator, at any time."""
    played = Played(now_ms, queueing_method=QueueingMethod.PASSTHROUGH)
    assert played.state is (RoomState.PREQUEUE if now_ms == GATHERS_MS else RoomState.CLOSED)
    played.line.configure(played.room, Overrides(queueing_method=QueueingMethod.PASSTHROUGH), now_ms)
    assert played.state is RoomState.PASSTHROUGH
    assert Played(NOON_MS, queueing_method=QueueingMethod.PASSTHROUGH).state is RoomState.PASSTHROUGH


def test_how_long_it_is_to_the_start_is_known_until_it():
    """Milliseconds, at least one, while people gather; else none."""
    played = Played()
    assert played.line.opens_ms(NOON_MS - 250) == 250
    assert played.line.opens_ms(NOON_MS + 250) == 1
    assert played.to(NOON_MS).line.opens_ms(NOON_MS) == 0
    assert Line(room(), NOON_MS).opens_ms(NOON_MS) == 0


def test_an_event_is_kept_with_the_line():
    """A line restored is of the same event, as far as it had come, its times read as they were."""
    played = Played()
    lasting.watch(played.line)
    played.line.readings = schedule.read([NOON], (), 77)
    ledger = Ledger()
    ledger.keep(played.line)
    restored = ledger.restored(played.room)
    assert restored.opening == Opening("noon", Phase.PREQUEUE, GATHERS_MS, NOON_MS, ENDS_MS)
    assert restored.readings == played.line.readings
    assert restored.state(NOON_MS - 1) is RoomState.PREQUEUE
