"""The log: one JSON object a line for every request, written before the first byte of its answer leaves.

Whoever judges a run reads only this file and the crowd's own, so it may not be behind: no visitor ever saw an answer
that does not stand here. The reverse can happen. A line may stand here for a visitor who had gone, and after
``kill -9`` a committed order may lack its line; the orders table has the last word then.

``duration_s`` is the time until the answer was ready. The ``Waitroom-*`` headers stand as they were received, as text.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "room": "waitroom-room",
    "number": "waitroom-number",
    "visitor": "waitroom-visitor",
    "admitted_at": "waitroom-admitted-at",
}

_NOTE = "shop.note"


def note(scope: Scope, **facts: Any) -> None:
    """Add facts to the line of this request."""
    scope[_NOTE].update(facts)


class Journal:
    """ASGI middleware around the whole shop. ``path`` None keeps no log. Raises ``OSError`` if it cannot be opened."""

    def __init__(self, app: ASGIApp, path: Path | None) -> None:
        self._app = app
        # Line buffered and appending: a line is in the file when `write` returns, whoever else writes to it.
        self._file = None if path is None else path.open("a", buffering=1, encoding="utf-8")

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and write its line when the answer begins."""
        arrived = time.time()
        began = time.perf_counter()
        facts: dict[str, Any] = {"order": None, "sold": None}
        scope[_NOTE] = facts
        status: int | None = None

        async def write_then_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._write(scope, arrived, began, message["status"], facts)
            await send(message)

        try:
            await self._app(scope, receive, write_then_send)
        finally:
            if status is None:  # cut off by the end of the shop itself
                self._write(scope, arrived, began, 499, facts)

    def _write(self, scope: Scope, arrived: float, began: float, status: int, facts: dict[str, Any]) -> None:
        if self._file is None:
            return
        headers = Headers(scope=scope)
        line = {
            "time": arrived,
            "method": scope["method"],
            # As it stood in the request: another spelling of a path is exactly what a reader may be looking for.
            "path": scope["raw_path"].decode("latin-1"),
            "status": status,
            "duration_s": round(time.perf_counter() - began, 6),
            **{key: ", ".join(headers.getlist(name)) or None for key, name in HEADERS.items()},
            **facts,
        }
        self._file.write(json.dumps(line) + "\n")
