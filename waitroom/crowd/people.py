"""How one visitor behaves: as the waiting page does, until their kind makes them do otherwise.

The page is opened as a document, asks `me` when it was told to and a little later by chance, and enters at the turn by
opening the document again. Inside, the visitor puts the unit into the cart, orders, and leaves, most of them with a
word. What is seen on the way is written down as it is seen, and nothing is concluded from it here.
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from waitroom.checker import SILENCE_S, Seen
from waitroom.crowd.cheats import CALL, DOCUMENT, Trial, trials
from waitroom.crowd.client import Connection, Jar

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

    from waitroom.crowd.client import Answer, Headers

FETCH: Headers = {
    "Accept": "*/*",
    "Sec-Fetch-Mode": "cors",
    "Sec-Fetch-Dest": "empty",
    "Sec-Fetch-Site": "same-origin",
}
FORM: Headers = DOCUMENT | {"Sec-Fetch-Site": "same-origin", "Content-Type": "application/x-www-form-urlencoded"}
PLAIN: Headers = {"Accept": "text/html"}
"""What a browser without script or fetch metadata sends."""

EVENT = "/event/"
ENDED = ("sold_out", "closed")
ARRIVALS_MAX = 5
SERVER_ERROR = 500
TRIALS_A_POLL = 4
TOLD_MAX_S = 3600.0

_SHOWN = re.compile(rb'data-(number|ahead)="([0-9]{1,16})"')


class Kind(StrEnum):
    """What a visitor does that the page would not."""

    FAITHFUL = "faithful"
    NEVER = "never"
    """Opens the page and is gone before it asks once."""
    LEAVES = "leaves"
    """Asks a few times, then vanishes; at the latest when called."""
    VANISHES = "vanishes"
    """Vanishes when called."""
    LATE = "late"
    """Vanishes while waiting, and comes back later."""
    MISSES = "misses"
    """Lets the first turn go by, and comes back after it."""
    CHEAT = "cheat"
    """Tries to get in by other ways while waiting."""
    DOUBLE = "double"
    """Has a second tab, claims twice, orders twice."""
    PLAIN = "plain"
    """Has no script: reloads the document when told."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a crowd goes: the proxy's address, the room, and what its page does."""

    host: str
    port: int
    room: str = "launch"
    jitter: float = 0.3

    @property
    def cookie(self) -> str:
        """The name of the room's cookie."""
        return f"waitroom_{self.room}"


class Log(Protocol):
    """Where things seen go, and whose clock dates them."""

    def now_s(self) -> float:
        """Return unix seconds."""

    def saw(self, seen: Seen) -> None:
        """Write down what was seen."""


@dataclass(frozen=True, slots=True)
class Habits:
    """How long a visitor takes over things, in seconds, and how many leave without a word."""

    late_s: float = 4.0
    think_s: float = 0.6
    silent_leavers: float = 0.15


