"""The demo: the example shop, the waiting room in front of it, and a crowd between the two of them and their promises.

In the middle of it one worker is killed, as a machine would: nobody may lose a place by it, or pass another.

Shop and proxy run as processes of their own, as an operator would start them, on free ports and in a folder that is
gone afterwards; the crowd comes over real sockets. What came of it is judged by ``waitroom.checker`` from the crowd's
log and the shop's, never from what the proxy says of itself. Everything that is said while it runs goes to stderr, the
result to stdout, so that a pipe gets the result alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from waitroom import checker, config, resources
from waitroom.crowd import Crowd, Place, Plan
from waitroom.errors import ConfigError, StartError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from waitroom.checker import Verdict
    from waitroom.crowd import Numbers

VISITORS_MAX = 5_000
"""More would measure this one process instead of the waiting room."""

STOCK_MAX = 1_000_000
SMALL = 500
"""A crowd up to this size meets a shop of the smallest caps; for a larger one they grow with it, as a shop's would."""

CAP = 30
PER_MINUTE = 600
SESSION_S = 10
JITTER = 0.3
KILL_AT = 0.4
"""A worker is killed when this share is sold of what will be: the stock, or a unit to each of the half that stays."""

LIMIT_S = 90.0
LIMIT_A_VISITOR_S = 0.25
"""A run takes about 0.1 s a visitor; a line that has not ended after this stands still."""

OPENS_S = 6.0
"""The line opens so long after the proxy is started; those who come before gather."""

LASTS_S = 3_600.0
START_WITHIN_S = 30.0
STOP_WITHIN_S = 15.0
FILES_A_VISITOR = 1.5
"""A connection each, for a few a second one, and what the proxy needs toward the shop."""

FILES_BESIDE = 250

NOWHERE = "http://127.0.0.1:1"
"""Stands for the shop while its address is not known: the settings are judged first."""

CONFIG = f"""\
# The demo's room: everyone passes through the line, and everything in it is short, so that a launch takes a minute.
# The first to come gather before the start.
listen: 127.0.0.1:0
origin: {{origin}}
store: sqlite:///record.db
workers: {{workers}}
admin: {{{{listen: 127.0.0.1:0}}}}
secret_keys_file: keys
limits: {{{{joins_per_client: null, drain_timeout: 2s}}}}
rooms:
  - name: launch
    match: [{{{{path: /event/}}}}]
    admission: fixed
    total_active_users: {{cap}}
    new_users_per_minute: {{per_minute}}
    session_duration: {SESSION_S}s
    claim_within: 3s
    always_queue: true
    refresh: {{{{near: 1s, far: {{far}}s, farthest: {{far}}s, jitter: {JITTER}}}}}
    events:
      - {{{{name: noon, prequeue_start_time: "{{begins}}", start_time: "{{opens}}", end_time: "{{ends}}"}}}}
"""


class Child:
    """A program that we started; it ends with us."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self._process = process
        self._log = log

    @classmethod
    async def start(cls, name: str, arguments: Sequence[str], log: Path) -> Child:
        """Start this Python with ``arguments``, writing everything it says to ``log``."""
        # Keys of the operator's own are none of the demo's business.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("WAITROOM_")}
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,  # Ctrl-C reaches us alone, and we end them in our order
            )
        return cls(name, process, log)

    async def says(self, words: str) -> str:
        """Return what follows ``words`` in the log, up to a space or a quote. Raises ``StartError``."""
        give_up_s = time.monotonic() + START_WITHIN_S
        while time.monotonic() < give_up_s:
            _, found, rest = self._log.read_text(errors="replace").partition(words)
            if found and "\n" in rest:
                return rest.split("\n")[0].split('"')[0].strip()
            if self._process.returncode is not None:
                break
            await asyncio.sleep(0.05)
        last = self._log.read_text(errors="replace").strip().splitlines()[-1:]
        raise StartError(f"{self.name} does not start: {''.join(last) or 'it says nothing'}")

    def of_its_own(self, words: str) -> list[int]:
        """Return the process ids of its children whose command line has ``words`` in it."""
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        return [int(one) for one in children if words in Path(f"/proc/{one}/cmdline").read_text(errors="replace")]

    def terminate(self) -> None:
        """Ask it to end."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    async def ended(self) -> None:
        """Return when it has ended, made to if it takes too long."""
        try:
            await asyncio.wait_for(self._process.wait(), STOP_WITHIN_S)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


