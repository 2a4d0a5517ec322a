"""Serves the admin listener in an event loop that has more to do.

The supervisor made the socket and owns the loop; uvicorn's server runs in it as a task, without signal handlers, access
log or a name. Its pure-Python parser is taken, because that one bounds what it reads of a request's head. How long a
head may take is ours to bound.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from waitroom.admin.api import app
from waitroom.admin.door import House
from waitroom.admin.token import load_token
from waitroom.errors import StartError
from waitroom.model import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from waitroom.model import RoomEvent, Settings
    from waitroom.ports import Store

logger = logging.getLogger("waitroom.admin")

HEAD_BYTES_MAX = 16 * 1024
HEAD_WITHIN_S = 10.0
"""How long the next request may take to arrive, from the connection or the last answer on."""

CONNECTIONS_MAX = 100
"""Beyond so many a request is answered 503; the listener has a handful of operators and one Prometheus."""

TAKE_WITHIN_S = 10.0
"""How long a reader may take nothing of what is sent to it; then it is cut off, whatever it was reading."""

SEND_BYTES_MAX = 64 * 1024
"""What the kernel holds for one reader, and again what we do."""

DRAIN_S = 2
"""How long a stop waits for what is being answered."""

LOOK_S = 0.01


class AdminServer:
    """The listener on ``sock``, which listens already and is closed by ``stop``.

    ``counted`` returns what all processes count together, under the names of ``waitroom/stats.py``. Raises
    ``StartError`` when the token cannot be had.
    """

    def __init__(
        self, settings: Settings, sock: socket.socket, store: Store, counted: Callable[[], Mapping[str, float]]
    ) -> None:
        self._house = _house(settings)
        self._sock = sock
        self._address = Address(*sock.getsockname()[:2])  # the port that was really had, where 0 was asked for
        application = app(self._house, store, counted)
        self._events = application.state.events
        self._server = uvicorn.Server(
            uvicorn.Config(
                application,
                http=_Patient,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                h11_max_incomplete_event_size=HEAD_BYTES_MAX,
                limit_concurrency=CONNECTIONS_MAX,
                timeout_keep_alive=int(HEAD_WITHIN_S),
                timeout_graceful_shutdown=DRAIN_S,
            )
        )
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serve from now on, and look at the rooms."""
        self._events.start()
        # The public ``serve`` would take the signals that are the supervisor's.
        self._serving = asyncio.create_task(self._server._serve([self._sock]))
        while not (self._server.started or self._serving.done()):  # noqa: ASYNC110 - uvicorn has no event to wait for
            await asyncio.sleep(LOOK_S)
        if self._serving.done():
            self._serving.result()
        logger.info("operators are served on %s", self._address)

    def configure(self, settings: Settings) -> None:
        """Go on with other rooms, and with the token that its file holds now; with the old one if that is no good."""
        try:
            found = _house(settings)
        except StartError as error:
            logger.error("%s; the old token stays", error, extra={"reason": "reload"})  # noqa: TRY400 - the operator's
            self._house.rooms = _rooms(settings)
        else:
            self._house.rooms, self._house.host, self._house.token = found.rooms, found.host, found.token

    async def stop(self) -> None:
        """Take nothing more, finish what is being answered, and close the socket."""
        await self._events.end()
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving
        self._sock.close()


class _Patient(H11Protocol):
    """Closes a connection on which the next request does not arrive in time, or the answer is not taken in time."""

    _due: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=SEND_BYTES_MAX)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES_MAX)
        self._wait()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(TAKE_WITHIN_S, self._cut_off)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._go_on()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._wait_no_more()
        self._go_on()

    def _wait(self) -> None:
        self._wait_no_more()
        self._due = self.loop.call_later(HEAD_WITHIN_S, self._give_up)

    def _wait_no_more(self) -> None:
        if self._due is not None:
            self._due.cancel()

    def _go_on(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()

    def _cut_off(self) -> None:
        client = self.client[0] if self.client else ""
        logger.warning("takes nothing, and is cut off", extra={"reason": "admin-stalled", "client": client})
        self.transport.abort()  # to close would wait for the same reader

    def _give_up(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


def _rooms(settings: Settings) -> dict[str, Sequence[RoomEvent]]:
    return {room.name: room.events for room in settings.rooms}


def _house(settings: Settings) -> House:
    return House(_rooms(settings), settings.admin.listen.host, load_token(settings.admin.token_file))
