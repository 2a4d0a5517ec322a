"""A launch: 300,000 visitors in one minute, each on a connection of its own, and what everybody felt.

A house with two workers on SQLite, a small shop behind it in a process of its own, the crowd of ``waitroom rehearse``
before it, and shoppers at 100 requests a second beside it, all on one machine. Before the crowd the shoppers are alone
for a while: that is what they are compared with. When everybody has a place, every process of the house is killed and
started anew on the record, and a sample is asked for their places: what was answered must be on the disk.

``python bench/crowd.py`` prints a table with the bars and exits 1 when one is missed; ``--json`` prints the figures.
``measure`` returns them as plain numbers. Everything shares the machine, the crowd too: ``crowd_cpu_us`` says what of
it the crowd took, most of which is the kernel's work for its end of each connection.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from waitroom.crowd import adapters, flood
from waitroom.crowd.flood import Connections
from waitroom.crowd.ordinary import Ordinary
from waitroom.crowd.rehearsal import Plan, Rehearsal, Until, What
from waitroom.crowd.staging import Watch, run
from waitroom.crowd.witness import Limits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from waitroom.crowd.adapters import Adapter
    from waitroom.crowd.answers import Answer
    from waitroom.crowd.flood import Exchange, Target

VISITORS = 300_000
OVER_S = 60.0
ORDINARY_A_SECOND = 100.0
BEFORE_S = 11.0
WARM = 500
SAMPLE = 1_000
CAP = 200
PER_MINUTE = 6_000
PATIENCE_S = 30.0
CONFIG = f"""\
listen: 127.0.0.1:{{port}}
admin: {{{{listen: 127.0.0.1:0}}}}
workers: {{workers}}
origin: {{origin}}
store: sqlite:///record.db
secret_keys_file: keys
limits: {{{{joins_per_client: null}}}}
rooms:
  - name: launch
    match: [{{{{path: /event/}}}}]
    admission: fixed
    always_queue: true
    total_active_users: {CAP}
    new_users_per_minute: {PER_MINUTE}
