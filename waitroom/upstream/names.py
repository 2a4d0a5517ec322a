"""The addresses behind an origin's name, without the resolver ever being in everybody's way.

A name is looked up once at a time, however many wait for it, and what was found is used for ``FRESH_S``: a flood of
connections is no flood of lookups. While a lookup fails, or is not answered within ``PATIENCE_S``, the last addresses
that were found go on being used, for ``KEPT_S`` at most: a shop does not vanish because its resolver does.

Each lookup has a thread of its own. An event loop shares a few among all of them, and there a resolver that hangs would
keep every other origin's name from being looked up; here it costs one thread an origin.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from ipaddress import ip_address
from itertools import chain, zip_longest
from typing import Any

from waitroom.errors import UpstreamError, UpstreamTimeout

log = logging.getLogger("waitroom.upstream")

FRESH_S = 2.0
"""How long addresses are used without asking again. Short, so that a name that moves is followed; resolvers do not tell
us for how long an answer is good."""

KEPT_S = 300.0
"""How long addresses are used when nothing newer can be had. As long as an old connection may be kept."""

PATIENCE_S = 1.0
"""How long a lookup may take before older addresses are used instead, for it alone: others do not wait again."""

AGAIN_S = 1.0
"""How long after a failed lookup none is begun: nobody gains by asking a resolver that just said no."""

ADDRESSES_MAX = 32
"""Addresses of one answer that are heeded; a longer answer is a mistake, or an attack."""

Where = tuple[int, str]
"""An address family, and an address."""

Lookup = Callable[[str, int], Awaitable[Iterable[Any]]]
"""What finds addresses; takes host and port, and answers and fails as ``socket.getaddrinfo`` does."""


async def in_thread(host: str, port: int) -> Iterable[Any]:
    """Look a name up in a new thread. Cancelled, it is not waited for; the thread ends when the resolver gives up."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Iterable[Any]] = loop.create_future()

    def settle(found: Iterable[Any], error: Exception | None) -> None:
        if answer.done():
            return
        if error is None:
            answer.set_result(found)
        else:
            answer.set_exception(error)

    def run() -> None:
        found: Iterable[Any] = ()
        failure: Exception | None = None
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is raised where it is waited for
            failure = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, found, failure)

    try:
        threading.Thread(target=run, name=f"lookup {host}", daemon=True).start()
    except RuntimeError as error:
        raise OSError("there is no thread to be had") from error
    return await answer


class Names:
    """Where one ``host`` is. A host that is an address is there, and never looked up."""

    def __init__(self, host: str, port: int, lookup: Lookup | None = None) -> None:
        self._host = host
        self._port = port
        self._lookup = lookup or in_thread
        self._found: Sequence[Where] = ()
        self._fresh_until = self._kept_until = self._again_at = float("-inf")
        self._looking: asyncio.Task[None] | None = None
        self._patient_until = 0.0
        self._failure = ""
        with suppress(ValueError):
            family = socket.AF_INET6 if ip_address(host).version == 6 else socket.AF_INET  # noqa: PLR2004 - IPv6
            self._found = ((family, host),)
            self._fresh_until = float("inf")

    async def addresses(self, until: float) -> Sequence[Where]:
        """Return the addresses, the preferred first, by loop time ``until``.

        Raises ``UpstreamError`` when there are none to be had, ``UpstreamTimeout`` when nobody says in time.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        if now < self._fresh_until:
            return self._found
        if self._looking is None and now >= self._again_at:
            self._looking = loop.create_task(self._look_up(loop))
            self._patient_until = now + PATIENCE_S
        kept = self._found if now < self._kept_until else ()
        looking = self._looking
        if looking is not None:
            patient_until = min(until, self._patient_until) if kept else until
            if patient_until > now:
                await asyncio.wait((looking,), timeout=patient_until - now)
            if not looking.done():
                if not kept:
                    raise UpstreamTimeout("resolve", sent=False, why=f"looking up {self._host} takes too long")
                self._tell("takes too long")
                return kept
            looking.result()
            if loop.time() < self._fresh_until:
                return self._found
        if kept:
            return kept
        raise UpstreamError("unresolved", sent=False, why=f"looking up {self._host} fails: {self._failure}")

    def close(self) -> None:
        """Wait for no lookup any more."""
        if self._looking is not None:
            self._looking.cancel()

    async def _look_up(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            found = _alternating(await self._lookup(self._host, self._port))
            if not found:
                raise OSError("it has no address")  # noqa: TRY301 - one of the failures below
        except (OSError, UnicodeError) as error:
            self._failure = (error.strerror if isinstance(error, OSError) else None) or str(error)
            self._again_at = loop.time() + AGAIN_S
            if loop.time() < self._kept_until:
                self._tell(f"fails: {self._failure}")
        else:
            now = loop.time()
            self._found, self._fresh_until, self._kept_until = found, now + FRESH_S, now + KEPT_S
        finally:
            self._looking = None

    def _tell(self, what: str) -> None:
        log.warning(
            "looking up %s %s; the last addresses are used, for %d s at most",
            self._host,
            what,
            KEPT_S,
            extra={"reason": "origin-lookup"},
        )


def _alternating(answer: Iterable[Any]) -> Sequence[Where]:
    """Return the addresses in the resolver's order, but so that families take turns (RFC 8305, section 4).

    One of the two may lead nowhere, and whoever tries its addresses first has tried none of the other for long.
    """
    found = dict.fromkeys((family, where[0]) for family, _, _, _, where in answer if isinstance(where[0], str))
    first = next(iter(found), (0, ""))[0]
    ours = [where for where in found if where[0] == first]
    others = [where for where in found if where[0] != first]
    taking_turns = chain.from_iterable(zip_longest(ours, others))
    return [where for where in taking_turns if where is not None][:ADDRESSES_MAX]
