"""An admin listener that tests speak to: the real server on a real socket, before the store a test brings."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading

import httpx
from rooms import room

from waitroom.admin.server import AdminServer
from waitroom.clock import SystemClock
from waitroom.core.queueing import Heard, JoinRequest
from waitroom.model import Address, Admin, Settings, StoreUrl
from waitroom.ports import Known, Lead, Noted
from waitroom.store.memory import MemoryStore

TOKEN = "0123456789abcdef" * 2
COUNTED = {
    "requests_total": 7,
    "connections": 3,
    'refused_total{reason="host"}': 2,
    'children{role="worker"}': 2,
    "loop_lag_seconds": 0.004,
}


def settings(folder, *rooms, host="127.0.0.1"):
    """Return settings whose token is ``TOKEN``."""
    token_file = folder / "admin-token"
    token_file.write_text(f"{TOKEN}\n")
    return Settings(
        listen=Address("127.0.0.1", 0),
        origin=Address("127.0.0.1", 1),
        rooms=rooms or (room(), room(name="sale")),
        store=StoreUrl(),
        secret_keys_file=folder / "keys",
        admin=Admin(Address(host, 0), token_file),
    )


def listening(family=socket.AF_INET, address=("127.0.0.1", 0)):
    """Return a socket that listens, as the supervisor makes them."""
    sock = socket.socket(family)
    sock.bind(address)
    sock.listen()
    sock.setblocking(False)  # noqa: FBT003 - the standard library's signature
    return sock


@contextlib.asynccontextmanager
async def served(stated, store, counted=None):
    """Serve; give the server and its URL."""
    sock = listening()
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    server = AdminServer(stated, sock, store, lambda: COUNTED if counted is None else counted)
    await server.start()
    try:
        yield server, url
    finally:
        await server.stop()


def client(url, **headers):
    """Return a client that has the token, unless ``headers`` say otherwise."""
    return httpx.AsyncClient(
        base_url=url, headers={"Authorization": f"Bearer {TOKEN}", **headers}, trust_env=False, timeout=10
    )


async def arrive(store, count, name="launch"):
    """Let ``count`` visitors join a room."""
    await store.join(name, Known(), [JoinRequest(f"{name}-{i}", 60) for i in range(count)])


async def let_in(store, name="launch"):
    """Let the first who joined a room in."""
    here = Heard(1, store.now_ms() + 60_000)
    term = (await store.tick(name, Known(), Noted(heard=[here]), Lead("test"))).term
    await store.tick(name, Known(), Noted(), Lead("test", term, budget=1))
    assert (await store.claim(name, Known(), [(1, 60)]))[0].end_ms


class House:
    """The listener in a thread of its own, for what blocks: the command line. ``url`` is where it is."""

    def __init__(self, folder, *rooms):
        self.folder = folder
        self.settings = settings(folder, *rooms)
        self.store = MemoryStore(self.settings.rooms, SystemClock())
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._served = threading.Event()
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),))

    def __enter__(self):
        """Serve."""
        self._thread.start()
        assert self._served.wait(10)
        return self

    def __exit__(self, *_):
        """Stop."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)
        self._loop.close()

    def do(self, operation):
        """Run one operation of the store, in the thread that it lives in."""
        return asyncio.run_coroutine_threadsafe(operation, self._loop).result(10)

    def listeners(self):
        """Return how many listen to what happens."""
        return self._server._events._listeners

    async def _run(self):
        async with served(self.settings, self.store) as (self._server, self.url):
            self._served.set()
            await self._over.wait()
