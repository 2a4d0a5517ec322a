"""The draw: an order by lot that anyone can check afterwards (P12).

Who chooses the order must not know the list when choosing, and must not change either when both are known. So:

* a random *seed* is made before people gather, and its hash, the *commitment*, is published;
* everybody who joins before the start is written on a *list*: their number, and the hash of their ticket. A running
  *digest* holds each entry and all before it, so that none can be changed, added or taken out later;
* at the start the list is closed with its digest, and the seed is shown;
* the *lot* of a number is SHA-256(seed, digest, number). Whoever has the smallest lot is first.

A number stays what it is; what is drawn is its *place*. The places of a draw are the very numbers on the list, so that
the rest of the line need not know: the number with the k-th smallest lot has the place of the k-th number.

Three hundred thousand lots are more work than may be done at once while people ask: ``deal`` does it in slices.
"""

from __future__ import annotations

import hashlib
from array import array
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final

from waitroom.model import Draw

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping, Sequence

SEED_BYTES: Final = 32
TICKET_BYTES: Final = 16
"""Of a ticket's hash, as it stands on the list: enough that nobody finds another ticket for an entry."""

SLICE: Final = 20_000
"""Lots drawn, or put in order, before others get their turn: some 20 ms."""

_NUMBER_BYTES: Final = 8
_LOT_BYTES: Final = 32
_HEAPS: Final = 256

Series = tuple[tuple[int, int], ...]
"""The numbers of a list in order: runs, each from its first to its last."""


def commitment(seed: bytes) -> str:
    """Return what is published of a seed before anybody gathers."""
    return hashlib.sha256(seed).hexdigest()


def beginning(room: str, event: str, generation: int, committed: str) -> bytes:
    """Return the digest of an empty list: it names what is drawn, and the commitment."""
    return hashlib.sha256(f"waitroom draw 1\n{room}\n{event}\n{generation}\n{committed}\n".encode()).digest()


def ticket_hash(room: str, generation: int, number: int, visitor: str) -> bytes:
    """Return the hash of a ticket. It tells nothing: ``visitor`` is 64 bits of chance."""
    text = f"waitroom ticket 1\n{room}\n{generation}\n{number}\n{visitor}\n"
    return hashlib.sha256(text.encode()).digest()[:TICKET_BYTES]


def written(digest: bytes, number: int, ticket: bytes) -> bytes:
    """Return the digest of a list after one more entry."""
    return hashlib.sha256(digest + number.to_bytes(_NUMBER_BYTES) + ticket).digest()


def count(series: Iterable[tuple[int, int]]) -> int:
    """Return how many numbers there are."""
    return sum(last - first + 1 for first, last in series)


def position(series: Iterable[tuple[int, int]], number: int) -> int | None:
    """Return where a number stands on the list, from 0; None when it does not."""
    before = 0
    for first, last in series:
        if first <= number <= last:
            return before + number - first
        before += last - first + 1
    return None


def number_at(series: Iterable[tuple[int, int]], index: int) -> int:
    """Return the number that stands at ``index``, which must be on the list."""
    for first, last in series:
        if index <= last - first:
            return first + index
        index -= last - first + 1
    raise IndexError("beyond the end of the list")


@dataclass(frozen=True, slots=True)
class Order:
    """A drawn order. ``ranks`` is by position on the list, ``drawn`` the position by rank; both count from 0."""

    series: Series
    ranks: array[int] = field(repr=False)
    drawn: array[int] = field(repr=False)

    def place(self, number: int) -> int:
        """Return the place of a number; of one that was not drawn, itself."""
        index = position(self.series, number)
        return number if index is None else number_at(self.series, self.ranks[index])

    def number(self, place: int) -> int:
        """Return whose place it is."""
        index = position(self.series, place)
        return place if index is None else number_at(self.series, self.drawn[index])

    def rank(self, number: int) -> int | None:
        """Return which of the drawn a number is, from 1; None for one that was not drawn."""
        index = position(self.series, number)
        return None if index is None else self.ranks[index] + 1


