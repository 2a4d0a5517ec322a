"""The note beside the key file: which rooms have run under these keys.

A counter that may have come back smaller is left behind, not repaired. For that one must know that it ever ran, also
when its record is gone; so the names stand in a file of their own, next to the keys that make old tickets valid. An
unreadable note is an error at start: to take it for empty would give numbers twice.

Of a draw it says enough to draw the same order again: the seed, secret until the start, and the digest of the list. So
the file is for its owner only.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from waitroom.core.draw import JoinList
from waitroom.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

logger = logging.getLogger("waitroom.store")


@dataclass(frozen=True, slots=True)
class RoomNote:
    """The last number known to be given out, and until when a successor lets nobody in (ms of store time).

    ``event`` is the name of the event that the generation is of; empty: of none. ``draw`` is the record of its draw,
    ``seeds`` are those of events to come, in hexadecimal.
    """

    issued: int
    rests_until_ms: int
    generation: int = 1
    event: str = ""
    draw: Mapping[str, Any] | None = field(default=None, repr=False)
    seeds: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def ran(self) -> bool:
        """Whether the room had given out a number, and not only been told of an event."""
        return self.issued > 0 or self.generation > 1


class Notes:
    """The file of notes at ``path``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written: dict[str, RoomNote] = {}

    def read(self) -> dict[str, RoomNote]:
        """Return the notes by room; none when nothing has run here yet.

        Raises ``StartError`` when there is a file that cannot be understood.
        """
        try:
            stated = json.loads(self._path.read_text())
            return {
                str(room): RoomNote(
                    int(note["issued"]),
                    int(note["rests_until_ms"]),
                    int(note.get("generation", 1)),
                    str(note.get("event", "")),
                    _draw(note.get("draw")),
                    {str(event): bytes.fromhex(seed).hex() for event, seed in note.get("seeds", {}).items()},
                )
                for room, note in stated.items()
            }
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            raise StartError(
                f"{self._path}: cannot be read ({error}); it says which rooms have given out numbers. "
                "Restore it, or delete it together with the key file to start anew."
            ) from error

    def write(self, notes: Mapping[str, RoomNote]) -> bool:
        """Replace the file by ``notes``, if they differ from what stands there. Return whether it was tried."""
        if notes == self._written:
            return False
        beside = self._path.with_name(self._path.name + ".new")
        try:
            text = json.dumps({room: asdict(note) for room, note in notes.items()})
            with open(beside, "w", opener=_for_owner) as file:
                file.write(text)
            beside.replace(self._path)
        except OSError as error:
            logger.error("cannot note which rooms have run: %s", error, extra={"reason": "notes-unwritable"})  # noqa: TRY400 - the error is the message
        else:
            self._written = dict(notes)
        return True


def _draw(stated: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return a draw's record, read through so that a broken one is found here."""
    return None if stated is None else JoinList.restore(stated, None).record()


def _for_owner(path: str, flags: int) -> int:
    """Open a file that only its owner may read; one left behind by an earlier version may not be."""
    made = os.open(path, flags, 0o600)
    os.fchmod(made, 0o600)
    return made
