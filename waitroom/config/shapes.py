"""What the file may say: one class for each mapping, one field for each key.

A default is written as an operator would write it and judged like anything written, so that this file, the JSON
Schema, ``config/waitroom.yaml`` and ``docs/CONFIG.md`` cannot say different things; ``tests/test_config.py`` reads all
four. pydantic enforces the shapes and guesses no types. Keys of the contract whose feature is not built yet stand in
``NOT_BUILT``: they are refused by name, unless their value asks for nothing. Values not built yet stand at their keys.
The context of a validation is ``Around``: where we listen, if that is known, and where the file stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from waitroom.config import authorities, rules, values
from waitroom.config.values import BodySize, Duration, FileSize, HeaderSize, Keep, Rate, Timeout, seconds
from waitroom.model import Address, Network, SecretHeader, StoreUrl

if TYPE_CHECKING:
    from collections.abc import Mapping

PEOPLE_MAX = 10_000_000
"""More people than any line has seen, and far from the bounds of any integer a store keeps."""

SECRET_CHARS_MIN = 16
"""The shortest value of a bypass's header that stands alone: a header can be sent by anyone, as often as they like."""

WORKERS_MAX = 64
"""A worker keeps a core busy and has its own connections to the origin; more cores than these serve something else."""

DAY_MS = 86_400_000
"""People gather for less than a day: the page counts hours, and nobody waits longer in front of it."""

Place = tuple[str, ...]
"""Where keys stand, with ``*`` for any item of a list: ``("rooms", "*")``."""


@dataclass(frozen=True, slots=True)
class Around:
    """What judges a value beside the value: the address where we listen, None while unknown; the file's folder."""

    listen: Address | None = None
    folder: Path = Path()

    @classmethod
    def of(cls, info: ValidationInfo) -> Around:
        """Return what a validation was given."""
        return info.context or cls()


NOT_BUILT: Mapping[Place, object] = {
    ("rooms", "*", "checkout"): [],
    ("rooms", "*", "admission_floor_per_minute"): 0,
    ("rooms", "*", "shared_polls"): False,
    ("rooms", "*", "outage_reserve"): "60s",
}
"""Keys of the contract without a feature behind them yet: where each stands, and the default that is let through."""


def _later(value: object, sentence: str) -> BeforeValidator:
    """Refuse a value of the contract whose feature is not built yet."""

    def check(given: object) -> object:
        if given == value:
            raise ValueError(sentence)
        return given

    return BeforeValidator(check)


def _not_below(other: str) -> AfterValidator:
    """Keep a duration at least as long as the one under the key ``other``, which stands before it."""

    def check(value: float, info: ValidationInfo) -> float:
        least_s = info.data.get(other, 0.0)
        if value < least_s:
            raise ValueError(f"{seconds(value)} is less than `{other}`; write {seconds(least_s)} or more")
        return value

    return AfterValidator(check)


def worker_count(count: int, store: StoreUrl | None) -> int:
    """Return how many processes serve; ``store`` is None where it is not known."""
    if not 1 <= count <= WORKERS_MAX:
        raise ValueError(f"`{count}` is too {'small' if count < 1 else 'large'}; write 1 to {WORKERS_MAX}")
    if count > 1 and store is not None and store.scheme == "memory":
        raise ValueError(
            f"`{count}` is too many: memory: lives in one process; write 1, or store: sqlite:///var/waitroom.db"
        )
    return count


def _worker_count(value: int, info: ValidationInfo) -> int:
    return worker_count(value, info.data.get("store"))


def is_ours(origin: Address, ours: Address) -> bool:
    """Tell whether requests sent to ``origin`` would come back to where we listen."""
    every = ("0.0.0.0", "::", "localhost")  # noqa: S104 - compared, not bound
    on_loopback = ours.host in every and origin.host in (*every, "127.0.0.1", "::1")
    return ours.port == origin.port and (ours.host == origin.host or on_loopback)


def share_port(one: Address, other: Address) -> bool:
    """Tell whether two listeners ask for one port; 0 asks for any that is free."""
    return one.port == other.port != 0


