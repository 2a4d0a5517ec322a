"""The process that stays: what it does with a worker that hangs, cannot start, or was begun too late."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
from pathlib import Path

import pytest
from house import alive

from waitroom import supervisor
from waitroom.model import Address, Admin, PathRule, Room, Settings, StoreUrl, WireLimits
from waitroom.supervisor import Orders, Supervisor, listen


@pytest.fixture
def settings(tmp_path):
    """A whole configuration, on a free port."""
    return Settings(
        listen=Address("127.0.0.1", 0),
        origin=Address("127.0.0.1", 1),
        rooms=(Room("launch", (PathRule("/event/"),)),),
        store=StoreUrl(),
        secret_keys_file=tmp_path / "keys",
        admin=Admin(Address("127.0.0.1", 0), tmp_path / "admin-token"),
        limits=WireLimits(drain_timeout_s=1),
    )


@contextlib.asynccontextmanager
async def supervised(settings, **how):
    """Give a supervisor at work and the task that will end with its exit code; end both."""
    with listen(settings) as sock:
        it = Supervisor(Orders(settings, ("k" * 32,), "json"), sock, **how)
        running = asyncio.create_task(it.run())
        try:
            yield it, running
        finally:
            it._stop()
            await running


def children():
    """Return the processes below this one."""
    pid = os.getpid()
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def until(condition):
    """Wait until ``condition`` holds."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - it is about another process
            await asyncio.sleep(0.02)


async def test_a_worker_that_hangs_is_replaced(settings, monkeypatch, caplog):
    """Its process lives and its loop does not: it is ended, and another serves on the same socket."""
    monkeypatch.setattr(supervisor, "RESTART_S", 0)
    async with supervised(settings, silent_s=0.6) as (it, running):
        await until(lambda: it._heard_s)
        hung = it._worker.pid
        os.kill(hung, signal.SIGSTOP)
        await until(lambda: it._worker.pid != hung and it._heard_s)
        assert not alive(hung)
        assert "the worker hangs; ending it" in caplog.text
    assert running.result() == 0


async def test_told_to_stop_while_a_worker_is_being_started(settings, monkeypatch):
    """SIGTERM between the decision to start a worker and its birth ends that worker too, and the exit code is 0."""
    create = asyncio.create_subprocess_exec

    async def stopped_meanwhile(*command, **how):
        worker = await create(*command, **how)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.05)
        return worker

    monkeypatch.setattr(asyncio, "create_subprocess_exec", stopped_meanwhile)
    with listen(settings) as sock:
        it = Supervisor(Orders(settings, ("k" * 32,), "json"), sock)
        async with asyncio.timeout(10):
            assert await it.run() == 0
    assert not children()


async def test_what_the_operator_can_mend_ends_with_1(settings):
    """A worker that cannot start because of a file is said to be so, and is not started again and again."""
    settings.secret_keys_file.with_name("keys.rooms.json").write_text("{")
    async with supervised(settings) as (_, running):
        assert await running == 1


async def test_a_worker_that_breaks_at_its_start_ends_with_70(settings):
    """What only we can mend has another exit code."""
    broken = Settings(**{name: getattr(settings, name) for name in Settings.__slots__} | {"rooms": None})
    async with supervised(broken) as (_, running):
        assert await running == 70


async def test_sighup_ends_nothing_and_is_answered(settings, caplog):
    """Reload is not built: the worker goes on, and the log says what to do instead."""
    async with supervised(settings) as (it, running):
        await until(lambda: it._heard_s)
        worker = it._worker.pid
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: "reload is not built yet" in caplog.text)
        assert (it._worker.pid, running.done()) == (worker, False)


async def test_a_worker_may_have_as_many_files_open_as_it_has_connections(settings):
    """A soft limit of 1,024, which is what most systems start with, is raised for the worker alone."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
    try:
        async with supervised(settings) as (it, _):
            await until(lambda: it._heard_s)
            limits = resource.prlimit(it._worker.pid, resource.RLIMIT_NOFILE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert limits[0] > 1024
