"""The words that requests are compared with: rooms, hosts, paths, methods, cookies.

A request is compared in its decoded, resolved, case-folded readings. A rule that no reading can equal would protect
nothing and say nothing, so it is refused here and the form that can be met is named instead. What is wrong is raised
as ``ValueError``, whose text says what would be right.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING

from waitroom.config.values import HOST_CHARS_MAX, host_and_port, is_address, is_host, kind, network, port_number, shown
from waitroom.core.headers import is_owned
from waitroom.model import Address, SecretHeader

if TYPE_CHECKING:
    from waitroom.model import Network

_ROOM_NAME = re.compile(r"[a-z0-9-]{1,40}")
REGION_CHARS = 2
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8}){0,3}")
_METHOD = re.compile(r"[A-Z][A-Z0-9-]{0,31}")
_COOKIE_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_HEADER_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")
_SECRET_CHARS_MAX = 256
_HEADER_VALUE = re.compile(rf"[!-~]{{1,{_SECRET_CHARS_MAX}}}")
_OUR_PATH = "/.waitroom/"
_OUR_WORDS = frozenset({"health", "assets"})
"""Names that stand where a room's name would, in paths of our own."""


def room_name(value: str) -> str:
    """Return a name that may stand in our own paths."""
    if _ROOM_NAME.fullmatch(value) is None:
        raise ValueError(f"{shown(value)} is no room name; write 1 to 40 of a-z, 0-9 and -")
    if value in _OUR_WORDS:
        raise ValueError(f"{shown(value)} is a word of our own paths, {_OUR_PATH}{value}/; choose another name")
    return value


def event_name(value: str) -> str:
    """Return a name that tells one event of a room from the others."""
    if _ROOM_NAME.fullmatch(value) is None:
        raise ValueError(f"{shown(value)} is no event name; write 1 to 40 of a-z, 0-9 and -")
    return value


def host(value: str) -> str:
    """Return ``*``, a name, ``*.name``, or an IPv6 address in brackets and in its one spelling."""
    if value == "*":
        return value
    if value.startswith("[") and value.endswith("]"):
        return f"[{host_and_port(value, '[::1]')[0]}]"
    name = value.removeprefix("*.")
    try:
        # Bounded first: the codec's time grows with the square of the length.
        sent = name[: HOST_CHARS_MAX + 1].encode("idna").decode("ascii").lower()
    except UnicodeError:
        sent = ""
    if not is_host(sent):
        raise ValueError(f'{shown(value)} is no host; write "*", shop.example or "*.shop.example", without a port')
    if sent != name:
        raise ValueError(f"{shown(value)} is not what browsers send; write {value.removesuffix(name)}{sent}")
    return value


def server_name(value: str) -> str:
    """Return a name, or an address, that a certificate can be for; in lower case, as names are compared."""
    if not (is_host(value) or (is_address(value) and "%" not in value)):
        raise ValueError(
            f"{shown(value)} is no server's name; write one that its certificate has, such as shop.example"
        )
    return value.lower()


def path(value: str) -> str:
    """Return a path in plain form, decoded and resolved."""
    if not value.startswith("/"):
        raise ValueError(f"{shown(value)} does not start with /; write a path such as /event/")
    if "?" in value or "#" in value:
        raise ValueError(f"{shown(value)} is more than a path; write the path alone, and pairs under `query`")
    if any(mark in value for mark in ("%", "\\", ";", "//", " ")) or {".", ".."} & set(value.split("/")):
        raise ValueError(f"{shown(value)} is not in plain form; write it decoded, without // . .. \\ ; % or spaces")
    if f"{value.lower()}/".startswith(_OUR_PATH):
        raise ValueError(f"{shown(value)} is under {_OUR_PATH}, whose paths are our own; choose a path of the site")
    return value


def calling_origin(value: object) -> str:
    """Return the origin of pages that may call a room, as browsers name it: lower case, without the usual port."""
    example = "https://app.shop.example"
    text = value.strip().lower() if isinstance(value, str) else ""
    if "*" in text:
        raise ValueError(
            f"{shown(value)} would let any page there call as the visitor; write each origin, as {example}"
        )
    if value is None or text == "null":
        raise ValueError(f"null is what every sandboxed page says it is; write an origin that is one, as {example}")
    scheme, found, rest = text.partition("://")
    if not found or scheme not in ("http", "https"):
        raise ValueError(f"{kind(value)} is no origin; write scheme, host and perhaps port, as {example}")
    if any(mark in rest for mark in "/?#@") or rest.endswith(":"):
        # Not quoted: what stands before an @ may be a password.
        raise ValueError(f"is more than scheme, host and port; write only these, as {example}")
    name, colon, after = ("", "", rest) if rest.startswith("[") else rest.partition(":")
    with suppress(UnicodeError):  # what cannot be encoded is judged as it is, and is no host
        # Bounded first: the codec's time grows with the square of the length.
        rest = name[: HOST_CHARS_MAX + 1].encode("idna").decode("ascii").lower() + colon + after
    usual = 443 if scheme == "https" else 80
    host, port = host_and_port(rest, example)
    number = port_number(port, 1, example) if port else usual
    return f"{scheme}://{Address(host, number)}".removesuffix(f":{usual}")


