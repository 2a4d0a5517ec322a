"""The listening sockets. They belong to the supervisor and outlive every process that accepts on them.

A socket is bound and *listening* before any child runs, so a connection that comes while a child is being replaced
waits in the backlog instead of being refused. Children inherit it; ``SO_REUSEPORT`` would give each its own queue, and
a leaving worker would take its queue with it.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from waitroom.errors import StartError

if TYPE_CHECKING:
    from waitroom.model import Address

BACKLOG = 4096
"""The flood arrives in one second; the kernel caps this at ``net.core.somaxconn``."""


def listen(address: Address, remedy: str) -> socket.socket:
    """Return a socket that listens at ``address``. Raises ``StartError``, which ends with ``remedy``."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((address.host, address.port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise StartError(f"cannot listen on {address}: {error.strerror}; {remedy}") from error
    sock.setblocking(False)  # noqa: FBT003 - the standard library's signature
    return sock


def listen_for_workers() -> socket.socket:
    """Return the socket on which workers reach the keeper.

    Its address is one the kernel chooses in the abstract namespace: no file is left behind, however we end, and two
    houses never meet. It has no permissions either, so whoever accepts on it must ask who called.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind("")
    sock.listen(BACKLOG)
    sock.setblocking(False)  # noqa: FBT003 - the standard library's signature
    return sock
