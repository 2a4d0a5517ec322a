"""The fast lane: what waiting visitors ask for, answered from the bytes of their request.

A waiting room is asked the same two things by everyone: its shared status, and *where do I stand*. Two such requests of
one kind of browser differ in the value of one Cookie line and in nothing else. So the lane remembers the *shape* of a
request, all its bytes but that value, once the ordinary way has read and judged one of it; a request of a known shape
is not parsed again. Its cookie's token is verified like any other, and the answer is what the same functions say, so
it is the same to the byte (``tests/web/test_lane.py``).

The lane may only ever be a shortcut. It takes a single whole request that is small and keeps its connection; at any
doubt, and where the answer would set a cookie, it returns None, and the ordinary way begins as if nothing had been. It
remembers nothing but shapes, and not without bound: when there are too many, all are forgotten.
"""

from __future__ import annotations

import logging
import math
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from waitroom.core import headers as policy
from waitroom.core.routing import OwnKind
from waitroom.upstream.framing import write_head
from waitroom.web import answers, ways
from waitroom.web.cookies import RoomCookie
from waitroom.web.passage import STATUS_LINES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from waitroom.model import Settings, VisitorState
    from waitroom.service import RoomService
    from waitroom.web.hall import Hall
    from waitroom.web.messages import Request

    Answer = Callable[[bytes | None], bytes | None]
    Shapes = dict[bytes, Answer]

log = logging.getLogger("waitroom.lane")

HEAD_BYTES_MAX = 4096
"""A browser's head is a third of that, with the cookies of a shop."""

SHAPES_MAX = 1024
"""Shapes remembered, and as many of who comes by a trusted proxy. Browsers in use make some dozens for each room; each
thousand is 4 MB at the very most."""

_SPELLINGS = (b"\r\nCookie: ", b"\r\ncookie: ")
_OTHERWISE = frozenset({b"waitroom-ticket", b"waitroom-pass", b"expect", b"transfer-encoding", b"content-length"})
"""Fields that make a request another than those the lane is for."""


class Lane:
    """The lane of one worker, for the connections of ``hall``."""

    def __init__(self, settings: Settings, services: Mapping[str, RoomService], hall: Hall) -> None:
        self._hall = hall
        self._services = services
        self._ways = ways.Ways(settings)
        self._trusted = settings.trusted_proxies
        self._cookies = {room.name: RoomCookie(room) for room in settings.rooms}
        self._longest = min(HEAD_BYTES_MAX, hall.limits.header_bytes)
        # What somebody says of https is part of a shape; whether they are believed is not.
        self._shapes: dict[bool, Shapes] = {False: {}, True: {}}
        self._is_proxy = lru_cache(maxsize=4096)(partial(policy.is_trusted, trusted=self._trusted))

    def shapes(self, peer: str) -> Shapes:
        """Return what is known of requests from such a peer as ``peer``; it grows with what is learned."""
        return self._shapes[self._is_proxy(peer)]

    def answer(self, data: bytes, shapes: Shapes) -> bytes | None:
        """Return the whole answer to ``data``, where that is one request of a known shape."""
        if len(data) > self._longest:
            return None
        shape, value = _cut(data)
        known = shapes.get(shape)
        if known is None or (value is not None and not (value.isascii() and value.decode().isprintable())):
            return None
        try:
            return known(value)
        except Exception:
            log.exception("the fast lane failed")  # the ordinary way says so to whoever asked
            return None

    def learn(self, head: bytes, request: Request) -> None:
        """Remember the shape of a request that was read in the ordinary way, if it is one for the lane."""
        if len(head) > self._longest or not head.startswith(b"GET ") or not request.target.startswith(ways.OWN):
            return
        if request.http_version != "1.1" or not request.keep_alive or not _OTHERWISE.isdisjoint(request.fields):
            return
        shape, value = _cut(head)
        shapes = self.shapes(request.peer)
        if shape in shapes:
            return  # this one asked for what is not the lane's to answer
        lines = [line for name, line in request.headers if name.lower() == b"cookie"]
        if lines != ([] if value is None else [value]):
            return  # there is another line beside the one that was cut, or it is read otherwise than cut
        way = self._ways.way(request)
        answer = self._answer(way, request) if isinstance(way, ways.Ours) else None
        if answer is None:
            return
        if len(shapes) >= SHAPES_MAX:
            shapes.clear()
        shapes[shape] = answer

    def _answer(self, way: ways.Ours, request: Request) -> Answer | None:
        own = way.own
        service = self._services.get(own.name)
        if service is None:
            return None
        if own.kind is OwnKind.NOW:
            return _Now(service, self._hall, request.fields.get(b"if-none-match"))
        if own.kind is OwnKind.ME:
            _, https = policy.client_address(request.headers, request.peer, self._trusted)
            form = self._cookies[own.name].form(request.host, https=https)
            return _Me(service, self._hall, form.name.encode(), hidden=own.hidden)
        return None


