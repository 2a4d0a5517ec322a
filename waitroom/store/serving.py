"""Any store, served to other processes of ours over a Unix socket.

One connection carries many operations at once; each is answered when it is done. An operation says for how long its
caller waits; one that is not done by then is given up before it begins, where it has not begun.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from typing import TYPE_CHECKING, Any, Protocol

from waitroom.core.queueing import Claimed, Joined, JoinRequest
from waitroom.errors import StoreAway
from waitroom.model import Pass
from waitroom.ports import Store
from waitroom.store import frames

if TYPE_CHECKING:
    from collections.abc import Sequence

    from waitroom.core.queueing import Snapshot
    from waitroom.model import Room

logger = logging.getLogger("waitroom.store")

_CREDENTIALS = struct.Struct("3i")


class ConfigurableStore(Store, Protocol):
    """A store that can be given other settings while it runs."""

    async def configure(self, rooms: Sequence[Room]) -> None:
        """Go on with other settings."""


class StoreServer:
    """Serves ``store`` on a listening socket."""

    def __init__(self, store: Store, listening: socket.socket) -> None:
        self._store = store
        self._listening = listening
        self._server: asyncio.Server | None = None
        self._talks: set[asyncio.Task[None]] = set()
        self.operations = 0

    async def start(self) -> None:
        """Begin to answer."""
        self._server = await asyncio.start_unix_server(self._talk, sock=self._listening)

    async def close(self) -> None:
        """Stop answering. What is under way is not waited for: the store is."""
        if self._server is not None:
            self._server.close()
        for talk in self._talks:
            talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._talks.add(task)
        talk = _Talk(self, self._store, writer)
        try:
            if _is_ours(writer) and await frames.read(reader) == ("waitroom", frames.VERSION):
                frames.write(writer, "welcome")
                while True:
                    await talk.begin(await frames.read(reader))
        except ConnectionError:
            pass
        finally:
            talk.end()
            writer.close()
            self._talks.discard(task)


class _Talk:
    """One connection: the operations under way on it, and the views its client holds."""

    def __init__(self, server: StoreServer, store: Store, writer: asyncio.StreamWriter) -> None:
        self._server = server
        self._store = store
        self._writer = writer
        self._views: dict[str, Snapshot] = {}
        self._under_way: set[asyncio.Task[None]] = set()

    async def begin(self, message: tuple[int, str, float, tuple[Any, ...]]) -> None:
        """Begin one operation."""
        self._server.operations += 1
        task = asyncio.get_running_loop().create_task(self._answer(*message))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        await self._writer.drain()

    def end(self) -> None:
        """Give up what is under way: nobody waits for it."""
        for task in self._under_way:
            task.cancel()

    async def _answer(self, number: int, name: str, patience_s: float, arguments: tuple[Any, ...]) -> None:
        answer: tuple[int, str, Any]
        try:
            async with asyncio.timeout(patience_s):
                answer = (number, "done", await self._do(name, *arguments))
        except TimeoutError:
            answer = (number, "away", "the record is slow")
        except StoreAway as error:
            answer = (number, "away", str(error))
        except (ValueError, KeyError) as error:
            answer = (number, "wrong", str(error))
        except Exception:
            logger.exception("a store operation failed", extra={"reason": "store-failed"})
            answer = (number, "away", "a fault in the store")
        if not self._writer.is_closing():
            frames.write(self._writer, answer)

    async def _do(self, name: str, room: str, *arguments: Any) -> Any:
        store = self._store
        match name:
            case "join":
                known, requests = arguments
                return frames.pack(Joined, await store.join(room, known, frames.unpack(JoinRequest, requests)))
            case "claim":
                known, numbers, visitors = arguments
                return frames.pack(Claimed, await store.claim(room, known, numbers, visitors))
            case "leave":
                await store.leave(room, *arguments)
                return None
            case "look_up":
                known, passes = arguments
                return await store.look_up(room, known, frames.unpack(Pass, passes))
            case "tick":
                known, noted, lead = arguments
                ticked = await store.tick(room, known, frames.unpack_noted(noted), lead)
                packed = frames.pack_ticked(ticked, self._views.get(room))
                self._views[room] = ticked.snapshot
                return packed
            case "snapshot":
                view = await store.snapshot(room)
                packed = frames.pack_view(view, self._views.get(room))
                self._views[room] = view
                return packed
            case "operate":
                return await store.operate(room, *arguments)
            case "status":
                return await store.status(room)
            case "drawn":
                return await store.drawn(room)
            case _:
                raise ValueError(f"{name} is no operation")


def _is_ours(writer: asyncio.StreamWriter) -> bool:
    """Whether the process at the other end is of our own user, as the kernel knows it."""
    sock = writer.get_extra_info("socket")
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(credentials)
    return bool(user == os.getuid())
