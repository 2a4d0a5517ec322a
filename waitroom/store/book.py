"""The book of all rooms: what every store does, whatever it keeps its record in.

One call is one step. A store adds the rest around it: when a step counts as done, and what survives. Three things are
judged here and nowhere else.

*Whether the counter can be trusted.* A record that is missing although the room has run, or smaller than what a worker
issued or saw signed, begins a fresh series: no number is given twice, whatever was lost. A record of a smaller
generation than a signed one adopts that one. What had run is in the note beside the key file (``store/notes.py``).

*What is drawn.* The seed of each event's draw is made when the event is first known, and kept before its commitment is
shown. At the start the list is closed, in the step that finds that it is late; the places are then dealt in slices,
between the steps, and all take effect in one.

*What was said over the configuration.* An operator's words, and the origin's, stay until they are cleared.
"""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from waitroom.core import draw, lasting, schedule
from waitroom.core.queueing import MINUTE_MS, Claimed, Line
from waitroom.model import Overrides, Phase, QueueingMethod
from waitroom.ports import Drawn, Entry, Status, Ticked
from waitroom.store.notes import RoomNote

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence

    from waitroom.core.draw import JoinList, Order
    from waitroom.core.lasting import Kept
    from waitroom.core.queueing import Joined, JoinRequest, Snapshot
    from waitroom.model import Opening, Pass, Room
    from waitroom.ports import Known, Lead, Ledger, Noted
    from waitroom.store.notes import Notes

AROUND_EVERY_MS = 10_000
"""How often the ledger is told how many requests went around a room by one rule: a line for each would be a flood."""

AROUND_WORKERS_MAX = 1_000
"""Workers, past ones too, of which it is remembered what they said."""

RULE_CHARS_MAX = 500
"""As much of a rule as the ledger states: a line of it is never long."""

NOTE_EVERY_MS = 5_000
"""How often the note is written while a room is used; what it states therefore holds for so long."""

ROLL_MS = 1_000
"""After a moment in which nobody could be heard, what the workers noted meanwhile has so long to come in."""

LOG_MAX = 200
"""How much of what was said to a room is remembered."""

LINE = "line"
"""Said of a method: the configured one where that is a line, with an order or without, else ``fifo``."""

_PHASES = {
    Phase.PREQUEUE: "people gather",
    Phase.OPEN: "the line opens",
    Phase.ENDED: "the line ends",
    Phase.DROPPED: "is in the configuration no more",
}
"""What the log says of an event."""

PEOPLE_MAX = 10_000_000
MESSAGE_CHARS_MAX = 500
NOT_BUILT = ("admission", "admission_floor_per_minute")


CHANCE_BYTES = 16
"""For one of any number of people: so many that nobody is more likely than another by anything that could be seen."""

SLICES_A_TICK = 40
"""How much of a draw one tick deals: 800,000 lots, well within what a worker waits for its tick."""


@dataclass(slots=True)
class _Deal:
    """A draw that is being dealt; ``order`` is None until it is done."""

    drawn: JoinList
    work: Generator[None, None, Order]
    order: Order | None = None


