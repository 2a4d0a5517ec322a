"""The rooms as they change, for pages that stay open: server-sent events.

One loop asks the store for every room and tells what it found to all who listen, so listeners cost the store nothing
of their own; without any it asks once a step, for the history. Each listener is told what is newest when its last
telling was taken, so nothing is kept for a slow one. What is the same for all is written once.

An event's id is the number of the last line of the log that was told, and who comes back with it is told the lines
after that one. The rooms are asked one by one, so a line may be younger than the look at another room, which did not
show what was said there a moment before; such a line waits for the next look, and no line is ever told behind a later
one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import StreamingResponse

from waitroom.admin.facts import view
from waitroom.errors import StoreAway

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from starlette.types import Receive, Scope, Send

    from waitroom.admin.history import History
    from waitroom.ports import Status

logger = logging.getLogger("waitroom.admin")

LISTENERS_MAX: Final = 16
EVERY_S: Final = 1.0
IDLE_S: Final = 2.5
"""How often the rooms are looked at while nobody listens: twice in a step of the history."""


class Look:
    """What one look at all rooms found. ``rooms`` None: the record did not answer.

    ``lines`` are those of their logs, in order, and ``upto`` is the number of the last, ``upto`` where there is none.
    """

    def __init__(self, number: int, rooms: Sequence[Status] | None, upto: int = 0) -> None:
        self.number = number
        self.rooms = rooms
        self.lines = _lines(rooms or ())
        self.upto = max(upto, self.lines[-1]["seq"] if self.lines else 0)
        self._events: dict[object, str] = {}

    def event(self, key: object, write: Callable[[], tuple[str, Mapping[str, Any]]]) -> str:
        """Return the event that ``write`` gives the kind and the data of, written once for all who ask by ``key``."""
        if key not in self._events:
            self._events[key] = _event(*write(), self.upto)
        return self._events[key]


class Events:
    """Tells listeners of the rooms until ``end``. ``statuses`` states every room, ``history`` is told of each look.

    ``known`` is how the rooms were when they were last seen.
    """

    def __init__(self, statuses: Callable[[], Awaitable[Sequence[Status]]], history: History) -> None:
        self._statuses = statuses
        self._history = history
        self._over = False
        self._listeners = 0
        self._begun = 0
        self._last = Look(0, None)
        self.known: Sequence[Status] | None = None
        self._found = asyncio.Event()
        self._wake = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Look from now on."""
        self._looking = asyncio.create_task(self._look())

    def look_now(self) -> None:
        """Look again at once: something was said."""
        self._wake.set()

    async def end(self) -> None:
        """Let every listener go, and look no more."""
        self._over = True
        self._found.set()
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    def take_seat(self) -> bool:
        """Return whether one more may listen; ``leave`` gives the seat back."""
        if self._over or self._listeners >= LISTENERS_MAX:
            return False
        self._listeners += 1
        return True

    def leave(self) -> None:
        """Give a seat back."""
        self._listeners -= 1

    async def tell(
        self, may_listen: Callable[[], bool], told: int, write: Callable[[Look], str] | None = None
    ) -> AsyncIterator[str]:
        """Give events for one listener, as long as it may listen; log lines numbered above ``told``.

        ``write`` writes the event that shows a look; the rooms as the API states them unless it is given.
        """
        after = self._begun
        self.look_now()
        while may_listen() and not self._over:
            look = await self._after(after)
            if look is None:
                continue
            after = look.number
            for line in look.lines:
                if line["seq"] > told:
                    told = line["seq"]
                    yield _event("log", line, told)
            yield (write or _rooms)(look)

    async def _after(self, number: int) -> Look | None:
        """Return the newest look that was begun after this one; None when there is none in time."""
        if self._last.number <= number:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S):
                    await self._found.wait()
        return self._last if self._last.number > number else None

    async def _look(self) -> None:
        while not self._over:
            self._wake.clear()
            self._begun += 1
            number, rooms = self._begun, None
            try:
                self.known = rooms = await self._statuses()
                self._history.note((room.room, room.facts) for room in rooms)
            except StoreAway:
                pass  # which is what the look then says
            except Exception:
                logger.exception("the rooms cannot be looked at", extra={"reason": "admin-look"})
            self._last = Look(number, rooms, self._last.upto)
            found, self._found = self._found, asyncio.Event()
            found.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S if self._listeners else IDLE_S):
                    await self._wake.wait()


class Listening(StreamingResponse):
    """The answer to one who took a seat, which is given back however the answer ends."""

    def __init__(self, events: Events, content: AsyncIterator[str], headers: Mapping[str, str]) -> None:
        super().__init__(content, headers=headers, media_type="text/event-stream")
        self._seats = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._seats.leave()


def _rooms(look: Look) -> str:
    if look.rooms is None:
        return look.event("away", lambda: ("away", {}))
    rooms = look.rooms
    return look.event("rooms", lambda: ("rooms", {"rooms": [view(room) for room in rooms]}))


def _lines(rooms: Sequence[Status]) -> list[dict[str, Any]]:
    """Return the lines of all rooms that no line can come before any more, in order."""
    settled_ms = min((room.facts["at_ms"] for room in rooms), default=0)
    lines = [{"room": room.room, **line} for room in rooms for line in room.log if line["at_ms"] < settled_ms]
    return sorted(lines, key=lambda line: line["seq"])


def _event(kind: str, data: Mapping[str, Any], ident: int) -> str:
    return f"event: {kind}\nid: {ident}\ndata: {json.dumps(data)}\n\n"
