"""When events begin, open and end: once each, in store time.

An event's times are of the wall clock, and wall clocks step. So they are turned into store time, which cannot, when the
record first reads them, and again at each reload until the event begins; never otherwise. From then on a stepped clock
moves nothing: what is compared is store time with store time, in the record, by each operation before it does its work.

An event that has begun keeps its name and its way until it ends, whatever becomes of its times in the file: a later
start lengthens a pre-queue but closes no line that has opened, a later end opens again what it had closed. One that is
taken out of the file ends without closing anything. No event begins that should have begun before one that already has.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from waitroom.model import Opening, Phase

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from waitroom.model import RoomEvent


@dataclass(frozen=True, slots=True)
class Reading:
    """That an event with this start was read while the wall clock was ``ahead_ms`` ahead of store time."""

    event: str
    start_time_ms: int
    ahead_ms: int


def read(
    events: Iterable[RoomEvent], before: Iterable[Reading], ahead_ms: int, *, reloaded_ms: int | None = None
) -> tuple[Reading, ...]:
    """Return how each event's times are read: as ``before`` where they were, else by the wall clock as it is.

    After a reload at ``reloaded_ms`` those that have not begun by then are read by the wall clock as it is, too.
    """
    known = {(one.event, one.start_time_ms): one.ahead_ms for one in before}
    readings = []
    for event in events:
        was_ms = known.get((event.name, event.start_time_ms), ahead_ms)
        keeps = reloaded_ms is None or event.begin_ms - was_ms <= reloaded_ms
        readings.append(Reading(event.name, event.start_time_ms, was_ms if keeps else ahead_ms))
    return tuple(readings)


def step(
    events: Sequence[RoomEvent], readings: Iterable[Reading], opening: Opening | None, now_ms: int
) -> Opening | None:
    """Return the opening at ``now_ms`` after the one that was. A later ``begun_ms`` is another event, or one anew."""
    ahead_ms = {one.event: one.ahead_ms for one in readings}
    if opening is not None:
        event = next((event for event in events if event.name == opening.event), None)
        opening = replace(opening, phase=Phase.DROPPED) if event is None else _on(opening, event, ahead_ms, now_ms)
        if opening.phase in (Phase.PREQUEUE, Phase.OPEN):
            return opening
    due = [event for event in events if _begins(event, ahead_ms[event.name], opening, now_ms)]
    return begin(max(due, key=lambda event: event.begin_ms), readings, now_ms) if due else opening


def begin(event: RoomEvent, readings: Iterable[Reading], now_ms: int) -> Opening:
    """Return the opening of an event that begins, or of which nothing else is known, as far as it has come by now."""
    ahead_ms = next(one.ahead_ms for one in readings if one.event == event.name)
    begun_ms, start_ms, end_ms = (at - ahead_ms for at in (event.begin_ms, event.start_time_ms, event.end_time_ms))
    return _phased(Opening(event.name, Phase.PREQUEUE, begun_ms, start_ms, end_ms, ahead_ms), now_ms)


def _begins(event: RoomEvent, ahead_ms: int, last: Opening | None, now_ms: int) -> bool:
    begin_ms = event.begin_ms - ahead_ms
    if last is None or begin_ms > now_ms:
        return begin_ms <= now_ms
    return begin_ms >= last.end_ms if event.name == last.event else begin_ms > last.begun_ms


def _on(opening: Opening, event: RoomEvent, ahead_ms: Mapping[str, int], now_ms: int) -> Opening:
    """Return an opening as far as it has come, under the times its event has now."""
    if opening.phase is Phase.ENDED and event.begin_ms - ahead_ms[event.name] >= opening.end_ms:
        return opening  # the times are those of another day, on which it will begin anew
    start_ms, end_ms = event.start_time_ms - opening.ahead_ms, event.end_time_ms - opening.ahead_ms
    return _phased(replace(opening, start_ms=start_ms, end_ms=end_ms), now_ms)


def _phased(opening: Opening, now_ms: int) -> Opening:
    if now_ms >= opening.end_ms:
        return replace(opening, phase=Phase.ENDED)
    if opening.phase in (Phase.PREQUEUE, Phase.DROPPED) and now_ms < opening.start_ms:
        return replace(opening, phase=Phase.PREQUEUE)
    return replace(opening, phase=Phase.OPEN)
