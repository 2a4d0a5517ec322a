"""The record on disk: what is answered is kept, and what is lost is known to be lost."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
import stat
import threading

import pytest
from rooms import room

from waitroom.core.queueing import CHUNK, GONE, INSIDE, SERIES_STEP, WAITING, Heard, JoinRequest
from waitroom.errors import StartError, StoreAway
from waitroom.model import RoomEvent
from waitroom.ports import Known, Lead, Noted
from waitroom.store import sqlite, sqlitefile
from waitroom.store.notes import Notes
from waitroom.store.sqlite import SqliteStore
from waitroom.testing import FakeClock, OpenedSqlite


class Kept:
    """A record in a folder, its clock, and the phrases in which these tests speak to it."""

    def __init__(self, folder, **settings):
        self.folder = folder
        self.clock = FakeClock()
        self.room = room(**settings)
        self.store = None

    def open(self):
        """Open what stands there."""
        self.store = SqliteStore([self.room], self.clock, self.path, Notes(self.folder / "notes"), self.folder / "seal")
        return self.store

    @property
    def path(self):
        """Where the file is."""
        return self.folder / "record.db"

    def crash(self):
        """End the process."""
        self.store.abandon()

    async def join(self, count=1):
        """Let ``count`` join; return their numbers."""
        requests = [JoinRequest(f"{number:016x}", 5.0) for number in range(count)]
        return [one.number for one in await self.store.join("launch", Known(), requests)]

    async def tick(self, *heard, told_s=1_000.0, budget=100):
        """Take a step as the leader."""
        until_ms = self.store.now_ms() + int(told_s * 1000)
        serving = (await self.view()).serving
        noted = Noted([Heard(number, until_ms) for number in heard])
        return await self.store.tick("launch", Known(), noted, Lead("one", 0, serving, budget))

    async def inside(self, count=1):
        """Bring ``count`` inside."""
        numbers = await self.join(count)
        await self.tick(*numbers)
        claims = await self.store.claim("launch", Known(), [(number, 5.0) for number in numbers])
        assert all(claimed.end_ms for claimed in claims)
        return numbers

    async def view(self):
        """Return the present view."""
        return await self.store.snapshot("launch")


@pytest.fixture
def kept(tmp_path):
    """Return a function that opens a record in an empty folder."""
    opened = []

    def kept(**settings):
        opened.append(Kept(tmp_path, **settings))
        opened[-1].open()
        return opened[-1]

    yield kept
    for one in opened:
        one.crash()


async def until(condition):
    """Wait on the real loop for what another thread does."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - it is about another thread
            await asyncio.sleep(0.01)


# -- what is kept ------------------------------------------------------------------------------------------------------


async def test_everything_that_was_answered_is_there_after_a_crash(kept):
    """Numbers, who is inside and until when, who was called, who waits, who is silent: as if nothing had been."""
    here = kept(total_active_users=2, session_duration_s=600)
    [inside, called, waiting, never] = await here.join(4)
    await here.tick(inside, called, waiting)
    await here.store.claim("launch", Known(), [(inside, 5.0)])
    before = await here.view()
    here.crash()
    here.open()
    after = await here.view()
    assert [after.standing(number) for number in (inside, called, waiting, never)] == [
        before.standing(number) for number in (inside, called, waiting, never)
    ]
    assert (after.issued, after.serving, after.turns, after.inside) == (
        before.issued,
        before.serving,
        before.turns,
        before.inside,
    )
    assert (after.generation, after.base) == (1, 1)
    assert await here.join() == [5]


async def test_what_an_opening_says_comes_after_what_was_said_before_it(kept):
    """The log goes on: neither is lost, and their numbers grow."""
    here = kept()
    await here.store.operate("launch", {"queue_all": True}, "Ada")
    here.crash()
    here.clock.advance(1)
    begins_ms = int(here.clock.wall_s() * 1000) + 900_000
    event = RoomEvent("noon", begins_ms, begins_ms + 900_000, begins_ms - 60_000, shuffle_at_event_start=True)
    here.room = room(events=(event,))
    log = (await here.open().status("launch")).log
    assert [line["who"] for line in log] == ["Ada", "waitroom"]
    assert log[0]["seq"] < log[1]["seq"]
    here.crash()
    assert (await here.open().status("launch")).log[:2] == log


