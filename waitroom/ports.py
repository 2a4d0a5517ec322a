"""What the inside needs from outside.

The store speaks the domain, not key and value, because the promises live in its atomicity: each operation is one step
that nothing can come between, and is answered when it is as durable as the store makes it. Every operation takes a
batch, states what its caller knows of the room (``Known``), and returns what the store knows. Instants are store time:
one clock judges, and it is the store's.

An operation that cannot be done raises ``StoreAway``; it may have been done all the same, and may be asked for again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from waitroom.core.queueing import Claimed, Heard, Joined, JoinRequest, Snapshot
    from waitroom.model import Draw, Pass


@dataclass(frozen=True, slots=True)
class Known:
    """What a caller knows of a room: a generation, and the largest number it issued or saw signed there.

    A record that is smaller than this has lost something, and begins a new series; one of a smaller generation adopts
    this one. An operation on numbers of another generation than the record's does nothing.
    """

    generation: int = 1
    number: int = 0


@dataclass(frozen=True, slots=True)
class Stock:
    """What the origin says it has left; with a version, an older word is not heard over a newer one."""

    count: int
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Noted:
    """What a worker noted between two ticks.

    ``heard``: who asked for themselves; ``used``: passes used late enough to slide; ``extended``: numbers and
    milliseconds that the origin adds to their sessions, or 0 for a called one that asks for more time; ``stock``: the
    origin's last word on it; ``ended``: why the origin ended the line, ``sold-out`` or ``close``. All of it is of one
    ``generation``, 0 for the one its caller knows: the same number is somebody else's in the next. ``extended_before``:
    how many extensions this worker said before these; what is said again, because it seemed lost, is then not added
    again. ``around``: by reason and rule, how many requests that went around the room this worker knows to be noted,
    and how many there were in its life.
    """

    heard: Sequence[Heard] = ()
    used: Sequence[Pass] = ()
    extended: Sequence[tuple[int, int]] = ()
    stock: Stock | None = None
    ended: str | None = None
    generation: int = 0
    extended_before: int | None = None
    around: Mapping[tuple[str, str], tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing for the ledger, as it happened at ``at_ms`` of store time.

    ``visitor`` is the random id; the ledger writes a pseudonym in its place. ``facts`` are written as they are.
    """

    kind: str
    at_ms: int
    room: str
    facts: Mapping[str, Any]
    visitor: str = ""


class Ledger(Protocol):
    """Where entries are written for good."""

    def write(self, entries: Sequence[Entry]) -> None:
        """Take entries in, in their order. Returns at once and never fails: what cannot be written is counted."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A draw as it can be published for everybody to check.

    ``tickets`` are the hashes in the order of the list, sixteen bytes each, except of the first ``lost``, which went
    with a record; ``lost_digest`` is the digest after those. ``ranks`` are in the same order, four bytes each, from 0.
    """

    room: str
    draw: Draw
    tickets: bytes = field(repr=False)
    lost: int
    lost_digest: str
    ranks: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Lead:
    """A worker's bid to move ``serving``.

    ``term`` is the one it holds by its own belief, 0 for none, and ``serving`` where it believes it stands: if either
    is not so, nobody is called. ``budget`` is how many the pace allows to call.
    """

    worker: str
    term: int = 0
    serving: int = 0
    budget: int = 0


@dataclass(frozen=True, slots=True)
class Ticked:
    """What one tick did: the numbers called, in order, the view after it, and the term this worker holds (0: none)."""

    called: Sequence[int]
    snapshot: Snapshot
    term: int = 0


@dataclass(frozen=True, slots=True)
class Status:
    """One room as an operator sees it: counts, the limits in force, what was said over them, and the log's end.

    A line of the log has ``at_ms``, ``seq``, ``who`` and ``did``. ``seq`` grows from line to line over all rooms of a
    store, and is never below the ``at_ms`` of its line.
    """

    room: str
    facts: Mapping[str, Any]
    log: Sequence[Mapping[str, Any]] = field(default_factory=tuple)


class Store(Protocol):
    """The record of every room. ``room`` is a name that the store was opened with."""

    async def join(self, room: str, known: Known, requests: Sequence[JoinRequest]) -> list[Joined]:
        """Give the requests numbers in order; in standby admit as many as there is room for."""

    async def claim(
        self, room: str, known: Known, numbers: Sequence[tuple[int, float]], visitors: Sequence[str] = ()
    ) -> list[Claimed]:
        """Trade called numbers for slots, judging both caps.

        Each number comes with the seconds it may be silent if it has to go on waiting. ``visitors`` are the ids of
        their holders, for the ledger, where they are known.
        """

    async def leave(self, room: str, known: Known, numbers: Sequence[int]) -> None:
        """Give up places and slots: a visitor's word, or the origin's (``revoke``)."""

    async def look_up(self, room: str, known: Known, passes: Sequence[Pass]) -> list[int]:
        """Return the end that the record holds for each pass, sliding those it still holds; 0: it opens nothing."""

    async def tick(self, room: str, known: Known, noted: Noted, lead: Lead) -> Ticked:
        """Take in what was noted since the last tick, and let time pass; call, if ``lead`` holds the lead."""

    async def snapshot(self, room: str) -> Snapshot:
        """Return the present view of a room."""

    async def operate(self, room: str, verbs: Mapping[str, Any], who: str) -> Status:
        """Do what an operator says, note who said it, and return the room as it is then.

        ``verbs`` holds fields of ``Overrides`` with their new values, or one of ``clear``, ``reset`` (true, or
        ``"keep_inside"``). Raises ``ValueError`` with a sentence for anything else.
        """

    async def status(self, room: str) -> Status:
        """Return a room as an operator sees it."""

    async def drawn(self, room: str) -> Drawn | None:
        """Return the draw of a room's event, once its places are dealt."""

    async def close(self) -> None:
        """Let go of whatever is held open."""