def _elsewhere(value: Address, info: ValidationInfo) -> Address:
    ours = Around.of(info).listen
    if ours is not None and is_ours(value, ours):
        raise ValueError(f"`{value}` is where we listen ourselves; write the address of the site behind")
    return value


def _admin_listening(value: object, info: ValidationInfo) -> Address:
    address = values.listening(value, "127.0.0.1:9090")
    ours = Around.of(info).listen
    if ours is not None and share_port(address, ours):
        raise ValueError(f"`{address}` has the port of `listen`; write another, such as 127.0.0.1:{address.port + 1}")
    return address


def _ca_pem(value: object, info: ValidationInfo) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{values.kind(value)} is no file; write one of certificates in PEM form, such as ca.pem")
    return authorities.read(value, Around.of(info).folder)


def _of_https(value: OriginTlsShape, info: ValidationInfo) -> OriginTlsShape:
    """Let TLS be spoken of only beside an origin that speaks it; one that is wrong itself has been told so."""
    if (value.ca_file is None and value.server_name is None) or "origin" not in info.data:
        return value
    origin: Address | None = info.data["origin"]
    if origin is None:
        raise ValueError("there is no `origin` beside it; write the room's own, or move this to where its origin is")
    if not origin.https:
        raise ValueError(f"its `origin` is http, which has no TLS; write https://{origin}, or remove this")
    return value


def _after(other: str) -> AfterValidator:
    """Keep an instant after the one under the key ``other``, which stands before it."""

    def check(value: int, info: ValidationInfo) -> int:
        if value <= info.data.get(other, value - 1):
            raise ValueError(f"is not after `{other}`; write a later time")
        return value

    return AfterValidator(check)


def _before(other: str) -> AfterValidator:
    """Keep an instant before the one under the key ``other``, which stands before it, by less than a day."""

    def check(value: int, info: ValidationInfo) -> int:
        before_ms = info.data.get(other, value + 1) - value
        if not 0 < before_ms < DAY_MS:
            what, other_time = ("less than a day before", "a later") if before_ms > 0 else ("before", "an earlier")
            raise ValueError(f"is not {what} `{other}`; write {other_time} time")
        return value

    return AfterValidator(check)


def _hard_to_guess(value: SecretHeader, info: ValidationInfo) -> SecretHeader:
    """Keep a secret long where nothing else, such as an ``ip``, which stands before it, keeps strangers away."""
    if len(value.value) < SECRET_CHARS_MIN and info.data.get("ip", value) is None:
        raise ValueError(
            f"has a value of {len(value.value)} characters, which anybody could guess; "
            f"write {SECRET_CHARS_MIN} or more by chance, or an `ip` beside it"
        )
    return value


def _gathered(value: bool, info: ValidationInfo) -> bool:
    """Let an order be drawn only where people gather before the start."""
    if value and info.data.get("prequeue_start_time", value) is None:
        raise ValueError("there is nobody to draw among without a `prequeue_start_time`; write one, or remove this")
    return value


def _with_none(value: str | bool, info: ValidationInfo) -> str | bool:
    """Keep a cookie that other sites' requests carry Secure, or browsers drop it."""
    if value is False and info.data.get("same_site") == "none":
        raise ValueError(
            "`false` beside `same_site: none` makes a cookie that browsers refuse; write auto for one of them"
        )
    return value


def _in_turn(events: list[EventShape]) -> list[EventShape]:
    """Let no two events bear one name, or run at one time: a room has one line."""
    named: set[str] = set()
    for event in events:
        if event.name in named:
            raise ValueError(f"two events are called `{event.name}`; give each its own name")
        named.add(event.name)
    in_order = sorted(events, key=lambda event: event.begin)
    for event, following in pairwise(in_order):
        if following.begin < event.end_time:
            raise ValueError(
                f"`{following.name}` begins before `{event.name}` has ended; let one end before the next begins"
            )
    return events


def _called_as_drawn(events: list[EventShape], info: ValidationInfo) -> list[EventShape]:
    """Let nobody be promised a drawn order, and then be called in none."""
    for event in events:
        method = event.queueing_method or info.data.get("queueing_method")
        if event.shuffle_at_event_start and method == "random":
            raise ValueError(
                f"`{event.name}` draws an order, and `queueing_method: random` calls in none; let its method be fifo"
            )
    return events