async def test_a_key_is_remembered_across_a_crash(kept):
    """The same Idempotency-Key gets the same number from the next process."""
    here = kept()
    [first] = await here.store.join("launch", Known(), [JoinRequest("a" * 16, 5.0, "key")])
    here.crash()
    here.open()
    assert await here.store.join("launch", Known(), [JoinRequest("b" * 16, 5.0, "key")]) == [first]


async def test_the_journal_is_merged_and_nothing_changes_by_it(kept, monkeypatch):
    """Beyond a size the changed chunks are written whole and the journal is dropped; the record is the same."""
    monkeypatch.setattr(sqlite, "JOURNAL_BYTES_MAX", 200)
    here = kept(total_active_users=5)
    numbers = []
    for _ in range(20):
        numbers += await here.join(7)
        await here.tick(*numbers[::2])
    before = await here.view()
    here.crash()
    [[entries]] = sqlite3.connect(here.path).execute("SELECT coalesce(sum(length(entries)), 0) FROM journal")
    assert entries <= 200 + 14 * len(numbers)
    here.open()
    after = await here.view()
    assert [after.standing(number) for number in numbers] == [before.standing(number) for number in numbers]


async def test_a_hundred_thousand_are_kept_in_a_few_commits(kept):
    """Joins come by the thousand and are kept by the thousand; after a crash the last of them has a place."""
    here = kept()
    await asyncio.gather(*(here.join(1_000) for _ in range(100)))
    assert here.store._file.commits < 20
    here.crash()
    here.open()
    view = await here.view()
    assert (view.issued, view.present) == (100_000, 100_000)
    assert len(view.chunks) == 100_000 // CHUNK + 1


async def test_a_machine_that_boots_again_goes_on_from_the_later_of_its_clocks(kept):
    """Store time never goes back, though the wall clock did while the machine was off."""
    here = kept()
    await here.join()
    at_ms = here.store.now_ms()
    here.crash()
    here.clock.reboot()
    here.clock.step_wall(-86_400)
    here.open()
    assert here.store.now_ms() >= at_ms


async def test_time_that_nobody_was_there_does_not_count_against_anyone(kept):
    """The process was gone for an hour: passes, turns and places are as they were when it went."""
    here = kept(total_active_users=2, session_duration_s=60, claim_within_s=20)
    [inside] = await here.inside()
    [called, waiting] = await here.join(2)
    await here.tick(called, waiting, told_s=10)
    here.crash()
    here.clock.advance(3_600)
    here.open()
    await here.tick()
    view = await here.view()
    assert [view.standing(number) for number in (inside, waiting)] == [INSIDE, WAITING]
    assert called in view.turns
    assert view.stood_ms >= 3_600_000


# -- what is lost ------------------------------------------------------------------------------------------------------


async def give_a_pass_and_places(here):
    """Bring one inside and let three wait; return their numbers."""
    [inside] = await here.join()
    await here.tick(inside, told_s=20)
    await here.store.claim("launch", Known(), [(inside, 5.0)])
    waiting = await here.join(3)
    await here.tick(*waiting, told_s=20)
    return inside, waiting


async def judge_after_a_loss(here, largest, waiting):
    """Assert what holds after any loss: no number twice, no place lost, the roll is called, and then it goes on."""
    [newcomer] = await here.join()
    assert newcomer > largest
    assert newcomer >= 1_700_000_000 * SERIES_STEP
    view = await here.view()
    assert view.rolls_until_ms > here.store.now_ms()
    assert all(view.standing(number) != GONE for number in waiting)
    called = []
    for _ in range(2_000):
        here.clock.advance(0.25)
        called += (await here.tick(newcomer, *waiting, told_s=5)).called
        if len(called) > len(waiting):
            break
    assert called == [*waiting, newcomer]


