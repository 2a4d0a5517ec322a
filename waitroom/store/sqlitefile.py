"""The file of ``sqlite:``, and how to tell that it is the last word.

WAL with ``synchronous=FULL``: what a commit said is on the disk when it returns. One process writes, so there is no
contention for SQLite's lock, which is not fair; what else may hold it (a backup) makes a write fail soon, and it is
tried again.

Two things stand beside the file, next to the signing keys. The *note* (``notes.py``) names the rooms that have run.
The *seal* holds the file's incarnation and the count of its commits, written after each one and left to the system to
flush: a file with fewer commits than its seal, or of another incarnation, is an older copy, and is not believed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import secrets
import sqlite3
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from waitroom.core.lasting import Kept, Repeat, Slot, WholeChunk
from waitroom.errors import StartError, StoreAway

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from waitroom.clock import Clock
    from waitroom.core.lasting import Changes

logger = logging.getLogger("waitroom.store")

FORMAT = 2
"""The version of what is written; a file with a newer one is refused, because it may mean something else."""

APPLICATION_ID = 0x57414954
BUSY_MS = 200
"""How long a write waits for somebody else's lock before it fails and is tried again."""

LOCK_WITHIN_S = 5.0
LOCK_AGAIN_S = 0.05
NETWORK = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "glusterfs", "fuse.sshfs", "fuse.glusterfs", "afs", "lustre")
"""File systems whose locks and flushes cannot be relied on."""

LISTS = "CREATE TABLE lists (room TEXT, position INTEGER, tickets BLOB, PRIMARY KEY (room, position)) WITHOUT ROWID"
SCHEMA = f"""
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE rooms (room TEXT PRIMARY KEY, header TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE chunks (room TEXT, chunk INTEGER, stamp INTEGER, standing BLOB, due BLOB, misses TEXT,
    PRIMARY KEY (room, chunk));
CREATE TABLE journal (stamp INTEGER, room TEXT, entries BLOB, PRIMARY KEY (stamp, room)) WITHOUT ROWID;
CREATE TABLE slots (room TEXT, number INTEGER, admitted_ms INTEGER, end_ms INTEGER, stood_ms INTEGER,
    PRIMARY KEY (room, number)) WITHOUT ROWID;
CREATE TABLE repeats (room TEXT, key TEXT, until_ms INTEGER, number INTEGER, visitor TEXT, joined_ms INTEGER,
    ahead INTEGER, PRIMARY KEY (room, key)) WITHOUT ROWID;
{LISTS};
CREATE TABLE logs (room TEXT PRIMARY KEY, log TEXT NOT NULL) WITHOUT ROWID;
"""
TABLES = ("rooms", "chunks", "journal", "slots", "repeats", "lists")


class Seal:
    """The small file that knows the last commit of the record: its incarnation and its count."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    def read(self) -> tuple[str, int] | None:
        """Return the incarnation and the count; None when there is no seal. Raises ``StartError`` for a broken one."""
        try:
            text = self._path.read_text(encoding="ascii")
            if not text:
                return None
            incarnation, count = text.split()
            return incarnation, int(count)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise StartError(
                f"{self._path}: cannot be read ({error}); it says which record is the last word. Restore it, or delete "
                "it: then nobody is let in until every pass that may be out has ended."
            ) from error

    def lock(self, record: Path) -> None:
        """Keep every other process from writing the same record. Raises ``StartError`` when one does.

        One that was told to end, or killed, has a moment to be gone.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StartError(f"{self._path}: cannot be written: {error.strerror}") from error
        give_up_s = time.monotonic() + LOCK_WITHIN_S
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= give_up_s:
                    words = f"{record}: another Waitroom writes this record; end it, or name another file in `store`"
                    raise StartError(words) from None
                time.sleep(LOCK_AGAIN_S)
            else:
                return

    def press(self, incarnation: str, commits: int) -> None:
        """Write them; in place, so that it costs next to nothing."""
        if self._file is None:
            return
        try:
            os.pwrite(self._file, f"{incarnation} {commits:020d}\n".encode(), 0)
        except OSError as error:
            logger.error("cannot seal the record: %s", error, extra={"reason": "seal-unwritable"})  # noqa: TRY400 - the error is the message

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