_String = WithJsonSchema({"type": "string"})
_Origin = Annotated[
    Address,
    PlainValidator(values.origin),
    AfterValidator(_elsewhere),
    WithJsonSchema({"type": "string", "pattern": "^https?://[^/?#@]+$"}),
]
_Host = Annotated[str, AfterValidator(rules.host)]
_WorkerCount = Annotated[
    int,
    AfterValidator(_worker_count),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": WORKERS_MAX}),
]
_Network = Annotated[Network, PlainValidator(values.network), _String]
_CallingOrigin = Annotated[
    str,
    PlainValidator(rules.calling_origin),
    WithJsonSchema({"type": "string", "pattern": "^https?://[^/?#@*]+$"}),
]
_Language = Annotated[str, AfterValidator(rules.language)]
_Path = Annotated[str, AfterValidator(rules.path)]
_SecretHeader = Annotated[
    SecretHeader,
    PlainValidator(rules.secret_header),
    AfterValidator(_hard_to_guess),
    WithJsonSchema(
        {
            "type": "object",
            "additionalProperties": {"type": "string", "minLength": 1},
            "minProperties": 1,
            "maxProperties": 1,
        }
    ),
]
_CookieSecure = Annotated[
    bool | Literal["auto"],
    PlainValidator(rules.cookie_secure),
    AfterValidator(_with_none),
    WithJsonSchema({"enum": ["auto", True, False]}),
]
_People = Annotated[int, Field(ge=1, le=PEOPLE_MAX)]
_Cap = Annotated[_People, _later(None, "null is for `admission: measured`, which is not built yet; write a number")]
_Admission = Annotated[Literal["fixed"], _later("measured", "`measured` is not built yet; write fixed")]
_QueueingMethod = Literal["fifo", "random", "passthrough", "reject"]


_Instant = Annotated[int, PlainValidator(values.instant), WithJsonSchema({"type": "string", "format": "date-time"})]


def _key(default: Any, description: str, **bounds: Any) -> Any:
    return Field(default, description=description, **bounds)


def _switch(description: str) -> Any:
    return Field(default=False, description=description)


class Shape(BaseModel):
    """A mapping of the file: no unknown keys, no guessing of types, defaults judged like anything written."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, validate_default=True)


class LimitsShape(Shape):
    """Every limit of the wire."""

    header_bytes: HeaderSize = _key("32KiB", "The longest header of a request; beyond it: 431.")
    header_count: int = _key(100, "The most header fields of a request.", ge=1, le=10_000)
    body_bytes: BodySize | None = _key("100MiB", "The longest body of a request; null: no limit.")
    header_timeout: Timeout = _key("10s", "How long a request's header may take to arrive.")
    body_idle_timeout: Timeout = _key("30s", "The longest silence within a request's body.")
    keep_alive_timeout: Timeout = _key("65s", "How long an idle connection from a client is kept.")
    connect_timeout: Timeout = _key("3s", "How long connecting to the origin may take.")
    first_byte_timeout: Timeout = _key("60s", "How long the origin may take to begin its answer.")
    idle_timeout: Timeout = _key("300s", "The longest silence within the origin's answer or a tunnel.")
    total_timeout: Timeout | None = _key(None, "How long a whole exchange may take; null: no limit.")
    target_bytes: HeaderSize = _key("8KiB", "The longest request target; beyond it: 414.")
    connections_per_worker: int = _key(20_000, "Connections a worker holds at once.", ge=1, le=1_000_000)
    joins_per_client: Rate | None = _key("60/m", "New places a minute for one client address; null: no limit.")
    drain_timeout: Timeout = _key("30s", "How long a stop waits for what is in flight.")


class RuleShape(Shape):
    """One line of ``match``: which requests belong to the room."""

    host: _Host = _key("*", "A host, *.name for its subdomains, or *.")
    path: _Path = Field(
        description="Ending in / it covers all below and itself without the /; else it matches exactly."
    )
    query: dict[str, str] | None = _key(None, "Pairs that must all be in the query.", min_length=1)


class BypassShape(Shape):
    """One line of ``bypass``: which of the room's requests go straight through. What it names must all be so."""

    host: _Host = _key("*", "A host, *.name for its subdomains, or *.")
    path: _Path | None = _key(None, "As in `match`; left out: any, where `ip` or `header` says who.")
    query: dict[str, str] | None = _key(None, "Pairs that must all be in the query.", min_length=1)
    method: Annotated[str, AfterValidator(rules.method)] | None = _key(None, "A method; left out: any.")
    ip: Annotated[Network, PlainValidator(rules.bypass_network), _String] | None = _key(
        None, "The client's address, or its network, as trusted_proxies give it."
    )
    header: _SecretHeader | None = _key(
        None, "One header, name and value, that only the operator's own machines know; the shop does not get it."
    )

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.path is None and self.ip is None and self.header is None:
            raise ValueError("lets everybody around; name `path`, or who may by `ip` or `header`")
        return self