async def test_a_deleted_record_is_known_to_be_missing(kept):
    """The file is gone when the process starts: it never silently begins at 1."""
    here = kept(session_duration_s=60, total_active_users=5)
    _, waiting = await give_a_pass_and_places(here)
    here.crash()
    for path in here.folder.glob("record.db*"):
        path.unlink()
    here.open()
    await judge_after_a_loss(here, max(waiting), waiting)


async def test_an_older_copy_is_not_believed(kept):
    """A backup is put back: what was given after it was made is unknown, and the room knows that."""
    here = kept(session_duration_s=60, total_active_users=1)
    await here.join(2)
    here.crash()
    shutil.copytree(here.folder, here.folder / "backup")
    here.open()
    later = await here.join(30)
    await here.tick(1, 2, *later)
    here.crash()
    for path in here.folder.glob("record.db*"):
        path.unlink()
    for path in (here.folder / "backup").glob("record.db*"):
        shutil.copy(path, here.folder)
    here.open()
    view = await here.view()
    assert view.rolls_until_ms > here.store.now_ms()
    assert view.standing(later[-1]) != GONE
    [newcomer] = await here.join()
    assert newcomer > max(later)


async def test_a_copy_from_another_machine_is_not_believed(kept, tmp_path_factory):
    """A file of another incarnation says nothing about what was given here."""
    here = kept()
    await here.join(3)
    here.crash()
    elsewhere = Kept(tmp_path_factory.mktemp("elsewhere"))
    elsewhere.open()
    await elsewhere.join(50)
    elsewhere.crash()
    for path in here.folder.glob("record.db*"):
        path.unlink()
    shutil.copy(elsewhere.path, here.path)
    here.open()
    assert (await here.join())[0] > 1_000_000


@pytest.mark.parametrize("size", [0, 1, 100, 4096, 10_000])
async def test_a_cut_file_is_set_aside(kept, size):
    """What is left of it is kept under another name, and the room goes on as after any loss."""
    here = kept(session_duration_s=60, total_active_users=5)
    _, waiting = await give_a_pass_and_places(here)
    await here.store.close()
    with here.path.open("r+b") as file:
        file.truncate(size)
    here.open()
    await judge_after_a_loss(here, max(waiting), waiting)


async def test_garbage_is_set_aside(kept):
    """A file that is no database: its bytes are kept, and said where."""
    here = kept()
    await here.join(3)
    await here.store.close()
    here.path.write_bytes(b"no database at all" * 500)
    here.open()
    assert (await here.join())[0] > 1_000_000
    assert [path.read_bytes()[:2] for path in here.folder.glob("record.db.set-aside-*")] == [b"no"]


@pytest.mark.parametrize("how", ["deleted", "replaced", "cut", "wal deleted"])
async def test_a_file_lost_under_a_running_process_is_written_anew_from_memory(kept, how):
    """Nothing at all is lost: numbers go on, whoever is inside stays, and the next process finds it all."""
    here = kept(session_duration_s=600, total_active_users=1)
    inside, waiting = await give_a_pass_and_places(here)
    match how:
        case "deleted":
            for path in here.folder.glob("record.db*"):
                path.unlink()
        case "replaced":
            (here.folder / "other").write_bytes(b"something else")
            (here.folder / "other").replace(here.path)
        case "cut":
            with here.path.open("r+b") as file:
                file.truncate(5)
        case _:
            (here.folder / "record.db-wal").unlink()
    with pytest.raises(StoreAway):
        await here.join()
    await until(lambda: not here.store.away)
    [newcomer] = await here.join()
    assert newcomer == max(waiting) + 2  # the join that could not be kept left a number that nobody holds
    here.crash()
    here.open()
    view = await here.view()
    assert view.standing(inside) == INSIDE
    assert view.issued == newcomer


