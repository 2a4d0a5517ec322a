"""The composition root: the only file that knows everybody.

It makes the parts of one worker, and those of the keeper of the record, from settings and keys, and hands each what it
needs; nothing below it builds anything for itself.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import uvicorn

from waitroom import resources, stats
from waitroom.clock import SystemClock
from waitroom.core.assertion import AssertionSigner
from waitroom.core.tokens import Keyring
from waitroom.errors import StartError, StoreAway
from waitroom.keys import ENVIRONMENT
from waitroom.ledger.files import head_path
from waitroom.ledger.writing import LedgerWriter
from waitroom.model import TICK_S
from waitroom.service import RoomService
from waitroom.store.memory import MemoryStore
from waitroom.store.notes import Notes
from waitroom.store.remote import RemoteStore
from waitroom.store.serving import StoreServer
from waitroom.store.sqlite import SqliteStore
from waitroom.ticker import Ticker
from waitroom.upstream import Origin
from waitroom.web import samples
from waitroom.web.answers import Answers
from waitroom.web.catalogs import SOURCE
from waitroom.web.desk import Desk
from waitroom.web.hall import Hall
from waitroom.web.joinlimit import JoinLimit
from waitroom.web.lane import Lane
from waitroom.web.pages import Pages
from waitroom.web.wire import check_uvicorn, wire_class

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from waitroom.core.queueing import Snapshot
    from waitroom.model import Address, Settings
    from waitroom.ports import Store
    from waitroom.store.serving import ConfigurableStore


FIRST_VIEW_S = 20.0
"""How long a worker that starts waits for a record that is away."""


@dataclass(frozen=True, slots=True)
class Parts:
    """One worker, ready to serve."""

    settings: Settings
    store: Store
    ticker: Ticker
    desk: Desk
    hall: Hall
    origins: Mapping[Address, Origin]

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
        await asyncio.gather(*(origin.drain(self.hall.drained_by) for origin in self.origins.values()))

    def stats(self) -> dict[str, float]:
        """Return what this worker counts, under the names of ``waitroom/stats.py``."""
        tally = self.hall.tally
        return {
            "requests_total": tally.requests,
            "replies_total": tally.replies,
            "relays_total": tally.relays,
            "connections": len(self.hall.wires),
            **stats.by("refused_total", tally.refused, "reason"),
            **stats.by("noted_total", self.desk.counts, "reason", "room"),
            **self.desk.judged(),
        }

    async def close(self) -> None:
        """Let go of everything, the last tick taken."""
        await self.ticker.stop()
        for origin in self.origins.values():
            origin.close()
        await self.store.close()


async def build(settings: Settings, secret_keys: Sequence[str], store_address: bytes, index: int) -> Parts:
    """Return the parts of worker ``index``, whose record is kept at ``store_address``.

    Raises ``StartError`` when one of them cannot be had.
    """
    check_uvicorn()
    clock = SystemClock()
    store = RemoteStore(store_address)
    keyring = Keyring(secret_keys)
    worker = f"{index}-{os.getpid()}-{os.urandom(4).hex()}"
    services = {
        room.name: RoomService(room, await _first_view(store, room.name), store, keyring, clock, worker=worker)
        for room in settings.rooms
    }
    # One pool an address and what it is known by: rooms and sites that share a shop share its kept connections.
    origins = {address: Origin(address, settings.limits) for address in settings.origins()}
    limit = JoinLimit(settings.limits.joins_per_client_per_minute, spare_private=not settings.trusted_proxies)
    desk = Desk(
        settings, services, origins, pages_of(settings), limit, signer=AssertionSigner(secret_keys[-1]), clock=clock
    )
    hall = Hall(desk, settings.limits)
    hall.lane = Lane(settings, services, hall)
    return Parts(
        settings=settings,
        store=store,
        ticker=Ticker(services.values(), store),
        desk=desk,
        hall=hall,
        origins=origins,
    )


def pages_of(settings: Settings) -> dict[str, dict[str, Answers]]:
    """Return each room's answers in each of its languages, and under no name those for what no room covers.

    Raises ``StartError`` when templates cannot be used, which is said of an operator's own by making every page once,
    or when a room asks for a language that nobody translated.
    """
    ours = resources.find("templates")
    for room in settings.rooms:
        if room.templates is not None and not room.templates.is_dir():
            raise StartError(f"rooms.{room.name}: templates: there is no folder {room.templates}")
    made = {folder: Pages(ours, folder) for folder in {None, *(room.templates for room in settings.rooms)}}
    spoken = {"": {language: Answers(made[None], language) for language in [SOURCE, *made[None].languages]}}
    for room in settings.rooms:
        pages = made[room.templates]
        if unknown := [language for language in room.languages if language not in pages.languages]:
            raise StartError(
                f"rooms.{room.name}: languages: nobody translated the pages to {unknown[0]}; "
                f"there are {', '.join(sorted(pages.languages))}, and docs/TEMPLATES.md says how to add one"
            )
        for language in room.languages if room.templates is not None else ():
            try:
                samples.every(pages, room.name, language)
            except StartError as error:
                raise StartError(f"rooms.{room.name}: templates in {room.templates}: {error}") from error
        spoken[room.name] = {language: Answers(pages, language) for language in room.languages}
    return spoken


def doubts_of_pages(settings: Settings) -> list[str]:
    """Return what is allowed in operators' own templates, and is yet worth a word. Raises as ``pages_of`` does."""
    pages_of(settings)
    return [
        f"rooms.{room.name}: templates: {doubt}"
        for room in settings.rooms
        if room.templates is not None
        for doubt in samples.doubts(Pages(resources.find("templates"), room.templates), room.name, room.languages)
    ]


