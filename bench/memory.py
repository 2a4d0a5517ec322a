"""What 100,000 waiting visitors cost in memory: all processes together, before they came and while they wait.

A house with two workers on SQLite; the crowd joins by ``POST …/join`` over a few connections, many requests ahead, and
asks once, as pages do. The bar: 30 MB more than with nobody waiting.

``python bench/memory.py`` prints resident sizes by process and exits 1 when the bar is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BAR_MB = 30
CONNECTIONS = 8
AHEAD = 50
CONFIG = """\
listen: 127.0.0.1:0
admin: {listen: 127.0.0.1:0}
workers: 2
origin: http://127.0.0.1:1
limits: {joins_per_client: null}
rooms:
  - {name: launch, match: [{path: /event/}], admission: fixed, always_queue: true}
"""
JOIN = b"POST /.waitroom/launch/join HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 0\r\n\r\n"
ME = b"GET /.waitroom/launch/me HTTP/1.1\r\nHost: shop.example\r\nWaitroom-Ticket: %b\r\n\r\n"
TICKET = re.compile(rb'"ticket":"([^"]+)"')


async def talk(port: int, requests: list[bytes], answers: list[bytes]) -> None:
    """Send requests ahead of their answers, some at a time."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for start in range(0, len(requests), AHEAD):
        some = requests[start : start + AHEAD]
        writer.write(b"".join(some))
        for _ in some:
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            assert length is not None, head
            answers.append(await reader.readexactly(int(length[1])))
    writer.close()


async def crowd(port: int, requests: list[bytes]) -> list[bytes]:
    """Return the answers to all, over several connections."""
    answers: list[bytes] = []
    share = -(-len(requests) // CONNECTIONS)
    await asyncio.gather(
        *(talk(port, requests[start : start + share], answers) for start in range(0, len(requests), share))
    )
    return answers


def sizes(root: int) -> dict[str, float]:
    """Return the resident size of each process of the house, in MB, by its role."""
    found: dict[str, float] = {}
    children = Path(f"/proc/{root}/task/{root}/children").read_text().split()
    for pid in [str(root), *children]:
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        role = next(
            (word.removeprefix("waitroom.") for word in words if word in ("waitroom.keeper", "waitroom.worker")),
            "supervisor",
        )
        resident = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        assert resident is not None
        found[f"{role} {pid}"] = int(resident[1]) / 1024
    return found


def main() -> int:
    """Measure, and judge."""
    parser = argparse.ArgumentParser(description="What waiting visitors cost in memory.")
    parser.add_argument("--visitors", type=int, default=100_000, metavar="N")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "waitroom.yaml"
        config.write_text(CONFIG)
        log = Path(folder) / "log"
        with log.open("wb") as output:
            house = subprocess.Popen(
                [sys.executable, "-m", "waitroom.cli", "serve", "--config", str(config), "--log-format", "text"],
                stderr=output,
            )
        try:
            while (ready := re.search(r"ready on \S+:(\d+)", log.read_text())) is None:
                time.sleep(0.05)
            port = int(ready[1])
            asyncio.run(crowd(port, [JOIN] * 200))
            time.sleep(2)
            before = sizes(house.pid)
            began = time.monotonic()
            joined = asyncio.run(crowd(port, [JOIN] * options.visitors))
            seconds = time.monotonic() - began
            tickets = [found[1] for answer in joined if (found := TICKET.search(answer))]
            asked = asyncio.run(crowd(port, [ME % ticket for ticket in tickets]))
            waiting = sum(b'"number":' in answer and b'"state":"none"' not in answer for answer in asked)
            time.sleep(2)
            after = sizes(house.pid)
        finally:
            house.terminate()
            house.wait(20)
    print(f"{len(tickets)} joined in {seconds:.1f} s, {waiting} told of their place")
    for name in before:
        print(f"{name:<18} {before[name]:6.1f} MB before, {after[name]:6.1f} MB with {options.visitors} waiting")
    more = sum(after.values()) - sum(before.values())
    print(f"all together {more:.1f} MB more (bar {BAR_MB})")
    return 0 if more <= BAR_MB and waiting == options.visitors else 1


if __name__ == "__main__":
    sys.exit(main())
