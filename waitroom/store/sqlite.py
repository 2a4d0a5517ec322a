"""``sqlite:``, the store of one machine: every room's line in one process's memory, and durable before it is answered.

Steps are applied in memory in the order they come; all that came *while the previous commit ran* are committed
together, on a thread of their own, and only then answered. So a flood of joins is a few commits, a slow disk costs
waiting and not throughput, and whoever is waiting longest is served first.

When a commit fails (the disk is full, a backup holds the lock) the steps in it are answered with ``StoreAway``; they
stay in memory and are kept with the next commit that succeeds, as if the answer had been lost. Meanwhile nothing is
taken in: nobody gets a number that may not last. When the file itself is gone or is another one, what is in memory is
the last word, and is written anew. On return every clock has stood still for as long as it took.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import sqlite3
import struct
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from waitroom.core import lasting
from waitroom.core.lasting import ENTRY
from waitroom.core.queueing import SHIFT
from waitroom.crashing import reach
from waitroom.errors import StartError, StoreAway
from waitroom.store.book import SLICES_A_TICK, Book
from waitroom.store.sqlitefile import RecordFile, RecordLost, Seal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from waitroom.clock import Clock
    from waitroom.core.queueing import Claimed, Joined, JoinRequest, Snapshot
    from waitroom.model import Pass, Room
    from waitroom.ports import Drawn, Known, Lead, Ledger, Noted, Status, Ticked
    from waitroom.store.notes import Notes

logger = logging.getLogger("waitroom.store")

JOURNAL_BYTES_MAX = 256 * 1024
"""Beyond so much journal a room's changed chunks are written whole and the journal is dropped."""

AGAIN_S = 0.25
"""After a commit that failed, when the next is tried."""

ALIVE_MS = 1_000
"""How often a room with anybody in it is kept although nothing changed: a successor takes the rest for standstill."""

STALLED_MS = 2_000
"""A commit that took longer was waited for by nobody: meanwhile every clock stood still."""

Outcome = TypeVar("Outcome")


