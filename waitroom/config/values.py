"""Single values as an operator writes them: durations, sizes, rates, addresses, origins, stores, networks.

One spelling each. A bare number is refused, since ``30`` may be meant in seconds or in minutes and nothing would tell;
so is what resolvers and parsers read differently: an IPv6 address without brackets, ``127.1``, a path after an origin.
Durations become seconds, sizes bytes, rates so many a minute. What is wrong is raised as ``ValueError``, whose text
says what would be right. It ends in logs, one line each: what it quotes is cut and printable, and never a password.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import PlainValidator, WithJsonSchema

from waitroom.model import Address, Network, StoreUrl

if TYPE_CHECKING:
    from collections.abc import Mapping

SHOWN_CHARS_MAX = 60
"""As much of the operator's text as a mistake quotes."""

HOST_CHARS_MAX = 253
"""What DNS allows."""

NEAR: tuple[Network, ...] = (
    *map(IPv4Network, ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")),
    *map(IPv4Network, ("169.254.0.0/16", "100.64.0.0/10")),
    *map(IPv6Network, ("::1/128", "fc00::/7", "fe80::/10")),
)
"""Loopback, private, link-local and shared networks: where a proxy in front would have its address."""

_MAPPED = IPv6Network("::ffff:0:0/96")
_HOST_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9_-]{1,63}(?<!-))*")
_PORT_MAX = 65_535


def shown(value: object) -> str:
    """Return ``value`` in backquotes: one line, printable, not long."""
    text = str(value)
    cut = text[:SHOWN_CHARS_MAX]
    printable = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in cut)
    return f"`{printable}…`" if len(text) > SHOWN_CHARS_MAX else f"`{printable}`"


def kind(value: object) -> str:
    """Return what stands there, for a sentence that goes on with what should."""
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return f"`{str(value).lower()}`" if isinstance(value, bool) else shown(value)


_INSTANT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,9})?)?(?:Z|[+-][0-9]{2}:[0-9]{2})"
)
_INSTANTS = (946_684_800_000, 32_503_680_000_000)
"""From the year 2000 to the year 3000, in milliseconds: whatever else it is, it is a slip."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """One kind of number with a unit; the first of ``units`` is what a bare number was probably meant in."""

    noun: str
    number: str
    units: Mapping[str, float]
    example: str

    def read(self, value: object) -> float:
        """Return the number that ``value`` states; a whole one stays an ``int`` where its unit is."""
        units = list(self.units)
        if isinstance(value, int | float) and not isinstance(value, bool):
            meant = f"{value}{units[0]}" if isinstance(value, int) and value > 0 else self.example
            others = f" (or {', '.join(units[1:])})" if units[1:] else ""
            raise ValueError(f"{shown(value)} has no unit; write {meant}{others}")  # noqa: TRY004 - pydantic collects ValueError only
        matched = re.fullmatch(f"({self.number})({'|'.join(units)})", value) if isinstance(value, str) else None
        if matched is None:
            raise ValueError(
                f"{kind(value)} is no {self.noun}; write a number with {' or '.join(units)}: {self.example}"
            )
        return (float(matched[1]) if "." in matched[1] else int(matched[1])) * self.units[matched[2]]

    def between(self, least: str, most: str) -> PlainValidator:
        """Return what reads such a number and keeps it within bounds."""
        lowest, highest = self.read(least), self.read(most)

        def check(value: object) -> float:
            number = self.read(value)
            if not lowest <= number <= highest:
                raise ValueError(f"{shown(value)} is out of bounds; write {least} to {most}")
            return number

        return PlainValidator(check)

    def schema(self) -> WithJsonSchema:
        """Return what an editor may know of it."""
        return WithJsonSchema({"type": "string", "pattern": f"^{self.number}({'|'.join(self.units)})$"})


_DURATION = Quantity("duration", r"[0-9]{1,9}(?:\.[0-9]{1,6})?", {"s": 1.0, "ms": 0.001, "m": 60.0, "h": 3600.0}, "30s")
_KEEP = Quantity("duration", "[0-9]{1,5}", {"d": 86_400.0, "h": 3600.0}, "90d")
_SIZE = Quantity("size", "[0-9]{1,15}", {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}, "32KiB")
_RATE = Quantity("rate", "[0-9]{1,9}", {"/m": 1}, "60/m")

# The store counts in whole milliseconds, no wait on the wire is meant to outlast a day, and no session or memory of a
# place a month. Who wants a longer body than a TiB wants null. The rate ends where PEOPLE_MAX does.
_BOUNDED = _DURATION.between("1ms", "720h")
Timeout = Annotated[float, _DURATION.between("1ms", "24h"), _DURATION.schema()]
Duration = Annotated[float, _BOUNDED, _DURATION.schema()]
HeaderSize = Annotated[int, _SIZE.between("256B", "1MiB"), _SIZE.schema()]
Keep = Annotated[float, _KEEP.between("1h", "3650d"), _KEEP.schema()]
FileSize = Annotated[int, _SIZE.between("64KiB", "4GiB"), _SIZE.schema()]
BodySize = Annotated[int, _SIZE.between("1B", "1024GiB"), _SIZE.schema()]
Rate = Annotated[int, _RATE.between("1/m", "10000000/m"), _RATE.schema()]


def duration(text: str) -> float:
    """Return the seconds that a duration is: a command's argument, written as a setting is."""
    value: float = _BOUNDED.func(text)  # type: ignore[call-arg]
    return value


