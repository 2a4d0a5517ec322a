"""What passes between the supervisor and each of its children, over a pair of sockets of their own.

Down go *orders*: the settings and keys that were checked, not what the files say by now; once to every child, and
again to the keeper when they change. Up come *messages*: ``ready`` once, a ``beat`` four times a second,
``configured`` or ``refused`` in answer to new orders. Each carries the child's plain counters. Orders are pickled, for
both ends are ours and nobody else has the sockets; messages are JSON, for the supervisor lets no child choose what it
runs.

Everything is preceded by its length, for a stream of bytes has no other ends. When the supervisor is gone, however it
went, the pair closes, and the child ends.
"""

from __future__ import annotations

import json
import pickle
import signal
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

    from waitroom.model import Settings

BEAT_S = 0.25
"""How often a child says that its event loop turns."""

CANNOT_START = 78
"""A child's exit code for what only the operator can mend (``EX_CONFIG``)."""

BROKEN = 70
"""An exit code for a fault of ours (``EX_SOFTWARE``)."""

HOUSE_ENDS = signal.SIGUSR1
"""Tells a worker to end because the whole house does. SIGTERM only says that another has taken its place, so whoever
asks it whether we are ready is told yes, and that the connection closes."""

LENGTH = struct.Struct("!I")

Kind = Literal["ready", "beat", "configured", "refused"]


@dataclass(frozen=True, slots=True)
class Orders:
    """What a child is to do. ``store_address`` is where workers reach the keeper, ``index`` a worker's post, from 0."""

    settings: Settings
    secret_keys: tuple[str, ...] = field(repr=False)
    log_format: str
    store_address: bytes = b""
    index: int = 0

    def packed(self) -> bytes:
        """Return it ready to be sent."""
        return _with_length(pickle.dumps(self))


@dataclass(frozen=True, slots=True)
class Message:
    """What a child says. ``stats`` are its counters so far, ``message`` is why it refuses new orders."""

    kind: Kind
    stats: Mapping[str, float] = field(default_factory=dict)
    message: str = ""

    def packed(self) -> bytes:
        """Return it ready to be sent."""
        said = {"kind": self.kind, "stats": dict(self.stats)} | ({"message": self.message} if self.message else {})
        return _with_length(json.dumps(said).encode())


class Pieces:
    """Takes a stream of bytes apart into what was sent in one piece."""

    def __init__(self) -> None:
        self._partial = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return what is complete with ``data``."""
        data = self._partial + data
        whole = []
        while len(data) >= LENGTH.size:
            end = LENGTH.size + LENGTH.unpack_from(data)[0]
            if len(data) < end:
                break
            whole.append(data[LENGTH.size : end])
            data = data[end:]
        self._partial = data
        return whole


def read_message(piece: bytes) -> Message:
    """Return the message that a child sent."""
    said = json.loads(piece)
    return Message(said["kind"], said["stats"], said.get("message", ""))


def read_orders(piece: bytes) -> Orders:
    """Return the orders that the supervisor sent."""
    orders = pickle.loads(piece)  # noqa: S301 - from our parent, over a socket nobody else has
    assert isinstance(orders, Orders)
    return orders


def receive_orders(control: socket.socket) -> Orders:
    """Wait for the first orders on a blocking socket. Raises ``EOFError`` when the supervisor is gone."""
    (length,) = LENGTH.unpack(_exactly(control, LENGTH.size))
    return read_orders(_exactly(control, length))


def _exactly(control: socket.socket, size: int) -> bytes:
    """Return the next ``size`` bytes and leave what follows them unread."""
    data = b""
    while len(data) < size:
        piece = control.recv(size - len(data))
        if not piece:
            raise EOFError("the supervisor is gone")
        data += piece
    return data


def _with_length(payload: bytes) -> bytes:
    return LENGTH.pack(len(payload)) + payload