def deal(seed: bytes, digest: bytes, series: Series) -> Generator[None, None, Order]:
    """Draw every lot, and return the order; yields after each slice of the work."""
    heaps: list[list[bytes]] = [[] for _ in range(_HEAPS)]
    numbers = enumerate(chain.from_iterable(range(first, last + 1) for first, last in series))
    salt, sha256 = seed + digest, hashlib.sha256
    while some := list(islice(numbers, SLICE)):
        for index, number in some:
            lot = sha256(salt + number.to_bytes(_NUMBER_BYTES)).digest()
            # The position goes along behind the lot: whole texts sort without asking for a key.
            heaps[lot[0]].append(lot + index.to_bytes(_NUMBER_BYTES))
        yield
    drawn = array("I")
    since = 0
    for heap in heaps:
        heap.sort()
        drawn.extend([int.from_bytes(lot[_LOT_BYTES:]) for lot in heap])
        since += len(heap)
        if since >= SLICE:
            since = 0
            yield
    ranks = array("I", bytes(drawn.itemsize * len(drawn)))
    for rank, index in enumerate(drawn):
        ranks[index] = rank
    return Order(series, ranks, drawn)


def dealt(seed: bytes, digest: bytes, series: Series) -> Order:
    """Draw every lot at once."""
    work = deal(seed, digest, series)
    while True:
        try:
            next(work)
        except StopIteration as done:
            order: Order = done.value
            return order


@dataclass(slots=True)
class JoinList:
    """The list of one draw, and the seed that is secret until the list is ``closed``.

    ``tickets`` holds the hashes in order, except of the first ``lost``: those went with a record, and ``lost_digest``
    is the digest after them. ``kept`` is how many of the hashes are kept so far.
    """

    event: str
    generation: int
    seed: bytes = field(repr=False)
    digest: bytes
    series: list[tuple[int, int]] = field(default_factory=list)
    closed: bool = False
    tickets: bytearray = field(default_factory=bytearray, repr=False)
    lost: int = 0
    lost_digest: bytes = b""
    kept: int = field(default=0, compare=False)

    @classmethod
    def begin(cls, room: str, event: str, generation: int, seed: bytes) -> JoinList:
        """Return an empty list."""
        return cls(event, generation, seed, beginning(room, event, generation, commitment(seed)))

    @property
    def count(self) -> int:
        """How many are on the list."""
        return count(self.series)

    def write(self, number: int, ticket: bytes) -> None:
        """Write one more on the list: the number that follows the last, or begins a series."""
        if self.series and self.series[-1][1] == number - 1:
            self.series[-1] = (self.series[-1][0], number)
        else:
            self.series.append((number, number))
        self.digest = written(self.digest, number, ticket)
        self.tickets += ticket

    def shown(self) -> Draw:
        """Return what everybody may know of it."""
        seed = self.seed.hex() if self.closed else ""
        return Draw(self.event, commitment(self.seed), self.generation, self.digest.hex(), tuple(self.series), seed)

    def record(self) -> dict[str, Any]:
        """Return it as plain values, without the hashes of the tickets: with them an order can be drawn again."""
        return {
            "event": self.event,
            "generation": self.generation,
            "seed": self.seed.hex(),
            "digest": self.digest.hex(),
            "series": [list(run) for run in self.series],
            "closed": self.closed,
            "lost": self.lost,
            "lost_digest": self.lost_digest.hex(),
        }

    @classmethod
    def restore(cls, record: Mapping[str, Any], tickets: bytes | None) -> JoinList:
        """Return the list that was recorded. Hashes that are not all there are as good as lost; None: they are."""
        found = cls(
            record["event"],
            record["generation"],
            bytes.fromhex(record["seed"]),
            bytes.fromhex(record["digest"]),
            [(first, last) for first, last in record["series"]],
            record["closed"],
            bytearray(tickets or b""),
            record["lost"],
            bytes.fromhex(record["lost_digest"]),
        )
        if tickets is None or len(tickets) != (found.count - found.lost) * TICKET_BYTES:
            found.tickets, found.lost, found.lost_digest = bytearray(), found.count, found.digest
        return found


def permuted(standing: Sequence[int], due: Sequence[int], order: Order) -> tuple[bytes, array[int]]:
    """Return what stands by position on the list as it stands by rank."""
    return bytes(map(standing.__getitem__, order.drawn)), array("I", map(due.__getitem__, order.drawn))
