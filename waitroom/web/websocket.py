"""WebSocket frames, followed just far enough to end a conversation well (RFC 6455, section 5.2).

What goes through a tunnel is none of our business, but its end is: a side that is told ``1001`` (going away) comes
back at once, one that is cut off believes in an error. A Close frame may only stand between two frames, so the headers
of the frames are followed as they pass, each direction for itself: a few bytes a frame, payloads are skipped by their
length, and what passes is handed on as the object it came as.

What cannot be followed, because it is no WebSocket or is made to keep us busy, is passed on unseen from then on, and
its tunnel ends without a word.
"""

from __future__ import annotations

GOING_AWAY = 1001
"""The close code of a server that goes down, or of one that will be another in a moment."""

HEADER_BYTES_MAX = 14

FRAMES_MAX = 4_096
"""Frames in one piece of what came. Nobody in earnest sends so many so small, and each costs us a microsecond."""

_CLOSE = 0x8
_OPCODES = frozenset({0x0, 0x1, 0x2, _CLOSE, 0x9, 0xA})
_CONTROL_BYTES_MAX = 125
_LENGTH_16, _LENGTH_64 = 126, 127
_OPEN, _ENDING, _ENDED = range(3)


def close_frame(code: int, mask: bytes | None) -> bytes:
    """Return a Close frame; ``mask`` are four bytes of chance for one toward the origin, None toward the client."""
    payload = code.to_bytes(2, "big")
    if mask is None:
        return bytes((0x80 | _CLOSE, len(payload))) + payload
    masked = bytes(byte ^ mask[index] for index, byte in enumerate(payload))
    return bytes((0x80 | _CLOSE, 0x80 | len(payload))) + mask + masked


class Frames:
    """What one side sends. ``closed`` once it has sent a Close frame, ``lost`` once it cannot be followed.

    ``masked`` says that it is the client, whose frames are.
    """

    __slots__ = ("_goodbye", "_head", "_left", "_masked", "_opcode", "_state", "closed", "lost")

    def __init__(self, *, masked: bool) -> None:
        self._masked = masked
        self._state = _OPEN
        self._head = b""
        self._left = 0
        self._opcode = 0
        self._goodbye = b""
        self.closed = False
        self.lost = False

    def take(self, data: bytes) -> bytes:
        """Return what of ``data`` goes on to the other side: all of it, until ``part`` was called."""
        state = self._state
        if state == _ENDING:
            return self._take_last(data)
        if self._left > len(data):
            self._left -= len(data)
        else:
            self._follow(data, 0)
        return data if state == _OPEN else b""

    def part(self, goodbye: bytes) -> bytes:
        """End with ``goodbye`` once the frame under way is complete; return what is to be sent for that now."""
        self._goodbye = b"" if self.closed else goodbye
        if self._left or self._head:
            self._state = _ENDING
            return b""
        self._state = _ENDED
        return self._goodbye

    def _take_last(self, data: bytes) -> bytes:
        """Return the rest of the frame under way, followed by the goodbye."""
        end = self._step(data, 0)
        if self.lost:
            return b""
        if self._left or self._head:
            return data
        self._state = _ENDED
        last = data[:end] if self.closed else data[:end] + self._goodbye
        self._follow(data, end)
        return last

    def _follow(self, data: bytes, position: int) -> None:
        size = len(data)
        budget = FRAMES_MAX
        while position < size and not self.lost:
            position = self._step(data, position)
            budget -= 1
            if not budget:
                self.lost = True

    def _step(self, data: bytes, position: int) -> int:
        """Follow the frame under way, or the next one, as far as ``data`` goes; return where that is."""
        if not self._left:
            had = len(self._head)
            head = self._head + data[position : position + HEADER_BYTES_MAX - had]
            used = self._read_header(head)
            if not used:
                self._head = head
                return len(data)
            self._head = b""
            position += used - had
        end = min(position + self._left, len(data))
        self._left -= end - position
        if not self._left and self._opcode == _CLOSE:
            self.closed = True
        return end

    def _read_header(self, head: bytes) -> int:
        """Take a header in and return its size; 0 when it is not complete, or is none."""
        if len(head) < 2:  # noqa: PLR2004 - opcode and length
            return 0
        self._opcode = head[0] & 0x0F
        masked = bool(head[1] & 0x80)
        length = head[1] & 0x7F
        control = self._opcode >= _CLOSE
        if (
            self._opcode not in _OPCODES
            or masked != self._masked
            or (control and (length > _CONTROL_BYTES_MAX or not head[0] & 0x80))
        ):
            self.lost = True
            return 0
        size = 2
        if length >= _LENGTH_16:
            size += 2 if length == _LENGTH_16 else 8
            length = int.from_bytes(head[2:size], "big")
        if len(head) < size + 4 * masked:
            return 0
        if length >= 1 << 63:
            self.lost = True
            return 0
        self._left = length
        return size + 4 * masked


class WebSocket:
    """Both directions of one conversation."""

    __slots__ = ("from_client", "from_origin")

    def __init__(self) -> None:
        self.from_client = Frames(masked=True)
        self.from_origin = Frames(masked=False)

    @property
    def lost(self) -> bool:
        """Whether a direction cannot be followed."""
        return self.from_client.lost or self.from_origin.lost

    @property
    def over(self) -> bool:
        """Whether both sides have said goodbye."""
        return self.from_client.closed and self.from_origin.closed