async def test_a_lock_held_by_somebody_else_is_waited_out(kept):
    """A backup locks the file: nobody is given a number that would not be kept; afterwards everything goes on."""
    here = kept()
    [first] = await here.join()
    other = sqlite3.connect(here.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for _ in range(3):
        with pytest.raises(StoreAway):
            await here.join()
    other.execute("ROLLBACK")
    other.close()
    await until(lambda: not here.store.away)
    [second] = await here.join()
    assert second > first
    here.crash()
    here.open()
    assert (await here.view()).issued == second


async def test_while_it_is_away_every_clock_stands_still(kept):
    """Passes and turns end as much later as nothing could be kept, and nobody is passed over for it."""
    here = kept(session_duration_s=60, total_active_users=1)
    inside, waiting = await give_a_pass_and_places(here)
    end_ms = (await here.view()).inside[inside]
    other = sqlite3.connect(here.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreAway):
        await here.join()
    here.clock.advance(600)
    other.execute("ROLLBACK")
    other.close()
    await until(lambda: not here.store.away)
    view = await here.view()
    assert view.inside[inside] == end_ms + 600_000
    assert all(view.standing(number) == WAITING for number in waiting)


async def test_a_full_disk_is_said_and_got_over(kept):
    """SQLITE_FULL: the steps are refused, the reason is in the log, and the first that fits is kept."""
    here = kept()
    await here.join()
    db = here.store._file._db
    [[pages]] = db.execute("PRAGMA page_count")
    db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreAway, match="full"):
        await asyncio.gather(*(here.join(1_000) for _ in range(200)))
    db.execute("PRAGMA max_page_count = 1000000")
    await until(lambda: not here.store.away)
    assert await here.join()


async def lock(here):
    """Lock the record as a backup does, and have it noticed; return the lock."""
    other = sqlite3.connect(here.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreAway):
        await here.join()
    return other


async def test_the_time_it_was_away_is_kept_with_the_first_commit(kept):
    """Killed right after it came back: what stood still has stood still, and no pass ended for it."""
    here = kept(session_duration_s=60, total_active_users=1)
    inside, _ = await give_a_pass_and_places(here)
    other = await lock(here)
    here.clock.advance(600)
    other.close()
    await until(lambda: not here.store.away)
    here.crash()
    here.open()
    await here.tick()
    assert (await here.view()).standing(inside) == INSIDE


async def test_the_time_it_was_away_is_kept_by_a_stop(kept):
    """Stopped while nothing could be written, which by then can be: no pass ended for it."""
    here = kept(session_duration_s=60, total_active_users=1)
    inside, _ = await give_a_pass_and_places(here)
    other = await lock(here)
    here.clock.advance(600)
    other.close()
    await here.store.close()
    here.open()
    await here.tick()
    assert (await here.view()).standing(inside) == INSIDE


async def test_a_stop_while_nothing_can_be_written_leaves_no_doubt(kept):
    """The note says no more than the record: what was refused was given to nobody, and the room need not rest."""
    here = kept(session_duration_s=60, total_active_users=1)
    await give_a_pass_and_places(here)
    other = await lock(here)
    await here.store.close()
    other.close()
    here.open()
    assert (await here.view()).base == 1


async def test_a_file_lost_at_the_stop_is_written_anew(kept):
    """Nothing noticed before that it is gone; memory is the last word then too."""
    here = kept()
    [number] = await here.join()
    for path in here.folder.glob("record.db*"):
        path.unlink()
    await here.store.close()
    here.open()
    assert await here.join() == [number + 1]


async def test_a_folder_that_comes_back_is_written_again(kept):
    """A volume that was away for a while: it is tried until it is there, and nothing is lost."""
    here = kept(session_duration_s=600, total_active_users=1)
    inside, waiting = await give_a_pass_and_places(here)
    here.folder.rename(f"{here.folder}-away")
    with pytest.raises(StoreAway):
        await here.join()
    await until(lambda: "unable to open" in here.store.away)
    here.folder.mkdir()
    await until(lambda: not here.store.away)
    [newcomer] = await here.join()
    assert newcomer == max(waiting) + 2
    assert (await here.view()).standing(inside) == INSIDE