async def _first_view(store: Store, room: str) -> Snapshot:
    """Return the view that a worker begins with. Raises ``StartError`` when the record cannot be had."""
    give_up_s = time.monotonic() + FIRST_VIEW_S
    while True:
        try:
            return await store.snapshot(room)
        except StoreAway as error:
            if time.monotonic() > give_up_s:
                raise StartError(f"the record of {room} cannot be had: {error}") from error
            await asyncio.sleep(TICK_S)


class Keeper:
    """The one process that keeps the record: a store, served to the others, and the ledger beside it."""

    def __init__(self, store: ConfigurableStore, server: StoreServer, ledger: LedgerWriter | None) -> None:
        self._store = store
        self._server = server
        self._ledger = ledger

    async def serve(self) -> None:
        """Answer until cancelled."""
        await self._server.start()
        await asyncio.Event().wait()

    async def configure(self, settings: Settings, secret_keys: Sequence[str]) -> None:
        """Go on with other settings and keys."""
        await self._store.configure(settings.rooms)
        if self._ledger is not None:
            self._ledger.configure(secret_keys[-1])

    async def close(self) -> None:
        """Answer nobody any more, and let go of the record."""
        await self._server.close()
        await self._store.close()
        if self._ledger is not None:
            await asyncio.to_thread(self._ledger.close)

    def stats(self) -> dict[str, float]:
        """Return the plain counters of this process."""
        of_ledger = {} if self._ledger is None else self._ledger.stats()
        return {"store_operations_total": self._server.operations, **of_ledger}


async def build_keeper(settings: Settings, secret_keys: Sequence[str], listening: socket.socket) -> Keeper:
    """Return the keeper of the record. Raises ``StartError`` when the record cannot be had.

    With keys from the environment nobody can tell from the missing of a note that a room never ran: it is assumed to.
    """
    clock, notes = SystemClock(), Notes(notes_path(settings.secret_keys_file))
    assume_ran = bool(os.environ.get(ENVIRONMENT, "").strip())
    ledger = None
    if settings.ledger is not None:
        ledger = LedgerWriter(settings.ledger, secret_keys[-1], head_path(settings.secret_keys_file), clock)
    store: ConfigurableStore
    if settings.store.path is None:
        store = MemoryStore(settings.rooms, clock, notes, assume_ran=assume_ran, ledger=ledger)
    else:
        seal = settings.secret_keys_file.with_name(settings.secret_keys_file.name + ".record")
        store = SqliteStore(
            settings.rooms, clock, settings.store.path, notes, seal, assume_ran=assume_ran, ledger=ledger
        )
    if ledger is not None:  # once nobody else can be keeping this record, and so this ledger
        ledger.start()
    return Keeper(store, StoreServer(store, listening), ledger)


def notes_path(secret_keys_file: Path) -> Path:
    """Return where it is noted which rooms have run under these keys."""
    return secret_keys_file.with_name(secret_keys_file.name + ".rooms.json")


async def _no_asgi(_scope: Any, _receive: Any, _send: Any) -> None:
    """Stand where uvicorn wants an application: our protocol never makes an ASGI task."""
    raise AssertionError("no request goes through ASGI")
