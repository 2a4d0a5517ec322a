"""The nouns.

Everything here is frozen: a request is judged against values that cannot change under it. Durations are seconds as
floats and end in ``_s``; instants are whole milliseconds of *store time* since 1970 and end in ``_ms``; sizes end in
``_bytes``. The words are those of ``docs/GLOSSARY.md``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path  # noqa: TC003 - pydantic reads the annotations of what the configuration's shapes hold
from typing import Literal

Network = IPv4Network | IPv6Network

TICK_S = 0.25
"""One control step: how often calls are made, what was heard is noted, and the shared view is replaced."""


class RoomState(StrEnum):
    """What a room is doing, as ``now`` tells everyone."""

    OPEN = "open"
    QUEUEING = "queueing"
    PREQUEUE = "prequeue"
    HELD = "held"
    SOLD_OUT = "sold_out"
    CLOSED = "closed"
    PASSTHROUGH = "passthrough"


class VisitorState(StrEnum):
    """Where one visitor stands, as ``me`` tells them."""

    NONE = "none"
    PREQUEUE = "prequeue"
    WAITING = "waiting"
    CALLED = "called"
    MISSED = "missed"
    ADMITTED = "admitted"
    EXPIRED = "expired"
    HELD = "held"
    SOLD_OUT = "sold_out"
    FULL = "full"
    REJECTED = "rejected"
    CLOSED = "closed"


class QueueingMethod(StrEnum):
    """What becomes of those for whom there is no slot."""

    FIFO = "fifo"
    RANDOM = "random"
    """Nobody is ahead of anybody: whoever is called next is drawn among those present."""
    PASSTHROUGH = "passthrough"
    REJECT = "reject"


class Phase(StrEnum):
    """How far an event has come."""

    PREQUEUE = "prequeue"
    OPEN = "open"
    ENDED = "ended"
    DROPPED = "dropped"
    """Taken out of the configuration while it ran, or after: it says nothing any more."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """A signed place in line. It never changes; ``number`` is counted from 1, or from a series' base."""

    room: str
    generation: int
    number: int
    visitor: str
    issued_ms: int


@dataclass(frozen=True, slots=True)
class Invite:
    """A signed word that its bearer may join the line of the invited, once, and before ``until_ms``."""

    room: str
    id: str
    until_ms: int


@dataclass(frozen=True, slots=True)
class Priority:
    """A line of its own for who is invited: ``share`` of the calls are theirs, when one of them is there."""

    invites: bool = True
    share: float = 0.2


@dataclass(frozen=True, slots=True)
class Pass:
    """A signed admission.

    ``end_ms`` is an end that the store holds, never one a worker made up. ``stood_ms`` is for how long the room's clock
    had stood still by then: what it has stood since moves the end.
    """

    room: str
    generation: int
    number: int
    visitor: str
    admitted_ms: int
    end_ms: int
    stood_ms: int = 0


@dataclass(frozen=True, slots=True)
class OriginTls:
    """By what an https origin is known.

    ``ca_pem`` are the certificates of the authorities that may vouch for it, None for those the system trusts;
    ``server_name`` is what it is told (SNI) and must prove to be, None for its host.
    """

    ca_pem: str | None = field(default=None, repr=False)
    server_name: str | None = None


