"""The process that stays: it listens, fills its posts with children, and fills each anew when its child ends.

There is a post for the keeper and one for each worker. The sockets outlive every child (``sockets.py``), so a dead or
hung one is replaced without anybody being refused; workers are not touched by the end of a keeper, and reach the next
one at the same address. The keeper is started before the workers and ended after them.

A reload first reads everything anew; what cannot be used is refused and changes nothing. Then the keeper is told, and
a whole new set of workers is started beside the old one. Only when every one of them is ready do the old ones get
their SIGTERM; if one cannot start, the new ones go and the old ones stay. So there is always a full set that serves.

A child that was never ready, and is not a replacement, ends the whole: what cannot start at all must be seen at once.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Final, get_args

from waitroom import stats
from waitroom.admin.server import AdminServer
from waitroom.channel import BROKEN, CANNOT_START, HOUSE_ENDS
from waitroom.child import Child, Role
from waitroom.errors import ConfigError, WaitroomError
from waitroom.model import Address
from waitroom.sockets import listen_for_workers
from waitroom.store.remote import RemoteStore

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from waitroom.channel import Orders

logger = logging.getLogger("waitroom.supervisor")

SILENT_S = 10.0
"""A child whose loop says nothing for so long hangs; the longest step of ours is a few hundred milliseconds."""

RESTART_S = 1.0
"""Two starts for one post are at least so far apart; the pause doubles as long as no start succeeds."""

RESTART_MAX_S = 15.0

END_WITHIN_S = 5.0
"""What a child may take to end beside ``drain_timeout``: the last tick of a worker, the last write of the keeper."""

RETIRING_SETS = 3
"""Sets of workers that may be draining at once; a further reload waits, or reloads in a row would fill the memory."""

LOOK_S = 0.05

FIXED: Final = ("listen", "store", "admin.listen", "ledger")
"""Settings that a reload cannot change: others rely on the socket, and the record and its ledger are where they are."""

_FROM_ZERO: Final = (
    *(stats.key("child_deaths_total", role=role) for role in get_args(Role)),
    *(stats.key("reloads_total", outcome=outcome) for outcome in ("done", "refused")),
)
"""Counters that are shown from the start: to Prometheus, one that first appears at 1 has not increased."""


@dataclass(slots=True, eq=False)
class Post:
    """A place that is always filled. ``pause_s`` is the least time between two starts; 0 until one has succeeded."""

    orders: Orders
    child: Child
    pause_s: float = 0.0


class Supervisor:
    """Runs a keeper and ``orders.settings.workers`` workers on ``public`` until told to stop.

    ``reread`` returns the orders anew for a reload, or raises ``WaitroomError``. Operators are served on ``admin``, if
    it is given. ``silent_s`` is how long a child may say nothing.
    """

    def __init__(
        self,
        orders: Orders,
        public: socket.socket,
        reread: Callable[[], Orders],
        *,
        admin: socket.socket | None = None,
        silent_s: float = SILENT_S,
    ) -> None:
        self._public = public
        self._store = listen_for_workers()
        self._orders = replace(orders, store_address=self._store.getsockname())
        self._reread = reread
        self._record = RemoteStore(self._orders.store_address)
        self._operators = admin
        self._admin: AdminServer | None = None
        self._silent_s = silent_s
        self._address = Address(*public.getsockname()[:2])  # the port that was really had, where 0 was asked for
        self._stopping = asyncio.Event()
        self._reloading = asyncio.Event()
        self._keeper: Post | None = None
        self._workers: list[Post] = []
        self._children: set[Child] = set()
        self._totals = dict.fromkeys(_FROM_ZERO, 0.0)

    @property
    def orders(self) -> Orders:
        """What holds now."""
        return self._orders

    async def run(self) -> int:
        """Return the exit code: 0 after a stop that was asked for.

        When a child could not be started at all it is 1 if the operator can mend that, and 70 if not. Raises
        ``StartError`` when operators are to be served and there is no admin token to be had.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        working, told = loop.create_task(self._work()), loop.create_task(self._stopping.wait())
        try:
            await asyncio.wait({working, told}, return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else 0
        finally:
            working.cancel()
            told.cancel()
            await asyncio.gather(working, told, return_exceptions=True)
            await self._end()

    def stop(self) -> None:
        """End all in order: no new connection, the workers' work finished, then the keeper."""
        if not self._stopping.is_set():
            logger.info("stopping: finishing what is in flight")
            self._stopping.set()

    def reload(self) -> None:
        """Read everything anew, soon. Asked again before that it is one; asked again meanwhile it is one more."""
        self._reloading.set()

    def stats(self) -> dict[str, float]:
        """Return what we and all children count, added up as ``stats`` says; those that drain are no ``children``."""
        sums = dict(self._totals)
        for child in self._children:
            stats.add(sums, child.stats)
            stats.add(sums, {stats.key("children", role=child.role): child.was_ready and not child.retiring})
        return sums

    # Filling the posts.

    async def _work(self) -> int:
        """Fill every post, and reload when asked. Return an exit code if a first child could not be started."""
        if self._operators is not None:
            self._admin = AdminServer(self._orders.settings, self._operators, self._record, self.stats)
        keeper = self._keeper = self._post("keeper", 0)
        if not await keeper.child.ready():
            return self._cannot_start(keeper.child)
        if self._admin is not None:
            await self._admin.start()
        self._workers = [self._post("worker", index) for index in range(self._orders.settings.workers)]
        first = [post.child for post in self._workers]
        if failed := await self._first_not_ready(first):
            return self._cannot_start(failed)
        logger.info("ready on %s", self._address)
        while True:
            await self._reloading.wait()
            self._reloading.clear()
            await self._reload()

    def _post(self, role: Role, index: int) -> Post:
        orders = replace(self._orders, index=index)
        return Post(orders, self._start(role, orders, first=True))

    def _start(self, role: Role, orders: Orders, *, first: bool = False) -> Child:
        sock = self._store if role == "keeper" else self._public
        child = Child(role, orders, sock, self._ended, silent_s=self._silent_s, first=first)
        self._children.add(child)
        return child

    async def _first_not_ready(self, children: list[Child]) -> Child | None:
        """Return the first child that ended without having been ready; None once all were ready."""

        async def failed(child: Child) -> Child | None:
            return None if await child.ready() else child

        for outcome in asyncio.as_completed([failed(child) for child in children]):
            if child := await outcome:
                return child
        return None

    def _cannot_start(self, child: Child) -> int:
        logger.error("%s cannot start; see above", child, extra={"reason": f"{child.role}-start"})
        return 1 if child.code == CANNOT_START else BROKEN

    def _ended(self, child: Child) -> None:
        """Keep what an ended child has counted, and fill its post anew."""
        self._children.discard(child)
        stats.add(self._totals, stats.totals(child.stats))
        post = next((post for post in (self._keeper, *self._workers) if post is not None and post.child is child), None)
        if post is None or self._stopping.is_set() or not (child.was_ready or post.pause_s):
            return
        logger.error("%s ended with %s; starting another", child, child.code, extra={"reason": f"{child.role}-died"})
        stats.add(self._totals, {stats.key("child_deaths_total", role=child.role): 1})
        loop = asyncio.get_running_loop()
        post.pause_s = RESTART_S if child.was_ready else min(2 * post.pause_s, RESTART_MAX_S)
        loop.call_later(max(0.0, child.born_s + post.pause_s - loop.time()), self._refill, post, child)

    def _refill(self, post: Post, ended: Child) -> None:
        if post.child is ended and post in (self._keeper, *self._workers) and not self._stopping.is_set():
            post.child = self._start(ended.role, post.orders)

    # Reloading.

    async def _reload(self) -> None:
        """Take the configuration and the keys that the files hold now, or say why not and stay as we are."""
        if refusal := await self._try_reload():
            logger.error("reload refused: %s; the old configuration stays", refusal, extra={"reason": "reload"})
        else:
            logger.info("reloaded, workers: %d", len(self._workers))
        stats.add(self._totals, {stats.key("reloads_total", outcome="refused" if refusal else "done"): 1})

    async def _try_reload(self) -> str:
        """Return why the reload is refused, or nothing once it is done."""
        try:
            orders = replace(self._reread(), store_address=self._orders.store_address)
        except ConfigError as error:
            for mistake in error.mistakes:
                logger.error("%s", mistake)  # noqa: TRY400 - the operator's; without a reason, so that all are written
            return f"{len(error.mistakes)} mistakes in the configuration"
        except WaitroomError as error:
            return str(error)
        except Exception:
            logger.exception("reading the configuration failed", extra={"reason": "reload"})
            return "a fault of ours; see above"
        before, after = self._orders.settings, orders.settings
        if changed := [f"`{name}`" for name in FIXED if attrgetter(name)(before) != attrgetter(name)(after)]:
            return f"{', '.join(changed)} changed, which needs a restart"
        await self._room_for_more()
        keeper = self._keeper
        assert keeper is not None
        if refusal := await keeper.child.configure(orders):
            return refusal
        keeper.orders = orders
        fresh = [self._start("worker", replace(orders, index=index)) for index in range(orders.settings.workers)]
        failed = await self._first_not_ready(fresh) or next((child for child in fresh if child.code is not None), None)
        if failed:
            for child in fresh:
                self._retire(child)
            keeper.orders = self._orders
            if refusal := await keeper.child.configure(self._orders):
                logger.error("the keeper does not go back: %s", refusal, extra={"reason": "reload"})
            return f"{failed} cannot start; see above"
        old = [post.child for post in self._workers]
        self._orders = orders
        self._workers = [Post(child.orders, child, RESTART_S) for child in fresh]
        for child in old:
            self._retire(child)
        if self._admin is not None:
            self._admin.configure(orders.settings)
        return ""

    async def _room_for_more(self) -> None:
        """Wait until not too many workers are draining."""
        most = RETIRING_SETS * len(self._workers)
        while sum(child.retiring for child in self._children) > most:  # noqa: ASYNC110 - an end is told to many
            await asyncio.sleep(LOOK_S)

    # Ending.

    def _retire(self, child: Child, number: signal.Signals = signal.SIGTERM) -> None:
        child.retire(child.orders.settings.limits.drain_timeout_s + END_WITHIN_S, number)

    async def _end(self) -> None:
        """End the workers, those that drain and those that are being started too, then the listener, the keeper."""
        self._stopping.set()
        await self._end_all("worker")
        if self._admin is not None:
            await self._admin.stop()
        await self._record.close()
        await self._end_all("keeper")
        self._store.close()

    async def _end_all(self, role: Role) -> None:
        ending = [child for child in self._children if child.role == role]
        for child in ending:
            if role == "worker":
                self._retire(child, HOUSE_ENDS)
            else:
                child.retire(END_WITHIN_S)
        self._public.close()  # by now nobody is born with it any more
        await asyncio.gather(*(child.ended() for child in ending))