class _Now:
    """Answers who asks for the shared status: with ready bytes, made anew with every tick and every second."""

    __slots__ = ("_bytes", "_date", "_etag", "_hall", "_service", "_tag")

    def __init__(self, service: RoomService, hall: Hall, etag: bytes | None) -> None:
        self._service = service
        self._hall = hall
        self._etag = etag
        self._tag = self._date = self._bytes = b""

    def __call__(self, value: bytes | None) -> bytes:  # noqa: ARG002 - it is the same for everybody
        if self._tag is not self._service.shared_etag or self._date is not self._hall.date_line:
            self._tag, self._date = self._service.shared_etag, self._hall.date_line
            reply = answers.shared_status(self._service, self._etag)
            tail = b"%bContent-Length: %d\r\n" % (self._date, len(reply.body))
            head = write_head(STATUS_LINES[reply.status], reply.headers, tail)
            self._bytes = head if reply.status == answers.NOT_MODIFIED else head + reply.body
        return self._bytes


class _Me:
    """Answers who asks where they stand: a waiting visitor, with one good ticket in the cookie of that name."""

    __slots__ = ("_hall", "_heads", "_hidden", "_name", "_named", "_service")

    def __init__(self, service: RoomService, hall: Hall, name: bytes, *, hidden: bool) -> None:
        self._service = service
        self._hall = hall
        self._hidden = hidden
        self._name = service.room.cookie_name.encode()  # part of the cookie's name in whichever form
        self._named = name + b"="
        self._heads: dict[VisitorState, bytes] = {}

    def __call__(self, value: bytes | None) -> bytes | None:
        if value is None:
            return None
        start = value.find(self._named)
        if start < 0 or (start and value[start - 2 : start] != b"; ") or value.count(self._name) != 1:
            return None
        start += len(self._named)
        end = value.find(b";", start)
        token = value[start:] if end < 0 else value[start:end]
        service = self._service
        carried = service.read(((token.decode(), None),))
        if carried.ticket is None or carried.resign:
            return None
        told = service.told(carried, hidden=self._hidden)
        body = answers.told_body(service, told, {"receipt": service.receipt(carried)})
        head = self._heads.get(told.state)
        if head is None:
            written = write_head(STATUS_LINES[200], answers.told_headers(told.state))
            head = self._heads[told.state] = written[:-2] + b"Retry-After: %d\r\n%bContent-Length: %d\r\n\r\n%b"
        return head % (math.ceil(told.refresh_s), self._hall.date_line, len(body), body)


def _cut(data: bytes) -> tuple[bytes, bytes | None]:
    """Return a head without the value of its Cookie line, and that value; the whole head and None where it has none."""
    start = data.find(_SPELLINGS[0])
    if start < 0 and (start := data.find(_SPELLINGS[1])) < 0:
        return data, None
    start += len(_SPELLINGS[0])
    end = data.find(b"\r\n", start)
    return data[:start] + data[end:], data[start:end]
