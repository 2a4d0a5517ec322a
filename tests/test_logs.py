"""Logs: a line an event, never more than ten a second a reason, and what was left out is said."""

from __future__ import annotations

import json
import logging
import sys

import pytest

from waitroom import logs
from waitroom.logs import LINES_PER_SECOND, REASONS_MAX, JsonLines, RateLimit, Text


def record(message="forged", at_s=1000.25, **carried):
    """Return a record made at ``at_s``, with what a call's ``extra`` would carry."""
    made = logging.LogRecord("waitroom.desk", logging.INFO, __file__, 1, "%s", (message,), None)
    made.created = at_s
    made.msecs = (at_s % 1) * 1000
    for name, value in carried.items():
        setattr(made, name, value)
    return made


def test_a_line_is_one_json_object_with_what_is_known():
    """Time, level, words, and of what the record carries only the fields that are ours to write."""
    line = JsonLines().format(record(reason="token-forged", room="launch", client="192.0.2.1", secret="x"))
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "1970-01-01T00:16:40.250Z",
        "level": "info",
        "logger": "waitroom.desk",
        "message": "forged",
        "reason": "token-forged",
        "room": "launch",
        "client": "192.0.2.1",
    }


def test_a_traceback_stays_within_its_line():
    """A bug is told whole, and still as one line."""
    made = record()
    made.exc_info = (OSError, OSError("away"), None)
    line = JsonLines().format(made)
    assert "\n" not in line
    assert json.loads(line)["traceback"].endswith("OSError: away")


def test_what_came_from_outside_cannot_begin_a_line():
    """A line break in a message is written as an escape."""
    assert "\n" not in JsonLines().format(record('x\n{"level": "error"}'))


def test_people_read_words():
    """The text form has the message, and what the record carries behind it."""
    line = Text().format(record(reason="token-forged", room="launch"))
    assert line.endswith("INFO    forged reason=token-forged room=launch")


def test_a_flood_of_one_reason_is_ten_lines_a_second_and_is_counted():
    """The eleventh is left out; the first of the next second says how many were."""
    limit = RateLimit()
    assert [limit.filter(record(reason="a")) for _ in range(13)] == [True] * LINES_PER_SECOND + [False] * 3
    after = record(at_s=1001.0, reason="a")
    assert limit.filter(after)
    assert after.count == 3
    later = record(at_s=1002.0, reason="a")
    assert limit.filter(later)
    assert not hasattr(later, "count")


def test_one_reason_does_not_silence_another():
    """Each reason has its own ten, and what has no reason is always written."""
    limit = RateLimit()
    for _ in range(50):
        limit.filter(record(reason="a"))
    assert limit.filter(record(reason="b"))
    assert all(limit.filter(record()) for _ in range(50))


def test_reasons_are_bounded():
    """However many reasons there are, the memory of them has an end."""
    limit = RateLimit()
    for number in range(3 * REASONS_MAX):
        limit.filter(record(reason=str(number)))
    assert len(limit._seconds) <= REASONS_MAX + 1


@pytest.mark.parametrize(("name", "formatter"), [("json", JsonLines), ("text", Text)])
def test_everything_goes_to_stderr_in_one_form(name, formatter, monkeypatch):
    """One handler, limited, for our lines and everybody's."""
    root = logging.Logger("root")  # noqa: LOG001 - not the one everybody logs to
    monkeypatch.setattr(logging, "getLogger", lambda _=None: root)
    logs.configure(name)
    [handler] = root.handlers
    assert isinstance(handler.formatter, formatter)
    assert [type(one) for one in handler.filters] == [RateLimit]
    assert handler.stream is sys.stderr
