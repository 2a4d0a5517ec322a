"""The process that stays: how it fills its posts, replaces whole sets of workers, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from house import alive, free_port, processes
from house import until as until_sync

from waitroom import child as child_module
from waitroom import supervisor as supervisor_module
from waitroom.channel import BEAT_S, Message, Orders, Pieces, read_message
from waitroom.errors import ConfigError, Mistake, StartError
from waitroom.model import Address, Admin, PathRule, Room, Settings, StoreUrl, WireLimits
from waitroom.sockets import listen
from waitroom.store.remote import RemoteStore
from waitroom.supervisor import Supervisor
from waitroom.tether import Tether

GET = b"GET /.waitroom/health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


@pytest.fixture
def settings(tmp_path):
    """A whole configuration, on a free port, for two workers."""
    return Settings(
        listen=Address("127.0.0.1", 0),
        origin=Address("127.0.0.1", 1),
        rooms=(Room("launch", (PathRule("/event/"),)),),
        store=StoreUrl("sqlite", tmp_path / "record.db"),
        secret_keys_file=tmp_path / "keys",
        admin=Admin(Address("127.0.0.1", 0), tmp_path / "admin-token"),
        workers=2,
        limits=WireLimits(drain_timeout_s=1),
    )


@pytest.fixture(autouse=True)
def at_once(monkeypatch, caplog):
    """A child that has died is replaced without a pause, unless a test is about the pause; all is logged."""
    monkeypatch.setattr(supervisor_module, "RESTART_S", 0.01)
    caplog.set_level("INFO", "waitroom")


class File:
    """What a reload reads: ``settings``, or an ``error`` to be raised; ``reads`` counts."""

    def __init__(self, settings):
        self.settings = settings
        self.error = None
        self.reads = 0

    def __call__(self):
        """Read it."""
        self.reads += 1
        if self.error is not None:
            raise self.error
        return Orders(self.settings, ("k" * 32,), "json")

    def change(self, **what):
        """Write other settings."""
        self.settings = dataclasses.replace(self.settings, **what)


@contextlib.asynccontextmanager
async def supervised(settings, *, ready=True, **how):
    """Give a supervisor at work and the file it reads; ``it.running`` ends with its exit code. End both."""
    file = File(settings)
    with listen(settings.listen, "choose another") as sock:
        it = Supervisor(file(), sock, file, **how)
        it.port = sock.getsockname()[1]
        it.running = asyncio.create_task(it.run())
        try:
            if ready:
                await until(lambda: len(serving(it)) == settings.workers or it.running.done())
            yield it, file
        finally:
            it.stop()
            await asyncio.wait({it.running})
    assert not processes(os.getpid())


def serving(it):
    """Return the process ids of the workers that hold a post and are ready."""
    return [post.child.pid for post in it._workers if post.child.was_ready and post.child.code is None]


def keeper(it):
    """Return the process id of the keeper, once it is ready."""
    child = it._keeper.child
    return child.pid if child.was_ready and child.code is None else None


async def until(condition):
    """Wait until ``condition`` holds."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - it is about another process
            await asyncio.sleep(0.02)


