"""How lines get into the ledger: off the event loop, and never in the way of an admission.

``LedgerWriter.write`` only puts entries in a queue. A thread of its own gathers them for a moment, writes them in one
piece, and makes them safe once a second. So the ledger lags what it records by a moment, and says so: each admission is
counted by its room, and a line that a killed process did not write any more shows as a gap in that count.

When nothing can be written, admissions go on. Entries wait, a bounded number of them; what is beyond is lost, counted,
and stated in the ledger as soon as there is one again. While the process lives its memory is the last word: a file that
somebody changed under it is left as it is, and the next names the line that should have been the last.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import secrets
import threading
import time
from collections import Counter
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from waitroom.ledger import files, lines
from waitroom.ledger.files import Head, HeadNote

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from waitroom.clock import Clock
    from waitroom.model import LedgerFiles
    from waitroom.ports import Entry

logger = logging.getLogger("waitroom.ledger")

GATHER_S = 0.05
"""How long entries are gathered; who is let in that shortly before the process is killed is missing in the ledger."""

SYNC_S = 1.0
"""How often what was written is made safe; so much may be missing after a loss of power."""

AGAIN_S = 1.0
"""After something that failed, when it is tried again."""

LOOK_S = 60.0
"""How often the head is logged, a day's end noticed, and what was kept long enough removed."""

BREATH_LINES = 10
"""After so many lines whoever answers visitors has a turn: else each of their steps would wait for Python's lock."""

ENTRIES_MAX = 100_000
"""Entries that wait while nothing can be written; some 50 MB."""

CLOSE_WITHIN_S = 3.0
"""How long the end of the process waits for the last lines."""

NONCE_BYTES = 16

Line = tuple[str, "Mapping[str, Any]", str]
"""What a line is made of: its kind, what it states, and whose pseudonym it has."""


