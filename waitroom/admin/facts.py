"""A room as operators see it: what the store states, and why the room lets in as many as it does.

The reasons are those of the measured pace; with fixed ceilings only some of them can be so.
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from waitroom import stats
from waitroom.model import RoomState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from waitroom.ports import Status


class GateReason(StrEnum):
    """What keeps a room from letting in more people at this moment; exactly one is so at any time."""

    SLACK = "slack"
    DOUBLING_GUARD = "doubling_guard"
    FULL = "full"
    DISTRESS = "distress"
    RETRY_AFTER = "retry_after"
    SLOW_PAGE = "slow_page"
    OPERATOR_CAP_NEW = "operator_cap_new"
    OPERATOR_CAP_ACTIVE = "operator_cap_active"
    OPERATOR_PAUSE = "operator_pause"
    NO_TELEMETRY = "no_telemetry"


SHUT = (RoomState.PREQUEUE, RoomState.HELD, RoomState.CLOSED, RoomState.SOLD_OUT)


def gate_reason(facts: Mapping[str, Any]) -> GateReason:
    """Return what binds. ``facts`` are those of ``ports.Status``.

    A room that rests, because its record was lost, knows nothing of who is inside: that is ``no_telemetry``.
    """
    if facts["state"] in SHUT:
        return GateReason.OPERATOR_PAUSE
    if facts["state"] == RoomState.PASSTHROUGH:
        return GateReason.SLACK
    if facts["rests_s"] > 0:
        return GateReason.NO_TELEMETRY
    most, per_minute = facts["total_active_users"], facts["new_users_per_minute"]
    if most is not None and facts["inside"] + facts["called"] >= most:
        return GateReason.OPERATOR_CAP_ACTIVE
    # With slots free, it is the pace of calls that anyone in line waits for.
    if per_minute is not None and (facts["waiting"] or facts["admitted_last_minute"] >= per_minute):
        return GateReason.OPERATOR_CAP_NEW
    return GateReason.SLACK


def scored(status: Status, counted: Mapping[str, float]) -> Status:
    """Return the room with the share of told waits that held, as the processes count; None before any is judged."""
    judged = counted.get(stats.key("estimates_judged_total", room=status.room), 0)
    held = counted.get(stats.key("estimates_held_total", room=status.room), 0)
    score = held / judged if judged else None
    return replace(status, facts={**status.facts, "estimate_score": score})


def view(status: Status) -> dict[str, Any]:
    """Return the room as the API states it."""
    return {"room": status.room, **status.facts, "gate_reason": gate_reason(status.facts)}
