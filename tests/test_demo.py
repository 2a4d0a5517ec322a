"""The demo as a user runs it: a process, real sockets, an exit code; and that a broken run would be told as broken."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from waitroom import checker, demo

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE_S = 60.0


@dataclass(frozen=True)
class Run:
    """A finished run of the demo, with its logs."""

    code: int
    out: str
    err: str
    folder: Path

    @property
    def summary(self) -> dict[str, Any]:
        """The object it printed."""
        return json.loads(self.out)

    def broken(self, alter: str) -> list[str]:
        """Return the promises broken by the logs after one of the alterations below."""
        crowd = checker.read_crowd(self.folder / "crowd.jsonl")
        shop = checker.read_shop(self.folder / "shop.jsonl")
        rules = checker.Rules(demo.CAP, demo.PER_MINUTE, self.summary["stock"], demo.SESSION_S, demo.JITTER)
        crowd, shop, rules = ALTERATIONS[alter](crowd, shop, rules)
        return [finding.promise for finding in checker.judge(crowd, shop, rules).findings if not finding.kept]


def start(*arguments: str, folder: Path, **more: Any) -> subprocess.Popen[str]:
    """Start the demo in an empty folder, with its temporary files below it."""
    (folder / "tmp").mkdir()
    (folder / "here").mkdir()
    return subprocess.Popen(
        [sys.executable, "-m", "waitroom.cli", "demo", *arguments],
        cwd=folder / "here",
        env={**os.environ, "TMPDIR": str(folder / "tmp")},
        text=True,
        **more,
    )


def said(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Return its exit code and what it said."""
    out, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out, err


def answers(url: str) -> bool:
    """Whether anybody listens at a URL's address."""
    host, _, port = url.removeprefix("http://").partition("/")[0].rpartition(":")
    with suppress(OSError), socket.create_connection((host, int(port)), 5):
        return True
    return False


PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a run of 120 visitors for 20 units, whose logs were kept."""
    folder = tmp_path_factory.mktemp("demo")
    arguments = ("--visitors", "120", "--stock", "45", "--exit-when-done", "--json", "--logs", str(folder / "logs"))
    return Run(*said(start(*arguments, folder=folder, **PIPES)), folder / "logs")


def test_a_crowd_is_let_into_the_shop_in_order(run: Run) -> None:
    """Every promise is kept for 120 visitors of whom half vanish: the exit code is 0, and one JSON object says so."""
    assert run.code == 0, run.err
    assert run.out.count("\n") == 1
    summary = run.summary
    assert summary["ok"] is True
    assert summary["broken"] == []
    assert (summary["visitors"], summary["joined"]) == (120, 120)
    assert (summary["sold"], summary["orders"], summary["stock"]) == (45, 45, 45)
    assert summary["overtakings"] == summary["places_lost"] == summary["numbers_twice"] == 0
    assert 0 < summary["most_active"] <= summary["most_held"] <= summary["cap"]
    assert 20 < summary["admitted"] < 80
    assert summary["came_back"] > 0
    assert summary["cheats"]["tried"] > 0
    assert summary["cheats"]["reached_the_shop"] == 0
    assert summary["waits"]["told"] > 20
    assert summary["waits"]["held"] >= 0.8 * summary["waits"]["told"]
    assert summary["ordinary"]["served"] > 0
    assert summary["ordinary"]["failed"] == 0


def test_it_leaves_nothing_behind(run: Run) -> None:
    """Afterwards nobody listens where the shop and the proxy were, and the folders of the run are as before."""
    found = re.search(r"http://127\.0\.0\.1:\d+/", run.err)
    assert found is not None
    assert not answers(found[0])
    beside = run.folder.parent
    assert not list((beside / "tmp").iterdir())
    assert not list((beside / "here").iterdir())


def _sold_again(crowd, shop, rules):
    sale = next(served for served in shop if served.sold)
    return crowd, [*shop, replace(sale, visitor="another", number="1000000", order="another")], rules


def _let_past(crowd, shop, rules):
    """Let the last who was called by a wait of many seconds be called before all others."""
    waited = [seen for seen in crowd if seen.state == "called"]
    last = max(waited, key=lambda seen: seen.number)
    before = [seen for seen in crowd if seen.visitor == last.visitor and seen.sent_s < last.sent_s]
    early_s = before[0].answered_s + 1.5
    others = [seen for seen in crowd if seen.visitor != last.visitor]
    crowd = [*others, before[0], replace(last, sent_s=early_s, answered_s=early_s, claim_by_ms=None)]
    return crowd, [served for served in shop if served.number != str(last.number)], rules


def _all_at_once(crowd, shop, rules):
    admitted = [served.admitted_ms for served in shop if served.admitted_ms]
    return crowd, [replace(served, admitted_ms=admitted and min(admitted)) for served in shop], rules


ALTERATIONS = {
    "nothing": lambda crowd, shop, rules: (crowd, shop, rules),
    "a unit sold once more": _sold_again,
    "one let past": _let_past,
    "all admitted at one moment": _all_at_once,
    "a smaller cap": lambda crowd, shop, rules: (crowd, shop, replace(rules, cap=2)),
    "a smaller minute": lambda crowd, shop, rules: (crowd, shop, replace(rules, per_minute=20)),
    "numbers that repeat": lambda crowd, shop, rules: (
        [replace(seen, number=seen.number and seen.number // 2 + 1) for seen in crowd],
        shop,
        rules,
    ),
    "requests without a pass": lambda crowd, shop, rules: (
        crowd,
        [replace(served, number=None, visitor=None) for served in shop],
        rules,
    ),
    "a proxy that forgets": lambda crowd, shop, rules: (
        [
            replace(seen, state="none", number=None) if seen.what == "me" and seen.state == "waiting" else seen
            for seen in crowd
        ],
        shop,
        rules,
    ),
}


@pytest.mark.parametrize(
    ("alteration", "promise"),
    [
        ("a unit sold once more", "Nothing is oversold"),
        ("one let past", "In order"),
        ("all admitted at one moment", "Never too many inside"),
        ("a smaller cap", "Never too many inside"),
        ("a smaller minute", "Never too many in a minute"),
        ("numbers that repeat", "A number is given once"),
        ("requests without a pass", "The gate holds"),
        ("a proxy that forgets", "A place is never lost"),
    ],
)
def test_a_broken_run_would_be_found(run: Run, alteration: str, promise: str) -> None:
    """The same logs, altered to what a broken proxy would have left, are found broken; unaltered they are not."""
    assert promise in run.broken(alteration)
    assert run.broken("nothing") == []


async def test_a_broken_promise_is_exit_code_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where a promise is broken, here by a cap that the proxy was never told, it is named and the logs are kept."""
    rules = demo.checker.Rules
    monkeypatch.setattr(demo.checker, "Rules", lambda _, *others, **more: rules(0, *others, **more))
    monkeypatch.setattr(demo.tempfile, "mkdtemp", lambda **_: str(tmp_path))
    assert await demo.Demo(visitors=1, stock=1).run() == 1
    out, err = capfd.readouterr()
    assert re.search(r"Never too many inside .* BROKEN\n", out)
    assert "broken: Never too many inside: " in err
    assert f"the logs are in {tmp_path}\n" in err
    assert (tmp_path / "crowd.jsonl").exists()


