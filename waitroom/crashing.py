"""Crash points: ``CRASH_AT=step:n`` ends the process, as ``kill -9`` would, when it reaches a step for the n-th time.

What must survive a crash is only believed where it was crashed. The steps are named where they stand; each is between
two things that a crash must not part. Without the variable a step costs one comparison.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Final

from waitroom.errors import StartError

ENVIRONMENT: Final = "CRASH_AT"

STEPS: Final = (
    "join",
    "join-kept",
    "join-answered",
    "call",
    "call-kept",
    "claim",
    "claim-kept",
    "claim-answered",
    "renew",
    "renew-kept",
    "release",
    "release-kept",
    "release-answered",
)
"""``join``: done in memory, not yet kept; ``join-kept``: kept, the worker not yet told; ``join-answered``: the worker
knows, the visitor does not. The same for the others; nothing answers a call or a renewal but the tick."""


class CrashPoint:
    """The one step at which this process ends, and how often it may still be reached. Raises ``ValueError``."""

    def __init__(self, text: str) -> None:
        step, _, count = text.partition(":")
        if step not in STEPS or not (count.isascii() and count.isdecimal() and int(count)):
            raise ValueError(f"{ENVIRONMENT}={text}: write STEP:N with a step of {', '.join(STEPS)}")
        self.step = step
        self._left = int(count)

    def reach(self, step: str) -> None:
        """End this process if ``step`` is the one, for the n-th time."""
        if step == self.step:
            self._left -= 1
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)


def check() -> None:
    """Raise ``StartError`` when the variable names no step."""
    try:
        if os.environ.get(ENVIRONMENT):
            CrashPoint(os.environ[ENVIRONMENT])
    except ValueError as error:
        raise StartError(str(error)) from error


_point: CrashPoint | None = None
with contextlib.suppress(ValueError):  # the command line has said so already, see ``check``
    _point = CrashPoint(os.environ[ENVIRONMENT]) if os.environ.get(ENVIRONMENT) else None


def reach(step: str) -> None:
    """End this process here, if it was told to."""
    if _point is not None:
        _point.reach(step)
