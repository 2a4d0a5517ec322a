"""A room in words, as the dashboard shows it: every figure written out, what is wrong, what a verb would do to whom.

It is all written here, once, for the page as it is sent and for what the page is told later: the script puts texts in
their places and decides nothing. What comes from outside, such as names and messages, is text here and nothing else.
"""

from __future__ import annotations

import json
import math
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final

from waitroom.admin.facts import GateReason
from waitroom.model import RoomState

if TYPE_CHECKING:
    from collections.abc import Mapping


class Level(IntEnum):
    """How much a room needs an operator."""

    CALM = 0
    WATCH = 1
    ALARM = 2


STATES: Final[Mapping[str, str]] = {
    RoomState.OPEN: "open: whoever comes goes in",
    RoomState.QUEUEING: "queueing: people go in, in order",
    RoomState.PREQUEUE: "people gather for the start",
    RoomState.HELD: "held: nobody goes in",
    RoomState.SOLD_OUT: "sold out",
    RoomState.CLOSED: "closed",
    RoomState.PASSTHROUGH: "passthrough: everyone goes in",
}

REASONS: Final[Mapping[str, str]] = {
    GateReason.SLACK: "Nothing binds: whoever comes is let in, or called at once.",
    GateReason.DOUBLING_GUARD: "The pace rises step by step.",
    GateReason.FULL: "The shop is full, as measured.",
    GateReason.DISTRESS: "The shop is in distress, as measured.",
    GateReason.RETRY_AFTER: "The shop asked us to wait.",
    GateReason.SLOW_PAGE: "The shop's pages are slow.",
    GateReason.OPERATOR_CAP_NEW: "new_users_per_minute sets the pace.",
    GateReason.OPERATOR_CAP_ACTIVE: "All total_active_users are inside or called; places come free as people leave.",
    GateReason.OPERATOR_PAUSE: "Nobody is called: it is held, closed, sold out, or has not begun.",
    GateReason.NO_TELEMETRY: "The record was lost: nobody goes in while people may be inside that it does not know of.",
}

MARKS: Final = {Level.CALM: "fine", Level.WATCH: "look", Level.ALARM: "alarm"}

UNMEASURED: Final = "not measured yet"


def trouble(room: Mapping[str, Any]) -> tuple[Level, str]:
    """Return how much a room, as the API states it, needs an operator, and why."""
    waiting, state = room["waiting"], room["state"]
    waits = people(waiting, "waits", "wait")
    if room["overtakings_total"] or room["cap_exceeded_total"]:
        return Level.ALARM, "A promise was broken: somebody was overtaken, or let in beyond a cap. Please report it."
    if room["rests_s"] > 0:
        return Level.ALARM, f"The record was lost: nobody is let in for {duration(room['rests_s'])}."
    if waiting and room["leader"] is None:
        return Level.ALARM, f"No worker leads this room: nobody is called, and {waits}."
    if waiting and state in (RoomState.HELD, RoomState.SOLD_OUT, RoomState.CLOSED):
        return Level.WATCH, f"{_capital(waits)}, and nobody is called: {STATES[state].partition(':')[0]}."
    if state == RoomState.PASSTHROUGH:
        return Level.WATCH, "Everyone goes in, past both caps."
    if waiting and state == RoomState.QUEUEING and not (room["admitted_last_minute"] or room["called"]):
        return Level.WATCH, f"{_capital(waits)}, and nobody was let in in the last minute."
    return Level.CALM, REASONS[room["gate_reason"]]


