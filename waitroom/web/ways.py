"""Which way a request goes, before anybody has looked at a token.

There are four, and each is a value: it is *refused* because no site names its host, it is for a path of *ours*, it goes
*forward* at once because no room covers it or a bypass lets it around, or a room's *gate* decides. The desk acts on
them, and ``waitroom explain`` tells of them; since both ask here, neither can say what the other would not do.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from waitroom.core.asker import Asker
from waitroom.core.routing import ORDINARY, OwnKind, OwnPath, Route, Router, own_path, readings
from waitroom.core.sites import Sites
from waitroom.web.framing import Refusal

if TYPE_CHECKING:
    from waitroom.model import Address, Settings
    from waitroom.web.messages import Request

OWN = b"/.waitroom/"
HEALTH = (OwnKind.LIVE, OwnKind.READY)

MISDIRECTED = Refusal(421, "misdirected", "This host is not served here.")
"""What is said to whoever asks for a host that no site names."""


@dataclass(frozen=True, slots=True)
class Ours:
    """The request is for a path of ours."""

    own: OwnPath


@dataclass(frozen=True, slots=True)
class Forward:
    """The request goes to the origin at once. ``route`` names the bypass that let it around a room, if one did."""

    route: Route


@dataclass(frozen=True, slots=True)
class Gate:
    """The room of ``route`` decides, by the token of whoever asks."""

    route: Route


Way = Refusal | Ours | Forward | Gate

_ORDINARY = Forward(ORDINARY)

_TARGETS_KEPT = 1_024
_KEPT_TARGET_BYTES_MAX = 512
"""How many targets are remembered that were read every way, and how long ones: half a megabyte, whoever sends what."""


class Ways:
    """The sites and the rooms of a configuration, made ready."""

    def __init__(self, settings: Settings) -> None:
        self.router = Router(settings.rooms)
        self._sites = Sites(settings.sites, settings.origin)
        self._trusted = settings.trusted_proxies
        self._room_origins = {room.name: room.origin for room in settings.rooms}
        # A crowd comes to one address, and reading it every way costs more than all the rest of its way.
        self._kept = lru_cache(_TARGETS_KEPT)(self._read)

    def way(self, request: Request) -> Way:
        """Return which way a request goes."""
        if self._sites.origin(request.host) is None:
            # Whether we are well may be asked by address, as load balancers do.
            own = own_path(request.target) if request.target.startswith(OWN) else None
            return Ours(own) if own is not None and own.kind in HEALTH else MISDIRECTED
        if self.router.is_ordinary(request.target):
            return _ORDINARY
        if request.target.startswith(OWN) and (own := own_path(request.target)) is not None:
            return Ours(own)  # what every waiting visitor asks for needs no other readings
        if self.router.asks_who or len(request.target) > _KEPT_TARGET_BYTES_MAX:
            return self._read(request.host, request.target, request.method, self.asker(request))
        return self._kept(request.host, request.target, request.method)

    def _read(self, host: str, target: bytes, method: bytes, asker: Asker | None = None) -> Way:
        """Return which way a target goes that may be a room's, or ours in an odd spelling."""
        seen = readings(target)
        own = own_path(target, seen)
        if own is not None:
            return Ours(own)
        route = self.router.route(host, target, method.decode("ascii", "replace"), seen, asker)
        if route.room is None:
            return _ORDINARY
        return Forward(route) if route.bypassed else Gate(route)

    def asker(self, request: Request) -> Asker | None:
        """Return who sends a request; None where no bypass asks who it is."""
        return Asker(request.headers, request.peer, self._trusted) if self.router.asks_who else None

    def origin(self, host: str, room: str = "") -> Address | None:
        """Return what is behind the room, or behind the host's site where the room has no origin of its own."""
        return self._room_origins.get(room) or self._sites.origin(host)
