"""The page of metrics: what the rooms and the processes state, in Prometheus' words.

Everything is made anew for each page from what was asked for it, and nothing is kept: what the rooms count stands in
their record, and what the processes count is added up by the supervisor (``waitroom/stats.py``). Seconds and people,
no milliseconds and no percentages.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from waitroom import stats
from waitroom.admin.facts import GateReason, gate_reason
from waitroom.model import RoomState

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from prometheus_client.core import Metric

    from waitroom.ports import Status

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

ROOM: Final[Mapping[str, tuple[str, str]]] = {
    "waiting": ("waiting", "Visitors in line who were heard of within the time they were told."),
    "inside": ("inside", "Visitors who hold a pass."),
    "called": ("called", "Visitors who were called and may still come."),
    "issued": ("issued", "The highest number given."),
    "serving": ("serving", "The number the line has been called up to."),
    "admitted_last_minute": ("admitted_last_minute", "Visitors let in, in the last minute; the cap is judged by it."),
    "total_active_users": ("cap_total_active_users", "The cap on visitors inside and called, as it is in force."),
    "new_users_per_minute": ("cap_new_users_per_minute", "The cap on visitors let in a minute, as it is in force."),
    "stock": ("stock", "What the origin said it has left, where it said anything."),
    "rests_s": ("rests_seconds", "How long nobody will be let in yet, because the room's record was lost."),
    "opens_s": ("opens_seconds", "In how long the line of an event opens, while people gather for it."),
    "joined_total": ("joined_total", "Numbers given."),
    "called_total": ("called_total", "Calls made."),
    "admitted_total": ("admitted_total", "Passes given."),
    "overtakings_total": ("overtakings_total", "Visitors called before someone ahead of them who was there. Reads 0."),
    "cap_exceeded_total": ("cap_exceeded_total", "Visitors let in beyond a cap. Reads 0."),
}
"""For each of a room's facts its metric, and what it means."""

PROCESSES: Final[Mapping[str, str]] = {
    "requests_total": "Requests read from clients.",
    "replies_total": "Requests answered by Waitroom itself.",
    "relays_total": "Requests forwarded to an origin.",
    "refused_total": "Requests refused at the wire, by reason.",
    "noted_total": "What was out of the ordinary and is logged too: bypasses, refusals, failures of a shop.",
    "estimates_judged_total": "Ranges of a wait that were told to somebody who has been called since, by room.",
    "estimates_held_total": "Those of them within which the call came.",
    "store_operations_total": "Operations on the record that workers and operators asked for.",
    "ledger_seq": "The number of the ledger's last line.",
    "ledger_waiting": "Entries that wait to be written to the ledger.",
    "ledger_lines_total": "Entries written to the ledger.",
    "ledger_lost_total": "Entries that could not be written to the ledger, and are lost.",
    "connections": "Connections of clients.",
    "loop_lag_seconds": "How late an event loop was at its last beat, the worst of all processes.",
    "children": "Processes that serve, by role.",
    "child_deaths_total": "Processes that ended unasked and were replaced, by role.",
    "reloads_total": "Reloads asked for, by outcome.",
}
"""What the processes count, by the names of ``waitroom/stats.py``. Others are shown too, without explanation."""


class _Page(Collector):
    """What ``prometheus_client`` writes out: any object that can collect, which keeps its global registry out of it."""

    def __init__(self, rooms: Sequence[Status] | None, counted: Mapping[str, float]) -> None:
        self._rooms = rooms
        self._counted = counted

    def collect(self) -> Iterator[Metric]:
        """Give every metric."""
        up = "Whether the record answers; without it nothing can be said of the rooms."
        yield GaugeMetricFamily("waitroom_up", up, value=self._rooms is not None)
        build = GaugeMetricFamily("waitroom_build_info", "Always 1.", labels=["version"])
        build.add_metric([version("waitroom")], 1)
        yield build
        yield from _of_rooms(self._rooms or ())
        yield from _of_processes(self._counted)


def page(rooms: Sequence[Status] | None, counted: Mapping[str, float]) -> bytes:
    """Return the page. ``rooms`` None: the record does not answer. ``counted`` is what all processes count together."""
    return generate_latest(_Page(rooms, counted))


def _of_rooms(rooms: Sequence[Status]) -> Iterator[Metric]:
    for fact, (name, meaning) in ROOM.items():
        family = _family(name, meaning, ["room"])
        for status in rooms:
            if (value := status.facts[fact]) is not None:
                family.add_metric([status.room], value)
        yield family
    state = _family("room_state", "What a room does: 1 for exactly one state.", ["room", "state"])
    reason = _family("gate_reason", "What keeps a room from letting in more: 1 for exactly one.", ["room", "reason"])
    for status in rooms:
        for family, choices, chosen in (
            (state, RoomState, status.facts["state"]),
            (reason, GateReason, gate_reason(status.facts)),
        ):
            for choice in choices:
                family.add_metric([status.room, choice], choice == chosen)
    yield from (state, reason)


def _of_processes(counted: Mapping[str, float]) -> Iterator[Metric]:
    families: dict[str, GaugeMetricFamily | CounterMetricFamily] = {}
    for key, number in sorted(counted.items()):
        name, labels = stats.split(key)
        family = families.setdefault(name, _family(name, PROCESSES.get(name, ""), list(labels)))
        family.add_sample(f"waitroom_{name}", labels, number)
    yield from families.values()


def _family(name: str, meaning: str, labels: Sequence[str]) -> GaugeMetricFamily | CounterMetricFamily:
    if stats.is_total(name):
        return CounterMetricFamily(f"waitroom_{name}", meaning, labels=labels)
    return GaugeMetricFamily(f"waitroom_{name}", meaning, labels=labels)
