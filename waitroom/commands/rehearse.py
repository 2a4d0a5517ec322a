"""``waitroom rehearse``: a crowd against any address, before the real one comes.

Here it is asked for. What is played stands in ``crowd/rehearsal.py``, and how it is watched and told in
``crowd/staging.py``, which is loaded only when there is a rehearsal: serving has no use for a crowd.
"""

from __future__ import annotations

import argparse
from pathlib import Path

DESCRIPTION = """\
Send a crowd to a waiting room, any waiting room, and say what came of it: how long it took to get a place, to be told,
to be let in; what failed; and whether the promises of a line were kept, judged from what the visitors saw.

Each visitor opens URL as a browser does, keeps the cookies, comes back when the page says so and a little later by
chance, enters when called, stays for a while, and leaves. Each comes on a connection of its own. Nothing is bought.

It is a flood. It asks for nothing but URL, the room's own paths, and --ordinary; but it asks as often as so many people
would, and the places it takes are real: rehearse on a room that has no people in it. To an address that is neither this
machine nor in a private network nothing is sent unless you say that you operate it (--i-operate-this).
"""

EPILOG = """\
what is judged, from outside only:
  in order          nobody was called while somebody before them stood in line (not with --any-order)
  once              no number was shown to two visitors
  never lost        nobody was told of another place, or of none
  never too many    inside at once (--cap N), let in within any minute (--per-minute N)
  ghosts            the line never stood still for longer than --pause TIME while somebody stood in it; with --vanish
                    this is `claim_within`, a question of the next, and two ticks, if the pace allows for it
  everybody's turn  nobody is left in line at the end (with --until admitted)
A room that shows no numbers can be held to the last two only. With --origin-log the shop's own log is read too, a JSON
object a line with `method`, `path`, `status`, `number`, `visitor`, `admitted_at`, as the example shop writes it.

adapters:
  waitroom          this one: Waitroom-State, the number in the page, /.waitroom/ROOM/me
  cloudflare        Cloudflare's JSON: cfWaitingRoom
  generic           any other that works without script: Retry-After, Refresh or a meta refresh is the line; --marker
                    TEXT is how a page of the shop is known
  MODULE:CLASS      one of your own, with the methods of waitroom.crowd.adapters.Adapter

examples:
  waitroom rehearse http://127.0.0.1:8080/event/
  waitroom rehearse http://127.0.0.1:8080/event/ --visitors 300000 --over 60s --until joined \\
      --ordinary http://127.0.0.1:8080/ --json
  waitroom rehearse https://staging.shop.example/sale --i-operate-this --visitors 5000 --cap 200 --per-minute 600
  waitroom rehearse http://10.0.0.7/tickets --adapter generic --marker 'Add to cart' --until 5m

It ends with 0 when every request was answered and every promise judged was kept, 1 when not, 130 after Ctrl-C, with the
report of what was seen until then.
"""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "rehearse",
        help="send a crowd to a waiting room, and judge what it saw",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("url", metavar="URL", help="a page behind the waiting room")
    who = parser.add_argument_group("who comes")
    who.add_argument("--visitors", type=int, default=1_000, metavar="N", help="how many (default 1000)")
    who.add_argument("--over", default="60s", metavar="TIME", help="they come within this time (default 60s)")
    who.add_argument(
        "--until",
        default="admitted",
        metavar="WHEN",
        help="the end: `joined`, when everybody has a place; `admitted`, when nobody is in line (default); or a time",
    )
    who.add_argument("--at-most", default="10m", metavar="TIME", help="the end in any case (default 10m)")
    who.add_argument("--vanish", type=float, default=0.0, metavar="SHARE", help="of all: vanish while in line")
    who.add_argument("--idle", type=float, default=0.0, metavar="SHARE", help="of all: once come back later than told")
    who.add_argument("--visit", default="10s", metavar="TIME", help="how long a visit inside lasts (default 10s)")
    who.add_argument(
        "--jitter", type=float, metavar="SHARE", help="of the time told, added by chance (default: the page's)"
    )
    who.add_argument("--seed", type=int, default=1, metavar="N", help="of all chance (default 1)")
    beside = parser.add_argument_group("who is there besides")
    beside.add_argument("--ordinary", metavar="URL", help="a page that no room covers; its times are measured as well")
    beside.add_argument("--ordinary-rate", type=float, default=100.0, metavar="N", help="asked so often a second (100)")
    beside.add_argument("--ordinary-fresh", action="store_true", help="each on a connection of its own")
    beside.add_argument(
        "--before", default="10s", metavar="TIME", help="and for so long before the crowd (default 10s)"
    )
    room = parser.add_argument_group("the room")
    room.add_argument(
        "--adapter", default="waitroom", metavar="NAME", help="waitroom (default), cloudflare, generic, or MODULE:CLASS"
    )
    room.add_argument("--marker", default="", metavar="TEXT", help="stands in every page of the shop")
    room.add_argument("--cap", type=int, metavar="N", help="promised: never more inside")
    room.add_argument("--per-minute", type=int, metavar="N", help="promised: never more let in within a minute")
    room.add_argument(
        "--pause", metavar="TIME", help="promised: never longer without a call anybody sees, while somebody waits"
    )
    room.add_argument("--any-order", action="store_true", help="the room calls by chance; order is not judged")
    room.add_argument("--origin-log", type=Path, metavar="FILE", help="what the shop wrote down, judged too")
    how = parser.add_argument_group("how")
    how.add_argument(
        "--connections",
        choices=("own", "kept", "pooled"),
        default="own",
        help="a connection for each request (own, the default), one that a visitor keeps (kept), or a few for all "
        "questions, as behind a CDN (pooled); the first request always has its own",
    )
    how.add_argument("--keep-alive", default="60s", metavar="TIME", help="how long an idle connection is kept (60s)")
    how.add_argument("--patience", default="30s", metavar="TIME", help="how long an answer may take (default 30s)")
    how.add_argument("--insecure", action="store_true", help="do not verify certificates")
    how.add_argument("--i-operate-this", action="store_true", help="the target is mine, and I want a flood there")
    how.add_argument("--json", action="store_true", help="print one JSON object at the end")
    parser.set_defaults(run=_rehearse)


def _rehearse(options: argparse.Namespace) -> int:
    from waitroom.crowd.staging import rehearse  # noqa: PLC0415 - brings the crowd, which serving has no use for

    return rehearse(options)