def seconds(value: float) -> str:
    """Return a duration as an operator would write it, in seconds."""
    return f"{value:.6f}".rstrip("0").rstrip(".") + "s"


def instant(value: object) -> int:
    """Return a moment, written with its offset, in milliseconds since 1970.

    Without an offset it would be another moment on every machine.
    """
    example = "2026-12-01T12:00:00+09:00"
    text = value if isinstance(value, str) else ""
    if _INSTANT.fullmatch(text) is None:
        naive = _INSTANT.fullmatch(f"{text}Z") is not None
        what = "has no offset from UTC" if naive else "is no time"
        raise ValueError(f"{kind(value)} {what}; write {f'{text}+09:00, or Z for UTC' if naive else example}")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{shown(text)} is no time there is; write {example}") from None
    milliseconds = round(moment.timestamp() * 1000)
    if not _INSTANTS[0] <= milliseconds < _INSTANTS[1]:
        raise ValueError(f"{shown(text)} is out of bounds; write a time from 2000 to 2999")
    return milliseconds


def is_host(host: str) -> bool:
    """Tell whether ``host`` is a name or an IPv4 address; an IPv6 address stands in brackets and is judged apart."""
    if not host.isascii() or len(host) > HOST_CHARS_MAX or _HOST_NAME.fullmatch(host.lower()) is None:
        return False
    # All digits at the end: a resolver reads it as an address, so it must be one, spelled in the one usual way.
    return not host.rpartition(".")[2].isdecimal() or is_address(host)


