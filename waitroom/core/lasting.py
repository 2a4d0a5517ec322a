"""What of a line must outlast the process, as plain bytes and numbers.

A line changes in a few places at a time, so what is kept is a *journal* of changed numbers, fourteen bytes each, and
now and then a *chunk* whole. Each piece is stamped with the count of commits it came with: a chunk's own stamp says
which entries of the journal it already contains. Slots and open turns are kept as rows of their own, and everything
that is one number or a short list, in the *header*.

What is not kept follows from what is: the tallies, who returns next. Two things are put back on the safe side. People
counted as returned are counted only for numbers given out from now on, so *ahead* never rises; and the claims of the
last second count as made at its end.
"""

from __future__ import annotations

import struct
from array import array
from bisect import insort
from dataclasses import asdict, dataclass, field
from heapq import heapify
from typing import TYPE_CHECKING, Any

from waitroom.core import draw as lots
from waitroom.core.queueing import (
    BACK,
    CALLED,
    CHUNK,
    GONE,
    INSIDE,
    INVITE_KEY,
    MASK,
    MEMBER_KEY,
    NEW,
    NONE,
    RETURNER,
    SHIFT,
    Inside,
    Joined,
    Line,
    _Chunk,
)
from waitroom.core.schedule import Reading
from waitroom.model import Opening, Overrides, Phase, QueueingMethod

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from collections.abc import Set as AbstractSet

    from waitroom.model import Room

ENTRY = struct.Struct("<QBBI")
"""One changed number: the number, its standing, the offers it missed in a row, its due time."""

MISSES_KEPT_MAX = 255

UNTIL_FORGOTTEN_MS = 2**53
"""What is remembered until a line says that it is not."""


@dataclass(frozen=True, slots=True)
class Slot:
    """An open turn (``admitted_ms`` 0) or a slot in use."""

    number: int
    admitted_ms: int
    end_ms: int
    stood_ms: int = 0


@dataclass(frozen=True, slots=True)
class Repeat:
    """What an ``Idempotency-Key``, an invite or an account was answered, and until when that is remembered."""

    key: str
    until_ms: int
    number: int
    visitor: str
    joined_ms: int
    ahead: int | None


