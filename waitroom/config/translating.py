"""A shape without mistakes becomes the frozen nouns of ``model``.

A noun calls a setting by its key, with the unit last where the key leaves it to the value: ``session_duration: 5m`` is
``session_duration_s``, 300.0. A field of a noun that no key answers is a bug, and fails at the first file.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from waitroom.model import (
    Address,
    Admin,
    LedgerFiles,
    OriginTls,
    PathRule,
    Priority,
    QueueingMethod,
    Refresh,
    Room,
    RoomEvent,
    Settings,
    Site,
    StoreUrl,
    WireLimits,
)

if TYPE_CHECKING:
    from pathlib import Path

    from waitroom.config.shapes import (
        BypassShape,
        EventShape,
        FileShape,
        LedgerShape,
        OriginTlsShape,
        RoomShape,
        RuleShape,
        Shape,
    )


def settings(shape: FileShape, folder: Path) -> Settings:
    """Return what the program runs on; relative paths of the file are relative to ``folder``."""
    path = shape.store.path
    made = {
        "origin": _origin(shape.origin, shape.origin_tls),
        "sites": tuple(Site(tuple(site.hosts), _origin(site.origin, site.origin_tls)) for site in shape.sites),
        "store": StoreUrl(shape.store.scheme, None if path is None else folder / path),
        "secret_keys_file": folder / shape.secret_keys_file,
        "trusted_proxies": tuple(shape.trusted_proxies),
        "admin": Admin(shape.admin.listen, folder / shape.admin.token_file),
        # What lives in memory is meant to leave nothing behind.
        "ledger": None if shape.ledger is None or path is None else _ledger(shape.ledger, folder),
        "limits": WireLimits(**_named(WireLimits, shape.limits)),
        "rooms": tuple(_room(room, folder) for room in shape.rooms),
    }
    return Settings(**_named(Settings, shape, **made))


def _ledger(shape: LedgerShape, folder: Path) -> LedgerFiles:
    return LedgerFiles(**_named(LedgerFiles, shape, folder=folder / shape.folder))


def _origin(address: Address, tls: OriginTlsShape) -> Address:
    known_by = OriginTls(tls.ca_file, tls.server_name)
    return address if known_by == OriginTls() else replace(address, tls=known_by)


def _room(shape: RoomShape, folder: Path) -> Room:
    made = {
        "origin": None if shape.origin is None else _origin(shape.origin, shape.origin_tls),
        "match": tuple(_rule(rule) for rule in shape.match),
        "bypass": tuple(_rule(rule) for rule in shape.bypass),
        "queueing_method": QueueingMethod(shape.queueing_method),
        "refresh": Refresh(**_named(Refresh, shape.refresh)),
        "allowed_origins": tuple(dict.fromkeys(shape.cors.allowed_origins)),
        "languages": tuple(shape.languages),
        "templates": None if shape.templates is None else folder / shape.templates,
        "events": tuple(_event(event) for event in shape.events),
        "priority": None if shape.priority is None else Priority(**_named(Priority, shape.priority)),
        "cookie_name": shape.cookie.name.replace("{room}", shape.name),
        "cookie_domain": shape.cookie.domain,
        "cookie_same_site": shape.cookie.same_site,
        "cookie_secure": None if shape.cookie.secure == "auto" else shape.cookie.secure,
    }
    return Room(**_named(Room, shape, **made))


def _event(shape: EventShape) -> RoomEvent:
    method = shape.queueing_method
    return RoomEvent(
        **_named(RoomEvent, shape, queueing_method=None if method is None else QueueingMethod(method)),
    )


def _rule(shape: RuleShape | BypassShape) -> PathRule:
    who = {name: getattr(shape, name, None) for name in ("method", "ip", "header")}
    return PathRule(shape.path or "", shape.host, tuple((shape.query or {}).items()), **who)


def _named(noun: type[Any], shape: Shape, **made: object) -> dict[str, Any]:
    """Return the shape's values, and what was made of them, under the noun's names."""
    values = dict(shape) | made
    names = {
        field.name: (field.name, *map(field.name.removesuffix, ("_s", "_ms", "_per_minute"))) for field in fields(noun)
    }
    return {name: values[next(key for key in keys if key in values)] for name, keys in names.items()}
