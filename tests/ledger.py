"""What a record's file holds of one room, in dictionaries: changes are applied as by ``store/sqlitefile.py``."""

from __future__ import annotations

import json

from waitroom.core import lasting
from waitroom.core.queueing import SHIFT


class Ledger:
    """One room's rows. ``keep`` is a commit, ``restored`` a start."""

    def __init__(self):
        self.stamp = 0
        self.header = ""
        self.chunks = {}
        self.journal = []
        self.slots = {}
        self.repeats = {}
        self.lists = {}

    def keep(self, line, *, merged=False):
        """Commit what has changed; ``merged`` writes every chunk that the journal speaks of whole, and ends it."""
        numbers = (number for _, entries in self.journal for number, *_ in lasting.ENTRY.iter_unpack(entries))
        whole = {number >> SHIFT for number in numbers} if merged else ()
        found = lasting.changes(line, self.slots.keys(), whole)
        self.stamp += 1
        self.header = json.dumps(found.header)
        if merged:
            self.journal.clear()
        if found.entries:
            self.journal.append((self.stamp, found.entries))
        self.chunks.update({chunk_id: (self.stamp, chunk) for chunk_id, chunk in found.chunks.items()})
        if merged:
            self.chunks = {chunk_id: row for chunk_id, row in self.chunks.items() if row[1].standing is not None}
        for number in found.freed:
            del self.slots[number]
        self.slots.update({slot.number: slot for slot in found.slots})
        self.repeats.update({one.key: one for one in found.repeats})
        if found.listed is not None:
            position, tickets = found.listed
            self.lists[position] = tickets
        lasting.settled(line)

    def restored(self, room):
        """Return the line that a start makes of it. Rows come by their keys, not in the order they were written in."""
        repeats = [self.repeats[key] for key in sorted(self.repeats)]
        tickets = b"".join(self.lists[position] for position in sorted(self.lists))
        kept = lasting.Kept(json.loads(self.header), self.chunks, self.journal, self.slots.values(), repeats, tickets)
        return lasting.restore(room, kept)