class RecordFile:
    """The database at ``path``: opened by ``open``, written by ``write``, which may run on another thread.

    ``kept`` is what it held, ``trusted`` whether that is the last word, ``at_ms`` when it was written. ``incarnation``
    names the file, ``commits`` counts its writes.
    """

    def __init__(self, path: Path, clock: Clock, seal: Seal) -> None:
        self.path = path
        self.kept: dict[str, Kept] = {}
        self.logs: dict[str, list[dict[str, Any]]] = {}
        self.trusted = True
        self.at_ms = 0
        self.incarnation = ""
        self.commits = 0
        self.fresh = True
        self._clock = clock
        self._seal = seal
        self._offset_ms = 0
        self._db: sqlite3.Connection | None = None
        self._inodes: tuple[int, ...] = ()
        self._bytes = 0
        self._older = False

    def now_ms(self) -> int:
        """Return store time: the machine's time since its boot, and what the file says was before."""
        return int(self._clock.boot_s() * 1000) + self._offset_ms

    def ahead_ms(self) -> int:
        """Return how far the wall clock is ahead of store time."""
        return int(self._clock.wall_s() * 1000) - self.now_ms()

    def open(self) -> None:
        """Open the file, and read what it holds. Raises ``StartError`` for what only an operator can mend."""
        _refuse_network(self.path)
        self._seal.lock(self.path)
        sealed = self._seal.read()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._connect()
                self._read()
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise
                self._set_aside(str(error))
                self._connect()
        except (sqlite3.Error, OSError) as error:
            raise StartError(f"{self.path}: the record cannot be opened: {error}") from error
        wall_ms = int(self._clock.wall_s() * 1000)
        if self.fresh:
            self.trusted = False
            self._offset_ms = wall_ms - int(self._clock.boot_s() * 1000)
            return
        self.trusted = sealed is not None and sealed[0] == self.incarnation and sealed[1] <= self.commits
        if not self.trusted:
            logger.error(
                "%s is not known to be what was written last: an older copy, another record, or its seal is missing; "
                "a new series begins",
                self.path,
                extra={"reason": "record-doubted"},
            )

    def begin(self, at_ms: int) -> None:
        """Make an empty record, under a new name; all of it or nothing, for half of one is nobody's database."""
        db = self._db
        assert db is not None
        self.incarnation, self.commits = secrets.token_hex(16), 0
        db.execute("BEGIN IMMEDIATE")
        with db:
            for table in ("meta", *TABLES, "logs"):
                db.execute(f"DROP TABLE IF EXISTS {table}")
            for statement in SCHEMA.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {FORMAT}")
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._write_meta(db, at_ms)
        self.fresh = False
        self._seal.press(self.incarnation, self.commits)

    def begin_anew(self, at_ms: int) -> None:
        """Leave a file that is not ours any more, if there is one, and begin an empty record in its place.

        Raises ``StoreAway`` when that cannot be done now; what it had begun is removed, so that it can be tried again.
        """
        self.disown()
        self._let_go()
        if self.path.exists():
            self._set_aside("it was replaced or cut while it was in use")
        else:
            logger.error("%s was deleted; writing it anew", self.path, extra={"reason": "record-lost"})
            self._forget_log()
        try:
            self._connect()
            self.begin(at_ms)
        except sqlite3.Error as error:
            self.disown()
            self._let_go()
            self.path.unlink(missing_ok=True)
            raise StoreAway(str(error)) from error

    def reject(self, why: str) -> None:
        """Set a file aside that was read but makes no sense, and open an empty one in its place."""
        self._set_aside(why)
        self._connect()
        self.kept, self.logs, self.trusted = {}, {}, False

    def disown(self) -> None:
        """Take the file for lost from now on: it cannot be read."""
        self._inodes = ()

    def is_ours(self) -> bool:
        """Whether the files under our names are those we opened, none cut short."""
        try:
            return self._look() == self._inodes and self.path.stat().st_size >= self._bytes
        except OSError:
            return False

    def write(
        self,
        changes: Mapping[str, Changes],
        emptied: Sequence[str],
        logs: Mapping[str, Sequence[Mapping[str, Any]]],
        at_ms: int,
        merged: Sequence[str] = (),
    ) -> None:
        """Commit what changed. ``emptied`` rooms begin anew; ``merged`` ones have every chunk here and need no journal.

        Raises ``StoreAway`` when it could not be written, and then nothing of it was; ``RecordLost`` when the file is
        not ours any more.
        """
        if not self.is_ours():
            raise RecordLost("the record was deleted, replaced or cut")
        db = self._db
        assert db is not None
        stamp = self.commits + 1
        try:
            db.execute("BEGIN IMMEDIATE")
            for room in emptied:
                for table in TABLES:
                    db.execute(f"DELETE FROM {table} WHERE room = ?", (room,))  # noqa: S608 - our own names
            for room, found in changes.items():
                self._write_room(db, room, found, stamp, at_ms, merged=room in merged)
            for room, log in logs.items():
                db.execute("INSERT OR REPLACE INTO logs VALUES (?, ?)", (room, json.dumps(log)))
            self.commits = stamp
            self._write_meta(db, at_ms)
            db.execute("COMMIT")
        except Exception as error:
            self.commits = stamp - 1
            with contextlib.suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            lost = isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
            raise (RecordLost if lost else StoreAway)(str(error)) from error
        self._seal.press(self.incarnation, self.commits)
        with contextlib.suppress(OSError):
            self._bytes = max(self._bytes, self.path.stat().st_size)

    def close(self) -> None:
        """Let go of the file."""
        self._let_go()
        self._seal.close()

    # -- how ---------------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        db = sqlite3.connect(self.path, isolation_level=None, timeout=BUSY_MS / 1000, check_same_thread=False)
        try:
            self._judge(db)  # before anything is written: it may be somebody else's
            for suffix in ("", "-wal", "-shm"):  # for its owner only; those that SQLite makes anew take the mode over
                with contextlib.suppress(FileNotFoundError):
                    Path(f"{self.path}{suffix}").chmod(0o600)
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("BEGIN IMMEDIATE")  # makes the files there are, and shows that they can be written
            if self._older:  # the first format had no draws
                db.execute(LISTS)
                db.execute(f"PRAGMA user_version = {FORMAT}")
            db.execute("COMMIT")
        except BaseException:
            db.close()
            raise
        self._db = db
        self._inodes = self._look()
        self._bytes = self.path.stat().st_size

    def _look(self) -> tuple[int, ...]:
        return tuple(path.stat().st_ino for path in (self.path, Path(f"{self.path}-wal")))

    def _judge(self, db: sqlite3.Connection) -> None:
        """Raise ``StartError`` for a file that is not for us, ``sqlite3.DatabaseError`` for one that is broken."""
        [[version]] = db.execute("PRAGMA user_version")
        if version > FORMAT:
            raise StartError(
                f"{self.path}: was written by a newer Waitroom (format {version}; this one reads {FORMAT}); "
                "install that one again, or name another file in `store`"
            )
        [[tables]] = db.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'")
        if tables and not version:
            raise StartError(f"{self.path}: is a database of something else; name another file in `store`")
        self.fresh = not tables
        self._older = 0 < version < FORMAT
        if not self.fresh:
            [[verdict]] = db.execute("PRAGMA quick_check(1)")
            if verdict != "ok":
                raise sqlite3.DatabaseError(verdict)

    def _read(self) -> None:
        """Read everything; tables that are not as they should be raise ``sqlite3.DatabaseError``."""
        db = self._db
        assert db is not None
        if self.fresh:
            return
        try:
            meta = dict(db.execute("SELECT name, value FROM meta"))
            self.incarnation, self.commits, self.at_ms = meta["incarnation"], meta["commits"], meta["at_ms"]
            boot_ms = int(self._clock.boot_s() * 1000)
            if meta["boot_id"] == self._clock.boot_id():
                self._offset_ms = meta["offset_ms"]
            else:  # another boot, or another machine: time goes on from the wall's, and never back
                self._offset_ms = max(int(self._clock.wall_s() * 1000), self.at_ms) - boot_ms
            for room, text in db.execute("SELECT room, header FROM rooms"):
                self.kept[room] = self._read_room(db, room, json.loads(text))
            self.logs = {room: json.loads(log) for room, log in db.execute("SELECT room, log FROM logs")}
        except (KeyError, TypeError, ValueError, sqlite3.OperationalError) as error:
            self.kept, self.logs = {}, {}
            self._let_go()
            raise sqlite3.DatabaseError(str(error)) from error

    @staticmethod
    def _read_room(db: sqlite3.Connection, room: str, header: Mapping[str, Any]) -> Kept:
        def rows(columns: str, table: str, order: str = "") -> list[tuple[Any, ...]]:
            return list(db.execute(f"SELECT {columns} FROM {table} WHERE room = ? {order}", (room,)))  # noqa: S608 - our own names

        chunks = {
            chunk: (
                stamp,
                WholeChunk(standing, due, {int(number): count for number, count in json.loads(misses).items()}),
            )
            for chunk, stamp, standing, due, misses in rows("chunk, stamp, standing, due, misses", "chunks")
        }
        return Kept(
            header,
            chunks,
            rows("stamp, entries", "journal", "ORDER BY stamp"),
            [Slot(*row) for row in rows("number, admitted_ms, end_ms, stood_ms", "slots")],
            [Repeat(*row) for row in rows("key, until_ms, number, visitor, joined_ms, ahead", "repeats")],
            b"".join(tickets for (tickets,) in rows("tickets", "lists", "ORDER BY position")),
        )

    @staticmethod
    def _write_room(db: sqlite3.Connection, room: str, found: Changes, stamp: int, at_ms: int, *, merged: bool) -> None:
        header = json.dumps(found.header, separators=(",", ":"))
        db.execute("INSERT OR REPLACE INTO rooms VALUES (?, ?)", (room, header))
        if found.entries:
            db.execute("INSERT INTO journal VALUES (?, ?, ?)", (stamp, room, found.entries))
        if merged:
            db.execute("DELETE FROM journal WHERE room = ? AND stamp < ?", (room, stamp))
            db.execute("DELETE FROM repeats WHERE room = ? AND until_ms < ?", (room, at_ms))
        for chunk, whole in found.chunks.items():
            # A chunk that was forgotten stands there empty: its stamp overrules what the journal may still say of it.
            row = (room, chunk, stamp, whole.standing, whole.due, json.dumps(whole.misses))
            db.execute("INSERT OR REPLACE INTO chunks VALUES (?, ?, ?, ?, ?, ?)", row)
        if merged:
            db.execute("DELETE FROM chunks WHERE room = ? AND standing IS NULL", (room,))
        db.executemany("DELETE FROM slots WHERE room = ? AND number = ?", [(room, number) for number in found.freed])
        slots = [(room, one.number, one.admitted_ms, one.end_ms, one.stood_ms) for one in found.slots]
        db.executemany("INSERT OR REPLACE INTO slots VALUES (?, ?, ?, ?, ?)", slots)
        db.executemany("DELETE FROM repeats WHERE room = ? AND key = ?", [(room, key) for key in found.forgotten])
        repeats = [(room, *asdict(one).values()) for one in found.repeats]
        db.executemany("INSERT OR REPLACE INTO repeats VALUES (?, ?, ?, ?, ?, ?, ?)", repeats)
        if found.listed is not None:
            db.execute("INSERT OR REPLACE INTO lists VALUES (?, ?, ?)", (room, *found.listed))

    def _write_meta(self, db: sqlite3.Connection, at_ms: int) -> None:
        values = {
            "incarnation": self.incarnation,
            "commits": self.commits,
            "at_ms": at_ms,
            "boot_id": self._clock.boot_id(),
            "offset_ms": self._offset_ms,
        }
        db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", list(values.items()))

    def _let_go(self) -> None:
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
            self._db = None

    def _set_aside(self, why: str) -> None:
        """Keep a file that we cannot go on with, under another name; there may be something in it for somebody."""
        self._let_go()
        aside = self.path.with_name(f"{self.path.name}.set-aside-{time.time_ns() // 1_000_000}")
        self.path.replace(aside)
        self._forget_log()
        logger.error("%s: %s; set aside as %s", self.path, why, aside.name, extra={"reason": "record-lost"})

    def _forget_log(self) -> None:
        """Remove what SQLite keeps beside a file that is gone: it belongs to that file, not to the next."""
        for suffix in ("-wal", "-shm"):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)


class RecordLost(StoreAway):
    """The file is not ours any more, or not readable: it has to be begun anew from what is in memory."""


def _refuse_network(path: Path) -> None:
    """Raise ``StartError`` where the file would stand on a network file system."""
    folder = path.absolute()
    best, kind = "", ""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines():
            left, _, right = line.partition(" - ")
            mount, this = left.split()[4], right.split()[0]
            if len(mount) >= len(best) and (mount == "/" or folder.is_relative_to(mount)):
                best, kind = mount, this
    if kind in NETWORK:
        raise StartError(f"{path}: stands on {kind}, whose locks cannot be relied on; put the record on a local disk")
