"""The shop's SQLite file: who may touch it, on which thread, and what a failure is called.

SQLite calls block, so none is made on the event loop. Writers take turns on *one* thread: SQLite lets one writer in at
a time anyway, and its lock is not fair, while a thread's queue is. Readers have a few threads of their own; in WAL mode
a reader waits for no writer. Another process may write to the same file, so a write begins with ``BEGIN IMMEDIATE``
(the lock is taken before anything is read, so nothing read can be stale) and waits ``busy_timeout_s`` for it at most.

A commit is on the disk before its answer leaves (``synchronous = FULL``). Every failure of SQLite becomes
``DatabaseUnavailable`` here, so that no page needs to know which library is below.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import schema

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")

READERS = 3
"""Threads that read. Reading a page takes some 50 µs, so this is ample; more would fight for the interpreter."""

WAITING_MAX = 1_000
"""Calls that may stand in line for a thread; beyond it a request is told to come back rather than left to hang."""


class DatabaseUnavailable(Exception):  # noqa: N818 - a state of the world, named as one
    """The file cannot be read or written now. Nothing of a failed write remains; repeating it is safe."""


class Database:
    """An open shop file. ``read`` and ``write`` are for the event loop; ``close`` when no call is under way."""

    def __init__(self, path: Path, *, stock: int, busy_timeout_s: float) -> None:
        """Open ``path``, and fill it with ``stock`` units if it is new. Raises ``DatabaseUnavailable``."""
        self._path = path
        self._busy_timeout_s = busy_timeout_s
        self._thread = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._waiting = 0
        self._writer = ThreadPoolExecutor(1, "writer")
        self._readers = ThreadPoolExecutor(READERS, "reader")
        try:
            self._writer.submit(self._prepare, stock).result()
        except BaseException:
            self.close()
            raise

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work`` against one unchanging view of the data."""
        return await self._run(self._readers, "BEGIN", work)

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work`` in a transaction: when this returns it is on the disk; when it raises, nothing happened."""
        return await self._run(self._writer, "BEGIN IMMEDIATE", work)

    def close(self) -> None:
        """Finish what was begun and close the file."""
        self._writer.shutdown()
        self._readers.shutdown()
        for connection in self._connections:
            connection.close()

    async def _run(self, pool: ThreadPoolExecutor, begin: str, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._waiting >= WAITING_MAX:
            raise DatabaseUnavailable("too many requests are waiting for it")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, self._transact, begin, work)
        finally:
            self._waiting -= 1

    def _transact(self, begin: str, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            connection = self._connection()
            connection.execute(begin)
            try:
                result = work(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise DatabaseUnavailable(str(error)) from error
        return result

    def _connection(self) -> sqlite3.Connection:
        """Return this thread's own connection, opened when it first asks."""
        known: sqlite3.Connection | None = getattr(self._thread, "connection", None)
        if known is not None:
            return known
        connection = sqlite3.connect(
            self._path,
            timeout=self._busy_timeout_s,
            isolation_level=None,  # transactions are begun by us, by name
            check_same_thread=False,  # closed by the main thread, when its own has ended
        )
        self._connections.append(connection)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        self._thread.connection = connection
        return connection

    def _prepare(self, stock: int) -> None:
        def check_or_create(connection: sqlite3.Connection) -> None:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                schema.create(connection, stock)
            elif version != schema.VERSION:
                raise DatabaseUnavailable(f"its format is {version}, this program knows {schema.VERSION}")

        self._transact("BEGIN IMMEDIATE", check_or_create)
