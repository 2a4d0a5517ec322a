"""What passes between the wire and the desk: a request, and what is to be done with it.

The wire (``web/wire.py``) parses, frames and moves bytes; the desk (``web/desk.py``) decides. The desk gets a
``Request`` when its headers are complete and returns, at once or as an awaitable, a ``Reply`` of ours, a ``Relay`` to
an origin, or a ``Gather``: a reply that depends on the body. Neither sees the other's work.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from waitroom.errors import UpstreamError
    from waitroom.upstream import Origin

Headers = list[tuple[bytes, bytes]]


@dataclass(slots=True, eq=False)
class Request:
    """One request as it stood on the wire.

    ``headers`` keep their order, case and duplicates; ``fields`` has the same by lower-case name (with ``_`` read as
    ``-``), first value only, for looking up. ``host`` is the checked Host, lower case, without port or final dot.
    ``peer`` is the address at the other end of the socket. ``body_length`` is None for a chunked body, 0 for none.
    ``upgrade`` is what the client would switch to, None when that cannot be relayed. ``keep_alive`` is what the client
    asks of its connection.
    """

    method: bytes
    target: bytes
    http_version: str
    headers: Headers
    fields: dict[bytes, bytes]
    host: str
    peer: str
    body_length: int | None = 0
    upgrade: bytes | None = None
    keep_alive: bool = True


@dataclass(slots=True)
class Reply:
    """An answer of ours. The wire adds Date, Content-Length and Connection, and leaves out the body for HEAD.

    ``ready`` are header lines that were made before, each with its CRLF; they follow ``headers``.
    """

    status: int
    headers: Headers = field(default_factory=list)
    body: bytes = b""
    close: bool = False
    ready: bytes = b""


@dataclass(slots=True)
class Relay:
    """Send the request on to ``origin`` and its answer back.

    ``headers`` is the complete list for the origin, without framing. ``edit`` gets the answer's status and headers
    (hop-by-hop ones already gone) and returns the headers for the client; it is also called, and its result dropped,
    for the answer to an order whose visitor has gone. ``fallback`` makes our page when the origin fails before its
    answer's headers came; ``broke`` is told when it fails after that, and the answer was cut.
    """

    origin: Origin
    headers: Headers
    edit: Callable[[int, Headers], Headers]
    fallback: Callable[[UpstreamError], Reply]
    broke: Callable[[UpstreamError], None]


@dataclass(slots=True)
class Gather:
    """Read the body, of ``bytes_max`` at most, and answer with what ``reply`` makes of it; of None if it is not had."""

    bytes_max: int
    reply: Callable[[bytes | None], Reply]


Verdict = Reply | Relay | Gather
Desk = Callable[[Request], Verdict | Awaitable[Verdict]]
