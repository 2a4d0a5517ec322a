"""Rooms in lines: a table for a glance, and for one room what was said to it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HEADINGS = ("ROOM", "STATE", "WAITING", "INSIDE", "CALLED", "LAST MINUTE", "BINDS", "SAID OVER THE CONFIGURATION")
NUMBERS = ("WAITING", "INSIDE", "CALLED", "LAST MINUTE")
LOG_LINES = 5


def table(rooms: Sequence[Mapping[str, Any]], *, headed: bool = True) -> list[str]:
    """Return a line for each room, below the headings."""
    rows = [_row(room) for room in rooms]
    shown = [HEADINGS, *rows]
    widths = [max(len(row[column]) for row in shown) for column in range(len(HEADINGS))]
    return [
        "  ".join(
            cell.rjust(width) if heading in NUMBERS else cell.ljust(width)
            for cell, width, heading in zip(row, widths, HEADINGS, strict=True)
        ).rstrip()
        for row in (shown if headed else rows)
    ]


def told(log: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the last of what was said to a room, a line each, in this machine's time."""
    lines = [f"{_when(one['at_ms'])}  {one['who']}: {one['did']}" for one in log[-LOG_LINES:]]
    return ["", "last said:", *lines] if lines else []


def touched(room: Mapping[str, Any]) -> tuple[int, int]:
    """Return how many are in line or called, and how many are inside."""
    return room["waiting"] + room["called"], room["inside"]


def _row(room: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        room["room"],
        state(room),
        f"{room['waiting']:,}",
        _of(room["inside"], room["total_active_users"]),
        f"{room['called']:,}",
        _of(room["admitted_last_minute"], room["new_users_per_minute"]),
        room["gate_reason"],
        said(room),
    )


def state(room: Mapping[str, Any]) -> str:
    """Return what a room does, and in how long it opens."""
    if room["opens_s"] is None:
        return str(room["state"])
    minutes, seconds = divmod(int(room["opens_s"]), 60)
    return f"{room['state']}, opens in {minutes // 60}:{minutes % 60:02}:{seconds:02}"


def _of(count: int, cap: int | None) -> str:
    return f"{count:,}" if cap is None else f"{count:,}/{cap:,}"


def said(room: Mapping[str, Any]) -> str:
    """Return what was said over a room's configuration; a dash where nothing was."""
    return " ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in room["said"].items()) or "-"


def _when(at_ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_ms / 1000))