def is_address(host: str) -> bool:
    """Tell whether ``host`` is an IP address, without brackets."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def host_and_port(text: str, example: str) -> tuple[str, str]:
    """Return host, without brackets, and the text after its colon (empty when there is none)."""
    if text.startswith("["):
        inside, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"{shown(text)} has a broken IPv6 address; write {example}")
        # Python takes an interface after %, which means nothing on any other machine.
        if "%" in inside or ":" not in inside or not is_address(inside):
            raise ValueError(f"{shown(inside)} is no IPv6 address; write {example}")
        return str(IPv6Address(inside)), rest[1:]
    if text.count(":") > 1:
        raise ValueError(f"{shown(text)} has more than one colon; an IPv6 address stands in brackets, [::1]:8080")
    host, _, port = text.partition(":")
    if not is_host(host):
        raise ValueError(f"{shown(host)} is no host; write {example}")
    return host, port


def port_number(text: str, least: int, example: str) -> int:
    """Return the port that ``text`` is, from ``least`` up."""
    if not re.fullmatch(r"[0-9]{1,5}", text) or not least <= int(text) <= _PORT_MAX:
        raise ValueError(f"{shown(text)} is no port; write {least} to {_PORT_MAX}, as in {example}")
    return int(text)


def listening(value: object, example: str = "127.0.0.1:8080, or 0.0.0.0:8080 for every address") -> Address:
    """Return where we listen; port 0 lets the system choose."""
    if not isinstance(value, str):
        raise ValueError(f"{kind(value)} is no address; write host:port, such as {example}")  # noqa: TRY004 - pydantic collects ValueError only
    host, port = host_and_port(value, example)
    if not port:
        raise ValueError(f"{shown(value)} has no port; write {example}")
    return Address(host, port_number(port, 0, example))


def origin(value: object) -> Address:
    """Return where a URL of scheme, host and port leads."""
    example = "http://127.0.0.1:8000"
    text = value if isinstance(value, str) else ""
    scheme, found, rest = text.partition("://")
    if any(mark in rest for mark in "/?#") or "@" in text or text.endswith(":"):
        # Not quoted: what stands before an @ may be a password.
        raise ValueError(f"is more than scheme, host and port; write only these, such as {example}")
    if not found or scheme not in ("http", "https"):
        raise ValueError(f"{kind(value)} is no http or https URL; write {example}")
    host, port = host_and_port(rest, example)
    default = 443 if scheme == "https" else 80
    return Address(host.lower(), port_number(port, 1, example) if port else default, https=scheme == "https")


def store(value: object) -> StoreUrl:
    """Return where the record is kept; a relative path stays as it is written."""
    file = "sqlite:///var/waitroom.db"
    text = value if isinstance(value, str) else ""
    # Only what stands before the colon is quoted: a password may follow.
    scheme, colon, rest = text.partition(":")
    if text == "memory:":
        return StoreUrl()
    if colon and scheme in ("redis", "rediss", "redis+sentinel", "redis+cluster"):
        raise ValueError(f"`{scheme}:` is not built yet; write {file}")
    if not colon or scheme != "sqlite":
        what = shown(scheme + colon) if text else kind(value)
        raise ValueError(f'{what} is no store; write {file}, or "memory:", in quotes')
    path = rest.removeprefix("///")
    if "?" in rest or "#" in rest:
        raise ValueError(f"has options after its path, and takes none; write the path alone, such as {file}")
    if rest.strip("/").startswith(":memory:"):
        raise ValueError('`:memory:` would be forgotten by SQLite at every restart; write "memory:", in quotes')
    if not rest.strip("/ ") or path.endswith("/"):
        raise ValueError(f"`sqlite:` names no file; write {file}")
    if path == rest or path.startswith("//"):
        count = len(rest) - len(rest.lstrip("/"))
        raise ValueError(
            f"`sqlite:` is followed by {count or 'no'} slashes; "
            f"write three before a path relative to this file, {file}, or four before an absolute one"
        )
    return StoreUrl("sqlite", Path(path))


def network(value: object) -> Network:
    """Return the network that a CIDR, or one address, names."""
    try:
        whole = ip_network(value if isinstance(value, str) else "", strict=False)
    except ValueError:
        raise ValueError(f"{kind(value)} is no network; write a CIDR such as 192.0.2.0/24 or 2001:db8::/32") from None
    if ip_address(str(value).partition("/")[0]) != whole.network_address:
        raise ValueError(f"{shown(value)} has bits set beyond its prefix; write {whole}")
    if isinstance(whole, IPv6Network) and whole.overlaps(_MAPPED) and whole.prefixlen >= _MAPPED.prefixlen:
        # Such addresses are read as what they mean, so this would hold for nobody.
        meant = f"{whole.network_address.ipv4_mapped}/{whole.prefixlen - _MAPPED.prefixlen}"
        raise ValueError(f"{shown(value)} is IPv4 written as IPv6; write {meant}")
    return whole


def overlap(one: Network, other: Network) -> bool:
    """Tell whether two networks have an address in common."""
    if isinstance(one, IPv4Network):
        return isinstance(other, IPv4Network) and one.overlaps(other)
    return isinstance(other, IPv6Network) and one.overlaps(other)
