"""Values become shapes, or sentences that say what is wrong and what would be right.

What is not built is refused by name and taken out first. What two rooms both claim is looked for in the values as they
were read, so that a mistake elsewhere hides none of these. The rest is pydantic's, whose findings are put in words an
operator can act on; an unknown key is answered with the nearest known one, or with the place where it belongs.
"""

from __future__ import annotations

import difflib
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from waitroom.config import rules, values
from waitroom.config.reading import Key, Text, key_text
from waitroom.config.shapes import NOT_BUILT, SHAPES, Around, FileShape, Place
from waitroom.config.values import SHOWN_CHARS_MAX, kind, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pydantic_core import ErrorDetails

    from waitroom.model import Address

_EXAMPLES = {
    "name": "launch",
    "match": "[{path: /event/}]",
    "path": "/event/",
    "query": '{product_no: "123"}',
    "secret_keys_file": "var/keys",
    "hosts": "[shop-b.example]",
    "origin": "http://127.0.0.1:8001",
    "token_file": "var/admin-token",
    "folder": "var/ledger",
    "languages": "[ko, en]",
    "templates": "our-pages",
    "start_time": "2026-12-01T12:00:00+09:00",
    "end_time": "2026-12-01T13:00:00+09:00",
}
"""What could stand where something must."""


def judge(text: Text, folder: Path) -> FileShape | None:
    """Return the shape of the file, which stands in ``folder``; None, and every mistake in ``text``, if it has none."""
    _drop_not_built(text.values, (), text)
    _between_rooms(text.values.get("rooms"), text)
    _between_sites(text.values.get("sites"), text)
    _around_an_unlisted_proxy(text.values, text)
    _accounts_without_a_proxy(text.values, text)
    _cookies_out_of_reach(text.values.get("rooms"), text)
    try:
        return FileShape.model_validate(text.values, context=Around(_ours(text.values), folder))
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            key: Key = detail["loc"]
            text.wrong(key, _sentence(key, detail))
    return None


def _ours(given: Mapping[str, Any]) -> Address | None:
    """Return where we listen, so that every origin can be held against it; None while that is wrong itself."""
    with suppress(ValueError):
        return values.listening(given.get("listen", FileShape.model_fields["listen"].default))
    return None


def _place(key: Key) -> Place:
    return tuple("*" if isinstance(part, int) else part for part in key)


