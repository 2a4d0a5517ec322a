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

LEFT_TO_NGINX = ("date", "content-length", "content-type", "connection")


def measure(options: argparse.Namespace, headers: dict[str, str]) -> dict[str, float]:
    """Return joins and pages a second, the CPU of each process in microseconds a join, and joins a commit."""
    with tempfile.TemporaryDirectory() as folder, Servers(folder, options.nginx) as servers:
        waitroom = servers.waitroom("waitroom join", 1, store="sqlite:///record.db")
        nginx = servers.nginx("nginx file", _as_file(Path(folder), waitroom.port, headers))
        rounds: list[dict[str, float]] = []
        for _ in range(options.rounds):
            peer = _round(nginx, options, headers)
            commits = _commits(Path(folder) / "record.db")
            ours = _round(waitroom, options, headers)
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


def _round(server: Server, options: argparse.Namespace, headers: dict[str, str]) -> dict[str, float]:
    """Return the rate of one round, and the CPU of each process a request."""
    load(server.port, TARGET, headers, 1, options.connections)
    before_s = server.cpu_by_role_s()
    rate = load(server.port, TARGET, headers, options.seconds, options.connections)
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
    """Measure with a browser's head and with a bare one, and print both."""
    options = arguments(__doc__.splitlines()[0])
    for title, headers in (("a browser's head", BROWSER), ("a bare head", BARE)):
        print(f"join, {title}; median of {options.rounds}, {options.connections} connections")
        for name, value in measure(options, headers).items():
            print(f"  {name:20}{value:12,.2f}")


if __name__ == "__main__":
    main()
