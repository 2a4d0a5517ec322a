"""A rehearsal from what was asked for to what is told: judges the arguments, plays, watches, reports.

Everything said while it goes on is on stderr, the result on stdout, so that a pipe gets the result alone. ``run`` is
for programs: it returns the report, which has every figure as a number.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from waitroom import checker
from waitroom.config.values import duration
from waitroom.crowd import adapters, flood
from waitroom.crowd.flood import Connections
from waitroom.crowd.ordinary import Ordinary
from waitroom.crowd.rehearsal import Plan, Rehearsal, State, Times, Until
from waitroom.crowd.witness import Limits
from waitroom.errors import CommandError

if TYPE_CHECKING:
    import argparse
    from pathlib import Path
    from types import FrameType

    from waitroom.crowd.witness import Judgement

VISITORS_MAX = 1_000_000
A_SECOND_MAX = 20_000
LONGEST_S = 6 * 3600.0
ORDINARY_RATE_MAX = 1_000
FAR_A_SECOND_MAX = 2_000
"""To a target that is not near, so that a slip of the hand is no attack."""

SHOWN_S = 0.2
WRITTEN_S = 5.0
PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a rehearsal. ``before`` and ``ordinary`` are of ordinary shoppers, before and beside the crowd."""

    rehearsal: Rehearsal
    judgement: Judgement
    before: Times
    ordinary: Times
    ordinary_failed: int
    ordinary_failed_before: int
    cut_short: bool

    @property
    def ok(self) -> bool:
        """Whether every request was answered, and every promise kept that was judged."""
        failed = self.rehearsal.errors.total() + self.ordinary_failed + self.ordinary_failed_before
        return not failed and self.judgement.ok

    def stated(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            **self.rehearsal.figures(),
            "ordinary": {
                "before": self.before.stated(),
                "beside": self.ordinary.stated(),
                "failed": self.ordinary_failed + self.ordinary_failed_before,
                "p99_ratio": self.p99_ratio,
            },
            "judged": [asdict(finding) for finding in self.judgement.findings],
            "numbers_twice": self.judgement.numbers_twice,
            "overtakings": self.judgement.overtakings,
            "places_lost": self.judgement.places_lost,
            "left_standing": self.judgement.left_standing,
            "most_inside": self.judgement.most_inside,
            "most_in_a_minute": self.judgement.most_in_a_minute,
            "longest_pause_s": self.judgement.longest_pause_s,
            "cut_short": self.cut_short,
            "ok": self.ok,
        }

    @property
    def p99_ratio(self) -> float | None:
        """How much slower the slowest hundredth of ordinary requests was than without the crowd."""
        if not self.before.count or not self.ordinary.count:
            return None
        return round(self.ordinary.p99_s / self.before.p99_s, 2)

    def lines(self) -> list[str]:
        """Return it for people."""
        played = self.rehearsal
        last = f"the last after {played.last_join_s:.1f} s; {played.errors.total():,} requests failed."
        lines = [
            f"{played.joined:,} of {played.plan.visitors:,} visitors had a place or were let in, {last}",
            "",
            f"{'':22}{'count':>10}{'p50':>10}{'p90':>10}{'p99':>10}{'p99.9':>10}{'most':>10}",
        ]
        for name, times in (
            ("to have a place", Times.of(played.join_s)),
            ("to be told", Times.of(played.ask_s)),
            ("to enter", Times.of(played.enter_s)),
            ("ordinary, before", self.before),
            ("ordinary, beside", self.ordinary),
        ):
            if times.count:
                seconds = (times.p50_s, times.p90_s, times.p99_s, times.p999_s, times.most_s)
                lines.append(f"{name:22}{times.count:>10,}" + "".join(f"{_shown(one):>10}" for one in seconds))
        lines += ["", *(f"{_STATES[state]:22}{count:>10,}" for state, count in _ended(played))]
        lines += [f"{f'failed: {kind}':22}{count:>10,}" for kind, count in played.errors.most_common()]
        lines += [f"{f'turned away: {kind}':22}{count:>10,}" for kind, count in played.turned_away.most_common()]
        if self.ordinary_failed or self.ordinary_failed_before:
            lines.append(f"{'ordinary, failed':22}{self.ordinary_failed + self.ordinary_failed_before:>10,}")
        lines.append("")
        for finding in self.judgement.findings:
            lines.append(f"{'kept  ' if finding.kept else 'BROKEN'}  {finding.promise}: {finding.seen}")
        if played.counts.latest_s > _LATE_S:
            lines += [
                "",
                f"This crowd was late itself, by up to {played.counts.latest_s:.1f} s: too little of a machine, or too",
                "few connections. The times above count that as waiting.",
            ]
        return lines


