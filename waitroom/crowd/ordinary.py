"""Shoppers beside a crowd, in a process of their own: what they feel must not depend on how busy the crowd is.

A request every so many milliseconds whether or not the one before was answered, because people do not wait for each
other; and its time counts from when it was due. Each is a line on stdout: when it was due in unix seconds, how long it
took in seconds, and the status, 0 for no answer. Ends when whoever started it does.

``Ordinary`` is the other end: it starts the process, and reads what it says without ever waiting.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time
from array import array
from typing import TYPE_CHECKING

from waitroom.crowd import flood
from waitroom.crowd.adapters import DOCUMENT
from waitroom.crowd.flood import Connections, Exchange, Flood
from waitroom.crowd.rehearsal import Times

if TYPE_CHECKING:
    from waitroom.crowd.answers import Answer

UNDER_WAY_MAX = 2_000
READ_BYTES = 65_536
OK = range(200, 400)


class Ordinary:
    """Ordinary shoppers who ask for ``path`` at ``scheme://host:port``, ``rate`` times a second, until ``stop``.

    ``fresh``: each on a connection of its own; otherwise on connections that stay open.
    """

    def __init__(self, scheme: str, host: str, port: int, path: str, rate: float, *, fresh: bool, verify: bool) -> None:
        words = ["--scheme", scheme, "--host", host, "--port", str(port), "--path", path, "--rate", str(rate)]
        words += ["--fresh"] * fresh + ["--insecure"] * (not verify)
        self._process = subprocess.Popen(  # noqa: S603 - this very program
            [sys.executable, "-m", "waitroom.crowd.ordinary", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._pipe = self._process.stdout.fileno()
        os.set_blocking(self._pipe, False)
        self._rest = b""
        self.due_s, self.took_s = array("d"), array("d")
        self.failed_s = array("d")
        """When those were due that were not served."""

    def read(self) -> None:
        """Take in what it has said since."""
        while True:
            try:
                came = os.read(self._pipe, READ_BYTES)
            except BlockingIOError:
                return
            if not came:
                return
            *lines, self._rest = (self._rest + came).split(b"\n")
            for line in lines:
                due_s, took_s, status = line.split()
                self.due_s.append(float(due_s))
                self.took_s.append(float(took_s))
                if int(status) not in OK:
                    self.failed_s.append(float(due_s))

    def times(self, from_s: float, to_s: float) -> Times:
        """Return the times of all that were due between two moments, unix seconds; failed ones too."""
        return Times.of(
            array("d", (took for due, took in zip(self.due_s, self.took_s, strict=True) if from_s <= due < to_s))
        )

    def failed(self, from_s: float, to_s: float) -> int:
        """Return how many that were due between two moments were not served."""
        return sum(from_s <= due_s < to_s for due_s in self.failed_s)

    def stop(self) -> None:
        """End it, and take in the rest."""
        self._process.terminate()
        self._process.wait()
        self.read()
        assert self._process.stdout is not None
        self._process.stdout.close()


def main() -> int:
    """Ask until whoever started this has ended."""
    parser = argparse.ArgumentParser()
    for name in ("scheme", "host", "path"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--insecure", action="store_true")
    options = parser.parse_args()
    target = flood.find(options.scheme, options.host, options.port, 1, verify=not options.insecure)
    message = f"GET {options.path} HTTP/1.1\r\nHost: {target.authority}\r\n{DOCUMENT}\r\n".encode()
    wall_s = time.time() - time.monotonic()

    def done(exchange: Exchange, answer: Answer | None, _: str) -> None:
        took_s = time.monotonic() - exchange.due_s
        line = f"{wall_s + exchange.due_s:.6f} {took_s:.6f} {answer.status if answer else 0}\n"
        with contextlib.suppress(BrokenPipeError):  # whoever read it has ended, and so do we
            os.write(1, line.encode())

    most = min(UNDER_WAY_MAX, flood.allow_files())
    asking = Flood(target, done, under_way_max=most, connections=Connections.POOLED)
    begun_by, due_s = os.getppid(), time.monotonic()
    while os.getppid() == begun_by:
        now_s = time.monotonic()
        while due_s <= now_s:
            asking.ask(Exchange(0, 0, message, due_s, keep=not options.fresh))
            due_s += 1 / options.rate
        asking.turn(due_s - time.monotonic())
    return 0


if __name__ == "__main__":
    sys.exit(main())