"""


@dataclass(frozen=True, slots=True)
class Bar:
    """What a figure may be at most."""

    words: str
    name: str
    most: float

    def judge(self, figures: dict[str, Any]) -> bool:
        """Whether it is kept."""
        seen = figures[self.name]
        return seen is not None and seen <= self.most


BARS = (
    Bar("visitors without a place", "without_a_place", 0),
    Bar("requests that failed", "errors", 0),
    Bar("numbers given twice", "twice", 0),
    Bar("promises broken, by what they saw", "broken", 0),
    Bar("to have a place, p99, s", "join_p99_s", 2.0),
    Bar("ordinary p99 ÷ without the crowd", "ordinary_p99_ratio", 3.0),
    Bar("ordinary requests that failed", "ordinary_failed", 0),
    Bar("memory of the house, more with all waiting, MB", "more_mb", 30.0),
    Bar("places lost when everything was killed", "lost_by_the_kill", 0),
)
BESIDE = {
    "to have a place, p50, s": "join_p50_s",
    "to have a place, most, s": "join_most_s",
    "the last had a place after, s": "last_join_s",
    "questions asked meanwhile": "asked",
    "to be told, p99, s": "ask_p99_s",
    "ordinary p99 without the crowd, ms": "ordinary_before_p99_ms",
    "ordinary p99 beside the crowd, ms": "ordinary_p99_ms",
    "CPU of the house a visitor, µs": "house_cpu_us",
    "of it the workers, µs": "workers_cpu_us",
    "of it the keeper, µs": "keeper_cpu_us",
    "CPU of the crowd a visitor, µs": "crowd_cpu_us",
    "connections at once, at most": "connections_most",
    "the crowd itself was late by, s": "crowd_late_s",
}


class House:
    """``waitroom serve`` and all its processes, in front of ``origin``."""

    def __init__(self, folder: Path, origin: str, workers: int) -> None:
        self._config = folder / "waitroom.yaml"
        self._log = folder / "log"
        self._told = {"origin": origin, "workers": workers}
        self.port = 0
        self.start()

    def start(self) -> None:
        """Start it, the second time on the port of the first, and return when it serves."""
        self._config.write_text(CONFIG.format(port=self.port, **self._told))
        command = [sys.executable, "-m", "waitroom.cli", "serve", "--config", str(self._config), "--log-format", "text"]
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output)
        until_s = time.monotonic() + PATIENCE_S
        while (ready := re.search(r"ready on \S+:(\d+)", self._log.read_text())) is None:
            if time.monotonic() > until_s or self._process.poll() is not None:
                sys.exit(f"the house does not start:\n{self._log.read_text()}")
            time.sleep(0.05)
        self.port = int(ready[1])

    def processes(self) -> Iterator[tuple[int, str]]:
        """Yield the process id and the role of each."""
        root = self._process.pid
        yield root, "supervisor"
        for pid in map(int, Path(f"/proc/{root}/task/{root}/children").read_text().split()):
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            yield pid, next(role for role in ("keeper", "worker", "") if f"waitroom.{role}" in words or not role)

    def resident_mb(self) -> float:
        """Return the memory of all of them."""
        sizes = (
            re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text()) for pid, _ in self.processes()
        )
        return sum(int(size[1]) for size in sizes if size) / 1024

    def cpu_s(self) -> dict[str, float]:
        """Return the processor time of each role so far."""
        used: dict[str, float] = {}
        for pid, role in self.processes():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            used[role] = used.get(role, 0.0) + (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return used

    def kill(self) -> None:
        """Kill every process at once."""
        for pid, _ in list(self.processes()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """Ask it to end, and see to it."""
        self._process.terminate()
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.kill()


class Shop(asyncio.Protocol):
    """A shop that answers everything with a kilobyte, and writes down who was let in, a JSON object a line."""

    ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 1024\r\n\r\n" + b"x" * 1024
    log: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport: Any = transport
        self._came = b""

    def data_received(self, data: bytes) -> None:
        """Answer every request that is whole."""
        *heads, self._came = (self._came + data).split(b"\r\n\r\n")
        for head in heads:
            self._transport.write(self.ANSWER)
            start, *lines = head.decode("latin-1").split("\r\n")
            stated = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            if "waitroom-number" in stated:
                method, path, _ = start.split(" ")
                served = {"method": method, "path": path, "status": 200}
                for name, header in (("number", "number"), ("visitor", "visitor"), ("admitted_at", "admitted-at")):
                    served[name] = stated.get(f"waitroom-{header}")
                self.log.write(json.dumps(served) + "\n")


async def sell(log: Path) -> None:
    """Be the shop until whoever started it has ended."""
    begun_by = os.getppid()
    with log.open("w", buffering=1) as Shop.log:
        server = await asyncio.get_running_loop().create_server(Shop, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        while os.getppid() == begun_by:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(1)


def measure(
    visitors: int = VISITORS,
    over_s: float = OVER_S,
    workers: int = 2,
    *,
    before_s: float = BEFORE_S,
    connections: Connections = Connections.OWN,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Play the launch once. Return every figure, as numbers; None is one that could not be measured.

    ``connections`` are those of all questions after the first, which always has one of its own.
    """
    with tempfile.TemporaryDirectory(prefix="waitroom-crowd-") as named, contextlib.ExitStack() as ends:
        folder = Path(named)
        shop_log = folder / "shop.jsonl"
        shop = subprocess.Popen([sys.executable, __file__, "--shop", str(shop_log)], stdout=subprocess.PIPE)
        assert shop.stdout is not None
        ends.callback(shop.stdout.close)
        ends.callback(shop.wait)
        ends.callback(shop.terminate)
        house = House(folder, f"http://127.0.0.1:{int(shop.stdout.readline())}", workers)
        ends.callback(house.stop)
        target = flood.find("http", "127.0.0.1", house.port, visitors)
        adapter = adapters.find("waitroom", adapters.Options(target.authority, "/event/"))
        connections_max = flood.allow_files()
        warming = Rehearsal(Plan(WARM, 1.0, Until.JOINED), target, adapter, under_way_max=connections_max)
        warming.play(lambda: None)
        before_mb, before_cpu, crowd_cpu_s = house.resident_mb(), house.cpu_s(), time.process_time()
        report = run(
            Plan(
                visitors,
                over_s,
                Until.JOINED,
                limit_s=over_s + 2 * PATIENCE_S,
                patience_s=PATIENCE_S,
                connections=connections,
            ),
            target,
            adapter,
            limits=Limits(CAP, PER_MINUTE),
            ordinary=Ordinary("http", "127.0.0.1", house.port, "/", ORDINARY_A_SECOND, fresh=False, verify=True),
            before_s=before_s,
            origin_log=shop_log,
            watch=watch,
        )
        crowd_cpu_s = time.process_time() - crowd_cpu_s
        after_mb, after_cpu = house.resident_mb(), house.cpu_s()
        played = report.rehearsal
        house.kill()
        house.start()
        asked, kept, newcomer = ask_again(target, adapter, played, connections_max)
        stated = report.stated()
        joined = stated["join"]
        cpu_us = {role: (after_cpu[role] - before_cpu[role]) / max(played.joined, 1) * 1e6 for role in before_cpu}
        largest = max(played.witness.numbers)
        return {
            "visitors": visitors,
            "over_s": over_s,
            "workers": workers,
            "connections": connections.value,
            "without_a_place": visitors - played.joined,
            "errors": played.errors.total(),
            "errors_by_kind": dict(played.errors),
            "twice": report.judgement.numbers_twice,
            "broken": sum(not finding.kept for finding in report.judgement.findings),
            "join_p50_s": joined["p50_s"],
            "join_p99_s": joined["p99_s"],
            "join_most_s": joined["most_s"],
            "asked": played.asked[What.ASK],
            "ask_p99_s": stated["ask"]["p99_s"],
            "last_join_s": round(played.last_join_s, 2),
            "ordinary_before_p99_ms": round(report.before.p99_s * 1000, 2),
            "ordinary_p99_ms": round(report.ordinary.p99_s * 1000, 2),
            "ordinary_p99_ratio": report.p99_ratio,
            "ordinary_failed": report.ordinary_failed + report.ordinary_failed_before,
            "before_mb": round(before_mb, 1),
            "more_mb": round(after_mb - before_mb, 1),
            "house_cpu_us": round(sum(cpu_us.values()), 1),
            "workers_cpu_us": round(cpu_us["worker"], 1),
            "keeper_cpu_us": round(cpu_us["keeper"], 1),
            "crowd_cpu_us": round(crowd_cpu_s / max(played.joined, 1) * 1e6, 1),
            "crowd_late_s": round(played.counts.latest_s, 3),
            "connections_most": played.counts.most_under_way,
            "asked_after_the_kill": asked,
            "lost_by_the_kill": asked - kept + (newcomer is None or newcomer <= largest),
        }


