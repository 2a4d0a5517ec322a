"""Which origin a request is for, by its Host, where one Waitroom stands before several shops.

A name goes before a wildcard, a longer wildcard before a shorter one, and ``*`` takes what is left. A host that nobody
named belongs to nobody: sending it somewhere all the same would show one shop under the name of another, and would be
a way around every room that is bound to a host.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from waitroom.model import Address, Site


class Sites:
    """The hosts of all sites, made ready. Without sites every host is served from ``origin``."""

    def __init__(self, sites: Sequence[Site], origin: Address) -> None:
        named = {host: site.origin for site in sites for host in site.hosts}
        self._rest = named.pop("*", None) if sites else origin
        self._below = {host[2:]: named[host] for host in named if host.startswith("*.")}
        self._named = {host: named[host] for host in named if not host.startswith("*.")}

    def origin(self, host: str) -> Address | None:
        """Return where the site of ``host`` is, None when no site names it.

        ``host`` is lower case, without a port or a dot at the end, as the wire made it.
        """
        if (origin := self._named.get(host)) is not None:
            return origin
        if self._below:
            _, dot, parent = host.partition(".")
            while dot:
                if (origin := self._below.get(parent)) is not None:
                    return origin
                _, dot, parent = parent.partition(".")
        return self._rest
