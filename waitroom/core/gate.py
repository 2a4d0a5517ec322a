"""The gate: what becomes of one request to a room.

It is given what the request shows of itself, the room's settings and the worker's view of the room, and returns one of
five frozen decisions. It has no effects, cannot be interrupted, and states its reason, which ``web/`` logs.

* ``Forward``: to the origin, because of a valid pass, or because the room lets everyone through;
* ``Join``: a new place, or straight in when the room is in standby: the store decides which;
* ``Wait``: a place that is not called yet;
* ``Admit``: a place that is called, or was: ask the store to trade it for a pass;
* ``TurnAway``: an answer of ours that gives nothing, and says why.

Only a *document* makes a place. A picture or a script's call that took one would hand its number to nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from waitroom.core.queueing import CALLED, GONE, INSIDE, NONE, RETURNER, SILENT, Snapshot
from waitroom.model import QueueingMethod, RoomState, VisitorState

if TYPE_CHECKING:
    from waitroom.model import Pass, Room, Ticket


UNKNOWN_MS = 1_000
"""A pass that a view does not know after so long was given before a record was lost; until then it may be new."""


class Refusal(StrEnum):
    """Why a request is turned away."""

    PREFETCH = "prefetch"
    CRAWLER = "crawler"
    NOT_A_DOCUMENT = "not-a-document"
    PREFLIGHT = "preflight"
    CROSS_SITE_FORM = "cross-site-form"
    FULL = "full"
    REJECTED = "rejected"
    CLOSED = "closed"
    SOLD_OUT = "sold-out"


@dataclass(frozen=True, slots=True)
class Shown:
    """What a request shows of itself.

    ``safe``: GET or HEAD. ``crawler``: it says that it is a search engine, or the like. ``from_here``: it comes from
    the same site, or carries a cookie of this room's. ``ticket`` and ``entry_pass`` have a good signature and name this
    room and generation; nothing else is known of them. ``preflight``: it asks whether a call may be made, and is none
    itself.
    """

    document: bool
    safe: bool = True
    prefetch: bool = False
    crawler: bool = False
    preflight: bool = False
    from_here: bool = True
    ticket: Ticket | None = None
    entry_pass: Pass | None = None


@dataclass(frozen=True, slots=True)
class Forward:
    """To the origin. ``renew``: the pass was used late enough to slide; ``end_ms``: the end that the store holds."""

    reason: str
    entry_pass: Pass | None = None
    renew: bool = False
    end_ms: int = 0


@dataclass(frozen=True, slots=True)
class Join:
    """A place, or straight in. ``form``: what was sent with the request will not be kept."""

    form: bool


@dataclass(frozen=True, slots=True)
class Wait:
    """Not called yet."""

    ticket: Ticket
    form: bool


@dataclass(frozen=True, slots=True)
class Admit:
    """Called, or a returner: the store judges."""

    ticket: Ticket
    form: bool


@dataclass(frozen=True, slots=True)
class TurnAway:
    """Nothing is given."""

    reason: Refusal


Decision = Forward | Join | Wait | Admit | TurnAway


def decide(room: Room, view: Snapshot, shown: Shown, now_ms: int) -> Decision:
    """Return what becomes of a request that shows ``shown`` at ``now_ms`` of store time."""
    if view.state is RoomState.PASSTHROUGH:
        return Forward("passthrough")
    if shown.entry_pass is not None and (end_ms := pass_end_ms(view, shown.entry_pass, now_ms)):
        return Forward("pass", shown.entry_pass, renews(room, view, shown.entry_pass, end_ms, now_ms), end_ms)
    if shown.prefetch:
        return TurnAway(Refusal.PREFETCH)
    if not shown.document:
        # In standby a shop's own calls go through; from the moment the room queues, only a pass helps.
        if view.state is RoomState.OPEN:
            return Forward("standby")
        return TurnAway(Refusal.PREFLIGHT if shown.preflight else Refusal.NOT_A_DOCUMENT)
    if view.closed:
        return TurnAway(Refusal.CLOSED)
    if view.overrides.final:
        return TurnAway(Refusal.SOLD_OUT)
    if shown.ticket is not None:
        state = stands(view, shown.ticket.number, now_ms)
        if state is VisitorState.WAITING:
            return Wait(shown.ticket, not shown.safe)
        if state is not VisitorState.NONE:
            return Admit(shown.ticket, not shown.safe)
    if shown.crawler:
        # Nobody stands behind it who could wait, or would be inside.
        return Forward("standby") if view.state is RoomState.OPEN else TurnAway(Refusal.CRAWLER)
    if not shown.safe and not shown.from_here:
        return TurnAway(Refusal.CROSS_SITE_FORM)
    if room.queueing_method is QueueingMethod.REJECT and view.state not in (RoomState.OPEN, RoomState.PREQUEUE):
        return TurnAway(Refusal.REJECTED)
    if room.max_waiting is not None and view.present >= room.max_waiting and view.state is not RoomState.OPEN:
        return TurnAway(Refusal.FULL)
    return Join(not shown.safe)


def pass_end_ms(view: Snapshot, entry_pass: Pass, now_ms: int) -> int:
    """Return the end that holds for a pass, or 0 when it opens nothing any more.

    The record's end counts where the record knows one: a pass may have been renewed, or given up. One of an earlier
    generation opens only if it was left to run out.
    """
    if entry_pass.generation != view.generation:
        end_ms = view.former.get((entry_pass.generation, entry_pass.number), 0)
        return end_ms if end_ms > now_ms else 0
    standing = view.standing(entry_pass.number)
    if standing == GONE:
        return 0
    end_ms = view.inside.get(entry_pass.number, 0) if standing == INSIDE else 0
    end_ms = max(end_ms, stated_end_ms(view, entry_pass))
    return end_ms if end_ms > now_ms else 0


def stated_end_ms(view: Snapshot, entry_pass: Pass) -> int:
    """Return the end that a pass states, moved by what the room's clock has stood still since it was signed."""
    return entry_pass.end_ms + max(0, view.stood_ms - entry_pass.stood_ms)


def renews(room: Room, view: Snapshot, entry_pass: Pass, end_ms: int, now_ms: int) -> bool:
    """Whether the use of a pass is to be told to the store.

    It is when its second half has begun, when it is not yet a session, and when the record may not know of it.
    """
    if entry_pass.generation != view.generation:
        return False
    if view.standing(entry_pass.number) != INSIDE and now_ms > entry_pass.admitted_ms + UNKNOWN_MS:
        return True
    session_ms = int(room.session_duration_s * 1000)
    stood_ms = max(0, view.stood_ms - entry_pass.stood_ms)
    if end_ms - entry_pass.admitted_ms - stood_ms < session_ms:
        return True
    return not room.disable_session_renewal and end_ms - now_ms < session_ms // 2


def stands(view: Snapshot, number: int, now_ms: int) -> VisitorState:
    """Return where the holder of ticket ``number`` stands; NONE when the place no longer exists."""
    standing = view.standing(number)
    if standing == GONE:
        return VisitorState.NONE
    if standing == INSIDE:
        return VisitorState.ADMITTED
    if standing == CALLED:
        return VisitorState.CALLED if view.turns[number] >= now_ms else VisitorState.MISSED
    passed = view.place(number) <= view.serving
    if standing == RETURNER or (standing == SILENT and passed):
        return VisitorState.MISSED
    if standing == NONE and passed:
        return VisitorState.MISSED  # a place from before the record was lost: next, in order of its number
    return VisitorState.WAITING
