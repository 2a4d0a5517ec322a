"""The object that apps made for Cloudflare's waiting room read, so that what they show need not change.

How they join and enter does: a page's address asked for JSON gives no place and trades no turn, which is what ``join``
and ``claim`` are for.

Names and meanings are those that its API describes under ``json_response_enabled``. Times are whole minutes, and a wait
that is not known is 0, with ``waitTimeKnown`` false and *unavailable* where words are. Where we know a range, the wait
is its end: who is told ten minutes should not wait eleven.
"""

from __future__ import annotations

import datetime as dt
import math
from typing import TYPE_CHECKING, Final

from waitroom.model import Phase, QueueingMethod, RoomState, VisitorState

if TYPE_CHECKING:
    from waitroom.service import RoomService, Told

_UNKNOWN: Final = "unavailable"
_RUNS = (Phase.PREQUEUE, Phase.OPEN)


def waiting_room(service: RoomService, told: Told, wall_s: float) -> dict[str, object]:
    """Return ``cfWaitingRoom`` for a queued visitor; ``wall_s`` is now, in seconds since 1970."""
    wait_min = None if told.wait_s is None else math.ceil(told.wait_s[1] / 60)
    method = service.view.overrides.queueing_method or service.room.queueing_method
    opening, now_ms = service.view.opening, service.now_ms()
    start_min = end_min = None
    if opening is not None and opening.phase in _RUNS:
        start_min, end_min = _minutes(opening.start_ms - now_ms), _minutes(opening.end_ms - now_ms)
    updated = dt.datetime.fromtimestamp(wall_s, dt.UTC).isoformat(timespec="milliseconds")
    return {
        "inWaitingRoom": True,
        "waitTimeKnown": wait_min is not None,
        "waitTime": wait_min or 0,
        "waitTimeFormatted": _words(wait_min),
        "queueIsFull": told.state is VisitorState.FULL,
        "queueAll": service.view.state is RoomState.HELD,
        "lastUpdated": updated.replace("+00:00", "Z"),
        "refreshIntervalSeconds": math.ceil(told.refresh_s),
        "queueingMethod": method,
        "isFIFOQueue": method is QueueingMethod.FIFO,
        "isRandomQueue": method is QueueingMethod.RANDOM,
        "isPassthroughQueue": method is QueueingMethod.PASSTHROUGH,
        "isRejectQueue": method is QueueingMethod.REJECT,
        "isEventActive": end_min is not None,
        "isEventPrequeueing": opening is not None and opening.phase is Phase.PREQUEUE,
        "timeUntilEventStart": start_min or 0,
        "timeUntilEventStartFormatted": _words(start_min),
        "timeUntilEventEnd": end_min or 0,
        "timeUntilEventEndFormatted": _words(end_min),
        "shuffleAtEventStart": service.view.undrawn,
    }


def _minutes(time_ms: int) -> int:
    return max(0, math.ceil(time_ms / 60_000))


def _words(minutes: int | None) -> str:
    if minutes is None:
        return _UNKNOWN
    return "1 minute" if minutes == 1 else f"{minutes} minutes"