_LATE_S = 0.5
_STATES = {
    State.TO_COME: "never came",
    State.COMING: "without a place",
    State.IN_LINE: "in line",
    State.CALLED: "called",
    State.INSIDE: "inside",
    State.LEFT: "inside, and left",
    State.VANISHED: "vanished",
    State.TURNED_AWAY: "turned away",
    State.LOST: "lost their place",
    State.FAILED: "gave up after errors",
}


def run(
    plan: Plan,
    target: flood.Target,
    adapter: adapters.Adapter,
    *,
    limits: Limits,
    ordinary: Ordinary | None = None,
    before_s: float = 0.0,
    origin_log: Path | None = None,
    watch: Watch | None = None,
) -> Report:
    """Play a rehearsal and judge it; ``ordinary`` shoppers are there ``before_s`` earlier, and are sent home after it.

    Ctrl-C, or SIGTERM, ends it with what was seen until then.
    """
    stopped = list[int]()

    def stop(number: int, _: FrameType | None) -> None:
        stopped.append(number)

    handlers = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    watch = watch or Watch(quiet=True)
    try:
        begun_s = time.time()
        while ordinary is not None and time.time() < begun_s + before_s and not stopped:
            ordinary.read()
            watch.waits(begun_s + before_s - time.time())
            time.sleep(SHOWN_S)
        rehearsal = Rehearsal(plan, target, adapter, under_way_max=flood.allow_files())
        crowd_s = time.time()
        while not stopped and not rehearsal.is_over():
            rehearsal.turn()
            if watch.is_due():
                watch.shows(rehearsal)
                if ordinary is not None:
                    ordinary.read()
        rehearsal.stop()
        ended_s = time.time()
    finally:
        if ordinary is not None:
            ordinary.stop()
        for number, handler in handlers.items():
            signal.signal(number, handler)
    watch.shows(rehearsal, last=True)
    shop = checker.read_shop(origin_log) if origin_log else []
    cut_short = bool(stopped)
    judgement = rehearsal.witness.judge(limits, shop, None if cut_short else rehearsal.left_standing())
    none = Times()
    return Report(
        rehearsal,
        judgement,
        ordinary.times(begun_s + _WARM_S, crowd_s) if ordinary else none,
        ordinary.times(crowd_s, ended_s) if ordinary else none,
        ordinary.failed(crowd_s, ended_s) if ordinary else 0,
        ordinary.failed(begun_s, crowd_s) if ordinary else 0,
        cut_short,
    )


_WARM_S = 1.0
"""The first connections are opened in it, which is not what is compared."""


class Watch:
    """Says on stderr how it goes: one line kept up to date on a terminal, a line every so often elsewhere."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._terminal = sys.stderr.isatty()
        self._next_s = 0.0
        self._since_s = time.monotonic()
        self._asked = 0
        self._joins = 0

    def is_due(self) -> bool:
        """Whether it is time to show something again."""
        return time.monotonic() >= self._next_s

    def waits(self, seconds: float) -> None:
        """Say that the crowd is about to come."""
        if self.is_due():
            self._say(f"the crowd comes in {max(0.0, seconds):.0f} s")

    def shows(self, played: Rehearsal, *, last: bool = False) -> None:
        """Say how it goes, in 79 characters for a crowd of 300,000: a terminal has 80. Times are the latest joins'."""
        now_s = time.monotonic()
        asked = sum(played.asked.values())
        pace = (asked - self._asked) / max(now_s - self._since_s, 0.001)
        recent = Times.of(played.join_s[self._joins :])
        self._since_s, self._asked, self._joins = now_s, asked, len(played.join_s)
        states = played.states
        inside = states[State.INSIDE] + states[State.LEFT]
        text = (
            f"{played.elapsed_s:3.0f}s came {played.plan.visitors - states[State.TO_COME]:,} placed {played.joined:,}"
            f" waiting {played.waiting:,} in {inside:,} {pace:,.0f}/s"
        )
        if played.errors:
            text += " failed " + ", ".join(f"{count:,} {kind}" for kind, count in played.errors.most_common(3))
        if recent.count:
            text += f" p50 {_short(recent.p50_s)} p99 {_short(recent.p99_s)}"
        self._say(text, last=last)

    def _say(self, text: str, *, last: bool = False) -> None:
        self._next_s = time.monotonic() + (SHOWN_S if self._terminal else WRITTEN_S)
        if self._quiet:
            return
        if self._terminal:
            text = f"\r{text[: shutil.get_terminal_size().columns - 1]}\x1b[K" + "\n" * last
        sys.stderr.write(text if self._terminal else f"{text}\n")
        sys.stderr.flush()


def _ended(played: Rehearsal) -> list[tuple[State, int]]:
    return [(state, played.states[state]) for state in State if played.states[state]]