async def test_a_lost_file_on_a_full_disk_is_tried_again_and_leaves_no_litter(kept, monkeypatch):
    """The record cannot be begun anew yet: what was half begun is removed, and the next attempt is a whole one."""
    here = kept(session_duration_s=600, total_active_users=1)
    inside, _ = await give_a_pass_and_places(here)
    with monkeypatch.context() as patched:
        patched.setattr(sqlitefile, "SCHEMA", ";".join([*sqlitefile.SCHEMA.split(";")[:3], "no statement"]))
        here.path.unlink()
        with pytest.raises(StoreAway):
            await here.join()
        await until(lambda: "syntax" in here.store.away)
        await asyncio.sleep(2.5 * sqlite.AGAIN_S)
    await until(lambda: not here.store.away)
    assert not list(here.folder.glob("record.db.set-aside-*"))
    here.crash()
    here.open()
    assert (await here.view()).standing(inside) == INSIDE


async def test_a_room_that_is_not_known_harms_no_other(kept):
    """A worker that is ahead of the keeper's settings gets an error; the next commit is as good as ever."""
    here = kept()
    with pytest.raises(KeyError):
        await here.store.snapshot("elsewhere")
    assert await here.join() == [1]


async def test_a_fault_in_keeping_is_not_the_end(kept, monkeypatch):
    """Whatever goes wrong with a commit, who asked is told, and it is tried again."""
    here = kept()
    with monkeypatch.context() as patched:
        patched.setattr(here.store._file, "write", lambda *_: {}["nothing"])
        with pytest.raises(StoreAway):
            await here.join()
    await until(lambda: not here.store.away)
    assert await here.join() == [2]


# -- who may open it ---------------------------------------------------------------------------------------------------


def test_two_processes_never_write_one_record(kept, monkeypatch):
    """The second is refused with a sentence, as long as the first lives."""
    monkeypatch.setattr(sqlitefile, "LOCK_WITHIN_S", 0.1)
    here = kept()
    with pytest.raises(StartError, match="another Waitroom writes this record"):
        Kept(here.folder).open()


def test_a_newer_format_is_refused(kept):
    """A file that may mean something else is not touched."""
    here = kept()
    here.crash()
    with sqlite3.connect(here.path) as db:
        db.execute("PRAGMA user_version = 99")
    before = here.path.read_bytes()
    with pytest.raises(StartError, match="newer Waitroom"):
        here.open()
    assert here.path.read_bytes() == before


def test_somebody_elses_database_is_refused(tmp_path):
    """Named by accident, it is left as it is."""
    db = sqlite3.connect(tmp_path / "record.db")
    db.execute("CREATE TABLE recipes (name)")
    db.close()
    before = (tmp_path / "record.db").read_bytes()
    with pytest.raises(StartError, match="something else"):
        Kept(tmp_path).open()
    assert (tmp_path / "record.db").read_bytes() == before


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    """The sentence names the file and the reason."""
    (tmp_path / "record.db").mkdir()
    with pytest.raises(StartError, match=r"record\.db: the record cannot be opened"):
        Kept(tmp_path).open()


def test_a_broken_seal_is_an_error_at_start(kept):
    """To take it for none would believe any file; the sentence says what deleting it means."""
    here = kept()
    here.crash()
    (here.folder / "seal").write_text("broken")
    with pytest.raises(StartError, match="last word"):
        here.open()
    (here.folder / "seal").unlink()
    here.open()


async def test_a_record_without_its_seal_is_not_believed(kept):
    """Nothing says that it is the last word: nobody is let in until every pass that may be out has ended."""
    here = kept(session_duration_s=60, total_active_users=1)
    await give_a_pass_and_places(here)
    here.crash()
    (here.folder / "seal").unlink()
    here.open()
    assert (await here.view()).rolls_until_ms >= here.store.now_ms() + 60_000


def test_a_record_half_begun_is_begun_again(kept, tmp_path, monkeypatch):
    """Killed, or out of space, while the tables were made: the next start finds nothing, not somebody else's file."""
    folder = tmp_path / "new"
    file = sqlitefile.RecordFile(folder / "record.db", FakeClock(), sqlitefile.Seal(folder / "seal"))
    with monkeypatch.context() as patched:
        patched.setattr(sqlitefile, "SCHEMA", ";".join([*sqlitefile.SCHEMA.split(";")[:3], "no statement"]))
        file.open()
        with pytest.raises(sqlite3.Error):
            file.begin(0)
        file.close()
    file.open()
    file.begin(0)
    file.close()


