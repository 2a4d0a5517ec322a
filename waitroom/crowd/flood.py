"""Requests in the tens of thousands a second from one thread: plain sockets on epoll, no task and no coroutine.

A request is tried to be sent in the same breath in which its connection is opened: on loopback the handshake is over
when ``connect`` returns, so a join costs six system calls. Everything is bounded: requests under way, after which more
of them wait here, and still count from when they were due; bytes of an answer; and the time until it is there.

A port of this machine may be used once for each address at the other end, and rests for a minute. A crowd to loopback
is larger than that, so its visitors come from 127.0.0.2, 127.0.0.3 and on.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import resource
import select
import socket
import ssl
import time
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from waitroom.crowd.answers import whole
from waitroom.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable

    from waitroom.crowd.answers import Answer

RECEIVE_BYTES = 256 * 1024
FILES_BESIDE = 64
"""Descriptors left for everything that is no connection of the crowd."""

EVENTS_MAX = 256
OPENED_A_TURN = 256
"""Connections opened between two looks at those under way, so that answers do not wait for a flood of openings."""

VISITORS_A_SOURCE = 5_000
SOURCES_MAX = 200

_RESET = frozenset({errno.ECONNRESET, errno.EPIPE})


class Connections(StrEnum):
    """On which connections a crowd asks. A first visit always has one of its own."""

    OWN = "own"
    """Each request opens one, which is closed after the answer."""
    KEPT = "kept"
    """A visitor's stays open for a while after each answer, as a browser's does, and is used again."""
    POOLED = "pooled"
    """Later requests share a few that stay open, as behind a content delivery network."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go. ``sources`` are the addresses they come from; empty for the system's choice."""

    host: str
    address: tuple[str, int]
    family: socket.AddressFamily
    tls: ssl.SSLContext | None = None
    sources: tuple[str, ...] = ()

    @property
    def authority(self) -> str:
        """What stands in Host."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = self.address[1]
        return host if port == (443 if self.tls else 80) else f"{host}:{port}"

    @property
    def is_near(self) -> bool:
        """Whether it is this machine or a private network."""
        address = ipaddress.ip_address(self.address[0].partition("%")[0])
        return address.is_loopback or address.is_private or address.is_link_local


def find(scheme: str, host: str, port: int, visitors: int, *, verify: bool = True) -> Target:
    """Return the target that ``host`` names now. Raises ``CommandError``."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise CommandError(f"{host}: no address is known for this name") from None
    family, _, _, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    tls = None
    if scheme == "https":
        tls = ssl.create_default_context()
        if not verify:
            tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    sources: tuple[str, ...] = ()
    if family == socket.AF_INET and str(address[0]).startswith("127."):
        count = min(SOURCES_MAX, 1 + visitors // VISITORS_A_SOURCE)
        sources = tuple(f"127.0.0.{2 + index}" for index in range(count))
    return Target(host, (str(address[0]), int(address[1])), family, tls, sources)


def allow_files() -> int:
    """Raise the limit of open files as far as it goes; return how many connections it leaves for a crowd."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, soft - FILES_BESIDE)


class Exchange:
    """One request and what becomes of it. Instants are of the monotonic clock.

    ``due_s`` is when it should have been sent, ``sent_s`` when it was tried. ``again``: it may be sent once more if the
    connection it went over turns out to have been closed before.
    """

    __slots__ = (
        "again",
        "came",
        "due_s",
        "keep",
        "message",
        "over",
        "sent_s",
        "shaken",
        "sock",
        "to_send",
        "what",
        "who",
    )

    def __init__(self, who: int, what: int, message: bytes, due_s: float, *, keep: bool) -> None:
        self.who = who
        self.what = what
        self.message = message
        self.due_s = due_s
        self.keep = keep
        self.sent_s = 0.0
        self.came = b""
        self.to_send = message
        self.again = False
        self.shaken = True
        self.over = False
        self.sock: socket.socket | None = None


@dataclass(slots=True)
class Counts:
    """What a flood has done so far."""

    opened: int = 0
    received_bytes: int = 0
    most_under_way: int = 0
    latest_s: float = 0.0
    """By how much a request was sent too late, at most: more than a little, and the crowd itself was too slow."""
    held_back: int = 0
    """Requests that found all connections in use and waited here."""


@dataclass(slots=True)
class _Idle:
    """A connection on which nothing is asked at the moment."""

    sock: socket.socket
    until_s: float
    owner: int


class Flood:
    """Asks ``target``. Tells ``done`` of each exchange, with its answer, or with None and a word for the failure."""

    def __init__(
        self,
        target: Target,
        done: Callable[[Exchange, Answer | None, str], None],
        *,
        under_way_max: int,
        patience_s: float = 30.0,
        connections: Connections = Connections.OWN,
        keep_s: float = 60.0,
    ) -> None:
        self.counts = Counts()
        self._target = target
        self._done = done
        self._under_way_max = under_way_max
        self._patience_s = patience_s
        self._connections = connections
        self._keep_s = keep_s
        self._epoll = select.epoll()
        self._links: dict[int, Exchange | _Idle] = {}
        self._under_way = 0
        self._waiting: deque[Exchange] = deque()
        self._deadlines: deque[tuple[float, Exchange]] = deque()
        self._idle: dict[int, _Idle] = {}
        self._pool: list[_Idle] = []
        self._sources = 0
        self._buffer = bytearray(RECEIVE_BYTES)
        self._view = memoryview(self._buffer)

    @property
    def under_way(self) -> int:
        """How many requests were sent and not answered, or wait for a free connection."""
        return self._under_way + len(self._waiting)

    def ask(self, exchange: Exchange) -> None:
        """Send a request, now or as soon as a connection is free."""
        if self._under_way >= self._under_way_max:
            self.counts.held_back += 1
            self._waiting.append(exchange)
        else:
            self._start(exchange)

    def turn(self, timeout_s: float) -> None:
        """Wait up to ``timeout_s`` for something to happen, and take what has."""
        for fd, events in self._epoll.poll(max(0.0, timeout_s), EVENTS_MAX):
            link = self._links.get(fd)
            if isinstance(link, Exchange):
                self._go_on(link, events)
            elif link is not None:
                self._drop(link)  # closed by the other side while idle; anything else said unasked is no better
        now_s = time.monotonic()
        while self._deadlines and (self._deadlines[0][1].over or self._deadlines[0][0] <= now_s):
            _, exchange = self._deadlines.popleft()
            if not exchange.over:
                self._end(exchange, None, "timeout")
        if self._idle or self._pool:
            self._let_go(now_s)
        for _ in range(OPENED_A_TURN):
            if not self._waiting or self._under_way >= self._under_way_max:
                break
            self._start(self._waiting.popleft())

    def close(self) -> None:
        """Drop everything."""
        for link in list(self._links.values()):
            if link.sock is not None:
                link.sock.close()
        self._links.clear()
        self._waiting.clear()
        self._epoll.close()

    # -- one exchange -------------------------------------------------------------------------------------------

    def _start(self, exchange: Exchange) -> None:
        exchange.sent_s = now_s = time.monotonic()
        self.counts.latest_s = max(self.counts.latest_s, now_s - exchange.due_s)
        self._under_way += 1
        self.counts.most_under_way = max(self.counts.most_under_way, self._under_way)
        self._deadlines.append((now_s + self._patience_s, exchange))
        idle = self._idle_for(exchange)
        if idle is None:
            self._open(exchange)
        else:
            exchange.sock = idle.sock
            exchange.again = True
            self._links[idle.sock.fileno()] = exchange
            self._send(exchange, watched=True)

    def _open(self, exchange: Exchange) -> None:
        target = self._target
        if self._idle and len(self._links) >= self._under_way_max:
            self._drop(next(iter(self._idle.values())))
        try:
            sock = socket.socket(target.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as error:
            self._end(exchange, None, _word(error))
            return
        exchange.sock = sock
        self.counts.opened += 1
        try:
            if target.sources:
                sock.setsockopt(socket.IPPROTO_IP, _NO_PORT, 1)
                sock.bind((target.sources[self._sources], 0))
                self._sources = (self._sources + 1) % len(target.sources)
            failed = sock.connect_ex(target.address)
            if failed not in (0, errno.EINPROGRESS):
                self._end(exchange, None, _word(OSError(failed, "")))
                return
            if target.tls is not None:
                exchange.shaken = False
                sock = target.tls.wrap_socket(sock, server_hostname=target.host, do_handshake_on_connect=False)
                exchange.sock = sock
        except OSError as error:
            self._end(exchange, None, _word(error))
            return
        self._links[sock.fileno()] = exchange
        self._send(exchange, watched=False)

    def _send(self, exchange: Exchange, *, watched: bool) -> None:
        """Send what can be sent now, and watch for what comes next; ``watched``: epoll knows the connection."""
        sock = exchange.sock
        assert sock is not None
        watch = select.EPOLLIN
        try:
            if not exchange.shaken:
                sock.do_handshake()  # type: ignore[attr-defined]
                exchange.shaken = True
            exchange.to_send = exchange.to_send[sock.send(exchange.to_send) :]
            if exchange.to_send:
                watch = select.EPOLLOUT
        except ssl.SSLWantReadError:
            pass
        except (BlockingIOError, ssl.SSLWantWriteError):
            watch = select.EPOLLOUT
        except OSError as error:
            self._fail(exchange, error)
            return
        if watched:
            self._epoll.modify(sock.fileno(), watch)
        else:
            self._epoll.register(sock.fileno(), watch)

    def _go_on(self, exchange: Exchange, events: int) -> None:
        sock = exchange.sock
        assert sock is not None
        if exchange.to_send and not (events & select.EPOLLHUP and exchange.shaken):
            self._send(exchange, watched=True)
            return
        try:
            size = sock.recv_into(self._buffer)
            while isinstance(sock, ssl.SSLSocket) and sock.pending() and size < RECEIVE_BYTES:
                size += sock.recv_into(self._view[size:])
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except OSError as error:
            self._fail(exchange, error)
            return
        self.counts.received_bytes += size
        if not size and not exchange.came:
            self._fail(exchange, None)
            return
        came = bytes(self._view[:size])
        exchange.came = came = exchange.came + came if exchange.came else came
        try:
            answer = whole(came, ended=not size)
        except ValueError as error:
            self._end(exchange, None, str(error) or "garbled")
            return
        if answer is not None:
            self._end(exchange, answer, "")

    def _fail(self, exchange: Exchange, error: OSError | None) -> None:
        """End an exchange whose connection broke; on one that was used before, try once more on a new one."""
        if exchange.again and not exchange.came and (error is None or error.errno in _RESET):
            assert exchange.sock is not None
            self._links.pop(exchange.sock.fileno(), None)
            exchange.sock.close()
            exchange.again = False
            exchange.to_send = exchange.message
            self._open(exchange)
        else:
            self._end(exchange, None, "closed" if error is None else _word(error))

    def _end(self, exchange: Exchange, answer: Answer | None, failure: str) -> None:
        exchange.over = True
        self._under_way -= 1
        sock = exchange.sock
        if sock is not None:
            if answer is not None and exchange.keep and not answer.closes and not exchange.to_send:
                self._keep(exchange, sock)
            else:
                self._links.pop(sock.fileno(), None)
                sock.close()
            exchange.sock = None
        exchange.came = exchange.message = b""
        self._done(exchange, answer, failure)

    # -- connections that stay ----------------------------------------------------------------------------------

    def _idle_for(self, exchange: Exchange) -> _Idle | None:
        if self._connections is Connections.POOLED and exchange.keep:
            return self._pool.pop() if self._pool else None
        return self._idle.pop(exchange.who, None)

    def _keep(self, exchange: Exchange, sock: socket.socket) -> None:
        idle = _Idle(sock, time.monotonic() + self._keep_s, exchange.who)
        self._links[sock.fileno()] = idle
        if self._connections is Connections.POOLED:
            self._pool.append(idle)
        else:
            self._idle[exchange.who] = idle

    def _drop(self, idle: _Idle) -> None:
        self._links.pop(idle.sock.fileno(), None)
        idle.sock.close()
        if self._idle.get(idle.owner) is idle:
            del self._idle[idle.owner]
        elif idle in self._pool:
            self._pool.remove(idle)

    def _let_go(self, now_s: float) -> None:
        """Close what has been idle for long."""
        while self._idle and (first := next(iter(self._idle.values()))).until_s <= now_s:
            self._drop(first)
        while self._pool and self._pool[0].until_s <= now_s:
            self._drop(self._pool[0])


_NO_PORT = 24
"""IP_BIND_ADDRESS_NO_PORT: the port is chosen when the other end is known, so that each end has all of them."""


def _word(error: OSError) -> str:
    """Return a word for a failure, for a table of them."""
    if isinstance(error, ssl.SSLError):
        return "tls"
    return {
        errno.ECONNREFUSED: "refused",
        errno.ECONNRESET: "reset",
        errno.EPIPE: "reset",
        errno.ETIMEDOUT: "timeout",
        errno.EADDRNOTAVAIL: "no port left",
        errno.EMFILE: "no file left",
    }.get(error.errno or 0, errno.errorcode.get(error.errno or 0, "failed").lower())