@dataclass(frozen=True, slots=True)
class Address:
    """Where an origin listens, or where we do. Two origins of one host and port are two when their ``tls`` differs."""

    host: str
    port: int
    https: bool = False
    tls: OriginTls | None = None

    def __str__(self) -> str:
        """Return it as it would stand in a URL's authority."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class SecretHeader:
    """A header that is known to a few. ``name`` is in lower case; ``value`` is never printed."""

    name: str
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class PathRule:
    """One line of ``match`` or ``bypass``.

    A ``path`` ending in ``/`` covers everything below it and itself without the slash; others match exactly. ``host``
    is ``*``, a name, or ``*.name`` for its subdomains. Every pair of ``query`` must be present. ``method`` None is any.
    Only in a ``bypass``: an empty ``path`` is every path, and ``ip`` and ``header`` say who asks.
    """

    path: str
    host: str = "*"
    query: tuple[tuple[str, str], ...] = ()
    method: str | None = None
    ip: Network | None = None
    header: SecretHeader | None = None


@dataclass(frozen=True, slots=True)
class Refresh:
    """How often a waiting page asks: bounds of the told interval, and the share the page adds by chance."""

    near_s: float = 2.0
    far_s: float = 60.0
    farthest_s: float = 300.0
    jitter: float = 0.3


@dataclass(frozen=True, slots=True)
class RoomEvent:
    """A scheduled opening. Its times are those of the wall clock, in milliseconds since 1970.

    Without ``prequeue_start_time_ms`` nobody gathers before the start. ``shuffle_at_event_start``: the order of those
    who gathered is drawn. The rest are limits of the room that are others
    while the event runs; None: the room's own.
    """

    name: str
    start_time_ms: int
    end_time_ms: int
    prequeue_start_time_ms: int | None = None
    shuffle_at_event_start: bool = False
    total_active_users: int | None = None
    new_users_per_minute: int | None = None
    session_duration_s: float | None = None
    disable_session_renewal: bool | None = None
    queueing_method: QueueingMethod | None = None
    queue_all: bool | None = None
    always_queue: bool | None = None
    max_waiting: int | None = None

    @property
    def begin_ms(self) -> int:
        """When it begins: people gather, or at once the line opens."""
        return self.start_time_ms if self.prequeue_start_time_ms is None else self.prequeue_start_time_ms

    def over(self, room: Room) -> Room:
        """Return ``room`` as it is while this event runs."""
        stated = {name: value for name in EVENT_LIMITS if (value := getattr(self, name)) is not None}
        return replace(room, **stated) if stated else room


EVENT_LIMITS = (
    "total_active_users",
    "new_users_per_minute",
    "session_duration_s",
    "disable_session_renewal",
    "queueing_method",
    "queue_all",
    "always_queue",
    "max_waiting",
)
"""The limits of a room that an event may change."""


@dataclass(frozen=True, slots=True)
class Opening:
    """An event as the record has it: how far it has come, and when it began, starts and ends, in store time.

    ``ahead_ms`` is how far the wall clock was ahead of store time when its times were read.
    """

    event: str
    phase: Phase
    begun_ms: int
    start_ms: int
    end_ms: int
    ahead_ms: int = 0


@dataclass(frozen=True, slots=True)
class Draw:
    """What everybody may know of an event's draw. Hashes, and the seed, are in hexadecimal.

    ``generation`` is zero until people gather; ``series`` are the numbers on the list so far, in runs from first to
    last, and ``digest`` is the list's. ``seed`` is empty until the list is closed.
    """

    event: str
    commitment: str
    generation: int = 0
    digest: str = ""
    series: tuple[tuple[int, int], ...] = ()
    seed: str = ""


@dataclass(frozen=True, slots=True)
class Room:
    """A protected part of a site, with its limits.

    ``None`` for ``max_waiting`` means no limit, for ``origin`` that the site's own is behind it, for
    ``cookie_domain`` that each host keeps its own cookie, for ``cookie_secure`` that it follows the request.
    ``allowed_origins`` are those whose pages may call by script, as browsers name them. ``languages`` are those of its
    pages, the first for who asks for none of them; ``templates`` is the folder whose files stand in for ours.
    ``one_ticket_per`` is ``cookie``, or ``header:`` and a name in lower case.
    """

    name: str
    match: tuple[PathRule, ...]
    bypass: tuple[PathRule, ...] = ()
    total_active_users: int = 200
    new_users_per_minute: int = 600
    session_duration_s: float = 300.0
    session_limit_s: float | None = None
    disable_session_renewal: bool = False
    claim_within_s: float = 60.0
    ticket_keep_s: float = 7200.0
    queueing_method: QueueingMethod = QueueingMethod.FIFO
    queue_all: bool = False
    suspended: bool = False
    always_queue: bool = False
    max_waiting: int | None = None
    queueing_status_code: int = 200
    refresh: Refresh = field(default_factory=Refresh)
    cacheable: bool = False
    cookie_name: str = ""
    cookie_domain: str | None = None
    cookie_same_site: Literal["auto", "lax", "strict", "none"] = "auto"
    cookie_secure: bool | None = None
    origin: Address | None = None
    allowed_origins: tuple[str, ...] = ()
    languages: tuple[str, ...] = ("ko", "en")
    templates: Path | None = None
    events: tuple[RoomEvent, ...] = ()
    priority: Priority | None = None
    one_ticket_per: str = "cookie"

    @property
    def member_header(self) -> bytes | None:
        """The header, in lower case, of the account that a place belongs to; None: it belongs to the browser."""
        kind, _, name = self.one_ticket_per.partition(":")
        return name.encode() if kind == "header" else None

    def during(self, opening: Opening | None) -> Room:
        """Return the room as it is in an event that has begun and not ended, else as it is."""
        if opening is None or opening.phase not in (Phase.PREQUEUE, Phase.OPEN):
            return self
        return next((event.over(self) for event in self.events if event.name == opening.event), self)


@dataclass(frozen=True, slots=True)
class Overrides:
    """What an operator, or the origin, said over a room's configuration; None: as configured.

    It is kept in the record, so it outlives restarts and reloads, until it is cleared. ``final``: sold out for good.
    ``stock`` is what the origin last said it has, 0 meaning *sold out for now*; ``stock_version`` orders what it said.
    """

    queue_all: bool | None = None
    new_users_per_minute: int | None = None
    total_active_users: int | None = None
    queueing_method: QueueingMethod | None = None
    suspended: bool | None = None
    closed: bool = False
    final: bool = False
    stock: int | None = None
    stock_version: int = 0
    message: str | None = None

    def over(self, room: Room) -> Room:
        """Return ``room`` as it is with what was said over it."""
        said = {
            name: value
            for name in ("queue_all", "new_users_per_minute", "total_active_users", "queueing_method", "suspended")
            if (value := getattr(self, name)) is not None
        }
        return replace(room, **said) if said else room

    @property
    def sold_out(self) -> bool:
        """Whether there is nothing left, for now or for good."""
        return self.final or self.stock == 0


@dataclass(frozen=True, slots=True)
class Site:
    """Hosts that share an origin. A host is a name, ``*.name`` for its subdomains, or ``*`` for every one."""

    hosts: tuple[str, ...]
    origin: Address


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """Where the record is kept. ``path`` is the database's file for ``sqlite``, None for ``memory``."""

    scheme: Literal["memory", "sqlite"] = "memory"
    path: Path | None = None

    def __str__(self) -> str:
        """Return it as it is written in a configuration."""
        return "memory:" if self.path is None else f"{self.scheme}:///{self.path}"


