"""How store operations travel between our own processes: frames of a length and a pickle, over a Unix socket.

Both ends are of one installation and one user: the first frame from a client states the version it speaks, and the
server asks the kernel whose process it is, so nothing foreign is ever unpickled. What comes by the thousand (joins,
claims, hearings) is packed as plain tuples, which is several times as fast as pickling our own classes; a view is sent
as what changed in it.
"""

from __future__ import annotations

import asyncio
import pickle
import struct
from dataclasses import fields, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

from waitroom.core.queueing import Claimed, Heard, Joined, JoinRequest, Snapshot
from waitroom.model import Pass
from waitroom.ports import Noted, Ticked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

VERSION = 5
"""Of everything here; it changes with every class that travels."""

LENGTH = struct.Struct("!I")
FRAME_BYTES_MAX = 256 * 1024 * 1024
"""A view of twenty million waiting is a tenth of this; a longer frame is a fault."""

Noun = TypeVar("Noun")

_BULK: Mapping[type[Any], Callable[[Any], tuple[Any, ...]]] = {
    JoinRequest: tuple,
    Joined: tuple,
    **{kind: attrgetter(*(one.name for one in fields(kind))) for kind in (Heard, Claimed, Pass)},
}
_MAKE = {JoinRequest: JoinRequest._make, Joined: Joined._make}


def pack(kind: type[Any], items: Iterable[Any]) -> list[tuple[Any, ...]]:
    """Return nouns of one kind as tuples."""
    return list(map(_BULK[kind], items))


def unpack(kind: type[Noun], items: Iterable[tuple[Any, ...]]) -> list[Noun]:
    """Return tuples as nouns of one kind."""
    make: Callable[[tuple[Any, ...]], Any] | None = _MAKE.get(kind)
    return [kind(*item) for item in items] if make is None else list(map(make, items))


def pack_passes(passes: Iterable[Pass]) -> list[tuple[Any, ...]]:
    """Return passes as tuples."""
    return pack(Pass, passes)


def pack_noted(noted: Noted) -> Noted:
    """Return what a worker noted, its lists as tuples."""
    return replace(noted, heard=pack(Heard, noted.heard), used=pack(Pass, noted.used))  # type: ignore[arg-type]


def unpack_noted(noted: Noted) -> Noted:
    """Return what a worker noted."""
    return replace(noted, heard=unpack(Heard, noted.heard), used=unpack(Pass, noted.used))  # type: ignore[arg-type]


def pack_view(view: Snapshot, before: Snapshot | None) -> tuple[Any, ...]:
    """Return a view as what is new in it. A chunk that did not change is the very object it was, and so is an order."""
    old: Mapping[int, bytes] = {} if before is None else before.chunks
    changed = {chunk_id: chunk for chunk_id, chunk in view.chunks.items() if old.get(chunk_id) is not chunk}
    dropped = [chunk_id for chunk_id in old if chunk_id not in view.chunks]
    same = before is not None and view.order is before.order
    return (before is not None, changed, dropped, same, replace(view, chunks={}, order=None if same else view.order))


def unpack_view(packed: tuple[Any, ...], before: Snapshot | None) -> Snapshot:
    """Return the view, from the one before it and what is new."""
    continued, changed, dropped, same, view = packed
    order = before.order if same and before is not None else view.order
    chunks: dict[int, bytes] = dict(before.chunks) if continued and before is not None else {}
    for chunk_id in dropped:
        chunks.pop(chunk_id, None)
    found: Snapshot = replace(view, chunks=chunks | changed, order=order)
    return found


def pack_ticked(ticked: Ticked, before: Snapshot | None) -> tuple[Any, ...]:
    """Return the outcome of a tick."""
    return (list(ticked.called), pack_view(ticked.snapshot, before), ticked.term)


def unpack_ticked(packed: tuple[Any, ...], before: Snapshot | None) -> Ticked:
    """Return the outcome of a tick."""
    called, view, term = packed
    return Ticked(called, unpack_view(view, before), term)


def write(writer: asyncio.StreamWriter, message: Any) -> None:
    """Send one message."""
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    writer.write(LENGTH.pack(len(data)) + data)


async def read(reader: asyncio.StreamReader) -> Any:
    """Return the next message. Raises ``ConnectionError`` at the end of the stream."""
    try:
        (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
        if length > FRAME_BYTES_MAX:
            raise ConnectionError("a frame that is too long")
        return pickle.loads(await reader.readexactly(length))  # noqa: S301 - from a process of our own, see above
    except asyncio.IncompleteReadError as error:
        raise ConnectionError("the other end is gone") from error
