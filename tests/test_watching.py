"""``waitroom status --watch`` on a terminal: what is drawn fits, is true, and says when it is old."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time

import pytest
from operators import House, arrive

from waitroom.admin.words import REASONS
from waitroom.commands import watching
from waitroom.commands.watching import Seen, Trail, bars, cut, gauge, picture
from waitroom.errors import CommandError

PATIENCE_S = 15


def room(name="launch", **facts):
    """Return a room as the listener states it."""
    stated = {"state": "queueing", "opens_s": None, "waiting": 1_203, "called": 3, "silent": 12, "inside": 18}
    stated |= {"total_active_users": 20, "admitted_last_minute": 120, "new_users_per_minute": 600, "said": {}}
    stated |= {"gate_reason": "operator_cap_active", "estimate_score": 0.934, "joined_total": 0, "called_total": 0}
    return {"room": name, **stated, "admitted_total": 0, **facts}


def seen(*rooms, log=()):
    """Return what was seen of these rooms just now."""
    it = Seen()
    it.rooms, it.log, it.at_s = list(rooms), list(log), time.time()
    it.trails = {one["room"]: Trail() for one in rooms}
    return it


def test_a_room_alone_has_the_whole_window():
    """Present and inside against the caps, the pace and its reason, the score, and three charts."""
    it = seen(room(message="x", said={"message": "Back at noon."}), log=[{"at_ms": 0, "who": "kim", "did": "hold"}])
    for step, joined in enumerate((0, 10, 10, 90, 95)):
        it.trails["launch"].note(room(joined_total=joined, called_total=joined // 10), step * watching.STEP_S)
    lines = picture(it, alone=True, columns=100, rows=40)
    text = "\n".join(lines)
    for words in ("1,203", "18/20", "120/600", "93 %", REASONS["operator_cap_active"], "Back at noon.", "kim: hold"):
        assert words in text
    joins = next(line for line in lines if line.startswith("joins"))
    assert re.search(r"·▁ █▁ 80 at most", joins)
    assert any(re.match(r"calls .* 8 at most", line) for line in lines)


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (120, 40), (40, 10), (20, 3), (1, 1)])
@pytest.mark.parametrize("count", [0, 1, 20])
def test_every_picture_fits_its_window(count, columns, rows):
    """Of twenty rooms as of one, whatever size the window has; what does not fit is said to be there."""
    it = seen(*(room(f"a-rather-long-name-{at}", estimate_score=None, total_active_users=None) for at in range(count)))
    for alone in {False, count == 1}:
        lines = picture(it, alone=alone, columns=columns, rows=rows)
        assert len(lines) <= rows
        assert all(len(line) <= columns for line in lines)
    if count == 20:
        listed = sum(line.startswith("a-rather") for line in picture(it, alone=False, columns=80, rows=rows))
        assert listed == (20 if rows > 22 else max(0, rows - 3))
        assert rows > 22 or "more lines" in picture(it, alone=False, columns=80, rows=rows)[-1] or rows == 1


def test_a_trail_holds_what_happened_in_each_step():
    """What the house remembers first; a step that nobody saw is unknown, and no burst after it; no total falls."""
    trail = Trail({"joined": [1, None, 3], "admitted": [0, 0, 1]})
    for now_s, joined in ((0, 100), (5, 104), (6, 106), (25, 900), (26, 901), (30, 5)):
        trail.note(room(joined_total=joined), now_s)
    assert list(trail.steps["joins"]) == [1, -1, 3, -1, 6, -1, -1, -1, 1, 0]
    assert len(trail.steps["calls"]) == 7


def test_bars_gauges_and_cuts():
    """The highest bar is full, one of something is no nothing; letters that take two columns count as two."""
    assert bars([0, 1, 100, -1], 6) == "   ▁█·"
    assert bars([], 3) == "   "
    assert (gauge(0, 20, 4), gauge(1, 20, 4), gauge(30, 20, 4)) == ("░░░░ 0/20", "█░░░ 1/20", "████ 30/20")
    assert gauge(7, None, 4) == "7"
    assert (cut("결제abc", 5), cut("결제", 3), cut("abc", 3)) == ("결제a", "결", "abc")


def test_what_was_seen_stays_and_is_said_to_be_old():
    """While the house does not answer; at the very beginning there is nothing to show, and that is an error."""

    class Client:
        away = False

        def rooms(self):
            if self.away:
                raise CommandError("nothing answers at http://127.0.0.1:1")
            return [room()]

        def history(self, name):
            assert name == "launch"
            return {"joined": [4], "admitted": [2]}

    client, it = Client(), Seen()
    client.away = True
    with pytest.raises(CommandError):
        it.look(client, None)
    client.away = False
    it.look(client, None)
    client.away = True
    it.look(client, None)
    lines = picture(it, alone=False, columns=100, rows=10)
    at = time.strftime("%H:%M:%S", time.localtime(it.at_s))
    assert lines[0] == f"STALE since {at}: nothing answers at http://127.0.0.1:1"
    assert any("1,203" in line for line in lines)
    client.away = False
    it.look(client, None)
    assert "STALE" not in picture(it, alone=False, columns=100, rows=10)[0]


class Terminal:
    """The command in a terminal of its own."""

    def __init__(self, *words, rows=24, columns=80):
        self.ours, theirs = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self.ours)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "waitroom.cli", *words],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
            | {"TERM": "xterm"},
        )
        os.close(theirs)
        self.shown = ""

    def resize(self, rows, columns):
        """Give the window another size."""
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def picture(self, *, having):
        """Return the next whole picture that has these words in it."""
        give_up_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up_s:
            if select.select([self.ours], [], [], 0.1)[0]:
                self.shown += os.read(self.ours, 65536).decode(errors="replace")
            done, _, rest = self.shown.rpartition(watching.TO_SCREEN_END)
            last = done.rpartition(watching.HOME)[2]
            if done and re.search(having, last):
                self.shown = rest
                return last.replace(watching.TO_LINE_END, "").split("\r\n")
        raise AssertionError(f"no picture has {having!r}: {self.shown[-500:]!r}")

    def type(self, keys):
        """Press keys."""
        os.write(self.ours, keys)


def test_a_terminal_is_filled_followed_and_given_back(tmp_path):
    """Live; a resized window is filled anew; a house that went away is said to be old; q ends it, and all is as was."""
    with contextlib.ExitStack() as stack:
        house = stack.enter_context(House(tmp_path))
        where = ["--admin", house.url, "--token-file", str(house.settings.admin.token_file)]
        terminal = Terminal("status", "--watch", *where)
        try:
            terminal.picture(having=r"launch +queueing +0")
            house.do(arrive(house.store, 1_203))
            wide = terminal.picture(having=r"launch +queueing +1,203")
            assert any("JOINS" in line for line in wide)
            terminal.resize(10, 50)
            narrow = terminal.picture(having=r"(?s)^(?!.*JOINS).*1,203")
            assert max(map(len, narrow)) <= 50
            stack.close()
            terminal.picture(having=r"STALE since \d\d:\d\d:\d\d: ")
            terminal.type(b"xq")
            assert terminal.process.wait(PATIENCE_S) == 0
            assert os.read(terminal.ours, 65536).decode().endswith(watching.LEAVE)
            assert termios.tcgetattr(terminal.ours) == terminal.before
        finally:
            terminal.process.kill()
            terminal.process.wait()
            os.close(terminal.ours)