async def ask(port, raw=GET):
    """Ask on a fresh connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(raw)
    answer = await reader.read()
    writer.close()
    return answer


# Filling the posts.


async def test_one_keeper_and_each_worker_its_post(settings):
    """The keeper is ready before the first worker is born; workers know their index and where the keeper is."""
    async with supervised(settings) as (it, _):
        roles = {role for _, role in processes(os.getpid())}
        assert roles == {"keeper", "worker"}
        assert [post.child.orders.index for post in it._workers] == [0, 1]
        assert it._keeper.child.born_s < min(post.child.born_s for post in it._workers)
        addresses = {post.child.orders.store_address for post in (it._keeper, *it._workers)}
        assert addresses == {it.orders.store_address}
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(it.orders.store_address)
        assert b"200 OK" in await ask(it.port)
    assert it.running.result() == 0


async def test_one_worker_is_no_special_case(settings):
    """With a single worker there is a keeper and a worker too, and a reload replaces it in the same way."""
    async with supervised(dataclasses.replace(settings, workers=1)) as (it, _):
        (old,) = serving(it)
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: serving(it) and serving(it) != [old])
        assert len(serving(it)) == 1


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL], ids=["hangs", "dies"])
async def test_a_worker_that_hangs_or_dies_is_replaced(settings, caplog, number):
    """Another serves on the same socket in its post; its sibling and the keeper are left alone."""
    async with supervised(settings, silent_s=0.6) as (it, _):
        (lost, sibling), kept = serving(it), keeper(it)
        os.kill(lost, number)
        await until(lambda: len(serving(it)) == 2 and lost not in serving(it))
        assert not alive(lost)
        assert serving(it)[1] == sibling
        assert keeper(it) == kept
        assert it._workers[0].child.orders.index == 0
        assert ("worker 0 hangs; ending it" in caplog.text) == (number == signal.SIGSTOP)
        assert "worker 0 ended with -9; starting another" in caplog.text


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL], ids=["hangs", "dies"])
async def test_a_keeper_that_hangs_or_dies_is_replaced(settings, number):
    """Workers serve on and are not restarted; the next keeper answers at the same address."""
    async with supervised(settings, silent_s=0.6) as (it, _):
        workers, lost = serving(it), keeper(it)
        os.kill(lost, number)
        store = RemoteStore(it.orders.store_address, patience_s=20)
        asked = asyncio.create_task(store.snapshot("launch"))
        assert b"200 OK" in await ask(it.port)
        await until(lambda: keeper(it) not in (None, lost))
        assert (await asked).room == "launch"
        await store.close()
        assert not alive(lost)
        assert serving(it) == workers


async def test_time_in_which_nobody_ran_is_nobodys_silence(settings, caplog):
    """When the whole machine stood still, nobody is killed for having said nothing meanwhile."""
    async with supervised(settings, silent_s=1.2) as (it, _):
        workers, everybody = serving(it), [pid for pid, _ in processes(os.getpid())]
        for pid in everybody:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(1.5)  # noqa: ASYNC251 - that nothing runs is the point
        await asyncio.sleep(0.3)  # we wake up first
        for pid in everybody:
            os.kill(pid, signal.SIGCONT)
        await asyncio.sleep(1.3)
        assert serving(it) == workers
        assert "hangs" not in caplog.text


def unstartable(settings):
    """Return settings with which the keeper can do something and no worker anything."""
    return dataclasses.replace(settings, limits=dataclasses.replace(settings.limits, connections_per_worker="many"))


async def test_a_child_that_cannot_start_any_more_does_not_spin(settings, monkeypatch):
    """The pause between two starts doubles; when the cause is mended the next start succeeds."""
    monkeypatch.setattr(supervisor_module, "RESTART_S", 0.5)
    async with supervised(settings) as (it, _):
        post = it._workers[0]
        good, post.orders = post.orders, dataclasses.replace(post.orders, settings=unstartable(settings))
        os.kill(serving(it)[0], signal.SIGKILL)
        seen = set()
        began = time.monotonic()
        while time.monotonic() - began < 4:
            seen.add(it._workers[0].child)
            await asyncio.sleep(0.02)
        assert 3 <= len(seen) <= 4
        post.orders = good
        await until(lambda: len(serving(it)) == 2)


async def test_what_the_operator_can_mend_ends_with_1(settings):
    """A worker that cannot start because of a file is said to be so, is not started again, and takes all down."""
    settings.secret_keys_file.with_name("keys.rooms.json").write_text("{")
    async with supervised(settings, ready=False) as (it, _):
        assert await it.running == 1


async def test_a_child_that_breaks_at_its_start_ends_with_70(settings):
    """What only we can mend has another exit code."""
    async with supervised(dataclasses.replace(settings, rooms=None), ready=False) as (it, _):
        assert await it.running == 70


async def test_children_that_cannot_be_born_end_with_70(settings, monkeypatch, caplog):
    """A machine that has no room for another process is said to be so."""

    async def no_room(*_, **__):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(asyncio, "create_subprocess_exec", no_room)
    async with supervised(settings, ready=False) as (it, _):
        assert await it.running == 70
        assert "the keeper cannot be started" in caplog.text


async def test_only_first_children_are_told_to_crash(settings, monkeypatch):
    """``CRASH_AT`` reaches the first keeper and the first workers, and nobody who comes after them."""
    monkeypatch.setenv("CRASH_AT", "release:1000000")

    def told(pid):
        return b"CRASH_AT=release:1000000" in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")

    async with supervised(settings) as (it, _):
        first = [keeper(it), *serving(it)]
        assert all(map(told, first))
        for pid in first[:2]:
            os.kill(pid, signal.SIGKILL)
        await until(lambda: keeper(it) and len(serving(it)) == 2 and not {keeper(it), *serving(it)} & set(first[:2]))
        assert [told(pid) for pid in (keeper(it), *serving(it))] == [False, False, True]
        it.reload()
        await until(lambda: first[2] not in serving(it) and len(serving(it)) == 2)
        assert not any(map(told, serving(it)))


async def test_a_worker_may_have_as_many_files_open_as_it_has_connections(settings):
    """A soft limit of 1,024, which is what most systems start with, is raised for the workers alone."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
    try:
        async with supervised(settings) as (it, _):
            limits = [resource.prlimit(pid, resource.RLIMIT_NOFILE)[0] for pid in (*serving(it), keeper(it))]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert min(limits[:2]) > 1024
    assert limits[2] == 512