def method(value: str) -> str:
    """Return a method as it stands in a request."""
    if _METHOD.fullmatch(value) is None:
        hint = value.upper() if _METHOD.fullmatch(value.upper()) else "POST"
        raise ValueError(f"{shown(value)} is no method; write {hint}")
    return value


def bypass_network(value: object) -> Network:
    """Return a network of some addresses."""
    found = network(value)
    if found.prefixlen == 0:
        raise ValueError(f"{shown(value)} is every address, so everybody goes around; write some, or leave `ip` out")
    return found


def secret_header(value: object) -> SecretHeader:
    """Return the one header of a bypass. Nothing that is raised quotes its value."""
    if not isinstance(value, dict) or len(value) != 1:
        raise ValueError('is not one header; write its name and value, {X-Bypass-Key: "…"}')
    ((name, secret),) = value.items()
    if not isinstance(name, str) or _HEADER_NAME.fullmatch(name) is None:
        raise ValueError(
            f"{shown(name)} is no name for it; write letters, digits and - (some servers read _ as -), as X-Bypass-Key"
        )
    if is_owned(name.lower().encode()):
        raise ValueError(f"{shown(name)} has a meaning of its own; choose another name, such as X-Bypass-Key")
    if not isinstance(secret, str):
        raise ValueError("has a value that is not text to YAML; write it in quotes")  # noqa: TRY004 - pydantic collects ValueError only
    if _HEADER_VALUE.fullmatch(secret) is None:
        raise ValueError(f"has a value that is none; write 1 to {_SECRET_CHARS_MAX} visible ASCII characters")
    return SecretHeader(name.lower(), secret)


def one_ticket_per(value: str) -> str:
    """Return what a place belongs to: ``cookie``, or ``header:`` and a name, which is told in lower case."""
    kind, colon, name = value.partition(":")
    if value == "cookie":
        return value
    if kind != "header" or not colon or _HEADER_NAME.fullmatch(name) is None:
        raise ValueError(f"{shown(value)} is not among the choices; write cookie, or header:NAME as header:X-Member-Id")
    if is_owned(name.lower().encode()):
        raise ValueError(f"{shown(name)} has a meaning of its own; choose another name, such as X-Member-Id")
    return value.lower()


def language(value: str) -> str:
    """Return a language's tag (RFC 5646) in the usual case: ``ko``, ``pt-BR``, ``zh-Hant``."""
    if _LANGUAGE.fullmatch(value) is None:
        raise ValueError(f"{shown(value)} is no language; write its tag, such as ko, en or pt-BR")
    first, *rest = value.lower().split("-")
    return "-".join([first, *(part.upper() if len(part) == REGION_CHARS else part.title() for part in rest)])


def all_different(values: list[str]) -> list[str]:
    """Return a list in which nothing stands twice."""
    if twice := [value for place, value in enumerate(values) if value in values[:place]]:
        raise ValueError(f"{shown(twice[0])} stands twice; write it once")
    return values


def cookie_domain(value: str) -> str:
    """Return a domain that browsers let a cookie have."""
    if value.startswith("."):
        raise ValueError(f"{shown(value)} begins with a dot; write it without, such as shop.example")
    if "*" in value or "[" in value or is_address(value):
        raise ValueError(f"{shown(value)} is no domain, which is a name; write one such as shop.example, or null")
    if "." not in host(value):
        raise ValueError(
            f"{shown(value)} is no domain for a cookie: browsers refuse it; write one such as shop.example"
        )
    return value


def cookie_secure(value: object) -> str | bool:
    """Return whether a cookie is for https alone, or ``auto``."""
    if value == "auto" or isinstance(value, bool):
        return value
    raise ValueError(f"{kind(value)} is not among the choices; write auto, true or false")


def covers(domain: str, host: str) -> bool:
    """Tell whether a cookie of this domain is for a host, or for all that ``*.name`` stands for."""
    name = host.removeprefix("*.")
    return name == domain or name.endswith(f".{domain}")


def cookie_name(value: str) -> str:
    """Return a cookie's name, with ``{room}`` where the room's goes."""
    if _COOKIE_NAME.fullmatch(value.replace("{room}", "room")) is None:
        raise ValueError(
            f'{shown(value)} is no cookie name; write letters, digits, - and _, such as "waitroom_{{room}}"'
        )
    if value.lower().startswith(("__host-", "__secure-", "__http-")):
        raise ValueError(f"{shown(value)} has a prefix that is added by itself over https; write it without")
    return value
