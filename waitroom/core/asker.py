"""Who sends a request, as far as a bypass may rely on it.

A bypass by path is judged by the target alone, which is the same for everybody. One by ``ip`` or ``header`` lets some
people around the line and keeps the others in it, so it holds only where there is no doubt: an address that somebody
speaks for counts only if the chain back to it is one of trusted proxies, and a secret only if it was said once. A peer
that speaks for another, whom nobody we trust names, is probably a proxy that the operator forgot to list: everybody
behind it would go around.

Nothing is read from a request until a rule asks for it, and then once.
"""

from __future__ import annotations

from hmac import compare_digest
from typing import TYPE_CHECKING

from waitroom.core import headers as policy
from waitroom.core.routing import Why

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from waitroom.core.headers import Client
    from waitroom.model import Network, SecretHeader


class Asker:
    """The sender of one request: its header as it stood on the wire, and the address at the socket's other end."""

    __slots__ = ("_client", "_headers", "_peer", "_trusted")

    def __init__(self, headers: Sequence[tuple[bytes, bytes]], peer: str, trusted: Collection[Network]) -> None:
        self._headers = headers
        self._peer = peer
        self._trusted = trusted
        self._client: Client | None = None

    def against(self, ip: Network | None, header: SecretHeader | None) -> Why | None:
        """Return why a bypass for these does not hold; None when it does, or asks for neither."""
        return (None if ip is None else self._against_ip(ip)) or (None if header is None else self._against(header))

    def _against_ip(self, ip: Network) -> Why | None:
        if self._client is None:
            self._client = policy.client(self._headers, self._peer, self._trusted)
        if self._client.address is None or self._client.address not in ip:
            return Why.IP
        return None if self._client.certain else Why.FOR_ANOTHER

    def _against(self, header: SecretHeader) -> Why | None:
        wanted = header.name.encode()
        said = [(name, value) for name, value in self._headers if policy.plain_name(name) == wanted]
        if not said:
            return Why.HEADER
        if len(said) > 1:
            return Why.HEADER_TWICE
        ((name, value),) = said
        # An alias is not what the operator's own machines send: see ``core/headers.py``.
        shown = name.lower() == wanted and compare_digest(value.strip(b" \t"), header.value.encode())
        return None if shown else Why.HEADER