async def test_totals_never_go_down(settings):
    """Counters of the ended are kept in the sums; gauges are of those that live; nobody is counted twice."""
    async with supervised(settings) as (it, _):
        for _ in range(20):
            await ask(it.port)
        await until(lambda: it.stats().get("requests_total") == 20)
        lost = next(post.child for post in it._workers if post.child.stats["requests_total"])
        os.kill(lost.pid, signal.SIGKILL)
        seen = []
        while len(serving(it)) < 2 or lost.pid in serving(it):
            seen.append(it.stats()["requests_total"])
            await asyncio.sleep(0.01)
        it.reload()
        for _ in range(150):
            seen.append(it.stats()["requests_total"])
            await asyncio.sleep(0.01)
        assert set(seen) == {20}
        await ask(it.port)
        await until(lambda: it.stats()["requests_total"] == 21)
        it.reload()
        await ask(it.port)
        await until(lambda: it.stats()["requests_total"] == 22)
        stats = it.stats()
        assert stats["connections"] == 0
        assert stats['child_deaths_total{role="worker"}'] == 1
        await until(lambda: it.stats().get('reloads_total{outcome="done"}') == 2)
        await until(lambda: it.stats()['children{role="worker"}'] == 2)


# Reloading.


async def test_a_reload_replaces_every_worker_and_no_keeper(settings, caplog):
    """New settings: the keeper is told, a whole new set serves, and only then the old one goes."""
    async with supervised(settings) as (it, file):
        old, kept = serving(it), keeper(it)
        file.change(rooms=(Room("other", (PathRule("/event/"),)),))
        os.kill(os.getpid(), signal.SIGHUP)
        while not set(old).isdisjoint(serving(it)):
            assert all(map(alive, old)), "an old worker went before the new ones were ready"
            await asyncio.sleep(0.005)
        assert len(serving(it)) == 2
        assert keeper(it) == kept
        assert it._keeper.child.orders.settings.rooms[0].name == "other"
        assert b"200 OK" in await ask(it.port, GET.replace(b"health/live", b"other/now"))
        await until(lambda: not any(map(alive, old)))
        assert "reloaded, workers: 2" in caplog.text
        assert "ended with" not in caplog.text


async def test_a_reload_may_ask_for_more_workers_or_fewer(settings):
    """``workers`` is honoured, and replacements are made for as many as there are now."""
    async with supervised(settings) as (it, file):
        for count in (3, 1):
            file.change(workers=count)
            it.reload()
            await until(lambda count=count: len(it._workers) == count)
            assert len(serving(it)) == count
        (only,) = serving(it)
        os.kill(only, signal.SIGKILL)
        await until(lambda: serving(it) not in ([], [only]))
        await until(lambda: len(processes(os.getpid())) == 2)


async def test_a_reload_that_cannot_be_is_refused_and_changes_nothing(settings, caplog):
    """Every mistake is logged, the old configuration stays, and nobody is touched; a good one after it is taken."""
    mistakes = [Mistake("a.yaml", 3, "rooms", "is no list"), Mistake("a.yaml", 9, "x", "is no setting")]
    refusals = {
        "2 mistakes in the configuration": ConfigError(mistakes),
        "keys: there are no signing keys": StartError("keys: there are no signing keys"),
        "a fault of ours; see above": RuntimeError("a bug"),
        "`listen` changed, which needs a restart": dataclasses.replace(settings, listen=Address("127.0.0.1", 1)),
        "`store` changed, which needs a restart": dataclasses.replace(settings, store="elsewhere"),
    }
    async with supervised(settings) as (it, file):
        before, orders = [keeper(it), *serving(it)], it.orders
        for words, change in refusals.items():
            file.error, file.settings = (change, settings) if isinstance(change, Exception) else (None, change)
            os.kill(os.getpid(), signal.SIGHUP)
            said = f"reload refused: {words}; the old configuration stays"
            await until(lambda said=said: said in caplog.text)
            assert [keeper(it), *serving(it)] == before
            assert it.orders == orders
            assert it._keeper.child.orders.settings == settings
        assert "a.yaml:3: rooms: is no list" in caplog.text
        assert "a.yaml:9: x: is no setting" in caplog.text
        file.error, file.settings = None, settings
        it.reload()
        await until(lambda: "reloaded, workers: 2" in caplog.text)


