"""Logs: one JSON object a line on stderr, for machines; ``text`` for people.

Every refusal is logged with its reason, and a flood of refusals is what an attack looks like, so at most ten lines a
second are written for one reason; how many were left out is said when the next second's first line is written. Tokens
and keys are never given to a logger.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Final

LINES_PER_SECOND = 10
REASONS_MAX = 1_000
FIELDS: Final = ("reason", "room", "number", "visitor", "client", "host", "origin", "why", "count")
"""What a record may carry beside its message."""


class RateLimit(logging.Filter):
    """Lets ten records a second through for each ``reason``; records without one all pass."""

    def __init__(self) -> None:
        super().__init__()
        self._seconds: dict[str, tuple[int, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write ``record``; the first of a second says how many were left out in the last."""
        reason = getattr(record, "reason", None)
        if reason is None:
            return True
        second = int(record.created)
        since, written = self._seconds.get(reason, (second, 0))
        if since != second:
            if written > LINES_PER_SECOND:
                record.count = written - LINES_PER_SECOND
            written = 0
        if len(self._seconds) > REASONS_MAX:
            self._seconds.clear()
        self._seconds[reason] = (second, written + 1)
        return written < LINES_PER_SECOND


class JsonLines(logging.Formatter):
    """One JSON object a line. ``count`` is how many lines of that reason were left out before this one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line for ``record``."""
        line: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class Text(logging.Formatter):
    """A line for people."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """Return the line for ``record``, with what it carries behind the message."""
        carried = [f"{name}={getattr(record, name)}" for name in FIELDS if hasattr(record, name)]
        return " ".join([super().format(record), *carried])


def configure(log_format: str) -> None:
    """Send everything to stderr in ``log_format``, ``json`` or ``text``."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Text() if log_format == "text" else JsonLines())
    handler.addFilter(RateLimit())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    # uvicorn tells of its own start and stop; the supervisor says the same in our words.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