def ask_again(target: Target, adapter: Adapter, played: Rehearsal, connections_max: int) -> tuple[int, int, int | None]:
    """Ask for the places of a sample of those in line, and for a new one.

    Return how many were asked, how many have the number they had, and the newcomer's number.
    """
    placed = played.in_line()
    sample = placed[:: max(1, len(placed) // SAMPLE)]
    kept = 0
    newcomer: int | None = None

    def answered(exchange: Exchange, answer: Answer | None, _: str) -> None:
        nonlocal kept, newcomer
        number = adapter.read(answer, asked=exchange.who >= 0).number if answer else None
        if exchange.who < 0:
            newcomer = number
        else:
            kept += number == played.witness.numbers[exchange.who]

    asking = flood.Flood(target, answered, under_way_max=min(100, connections_max))
    for who, cookies in sample:
        asking.ask(flood.Exchange(who, 0, adapter.again(cookies, ""), time.monotonic(), keep=False))
    asking.ask(flood.Exchange(-1, 0, adapter.first(b"", ""), time.monotonic(), keep=False))
    while asking.under_way:
        asking.turn(0.1)
    asking.close()
    return len(sample), kept, newcomer


def main() -> int:
    """Measure, and judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--visitors", type=int, default=VISITORS, metavar="N", help=f"how many (default {VISITORS:,})")
    parser.add_argument("--over", type=float, default=OVER_S, metavar="S", help="in so many seconds (default 60)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="of the house (default 2)")
    parser.add_argument(
        "--before", type=float, default=BEFORE_S, metavar="S", help="how long the shoppers are alone first (default 11)"
    )
    parser.add_argument(
        "--connections", choices=[one.value for one in Connections], default="own", help="as in waitroom rehearse"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--shop", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.shop:
        asyncio.run(sell(options.shop))
        return 0
    connections = Connections(options.connections)
    figures = measure(
        options.visitors,
        options.over,
        options.workers,
        before_s=options.before,
        connections=connections,
        watch=Watch(),
    )
    missed = [bar for bar in BARS if not bar.judge(figures)]
    if options.json:
        print(json.dumps(figures))
    else:
        crowd = f"{options.visitors:,} visitors in {options.over:g} s"
        print(f"{crowd}, {options.workers} workers, {connections} connections\n")
        print("| figure | seen | bar | |\n|---|---|---|---|")
        for bar in BARS:
            seen = figures[bar.name]
            print(f"| {bar.words} | {seen} | ≤ {bar.most:g} | {'MISSED' if bar in missed else 'kept'} |")
        for words, name in BESIDE.items():
            print(f"| {words} | {figures[name]} | | |")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
