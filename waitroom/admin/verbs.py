"""What an operator can say to a room: one table for the command line and for the dashboard.

Every verb is a few settings said over the configuration, or ``reset``, or ``clear``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Verb:
    """One thing that can be said to a room.

    ``says`` are settings that it states as they are, ``setting`` the one whose value is typed. ``own``: it is no
    setting, but has a path of its own. ``asks``: it cannot be taken back, and so asks first. ``not_in`` are states
    that it does not lead out of, and in which it therefore does not do what its name says.
    """

    help: str
    description: str
    says: Mapping[str, Any] = field(default_factory=dict)
    setting: str = ""
    own: bool = False
    asks: bool = False
    not_in: tuple[str, ...] = ()


STILL: Mapping[str, str] = {
    "passthrough": "still lets everyone in: suspended and passthrough go before what was said; `open` ends both",
    "sold_out": "is still sold out: the shop states a stock of 0",
    "closed": "is still closed: its event has ended; give it a later end_time, or take it out of the file, and reload",
}
"""Why a verb that was said does not show, by the state that the room is in."""

VERBS: Mapping[str, Verb] = {
    "hold": Verb(
        help="let nobody in for now",
        description="Hold everyone: nobody new goes in and nobody is called. Who is inside stays inside, who waits "
        "keeps their place, and newcomers get places. `open` goes on.",
        says={"queue_all": True},
        not_in=("passthrough",),
    ),
    "open": Verb(
        help="let people in, in order",
        description="Take back hold, close, passthrough, suspended and the end of a sale, whoever said it, also where "
        "the configuration says it: the line goes on, in order unless it is `random`, under both caps. A stock of 0 "
        "that the shop states is the shop's, and stays.",
        says={"queue_all": False, "closed": False, "final": False, "suspended": False, "queueing_method": "line"},
        not_in=("sold_out", "closed"),
    ),
    "passthrough": Verb(
        help="let everyone in at once, past both caps; asks first",
        description="Let everyone in at once, those in line and everyone who comes, past both caps. Says how many are "
        "in line, and asks. `open` goes back to the line.",
        says={"queueing_method": "passthrough"},
        asks=True,
    ),
    "close": Verb(
        help="end the line",
        description="End the line: everyone in it is told that it is over, and nobody new gets a place. Who is inside "
        "stays until their pass runs out. `open` takes it back.",
        says={"closed": True},
        not_in=("passthrough",),
    ),
    "reset": Verb(
        help="forget the line and the passes, and begin anew; asks first",
        description="Forget everybody: all places and all passes end, and numbers begin again. What was said over the "
        "configuration stays. It cannot be taken back; so it says how many it touches, and asks.",
        own=True,
        asks=True,
    ),
    "clear": Verb(
        help="go back to the configuration",
        description="Take back everything that was said over the configuration of this room.",
        own=True,
    ),
    "rate": Verb(
        help="let in at most N a minute",
        description="Let in at most N people a minute, instead of the configured new_users_per_minute. `auto` goes "
        "back to the configuration.",
        setting="new_users_per_minute",
    ),
    "active": Verb(
        help="let at most N be inside",
        description="Let at most N people be inside and called, instead of the configured total_active_users. `auto` "
        "goes back to the configuration. Nobody is thrown out: with fewer than are inside, nobody is called until "
        "enough have left.",
        setting="total_active_users",
    ),
    "message": Verb(
        help="tell everybody who waits something",
        description="Show TEXT, one line, on every waiting page within seconds. An empty text takes it away.",
        setting="message",
    ),
    "stock": Verb(
        help="say what is left",
        description="Say how much is left, in the shop's place. 0 is sold out for now: nobody is called, and every "
        "place is kept. `auto` takes it back: it is not known then. What the shop says next counts again.",
        setting="stock",
    ),
    "sold-out": Verb(
        help="end the sale for good",
        description="Tell everyone in line that all is sold, for good. `open` takes it back.",
        says={"final": True},
        not_in=("passthrough",),
    ),
    "suspend": Verb(
        help="go on as if there were no room",
        description="Let everyone in at once as if there were no room. `open` goes back to the line.",
        says={"suspended": True},
        asks=True,
    ),
}
