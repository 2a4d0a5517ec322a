"""What it costs to give a place: a document without a ticket, against nginx sending the same page from a file.

Every request is a new visitor: numbered, durable in SQLite before the answer, signed, and sent the whole waiting page.
nginx sends the very same head and body, from a file it keeps open. One worker each, the same client, rounds that
alternate; the CPU is counted for each process of the house, because joins use two: the worker, and the keeper of the
record.
"""

from __future__ import annotations

import contextlib
import http.client
import sqlite3
import statistics
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from peers import Servers, arguments, load

if TYPE_CHECKING:
    import argparse

    from peers import Server

TARGET = "/event/tickets?show=42"
BARE = {"Accept": "text/html"}
BROWSER = {
    "sec-ch-ua": '"Chromium";v="139", "Not;A=Brand";v="99"',
    "sec-ch-ua-mobile": "?0",
    "sec-ch-ua-platform": '"Linux"',
    "Upgrade-Insecure-Requests": "1",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/139.0.0.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Sec-Fetch-Site": "none",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-User": "?1",
    "Sec-Fetch-Dest": "document",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Accept-Language": "en-GB,en;q=0.9",
}
"""What a browser sends with the first page it asks a host for."""

OTHERS = """
local count = 0
function request()
  count = count + 1
  return wrk.format("GET", "/event/tickets?show=42&click=" .. count .. "-" .. math.random(1, 1000000000))
end
"""
"""Has every visitor come to an address of their own, as advertisements make them: nothing that is kept helps."""

LEFT_TO_NGINX = ("date", "content-length", "content-type", "connection")


def measure(options: argparse.Namespace, headers: dict[str, str], lua: str | None = None) -> dict[str, float]:
    """Return joins and pages a second, the CPU of each process in microseconds a join, and joins a commit.

    ``lua`` makes the requests instead of one after the other of the same address.
    """
    with tempfile.TemporaryDirectory() as folder, Servers(folder, options.nginx) as servers:
        waitroom = servers.waitroom("waitroom join", 1, store="sqlite:///record.db")
        nginx = servers.nginx("nginx file", _as_file(Path(folder), waitroom.port, headers))
        script = None
        if lua is not None:
            script = Path(folder) / "requests.lua"
            script.write_text(lua)
        rounds: list[dict[str, float]] = []
        for _ in range(options.rounds):
            peer = _round(nginx, options, headers, script)
            commits = _commits(Path(folder) / "record.db")
            ours = _round(waitroom, options, headers, script)
            joins = ours["rate"] * options.seconds
            rounds.append(
                {
                    "nginx_per_s": peer["rate"],
                    "nginx_us": peer["all"],
                    "joins_per_s": ours["rate"],
                    "worker_us": ours["waitroom.worker"],
                    "keeper_us": ours["waitroom.keeper"],
                    "all_us": ours["all"],
                    "joins_per_commit": joins / (_commits(Path(folder) / "record.db") - commits),
                    "rate_ratio": ours["rate"] / peer["rate"],
                    "cpu_ratio": peer["all"] / ours["all"],
                    "worker_cpu_ratio": peer["all"] / ours["waitroom.worker"],
                }
            )
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}


def _round(
    server: Server, options: argparse.Namespace, headers: dict[str, str], script: Path | None
) -> dict[str, float]:
    """Return the rate of one round, and the CPU of each process a request."""
    load(server.port, TARGET, headers, 1, options.connections, script=script)
    before_s = server.cpu_by_role_s()
    rate = load(server.port, TARGET, headers, options.seconds, options.connections, script=script)
    spent_us = {
        role: (cpu_s - before_s[role]) / (rate * options.seconds) * 1e6
        for role, cpu_s in server.cpu_by_role_s().items()
    }
    return {"rate": rate, "all": sum(spent_us.values()), **spent_us}


def _as_file(folder: Path, port: int, headers: dict[str, str]) -> str:
    """Write a waiting page into a file, and return what has nginx answer with its head and its body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", TARGET, headers=headers)
    answer = connection.getresponse()
    (folder / "page.html").write_bytes(answer.read())
    added = "".join(
        f'add_header {name} "{value}";' for name, value in answer.getheaders() if name.lower() not in LEFT_TO_NGINX
    )
    connection.close()
    file = f"alias {folder}/page.html; default_type 'text/html; charset=utf-8'; types {{}} etag off;"
    location = f"location = /event/tickets {{ {file} {added} }}"
    return f"open_file_cache max=10 inactive=1h; sendfile on; tcp_nopush on; {location}"


def _commits(record: Path) -> int:
    with contextlib.closing(sqlite3.connect(f"file:{record}?mode=ro", uri=True)) as db:
        [[count]] = db.execute("SELECT value FROM meta WHERE name = 'commits'")
    return int(count)


def main() -> None:
    """Measure with a browser's head, with a bare one, and with an address of its own for each, and print all."""
    # As many as in a flood: with 64, a join is as slow as the disk, and both sides wait most of the time.
    options = arguments(__doc__.splitlines()[0], connections=512)
    kinds = (("a browser's head", BROWSER, None), ("a bare head", BARE, None), ("addresses all other", BROWSER, OTHERS))
    for title, headers, lua in kinds:
        print(f"join, {title}; median of {options.rounds}, {options.connections} connections")
        for name, value in measure(options, headers, lua).items():
            print(f"  {name:20}{value:12,.2f}")


if __name__ == "__main__":
    main()
