"""``waitroom status --watch`` on a terminal: a picture twice a second, until q or Ctrl-C.

One room gets the whole screen: what goes in and what binds, and the last minutes as bars. Several get a line each. What
is drawn is a function of what was seen and of the size of the screen, so a window that changes its size, and a house
that does not answer for a while, need nothing of their own: the next picture fits, and says since when it is old.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import sys
import termios
import time
import tty
import unicodedata
from collections import deque
from typing import TYPE_CHECKING, Any

from waitroom.admin.words import REASONS
from waitroom.commands import showing
from waitroom.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from waitroom.commands.client import AdminClient

WATCH_S = 0.5
PATIENCE_S = 2.0
"""For an answer: a house that hangs is to be said to, and q to be heard."""

STEP_S = 5.0
STEPS_MAX = 720
TOTALS = {"joins": "joined_total", "calls": "called_total", "admissions": "admitted_total"}
REMEMBERED = {"joins": "joined", "admissions": "admitted"}
"""Which of them the house remembers of the hour before we looked."""

ENTER, LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?1049l\x1b[?25h"
HOME, TO_LINE_END, TO_SCREEN_END = "\x1b[H", "\x1b[K", "\x1b[J"
BARS = " ▁▂▃▄▅▆▇█"
NAME_CHARS_MAX = 16
LINE_BARS = 12
NARROW = 60
"""Columns below which a line of several has no bars of the minutes."""


class Trail:
    """What happened in a room, in steps of five seconds; the last is still running. ``-1`` is unknown."""

    def __init__(self, remembered: Mapping[str, Any] | None = None) -> None:
        before = remembered or {}
        steps = {
            name: [-1 if one is None else one for one in before.get(REMEMBERED.get(name, ""), [])] for name in TOTALS
        }
        self.steps = {name: deque(values, STEPS_MAX) for name, values in steps.items()}
        self._totals: dict[str, int] = {}
        self._step = -1

    def note(self, room: Mapping[str, Any], now_s: float) -> None:
        """Take in what a room says of itself."""
        step = int(now_s // STEP_S)
        missed = 0 if self._step < 0 else step - self._step - 1
        followed = bool(self._totals) and missed <= 0
        for name, fact in TOTALS.items():
            if step != self._step:
                self.steps[name].extend([-1] * min(missed, STEPS_MAX))
                self.steps[name].append(0 if followed else -1)
            if followed:  # a total that fell is another record's
                self.steps[name][-1] = max(0, self.steps[name][-1]) + max(0, room[fact] - self._totals[name])
            self._totals[name] = room[fact]
        self._step = step


class Seen:
    """What was last seen of the rooms, and since when nothing new is."""

    def __init__(self) -> None:
        self.rooms: list[dict[str, Any]] = []
        self.log: list[dict[str, Any]] = []
        self.trails: dict[str, Trail] = {}
        self.at_s = 0.0
        self.trouble = ""

    def look(self, client: AdminClient, name: str | None) -> None:
        """Ask anew. Raises ``CommandError`` only while nothing was seen yet."""
        try:
            rooms = client.rooms() if name is None else [client.room(name)]
            log = [] if name is None else client.log(name)
            fresh = {one["room"]: Trail(client.history(one["room"])) for one in rooms if one["room"] not in self.trails}
        except CommandError as error:
            if not self.rooms and not self.at_s:
                raise
            self.trouble = str(error)
            return
        self.rooms, self.log, self.trouble, self.at_s = rooms, log, "", time.time()
        self.trails = {one["room"]: fresh.get(one["room"]) or self.trails[one["room"]] for one in rooms}
        for room in rooms:
            self.trails[room["room"]].note(room, time.monotonic())


def watch(client: AdminClient, name: str | None) -> None:
    """Draw until q or Ctrl-C."""
    seen = Seen()
    client.be_patient_for(PATIENCE_S)
    seen.look(client, name)
    with _screen():
        while True:
            size = shutil.get_terminal_size()
            lines = picture(seen, alone=name is not None, columns=size.columns, rows=size.lines)
            drawn = f"{TO_LINE_END}\n".join(lines)
            sys.stdout.write(f"{HOME}{drawn}{TO_LINE_END}{TO_SCREEN_END}")
            sys.stdout.flush()
            if _pressed_q(WATCH_S):
                return
            seen.look(client, name)


def picture(seen: Seen, *, alone: bool, columns: int, rows: int) -> list[str]:
    """Return the lines of one picture, none wider than ``columns``, and no more than ``rows``."""
    at = time.strftime("%H:%M:%S", time.localtime(seen.at_s))
    head = [f"STALE since {at}: {seen.trouble}" if seen.trouble else f"{at}  q quits"]
    if alone:
        body = _room(seen.rooms[0], seen.trails[seen.rooms[0]["room"]], columns)
        body += showing.told(seen.log)
    else:
        body = _rooms(seen, columns) or ["there are no rooms"]
    if len(head) + len(body) > rows:
        kept = max(0, rows - len(head) - 1)
        body = [*body[:kept], f"… {len(body) - kept} more lines; a taller window shows them"]
    return [cut(line, columns) for line in [*head, *body]][:rows]


def _room(room: Mapping[str, Any], trail: Trail, columns: int) -> list[str]:
    wide = max(4, min(40, columns - 30))
    lines = [
        f"{room['room']}: {showing.state(room)}",
        "",
        f"waiting     {room['waiting']:,}   called {room['called']:,}   away {room['silent']:,}",
        f"inside      {gauge(room['inside'], room['total_active_users'], wide)}",
        f"last minute {gauge(room['admitted_last_minute'], room['new_users_per_minute'], wide)}",
        f"pace        {REASONS[room['gate_reason']]}",
        f"estimates   {_score(room)}",
        "",
    ]
    for name, steps in trail.steps.items():
        known = [one for one in list(steps)[-max(4, columns - 30) :] if one >= 0]
        shown = bars(list(steps), max(4, columns - 30))
        lines.append(f"{name:<11} {shown} {max(known, default=0):,} at most in 5 s")
    said = showing.said(room)
    return lines + ([] if said == "-" else ["", f"said over the configuration: {said}"])


def _rooms(seen: Seen, columns: int) -> list[str]:
    names = max([4, *(min(NAME_CHARS_MAX, len(one["room"])) for one in seen.rooms)])
    charts = columns >= NARROW
    head = f"{'ROOM':<{names}} {'STATE':<11} {'WAITING':>9} {'INSIDE':<17}"
    head += f" {'JOINS':<{LINE_BARS}} {'ADMITTED':<{LINE_BARS}}" if charts else ""
    lines = [f"{head} {'TRUE':>5} BINDS"] if seen.rooms else []
    for room in seen.rooms:
        steps = seen.trails[room["room"]].steps
        line = f"{room['room'][:names]:<{names}} {room['state']:<11} {room['waiting']:>9,} "
        line += f"{gauge(room['inside'], room['total_active_users'], 6):<17}"
        if charts:
            line += f" {bars(list(steps['joins']), LINE_BARS)} {bars(list(steps['admissions']), LINE_BARS)}"
        score = room["estimate_score"]
        lines.append(f"{line} {'-' if score is None else f'{score:.0%}':>5} {room['gate_reason']}")
    return lines


def gauge(count: int, most: int | None, wide: int) -> str:
    """Return how full something is, as a bar and in figures."""
    if not most:
        return f"{count:,}"
    full = min(wide, -(-count * wide // most))
    return f"{'█' * full}{'░' * (wide - full)} {count:,}/{most:,}"


def bars(steps: Sequence[int], wide: int) -> str:
    """Return the last steps as bars, the latest at the right; what is unknown is a dot. The highest is full."""
    shown = list(steps)[-wide:]
    most = max([1, *shown])
    drawn = "".join("·" if one < 0 else BARS[-(-one * (len(BARS) - 1) // most)] for one in shown)
    return drawn.rjust(wide)


def cut(text: str, columns: int) -> str:
    """Return as much of a line as fits; letters of East Asia take two columns."""
    taken = 0
    for at, letter in enumerate(text):
        taken += 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        if taken > columns:
            return text[:at]
    return text


def _score(room: Mapping[str, Any]) -> str:
    score = room["estimate_score"]
    return "none judged yet" if score is None else f"{int(100 * score)} % of the waits shown came true"


@contextlib.contextmanager
def _screen() -> Iterator[None]:
    """Give the whole screen and each key as it is pressed; both are as before afterwards."""
    keys = sys.stdin.fileno() if sys.stdin.isatty() else None
    before = None if keys is None else termios.tcgetattr(keys)
    try:
        if keys is not None:
            tty.setcbreak(keys)
        sys.stdout.write(ENTER)
        yield
    finally:
        if keys is not None and before is not None:
            termios.tcsetattr(keys, termios.TCSADRAIN, before)
        sys.stdout.write(LEAVE)
        sys.stdout.flush()


def _pressed_q(within_s: float) -> bool:
    """Wait, and return whether q was pressed meanwhile."""
    until_s = time.monotonic() + within_s
    if not sys.stdin.isatty():
        time.sleep(within_s)
        return False
    while (left_s := until_s - time.monotonic()) > 0:
        if select.select([sys.stdin], [], [], left_s)[0]:
            keys = os.read(sys.stdin.fileno(), 64)
            if not keys or b"q" in keys.lower():
                return True
    return False