@dataclass(frozen=True, slots=True)
class Admin:
    """The operators' own listener, and the file of the token that opens it."""

    listen: Address
    token_file: Path


@dataclass(frozen=True, slots=True)
class LedgerFiles:
    """Where the ledger is written, how long one of its files grows, and for how long each is kept."""

    folder: Path
    rotate_bytes: int
    keep_s: float


@dataclass(frozen=True, slots=True)
class WireLimits:
    """Every limit of the wire, under the name an operator changes. ``None`` is no limit."""

    header_bytes: int = 32 * 1024
    header_count: int = 100
    target_bytes: int = 8 * 1024
    body_bytes: int | None = 100 * 1024 * 1024
    header_timeout_s: float = 10.0
    body_idle_timeout_s: float = 30.0
    keep_alive_timeout_s: float = 65.0
    connect_timeout_s: float = 3.0
    first_byte_timeout_s: float = 60.0
    idle_timeout_s: float = 300.0
    total_timeout_s: float | None = None
    connections_per_worker: int = 20_000
    joins_per_client_per_minute: int | None = 60
    drain_timeout_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Settings:
    """A whole configuration, checked. Paths are absolute. Without ``sites`` every host is served from ``origin``.

    ``ledger`` is None where none is kept.
    """

    listen: Address
    origin: Address
    rooms: tuple[Room, ...]
    store: StoreUrl
    secret_keys_file: Path
    admin: Admin
    workers: int = 1
    sites: tuple[Site, ...] = ()
    trusted_proxies: tuple[Network, ...] = ()
    limits: WireLimits = field(default_factory=WireLimits)
    ledger: LedgerFiles | None = None

    def origins(self) -> frozenset[Address]:
        """Return every address to which requests may be forwarded."""
        of_sites = {site.origin for site in self.sites} or {self.origin}
        return frozenset(of_sites | {room.origin for room in self.rooms if room.origin is not None})
