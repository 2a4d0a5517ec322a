"""The keeper's place in the house, empty as yet: it answers on the store socket, and has nothing to say."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

    from waitroom.model import Settings


class Keeper:
    """Accepts on ``store`` until it is cancelled."""

    def __init__(self, store: socket.socket) -> None:
        self._store = store
        self._accepted_count = 0

    async def serve(self) -> None:
        """Accept, and close."""
        while True:
            connection, _ = await asyncio.get_running_loop().sock_accept(self._store)
            connection.close()
            self._accepted_count += 1

    async def configure(self, settings: Settings) -> None:
        """Take new settings."""

    async def close(self) -> None:
        """Let go of everything."""

    def stats(self) -> dict[str, float]:
        """Return what it counts."""
        return {"keeper_connections_total": self._accepted_count}
