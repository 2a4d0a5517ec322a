"""What a record's file holds of one room, in dictionaries: changes are applied to it as ``store/sqlitefile.py`` does."""

from __future__ import annotations

import json

from waitroom.core import lasting
from waitroom.core.queueing import SHIFT


class Ledger:
    """One room's rows. ``keep`` is a commit, ``kept`` what a start finds."""

    def __init__(self, line):
        self.stamp = 0
        self.header = ""
        self.chunks = {}
        self.journal = []
        self.slots = {}
        self.repeats = {}
        self.journal_chunks = set()
        lasting.watch(line)
        lasting.everything(line)
        self.keep(line, merged=True)

    def keep(self, line, *, merged=False):
        """Commit what has changed; ``merged`` writes every chunk that the journal speaks of whole, and ends it."""
        found = lasting.changes(line, self.slots.keys(), self.journal_chunks if merged else ())
        self.stamp += 1
        self.header = json.dumps(found.header)
        if merged:
            self.journal.clear()
            self.journal_chunks.clear()
        if found.entries:
            self.journal.append((self.stamp, found.entries))
        self.journal_chunks.update(number >> SHIFT for number, *_ in lasting.ENTRY.iter_unpack(found.entries))
        self.chunks.update({chunk_id: (self.stamp, whole) for chunk_id, whole in found.chunks.items()})
        if merged:
            self.chunks = {chunk_id: row for chunk_id, row in self.chunks.items() if row[1].standing is not None}
        for number in found.freed:
            del self.slots[number]
        self.slots.update({slot.number: slot for slot in found.slots})
        self.repeats.update({one.key: one for one in found.repeats})
        lasting.settled(line)

    def kept(self):
        """Return what a start reads: rows come by their keys, not in the order in which they were written."""
        repeats = [self.repeats[key] for key in sorted(self.repeats)]
        return lasting.Kept(json.loads(self.header), self.chunks, self.journal, self.slots.values(), repeats)

    def restored(self, room):
        """Return the line that a start makes of it."""
        return lasting.restore(room, self.kept())