class SqliteStore:
    """Every room's line, kept in the file at ``path``. Raises ``StartError`` when that cannot be had.

    ``notes`` and ``seal`` stand beside the signing keys; ``assume_ran``: without a note, a room is taken for one that
    has run before. ``chance`` makes the seeds of draws. ``ledger``, if there is one, is told who was let in and what
    was done, once that is kept.
    """

    def __init__(
        self,
        rooms: Sequence[Room],
        clock: Clock,
        path: Path,
        notes: Notes | None = None,
        seal: Path | None = None,
        *,
        assume_ran: bool = False,
        chance: Callable[[int], bytes] = secrets.token_bytes,
        ledger: Ledger | None = None,
    ) -> None:
        self._chance = chance
        self._ledger = ledger
        self._file = RecordFile(path, clock, Seal(seal or path.with_name(path.name + ".seal")))
        self._file.open()
        now_ms = self._file.now_ms()
        try:
            self._book = self._open_book(rooms, now_ms, notes, assume_ran=assume_ran)
        except (AssertionError, ArithmeticError, LookupError, TypeError, ValueError, struct.error) as error:
            if not self._file.kept:
                raise
            self._file.reject(f"it makes no sense ({error})")
            self._book = self._open_book(rooms, now_ms, notes, assume_ran=assume_ran)
        self._book.remember(self._file.logs)
        self._file.kept = {}
        self._thread = ThreadPoolExecutor(1, "waitroom-record")
        self._waiting: list[tuple[Callable[[int], Any], str, str | None, asyncio.Future[Any]]] = []
        self._touched: set[str] = set()
        self._running: asyncio.Task[None] | None = None
        self._returning: asyncio.Task[None] | None = None
        self._headers: dict[str, str] = {}
        self._slots: dict[str, set[int]] = {}
        self._journal_bytes: dict[str, int] = {}
        self._journal_chunks: dict[str, set[int]] = {}
        self._logged: dict[str, int] = {name: len(log) for name, log in self._book.logs.items()}
        self._kept_ms = self._stood_ms = now_ms
        self.away = ""
        try:
            if self._file.fresh:
                self._file.begin(now_ms)
            # What is restored is written whole once: restoring may have changed it, and the journal ends.
            self._take_for_new(self._book.lines)
            self._write(self._collect(now_ms, set(self._book.lines)))
            self._book.note_kept(now_ms)
        except (StoreAway, sqlite3.Error) as error:
            raise StartError(f"{path}: the record cannot be written: {error}") from error

    def now_ms(self) -> int:
        """Return store time."""
        return self._file.now_ms()

    async def configure(self, rooms: Sequence[Room]) -> None:
        """Go on with other settings."""
        await self._do("", None, lambda now_ms: self._book.configure(rooms, now_ms, ahead_ms=self._file.ahead_ms()))

    async def join(self, room: str, known: Known, requests: Sequence[JoinRequest]) -> list[Joined]:
        """Give numbers in order; in standby admit as many as there is room for."""
        return await self._do("join", room, lambda now_ms: self._book.join(room, known, requests, now_ms))

    async def claim(
        self, room: str, known: Known, numbers: Sequence[tuple[int, float]], visitors: Sequence[str] = ()
    ) -> list[Claimed]:
        """Trade called numbers for slots."""
        return await self._do("claim", room, lambda now_ms: self._book.claim(room, known, numbers, now_ms, visitors))

    async def leave(self, room: str, known: Known, numbers: Sequence[int]) -> None:
        """Give up places and slots."""
        await self._do("release", room, lambda now_ms: self._book.leave(room, known, numbers, now_ms))

    async def look_up(self, room: str, known: Known, passes: Sequence[Pass]) -> list[int]:
        """Return the ends that are held."""
        return await self._do("renew", room, lambda now_ms: self._book.look_up(room, known, passes, now_ms))

    async def tick(self, room: str, known: Known, noted: Noted, lead: Lead) -> Ticked:
        """Take in what was noted, let time pass, call."""

        def step(now_ms: int) -> Ticked:
            ticked = self._book.tick(room, known, noted, lead, now_ms)
            if ticked.called:
                reach("call")
            if noted.used:
                reach("renew")
            return ticked

        for _ in range(SLICES_A_TICK):  # what is left of a draw, with others in between
            if not self._book.deal(room):
                break
            await asyncio.sleep(0)
        ticked = await self._do("", room, step)
        if ticked.called:
            reach("call-kept")
        if noted.used:
            reach("renew-kept")
        return ticked

    async def snapshot(self, room: str) -> Snapshot:
        """Return the present view of a room."""
        return await self._do("", room, lambda now_ms: self._book.snapshot(room, now_ms))

    async def operate(self, room: str, verbs: Mapping[str, Any], who: str) -> Status:
        """Do what an operator says."""

        def step(now_ms: int) -> Status:
            self._book.operate(room, verbs, who, now_ms)
            return self._book.status(room, now_ms)

        return await self._do("", room, step)

    async def status(self, room: str) -> Status:
        """Return a room as an operator sees it; also while nothing can be written."""
        return self._book.status(room, self.now_ms())

    async def drawn(self, room: str) -> Drawn | None:
        """Return the draw of a room's event, once its places are dealt."""
        return self._book.drawn(room)

    async def close(self) -> None:
        """Finish what is under way, and let go of the file."""
        if self._returning is not None:
            self._returning.cancel()
        tasks = [task for task in (self._running, self._returning) if task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)
        now_ms = self.now_ms()
        if self.away:
            self._stand_still(now_ms)
        self._book.settle(now_ms)
        self._book.note(now_ms, at_once=True)
        with contextlib.suppress(StoreAway, OSError):
            # On the thread, after what may still be under way there.
            await self._keep_anyhow(now_ms, set(self._book.lines))
        self._thread.shutdown()
        self._file.close()

    def abandon(self) -> None:
        """Let go of the file and keep nothing more, as the end of a process does: for tests of what survives."""
        self._thread.shutdown()
        self._file.close()

    # -- how ---------------------------------------------------------------------------------------------------------

    def _open_book(self, rooms: Sequence[Room], now_ms: int, notes: Notes | None, *, assume_ran: bool) -> Book:
        return Book(
            rooms,
            now_ms,
            notes,
            kept=self._file.kept,
            trusted=self._file.trusted,
            at_ms=self._file.at_ms,
            assume_ran=assume_ran,
            watched=True,
            ahead_ms=self._file.ahead_ms(),
            chance=self._chance,
            ledger=self._ledger,
        )

    async def _do(self, step: str, room: str | None, work: Callable[[int], Outcome]) -> Outcome:
        """Return what ``work`` does to ``room``, None for all, at the present of store time, once that is kept."""
        if self.away:
            raise StoreAway(self.away)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Outcome] = loop.create_future()
        self._waiting.append((work, step, room, future))
        if self._running is None:
            self._running = loop.create_task(self._run())
        return await future

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._round()
        finally:
            self._running = None

    async def _round(self) -> None:
        """Apply what has come, keep it, answer it."""
        batch, self._waiting = self._waiting, []
        batch = [one for one in batch if not one[-1].done()]  # given up meanwhile
        now_ms = self.now_ms()
        outcomes: list[tuple[asyncio.Future[Any], Any, str]] = []
        for work, step, room, future in batch:
            self._touched.update(self._book.lines.keys() if room is None else self._book.lines.keys() & {room})
            try:
                outcomes.append((future, work(now_ms), step))
                if step:
                    reach(step)
            except Exception as error:  # noqa: BLE001 - it is handed to who asked
                future.set_exception(error)
        try:
            await self._keep(now_ms)
        except Exception as error:  # noqa: BLE001 - whatever it is, who asked is told, and it is tried again
            for future, _, _ in outcomes:
                if not future.done():
                    future.set_exception(StoreAway(str(error)))
            self._go_away(str(error) or repr(error))
            return
        if (end_ms := self.now_ms()) - now_ms > STALLED_MS:
            self._stood_ms = now_ms
            self._stand_still(end_ms)
        for future, outcome, step in outcomes:
            if step:
                reach(f"{step}-kept")
            if not future.done():
                future.set_result(outcome)

    async def _keep(self, now_ms: int, merged: set[str] | None = None) -> None:
        found = self._collect(now_ms, merged)
        if found is None:
            self._touched.clear()
        else:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._write_file, found)
            self._settle(found)
        self._book.note_kept(now_ms)

    async def _keep_anyhow(self, now_ms: int, merged: set[str] | None = None) -> None:
        """Keep it also where the file is not ours any more: anew, from what is in memory."""
        if not self._file.is_ours():
            self._take_for_new(self._book.lines)  # first: whatever is written from now on is written whole
            self._logged = {}
            await asyncio.get_running_loop().run_in_executor(self._thread, self._file.begin_anew, now_ms)
        await self._keep(now_ms, merged)

    def _stand_still(self, now_ms: int) -> None:
        """Let every clock have stood still until now: nobody could be heard. It is kept with the next commit."""
        still_ms, self._stood_ms = now_ms - self._stood_ms, now_ms
        self._book.resume(max(0, still_ms), now_ms)
        self._touched.update(self._book.lines)

    def _write(self, found: _Found | None) -> None:
        if found is not None:
            self._write_file(found)
            self._settle(found)

    def _collect(self, now_ms: int, merged: set[str] | None = None) -> _Found | None:
        """Return what has changed; None when nothing has."""
        found = _Found(now_ms)
        for name in self._touched | self._book.renewed | (merged or set()):
            line = self._book.lines[name]
            header = json.dumps(lasting.header(line) | {"leads_until_ms": 0})
            alive = now_ms - self._kept_ms >= ALIVE_MS and lasting.is_busy(line)
            new = name in self._book.renewed
            if not (new or alive or lasting.has_changed(line) or header != self._headers.get(name)):
                continue
            merge = new or name in (merged or ()) or self._journal_bytes.get(name, 0) > JOURNAL_BYTES_MAX
            slots = set() if new else self._slots.get(name, set())
            chunks = self._journal_chunks.get(name, set()) if merge else set()
            found.headers[name] = header
            found.changes[name] = lasting.changes(line, slots, chunks)
            if new:
                found.emptied.append(name)
            if merge:
                found.merged.append(name)
        for name, log in self._book.logs.items():
            if len(log) != self._logged.get(name) or (log and log[-1]["at_ms"] >= self._kept_ms):
                found.logs[name] = list(log)
        return found if found.changes or found.logs else None

    def _write_file(self, found: _Found) -> None:
        """Write it; on the thread of its own."""
        self._file.write(found.changes, found.emptied, found.logs, found.at_ms, found.merged)

    def _settle(self, found: _Found) -> None:
        """Know that it is kept."""
        for name, changed in found.changes.items():
            lasting.settled(self._book.lines[name])
            self._headers[name] = found.headers[name]
            slots = self._slots.setdefault(name, set())
            if name in found.emptied:
                slots.clear()
            slots.difference_update(changed.freed)
            slots.update(slot.number for slot in changed.slots)
            chunks = self._journal_chunks.setdefault(name, set())
            if name in found.merged:
                self._journal_bytes[name] = 0
                chunks.clear()
            self._journal_bytes[name] = self._journal_bytes.get(name, 0) + len(changed.entries)
            chunks.update(number >> SHIFT for number, *_ in ENTRY.iter_unpack(changed.entries))
        self._touched.clear()
        self._book.renewed.difference_update(found.emptied)
        self._logged.update((name, len(log)) for name, log in found.logs.items())
        self._kept_ms = found.at_ms

    def _take_for_new(self, lines: Mapping[str, Any]) -> None:
        for name, line in lines.items():
            lasting.everything(line)
            self._book.renewed.add(name)

    def _go_away(self, why: str) -> None:
        """Take nothing in until a commit succeeds."""
        self.away = why
        logger.error("the record cannot be written: %s", why, extra={"reason": "store-away"})
        for *_, future in self._waiting:
            if not future.done():
                future.set_exception(StoreAway(why))
        self._waiting = []
        self._stood_ms = max(self._stood_ms, self._kept_ms)
        self._returning = asyncio.get_running_loop().create_task(self._come_back())

    async def _come_back(self) -> None:
        while self.away:
            now_ms = self.now_ms()
            self._stand_still(now_ms)  # before the commit: one that is killed after it has kept that too
            try:
                await self._keep_anyhow(now_ms)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is tried again
                self._note_trouble(error)
                await asyncio.sleep(AGAIN_S)
            else:
                self.away = ""
        logger.warning("the record is written again", extra={"reason": "store-back"})
        self._stand_still(self.now_ms())

    def _note_trouble(self, error: Exception) -> None:
        """Say what is wrong now, if it is something else than before; a file that is not readable is begun anew."""
        if isinstance(error, RecordLost):
            self._file.disown()
        if (why := str(error) or repr(error)) != self.away:
            self.away = why
            logger.error("the record still cannot be written: %s", error, extra={"reason": "store-away"})


class _Found:
    """What one commit is made of."""

    def __init__(self, at_ms: int) -> None:
        self.at_ms = at_ms
        self.changes: dict[str, lasting.Changes] = {}
        self.headers: dict[str, str] = {}
        self.emptied: list[str] = []
        self.merged: list[str] = []
        self.logs: dict[str, list[dict[str, Any]]] = {}
