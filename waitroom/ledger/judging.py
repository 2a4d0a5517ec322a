"""What a whole ledger is worth: every line against the one before it, its seal, and what the lines say together.

Nothing is believed. A line is *altered* when its seal does not fit, *missing* when the numbers have a hole, *out of
order* when they go back, and something else stood before it when it does not name what does. A file sealed by a key
that is not at hand proves nothing by itself; a later line by a known key vouches for it, for that names, through all
between, each line before it. That the end is missing can only be seen by somebody who knows of a later line: an
*anchor*.

What the lines say is judged too, as far as lines can show it: both that nobody was let in twice, and that no minute had
more than the limit that was in force.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from waitroom.core.tokens import key_id
from waitroom.ledger import files, lines
from waitroom.ledger.files import Head

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

SAID_MAX = 50
"""How many things that are wrong are named; the rest are counted."""

MINUTE_MS = 60_000
PROGRESS_LINES = 100_000

NOT_PROVED = (
    "that nothing is missing at the end: compare it with a line you noted elsewhere (--anchor), as the log has them",
    "that whoever has the signing keys did not write all of it anew: only an anchor out of their reach shows it",
    "that everybody who was let in, or went around, is in it: it says what the proxy said of itself",
    "that people were called in order: who is called may come when they like",
)
"""What stays open when every line is right."""


@dataclass(slots=True)
class RoomCount:
    """What a ledger says of one room. ``most_in_a_minute`` is of any 60 seconds."""

    admitted: int = 0
    bypassed: int = 0
    acted: int = 0
    most_in_a_minute: int = 0


@dataclass(slots=True)
class Verdict:
    """What came of it. ``wrong`` has a sentence for each thing that is not as it should be; ``notes`` are none."""

    files: int = 0
    lines: int = 0
    first: Head = field(default_factory=Head)
    head: Head = field(default_factory=Head)
    since: str = ""
    until: str = ""
    kinds: Counter[str] = field(default_factory=Counter)
    rooms: dict[str, RoomCount] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unsaid: int = 0

    def blame(self, sentence: str) -> None:
        """Note what is wrong."""
        if len(self.wrong) < SAID_MAX:
            self.wrong.append(sentence)
        else:
            self.unsaid += 1


class Judge:
    """Reads the lines of one ledger in order. ``secrets`` are the signing keys at hand; None asks for no seal."""

    def __init__(self, secrets: Sequence[str] | None, anchors: Iterable[Head] = ()) -> None:
        self.verdict = Verdict()
        self._secrets = None if secrets is None else {key_id(secret): secret for secret in secrets}
        self._anchors = {anchor.seq: anchor.digest for anchor in anchors}
        self._met: set[int] = set()
        self._keys: lines.FileKeys | None = None
        self._unsealed: list[str] = []
        self._unvouched: list[str] = []
        self._last = Head()
        self._began = False
        self._doubtful = 0
        self._torn = ""
        self._closed = False
        self._dropped: Mapping[str, object] = {}
        self._sayings = _Sayings(self.verdict)

    def file(self, name: str, found: Iterable[bytes]) -> Iterator[int]:
        """Judge a file, and give how many lines that were from time to time."""
        self.verdict.files += 1
        self._keys = None
        at = 0
        for at, line in enumerate(found, 1):
            self._line(name, at, line)
            if not at % PROGRESS_LINES:
                yield at
        self.verdict.lines += at
        if not at:
            self.verdict.blame(f"{name} is empty")

    def end(self) -> Verdict:
        """Return what came of it, after the last file."""
        verdict, first = self.verdict, self.verdict.first
        if self._began and first.digest != lines.BEGINNING and not self._was_dropped(first):
            verdict.blame(f"what was before line {first.seq} is missing, and no line says that it was dropped")
        if self._secrets is not None:
            for what in (*self._unvouched, *self._unsealed):
                verdict.blame(f"{what}, which is none of yours, and no later line by one of yours vouches for it")
        for seq in sorted(set(self._anchors) - self._met):
            if seq > verdict.head.seq:
                missing = seq - verdict.head.seq
                verdict.blame(
                    f"the end was cut off: the anchor knows line {seq}, and {missing} lines up to it are missing"
                )
            elif seq < first.seq:
                verdict.notes.append(f"the anchor's line {seq} is older than what is kept, and says nothing of it")
            else:
                verdict.blame(f"the anchor knows line {seq}, and there is none")
        if not self._began:
            verdict.blame("there is no line")
        elif not self._closed:
            if self._torn:
                verdict.notes.append(self._torn)
            verdict.notes.append("the last file is not closed: it is being written, or its process was killed")
        self._sayings.end()
        return verdict

    # -- how ---------------------------------------------------------------------------------------------------------

    def _line(self, name: str, at: int, whole: bytes) -> None:
        verdict, line = self.verdict, whole.rstrip(b"\n")
        self._end_torn()
        where = f"{name}, line {at}"
        if not whole.endswith(b"\n"):
            self._torn = f"{where} is torn: it has no end"
            return
        read = lines.read(line)
        if read is None:
            verdict.blame(f"{where} was altered: it is no line of a ledger")
            self._doubtful += 1
            return
        where = f"{where} (seq {read.seq})"
        self._judge_beginning(where, name, at, read)
        found = Head(read.seq, lines.digest(line))
        self._judge_anchor(where, found)
        if self._keys is not None and not read.fits(self._keys):
            verdict.blame(f"{where} was altered: its seal does not fit")
            self._doubtful += 1
            return
        if not self._judge_place(where, read) or self._doubtful:
            self._unvouched += self._unsealed
            self._unsealed = []
        elif self._keys is not None:
            self._vouch()
        self._last = verdict.head = found
        self._doubtful = 0
        verdict.since = verdict.since or str(read.facts["at"])
        verdict.until = str(read.facts["at"])
        verdict.kinds[read.kind] += 1
        self._closed = read.kind == "closed"
        if read.kind == "dropped":
            self._dropped = read.facts
        self._sayings.hear(where, read)

    def _end_torn(self) -> None:
        """Blame a torn line that another follows; at the very end it is only what a killed process leaves."""
        if self._torn:
            self.verdict.blame(self._torn)
            self._torn, self._doubtful = "", self._doubtful + 1

    def _judge_beginning(self, where: str, name: str, at: int, read: lines.Read) -> None:
        """Know by which key a file is sealed: its first line says so, and no other may."""
        if (at == 1) != (read.kind == "opened"):
            what = "is no beginning of a file" if at == 1 else "begins a file in the middle of one"
            self.verdict.blame(f"{where} {what}")
        if read.kind != "opened":
            return
        which, nonce = str(read.facts.get("key")), str(read.facts.get("nonce"))
        secret = (self._secrets or {}).get(which)
        self._keys = None if secret is None else lines.FileKeys.derive(secret, nonce)
        if self._keys is None:
            self._unsealed.append(f"{name} is sealed by the key {which}")

    def _judge_place(self, where: str, read: lines.Read) -> bool:
        """Judge a line against the last good one. Each doubtful line between may have been one, or put there."""
        last, wrong = self._last, ""
        if not self._began:
            self._began = True
            self.verdict.first = Head(read.seq, read.prev)
            if not self._doubtful and (read.seq == 1) != (read.prev == lines.BEGINNING):
                wrong = f"{where} is no beginning of a ledger"
        elif read.seq > last.seq + self._doubtful + 1:
            wrong = f"lines {last.seq + self._doubtful + 1} to {read.seq - 1} are missing before {where}"
        elif read.seq <= last.seq:
            wrong = f"{where} is out of order: it stands behind seq {last.seq}"
        elif read.prev != last.digest and not self._doubtful:
            wrong = f"{where} names another line before it than stands there: that was altered, or put there"
        if wrong:
            self.verdict.blame(wrong)
        return not wrong

    def _judge_anchor(self, where: str, found: Head) -> None:
        known = self._anchors.get(found.seq)
        if known is not None:
            self._met.add(found.seq)
            if not found.digest.startswith(known):
                self.verdict.blame(f"{where} is not the line that the anchor knows: the ledger was written anew")

    def _vouch(self) -> None:
        """Take a line by a known key, in its place, for what vouches for all that it follows."""
        if self._unsealed:
            self.verdict.notes += [f"{what}, which is retired; what follows vouches for it" for what in self._unsealed]
            self._unsealed = []

    def _was_dropped(self, first: Head) -> bool:
        """Whether the last file that is gone is the one before the first that is left."""
        return (first.seq - 1, first.digest) == (self._dropped.get("last_seq"), self._dropped.get("last_digest"))


class _Sayings:
    """What the lines say together."""

    def __init__(self, verdict: Verdict) -> None:
        self._verdict = verdict
        self._limits: dict[str, int] = {}
        self._nth: dict[str, int] = {}
        self._excused: set[str] = set()
        self._minutes: dict[str, deque[int]] = {}
        self._numbers: dict[tuple[str, object], set[object]] = {}
        self._crowded: dict[str, tuple[str, int, int]] = {}

    def hear(self, where: str, read: lines.Read) -> None:
        """Take in a line that is what it was."""
        facts = read.facts
        if read.kind == "opened" and facts.get("reason") == "start":
            self._excused = set(self._nth)
            self._numbers.clear()  # after a record that was lost, who had been let in may be let in again
        if read.kind == "gap":
            self._excused = set(self._nth)
            told = ", ".join(f"{name} {value}" for name, value in facts.items() if name not in _EVERY_LINE)
            self._verdict.notes.append(f"{where} states a gap: {told}")
        room = facts.get("room")
        if not isinstance(room, str):
            return
        count = self._verdict.rooms.setdefault(room, RoomCount())
        match read.kind:
            case "admitted":
                self._admitted(where, room, count, facts)
            case "bypassed":
                count.bypassed += _whole(facts, "count")
            case "acted":
                count.acted += 1
                if facts.get("who") == "waitroom":  # it may have adopted a generation, whose count begins anew
                    self._excused.add(room)
            case "limits":
                self._limits[room] = _whole(facts, "new_users_per_minute")
            case _:
                pass

    def end(self) -> None:
        """Say which limits did not hold, once a room."""
        for room, (where, found, limit) in self._crowded.items():
            self._verdict.blame(f"{room} let in {found} within a minute, and the limit was {limit}: first at {where}")

    def _admitted(self, where: str, room: str, count: RoomCount, facts: Mapping[str, object]) -> None:
        count.admitted += 1
        self._judge_count(where, room, _whole(facts, "nth"))
        number = facts.get("number")
        numbers = self._numbers.setdefault((room, facts.get("generation")), set())
        if number in numbers:
            self._verdict.blame(f"{where} lets number {number} of {room} in a second time")
        numbers.add(number)
        at_ms, minute = _whole(facts, "at_ms"), self._minutes.setdefault(room, deque())
        if minute and minute[-1] > at_ms:
            minute.clear()  # another record's time
        minute.append(at_ms)
        while minute[0] <= at_ms - MINUTE_MS:
            minute.popleft()
        count.most_in_a_minute = max(count.most_in_a_minute, len(minute))
        if len(minute) > self._limits.get(room, len(minute)):
            before = self._crowded.get(room, (where, 0, 0))
            self._crowded[room] = (before[0], max(before[1], len(minute)), self._limits[room])

    def _judge_count(self, where: str, room: str, nth: int) -> None:
        """Judge a room's own count of those let in, which no line of the ledger makes."""
        last = self._nth.get(room)
        excused = room in self._excused
        self._nth[room] = nth
        self._excused.discard(room)
        if last is None or nth == last + 1:
            return
        if nth > last + 1:
            sentence = f"{nth - last - 1} admissions of {room} before {where} are not in the ledger"
        else:
            sentence = f"{where} is admission {nth} of {room}, after admission {last}"
        if excused:
            self._verdict.notes.append(f"{sentence}; the ledger was not written in between, or the record was lost")
        else:
            self._verdict.blame(sentence)


_EVERY_LINE = ("seq", "at", "kind", "prev", "seal")


def _whole(facts: Mapping[str, object], name: str) -> int:
    value = facts.get(name)
    return value if type(value) is int else 0


def judge(
    paths: Sequence[Path],
    secrets: Sequence[str] | None,
    anchors: Iterable[Head] = (),
    progress: Callable[[int], object] = lambda _: None,
) -> Verdict:
    """Judge the files of a ledger, in their order. Raises ``OSError`` where one cannot be read."""
    made = Judge(secrets, anchors)
    for path in paths:
        for at in made.file(path.name, files.each_line(path)):
            progress(made.verdict.lines + at)
    return made.end()