class RefreshShape(Shape):
    """How often a waiting page asks."""

    near: Duration = _key("2s", "The shortest interval a page is told.")
    far: Annotated[Duration, _not_below("near")] = _key("60s", "The longest within half an hour of the front.")
    farthest: Annotated[Duration, _not_below("far")] = _key("300s", "The longest farther away.")
    jitter: float = _key(0.3, "The share of the interval a page adds by chance.", ge=0, le=1, allow_inf_nan=False)


class CookieShape(Shape):
    """The cookie that holds the ticket or the pass."""

    name: Annotated[str, AfterValidator(rules.cookie_name)] = _key("waitroom_{room}", "Its name; {room} is the room's.")
    domain: Annotated[str, AfterValidator(rules.cookie_domain)] | None = _key(
        None, "Whose hosts share it, such as shop.example; null: each host keeps its own."
    )
    same_site: Literal["auto", "lax", "strict", "none"] = _key(
        "auto", "auto: none over https, lax in clear, as browsers want it."
    )
    secure: _CookieSecure = _key(
        "auto", "auto: as the request came; true: it came by https, whoever says; false: never."
    )


class CorsShape(Shape):
    """Which other origins' pages may call the room's URLs by script."""

    allowed_origins: list[_CallingOrigin] = _key([], "Each as scheme://host, with a port unless it is the usual one.")


class PriorityShape(Shape):
    """A line of their own for the invited."""

    invites: Literal[True] = _key(default=True, description="Whoever uses a link of `waitroom invite` joins it.")
    share: float = _key(0.2, "Of the calls, at most; what the invited do not use goes to the line.", ge=0.01, le=0.9)


class EventShape(Shape):
    """A scheduled opening, and the room's limits that are others while it runs."""

    name: Annotated[str, AfterValidator(rules.event_name)] = Field(description="1 to 40 of a-z, 0-9 and -; unique.")
    start_time: _Instant = Field(description="When the line opens, with its offset, as 2026-12-01T12:00:00+09:00.")
    end_time: Annotated[_Instant, _after("start_time")] = Field(
        description="When the line ends, after `start_time`; who is inside stays until the pass ends."
    )
    prequeue_start_time: Annotated[_Instant, _before("start_time")] | None = _key(
        None, "From when on people may gather and get places, before `start_time`; null: nobody gathers."
    )
    shuffle_at_event_start: Annotated[bool, AfterValidator(_gathered)] = _switch(
        "true: at the start the order of those who gathered is drawn, and anyone can check how."
    )
    total_active_users: _People | None = _key(None, "As the room's, while the event runs; null: the room's own.")
    new_users_per_minute: _People | None = _key(None, "As the room's, while the event runs; null: the room's own.")
    session_duration: Duration | None = _key(None, "As the room's, while the event runs; null: the room's own.")
    disable_session_renewal: bool | None = _key(None, "As the room's, while the event runs; null: the room's own.")
    queueing_method: _QueueingMethod | None = _key(None, "As the room's, from the start; null: the room's own.")
    queue_all: bool | None = _key(None, "As the room's, while the event runs; null: the room's own.")
    always_queue: bool | None = _key(None, "As the room's, from the start; null: the room's own.")
    max_waiting: _People | None = _key(None, "As the room's, while the event runs; null: the room's own.")

    @property
    def begin(self) -> int:
        """When the event begins."""
        return self.start_time if self.prequeue_start_time is None else self.prequeue_start_time