async def test_a_reload_whose_workers_cannot_start_leaves_the_old_ones(settings, caplog):
    """One that ends before it is ready takes the whole new set with it; the keeper is told the old settings again."""
    async with supervised(settings) as (it, file):
        before = [keeper(it), *serving(it)]
        file.settings = unstartable(settings)
        it.reload()
        await until(lambda: "the old configuration stays" in caplog.text)
        assert "cannot start; see above" in caplog.text
        assert [keeper(it), *serving(it)] == before
        assert it.orders.settings == settings
        assert it._keeper.child.orders.settings == settings
        await until(lambda: len(processes(os.getpid())) == 3)


async def test_who_has_ended_is_not_said_to_hang(settings, caplog):
    """A worker that could not start is retired with its set, after its end: nobody is to look for what hangs there."""
    async with supervised(settings) as (it, _):
        child = it._workers[0].child
        os.kill(child.pid, signal.SIGKILL)
        await child.ended()
        child.retire(0.01)
        await asyncio.sleep(0.1)
        assert "does not end in time" not in caplog.text


async def test_a_reload_whose_workers_are_never_ready_leaves_the_old_ones(settings, caplog, monkeypatch):
    """One that hangs at its start is ended, and the reload with it."""
    async with supervised(settings) as (it, _):
        before = [keeper(it), *serving(it)]
        monkeypatch.setattr(child_module, "READY_WITHIN_S", 0.5)
        it.reload()
        await until(lambda: len(processes(os.getpid())) == 5)
        for pid, _ in processes(os.getpid())[3:]:
            os.kill(pid, signal.SIGSTOP)
        await until(lambda: "the old configuration stays" in caplog.text)
        assert "hangs; ending it" in caplog.text
        assert [keeper(it), *serving(it)] == before


async def test_a_reload_whose_keeper_does_not_answer_is_refused(settings, caplog, monkeypatch):
    """Nobody knows which orders hold in it, so it is replaced by one that has the old ones; the workers serve on."""
    monkeypatch.setattr(child_module, "CONFIGURED_WITHIN_S", 0.2)
    async with supervised(settings) as (it, file):
        lost, workers = keeper(it), serving(it)
        os.kill(lost, signal.SIGSTOP)
        file.change(trusted_proxies=("anything new",))
        it.reload()
        await until(lambda: "reload refused: the keeper does not answer" in caplog.text)
        await until(lambda: keeper(it) not in (None, lost))
        assert it._keeper.child.orders.settings == settings
        assert serving(it) == workers
        os.kill(keeper(it), signal.SIGKILL)
        await until(lambda: it._keeper.child.code is not None or keeper(it) is None)


async def test_many_sighups_are_few_reloads(settings, caplog):
    """A storm is one reload; whatever comes during it is one more, so that the last word of the file holds."""
    async with supervised(settings) as (it, file):
        for _ in range(50):
            os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: file.reads == 2)
        file.change(trusted_proxies=("the last word",))
        for _ in range(50):
            os.kill(os.getpid(), signal.SIGHUP)
            await asyncio.sleep(0.002)
        await until(lambda: caplog.text.count("reloaded, workers: 2") == 2)
        await asyncio.sleep(0.3)
        assert file.reads == 3
        assert it.orders.settings.trusted_proxies == ("the last word",)


async def test_reloads_in_a_row_do_not_pile_up_workers(settings, caplog, monkeypatch):
    """With as many sets draining as may be, a reload waits for one of them to end."""
    monkeypatch.setattr(supervisor_module, "RETIRING_SETS", 0)
    settings = dataclasses.replace(settings, workers=1, limits=WireLimits(drain_timeout_s=2))
    async with supervised(settings) as (it, _):
        held = await asyncio.open_connection("127.0.0.1", it.port)
        await until(lambda: it.stats()["connections"] == 1)
        it.reload()
        await until(lambda: "reloaded, workers: 1" in caplog.text)
        it.reload()
        await asyncio.sleep(1)
        assert caplog.text.count("reloaded, workers: 1") == 1
        held[1].close()
        await until(lambda: caplog.text.count("reloaded, workers: 1") == 2)