class Visitor:
    """One visitor, from arrival to leaving."""

    def __init__(self, name: str, kind: Kind, place: Place, *, habits: Habits, log: Log, chance: random.Random) -> None:
        self.name = name
        self.kind = kind
        self.place = place
        self._habits = habits
        self._log = log
        self._chance = chance
        self._jar = Jar()
        self._tab, self._second_tab, self._side = (Connection(place.host, place.port) for _ in range(3))
        self._number: int | None = None
        self._told_s = 1.0
        self._state: str | None = None
        self._claim_by_ms: int | None = None
        self._asks_left = chance.randint(1, 4) if kind in (Kind.LEAVES, Kind.LATE) else -1
        self._turns_left = 1 if kind is Kind.MISSES else 0
        self._trials: list[Trial] | None = None

    async def live(self) -> None:
        """Arrive, wait, visit, leave."""
        try:
            if await self._arrive() or await self._wait():
                await self._visit()
        finally:
            for connection in (self._tab, self._second_tab, self._side):
                connection.close()

    def time_up(self) -> None:
        """Write down that the run ended while this visitor stood in line."""
        now_s = self._log.now_s()
        self._log.saw(Seen(self.name, "time-up", now_s, now_s, number=self._number))

    # -- in line ------------------------------------------------------------------------------------------------

    async def _arrive(self) -> bool:
        """Open the event's page. Return whether that led straight in."""
        for _ in range(ARRIVALS_MAX):
            seen = await self._document()
            if seen.state == "admitted":
                return True
            if seen.number is not None:
                break
            await asyncio.sleep(self._told_s)
        if self.kind is Kind.DOUBLE:
            await self._document(self._second_tab)
        return False

    async def _wait(self) -> bool:
        """Stand in line as the page does. Return whether the shop was entered, False when this visitor gave up."""
        while self._number is not None and self.kind is not Kind.NEVER:
            await asyncio.sleep(self._told_s * self._chance.uniform(1, 1 + self.place.jitter))
            if self._asks_left == 0:
                if self.kind is Kind.LEAVES:
                    return False
                await asyncio.sleep(self._told_s + SILENCE_S + self._chance.uniform(1, 1 + self._habits.late_s))
                seen = await self._document()
            elif self.kind is Kind.PLAIN:
                seen = await self._document(headers=PLAIN)
            else:
                seen = await self._me()
            self._asks_left -= 1
            if seen.state == "admitted" and seen.what == "document":
                return True
            if seen.state in ("none", "expired", *ENDED):
                return False
            if seen.state in ("called", "missed", "admitted"):
                if self.kind in (Kind.VANISHES, Kind.LEAVES):
                    return False
                if self._turns_left and seen.state == "called":
                    self._turns_left -= 1
                    await self._let_it_go_by()
                if await self._enter():
                    return True
                if self._state in ENDED:
                    return False
            elif self.kind is Kind.CHEAT:
                await self._cheat()
        return False

    async def _let_it_go_by(self) -> None:
        """Be away until the offer has ended, and then some."""
        ends_s = (self._claim_by_ms or 0) / 1000 - self._log.now_s()
        await asyncio.sleep(max(0.0, min(ends_s, TOLD_MAX_S)) + self._chance.uniform(0.3, self._habits.late_s))

    async def _enter(self) -> bool:
        """Go in by opening the document, or, with two tabs, in both ways at once. Return whether it led in."""
        if self.kind is not Kind.DOUBLE:
            return (await self._document()).state == "admitted"
        again, first, _ = await asyncio.gather(
            self._document(), self._post("claim", "/.waitroom/{room}/claim", self._second_tab), self._side_claim()
        )
        return "admitted" in (again.state, first.state)

    async def _side_claim(self) -> Seen:
        return await self._post("claim", "/.waitroom/{room}/claim", self._side)

    async def _cheat(self) -> None:
        """Try a few other ways in, on another connection, and drop what they give."""
        if self._trials is None:
            self._trials = trials(self._chance, f"{self.name}-posing", self.place.cookie, self._jar[self.place.cookie])
        for trial in self._trials[:TRIALS_A_POLL]:
            sent_s = self._log.now_s()
            answer = await self._side.ask(trial.method, trial.target, trial.headers)
            seen = Seen(
                f"{self.name}-cheating",
                "cheat",
                sent_s,
                self._log.now_s(),
                answer.status if answer else None,
                answer.headers.get("waitroom-state") if answer else None,
                _shown(answer).get("number"),
                target=trial.target,
                posed_as=trial.posed_as,
            )
            self._log.saw(seen)
        del self._trials[:TRIALS_A_POLL]

    # -- inside -------------------------------------------------------------------------------------------------

    async def _visit(self) -> None:
        """Look, put into the cart, order; then leave, or just go."""
        await self._me()
        await self._think()
        await self._shop("cart", f"{EVENT}cart", FORM, b"item=1&quantity=1")
        await self._shop("cart", f"{EVENT}cart", DOCUMENT | {"Sec-Fetch-Site": "same-origin"})
        await self._think()
        orders = [self._order(self._tab)]
        if self.kind is Kind.DOUBLE:
            orders.append(self._order(self._second_tab))
        await asyncio.gather(*orders)
        if self._chance.random() >= self._habits.silent_leavers:
            await self._post("leave", "/.waitroom/{room}/leave", self._tab)

    async def _think(self) -> None:
        await asyncio.sleep(self._habits.think_s * self._chance.uniform(0.5, 1.5))

    async def _order(self, connection: Connection) -> None:
        await self._shop("order", f"{EVENT}order", FETCH | CALL, b"", connection)

    # -- one request --------------------------------------------------------------------------------------------

    async def _document(self, connection: Connection | None = None, headers: Headers = DOCUMENT) -> Seen:
        """Open the event's page; it shows the place in line, or the shop."""
        sent_s, answer = await self._ask(connection or self._tab, "GET", EVENT, headers)
        state = answer.headers.get("waitroom-state") if answer else None
        if answer is None or (answer.status >= SERVER_ERROR and state not in ENDED):
            return self._saw("document", sent_s, answer)
        if state is None:
            return self._saw("document", sent_s, answer, {"state": "admitted"})
        told = {"state": state, "refresh_s": _number(answer.headers.get("retry-after"))}
        return self._saw("document", sent_s, answer, told | _shown(answer))

    async def _me(self) -> Seen:
        sent_s, answer = await self._ask(self._tab, "GET", f"/.waitroom/{self.place.room}/me", FETCH)
        return self._saw("me", sent_s, answer, _object(answer))

    async def _post(self, what: str, target: str, connection: Connection) -> Seen:
        headers = FETCH | {"Origin": f"http://{self.place.host}:{self.place.port}"}
        sent_s, answer = await self._ask(connection, "POST", target.format(room=self.place.room), headers)
        return self._saw(what, sent_s, answer, _object(answer))

    async def _shop(
        self, what: str, target: str, headers: Headers, body: bytes | None = None, connection: Connection | None = None
    ) -> None:
        """Ask the shop for something; with a body it is a POST."""
        method = "GET" if body is None else "POST"
        if body is not None:
            headers = headers | {"Origin": f"http://{self.place.host}:{self.place.port}"}
        sent_s, answer = await self._ask(connection or self._tab, method, target, headers, body or b"")
        order = _object(answer).get("order") if what == "order" else None
        state = answer.headers.get("waitroom-state") if answer else None
        self._saw(what, sent_s, answer, {"state": state, "order": order})

    async def _ask(
        self, connection: Connection, method: str, target: str, headers: Headers, body: bytes = b""
    ) -> tuple[float, Answer | None]:
        sent_s = self._log.now_s()
        answer = await connection.ask(method, target, headers | self._jar.header(), body)
        if answer is not None:
            self._jar.keep(answer)
        return sent_s, answer

    def _saw(self, what: str, sent_s: float, answer: Answer | None, told: Mapping[str, Any] | None = None) -> Seen:
        """Write down one answer, and keep what the page would."""
        told = told or {}
        number = _number(told.get("number"))
        if number is None and told.get("state") == "admitted":
            number = self._number
        refresh_s = told.get("refresh_s")
        wait_s = told.get("wait_s")
        low_s, high_s = wait_s if isinstance(wait_s, list) and len(wait_s) == len(("low", "high")) else (None, None)
        seen = Seen(
            self.name,
            what,
            sent_s,
            self._log.now_s(),
            answer.status if answer else None,
            told.get("state"),
            number,
            _number(told.get("ahead")),
            min(float(refresh_s), TOLD_MAX_S) if isinstance(refresh_s, int | float) else None,
            _number(told.get("claim_by")),
            _number(told.get("pass_until")),
            told.get("order"),
            low_s=_number(low_s),
            high_s=_number(high_s),
        )
        self._log.saw(seen)
        self._number = number or self._number
        self._told_s = seen.told_s or self._told_s
        self._state = seen.state
        self._claim_by_ms = seen.claim_by_ms or self._claim_by_ms
        return seen


def _shown(answer: Answer | None) -> dict[str, int]:
    """Return the number and the people ahead that a waiting page shows."""
    return {name.decode(): int(value) for name, value in _SHOWN.findall(answer.body)} if answer else {}


def _object(answer: Answer | None) -> dict[str, Any]:
    """Return an answer's JSON object; empty for anything else."""
    try:
        found = json.loads(answer.body) if answer else {}
    except ValueError:
        found = {}
    return found if isinstance(found, dict) else {}


def _number(value: object) -> int | None:
    """Return a whole number that an answer states; None for anything else."""
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