def shown(room: Mapping[str, Any]) -> dict[str, str]:
    """Return every text that the dashboard shows of a room, by the place it goes to."""
    level, why = trouble(room)
    estimate = room["estimate_score"]
    return {
        "mark": MARKS[level],
        "why": why,
        "state": room["state"],
        "doing": f"{STATES[room['state']]}{_opens(room)}",
        "in_line": f"{room['waiting'] + room['silent']:,}",
        "present": f"{room['waiting']:,}",
        "inside": _of(room["inside"], room["total_active_users"]),
        "called": f"{room['called']:,}",
        "pace": _of(room["admitted_last_minute"], room["new_users_per_minute"]),
        "reason": REASONS[room["gate_reason"]],
        "estimate": UNMEASURED if estimate is None else f"{math.floor(estimate * 100)}% held",
        "event": f"{room['event'] or 'none'}{_opens(room)}",
        "stock": "not stated" if room["stock"] is None else f"{room['stock']:,}",
        "message": room["message"] or "none",
        "said": " · ".join(f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in room["said"].items())
        or "nothing",
        "joined_total": f"{room['joined_total']:,}",
        "admitted_total": f"{room['admitted_total']:,}",
    }


def consequences(room: Mapping[str, Any]) -> dict[str, str]:
    """Return what each verb would do now, and to how many; ``{n}`` and ``{minutes}`` stand for what is typed."""
    waiting, inside = room["waiting"] + room["called"], room["inside"]
    wait = _capital(people(waiting, "waits", "wait"))
    stay = _capital(people(inside, "is inside and stays", "are inside and stay"))
    lose = _capital(people(inside, "is inside and loses the pass", "are inside and lose their passes"))
    most, per_minute, said = _cap(room["total_active_users"]), _cap(room["new_users_per_minute"]), room["said"]
    past = f"past both caps; {inside:,} are inside now, of at most {most}. When you open the room, they join the line"
    return {
        "hold": f"{wait}: places are kept, and nobody goes in until you open the room. {stay}.",
        "open": f"{wait}: the line goes on, at most {per_minute} a minute, with at most {most} inside. {stay}.",
        "rate": f"{wait}, and at most {per_minute} a minute go in now. "
        "At {n} a minute it takes at least {minutes} until the last of them is in.",
        "active": f"{inside:,} inside and {room['called']:,} called, of at most {most} now. Nobody is thrown out: with "
        "{n} or more of them nobody is called until enough have left.",
        "message": f"{wait}: all of them read it within seconds, and so does everyone who comes.",
        "stock": f"{wait}. At 0 they are told that it is sold out for now, nobody is called, and places are kept. The "
        "shop's next word on its stock goes over yours.",
        "close": f"{wait}: they are told that it is over, and nobody new gets a place. {stay} until the pass ends.",
        "sold-out": f"{wait}: they are told that all is sold, for good. {stay} until the pass ends.",
        "passthrough": f"{wait}: they and everyone who comes go in at once, {past}.",
        "suspend": f"{wait}: they and everyone who comes go in as if there were no room, {past}.",
        "clear": f"Takes back what was said: {', '.join(said) or 'nothing'}. {wait}, and the line is as configured.",
        "reset": f"{wait}: they lose their place. {lose}, unless you let the passes run out. It cannot be taken back.",
    }


def people(count: int, one: str, many: str) -> str:
    """Return ``nobody``, ``1 person`` or ``1,204 people``, with what they do."""
    return f"nobody {one}" if count == 0 else f"1 person {one}" if count == 1 else f"{count:,} people {many}"


def duration(time_s: float) -> str:
    """Return a time to come in the two units that say it."""
    whole = max(1, round(time_s))
    if whole < 60:  # noqa: PLR2004 - seconds of a minute
        return f"{whole} s"
    minutes, seconds = divmod(whole, 60)
    return f"{minutes} min {seconds:02} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60:02} min"  # noqa: PLR2004


def _opens(room: Mapping[str, Any]) -> str:
    return "" if room["opens_s"] is None else f", opens in {duration(room['opens_s'])}"


def _capital(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}"


def _of(count: int, cap: int | None) -> str:
    return f"{count:,}" if cap is None else f"{count:,} of {cap:,}"


def _cap(cap: int | None) -> str:
    return "any number" if cap is None else f"{cap:,}"
