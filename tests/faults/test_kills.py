"""Whichever process dies, at whatever moment: no number twice, no place lost, never one too many.

Each test runs a whole house on SQLite in front of a shop that writes down who came, and a crowd of real visitors who
write down what they saw. What is asserted comes from those two logs alone, by the checker that judges the demo.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import random
import signal
from dataclasses import replace

import pytest
from house import House, RecordingOrigin, processes

from waitroom import checker, keys
from waitroom.crashing import STEPS
from waitroom.crowd import Crowd, Habits, Place, Plan
from waitroom.ledger import files, judging

CAP, PER_MINUTE, SESSION_S, CLAIM_S = 4, 6_000, 6, 3
"""So few slots that the crowd fills them: a cap that does not bind proves nothing."""
SEED = int(os.environ.get("SEED", "7"))
"""Of the crowd and of the kills; `SEED=8 pytest tests/faults` plays another."""

KILLS = int(os.environ.get("KILLS", "10"))
"""How many processes are killed at random at least; `make faults` says 200."""

ROOM = {
    "always_queue": True,
    "total_active_users": CAP,
    "new_users_per_minute": PER_MINUTE,
    "claim_within": f"{CLAIM_S}s",
    "refresh": {"near": "500ms", "far": "1s", "farthest": "1s"},
}


class Shop(RecordingOrigin):
    """The shop's log, as the checker reads it: who was let in, and when the room says so."""

    def log(self):
        """Return a line for each request."""
        return [
            checker.Served(
                seen.method,
                seen.target,
                200,
                seen.header("Waitroom-Number"),
                seen.header("Waitroom-Visitor"),
                int(at) if (at := seen.header("Waitroom-Admitted-At")) else None,
            )
            for seen in self.seen
        ]


class Trial:
    """A house on SQLite, a crowd before it, and what both wrote down."""

    def __init__(self, folder, *, workers=2, visitors=60, arrive_s=4.0, session_s=SESSION_S, room=None, environ=None):
        self.shop = Shop()
        self.shop.start()
        self.house = House(
            folder,
            self.shop,
            ROOM | {"session_duration": f"{session_s}s"} | (room or {}),
            {"store": "sqlite:///record.db", "workers": workers},
        )
        self.session_s = session_s
        self.environ = environ or {}
        self.killed_s = []
        self.starting = None
        self._log = io.StringIO()
        plan = Plan(
            visitors,
            SEED,
            arrive_s=arrive_s,
            limit_s=60,
            ordinary_per_s=20,
            habits=Habits(late_s=2, think_s=0.3, silent_leavers=0.15),
        )
        self.crowd = Crowd(plan, Place("127.0.0.1", self.house.port), self._log)

    async def play(self, fault):
        """Let the crowd come while ``fault`` does what it does."""
        await asyncio.to_thread(self.house.start, **self.environ)
        faults = asyncio.create_task(fault(self))
        try:
            await self.crowd.play()
        finally:
            faults.cancel()
            await asyncio.gather(faults, return_exceptions=True)
            if self.starting is not None:  # who is told to end before it can hear it dies of it
                await self.starting
            assert await asyncio.to_thread(self.house.stop) == 0
            self.shop.stop()

    def kill(self, pid):
        """Kill a process, and note when."""
        self.killed_s.append(self.crowd.now_s())
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    async def start_again(self):
        """Start the house, to the end whatever becomes of whoever asked for it."""
        self.starting = asyncio.create_task(asyncio.to_thread(self.house.start))
        await asyncio.shield(self.starting)

    def verdict(self):
        """Return what the two logs say."""
        seen = [checker.Seen(**json.loads(line)) for line in self._log.getvalue().splitlines()]
        rules = checker.Rules(CAP, PER_MINUTE, 10**6, self.session_s, killed_s=tuple(self.killed_s))
        return checker.judge(seen, self.shop.log(), rules)

    def judge(self):
        """Assert what must hold whoever died."""
        verdict = self.verdict()
        assert verdict.numbers_twice == 0
        assert verdict.places_lost == ()
        assert max(verdict.most_active, verdict.most_held) <= CAP
        assert verdict.most_in_a_minute <= PER_MINUTE
        assert verdict.cheats_reached == 0
        assert verdict.left_standing == 0, "the line stands still"
        times_ms = sorted({(served.number, served.admitted_ms) for served in self.shop.log() if served.number})
        assert len({number for number, _ in times_ms}) == len(times_ms), "somebody was admitted twice"
        self.judge_ledger(times_ms)
        return verdict

    def judge_ledger(self, times_ms):
        """Assert that the ledger is whole, and lacks nobody whom the shop saw but those it says it lacks."""
        secrets = keys.load(self.house.folder / "var/keys", {}, make=False)
        paths = files.listed(self.house.folder / "var/ledger")
        verdict = judging.judge(paths, secrets)
        assert verdict.wrong == []
        stated = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
        written = {(str(one["number"]), one["at_ms"]) for one in stated if one["kind"] == "admitted"}
        lacking = sum(int(note.split()[0]) for note in verdict.notes if "are not in the ledger" in note)
        unstated = set(times_ms) - written
        # After the last line nothing counts on: at most what one killed process had not written yet.
        assert len(unstated) <= lacking + CAP, unstated


