"""Losing the file under a house that runs: those with a place or a pass notice nothing, newcomers are told honestly."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from typing import TYPE_CHECKING

import httpx
import pytest
from house import RecordingOrigin, Visitor, processes, running, until

if TYPE_CHECKING:
    from pathlib import Path

ROOM = {"always_queue": True, "total_active_users": 1}
SQLITE = {"store": "sqlite:///record.db", "workers": 2}


def populate(house):
    """Let one in, and two wait."""
    inside, first, second = (Visitor(house) for _ in range(3))
    inside.event()
    until(lambda: inside.me()["state"] == "called")
    assert inside.is_in()
    for visitor in (first, second):
        visitor.event()
        until(lambda visitor=visitor: visitor.me()["state"] == "waiting")
    return inside, first, second


def ready(house):
    """Return what ``ready`` says."""
    return httpx.get(f"{house.url}/.waitroom/health/ready", trust_env=False).text


def lose(house, how):
    """Take the file away from under the house."""
    path = house.folder / "record.db"
    match how:
        case "deleted":
            for one in house.folder.glob("record.db*"):
                one.unlink()
        case "cut":
            with path.open("r+b") as file:
                file.truncate(10)
        case _:
            (house.folder / "old").write_bytes(b"an older copy, or anything else")
            (house.folder / "old").replace(path)


@pytest.mark.parametrize("how", ["deleted", "cut", "replaced"])
def test_a_file_lost_while_it_is_used_costs_nobody_anything(tmp_path: Path, origin: RecordingOrigin, how: str) -> None:
    """The keeper's memory is the last word: numbers go on, passes and places hold, and a restart finds them on disk."""
    with running(tmp_path, origin, ROOM, **SQLITE) as house:
        inside, first, second = populate(house)
        lose(house, how)
        newcomer = Visitor(house)
        until(lambda: newcomer.event().status_code == 200)
        assert 3 < newcomer.me()["number"] < 10
        assert inside.is_in()
        assert (first.me()["number"], second.me()["number"]) == (2, 3)
        assert house.logged("store-back")
        assert house.stop() == 0
        house.start()
        assert inside.is_in()
        assert (first.me()["number"], second.me()["number"]) == (2, 3)
        assert not [seen for seen in origin.seen if seen.header("Waitroom-Number") not in (None, "1")]


def test_while_a_backup_holds_the_lock_newcomers_are_told_and_nobody_else_notices(
    tmp_path: Path, origin: RecordingOrigin
) -> None:
    """503 with Retry-After, no number and no cookie; polls, places and passes go on; nobody gets a 500."""
    with running(tmp_path, origin, ROOM, **SQLITE) as house:
        inside, first, _ = populate(house)
        backup = sqlite3.connect(tmp_path / "record.db", isolation_level=None)
        backup.execute("BEGIN IMMEDIATE")
        newcomer = Visitor(house)
        page = newcomer.event()
        assert page.status_code == 503
        assert page.headers["retry-after"]
        assert "set-cookie" not in page.headers
        assert "data-number" not in page.text
        api = newcomer.post("/.waitroom/launch/join", headers={"Accept": "application/json"})
        assert (api.status_code, "retry-after" in api.headers) == (503, True)
        until(lambda: "the store is away" in ready(house))
        for _ in range(10):
            assert inside.is_in()
            assert first.me()["state"] == "waiting"
        backup.execute("ROLLBACK")
        backup.close()
        until(lambda: newcomer.event().status_code == 200)
        assert newcomer.me()["number"] > 3
        until(lambda: "away" not in ready(house))


def test_a_record_that_is_gone_at_the_start_never_begins_at_one(tmp_path: Path, origin: RecordingOrigin) -> None:
    """Deleted while the house was down: a new series, the roll is called and ``ready`` says so."""
    with running(tmp_path, origin, ROOM, **SQLITE) as house:
        inside, first, second = populate(house)
        assert house.stop() == 0
        lose(house, "deleted")
        house.start()
        assert "calling the roll" in ready(house)
        newcomer = Visitor(house)
        newcomer.event()
        assert newcomer.me()["number"] > 1_000_000
        assert inside.is_in(), "a pass outlives the record"
        assert (first.me()["number"], second.me()["number"]) == (2, 3)
        assert {first.me()["state"], newcomer.me()["state"]} == {"waiting"}


def test_an_older_copy_put_back_gives_no_number_twice(tmp_path: Path, origin: RecordingOrigin) -> None:
    """A backup restored while the house was down: whoever came after it was made keeps the place."""
    with running(tmp_path, origin, ROOM, **SQLITE) as house:
        populate(house)
        assert house.stop() == 0
        shutil.copy(tmp_path / "record.db", tmp_path / "backup")
        house.start()
        late = [Visitor(house) for _ in range(5)]
        numbers = []
        for visitor in late:
            visitor.event()
            numbers.append(visitor.me()["number"])
        assert house.stop() == 0
        for one in tmp_path.glob("record.db*"):
            one.unlink()
        shutil.copy(tmp_path / "backup", tmp_path / "record.db")
        house.start()
        newcomer = Visitor(house)
        newcomer.event()
        assert newcomer.me()["number"] > 1_000_000
        assert [visitor.me()["number"] for visitor in late] == numbers


def test_a_killed_keeper_is_not_noticed_by_who_waits(tmp_path: Path, origin: RecordingOrigin) -> None:
    """While it is replaced polls and passes go on; a join waits for it and then has the next number."""
    with running(tmp_path, origin, ROOM, **SQLITE) as house:
        inside, first, _ = populate(house)
        keeper = next(pid for pid, role in processes(house.process.pid) if role == "keeper")
        os.kill(keeper, signal.SIGKILL)
        assert first.me()["state"] == "waiting"
        assert inside.is_in()
        newcomer = Visitor(house)
        assert newcomer.event().status_code == 200
        assert newcomer.me()["number"] == 4