class OriginTlsShape(Shape):
    """By what the https origin beside it is known."""

    ca_file: Annotated[
        str | None,
        PlainValidator(_ca_pem),
        WithJsonSchema({"anyOf": [{"type": "string", "pattern": r"\S"}, {"type": "null"}]}),
    ] = _key(None, "Who may vouch for it: certificates, PEM; relative to this file. null: whom the system trusts.")
    server_name: Annotated[str, AfterValidator(rules.server_name)] | None = _key(
        None, "The name that it is told and that its certificate must have; null: its host."
    )


_OriginTls = Annotated[OriginTlsShape, AfterValidator(_of_https)]
_NO_TLS = {"ca_file": None, "server_name": None}


class RoomShape(Shape):
    """A protected part of the site, its limits and its line."""

    name: Annotated[str, AfterValidator(rules.room_name)] = Field(description="1 to 40 of a-z, 0-9 and -; unique.")
    match: list[RuleShape] = Field(min_length=1, description="Which requests belong to the room; any rule suffices.")
    bypass: list[BypassShape] = _key([], "Which of them go straight through all the same.")
    origin: _Origin | None = _key(None, "Where the room's requests are forwarded; null: where its site's are.")
    origin_tls: _OriginTls = _key(_NO_TLS, "By what the room's own https origin is known.")
    total_active_users: _Cap = _key(200, "Visitors inside and called, at most, at any time.")
    new_users_per_minute: _Cap = _key(600, "Visitors admitted in any 60 seconds, at most.")
    admission: _Admission = _key("fixed", "How the pace is found; fixed: exactly the ceilings.")
    session_duration: Duration = _key("5m", "How long a pass lasts after the last request.")
    session_limit: Annotated[Duration, _not_below("session_duration")] | None = _key(
        None, "The longest a pass may be renewed; null: no limit."
    )
    disable_session_renewal: bool = _switch("true: a pass ends session_duration after its birth.")
    claim_within: Duration = _key("60s", "How long a called visitor's turn is kept.")
    ticket_keep: Duration = _key("2h", "How long a place is kept after the time its page was last told to come back.")
    queueing_method: _QueueingMethod = _key(
        "fifo", "fifo: a line; random: called in no order; passthrough: all in, still counted; reject: come back later."
    )
    queue_all: bool = _switch("true: hold everyone new and every claim; those inside stay.")
    suspended: bool = _switch("true: as if the room were not there.")
    always_queue: bool = _switch("true: everyone passes through the line.")
    max_waiting: _People | None = _key(None, "Beyond it newcomers get the page `full`; null: no limit.")
    queueing_status_code: Literal[200, 202, 429, 503] = _key(200, "The status of a waiting document.")
    refresh: RefreshShape = _key(
        {"near": "2s", "far": "60s", "farthest": "300s", "jitter": 0.3}, "How often a waiting page asks."
    )
    cacheable: bool = _switch("true: shared caches may keep the room's documents.")
    cookie: CookieShape = _key(
        {"name": "waitroom_{room}", "domain": None, "same_site": "auto", "secure": "auto"},
        "The cookie that holds the ticket or the pass.",
    )
    languages: Annotated[list[_Language], Field(min_length=1), AfterValidator(rules.all_different)] = _key(
        ["ko", "en"], "The languages of the room's pages; the first is for who asks for none of them."
    )
    templates: str | None = _key(
        None, "A folder of templates that stand in for ours, relative to this file; null: none.", pattern=r"\S"
    )
    cors: CorsShape = _key({"allowed_origins": []}, "Which other origins' pages may call the room's URLs by script.")
    events: Annotated[list[EventShape], AfterValidator(_in_turn), AfterValidator(_called_as_drawn)] = _key(
        [], "Openings at a set time, each with a line of its own."
    )

    priority: PriorityShape | None = _key(None, "A line of their own for the invited; null: no invites.")
    one_ticket_per: Annotated[str, AfterValidator(rules.one_ticket_per)] = _key(
        "cookie", "cookie: a place for each browser; header:NAME: for each account that a trusted proxy names in it."
    )


