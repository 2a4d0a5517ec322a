"""How a fresh connection to the origin comes about, when some of its addresses lead nowhere.

Addresses are tried one after the other, but not one after the other's time-out: each has a head start of
``HEAD_START_S`` before the next is tried beside it, and none once it has failed (RFC 8305). The first that is
connected, under TLS the first that has proved who it is, is taken, and the others are closed. What failed, or did not
get there with a head start, is tried last for ``SHUN_S``: only one connection in that time pays for it.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from waitroom.errors import UpstreamError, UpstreamTimeout
from waitroom.upstream import tls
from waitroom.upstream.names import Names

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from waitroom.model import Address
    from waitroom.upstream.link import Link
    from waitroom.upstream.names import Lookup, Where

    Connect = Callable[..., Awaitable[tuple[Any, Any]]]

HEAD_START_S = 0.25
"""What RFC 8305 recommends: several times what a healthy origin needs, and nothing a visitor would notice."""

SHUN_S = 30.0

SHOWN_MAX = 8
"""Addresses that an error names."""


class Dialler:
    """Makes links to ``address`` within ``limit_s``. ``made`` returns a new link that is not connected yet.

    ``lookup`` and ``connect`` stand in for the system's resolver and the loop's ``create_connection``.
    """

    def __init__(
        self,
        address: Address,
        limit_s: float,
        made: Callable[[], Link],
        *,
        lookup: Lookup | None = None,
        connect: Connect | None = None,
    ) -> None:
        self._address = address
        self._limit_s = limit_s
        self._made = made
        self._names = Names(address.host, address.port, lookup)
        self._connect = connect
        self._tls = tls.context(address.tls) if address.https else None
        self._name = (address.tls.server_name if address.tls else None) or address.host
        self._shunned: dict[Where, float] = {}

    def close(self) -> None:
        """Wait for no lookup any more."""
        self._names.close()

    async def dial(self) -> Link:
        """Return a link that is connected.

        Raises ``UpstreamError``, which says of each address that was tried why it was not.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + self._limit_s
        waiting = self._in_order(await self._names.addresses(until), loop.time())
        trying: dict[asyncio.Task[Link], Where] = {}
        failures: dict[Where, Exception] = {}
        try:
            while (waiting or trying) and (now := loop.time()) < until:
                if waiting:
                    where = waiting.pop(0)
                    trying[loop.create_task(self._try(where))] = where
                patience_s = until - now
                if waiting:
                    patience_s = min(HEAD_START_S, patience_s / (len(waiting) + 1))
                done, _ = await asyncio.wait(trying, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
                for task in [task for task in trying if task in done]:
                    error = task.exception()
                    if error is None:
                        self._shun_slower(task, trying, loop.time())
                        del trying[task]
                        return task.result()
                    if not isinstance(error, OSError):
                        raise error
                    where = trying.pop(task)
                    failures[where] = error
                    self._shunned[where] = loop.time() + SHUN_S
        finally:
            for task in trying:
                task.cancel()
                task.add_done_callback(_leave)
        for where in trying.values():
            failures[where] = TimeoutError()
            self._shunned[where] = loop.time() + SHUN_S
        raise self._failure(failures)

    def _in_order(self, found: Sequence[Where], now: float) -> list[Where]:
        """Return the addresses as they are tried: what is shunned last, and of that the longest shunned first."""
        self._shunned = {where: until for where, until in self._shunned.items() if until > now}
        return sorted(found, key=lambda where: self._shunned.get(where, 0.0)) if self._shunned else list(found)

    def _shun_slower(self, first: asyncio.Task[Link], trying: Mapping[asyncio.Task[Link], Where], now: float) -> None:
        """Shun what had a head start and was not the first all the same."""
        for task, where in trying.items():
            if task is first:
                return
            self._shunned[where] = now + SHUN_S

    async def _try(self, where: Where) -> Link:
        family, host = where
        connect = self._connect or asyncio.get_running_loop().create_connection
        _, link = await connect(
            self._made,
            host,
            self._address.port,
            family=family,
            ssl=self._tls,
            server_hostname=self._name if self._address.https else None,
        )
        return link

    def _failure(self, failures: Mapping[Where, Exception]) -> UpstreamError:
        """Return what all failures come to: TLS that fails wants mending, whatever else there is."""
        told = [f"{host}: {self._words(error)}" for (_, host), error in failures.items()]
        if len(told) > SHOWN_MAX:
            told[SHOWN_MAX:] = [f"and {len(told) - SHOWN_MAX} more addresses"]
        why = "; ".join(told)
        if any(self._is_tls(error) for error in failures.values()):
            return UpstreamError("tls", sent=False, why=why)
        if all(isinstance(error, TimeoutError) for error in failures.values()):
            return UpstreamTimeout("connect", sent=False, why=why)
        return UpstreamError("refused", sent=False, why=why)

    def _is_tls(self, error: Exception) -> bool:
        return self._address.https and tls.is_about(error)

    def _words(self, error: Exception) -> str:
        if self._is_tls(error):
            return tls.words(error, self._name)
        if isinstance(error, TimeoutError):
            return f"no connection within {self._limit_s:g} s"
        number = error.errno if isinstance(error, OSError) else None
        return os.strerror(number).lower() if number else str(error)


def _leave(task: asyncio.Task[Link]) -> None:
    """Close a connection that came about although it was given up."""
    if not task.cancelled() and task.exception() is None:
        task.result().drop()