def test_it_stays_up_for_who_looks_on(tmp_path: Path) -> None:
    """On a terminal shop and room stay up after the table, until Ctrl-C, which is then the good end."""
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        process = start("--visitors", "1", folder=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        seen = b""
        while b"Ctrl-C ends it." not in seen:
            seen += terminal.read(4096)
        found = re.search(rb"look around: (http://127\.0\.0\.1:\d+)/event/", seen)
        assert found is not None
        url = found[1].decode()
        assert answers(url)
        process.send_signal(signal.SIGINT)
        with suppress(OSError):  # a terminal whose other side has gone
            while terminal.read(4096):
                pass
        assert process.wait(PATIENCE_S) == 0
    assert b"\r  " in seen
    assert b"\x1b[32mkept" in seen
    assert not answers(url)


def test_sigterm_ends_it_with_all_its_children(tmp_path: Path) -> None:
    """Stopped in the middle, it takes shop and proxy with it and removes its files."""
    process = start("--visitors", "20", "--exit-when-done", folder=tmp_path, **PIPES)
    assert process.stderr is not None
    first = process.stderr.readline()
    found = re.search(r"http://127\.0\.0\.1:\d+/", first)
    assert found is not None, first
    assert answers(found[0])
    process.send_signal(signal.SIGTERM)
    code, out, _ = said(process)
    assert (code, out) == (128 + signal.SIGTERM, "")
    assert not answers(found[0])
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--workers", "65"), "workers: `65` is too large; write 1 to 64"),
        (("--visitors", "0"), "waitroom: --visitors 0: write 1 to 5000"),
        (("--stock", "-1"), "waitroom: --stock -1: write 0 to 1000000"),
        (("--logs", "."), "there is something in it"),
    ],
)
def test_what_cannot_be_run_is_said_in_one_line(arguments: tuple[str, str], words: str, tmp_path: Path) -> None:
    """A mistake on the command line is one line and exit code 1, before anything is started."""
    (tmp_path / "here" / "beside").mkdir(parents=True) if "--logs" in arguments else None
    process = subprocess.run(
        [sys.executable, "-m", "waitroom.cli", "demo", *arguments],
        cwd=tmp_path / "here" if "--logs" in arguments else tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (process.returncode, process.stdout) == (1, "")
    assert words in process.stderr
    assert process.stderr.count("\n") == 1


async def test_a_child_that_does_not_start_is_told_with_its_last_words(tmp_path: Path) -> None:
    """A program that ends at once is a mistake told in one line, with the last thing it said."""
    child = await demo.Child.start("the shop", ["-c", "print('no such file')"], tmp_path / "out")
    with pytest.raises(demo.StartError, match="the shop does not start: no such file"):
        await child.says("listening on ")
    child.terminate()
    await asyncio.wait_for(child.ended(), 20)