# Ending.


async def test_told_to_stop_while_a_child_is_being_started(settings, monkeypatch):
    """SIGTERM between the decision to start a child and its birth ends that child too, and the exit code is 0."""
    monkeypatch.setattr(supervisor_module, "END_WITHIN_S", 20.0)
    create = asyncio.create_subprocess_exec
    for victim in range(3):
        born = []

        async def stopped_meanwhile(*command, born=born, victim=victim, **how):
            process = await create(*command, **how)
            born.append(process)
            if len(born) == victim + 1:
                os.kill(os.getpid(), signal.SIGTERM)
                await asyncio.sleep(0.05)
            return process

        monkeypatch.setattr(asyncio, "create_subprocess_exec", stopped_meanwhile)
        async with supervised(settings, ready=False) as (it, _):
            async with asyncio.timeout(15):  # who is not told would be killed later
                assert await it.running == 0
        assert not processes(os.getpid())


async def test_told_to_stop_during_a_reload(settings):
    """Old workers, new ones and the keeper all end, and the exit code is 0."""
    async with supervised(settings) as (it, _):
        it.reload()
        await until(lambda: len(it._children) == 5)
        await asyncio.sleep(0.1)
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(20):
            assert await it.running == 0
        assert not processes(os.getpid())


async def test_a_worker_says_that_it_is_not_ready_when_the_house_ends(settings):
    """On a connection that is kept: after a reload it is told 200 and to close, at the end of all 503."""
    raw = GET.replace(b"live", b"ready").replace(b"Connection: close\r\n", b"")
    async with supervised(settings) as (it, _):
        for end, status in ((it.reload, b"200"), (it.stop, b"503")):
            reader, writer = await asyncio.open_connection("127.0.0.1", it.port)
            writer.write(raw)
            first = await reader.readuntil(b"\r\n\r\nok\n")
            assert b" 200 " in first
            assert b"Connection: close" not in first
            old = set(it._children)
            end()
            await until(lambda old=old: any(child.retiring for child in old))
            await asyncio.sleep(0.1)
            writer.write(raw)
            last = await reader.read()
            assert b" %b " % status in last
            assert b"Connection: close" in last
            writer.close()


async def test_who_does_not_end_in_time_is_killed(settings, monkeypatch, caplog):
    """A stop ends within drain_timeout and a little, whatever a child does; the keeper is the last to go."""
    monkeypatch.setattr(supervisor_module, "END_WITHIN_S", 0.3)
    async with supervised(settings) as (it, _):
        stuck = [keeper(it), serving(it)[1]]
        for pid in stuck:
            os.kill(pid, signal.SIGSTOP)
        began = time.monotonic()
        it.stop()
        assert await it.running == 0
        assert time.monotonic() - began > 1.3
        assert "worker 1 does not end in time; ending it" in caplog.text
        assert caplog.text.index("worker 1 does not") < caplog.text.index("the keeper does not")


ALONE = """
import asyncio, sys
from pathlib import Path
from waitroom import logs
from waitroom.channel import Orders
from waitroom.model import *
from waitroom.sockets import listen
from waitroom.supervisor import Supervisor
settings = Settings(
    listen=Address("127.0.0.1", int(sys.argv[1])), origin=Address("127.0.0.1", 1),
    rooms=(Room("launch", (PathRule("/event/"),)),), secret_keys_file=Path(sys.argv[2]), workers=4,
    store=StoreUrl("sqlite", Path(sys.argv[2] + ".db")), admin=Admin(Address("127.0.0.1", 0), Path(sys.argv[2])),
)
logs.configure("text")
orders = Orders(settings, ("k" * 32,), "text")
with listen(settings.listen, "choose another") as sock:
    sys.exit(asyncio.run(Supervisor(orders, sock, lambda: orders).run()))
"""


