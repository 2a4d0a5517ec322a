"""Whether each of four workers gets its share, flooding one record whose every commit waits 5 ms for the disk.

SQLite's own lock is not fair: of four processes that commit back to back one takes every commit (docs/adr/0007). Here
one process keeps the record and the workers hand it their batches. Each worker runs the product's own service and
ticker, with as many joins under way at once as ``IN_FLIGHT``; a new one begins whenever one ends. The bar: no worker's
p99 of a join above 500 ms, no tick more than a second late, no *busy* error.

``python bench/fairness.py`` prints one line a worker and exits 1 when the bar is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from waitroom.clock import SystemClock
from waitroom.core.tokens import Keyring
from waitroom.errors import StoreAway
from waitroom.model import TICK_S, PathRule, Room
from waitroom.service import RoomService
from waitroom.store.notes import Notes
from waitroom.store.remote import RemoteStore
from waitroom.store.serving import StoreServer
from waitroom.store.sqlite import SqliteStore
from waitroom.ticker import Ticker

WORKERS = 4
SECONDS = 8.0
DISK_S = 0.005
IN_FLIGHT = 500
BAR_JOIN_S = 0.5
BAR_TICK_S = 1.0
ROOM = Room("flood", (PathRule("/event/"),), always_queue=True, total_active_users=100, new_users_per_minute=6000)


class SlowDatabase(sqlite3.Connection):
    """A connection whose commits take as long as a slow disk's flush."""

    def execute(self, statement: str, *arguments: object) -> sqlite3.Cursor:
        """Wait before a commit."""
        if statement == "COMMIT":
            time.sleep(DISK_S)
        return super().execute(statement, *arguments)


async def keep(folder: Path) -> None:
    """Keep the record until told to end, on a socket whose name is printed."""
    connect = sqlite3.connect
    sqlite3.connect = lambda *where, **how: connect(*where, factory=SlowDatabase, **how)  # type: ignore[assignment]
    store = SqliteStore([ROOM], SystemClock(), folder / "record.db", Notes(folder / "notes"), folder / "seal")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind("")
    listening.listen()
    await StoreServer(store, listening).start()
    print(listening.getsockname().hex(), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    print(json.dumps({"commits": store._file.commits}), flush=True)


async def flood(address: bytes) -> None:
    """Join as fast as answers come; print what was seen."""
    store = RemoteStore(address)
    view = await store.snapshot(ROOM.name)
    service = RoomService(ROOM, view, store, Keyring(["k" * 32]), SystemClock(), worker=f"{time.time_ns()}")
    ticker = Ticker([service], store)
    joins_s: list[float] = []
    ticks_s: list[float] = []
    errors = 0
    end_s = time.monotonic() + SECONDS

    async def visitor() -> None:
        nonlocal errors
        while time.monotonic() < end_s:
            began_s = time.monotonic()
            try:
                await service.join()
            except StoreAway:
                errors += 1
                await asyncio.sleep(0.1)
            joins_s.append(time.monotonic() - began_s)

    async def tick() -> None:
        nonlocal errors
        due_s = time.monotonic()
        while due_s < end_s:
            due_s += TICK_S
            await asyncio.sleep(due_s - time.monotonic())
            try:
                await ticker.step(service)
            except StoreAway:
                errors += 1
            ticks_s.append(time.monotonic() - due_s)

    await asyncio.gather(tick(), *(visitor() for _ in range(IN_FLIGHT)))
    joins_s.sort()
    seen = {
        "joins": len(joins_s),
        "join_p50_ms": round(joins_s[len(joins_s) // 2] * 1000),
        "join_p99_ms": round(joins_s[len(joins_s) * 99 // 100] * 1000),
        "latest_tick_ms": round(max(ticks_s) * 1000),
        "errors": errors,
    }
    print(json.dumps(seen), flush=True)


def main() -> int:
    """Run the keeper and the workers, and judge what they saw."""
    parser = argparse.ArgumentParser(description="Four flooded workers on one record, with a disk slowed to 5 ms.")
    parser.add_argument("--keep", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--flood", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.keep:
        asyncio.run(keep(options.keep))
        return 0
    if options.flood:
        asyncio.run(flood(bytes.fromhex(options.flood)))
        return 0
    this = [sys.executable, __file__]
    with tempfile.TemporaryDirectory() as folder:
        keeper = subprocess.Popen([*this, "--keep", folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert keeper.stdout is not None
        address = keeper.stdout.readline().strip()
        workers = [
            subprocess.Popen([*this, "--flood", address], stdout=subprocess.PIPE, text=True) for _ in range(WORKERS)
        ]
        seen = [json.loads(worker.communicate()[0]) for worker in workers]
        said, _ = keeper.communicate("")
    for index, one in enumerate(seen):
        print(f"worker {index}: {one}")
    joins = [one["joins"] for one in seen]
    share = min(joins) / max(joins)
    print(f"{sum(joins)} joins in {SECONDS:.0f} s, {json.loads(said)['commits']} commits; least share {share:.2f}")
    kept = all(
        one["join_p99_ms"] <= BAR_JOIN_S * 1000 and one["latest_tick_ms"] <= BAR_TICK_S * 1000 and not one["errors"]
        for one in seen
    )
    print("the bar is kept" if kept else "THE BAR IS MISSED")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
