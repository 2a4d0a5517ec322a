"""What the inside needs from outside.

The store speaks the domain, not key and value, because the promises live in its atomicity: each operation is one step
that nothing can come between. Every operation takes a batch and returns what it knows. Instants are store time: one
clock judges, and it is the store's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from waitroom.core.queueing import Claimed, Heard, Joined, JoinRequest, Snapshot
    from waitroom.model import Pass


@dataclass(frozen=True, slots=True)
class Noted:
    """What a worker noted between two ticks: who asked for themselves, and passes used late enough to slide."""

    heard: Sequence[Heard] = ()
    used: Sequence[Pass] = ()


@dataclass(frozen=True, slots=True)
class Ticked:
    """What one tick did: the numbers called, in order, and the view after it."""

    called: Sequence[int]
    snapshot: Snapshot


class Store(Protocol):
    """The record of every room. ``room`` is a name that the store was opened with."""

    async def join(self, room: str, requests: Sequence[JoinRequest]) -> list[Joined]:
        """Give the requests numbers in order; in standby admit as many as there is room for."""

    async def claim(self, room: str, numbers: Sequence[tuple[int, float]]) -> list[Claimed]:
        """Trade called numbers for slots, judging both caps.

        Each number comes with the seconds it may be silent if it has to go on waiting.
        """

    async def leave(self, room: str, numbers: Sequence[int]) -> None:
        """Give up places and slots."""

    async def tick(self, room: str, noted: Noted, budget: int) -> Ticked:
        """Take in what was noted since the last tick, let time pass, and call at most ``budget`` visitors."""

    async def snapshot(self, room: str) -> Snapshot:
        """Return the present view of a room."""

    async def close(self) -> None:
        """Let go of whatever is held open."""