class SiteShape(Shape):
    """Hosts, and the origin behind them."""

    hosts: list[_Host] = Field(min_length=1, description="Names, *.name for the subdomains of one, or * for any.")
    origin: _Origin = Field(description="The site behind, where requests to these hosts are forwarded; http or https.")
    origin_tls: _OriginTls = _key(_NO_TLS, "By what the site's https origin is known.")


class AdminShape(Shape):
    """The operators' own listener."""

    listen: Annotated[Address, PlainValidator(_admin_listening), _String] = _key(
        "127.0.0.1:9090", "Where operators connect, host:port; another port than visitors'."
    )
    token_file: str = _key("var/admin-token", "The token that opens it; relative to this file.", pattern=r"\S")


class LedgerShape(Shape):
    """The record of who was let in, who went around, and what operators did."""

    folder: str = _key("var/ledger", "Where its files are written; relative to this file.", pattern=r"\S")
    rotate_bytes: FileSize = _key("64MiB", "Beyond so much a file is closed and the next begun; each day has its own.")
    keep: Keep = _key("90d", "How long a closed file is kept.")


class FileShape(Shape):
    """The whole file."""

    listen: Annotated[Address, PlainValidator(values.listening), _String] = _key(
        "127.0.0.1:8080", "Where visitors connect, host:port; IPv6 as [::1]:8080."
    )
    origin: _Origin = _key("http://127.0.0.1:8000", "The site behind, where everything goes unless `sites` are given.")
    origin_tls: _OriginTls = _key(_NO_TLS, "By what an https `origin` is known.")
    sites: list[SiteShape] = _key([], "Hosts with origins of their own; when given, no other host is served.")
    store: Annotated[StoreUrl, PlainValidator(values.store), _String] = _key(
        "sqlite:///var/waitroom.db", "Where lines are kept: a file (sqlite:///), or memory: until a restart."
    )
    workers: _WorkerCount = _key(1, "Processes that serve; memory: lives in one.")
    secret_keys_file: str = _key(
        "var/keys", "The signing keys; relative to this file. WAITROOM_SECRET_KEYS goes before it.", pattern=r"\S"
    )
    trusted_proxies: list[_Network] = _key([], "CIDRs of proxies in front whose X-Forwarded-* are believed.")
    admin: AdminShape = _key(
        {"listen": "127.0.0.1:9090", "token_file": "var/admin-token"}, "The operators' own listener."
    )
    ledger: LedgerShape | None = _key(
        {"folder": "var/ledger", "rotate_bytes": "64MiB", "keep": "90d"},
        "The record of admissions, bypasses and operators' acts; null: none. With memory: there is none.",
    )
    limits: LimitsShape = Field(default_factory=LimitsShape, description="Every limit of the wire.")
    rooms: list[RoomShape] = _key([], "The protected parts of the site; everything else is forwarded at once.")


SHAPES: Mapping[Place, type[Shape]] = {
    (): FileShape,
    ("origin_tls",): OriginTlsShape,
    ("sites", "*"): SiteShape,
    ("sites", "*", "origin_tls"): OriginTlsShape,
    ("admin",): AdminShape,
    ("ledger",): LedgerShape,
    ("limits",): LimitsShape,
    ("rooms", "*"): RoomShape,
    ("rooms", "*", "origin_tls"): OriginTlsShape,
    ("rooms", "*", "match", "*"): RuleShape,
    ("rooms", "*", "bypass", "*"): BypassShape,
    ("rooms", "*", "refresh"): RefreshShape,
    ("rooms", "*", "cookie"): CookieShape,
    ("rooms", "*", "cors"): CorsShape,
    ("rooms", "*", "events", "*"): EventShape,
    ("rooms", "*", "priority"): PriorityShape,
}
"""Which shape judges which mapping of the file."""


def schema() -> dict[str, Any]:
    """Return the JSON Schema of the file, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **FileShape.model_json_schema(),
        "title": "Waitroom configuration",
    }
