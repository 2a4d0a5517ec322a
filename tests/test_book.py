"""The book of all rooms: what a start believes of its record, and what passes and holds come to over a restart."""

from __future__ import annotations

import json

import pytest
from rooms import room

from waitroom.core import lasting
from waitroom.core.lasting import Kept
from waitroom.core.queueing import GONE, LATE_MS, Heard, JoinRequest
from waitroom.model import Pass
from waitroom.ports import Known, Lead, Noted
from waitroom.store.book import Book
from waitroom.store.notes import Notes, RoomNote

START_MS = 1_700_000_000_000
TIMES = {"session_duration_s": 60, "claim_within_s": 20}


class Played:
    """A book of one room, and the hand that moves its clock."""

    def __init__(self, **record):
        self.now_ms = START_MS
        self.open(room(**TIMES), **record)

    def open(self, settings, **record):
        """Begin a process with these settings, on this record."""
        self.book = Book([settings], self.now_ms, watched=True, **record)
        self.line = self.book.lines["launch"]
        self.known = Known(self.line.generation)

    def restart(self, settings, down_s, **record):
        """End the process, and begin another some seconds later on what was kept."""
        header = json.loads(json.dumps(lasting.header(self.line)))
        found = lasting.changes(self.line, set(), self.line._chunks)
        chunks = {chunk_id: (1, whole) for chunk_id, whole in found.chunks.items()}
        kept = Kept(header, chunks, (), found.slots, found.repeats)
        at_ms = self.now_ms
        self.now_ms += int(down_s * 1000)
        self.open(settings, kept={"launch": kept}, at_ms=at_ms, **record)

    def inside(self):
        """Bring one visitor inside; return the pass."""
        [joined] = self.book.join("launch", self.known, [JoinRequest("a" * 16, 2.0)], self.now_ms)
        self.tick(joined.number)
        [claimed] = self.book.claim("launch", self.known, [(joined.number, 2.0)], self.now_ms)
        return Pass("launch", 1, joined.number, "a" * 16, claimed.admitted_ms, claimed.end_ms, claimed.stood_ms)

    def tick(self, *heard, used=()):
        """Take a step as the leader."""
        noted = Noted([Heard(number, self.now_ms + 10_000) for number in heard], used)
        lead = Lead("one", 0, self.line.serving, 1_000)
        return self.book.tick("launch", self.known, noted, lead, self.now_ms)

    def say(self, **verbs):
        """Speak as the operator."""
        self.book.operate("launch", verbs, "someone", self.now_ms)
        self.line = self.book.lines["launch"]

    def after(self, seconds):
        """Let time pass, with a tick at its end."""
        self.now_ms += int(seconds * 1000)
        self.tick()


@pytest.mark.parametrize("down_s", [0, 30])
def test_a_hold_that_ends_with_a_restart_is_counted_whole_and_once(down_s):
    """Held by the settings, restarted with others: passes end later by the hold, and from now on they do end."""
    played = Played()
    end_ms = played.inside().end_ms
    played.book.configure([room(queue_all=True, **TIMES)], played.now_ms)
    played.after(600)
    played.restart(room(**TIMES), down_s)
    held_ms = 600_000 + down_s * 1000
    assert played.line.ends() == {1: end_ms + held_ms}
    assert played.line.stood_ms == held_ms
    played.now_ms = end_ms + held_ms + LATE_MS
    played.tick()
    assert played.line.inside == 0


def test_a_hold_that_begins_with_a_restart_stops_the_clock():
    """Restarted with settings that hold the room: nobody's session runs out meanwhile."""
    played = Played()
    played.inside()
    played.restart(room(queue_all=True, **TIMES), 10)
    played.after(600)
    assert played.line.inside == 1


def test_a_pass_that_the_record_lost_is_taken_in_as_it_counts_now():
    """Signed before a hold: the record that does not know it takes it in with the end that the gate reads from it."""
    played = Played()
    played.say(queue_all=True)
    signed = Pass("launch", 1, 5, "a" * 16, START_MS - 30_000, START_MS + 30_000)
    played.book.configure([room(disable_session_renewal=True, **TIMES)], played.now_ms)
    played.line.begin_series(9, played.now_ms)
    played.after(600)
    played.say(queue_all=None)
    played.tick(used=[signed])
    assert played.line.ends() == {5: START_MS + 630_000}


def test_a_reset_in_a_held_room_takes_nothing_from_those_inside():
    """Kept inside while held: the time from before the reset is given back too."""
    played = Played()
    end_ms = played.inside().end_ms
    played.say(queue_all=True)
    played.after(50)
    played.say(reset="keep_inside")
    played.after(50)
    played.say(queue_all=None)
    assert played.line.former == {(1, 1): end_ms + 100_000}


def test_a_generation_that_the_note_knows_is_not_gone_behind(tmp_path):
    """The record is from before a reset: nobody gets a number there that the next signed ticket would make nothing."""
    played = Played()
    played.inside()
    played.say(message="back soon")
    notes = Notes(tmp_path / "notes")
    notes.write({"launch": RoomNote(7, START_MS + 1_000, generation=3)})
    played.restart(room(**TIMES), 1, notes=notes)
    assert (played.line.generation, played.line.overrides.message) == (3, "back soon")
    [joined] = played.book.join("launch", Known(3, 7), [JoinRequest("b" * 16, 2.0)], played.now_ms)
    assert joined.generation == 3
    assert joined.number > 7


def test_a_record_that_is_not_the_last_word_gives_nothing_to_whom_it_called():
    """An older copy has a turn open whose slot may be somebody else's since: until the roll is over nobody gets in."""
    played = Played()
    [joined] = played.book.join("launch", played.known, [JoinRequest("a" * 16, 2.0)], played.now_ms)
    assert list(played.tick(joined.number).called) == [1]
    played.restart(room(**TIMES), 1, trusted=False)
    [claimed] = played.book.claim("launch", played.known, [(1, 2.0)], played.now_ms)
    assert (claimed.end_ms, claimed.gone) == (0, False)
    assert played.line.snapshot(played.now_ms).standing(1) != GONE
