"""The composition root: the only file that knows everybody.

It makes the parts of one worker from settings and keys, and hands each what it needs; nothing below it builds anything
for itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import uvicorn

from waitroom import resources
from waitroom.clock import SystemClock
from waitroom.core.tokens import Keyring
from waitroom.service import RoomService
from waitroom.store.keeping import Keeper
from waitroom.store.memory import MemoryStore
from waitroom.store.notes import Notes
from waitroom.ticker import Ticker
from waitroom.upstream import Origin
from waitroom.web.answers import Answers
from waitroom.web.desk import Desk
from waitroom.web.hall import Hall
from waitroom.web.joinlimit import JoinLimit
from waitroom.web.pages import Pages
from waitroom.web.wire import check_uvicorn, wire_class

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from pathlib import Path

    from waitroom.model import Settings
    from waitroom.ports import Store


@dataclass(frozen=True, slots=True)
class Parts:
    """One worker, ready to serve."""

    settings: Settings
    store: Store
    ticker: Ticker
    desk: Desk
    hall: Hall
    origin: Origin

    def uvicorn_config(self, backlog: int) -> uvicorn.Config:
        """Return the configuration of the server that runs our protocol on its sockets."""
        return uvicorn.Config(
            _no_asgi,
            http=wire_class(self.hall),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            backlog=backlog,
            timeout_graceful_shutdown=1,  # what uvicorn waits for has ended by then: see ``drain``
        )

    def begin_to_drain(self) -> None:
        """Let everybody come to an end, from this moment on."""
        self.hall.begin_to_drain(self.settings.limits.drain_timeout_s)

    async def drain(self) -> None:
        """Wait for what is under way, within ``drain_timeout``: visitors first, then orders whose visitor has gone."""
        await self.hall.drain()
        await self.origin.drain(self.hall.drained_by)

    def stats(self) -> dict[str, float]:
        """Return what this worker counts; names that end in ``_total`` only grow."""
        tally = self.hall.tally
        return {
            "requests_total": tally.requests,
            "replies_total": tally.replies,
            "relays_total": tally.relays,
            "connections": len(self.hall.wires),
            **{f'refused_total{{reason="{reason}"}}': count for reason, count in tally.refused.items()},
        }

    async def close(self) -> None:
        """Let go of everything, the last tick taken."""
        await self.ticker.stop()
        self.origin.close()
        await self.store.close()


async def build(
    settings: Settings,
    secret_keys: Sequence[str],
    store_address: bytes,  # noqa: ARG001 - the record is still in this process
    index: int,  # noqa: ARG001 - the same
) -> Parts:
    """Return the parts of a worker. Raises ``StartError`` when one of them cannot be had."""
    check_uvicorn()
    clock = SystemClock()
    store = MemoryStore(settings.rooms, clock, Notes(notes_path(settings.secret_keys_file)))
    keyring = Keyring(secret_keys)
    services = {
        room.name: RoomService(room, await store.snapshot(room.name), store, keyring, clock) for room in settings.rooms
    }
    origin = Origin(settings.origin, settings.limits)
    limit = JoinLimit(settings.limits.joins_per_client_per_minute, spare_private=not settings.trusted_proxies)
    desk = Desk(settings, services, origin, Answers(Pages(resources.find("templates"))), limit, clock=clock)
    return Parts(
        settings=settings,
        store=store,
        ticker=Ticker(services.values(), store),
        desk=desk,
        hall=Hall(desk, settings.limits),
        origin=origin,
    )


async def build_keeper(_settings: Settings, store: socket.socket) -> Keeper:
    """Return the keeper that answers on ``store``. Raises ``StartError`` when the record cannot be had."""
    return Keeper(store)


def notes_path(secret_keys_file: Path) -> Path:
    """Return where it is noted which rooms have run under these keys."""
    return secret_keys_file.with_name(secret_keys_file.name + ".rooms.json")


async def _no_asgi(_scope: Any, _receive: Any, _send: Any) -> None:
    """Stand where uvicorn wants an application: our protocol never makes an ASGI task."""
    raise AssertionError("no request goes through ASGI")