async def crash(folder, step):
    """Play a crowd in a house of which a process dies at ``step``."""
    folder.mkdir()
    # With short sessions a visit of a few clicks slides its pass.
    session_s = 1 if step.startswith("renew") else SESSION_S
    trial = Trial(folder, visitors=24, arrive_s=1, session_s=session_s, environ={"CRASH_AT": f"{step}:3"})
    died = []

    async def watch(trial):
        while not died:
            await asyncio.sleep(0.02)
            if "ended with -9" in trial.house.log.read_text():
                died.append(step)
                trial.killed_s += [trial.crowd.now_s(), trial.crowd.now_s() - 0.3]

    await trial.play(watch)
    assert died, f"{step} was never reached"
    trial.judge()


@pytest.mark.parametrize("what", ["join", "call", "claim", "renew", "release"])
async def test_a_crash_at_any_step_loses_nothing(tmp_path, what):
    """CRASH_AT: the process dies at the very step, between what is done, what is kept and what is said."""
    steps = [step for step in STEPS if step.split("-")[0] == what]
    await asyncio.gather(*(crash(tmp_path / step, step) for step in steps))


async def test_kills_at_random_lose_nothing(tmp_path):
    """Twenty kills a minute and more, of any process of the house, each at a random moment; crowd after crowd."""
    chance = random.Random(SEED)
    killed = crowds = 0
    while killed < KILLS:
        folder = tmp_path / str(crowds)
        folder.mkdir()
        crowds += 1
        killed += await kill_at_random(folder, chance, workers=2 + 2 * (crowds % 2))


async def kill_at_random(folder, chance, *, workers):
    """Play one crowd, and return how many processes were killed meanwhile."""
    trial = Trial(folder, workers=workers, visitors=60)

    async def kill(trial):
        while True:
            await asyncio.sleep(chance.uniform(0.3, 1.5))
            supervisor = trial.house.process.pid
            one = chance.choice([supervisor, *(pid for pid, _ in processes(supervisor))])
            trial.kill(one)
            if one == supervisor:
                trial.house.process.wait()
                await trial.start_again()
                trial.killed_s.append(trial.crowd.now_s())

    await trial.play(kill)
    verdict = trial.judge()
    assert verdict.admitted >= 15
    return len(trial.killed_s)


async def test_the_supervisor_killed_and_started_again_loses_nothing(tmp_path):
    """The root is killed, and all go with it: the next start goes on from the disk, with every place and pass."""
    trial = Trial(tmp_path, visitors=60)

    async def kill(trial):
        for _ in range(3):
            await asyncio.sleep(2.5)
            trial.killed_s.append(trial.crowd.now_s())
            trial.house.process.kill()
            trial.house.process.wait()
            await trial.start_again()
            trial.killed_s.append(trial.crowd.now_s())

    await trial.play(kill)
    trial.judge()


async def test_a_worker_stopped_for_long_changes_nothing_when_it_goes_on(tmp_path):
    """SIGSTOP of each worker in turn, SIGCONT later: the line goes on without it, and nobody pays for its return.

    That it calls nobody, though it still thinks that it leads, is seen in ``test_store_contract.py``.
    """
    trial = Trial(tmp_path, visitors=60)
    stopped = []

    async def stop(trial):
        await asyncio.sleep(3)
        for pid in trial.house.worker_pids():
            os.kill(pid, signal.SIGSTOP)
            stopped.append(pid)
            trial.killed_s += [trial.crowd.now_s() + 0.25 * step for step in range(24)]
            await asyncio.sleep(4)
            os.kill(pid, signal.SIGCONT)
            await asyncio.sleep(1)

    await trial.play(stop)
    assert len(stopped) == 2
    verdict = trial.judge()
    assert verdict.overtakings == ()


async def test_the_caps_hold_by_the_times_the_shop_was_told(tmp_path):
    """P3 from `Waitroom-Admitted-At` alone: with a tight minute, kills in between, and everyone claiming at once."""
    trial = Trial(tmp_path, visitors=40, room={"new_users_per_minute": 120})

    async def kill(trial):
        for role in ("keeper", "worker", "keeper"):
            await asyncio.sleep(3)
            trial.kill(next(pid for pid, what in processes(trial.house.process.pid) if what == role))

    await trial.play(kill)
    times_ms = sorted({served.admitted_ms for served in trial.shop.log() if served.admitted_ms})
    for at_ms in times_ms:
        assert sum(at_ms - 1_000 < other <= at_ms for other in times_ms) <= 2
        assert sum(at_ms - 60_000 < other <= at_ms for other in times_ms) <= 120
    assert replace(trial.verdict(), places_lost=()).numbers_twice == 0
