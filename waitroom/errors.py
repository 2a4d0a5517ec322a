"""Every exception of ours, on one screen.

Two questions sort them: whose fault is it, and can the visitor carry on? Foreign exceptions are translated once, at the
edge that knows them, so that nothing above needs to know which library was below.
"""

from __future__ import annotations

from dataclasses import dataclass


class WaitroomError(Exception):
    """The root of the tree."""


class InvalidToken(WaitroomError):  # noqa: N818 - what it is, as one says it
    """Text that is no token of ours. ``reason`` is one word for logs and metrics, never the text itself."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake in a configuration: where it stands, what is wrong, what would be right."""

    file: str
    line: int
    key: str
    message: str

    def __str__(self) -> str:
        """Return the line ``waitroom check`` prints."""
        return f"{self.file}:{self.line}: {self.key}: {self.message}"


class ConfigError(WaitroomError):
    """A configuration that cannot be used: the operator's to mend, and all of it at once."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        super().__init__("\n".join(str(mistake) for mistake in mistakes))
        self.mistakes = mistakes


class StartError(WaitroomError):
    """We cannot start: a port taken, a key file unreadable. The operator's to mend; the message says how."""


class CommandError(WaitroomError):
    """A command cannot be done, or would not be: whoever typed it reads why, and nothing was done."""


class StoreAway(WaitroomError):  # noqa: N818 - as one says it
    """The record cannot be reached, or cannot be written. Nothing was promised; asking again later is safe."""


class KeyRefused(WaitroomError):  # noqa: N818 - as one says it
    """A change of the signing keys that would do harm, or cannot be made here. The message says what would be right."""


class UpstreamError(WaitroomError):
    """The origin failed. ``reason`` is one word for logs; ``sent`` says whether it may have acted on the request.

    ``why`` is for the operator, where more can be said; nothing of it is for visitors.
    """

    status = 502

    def __init__(self, reason: str, *, sent: bool, why: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.sent = sent
        self.why = why


class UpstreamTimeout(UpstreamError):  # noqa: N818 - as one says it
    """The origin did not answer in time."""

    status = 504