def test_a_killed_supervisor_leaves_nobody_behind(tmp_path):
    """Four workers, one of them stopped, and the keeper end by themselves; the next start finds the port free."""
    port = free_port()
    log = tmp_path / "log"
    command = [sys.executable, "-c", ALONE, str(port), str(tmp_path / "keys")]
    for _ in range(2):
        with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
            try:
                until_sync(lambda: "ready on" in log.read_text(), log.read_text())
                children = processes(process.pid)
                assert sorted(role for _, role in children) == ["keeper", *["worker"] * 4]
                os.kill(next(pid for pid, role in children if role == "worker"), signal.SIGSTOP)
            finally:
                process.kill()
        gone(children)


def gone(children):
    """Wait until nobody of ``children`` is left; who is left is, so that no test leaves a process behind, killed."""
    try:
        until_sync(lambda: not any(alive(pid) for pid, _ in children), f"{children} are left", patience_s=2)
    finally:
        for pid, _ in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_a_supervisor_killed_at_any_moment_of_the_start_leaves_nobody_behind(tmp_path):
    """Also children that had not yet been given their orders, or had not yet said anything."""
    command = [sys.executable, "-c", ALONE, "0", str(tmp_path / "keys")]
    for delay_s in (0.25, 0.4, 0.55, 0.7, 0.85):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(delay_s)
        children = processes(process.pid)
        process.kill()
        process.wait()
        gone(children)


# The child's end.


@contextlib.asynccontextmanager
async def tethered(configure):
    """Give the supervisor's end of a channel, and the child's end, held."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)  # noqa: FBT003 - the standard library's signature
        tether = Tether(theirs)
        stopped = asyncio.Event()
        tether.hold(lambda _: stopped.set(), lambda: {"heard_total": 3}, serves=lambda: True, configure=configure)
        yield ours, tether, stopped
        await tether.let_go()


async def said(ours, pieces, kind):
    """Return the next message of a kind."""
    while True:
        for piece in pieces.feed(await asyncio.wait_for(asyncio.get_running_loop().sock_recv(ours, 65536), 20)):
            if (message := read_message(piece)).kind == kind:
                return message


async def test_a_child_answers_new_orders(settings):
    """It says that they hold, or why they do not; its own faults it keeps to its log."""
    taken = []

    async def configure(orders):
        taken.append(orders)
        if len(taken) == 2:
            raise StartError("the file is gone")
        if len(taken) == 3:
            raise RuntimeError("a bug with secrets in it")

    orders = Orders(settings, ("k" * 32,), "json")
    async with tethered(configure) as (ours, _, _):
        pieces, loop = Pieces(), asyncio.get_running_loop()
        assert await said(ours, pieces, "ready") == Message("ready", {"heard_total": 3})
        await loop.sock_sendall(ours, orders.packed()[:7])
        await asyncio.sleep(0.05)
        await loop.sock_sendall(ours, orders.packed()[7:])
        assert (await said(ours, pieces, "configured")).message == ""
        for words in ("the file is gone", "a fault of ours; see the log"):
            await loop.sock_sendall(ours, orders.packed())
            assert (await said(ours, pieces, "refused")).message == words
    assert taken == [orders] * 3
    assert "kkk" not in repr(orders)


async def test_a_beat_says_how_late_the_loop_is():
    """Whoever blocks the loop is seen in the next beat."""
    async with tethered(None) as (ours, _, _):
        pieces = Pieces()
        await said(ours, pieces, "ready")
        before_s = (await said(ours, pieces, "beat")).stats["loop_lag_seconds"]
        time.sleep(BEAT_S + 5 * before_s + 0.3)  # noqa: ASYNC251 - that is the point
        assert (await said(ours, pieces, "beat")).stats["loop_lag_seconds"] > before_s + 0.2


async def test_a_child_is_told_to_stop_and_has_a_last_word():
    """SIGTERM calls for its end; its last counters are told when it lets go."""
    async with tethered(None) as (ours, tether, stopped):
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(stopped.wait(), 20)
        pieces = Pieces()
        await said(ours, pieces, "ready")
        await tether.let_go()
        assert (await said(ours, pieces, "beat")).stats == {"heard_total": 3}


def test_pieces_come_whole_however_they_arrive():
    """Messages are taken apart by their lengths, whatever the reads were."""
    messages = [Message("beat", {"a_total": 1.5}), Message("refused", {}, "ä" * 300), Message("ready")]
    stream = b"".join(message.packed() for message in messages)
    for step in (1, 2, 3, 7, 64, len(stream)):
        pieces = Pieces()
        found = [piece for at in range(0, len(stream), step) for piece in pieces.feed(stream[at : at + step])]
        assert [read_message(piece) for piece in found] == messages
