"""The rooms as they change, for a page that stays open: server-sent events.

Each listener is told the present state when its last telling was taken, so nothing is kept for a slow one. An event's
id is the time of the last line of the log that was told; who comes back with it is told the lines after that.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

from waitroom.admin.facts import view
from waitroom.errors import StoreAway

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from waitroom.ports import Status

LISTENERS_MAX: Final = 16
EVERY_S: Final = 1.0


class Events:
    """Tells listeners of the rooms until ``end``. ``statuses`` states every room."""

    def __init__(self, statuses: Callable[[], Awaitable[Sequence[Status]]]) -> None:
        self._statuses = statuses
        self._over = asyncio.Event()
        self._listeners = 0

    def is_full(self) -> bool:
        """Return whether nobody more can listen."""
        return self._listeners >= LISTENERS_MAX

    def end(self) -> None:
        """Let every listener go."""
        self._over.set()

    async def tell(self, may_listen: Callable[[], bool], told_ms: int) -> AsyncIterator[str]:
        """Give events for one listener, as long as it may listen; log lines from after ``told_ms``."""
        self._listeners += 1
        try:
            while may_listen() and not self._over.is_set():
                try:
                    rooms = await self._statuses()
                except StoreAway:
                    yield ": the record does not answer\n\n"
                else:
                    said = [{"room": room.room, **line} for room in rooms for line in room.log]
                    new = sorted((line for line in said if line["at_ms"] > told_ms), key=lambda line: line["at_ms"])
                    told_ms = new[-1]["at_ms"] if new else told_ms
                    for line in new:
                        yield _event("log", line["at_ms"], line)
                    yield _event("rooms", told_ms, {"rooms": [view(room) for room in rooms]})
                await self._pause()
        finally:
            self._listeners -= 1

    async def _pause(self) -> None:
        try:
            await asyncio.wait_for(self._over.wait(), EVERY_S)
        except TimeoutError:
            return


def _event(kind: str, ident: int, data: dict[str, Any]) -> str:
    return f"event: {kind}\nid: {ident}\ndata: {json.dumps(data)}\n\n"