@dataclass(frozen=True, slots=True)
class Demo:
    """One run.

    ``stay``: keep shop and proxy up afterwards until Ctrl-C, if a terminal looks on. ``logs``: a folder, empty or not
    there yet, for everything that is written; without it that goes where it is removed, unless something failed.
    """

    visitors: int = 2_000
    stock: int = 400
    workers: int = 2
    seed: int = 1
    stay: bool = False
    as_json: bool = False
    logs: Path | None = None

    async def run(self) -> int:
        """Return the exit code: 0 when every promise was kept, else 1; 128 and the signal's number when stopped by one.

        Raises ``StartError`` or ``ConfigError`` for what cannot be run.
        """
        for option, value, least, most in (
            ("visitors", self.visitors, 1, VISITORS_MAX),
            ("stock", self.stock, 0, STOCK_MAX),
        ):
            if not least <= value <= most:
                raise StartError(f"--{option} {value}: write {least} to {most}")
        loop, task, signals = asyncio.get_running_loop(), asyncio.current_task(), list[int]()
        assert task is not None

        def end(number: int) -> None:
            signals.append(number)
            task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, end, number)
        folder = Path(tempfile.mkdtemp(prefix="waitroom-demo-")) if self.logs is None else _empty(self.logs)
        keep = True
        try:
            code = await self._run_in(folder)
            keep = code != 0
        except asyncio.CancelledError:
            if not signals:
                raise
            keep, code = False, 128 + signals[0]
        except ConfigError:
            keep = False
            raise
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
            if keep or self.logs is not None:
                _say(f"the logs are in {folder}")
            else:
                shutil.rmtree(folder, ignore_errors=True)
        return code

    @property
    def _times(self) -> float:
        """How many times as large the crowd is as a small one."""
        return max(1.0, self.visitors / SMALL)

    @property
    def _cap(self) -> int:
        return int(CAP * self._times)

    @property
    def _per_minute(self) -> int:
        return int(PER_MINUTE * self._times)

    def _config(self, origin: str, opens_s: float) -> str:
        far_s = round(3 * min(self._times, 2.0))
        return CONFIG.format(
            origin=origin,
            workers=self.workers,
            cap=self._cap,
            per_minute=self._per_minute,
            far=far_s,
            begins=_stated(opens_s - OPENS_S),
            opens=_stated(opens_s),
            ends=_stated(opens_s + LASTS_S),
        )

    async def _run_in(self, folder: Path) -> int:
        settings = folder / "waitroom.yaml"
        settings.write_text(self._config(NOWHERE, time.time()))
        config.load(settings, {})  # judged before anything is started
        _allow_files(int(self.visitors * FILES_A_VISITOR) + FILES_BESIDE)
        started_s = time.monotonic()
        children: list[Child] = []
        try:
            shop_url = await self._start_shop(folder, children)
            opens_s = time.time() + OPENS_S
            settings.write_text(self._config(shop_url, opens_s))
            url = await self._start_proxy(settings, children)
            _say(f"{self.visitors} visitors come for {self.stock} units; the shop behind the room is {url}/event/")
            _say("p99 is how long 99 of 100 ordinary shoppers' pages took at most.")
            _say(f"The line opens by itself at {_stated(opens_s)}.")
            verdict = await self._watch(folder, url, children[-1], opens_s)
            seconds = time.monotonic() - started_s
            sys.stdout.write(_summary(verdict, seconds) if self.as_json else _table(verdict, seconds))
            sys.stdout.flush()
            if self.stay and sys.stdout.isatty():
                await _stay(url)
        finally:
            for child in reversed(children):
                child.terminate()
            for child in reversed(children):
                await child.ended()
        for finding in verdict.findings:
            if not finding.kept:
                _say(f"broken: {finding.promise}: {finding.seen}")
        return 0 if verdict.ok else 1

    async def _start_shop(self, folder: Path, children: list[Child]) -> str:
        shop = resources.find("examples/shop") / "shop.py"
        files = ["--database", str(folder / "shop.db"), "--log", str(folder / "shop.jsonl")]
        arguments = [str(shop), "--listen", "127.0.0.1:0", "--stock", str(self.stock), *files]
        children.append(await Child.start("the shop", arguments, folder / "shop.out"))
        return await children[-1].says("listening on ")

    async def _start_proxy(self, settings: Path, children: list[Child]) -> str:
        arguments = ["-m", "waitroom.cli", "serve", "--config", str(settings), "--log-format", "json"]
        children.append(await Child.start("the proxy", arguments, settings.with_name("waitroom.jsonl")))
        return f"http://{await children[-1].says('ready on ')}"

    async def _watch(self, folder: Path, url: str, proxy: Child, opens_s: float) -> Verdict:
        """Send the crowd, show what it sees while it lasts, and judge what it and the shop wrote down."""
        host, _, port = url.removeprefix("http://").rpartition(":")
        place = Place(host, int(port), jitter=JITTER)
        with (folder / "crowd.jsonl").open("w", encoding="utf-8") as log:
            limit_s = LIMIT_S + self.visitors * LIMIT_A_VISITOR_S
            crowd = Crowd(Plan(self.visitors, self.seed, limit_s=limit_s), place, log)
            killed_s: list[float] = []
            beside = [
                asyncio.create_task(_show(crowd, self.stock, self._cap)),
                asyncio.create_task(self._kill_a_worker(crowd, proxy, killed_s)),
            ]
            try:
                await crowd.play()
            finally:
                for task in beside:
                    task.cancel()
                await asyncio.gather(*beside, return_exceptions=True)
        caps = (self._cap, self._per_minute, self.stock, SESSION_S, JITTER)
        rules = checker.Rules(*caps, killed_s=tuple(killed_s), opens_s=opens_s)
        return checker.judge(
            checker.read_crowd(folder / "crowd.jsonl"), checker.read_shop(folder / "shop.jsonl"), rules
        )

    async def _kill_a_worker(self, crowd: Crowd, proxy: Child, killed_s: list[float]) -> None:
        """Kill one of several workers in the middle, and note when."""
        if self.workers == 1:
            return
        while crowd.numbers().sold < min(self.stock, self.visitors // 2) * KILL_AT:  # noqa: ASYNC110 - it is about other processes
            await asyncio.sleep(0.1)
        worker = proxy.of_its_own("waitroom.worker")[0]
        killed_s.append(crowd.now_s())
        os.kill(worker, signal.SIGKILL)
        _say(f"\nkilled worker {worker}, one of {self.workers}, as a machine would")


def _stated(at_s: float) -> str:
    """Return a moment as a configuration states it."""
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds")


async def _show(crowd: Crowd, stock: int, cap: int) -> None:
    """Keep one line up to date on a terminal; elsewhere write one every so often. Ends with the last state shown."""
    terminal = sys.stderr.isatty()
    try:
        while True:
            await asyncio.sleep(0.2 if terminal else 2.0)
            _show_once(_state(crowd.numbers(), stock, cap), terminal=terminal)
    finally:
        _show_once(_state(crowd.numbers(), stock, cap), terminal=terminal)
        if terminal:
            sys.stderr.write("\n")


def _show_once(text: str, *, terminal: bool) -> None:
    if terminal:
        text = f"\r{text[: shutil.get_terminal_size().columns - 1]}\x1b[K"
    sys.stderr.write(text if terminal else f"{text}\n")
    sys.stderr.flush()


def _state(seen: Numbers, stock: int, cap: int) -> str:
    """Return one line, of 79 characters for a crowd of hundreds: a terminal has 80."""
    of = len(str(stock))
    return (
        f"{seen.elapsed_s:3.0f}s  joined {seen.joined:>3}  waiting {seen.waiting:>3}  inside {seen.inside:>2}/{cap}"
        f"  admitted {seen.admitted:>3}  sold {seen.sold:>{of}}/{stock}  p99 {seen.ordinary_p99_s * 1000:>2.0f}ms"
    )


async def _stay(url: str) -> None:
    """Keep everything up until Ctrl-C, which is the good end here."""
    _say(f"look around: {url}/event/ is the shop behind the room, {url}/.waitroom/launch/now the line.")
    _say("Ctrl-C ends it.")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()


def _summary(verdict: Verdict, seconds: float) -> str:
    p99_s = verdict.ordinary_p99_s
    summary = {
        "visitors": verdict.visitors,
        "joined": verdict.joined,
        "admitted": verdict.admitted,
        "gathered": verdict.gathered,
        "early": verdict.early,
        "orders": verdict.orders,
        "sold": verdict.sold,
        "stock": verdict.rules.stock,
        "overtakings": len(verdict.overtakings),
        "most_active": verdict.most_active,
        "cap": verdict.rules.cap,
        "ordinary": {
            "served": verdict.ordinary_served,
            "failed": verdict.ordinary_errors,
            "cut": verdict.ordinary_cut,
            "p99_s": None if p99_s is None else round(p99_s, 4),
        },
        "most_held": verdict.most_held,
        "most_in_a_minute": verdict.most_in_a_minute,
        "minute_cap": verdict.rules.per_minute,
        "numbers_twice": verdict.numbers_twice,
        "came_back": verdict.came_back,
        "places_lost": len(verdict.places_lost),
        "left_standing": verdict.left_standing,
        "cheats": {"tried": verdict.cheats_tried, "reached_the_shop": verdict.cheats_reached},
        "waits": {"told": verdict.waits_told, "held": verdict.waits_held},
        "unanswered": verdict.unanswered,
        "workers": {"killed": len(verdict.rules.killed_s)},
        "seconds": round(seconds, 1),
        "broken": [f"{finding.promise}: {finding.seen}" for finding in verdict.findings if not finding.kept],
        "ok": verdict.ok,
    }
    return json.dumps(summary) + "\n"


def _table(verdict: Verdict, seconds: float) -> str:
    """Return one row a promise: what was promised, what the logs say, and whether that keeps it."""
    colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    wide = max(len(finding.promise) for finding in verdict.findings)
    wider = max(len(finding.seen) for finding in verdict.findings)
    rule = "-" * (wide + wider + 10)
    lines = ["", "From the logs of the crowd and of the shop alone:", rule]
    for finding in verdict.findings:
        word = "kept" if finding.kept else "BROKEN"
        if colours:
            word = f"\x1b[{32 if finding.kept else 31}m{word}\x1b[0m"
        lines.append(f"{finding.promise:<{wide}}  {finding.seen:<{wider}}  {word}")
    said = "Every promise was kept" if verdict.ok else "Not every promise was kept"
    of_them = "1 request was" if verdict.unanswered == 1 else f"{verdict.unanswered} requests were"
    unanswered = f" {of_them} never answered." if verdict.unanswered else ""
    lines += [
        rule,
        f"{verdict.visitors} visitors, {verdict.admitted} admitted, {seconds:.0f} s. {said}.{unanswered}",
    ]
    return "\n".join(lines) + "\n"


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _empty(folder: Path) -> Path:
    """Make ``folder`` and return it. Raises ``StartError`` when it cannot be, or holds something already."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise StartError(f"--logs {folder}: there is something in it; name an empty folder")
    except OSError as error:
        raise StartError(f"--logs {folder}: {error.strerror}") from error
    return folder.resolve()


def _allow_files(wanted: int) -> None:
    """Let us, and those we start, have enough files open. Raises ``StartError`` where that is not allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise StartError(f"{wanted} open files are needed, {hard} are allowed (ulimit -n); take fewer --visitors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
