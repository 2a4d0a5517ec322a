"""What an operator types: ``waitroom status`` and ``waitroom room``, and what becomes of it.

The verbs themselves stand in ``admin/verbs.py``. The two that cannot be taken back look first, say how many people they
touch, and ask.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from waitroom.admin.verbs import STILL, VERBS
from waitroom.commands import showing
from waitroom.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from waitroom.commands.client import AdminClient

WATCH_S = 0.5


EPILOG = """\
examples:
  waitroom room launch hold                            nobody goes in until `open`
  waitroom room launch rate 120                        120 a minute; `rate auto` goes back to the configuration
  waitroom room launch message "Payment is slow; your place is safe."
  waitroom room launch clear                           everything as configured

What is said is logged with who and when, and is kept over restarts and reloads until it is cleared.
"""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the two commands to the command line."""
    place = where()
    status = commands.add_parser(
        "status",
        parents=[place],
        help="show the rooms of a running house",
        description="Show what every room does: its state, who waits and who is inside, how many were let in in the "
        "last minute, what binds (keeps it from letting in more), and what was said over its configuration. With ROOM "
        "also the last things that were said to it, and by whom.",
    )
    status.add_argument("room", nargs="?", metavar="ROOM", help="this room only")
    status.add_argument(
        "--watch",
        action="store_true",
        help="go on twice a second: charts on a terminal, until q or Ctrl-C; elsewhere lines",
    )
    status.set_defaults(run=with_client(_status))

    room = commands.add_parser(
        "room",
        parents=[place],
        help="say something to a room: hold, open, rate N, message TEXT, …",
        description="Say something to a room of a running house.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    room.add_argument("room", metavar="NAME", help="the room's name")
    verbs = room.add_subparsers(title="verbs", metavar="VERB", dest="verb", required=True)
    for name, verb in VERBS.items():
        parser = verbs.add_parser(name, parents=[place], help=verb.help, description=verb.description)
        if verb.setting == "message":
            parser.add_argument("value", metavar="TEXT", help="what to say, one line")
        elif verb.setting:
            parser.add_argument("value", type=_people, metavar="N", help="how many, or auto: as it was before")
        if verb.asks:
            parser.add_argument("--yes", action="store_true", help="do not ask")
        if name == "reset":
            parser.add_argument("--keep-inside", action="store_true", help="let the passes run out")
        parser.set_defaults(run=with_client(_room))


def where() -> argparse.ArgumentParser:
    """Return the options that say where the house is. They may stand before the verb or after it."""
    place = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    group = place.add_argument_group("where the house is")
    group.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="its configuration, for `admin` (default: what WAITROOM_CONFIG names, or config/waitroom.yaml)",
    )
    group.add_argument("--admin", metavar="URL", help="its admin listener instead, as http://127.0.0.1:9090")
    group.add_argument("--token-file", type=Path, metavar="FILE", help="the file of the token that opens it")
    place.add_argument("--json", action="store_true", help="print JSON")
    return place


def _people(text: str) -> int | None:
    if text == "auto":
        return None
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number; write one, or auto") from None


def with_client(command: Callable[[argparse.Namespace, AdminClient], None]) -> Callable[[argparse.Namespace], int]:
    """Return what runs ``command`` with a client of the house that the options name."""

    def run(options: argparse.Namespace) -> int:
        from waitroom.commands.client import find  # noqa: PLC0415 - brings httpx, which serving has no use for

        said = vars(options)
        with find(said.get("admin"), said.get("token_file"), said.get("config")) as client:
            command(options, client)
        return 0

    return run


def _status(options: argparse.Namespace, client: AdminClient) -> None:
    as_json = "json" in options
    draw = _json_lines if as_json else _lines
    if not options.watch:
        print("\n".join(draw(options.room, client)))
        return
    with suppress(KeyboardInterrupt):
        if not as_json and sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
            from waitroom.commands import watching  # noqa: PLC0415 - needs a terminal's modules

            watching.watch(client, options.room)
        else:
            _follow(lambda headed: draw(options.room, client, headed=headed), as_json=as_json)


def _follow(draw: Callable[[bool], list[str]], *, as_json: bool) -> None:
    """Print what ``draw`` gives, line below line, again and again; also that nothing answers, which may pass."""
    lines = draw(True)  # noqa: FBT003 - its own only argument
    while True:
        print("\n".join(lines), flush=True)
        time.sleep(WATCH_S)
        try:
            lines = draw(False)  # noqa: FBT003 - the same
        except CommandError as error:
            lines = [json.dumps({"error": str(error)}, ensure_ascii=False) if as_json else str(error)]


def _lines(name: str | None, client: AdminClient, *, headed: bool = True) -> list[str]:
    if name is None:
        return showing.table(client.rooms(), headed=headed) or ["there are no rooms"]
    lines = showing.table([client.room(name)], headed=headed)
    return lines + (showing.told(client.log(name)) if headed else [])


def _json_lines(name: str | None, client: AdminClient, *, headed: bool = True) -> list[str]:  # noqa: ARG001 - as ``_lines``
    return [json.dumps({"rooms": client.rooms()} if name is None else client.room(name), ensure_ascii=False)]


def _room(options: argparse.Namespace, client: AdminClient) -> None:
    name, verb = options.room, VERBS[options.verb]
    if verb.asks and not options.yes:
        _ask(_warning(client.room(name), options))
    said = dict(verb.says)
    if verb.setting:
        said[verb.setting] = None if options.value == "" else options.value
    if options.verb == "reset" and options.keep_inside:
        said["keep_inside"] = True
    room = client.say(name, said, options.verb if verb.own else "")
    print(json.dumps(room, ensure_ascii=False) if "json" in options else "\n".join(showing.table([room])))
    if room["state"] in verb.not_in:
        raise CommandError(f"{name} {STILL[room['state']]}")


def _warning(room: Mapping[str, Any], options: argparse.Namespace) -> str:
    in_line, inside = (f"{count:,}" for count in showing.touched(room))
    if options.verb in ("passthrough", "suspend"):
        return f"{room['room']}: {in_line} in line, and everyone who comes, go in at once, past both caps"
    if options.keep_inside:
        return f"{room['room']}: {in_line} in line lose their place; {inside} inside stay until their pass runs out"
    return f"{room['room']}: {in_line} in line lose their place, and {inside} inside their pass"


def _ask(warning: str) -> None:
    """Ask on a terminal. Raises ``CommandError`` unless the answer is yes."""
    if not sys.stdin.isatty():
        raise CommandError(f"{warning}; nothing was done, because there is no terminal to ask on: say --yes")
    print(f"{warning}. Go on? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise CommandError("nothing was done")