async def test_a_record_that_makes_no_sense_is_set_aside(kept):
    """Every page of it is whole, but a slot is missing: no loop of failing starts, but a room that knows its loss."""
    here = kept(session_duration_s=60, total_active_users=5)
    _, waiting = await give_a_pass_and_places(here)
    here.crash()
    with sqlite3.connect(here.path) as db:
        db.execute("DELETE FROM slots")
    db.close()
    here.open()
    assert list(here.folder.glob("record.db.set-aside-*"))
    await judge_after_a_loss(here, max(waiting), waiting)


def test_network_file_systems_are_refused(tmp_path, monkeypatch):
    """Their locks cannot be relied on."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"36 35 98:0 / {tmp_path} rw - nfs4 server:/share rw\n")
    read = sqlitefile.Path.read_text
    monkeypatch.setattr(
        sqlitefile.Path, "read_text", lambda path, **how: read(mounts if path.name == "mountinfo" else path, **how)
    )
    with pytest.raises(StartError, match="nfs4"):
        Kept(tmp_path).open()


# -- a slow disk -------------------------------------------------------------------------------------------------------


async def test_what_comes_during_a_commit_is_kept_together_by_the_next(kept, monkeypatch):
    """While the disk is busy, joins of all workers gather; one commit more keeps them all, in order of arrival."""
    here = kept()
    release = threading.Event()
    write = here.store._file.write

    def slow(*arguments):
        release.wait(10)
        return write(*arguments)

    monkeypatch.setattr(here.store._file, "write", slow)
    before = here.store._file.commits
    first = asyncio.create_task(here.join())
    await asyncio.sleep(0.05)
    others = [asyncio.create_task(here.join(5)) for _ in range(20)]
    await asyncio.sleep(0.05)
    release.set()
    await first
    assert [number for other in others for number in await other] == list(range(2, 102))
    assert here.store._file.commits == before + 2


async def test_every_clock_stands_still_during_a_commit_that_hangs(kept, monkeypatch):
    """A disk that hangs for ten minutes and then writes: nobody could be heard, and nobody's pass ended for it."""
    here = kept(session_duration_s=60, total_active_users=1)
    inside, _ = await give_a_pass_and_places(here)
    stood_ms = (await here.view()).stood_ms
    release = threading.Event()
    with monkeypatch.context() as patched:
        write = here.store._file.write
        patched.setattr(here.store._file, "write", lambda *arguments: (release.wait(10), write(*arguments)))
        joining = asyncio.create_task(here.join())
        await asyncio.sleep(0.05)
        here.clock.advance(600)
        release.set()
        await joining
    other = await lock(here)
    other.close()
    await until(lambda: not here.store.away)
    await here.tick()
    view = await here.view()
    assert view.standing(inside) == INSIDE
    assert view.stood_ms == stood_ms + 600_000


async def test_nobody_but_its_owner_reads_the_record(tmp_path):
    """A draw's seed stands in it: the file, and what SQLite keeps beside it, also of one that was open to others."""
    clock = FakeClock()
    for _ in range(2):
        opened = OpenedSqlite(room(), clock, tmp_path)
        await opened.store.snapshot("launch")
        files = [*tmp_path.glob("record.db*")]
        assert len(files) == 3
        assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
        for path in files:
            path.chmod(0o644)
        opened.crash()


async def test_an_account_whose_place_is_no_more_leaves_nothing_in_the_file(kept):
    """Neither its pseudonym nor which number it had: what is forgotten is deleted, and what is not stays."""
    it = kept()
    store = it.store
    for member in ("a" * 32, "b" * 32):
        await store.join("launch", Known(), [JoinRequest("c" * 16, 2.0, members=(member,))])
    await store.leave("launch", Known(), [1])
    for _ in range(2):
        it.clock.advance(0.25)
        await it.tick(2)
    await store.close()
    with contextlib.closing(sqlite3.connect(it.path)) as db:
        assert db.execute("SELECT key FROM repeats").fetchall() == [("\r" + "b" * 32,)]
