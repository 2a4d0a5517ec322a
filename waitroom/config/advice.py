"""What is allowed, and yet worth a word before the crowd comes.

A file without mistakes may still do something else than was meant: protect the whole site, make a payment gateway
wait, believe anyone. ``waitroom check`` says so and exits 0 all the same, for each of these has its rare right use.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import TYPE_CHECKING

from waitroom.config.values import is_address, overlap

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from waitroom.model import Network, PathRule, Room, Settings, Site

_PUBLIC_SUFFIX = re.compile(r"(?:ac|co|com|edu|go|gob|gov|gouv|mil|ne|net|nom|or|org|re)\.[a-z]{2}")
"""Most of the two-part names under which registries sell, such as co.kr; nobody's shop has all hosts of one."""

_PAYMENT_WORDS = ("pay", "callback", "webhook", "notify", "notification", "ipn", "checkout")


def _is_near(host: str) -> bool:
    """Tell whether peers at ``host`` may be loopback or private."""
    return ip_address(host).is_private if is_address(host) else host.lower() == "localhost"


def _is_loopback(host: str) -> bool:
    return ip_address(host).is_loopback if is_address(host) else host.lower() == "localhost"


def _names_payment(rule: PathRule) -> bool:
    words = re.split(r"[^a-z]+", rule.path.lower())
    return any(word.startswith(_PAYMENT_WORDS) for word in words)


def warnings(settings: Settings) -> list[str]:
    """Return what ``check`` says about settings that are allowed but may not do what was meant."""
    found = []
    if any(network.prefixlen == 0 for network in settings.trusted_proxies):
        found.append("trusted_proxies: a network of every address lets anyone state any client address")
    if (
        settings.limits.joins_per_client_per_minute is not None
        and not settings.trusted_proxies
        and _is_near(settings.listen.host)
    ):
        found.append(
            "limits.joins_per_client: not applied to a loopback or private peer while no proxy is trusted; "
            "name the proxy in front in trusted_proxies, or write null",
        )
    if not _is_loopback(settings.admin.listen.host):
        found.append("admin.listen: not on loopback: whoever reaches it needs only the token; keep others out")
    for room in settings.rooms:
        around = _proxies_let_around(room, settings.trusted_proxies)
        unnamed = _unnamed_hosts(room, settings.sites)
        found += [f"rooms.{room.name}: {warning}" for warning in (*_room_warnings(room), *around, *unnamed)]
    return found


def _proxies_let_around(room: Room, proxies: Sequence[Network]) -> Iterator[str]:
    for rule in room.bypass:
        for proxy in proxies:
            if rule.ip is not None and overlap(rule.ip, proxy):
                yield (
                    f"the bypass for {rule.ip} has trusted proxies in it, {proxy}: one that sends no word of its "
                    "client lets everybody around"
                )


def _unnamed_hosts(room: Room, sites: Sequence[Site]) -> Iterator[str]:
    named = [host for site in sites for host in site.hosts]
    if not named and not any(rule.host == "*" for rule in room.match):
        yield (
            "belongs to hosts of its own, and sites is empty: with any other Host its pages are forwarded without "
            "waiting, if the shop serves them there; name the shop's hosts in sites"
        )
    for host in dict.fromkeys(rule.host for rule in room.match):
        if named and not any(_includes(host, other) or _includes(other, host) for other in named):
            yield f"{host} is a host that no site names: nobody can reach the room there"


def _includes(wide: str, host: str) -> bool:
    """Tell whether every host that ``host`` stands for is one that ``wide`` stands for."""
    return wide in ("*", host) or (wide.startswith("*.") and host.endswith(wide[1:]))


def _room_warnings(room: Room) -> Iterator[str]:
    for rule in room.match:
        if rule.path == "/" and not rule.query:
            yield "a match of / covers the whole site: ordinary shoppers wait too, and so do payment callbacks"
    if not any(_names_payment(rule) for rule in room.bypass):
        for rule in room.match:
            if _names_payment(rule):
                yield f"{rule.path} looks like a payment callback, and no bypass names one: a gateway cannot wait"
    for event in room.events:
        if event.prequeue_start_time_ms is None:
            yield (
                f"event {event.name} has no prequeue_start_time: whoever waits when it starts loses their place, for "
                "each event has a line of its own"
            )
    yield from _cookie_warnings(room)


def _cookie_warnings(room: Room) -> Iterator[str]:
    hosts, domain = {rule.host for rule in room.match}, room.cookie_domain
    if domain is None and (len(hosts) > 1 or any(host.startswith("*.") for host in hosts)):
        yield (
            "the room spans hosts, and its cookie is kept by each host alone: a visitor has a place on each; name the "
            "domain above them in cookie.domain"
        )
    if domain is not None and "*" in hosts:
        yield f"a match is for every host, and cookie.domain for those of {domain}: any other keeps a cookie of its own"
    if domain is not None and _PUBLIC_SUFFIX.fullmatch(domain):
        yield f"cookie.domain {domain} looks like one under which anybody has a name: browsers refuse such a cookie"
    if room.cookie_same_site == "strict":
        yield (
            "cookie.same_site strict: whoever follows a link from another site, a mail or a payment page shows no "
            "cookie, and gets a new place"
        )