def _shown(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"


def _short(seconds: float) -> str:
    return f"{seconds:.1f}s" if seconds >= 1 else f"{seconds * 1000:.0f}ms"


def rehearse(options: argparse.Namespace) -> int:
    """Play what was asked for, and print what came of it. Return the exit code. Raises ``CommandError``."""
    scheme, host, port, at = _url("URL", options.url)
    plan = _plan(options)
    target = flood.find(scheme, host, port, plan.visitors, verify=not options.insecure)
    _may_be_sent(options, target, plan)
    adapter = adapters.find(options.adapter, adapters.Options(target.authority, at, scheme, options.marker))
    if options.origin_log and not options.origin_log.is_file():
        raise CommandError(f"--origin-log {options.origin_log}: there is no such file")
    pause_s = None if options.pause is None else _time("--pause", options.pause)
    ordinary = None
    if options.ordinary:
        beside = _url("--ordinary", options.ordinary)
        _may_be_sent(options, flood.find(*beside[:3], 1), plan)
        if not 0 < options.ordinary_rate <= ORDINARY_RATE_MAX:
            raise CommandError(f"--ordinary-rate {options.ordinary_rate:g}: write 1 to {ORDINARY_RATE_MAX}")
        fresh, verify = options.ordinary_fresh, not options.insecure
        ordinary = Ordinary(*beside, options.ordinary_rate, fresh=fresh, verify=verify)
    report = run(
        plan,
        target,
        adapter,
        limits=Limits(options.cap, options.per_minute, not options.any_order, pause_s),
        ordinary=ordinary,
        before_s=_time("--before", options.before) + _WARM_S,
        origin_log=options.origin_log,
        watch=Watch(),
    )
    sys.stdout.write(json.dumps(report.stated()) if options.json else "\n".join(report.lines()))
    sys.stdout.write("\n")
    if report.cut_short:
        return 130
    return 0 if report.ok else 1


def _plan(options: argparse.Namespace) -> Plan:
    if not 1 <= options.visitors <= VISITORS_MAX:
        raise CommandError(f"--visitors {options.visitors}: write 1 to {VISITORS_MAX}")
    for name, share in (("--vanish", options.vanish), ("--idle", options.idle), ("--jitter", options.jitter or 0.0)):
        if not 0 <= share <= 1:
            raise CommandError(f"{name} {share:g}: is a share; write 0 to 1")
    if options.vanish + options.idle > 1:
        raise CommandError("--vanish and --idle: are shares of one crowd; together they are more than 1")
    over_s = _time("--over", options.over)
    if options.visitors > max(over_s, 1.0) * A_SECOND_MAX:
        raise CommandError(f"--over {options.over}: is more than {A_SECOND_MAX} visitors a second; write a longer time")
    limit_s = _time("--at-most", options.at_most)
    until: Until | None
    try:
        until = Until(options.until)
    except ValueError:
        until, limit_s = None, _time("--until", options.until)
    return Plan(
        options.visitors,
        over_s,
        until,
        limit_s,
        options.vanish,
        options.idle,
        _time("--visit", options.visit),
        options.jitter,
        options.seed,
        _time("--patience", options.patience),
        Connections(options.connections),
        _time("--keep-alive", options.keep_alive),
    )


def _may_be_sent(options: argparse.Namespace, target: flood.Target, plan: Plan) -> None:
    """Raise ``CommandError`` unless a crowd may go there."""
    if target.is_near:
        return
    if not options.i_operate_this:
        raise CommandError(
            f"{target.host} ({target.address[0]}) is neither this machine nor in a private network; a crowd is sent "
            "there only if you say that you operate it: --i-operate-this"
        )
    if plan.visitors > max(plan.over_s, 1.0) * FAR_A_SECOND_MAX:
        raise CommandError(
            f"--over {plan.over_s:g}s: is more than {FAR_A_SECOND_MAX} visitors a second, the most that is sent to "
            "another network; write a longer time"
        )


def _time(name: str, text: str) -> float:
    try:
        seconds = duration(text)
    except ValueError as error:
        raise CommandError(f"{name}: {error}") from None
    if seconds > LONGEST_S:
        raise CommandError(f"{name} {text}: write at most {LONGEST_S / 3600:g}h")
    return seconds


def _url(name: str, text: str) -> tuple[str, str, int, str]:
    """Return scheme, host, port and target. Raises ``CommandError``."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None or parts.scheme not in PORTS or parts.username is not None:
        raise CommandError(f"{name} {text}: is no address; write http://127.0.0.1:8080/event/")
    at = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not at.isascii() or not at.isprintable() or " " in at:
        raise CommandError(f"{name} {text}: has bytes that no address has; write them escaped")
    return parts.scheme, host, port or PORTS[parts.scheme], at