@dataclass(frozen=True, slots=True)
class WholeChunk:
    """A chunk as it stands; both None when it was forgotten."""

    standing: bytes | None
    due: bytes | None
    misses: Mapping[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class Changes:
    """What of one line is to be kept anew."""

    header: dict[str, Any]
    entries: bytes = b""
    chunks: dict[int, WholeChunk] = field(default_factory=dict)
    slots: list[Slot] = field(default_factory=list)
    freed: list[int] = field(default_factory=list)
    repeats: list[Repeat] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    """Keys of ``repeats`` that are kept, and are to be no more."""

    listed: tuple[int, bytes] | None = None
    """What a draw's list has more than is kept of it: from which position, and the hashes of the tickets."""


@dataclass(slots=True)
class Kept:
    """One line as it was kept: ``chunks`` with their stamps, ``journal`` as (stamp, entries) in order."""

    header: Mapping[str, Any]
    chunks: Mapping[int, tuple[int, WholeChunk]] = field(default_factory=dict)
    journal: Iterable[tuple[int, bytes]] = ()
    slots: Iterable[Slot] = ()
    repeats: Iterable[Repeat] = ()
    tickets: bytes = b""


def watch(line: Line) -> None:
    """Have ``line`` remember what changes from now on."""
    line.touched = set()


def header(line: Line) -> dict[str, Any]:
    """Return everything of a line that is one number or a short list."""
    return {
        "generation": line.generation,
        "base": line.base,
        "issued": line.issued,
        "serving": line.serving,
        "earlier": [list(series) for series in line.earlier],
        "born_ms": line._born_ms,
        "lost_ms": line._lost_ms,
        "assumed_until_ms": line.assumed_until_ms,
        "rolls_until_ms": line.rolls_until_ms,
        "stood_ms": line.stood_ms,
        "still_since_ms": line.still_since_ms,
        "asks_by_ms": line._asks_by_ms,
        "former": [[generation, number, end_ms] for (generation, number), end_ms in line.former.items()],
        "leader": line.leader,
        "term": line.term,
        "leads_until_ms": line.leads_until_ms,
        "calls": line.calls,
        "admitted": line.admitted,
        "joined": line.joined,
        "overtakings": line.overtakings,
        "cap_exceeded": line.cap_exceeded,
        "admissions": [list(bucket) for bucket in line.admissions.record()],
        "overrides": asdict(line.overrides),
        "opening": None if line.opening is None else asdict(line.opening),
        "readings": [asdict(reading) for reading in line.readings],
        "seeds": {event: seed.hex() for event, seed in line.seeds.items()},
        "invited_credit": line.invited_credit,
        "invites_used": line.invites_used,
        "draw": None if line.draw is None else line.draw.record() | {"dealt": line.order is not None},
    }


def changes(line: Line, slots_kept: AbstractSet[int], chunks: Iterable[int] = ()) -> Changes:
    """Return what changed in ``line`` since it was last ``settled``; ``chunks`` whole, changed or not.

    ``slots_kept`` are the numbers whose slots or turns are kept so far.
    """
    touched = line.touched or set()
    found = Changes(header(line))
    whole = line.touched_chunks.union(chunks)
    misses_of: dict[int, dict[int, int]] = {}
    for number, count in line._misses.items() if whole else ():
        misses_of.setdefault(number >> SHIFT, {})[number] = min(count, MISSES_KEPT_MAX)
    for chunk_id in whole:
        found.chunks[chunk_id] = _whole(line, chunk_id, misses_of.get(chunk_id, {}))
    entries = bytearray()
    for number in touched:
        chunk_id = number >> SHIFT
        chunk = line._chunks.get(chunk_id)
        if chunk is not None and chunk_id not in whole:
            misses = min(line._misses.get(number, 0), MISSES_KEPT_MAX)
            entries += ENTRY.pack(number, chunk.standing[number & MASK], misses, chunk.due[number & MASK])
        if (slot := _slot(line, number)) is not None:
            found.slots.append(slot)
        elif number in slots_kept:
            found.freed.append(number)
    found.entries = bytes(entries)
    found.repeats = [_repeat(key, *line._repeats[key]) for key in line.touched_keys if key in line._repeats]
    invites = (key.removeprefix(INVITE_KEY) for key in line.touched_keys if key.startswith(INVITE_KEY))
    found.repeats += [_repeat(INVITE_KEY + one, *line.invites[one]) for one in invites if one in line.invites]
    members = [key.removeprefix(MEMBER_KEY) for key in line.touched_keys if key.startswith(MEMBER_KEY)]
    found.repeats += [
        _repeat(MEMBER_KEY + one, UNTIL_FORGOTTEN_MS, line.members[one]) for one in members if one in line.members
    ]
    found.forgotten = [MEMBER_KEY + one for one in members if one not in line.members]
    if line.draw is not None and line.draw.kept < line.draw.count:
        kept = max(line.draw.kept, line.draw.lost)
        found.listed = (kept, bytes(line.draw.tickets[(kept - line.draw.lost) * lots.TICKET_BYTES :]))
    return found


def settled(line: Line) -> None:
    """Know that what changed has been kept."""
    line.touched = set()
    line.touched_chunks.clear()
    line.touched_keys.clear()
    if line.draw is not None:
        line.draw.kept = line.draw.count


def everything(line: Line) -> None:
    """Take all of ``line`` for changed, for a record that begins anew."""
    line.touched = {*line._turns, *line._inside}
    line.touched_chunks.update(line._chunks)
    line.touched_keys.update(line._repeats, (INVITE_KEY + invite for invite in line.invites))
    line.touched_keys.update(MEMBER_KEY + one for one in line.members)
    if line.draw is not None:
        line.draw.kept = 0


def has_changed(line: Line) -> bool:
    """Whether a number, a chunk or a key has changed; the header is for its keeper to compare."""
    return bool(line.touched or line.touched_chunks or line.touched_keys)


def is_busy(line: Line) -> bool:
    """Whether time matters to somebody here: they wait, were called, or are inside."""
    return bool(line.present or line.called or line.inside)


def restore(room: Room, kept: Kept) -> Line:
    """Return the line that was kept, under the settings of ``room``."""
    head = kept.header
    line = Line(
        room,
        head["born_ms"],
        generation=head["generation"],
        base=head["base"],
        overrides=_overrides(head["overrides"]),
        opening=_opening(head.get("opening")),
    )
    line.readings = tuple(Reading(**reading) for reading in head.get("readings", ()))
    line.admissions.restore((bucket, count) for bucket, count in head["admissions"])
    for name in [
        "issued",
        "serving",
        "assumed_until_ms",
        "rolls_until_ms",
        "stood_ms",
        "still_since_ms",
        "leader",
        "term",
        "leads_until_ms",
        "calls",
        "admitted",
        "joined",
        "overtakings",
        "cap_exceeded",
    ]:
        setattr(line, name, head[name])
    line._lost_ms = head["lost_ms"]
    line._asks_by_ms = head["asks_by_ms"]
    line.earlier = [(first, last) for first, last in head["earlier"]]
    line.former = {(generation, number): end_ms for generation, number, end_ms in head["former"]}
    line.seeds = {event: bytes.fromhex(seed) for event, seed in head.get("seeds", {}).items()}
    if (drawn := head.get("draw")) is not None:
        line.draw = lots.JoinList.restore(drawn, kept.tickets)
        line.order = lots.dealt(line.draw.seed, line.draw.digest, tuple(line.draw.series)) if drawn["dealt"] else None
    _fill(line, kept)
    _derive(line)
    for one in sorted(kept.repeats, key=lambda repeat: repeat.until_ms):  # they are forgotten in this order
        joined = Joined(one.number, one.visitor, one.joined_ms, one.ahead, generation=line.generation)
        if one.key.startswith(INVITE_KEY):
            line.invites[one.key.removeprefix(INVITE_KEY)] = (one.until_ms, joined)
        elif one.key.startswith(MEMBER_KEY):
            line.members[one.key.removeprefix(MEMBER_KEY)] = joined
        else:
            line._repeats[one.key] = (one.until_ms, joined)
    line.invited_credit, line.invites_used = head.get("invited_credit", 0), head.get("invites_used", 0)
    for _, joined in sorted(line.invites.values(), key=lambda used: used[1].ahead or 0):
        place = line._place(joined.number)
        if line._at(place) not in (NONE, INSIDE, GONE):
            line._invited[place] = None
    return line


def _fill(line: Line, kept: Kept) -> None:
    """Put the chunks back, and then whatever the journal says since each was kept."""
    stamps: dict[int, int] = {}
    for chunk_id, (stamp, whole) in sorted(kept.chunks.items()):
        stamps[chunk_id] = stamp
        if whole.standing is None or whole.due is None:
            continue
        chunk = _new_chunk(line, chunk_id)
        chunk.standing = bytearray(whole.standing)
        chunk.due = array("I", whole.due)
        line._misses.update(whole.misses)
    for stamp, entries in kept.journal:
        for number, standing, misses, due in ENTRY.iter_unpack(entries):
            chunk_id = number >> SHIFT
            if stamp <= stamps.get(chunk_id, -1):
                continue
            chunk = line._chunks.get(chunk_id) or _new_chunk(line, chunk_id)
            chunk.standing[number & MASK] = standing
            chunk.due[number & MASK] = due
            if misses:
                line._misses[number] = misses
            else:
                line._misses.pop(number, None)
    for slot in kept.slots:
        if slot.admitted_ms:
            line._inside[slot.number] = Inside(slot.admitted_ms, slot.end_ms, slot.stood_ms)
        else:
            line._turns[slot.number] = slot.end_ms


def _derive(line: Line) -> None:
    """Work out what follows from the standings."""
    for chunk_id, chunk in line._chunks.items():
        for standing in set(chunk.standing):
            count = chunk.standing.count(standing)
            line._tally[standing] += count
            chunk.live += count if NEW <= standing <= BACK else 0
            if standing not in (BACK, RETURNER):
                continue
            for index in range(CHUNK):
                if chunk.standing[index] == standing:
                    number = (chunk_id << SHIFT) + index
                    line._late[number] = line.issued
                    if standing == RETURNER:
                        line._returners.add(number)
    line._tally[0] = 0
    line._heap = list(line._returners)
    heapify(line._heap)
    line._in_heap = set(line._heap)
    _agree(line)


def _agree(line: Line) -> None:
    """Let no number be called or inside without its slot, nor the other way round: the caps count both."""
    for number in [*line._turns, *line._inside]:
        standing = INSIDE if number in line._inside else CALLED
        assert line._at(number) == standing, f"number {number} is kept as {line._at(number)} with a slot"
    assert line._tally[INSIDE] == len(line._inside)
    assert line._tally[CALLED] == len(line._turns)


def _new_chunk(line: Line, chunk_id: int) -> _Chunk:
    chunk = line._chunks[chunk_id] = _Chunk()
    insort(line._chunk_ids, chunk_id)
    return chunk


def _whole(line: Line, chunk_id: int, misses: Mapping[int, int]) -> WholeChunk:
    chunk = line._chunks.get(chunk_id)
    if chunk is None:
        return WholeChunk(None, None)
    return WholeChunk(bytes(chunk.standing), chunk.due.tobytes(), misses)


def _slot(line: Line, number: int) -> Slot | None:
    if (inside := line._inside.get(number)) is not None:
        return Slot(number, inside.admitted_ms, inside.end_ms, inside.stood_ms)
    end_ms = line._turns.get(number)
    return None if end_ms is None else Slot(number, 0, end_ms)


def _repeat(key: str, until_ms: int, joined: Joined) -> Repeat:
    return Repeat(key, until_ms, joined.number, joined.visitor, joined.joined_ms, joined.ahead)


def _opening(kept: Mapping[str, Any] | None) -> Opening | None:
    return None if kept is None else Opening(**{**kept, "phase": Phase(kept["phase"])})


def _overrides(said: Mapping[str, Any]) -> Overrides:
    method = said.get("queueing_method")
    return Overrides(**{**said, "queueing_method": None if method is None else QueueingMethod(method)})