class Pen:
    """Writes the files, one line after the other. Whatever fails raises ``OSError``, and nothing was written then."""

    def __init__(self, kept: LedgerFiles, secret: str, note: Path, clock: Clock) -> None:
        self._kept = kept
        self._secret = secret
        self._note = HeadNote(note)
        self._clock = clock
        self._folder: int | None = None
        self._file: int | None = None
        self._path = kept.folder
        self._inode = self._size = self._index = 0
        self._day = ""
        self._keys = lines.FileKeys.derive(secret, "")
        self._known = False
        self.head = Head()

    @property
    def is_open(self) -> bool:
        """Whether lines can be put."""
        return self._file is not None

    def open(self) -> None:
        """Begin a file that goes on from the last, after setting aside what that has of a torn line."""
        self._kept.folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # somebody may have removed it
        self._lock()
        gaps: list[dict[str, Any]] = []
        found, clean = self.head, True
        for path in reversed(files.listed(self._kept.folder)):
            tail = files.tail(path)
            if tail.torn:
                gaps.append({"torn_bytes": tail.torn, "file": path.name})
                _set_aside(path, tail)
            if tail.size:
                found, clean, self._index = tail.head, tail.closed, max(self._index, files.index(path))
                break
            path.unlink()  # its process was killed before it had written a line
        expected = self.head if self._known else self._note.read() or found
        if (found != expected and found.seq <= expected.seq) or (self._known and found != expected):
            words = "the ledger ends with %s and should with %s: somebody changed it, or its disk lost something"
            logger.error(words, found, expected, extra={"reason": "ledger-changed"})
            gaps.append({"found_seq": found.seq, "expected_seq": expected.seq})
            found, clean = expected, False
        self.head = found
        self._begin("recovered" if self._known else "start", clean=clean)
        for gap in gaps:
            self.put([("gap", gap, "")])
        self._known = True
        self.sync()
        self.drop()

    def put(self, entries: Sequence[Line]) -> None:
        """Write lines, into another file where this one is long enough or its day is over."""
        now_s = self._clock.wall_s()
        if _day(now_s) != self._day:
            self.rotate("day")
        elif self._size >= self._kept.rotate_bytes:
            self.rotate("size")
        self._put(entries, now_s)

    def rotate(self, reason: str) -> None:
        """Close the file and begin the next."""
        self._put([("closed", {"reason": reason}, "")], self._clock.wall_s())
        self.sync()
        self._let_go_of_file()
        self._begin(reason, clean=True)
        self.drop()

    def rekey(self, secret: str) -> None:
        """Go on with a file that is sealed by another key."""
        before, self._secret = self._secret, secret
        if self.is_open and secret != before:
            self.rotate("key")

    def sync(self) -> None:
        """Make safe what was written, and note its last line."""
        assert self._file is not None
        os.fdatasync(self._file)
        self._note.write(self.head)

    def drop(self) -> None:
        """Remove files that were kept long enough, the oldest first; each is named in the ledger before it goes.

        What cannot be removed is tried again with the next file, and stops nothing.
        """
        try:
            self._drop()
        except OSError as error:
            words = "what the ledger kept long enough cannot be removed: %s"
            logger.error(words, error, extra={"reason": "ledger-kept"})  # noqa: TRY400 - the error is the message

    def _drop(self) -> None:
        oldest_s = self._clock.wall_s() - self._kept.keep_s
        for path in files.listed(self._kept.folder):
            if files.index(path) >= self._index or path.stat().st_mtime >= oldest_s:
                return
            head = files.tail(path).head
            gone = {"file": path.name, "last_seq": head.seq, "last_digest": head.digest}
            self._put([("dropped", gone, "")], self._clock.wall_s())
            self.sync()
            path.unlink()
            path.with_name(path.name + files.TORN).unlink(missing_ok=True)

    def day_is_over(self) -> bool:
        """Whether the file is of a day that is over, and has more in it than its own beginning."""
        return self.is_open and _day(self._clock.wall_s()) != self._day

    def close(self) -> None:
        """Say that nothing follows, and let go of the files."""
        if self.is_open:
            self._put([("closed", {"reason": "end"}, "")], self._clock.wall_s())
            self.sync()
        self.let_go()

    def let_go(self) -> None:
        """Let go of the files as they are."""
        self._let_go_of_file()
        if self._folder is not None:
            os.close(self._folder)
            self._folder = None

    # -- how ---------------------------------------------------------------------------------------------------------

    def _lock(self) -> None:
        """Keep every other process from writing the same ledger."""
        self.let_go()
        self._folder = os.open(self._kept.folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.let_go()
            raise OSError(errno.EBUSY, "another Waitroom writes this ledger", str(self._kept.folder)) from None

    def _begin(self, reason: str, *, clean: bool) -> None:
        """Begin a file."""
        nonce = secrets.token_hex(NONCE_BYTES)
        index = self._index + 1
        path = self._kept.folder / files.name(index)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._path, self._size, self._inode = path, 0, os.fstat(self._file).st_ino
        now_s = self._clock.wall_s()
        self._keys = lines.FileKeys.derive(self._secret, nonce)
        self._day = _day(now_s)
        opened = {
            "format": lines.FORMAT,
            "version": version("waitroom"),
            "file": index,
            "reason": reason,
            "clean": clean,
            "key": self._keys.id,
            "nonce": nonce,
        }
        try:
            self._put([("opened", opened, "")], now_s)
        except OSError:
            self._let_go_of_file()
            path.unlink(missing_ok=True)
            raise
        self._index = index
        if self._folder is not None:
            os.fsync(self._folder)

    def _put(self, entries: Iterable[Line], now_s: float) -> None:
        """Write lines in one piece, or none of them."""
        assert self._file is not None
        if _seen(self._path) != (self._inode, self._size):
            raise OSError(errno.ESTALE, "somebody else changed the ledger", str(self._path))
        head, at, made = self.head, _shown(now_s), []
        for kind, facts, visitor in entries:
            by_name = {"visitor": self._keys.pseudonym(visitor)} if visitor else {}
            stated = {"seq": head.seq + 1, "at": at, "kind": kind, **facts, **by_name}
            line = lines.write(stated, head.digest, self._keys)
            head = Head(head.seq + 1, lines.digest(line))
            made.append(line + b"\n")
            if not len(made) % BREATH_LINES:
                time.sleep(0)
        data = b"".join(made)
        try:
            written = os.write(self._file, data)
        except OSError:
            os.ftruncate(self._file, self._size)
            raise
        if written != len(data):
            os.ftruncate(self._file, self._size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
        self._size += len(data)
        self.head = head

    def _let_go_of_file(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


class LedgerWriter:
    """The ledger of one process, as ``ports.Ledger`` asks for it. ``note`` is where its head is noted."""

    def __init__(self, kept: LedgerFiles, secret: str, note: Path, clock: Clock) -> None:
        self._pen = Pen(kept, secret, note, clock)
        self._secret = secret
        self._changed = threading.Condition()
        self._queue: list[Entry] = []
        self._ending = False
        # Of the thread alone:
        self._pending: list[Entry] = []
        self._trouble = ""
        self._unsafe = False
        self._synced_s = self._looked_s = time.monotonic()
        self._said = Head()
        # Counted by both:
        self._dropped: Counter[str] = Counter()
        self._lost = 0
        self._lines = 0
        self._thread = threading.Thread(target=self._run, name="waitroom-ledger", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def write(self, entries: Sequence[Entry]) -> None:
        """Take entries in, in their order. What cannot be written is counted."""
        with self._changed:
            # After a loss nothing is taken in before that is stated: it stands where it happened.
            if self._dropped or len(self._queue) + len(self._pending) + len(entries) > ENTRIES_MAX:
                self._dropped.update(entry.kind for entry in entries)
                self._lost += len(entries)
                return
            first = not self._queue
            self._queue += entries
            if first:
                self._changed.notify()

    def configure(self, secret: str) -> None:
        """Seal with another key from now on, if it is another."""
        with self._changed:
            self._secret = secret
            self._changed.notify()

    def close(self) -> None:
        """Write what there is, and end; waits for a moment only, for a disk may hang."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        self._thread.join(CLOSE_WITHIN_S)

    def stats(self) -> dict[str, float]:
        """Return the plain counters."""
        return {
            "ledger_seq": self._pen.head.seq,
            "ledger_waiting": len(self._queue) + len(self._pending),
            "ledger_lines_total": self._lines,
            "ledger_lost_total": self._lost,
        }

    # -- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._ending:
            self._try()
            with self._changed:
                self._changed.wait_for(self._has_work, self._patience_s())
            if not self._ending:
                time.sleep(GATHER_S)
        self._try()
        try:
            self._pen.close()
        except OSError as error:
            self._say_trouble(error)
        if self._pending:
            logger.error("%d entries of the ledger are lost", len(self._pending), extra={"reason": "ledger-lost"})
        self._say_head()

    def _has_work(self) -> bool:
        return self._ending or (bool(self._queue or self._dropped) and not self._trouble)

    def _patience_s(self) -> float:
        if self._trouble:
            return AGAIN_S
        return SYNC_S if self._unsafe else LOOK_S

    def _try(self) -> None:
        try:
            self._step()
        except OSError as error:
            self._say_trouble(error)
            if error.errno == errno.ESTALE:
                self._pen.let_go()
        except Exception:
            self._trouble = "a fault of ours"
            logger.exception("the ledger cannot write what it was told", extra={"reason": "bug"})
            with self._changed:  # it costs what came with it, and not all that comes after
                self._dropped.update(entry.kind for entry in self._pending)
                self._lost += len(self._pending)
                self._pending = []

    def _step(self) -> None:
        """Write what there is."""
        with self._changed:
            self._pending += self._queue
            self._queue = []
            secret = self._secret
        if not self._pen.is_open:
            self._pen.open()
            self._say_head()
        self._pen.rekey(secret)
        if self._pending:
            self._pen.put([_line(entry) for entry in self._pending])
            self._lines += len(self._pending)
            self._pending = []
            self._unsafe = True
        if self._trouble or self._dropped:
            self._say_gap()
        now_s = time.monotonic()
        if self._unsafe and (now_s >= self._synced_s + SYNC_S or self._ending):
            self._pen.sync()
            self._synced_s, self._unsafe = now_s, False
        if now_s >= self._looked_s + LOOK_S:
            self._looked_s = now_s
            if self._pen.day_is_over():
                self._pen.rotate("day")
            self._say_head()

    def _say_gap(self) -> None:
        """State in the ledger what is missing in it, and why."""
        with self._changed:
            dropped = self._dropped.copy()
        self._pen.put([("gap", {"why": self._trouble or "too many waited", "lost": dict(dropped)}, "")])
        with self._changed:
            self._dropped -= dropped
        self._unsafe = True
        if self._trouble:
            logger.warning("the ledger is written again", extra={"reason": "ledger-back"})
        self._trouble = ""

    def _say_trouble(self, error: OSError) -> None:
        why = error.strerror or str(error)
        if why != self._trouble:
            self._trouble = why
            words = "the ledger cannot be written: %s; people are let in all the same"
            logger.error(words, error, extra={"reason": "ledger-unwritable"})

    def _say_head(self) -> None:
        """Log the last line: who collects the log elsewhere can tell whether anything before it was changed since."""
        if self._pen.head != self._said:
            self._said = self._pen.head
            logger.info("ledger head %s", self._said, extra={"reason": "ledger-head"})


def _line(entry: Entry) -> Line:
    return entry.kind, {"at_ms": entry.at_ms, "room": entry.room, **entry.facts}, entry.visitor


def _set_aside(path: Path, tail: files.Tail) -> None:
    """Put what a file has behind its last whole line into a file beside it."""
    with path.open("rb+") as file:
        file.seek(tail.size)
        torn = file.read()
        aside = os.open(
            path.with_name(path.name + files.TORN), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        with os.fdopen(aside, "wb") as beside:
            beside.write(torn)
            beside.flush()
            os.fsync(beside.fileno())
        file.truncate(tail.size)
    words = "the ledger's last line in %s was torn; %d bytes are set aside"
    logger.warning(words, path, len(torn), extra={"reason": "ledger-torn"})


def _seen(path: Path) -> tuple[int, int]:
    """Return which file a path leads to, and how long it is; nothing of either where there is none."""
    try:
        seen = path.stat()
    except FileNotFoundError:
        return 0, 0
    return seen.st_ino, seen.st_size


def _day(now_s: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(now_s))


def _shown(now_s: float) -> str:
    whole, part = divmod(int(now_s * 1000), 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{part:03d}Z"