def _drop_not_built(value: Any, key: Key, text: Text) -> None:
    """Refuse the keys of ``NOT_BUILT``, and take them out so that the shapes need not know them."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            _drop_not_built(item, (*key, index), text)
    if not isinstance(value, dict):
        return
    for name in list(value):
        here = (*key, name)
        if _place(here) not in NOT_BUILT:
            _drop_not_built(value[name], here, text)
            continue
        given, nothing = value.pop(name), NOT_BUILT[_place(here)]
        # `false` is not 0 here, although Python thinks so.
        if given != nothing or isinstance(given, bool) is not isinstance(nothing, bool):
            text.wrong(here, f"`{name}` is not built yet; remove it")


def _between_rooms(rooms: Any, text: Text) -> None:
    """Find what two rooms both claim."""
    taken: dict[object, tuple[object, Key]] = {}

    def claim(thing: object, owner: object, key: Key, what: str, remedy: str) -> None:
        first_owner, first = taken.setdefault(thing, (owner, key))
        if first_owner != owner:
            text.wrong(key, f"{what} the room of line {text.line(first)}{remedy}")

    for index, room in enumerate(rooms if isinstance(rooms, list) else []):
        if not isinstance(room, dict):
            continue
        if isinstance(name := room.get("name"), str):
            here: Key = ("rooms", index, "name")
            claim(("name", name), index, here, f"{shown(name)} names", " too; give each its own name")
            cookie, here = _cookie_of(room, name), ("rooms", index, "cookie", "name")
            # Owned by the name, since two rooms of one name have been told so already.
            claim(("cookie", cookie), name, here, f"{shown(cookie)} is the cookie of", " too; write {room} in the name")
        for place, rule in _rules_of(room.get("match")):
            here = ("rooms", index, "match", place)
            claim(rule, index, here, "the same requests belong to", "; keep one of the two")


def _between_sites(sites: Any, text: Text) -> None:
    """Find hosts that two sites name: what is sent to one can go to a single origin."""
    taken: dict[str, tuple[int, Key]] = {}
    for index, site in enumerate(sites if isinstance(sites, list) else []):
        hosts = site.get("hosts") if isinstance(site, dict) else None
        for place, host in enumerate(hosts if isinstance(hosts, list) else []):
            here: Key = ("sites", index, "hosts", place)
            with suppress(ValueError):  # no host at all; its shape says so
                owner, first = taken.setdefault(rules.host(str(host)), (index, here))
                if owner != index:
                    text.wrong(
                        here, f"{shown(host)} is a host of the site of line {text.line(first)}; keep one of the two"
                    )


def _around_an_unlisted_proxy(given: Mapping[str, Any], text: Text) -> None:
    """Find bypasses by address that would hold for everybody as soon as a proxy stands in front, and none is listed."""
    if given.get("trusted_proxies", []) != []:
        return
    rooms = given.get("rooms")
    for index, room in enumerate(rooms if isinstance(rooms, list) else []):
        bypasses = room.get("bypass") if isinstance(room, dict) else None
        for place, rule in enumerate(bypasses if isinstance(bypasses, list) else []):
            with suppress(ValueError):  # no network, or none at all; its shape says so
                ip = rules.bypass_network(rule.get("ip") if isinstance(rule, dict) else None)
                if any(values.overlap(ip, near) for near in values.NEAR):
                    text.wrong(
                        ("rooms", index, "bypass", place, "ip"),
                        f"{shown(ip)} has addresses of this machine or a network of its own, and no proxy is trusted: "
                        "behind a proxy everybody comes from there; name the proxy in `trusted_proxies`, or write "
                        "`header` instead",
                    )


def _accounts_without_a_proxy(given: Mapping[str, Any], text: Text) -> None:
    """Find rooms whose places belong to accounts while nobody is trusted to name them: nobody would get a place."""
    rooms = given.get("rooms")
    for index, room in enumerate(rooms if isinstance(rooms, list) else []):
        said = room.get("one_ticket_per") if isinstance(room, dict) else None
        if isinstance(said, str) and said.startswith("header:") and given.get("trusted_proxies", []) == []:
            text.wrong(
                ("rooms", index, "one_ticket_per"),
                f"{shown(said)} is believed from a trusted proxy only, and none is; name it in `trusted_proxies`",
            )


def _cookies_out_of_reach(rooms: Any, text: Text) -> None:
    """Find domains of cookies that a host of the room is not in: browsers refuse such a cookie there."""
    for index, room in enumerate(rooms if isinstance(rooms, list) else []):
        cookie = room.get("cookie") if isinstance(room, dict) else None
        domain = cookie.get("domain") if isinstance(cookie, dict) else None
        match = room.get("match") if isinstance(domain, str) else None
        for rule in match if isinstance(match, list) else []:
            with suppress(ValueError):  # no domain, or no host; the shapes say so
                host = rules.host(str(rule.get("host", "*")) if isinstance(rule, dict) else "*")
                if host != "*" and not rules.covers(rules.cookie_domain(str(domain)), host):
                    text.wrong(
                        ("rooms", index, "cookie", "domain"),
                        f"{shown(domain)} does not have the room's host {shown(host)} in it, where browsers would "
                        "refuse the cookie; write a domain above all hosts of the room, or null",
                    )


def _cookie_of(room: dict[str, Any], name: str) -> str:
    cookie = room.get("cookie")
    template = cookie.get("name") if isinstance(cookie, dict) else None
    return (template if isinstance(template, str) else "waitroom_{room}").replace("{room}", name)


def _rules_of(match: Any) -> Iterator[tuple[int, tuple[str, str, tuple[tuple[str, str], ...]]]]:
    for index, rule in enumerate(match if isinstance(match, list) else []):
        if isinstance(rule, dict) and isinstance(path := rule.get("path"), str):
            query = rule.get("query")
            pairs = sorted((str(name), str(value)) for name, value in query.items()) if isinstance(query, dict) else []
            # Readings of a path fold its case, so rules that differ only there are the same rule.
            yield index, (str(rule.get("host", "*")).lower(), path.lower(), tuple(pairs))


_SENTENCES: Mapping[str, str] = {
    "int_type": "{given} stands here; write a whole number, such as 200",
    "float_type": "{given} stands here; write a number, such as 0.3",
    "finite_number": "{given} stands here; write a number, such as 0.3",
    "bool_type": "{given} stands here; write true or false",
    "string_type": "{given} stands here; write text",
    "list_type": "{given} stands here; write a list, such as []",
    "dict_type": "{given} stands here; write a mapping, such as {{name: value}}",
    "model_type": "{given} stands here; write a mapping, such as {{name: value}}",
    "greater_than_equal": "{given} is too small; write {ge:.10g} or more",
    "less_than_equal": "{given} is too large; write {le:.10g} or less",
    "value_error": "{error}",
}


def _sentence(key: Key, detail: ErrorDetails) -> str:
    """Return what is wrong and what would be right."""
    name, given = str(key[-1]), detail["input"]
    match detail["type"]:
        case "extra_forbidden":
            return _unknown(key)
        case "missing":
            return f"is missing; write `{name}: {_EXAMPLES[name]}`"
        case "too_short" | "string_pattern_mismatch":
            return f"is empty; write something such as {_EXAMPLES[name]}"
        case "literal_error":
            return f"{kind(given)} is not among the choices; write {detail['ctx']['expected'].replace(chr(39), '')}"
        case "string_type" if given is not None and not isinstance(given, dict | list):
            return f'{kind(given)} is not text to YAML; write it in quotes, "{kind(given)[1:-1]}"'
    other = f"{{given}} is not accepted ({detail['type']}); see docs/CONFIG.md"
    return _SENTENCES.get(detail["type"], other).format(given=kind(given), **detail.get("ctx", {}))


def _known(place: Place) -> list[str]:
    """Return the keys that may stand at ``place``, built or not."""
    shape = SHAPES.get(place)
    built = list(shape.model_fields) if shape else []
    return built + [path[-1] for path in NOT_BUILT if path[:-1] == place]


def _unknown(key: Key) -> str:
    name, place = str(key[-1]), _place(key)[:-1]
    for other in SHAPES:
        if other != place and len(name) > 1 and name in _known(other):
            where = f"under `{key_text(other).replace('.*', '[]')}`" if other else "at the top of the file"
            if not difflib.get_close_matches(name, _known(place), 1):
                return f"is no setting here; write it {where}"
    # Comparing is quadratic in the length, and nothing this long is a slip of the finger.
    near = difflib.get_close_matches(name.lower(), _known(place), 1) if len(name) <= SHOWN_CHARS_MAX else []
    return f"is no setting; write `{near[0]}`" if near else "is no setting; remove it"
