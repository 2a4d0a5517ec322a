"""A whole house for black-box tests: a recording origin, and the proxy as an operator starts it.

``RecordingOrigin`` keeps every request as it stood on the wire. ``House`` runs ``waitroom serve`` as a process of its
own on a free port, with a configuration written for the test. ``Visitor`` is a browser without script: it keeps cookies
and shows documents.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import yaml

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

DOCUMENT = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8", "Accept-Language": "en"}
PATIENCE_S = 20.0


@dataclass
class Seen:
    """One request as the origin got it."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the first value of a header."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


async def settled() -> None:
    """Let the loop take in what came before now, and begin what that begins."""
    for _ in range(5):
        await asyncio.sleep(0.005)


@dataclass
class RecordingOrigin:
    """An origin that answers 200 to everything and remembers it. ``answer`` may be replaced by a test."""

    seen: list[Seen] = field(default_factory=list)
    answer: bytes = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\nshop"
    delay_s: float = 0.0
    port: int = 0
    connections: int = 0
    tls: ssl.SSLContext | None = None

    def start(self) -> None:
        """Listen on a free port, in a thread."""
        started = threading.Event()
        self._loop = asyncio.new_event_loop()

        async def serve() -> None:
            self._server = await asyncio.start_server(self._talk, "127.0.0.1", self.port, ssl=self.tls)
            self.port = self._server.sockets[0].getsockname()[1]
            started.set()

        def run() -> None:
            self._loop.run_until_complete(serve())
            self._loop.run_forever()

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()
        assert started.wait(5)

    def stop(self) -> None:
        """Stop listening, and cut what is open."""

        async def close() -> None:
            await settled()  # a server that is closed before it met whom it accepted leaves them open
            self._server.close()
            talks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in talks:
                task.cancel()
            await asyncio.gather(*talks, return_exceptions=True)
            await asyncio.sleep(0.01)  # for the transports to be closed by the loop

        asyncio.run_coroutine_threadsafe(close(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def paths(self, method: str | None = None) -> list[str]:
        """Return the targets asked for."""
        return [seen.target for seen in self.seen if method in (None, seen.method)]

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                start, *lines = head.decode("latin-1").split("\r\n")[:-2]
                method, target, _ = start.split(" ")
                headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
                seen = Seen(method, target, headers, b"")
                if length := seen.header("Content-Length"):
                    seen.body = await reader.readexactly(int(length))
                elif seen.header("Transfer-Encoding"):
                    while size := int((await reader.readline()).split(b";")[0], 16):
                        seen.body += await reader.readexactly(size)
                        await reader.readline()
                    await reader.readline()
                self.seen.append(seen)
                await asyncio.sleep(self.delay_s)
                writer.write(self.answer)
                await writer.drain()
        with contextlib.suppress(RuntimeError):
            writer.close()


class Visitor(httpx.Client):
    """A browser without script."""

    def __init__(self, house: House, **headers: str) -> None:
        super().__init__(base_url=house.url, headers={**DOCUMENT, **headers}, timeout=10, trust_env=False)
        self.house, self.room = house, house.room
        house.visitors.append(self)

    def me(self, *, hidden: bool = False) -> dict[str, Any]:
        """Ask where I stand."""
        status: dict[str, Any] = self.get(f"/.waitroom/{self.room}/me{'?hidden=1' if hidden else ''}").json()
        return status

    def event(self) -> httpx.Response:
        """Open the event's page."""
        return self.get("/event/")

    def is_in(self) -> bool:
        """Open the event's page; whether the shop answered."""
        return self.event().text == "shop"

    def draws(self) -> list[dict[str, Any]]:
        """Ask what everybody may know of the draws."""
        draws: list[dict[str, Any]] = self.get(f"/.waitroom/{self.room}/draw").json()["draws"]
        return draws

    def again(self) -> Visitor:
        """Return the same visitor on a connection of their own: the one there was may have ended with its worker."""
        other = Visitor(self.house)
        other.cookies = self.cookies
        return other

    def token(self) -> str:
        """Return what our cookie holds."""
        return self.cookies[f"waitroom_{self.room}"]


class House:
    """The proxy in front of ``origin``, with one room unless ``config`` says otherwise."""

    room = "launch"

    def __init__(self, folder: Path, origin: RecordingOrigin, room: dict[str, Any], config: dict[str, Any]) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        defaults = {
            "name": self.room,
            "match": [{"path": "/event/"}],
            "admission": "fixed",
            "total_active_users": 2,
            "new_users_per_minute": 6000,
            "session_duration": "60s",
            "claim_within": "10s",
            "refresh": {"near": "250ms", "far": "1s", "farthest": "5s"},
        }
        settings = {
            "listen": f"127.0.0.1:{self.port}",
            "origin": f"{'https' if getattr(origin, 'tls', None) else 'http'}://127.0.0.1:{origin.port}",
            "store": "memory:",
            "admin": {"listen": "127.0.0.1:0"},
            "limits": {"joins_per_client": None, "drain_timeout": "5s"},
            "rooms": [{**defaults, **room}],
            **config,
        }
        self.config = folder / "waitroom.yaml"
        self.config.write_text(yaml.safe_dump(settings))
        self.log = folder / "log.jsonl"
        self.visitors: list[Visitor] = []

    def start(self, **environ: str) -> None:
        """Start it, with more in its environment, and wait until it serves."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "waitroom.cli", "serve", "--config", str(self.config)],
                stderr=log,
                stdout=log,
                env={**os.environ, **environ},
            )
        self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until it serves."""

        def ready() -> bool:
            with contextlib.suppress(httpx.TransportError):
                return httpx.get(f"{self.url}/.waitroom/health/ready", trust_env=False).status_code == 200
            return False

        until(ready, f"the proxy is not ready:\n{self.log.read_text()[-2000:]}")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)

    def worker_pids(self) -> list[int]:
        """Return the process ids of the workers, those that drain or are being started included."""
        return [pid for pid, role in processes(self.process.pid) if role == "worker"]

    def worker_pid(self) -> int:
        """Return the process id of the one worker."""
        (pid,) = self.worker_pids()
        return pid

    def keeper_pid(self) -> int:
        """Return the process id of the keeper."""
        (pid,) = [pid for pid, role in processes(self.process.pid) if role == "keeper"]
        return pid

    def logged(self, reason: str) -> list[dict[str, Any]]:
        """Return the log lines of a reason."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("reason") == reason]


def until(condition: Any, message: str = "it never came true", patience_s: float = PATIENCE_S) -> None:
    """Wait until a condition holds: for what other processes do, in steps too short to matter."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, message
        time.sleep(0.05)


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def alive(pid: int) -> bool:
    """Whether a process runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def processes(supervisor: int) -> list[tuple[int, str]]:
    """Return the process id and the role of each child of a supervisor, in the order of their births."""
    found = []
    for pid in map(int, Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            found += [(pid, role) for role in ("keeper", "worker") if f"waitroom.{role}" in words]
    return found


@contextlib.contextmanager
def running(
    folder: Path, origin: RecordingOrigin, room: dict[str, Any] | None = None, **config: Any
) -> Iterator[House]:
    """Give a house that is started, and stop it at the end whatever happened."""
    house = House(folder, origin, room or {}, config)
    house.start()
    try:
        yield house
    finally:
        for visitor in house.visitors:
            visitor.close()
        house.stop()
