"""How many places one client address may take.

Tickets cost nothing to ask for, so a script can hoard them; what bounds it is the address. Each has a token bucket of
``joins_per_client``: a minute's worth at once, refilled evenly. An IPv6 client is its /64, since it may use all of
them; where IPv4 stands in IPv6, it is the IPv4 address. A loopback, private or shared peer is not limited while no
proxy is trusted: then everybody comes from that one address.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

CLIENTS_MAX = 100_000
"""Addresses remembered. Beyond it the one unheard for longest is forgotten, and so has its minute again."""

IPV6_PREFIX_BITS = 64

_SHARED = IPv4Network("100.64.0.0/10")
"""Addresses between a provider's own machines (RFC 6598): clusters and clouds have their proxies there."""

_TRANSLATED = IPv6Network("64:ff9b::/96")
"""All of IPv4 as a translator shows it (RFC 6052): one /64, and as many clients as IPv4 has."""

_6TO4 = IPv6Network("2002::/16")
_6TO4_PREFIX_BITS = 48
"""Whoever has an IPv4 address has so much of IPv6 (RFC 3056)."""


class JoinLimit:
    """Buckets of joins by client address. ``per_minute`` None ``limits`` nobody."""

    def __init__(self, per_minute: int | None, *, spare_private: bool) -> None:
        self._per_minute = per_minute
        self.limits = per_minute is not None
        self._spare_private = spare_private
        self._buckets: dict[str, tuple[float, float]] = {}

    def wait_s(self, client: str, now_s: float) -> float:
        """Take one join for ``client`` and return 0; or return in how many seconds it may take one, taking none."""
        if self._per_minute is None:
            return 0.0
        key = self._key(client)
        if key is None:
            return 0.0
        per_s = self._per_minute / 60
        left, at_s = self._buckets.pop(key, (float(self._per_minute), now_s))
        left = min(float(self._per_minute), left + (now_s - at_s) * per_s)
        wait_s = 0.0 if left >= 1 else (1 - left) / per_s
        # Put back at the end: the dictionary's order is the order in which addresses were heard.
        self._buckets[key] = (left - 1 if not wait_s else left, now_s)
        if len(self._buckets) > CLIENTS_MAX:
            del self._buckets[next(iter(self._buckets))]
        return wait_s

    def _key(self, client: str) -> str | None:
        try:
            address = ip_address(client)
        except ValueError:
            return client
        if isinstance(address, IPv6Address) and address in _TRANSLATED:
            address = IPv4Address(int(address) & 0xFFFF_FFFF)
        if self._spare_private and (address.is_private or address in _SHARED):
            return None
        if isinstance(address, IPv6Address):
            bits = _6TO4_PREFIX_BITS if address in _6TO4 else IPV6_PREFIX_BITS
            return f"{int(address) >> (128 - bits):x}/{bits}"
        return str(address)