class Book:
    """Every room's line. ``kept`` is what an earlier process left, ``trusted`` whether that is surely its last word.

    ``at_ms`` is when it was kept; ``assume_ran``: a room without a record or a note is taken for one that has run.
    ``watched``: the lines remember what changes, for a store that keeps it; what is to be noted then waits for
    ``note_kept``, because a note that says more than the record makes a successor doubt the record. ``ahead_ms`` is how
    far the wall clock is ahead of store time: the times of events are read by it. ``chance`` makes the
    seeds of draws, and draws whom a line without an order calls. ``ledger`` is told, where one is kept, what the record
    has kept.
    """

    def __init__(
        self,
        rooms: Sequence[Room],
        now_ms: int,
        notes: Notes | None = None,
        *,
        kept: Mapping[str, Kept] | None = None,
        trusted: bool = True,
        at_ms: int = 0,
        assume_ran: bool = False,
        watched: bool = False,
        ahead_ms: int = 0,
        chance: Callable[[int], bytes] = secrets.token_bytes,
        ledger: Ledger | None = None,
    ) -> None:
        self._chance = chance
        self._ledger = ledger
        self._entries: list[Entry] = []
        self._limits: dict[str, dict[str, Any]] = {}
        self._around: dict[tuple[str, str, str], int] = {}
        self._around_said: dict[tuple[str, str, str], int] = {}
        self._around_known: dict[tuple[str, str], dict[tuple[str, str], int]] = {}
        self._deals: dict[str, _Deal] = {}
        self._withdrawn: dict[tuple[str, str], bytes] = {}
        self._notes = notes
        self._noted: dict[str, RoomNote] = dict(notes.read()) if notes else {}
        self._note_due_ms = 0
        self._kept = dict(kept or {})
        self._trusted = trusted
        self._at_ms = at_ms
        self._assume_ran = assume_ran
        self._watched = watched
        self._extended: dict[tuple[str, str], int] = {}
        self._note_owed = False
        self.lines: dict[str, Line] = {}
        self.logs: dict[str, list[dict[str, Any]]] = {}
        self.renewed: set[str] = set()
        self.configure(rooms, now_ms, ahead_ms=ahead_ms)

    def configure(self, rooms: Sequence[Room], now_ms: int, *, ahead_ms: int = 0) -> None:
        """Go on with these settings. A room that is named no more is kept, for workers that still serve it."""
        for room in rooms:
            line = self.lines.get(room.name)
            if line is None:
                self._put(room.name, self._open(room, now_ms, ahead_ms))
            else:
                line.readings = schedule.read(room.events, line.readings, ahead_ms, reloaded_ms=now_ms)
                line.configure(room, line.overrides, now_ms)
            self._commit(room, now_ms)
            self._say_limits(self.lines[room.name], now_ms)

    # -- steps: see ``ports.Store`` --------------------------------------------------------------------------------

    def join(self, room: str, known: Known, requests: Sequence[JoinRequest], now_ms: int) -> list[Joined]:
        """Give numbers."""
        line = self._meet(room, known, now_ms)
        issued, admitted = line.issued, line.admitted
        joined = line.join(requests, now_ms)
        if line.admitted != admitted:
            self._say_joined(line, joined, issued, admitted, now_ms)
        self._note_if_new(room, (one.end_ms for one in joined), now_ms)
        return joined

    def claim(
        self,
        room: str,
        known: Known,
        numbers: Sequence[tuple[int, float]],
        now_ms: int,
        visitors: Sequence[str] = (),
    ) -> list[Claimed]:
        """Trade called numbers for slots."""
        line = self._meet(room, known, now_ms)
        if known.generation != line.generation:
            return [Claimed(number, gone=True) for number, _ in numbers]
        claimed = []
        holders = [*visitors, *[""] * (len(numbers) - len(visitors))]
        for (number, silence_s), visitor in zip(numbers, holders, strict=True):
            admitted = line.admitted
            claimed.append(line.claim(number, now_ms, now_ms + int(silence_s * 1000)))
            if line.admitted != admitted:
                self._say_admitted(line, now_ms, number, visitor, {"nth": line.admitted, "by": "claim"})
        self._note_if_new(room, (one.end_ms for one in claimed), now_ms)
        return claimed

    def leave(self, room: str, known: Known, numbers: Sequence[int], now_ms: int) -> None:
        """Give up places and slots."""
        line = self._meet(room, known, now_ms)
        if known.generation == line.generation:
            for number in numbers:
                line.leave(number, now_ms)

    def look_up(self, room: str, known: Known, passes: Sequence[Pass], now_ms: int) -> list[int]:
        """Return the ends that are held, sliding what is held still."""
        line = self._meet(room, known, now_ms)
        if known.generation != line.generation:
            return [0] * len(passes)
        return [
            line.renew(one.number, one.admitted_ms, one.end_ms, now_ms)
            if line.held_end_ms(one.number, now_ms) > line.clock_ms(now_ms)
            else 0
            for one in passes
        ]

    def tick(self, room: str, known: Known, noted: Noted, lead: Lead, now_ms: int) -> Ticked:
        """Take in what was noted, let time pass; call, if ``lead`` holds the lead."""
        line = self._meet(room, known, now_ms)
        self._take_deal(line, now_ms)
        if known.generation == line.generation and noted.generation in (0, line.generation):
            line.hear(noted.heard, now_ms)
            for used in noted.used:
                end_ms = used.end_ms + max(0, line.stood_ms - used.stood_ms)
                line.renew(used.number, used.admitted_ms, end_ms, now_ms)
            for number, by_ms in self._unextended(room, noted, lead.worker):
                line.extend(number, by_ms, now_ms)
            self._hear_origin(room, noted, now_ms)
        line.sweep(now_ms)
        term = line.lead(lead.worker, now_ms, resign=lead.budget < 0)
        fenced = not term or lead.term not in (0, term) or lead.serving != line.serving
        called = [] if fenced else line.call(lead.budget, now_ms, self._below)
        self._count_around(room, noted, lead.worker, now_ms)
        self.note(now_ms)
        return Ticked(called, line.snapshot(now_ms), term)

    def deal(self, room: str) -> bool:
        """Do a slice of what is left of a draw. Return whether anything is left; it takes effect with the next tick.

        This is no step: nothing of the record changes, and others may come between.
        """
        line = self.lines[room]
        if line.draw is None or not line.to_deal:
            return False
        under_way = self._deals.get(room)
        if under_way is None or under_way.drawn is not line.draw:
            found = line.draw
            work = draw.deal(found.seed, found.digest, tuple(found.series))
            under_way = self._deals[room] = _Deal(found, work)
        if under_way.order is None:
            try:
                next(under_way.work)
            except StopIteration as done:
                under_way.order = done.value
        return under_way.order is None

    def drawn(self, room: str) -> Drawn | None:
        """Return a draw as it can be published for everybody to check; None unless its places are dealt."""
        line = self.lines[room]
        if line.draw is None or line.order is None:
            return None
        found = line.draw
        return Drawn(
            room, found.shown(), bytes(found.tickets), found.lost, found.lost_digest.hex(), line.order.ranks.tobytes()
        )

    def snapshot(self, room: str, now_ms: int) -> Snapshot:
        """Return the present view."""
        return self._on_time(room, now_ms).snapshot(now_ms)

    def operate(self, room: str, verbs: Mapping[str, Any], who: str, now_ms: int) -> None:
        """Do what an operator says. Raises ``ValueError`` with a sentence, and then nothing was done."""
        line = self._on_time(room, now_ms)
        verbs = dict(verbs)
        reset, clear = verbs.pop("reset", None), verbs.pop("clear", None)
        said = Overrides() if clear else line.overrides
        if clear:  # what the origin has in stock is no operator's word
            said = replace(said, stock=line.overrides.stock, stock_version=line.overrides.stock_version)
        judged: dict[str, Any] = {
            name: _line_method(line) if (name, value) == ("queueing_method", LINE) else _judged(name, value)
            for name, value in verbs.items()
        }
        said = replace(said, **judged)
        if not (reset or clear or verbs):
            raise ValueError("says nothing; name what is to change")
        line.configure(line.configured, said, now_ms)
        if reset:
            self._reset(room, now_ms, keep_inside=reset == "keep_inside")
        did = ["clear"] if clear else []
        did += ["reset, keeping those inside" if reset == "keep_inside" else "reset"] if reset else []
        did += [f"{name} = {value}" for name, value in verbs.items()]
        self._log(room, who, ", ".join(did), now_ms)
        self._say_limits(self.lines[room], now_ms)

    def status(self, room: str, now_ms: int) -> Status:
        """Return a room as an operator sees it."""
        line = self.lines[room]
        resting_ms = max(0, line.rests_until_ms - now_ms)
        facts = {
            "state": line.state(now_ms),
            "final": line.overrides.final,
            "generation": line.generation,
            "serving": line.serving,
            "issued": line.issued,
            "waiting": line.present,
            "silent": line.silent,
            "inside": line.inside,
            "called": line.called,
            "total_active_users": line.room.total_active_users,
            "new_users_per_minute": line.room.new_users_per_minute,
            "admitted_last_minute": line.admissions.in_minute(now_ms),
            "joined_total": line.joined,
            "called_total": line.calls,
            "admitted_total": line.admitted,
            "overtakings_total": line.overtakings,
            "cap_exceeded_total": line.cap_exceeded,
            "rests_s": resting_ms / 1000,
            "event": line.opening.event if line.opening and line.opening.phase is not Phase.DROPPED else None,
            "opens_s": line.opens_ms(now_ms) / 1000 if line.opens_ms(now_ms) else None,
            "draws": [asdict(one) for one in line.draws],
            "stock": line.overrides.stock,
            "message": line.overrides.message,
            "said": {
                one.name: value
                for one in fields(Overrides)
                if (value := getattr(line.overrides, one.name)) != one.default and one.name != "stock_version"
            },
            "leader": line.leader if now_ms < line.leads_until_ms else None,
            "term": line.term,
            "at_ms": now_ms,
        }
        return Status(room, facts, tuple(self.logs.get(room, ())))

    def remember(self, logs: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """Put back what was said to the rooms, before what was said since.

        Lines of a record that did not number them are numbered by their time.
        """
        for room, log in logs.items():
            self.logs[room] = [*({"seq": line["at_ms"], **line} for line in log), *self.logs.get(room, ())]

    def resume(self, still_ms: int, now_ms: int) -> None:
        """Go on after ``still_ms`` in which nobody could be heard: every clock stood still."""
        for line in self.lines.values():
            _resume(line, still_ms, now_ms)

    def note(self, now_ms: int, *, at_once: bool = False) -> None:
        """Note what a successor must know, should this process end at any moment until the next time."""
        if self._notes is None or not (at_once or now_ms >= self._note_due_ms or self._outgrown()):
            return
        if self._watched:
            self._note_owed = True
        else:
            self._write_note(now_ms)

    def note_kept(self, now_ms: int) -> None:
        """Write the note that is owed, and the ledger: everything has been kept."""
        if self._entries and self._ledger is not None:
            entries, self._entries = self._entries, []
            self._ledger.write(entries)
        if self._note_owed:
            self._note_owed = False
            self._write_note(now_ms)

    def settle(self, now_ms: int) -> None:
        """Tell the ledger what was only counted so far, for this is the end."""
        self._say_around(now_ms, at_once=True)

    # -- how ---------------------------------------------------------------------------------------------------------

    def _say(self, kind: str, room: str, facts: Mapping[str, Any], now_ms: int, visitor: str = "") -> None:
        """Have the ledger told of something, once that is kept."""
        if self._ledger is None:
            return
        self._entries.append(Entry(kind, now_ms, room, facts, visitor))
        if not self._watched:
            self.note_kept(now_ms)

    def _say_joined(self, line: Line, joined: Sequence[Joined], issued: int, admitted: int, now_ms: int) -> None:
        """Tell of those who went straight in: each has a new number. A repeat of one in the same step has the same."""
        new = {one.number: one for one in joined if one.end_ms and one.number > issued}
        for nth, one in enumerate(new.values(), admitted + 1):
            self._say_admitted(line, now_ms, one.number, one.visitor, {"nth": nth, "by": "join"})

    def _say_admitted(self, line: Line, now_ms: int, number: int, visitor: str, how: Mapping[str, Any]) -> None:
        """Tell of an admission, after the limits it was judged by; ``nth`` counts the room's, and shows any gap."""
        if self._ledger is not None:
            self._say_limits(line, now_ms)
            facts = {"generation": line.generation, "number": number, **how}
            self._say("admitted", line.room.name, facts, now_ms, visitor)

    def _say_limits(self, line: Line, now_ms: int) -> None:
        """Tell of the limits in force, when they are others than were told."""
        room = line.room
        if self._ledger is None:
            return
        limits = {
            "total_active_users": room.total_active_users,
            "new_users_per_minute": room.new_users_per_minute,
            "queueing_method": room.queueing_method,
            "bypasses": len(room.bypass),
        }
        if self._limits.get(room.name) != limits:
            self._limits[room.name] = limits
            self._say("limits", room.name, limits, now_ms)

    def _count_around(self, room: str, noted: Noted, worker: str, now_ms: int) -> None:
        """Count the requests that went around a room: what a worker says again is not counted again."""
        if self._ledger is None:
            return
        if noted.around:
            known = self._around_known.setdefault((room, worker), {})
            while len(self._around_known) > AROUND_WORKERS_MAX:
                del self._around_known[next(iter(self._around_known))]
            for why, (told, count) in noted.around.items():
                since = max(told, known.get(why, 0))
                known[why] = max(since, count)
                if more := known[why] - since:
                    self._around[room, *why] = self._around.get((room, *why), 0) + more
        self._say_around(now_ms)

    def _say_around(self, now_ms: int, *, at_once: bool = False) -> None:
        """Tell how many went around: the first by a rule at once, and what follows them together."""
        for why, count in list(self._around.items()):
            since_ms = self._around_said.get(why, 0)
            if not at_once and now_ms < since_ms + AROUND_EVERY_MS:
                continue
            del self._around[why]
            self._around_said[why] = now_ms
            room, reason, rule = why
            facts = {"reason": reason, "rule": rule[:RULE_CHARS_MAX], "count": count, "since_ms": since_ms}
            self._say("bypassed", room, {name: value for name, value in facts.items() if value}, now_ms)

    def _write_note(self, now_ms: int) -> None:
        assert self._notes is not None
        for name, line in self.lines.items():
            if line.issued >= line.base or line.generation > 1 or line.earlier or line.seeds:
                self._noted[name] = RoomNote(
                    line.issued,
                    self._rests_until_ms(line, now_ms),
                    line.generation,
                    line.opening.event if line.opening else "",
                    line.draw.record() if line.draw else None,
                    {event: seed.hex() for event, seed in line.seeds.items()},
                )
        if self._notes.write(self._noted):
            self._note_due_ms = now_ms + NOTE_EVERY_MS

    def _below(self, size: int) -> int:
        """Return a number from 0 to less than ``size``, by chance."""
        return int.from_bytes(self._chance(CHANCE_BYTES)) % size

    def _put(self, room: str, line: Line) -> None:
        if self._watched:
            lasting.watch(line)
        self.lines[room] = line
        self.renewed.add(room)

    def _open(self, room: Room, now_ms: int, ahead_ms: int) -> Line:
        """Return a room's line: the one that was kept, or one that knows that it may have forgotten."""
        kept, noted = self._kept.get(room.name), self._noted.get(room.name)
        line = None if kept is None else lasting.restore(room, kept)
        if line is None and noted is not None and not noted.ran and not self._assume_ran:
            line = Line(room, now_ms)
            line.readings, line.seeds = schedule.read(room.events, (), ahead_ms), _seeds(noted)
            return line
        readings = schedule.read(room.events, line.readings if line else (), ahead_ms)
        known, trusted = noted.issued if noted else 0, False
        if line is None or (noted and noted.generation > line.generation):
            # Where a reset was lost, what had been said to the room was not.
            overrides = line.overrides if line else None
            event = next((event for event in room.events if noted and event.name == noted.event), None)
            opening = schedule.begin(event, readings, now_ms) if event else None
            generation = noted.generation if noted else 1
            line = Line(room, now_ms, generation=generation, overrides=overrides, opening=opening)
            line.readings = readings
            if noted:
                line.seeds = _seeds(noted)
                line.draw = draw.JoinList.restore(noted.draw, None) if noted.draw else None
            if kept is None and noted is None and not self._assume_ran:
                return line
        else:
            line.readings = readings
            line.leader, line.leads_until_ms = "", 0
            known = known if noted and noted.generation == line.generation else 0
            trusted = self._trusted and known <= line.issued
            if not trusted and noted and noted.generation == line.generation:
                _catch_up(line, noted)
        if trusted:
            _resume(line, max(0, now_ms - self._at_ms), now_ms)
        else:
            line.begin_series(known, now_ms, rests_until_ms=noted.rests_until_ms if noted else None)
        line.configure(room, line.overrides, now_ms)  # the settings may hold the room now, or no longer
        return line

    def _meet(self, room: str, known: Known, now_ms: int) -> Line:
        """Return the room's line, after making sure that it is not behind what its caller knows."""
        line = self._on_time(room, now_ms)
        if known.generation > line.generation:
            found = self._next(line, known.generation, now_ms)
            found.begin_series(known.number, now_ms)
            self._put(room, found)
            self._log(room, "waitroom", f"generation {known.generation} adopted: the record had lost it", now_ms)
        elif known.generation == line.generation and known.number > line.issued:
            line.begin_series(known.number, now_ms)
            self._log(room, "waitroom", "a new series: the record had lost numbers", now_ms)
        return self.lines[room]

    def _on_time(self, room: str, now_ms: int) -> Line:
        """Return the room's line, after its events have come as far as it is late."""
        line = self._eventful(room, now_ms)
        opening = line.opening
        if line.draw is None or line.draw.closed or opening is None or opening.phase in (Phase.PREQUEUE, Phase.ENDED):
            return line
        # Also where the event was taken out of the file: who was promised a draw is not called in another order.
        line.draw.closed = True
        shown = line.draw.shown()
        did = f"the list of the draw is closed: {line.draw.count} on it, digest {shown.digest}, seed {shown.seed}"
        self._log(room, "waitroom", did, now_ms)
        self.note(now_ms, at_once=True)
        return line

    def _eventful(self, room: str, now_ms: int) -> Line:
        """Return the room's line, after the times of its events have had their effect."""
        line = self.lines[room]
        before = line.opening
        opening = schedule.step(line.configured.events, line.readings, before, now_ms)
        if opening is None or opening == before:
            return line
        if before is None or opening.begun_ms > before.begun_ms:
            # Another night, another line: what ended the last one, and what it sold, says nothing of this one.
            line.opening = opening
            line.overrides = replace(line.overrides, closed=False, final=False, stock=None, stock_version=0)
            self._reset(room, now_ms, keep_inside=True)
            line = self.lines[room]
            self._begin_list(line, opening, now_ms)
        if before is None or (before.event, before.begun_ms, before.phase) != (
            opening.event,
            opening.begun_ms,
            opening.phase,
        ):
            self._log(room, "waitroom", f"event {opening.event}: {_PHASES[opening.phase]}", now_ms)
        line.opening = opening
        line.configure(line.configured, line.overrides, now_ms)
        return line

    @staticmethod
    def _next(line: Line, generation: int, now_ms: int) -> Line:
        """Return a line of another generation, under the same settings, words and event."""
        found = Line(line.configured, now_ms, generation=generation, overrides=line.overrides, opening=line.opening)
        found.readings, found.seeds = line.readings, line.seeds
        if line.draw is not None and not line.draw.closed:  # what was committed to holds for who gathers anew
            found.draw = draw.JoinList.begin(line.room.name, line.draw.event, generation, line.draw.seed)
        return found

    def _begin_list(self, line: Line, opening: Opening, now_ms: int) -> None:
        """Begin the list of an event's draw, if its order is to be drawn and people gather for it."""
        event = next(event for event in line.configured.events if event.name == opening.event)
        seed = line.seeds.pop(event.name, None)
        line.draw = None
        if event.shuffle_at_event_start and opening.phase is Phase.PREQUEUE:
            seed = seed or self._chance(draw.SEED_BYTES)
            line.draw = draw.JoinList.begin(line.room.name, event.name, line.generation, seed)
            self.note(now_ms, at_once=True)

    def _commit(self, room: Room, now_ms: int) -> None:
        """Have a seed for the draw of every event to come, and for no other; an event that runs has its own."""
        line = self.lines[room.name]
        ahead_ms = {one.event: one.ahead_ms for one in line.readings}
        runs = line.opening.event if line.opening and line.opening.phase in (Phase.PREQUEUE, Phase.OPEN) else ""
        seeds = {
            event.name: line.seeds.get(event.name)
            or self._withdrawn.pop((room.name, event.name), None)
            or self._chance(draw.SEED_BYTES)
            for event in room.events
            if event.shuffle_at_event_start
            and event.name != runs
            # One that is late to begin, because nobody ran or none of its steps came yet, begins with its seed.
            and (event.end_time_ms if event.name in line.seeds else event.begin_ms) - ahead_ms[event.name] > now_ms
        }
        if seeds == line.seeds:
            return
        # A file that is refused after all, or mended, brings its events back: what was committed to holds then too.
        self._withdrawn |= {(room.name, event): seed for event, seed in line.seeds.items() if event not in seeds}
        for event, seed in seeds.items():
            if event not in line.seeds:
                did = f"event {event} will be drawn: commitment {draw.commitment(seed)}"
                self._log(room.name, "waitroom", did, now_ms)
        line.seeds = seeds
        self.note(now_ms, at_once=True)

    def _take_deal(self, line: Line, now_ms: int) -> None:
        """Let the places of a draw take effect, once all are dealt."""
        under_way = self._deals.get(line.room.name)
        if under_way is None or under_way.order is None:
            return
        del self._deals[line.room.name]
        if under_way.drawn is line.draw:
            line.deal(under_way.order, now_ms)
            self._log(line.room.name, "waitroom", f"{under_way.drawn.count} places are dealt", now_ms)

    def _reset(self, room: str, now_ms: int, *, keep_inside: bool) -> None:
        """End the line and the passes, and begin a generation; what was admitted in the last minute still counts."""
        old = self.lines[room]
        line = self._next(old, old.generation + 1, now_ms)
        line.admissions = old.admissions
        line.assumed_until_ms = old.assumed_until_ms
        line.still_since_ms = old.still_since_ms
        for name in ("leader", "term", "leads_until_ms", "calls", "admitted", "joined", "overtakings", "cap_exceeded"):
            setattr(line, name, getattr(old, name))
        if keep_inside:
            line.former = {(old.generation, number): end_ms for number, end_ms in old.ends().items()} | old.former
        self._put(room, line)

    def _unextended(self, room: str, noted: Noted, worker: str) -> Sequence[tuple[int, int]]:
        """Return the extensions that were not added before: an answer that failed may have been done all the same."""
        before = noted.extended_before
        if before is None or not noted.extended:
            return noted.extended
        done = self._extended.get((room, worker), 0)
        self._extended[room, worker] = max(done, before + len(noted.extended))
        return noted.extended[max(0, done - before) :]

    def _hear_origin(self, room: str, noted: Noted, now_ms: int) -> None:
        """Take in what the origin says of its stock, and of the line's end."""
        line = self.lines[room]
        said = line.overrides
        if (stock := noted.stock) is not None and (stock.version is None or stock.version >= said.stock_version):
            said = replace(said, stock=stock.count, stock_version=stock.version or said.stock_version)
        if noted.ended is not None:
            said = replace(
                said, closed=said.closed or noted.ended == "close", final=said.final or noted.ended != "close"
            )
        if said != line.overrides:
            if (said.closed, said.final, said.sold_out) != (
                line.overrides.closed,
                line.overrides.final,
                line.overrides.sold_out,
            ):
                self._log(room, "origin", noted.ended or f"stock = {said.stock}", now_ms)
            line.configure(line.configured, said, now_ms)

    def _log(self, room: str, who: str, did: str, now_ms: int) -> None:
        log = self.logs.setdefault(room, [])
        last = max((said[-1]["seq"] for said in self.logs.values() if said), default=0)
        # Not only counted: after a record that was lost, later lines still have larger numbers.
        log.append({"at_ms": now_ms, "seq": max(now_ms, last + 1), "who": who, "did": did})
        del log[:-LOG_MAX]
        self._say("acted", room, {"who": who, "did": did}, now_ms)

    def _note_if_new(self, room: str, ends_ms: Iterable[int], now_ms: int) -> None:
        """Note at once the first number of a series, and a pass that ends later than the note allows for."""
        noted, line = self._noted.get(room), self.lines[room]
        if (
            noted is None
            or noted.issued < line.base <= line.issued
            or noted.generation < line.generation
            or (line.draw is not None and line.draw.record() != noted.draw)
            or any(end_ms > noted.rests_until_ms for end_ms in ends_ms)
        ):
            self.note(now_ms, at_once=True)

    def _outgrown(self) -> bool:
        """Whether a pass is out, or somebody was told to be away, for longer than the note allows for."""
        return any(
            max(line.passes_end_ms, line.asks_by_ms) > (self._noted[name].rests_until_ms if name in self._noted else 0)
            for name, line in self.lines.items()
        )

    @staticmethod
    def _rests_until_ms(line: Line, now_ms: int) -> int:
        """Until when a successor lets nobody in: 0 when nobody is inside, in line, or was in the last minute."""
        until_ms = line.rests_until_ms if line.rests_until_ms > now_ms else 0
        if line.asks_by_ms:
            until_ms = max(until_ms, line.asks_by_ms + NOTE_EVERY_MS)
        if line.passes_end_ms or line.admissions.in_minute(now_ms):
            longest_ms = max(int(line.room.session_duration_s * 1000), MINUTE_MS)
            until_ms = max(until_ms, line.passes_end_ms, now_ms + NOTE_EVERY_MS + longest_ms)
        return until_ms


def _line_method(line: Line) -> QueueingMethod | None:
    """Return what to say over the method of ``line`` so that it is one."""
    configured = line.configured.during(line.opening).queueing_method
    return None if configured in (QueueingMethod.FIFO, QueueingMethod.RANDOM) else QueueingMethod.FIFO


def _seeds(noted: RoomNote) -> dict[str, bytes]:
    return {event: bytes.fromhex(seed) for event, seed in noted.seeds.items()}


def _catch_up(line: Line, noted: RoomNote) -> None:
    """Let the draw of a record that is an older copy be as far as the note knows that it was."""
    line.seeds = _seeds(noted)
    if noted.draw is None or line.order is not None:
        return
    later = draw.JoinList.restore(noted.draw, None)
    if line.draw is None or (later.closed, later.count) > (line.draw.closed, line.draw.count):
        line.draw = later


def _resume(line: Line, still_ms: int, now_ms: int) -> None:
    line.stand(still_ms, unheard=True)
    if line.present or line.called:
        line.rolls_until_ms = max(line.rolls_until_ms, now_ms + ROLL_MS)


def _switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is neither true nor false")  # noqa: TRY004 - one kind of error for what was said wrongly
    return value


def _people(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= PEOPLE_MAX:
        raise ValueError(f"{value!r} is no number of people; write 1 to {PEOPLE_MAX}")
    return value


def _stock(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= PEOPLE_MAX:
        raise ValueError(f"{value!r} is no stock; write 0 to {PEOPLE_MAX}")
    return value


def _method(value: object) -> QueueingMethod:
    try:
        return QueueingMethod(str(value))
    except ValueError:
        raise ValueError(f"{value!r} is not among the choices; write {', '.join(QueueingMethod)}") from None


def _message(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MESSAGE_CHARS_MAX or not value.isprintable():
        raise ValueError(f"a message is one line of 1 to {MESSAGE_CHARS_MAX} printable characters")
    return value


_JUDGES: Mapping[str, Callable[[object], object]] = {
    "queue_all": _switch,
    "suspended": _switch,
    "closed": _switch,
    "final": _switch,
    "new_users_per_minute": _people,
    "total_active_users": _people,
    "queueing_method": _method,
    "stock": _stock,
    "message": _message,
}


def _judged(name: str, value: object) -> object:
    """Return the value for a field of ``Overrides``; null goes back to the configuration."""
    if name in NOT_BUILT:
        raise ValueError(f"{name}: is not built yet")
    judge = _JUDGES.get(name)
    if judge is None:
        raise ValueError(f"{name}: is no setting that can be said over; known are {', '.join(_JUDGES)}")
    if value is None:
        return False if name in ("closed", "final") else None
    try:
        return judge(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
