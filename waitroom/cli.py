"""The commands: ``waitroom serve``, ``check``, ``explain``, ``status``, ``room``, ``draw``, ``ledger``, ``keys``, more.

Exit codes: 0 fine; 1 a mistake of the user's, said in one line without a traceback; 2 usage; 70 a bug of ours.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from waitroom import config, crashing, keys, logs
from waitroom.build import doubts_of_pages, pages_of
from waitroom.channel import Orders
from waitroom.commands import auditing, drawing, explain, inviting, operating, preview, rehearse
from waitroom.core.assertion import assertion_key
from waitroom.errors import ConfigError, WaitroomError
from waitroom.ledger.files import make_folder
from waitroom.sockets import listen
from waitroom.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from waitroom.model import Settings

MISTAKE = 1
BUG = 70

EPILOG = """\
examples:
  waitroom demo                                 a shop, a crowd of 2,000, and the waiting room between them
  waitroom check config/waitroom.yaml           every mistake of a configuration at once
  waitroom serve --config config/waitroom.yaml  the proxy
  waitroom explain --config FILE URL            which room a request meets, by which rule, and which shop gets it
  waitroom preview                              every page a visitor may see, in a browser
  waitroom rehearse http://127.0.0.1:8080/event/  a crowd of 1,000 against what runs there
  waitroom status --watch                       who waits, who is inside, and why it is not faster
  waitroom room launch hold                     nobody goes in for now
  waitroom keys new --config waitroom.yaml      another signing key; nobody loses a place by it
  waitroom ledger verify                        that nobody altered what was written down of who was let in
"""

KEYS = """\
Tickets and passes are signed with a key. The newest signs and every one verifies, so nobody loses a place while keys
are changed. It takes four steps:

  waitroom keys new --config FILE          puts another into the file; nothing else happens yet
  waitroom keys assertion --config FILE    if the shop verifies assertions: it is given all of these first
  kill -HUP PID                            the running proxy reads its keys anew, and signs with the new one
  waitroom keys retire ID --config FILE    when nobody carries what the old one signed; then SIGHUP again

If a key has leaked, retire it at once, with --yes: whoever waits or is inside loses the place, thieves too.

The file is the configuration's `secret_keys_file`. Keys in the environment (WAITROOM_SECRET_KEYS) go before it; they
are listed here, and changed there.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Return its exit code."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.run
    try:
        return command(options)
    except ConfigError as error:
        for mistake in error.mistakes:
            print(mistake, file=sys.stderr)
        return MISTAKE
    except WaitroomError as error:
        print(f"waitroom: {error}", file=sys.stderr)
        return MISTAKE
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone, as `head` does; that is no mistake of anybody's.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="waitroom",
        description="A waiting room in front of any shop: who comes gets a signed place in line, and is let in, in "
        "order, at the pace the shop sustains. Everything that is not part of the event passes straight through.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"waitroom {version('waitroom')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    serve = commands.add_parser(
        "serve",
        help="run the proxy",
        description="Run the proxy until SIGTERM or Ctrl-C: then no new connections are taken, what is in flight is "
        "finished within limits.drain_timeout, and the exit code is 0. SIGHUP reads configuration and keys anew and "
        "replaces the workers without failing a request; a configuration with mistakes is refused and logged, and "
        "the old one stays. `listen`, `store`, `admin.listen` and `ledger` can only be changed by a restart.",
    )
    serve.add_argument("--config", required=True, type=Path, metavar="FILE", help="the configuration, YAML")
    serve.add_argument("--workers", type=int, metavar="N", help="worker processes, instead of the file's `workers`")
    serve.add_argument("--listen", metavar="HOST:PORT", help="where to listen, instead of the file's `listen`")
    serve.add_argument(
        "--log-format", choices=("json", "text"), default="json", help="one JSON object a line (default), or text"
    )
    serve.set_defaults(run=_serve)

    check = commands.add_parser(
        "check",
        help="judge a configuration",
        description="Print OK and exit 0; or print every mistake as file:line: key: what is wrong; what would be "
        "right, and exit 1. Warnings, about what is allowed but may not do what was meant, go to stderr.",
    )
    check.add_argument("file", type=Path, metavar="FILE")
    check.set_defaults(run=_check)

    schema = commands.add_parser(
        "schema", help="print the configuration's JSON Schema, for editors", description="Print the JSON Schema."
    )
    schema.set_defaults(run=_schema)

    explain.add_to(commands)
    preview.add_to(commands)
    operating.add_to(commands)
    drawing.add_to(commands)
    auditing.add_to(commands)
    inviting.add_to(commands)
    rehearse.add_to(commands)
    _add_keys(commands)

    demo = commands.add_parser(
        "demo",
        help="show it: a shop, a crowd, and the waiting room between them",
        description="Start the example shop and the proxy in front of it, open the event, send a crowd of whom half "
        "vanish, some come back late and some cheat, and print what came of it, read from the crowd's and the shop's "
        "own logs only. Exits 0 when every promise held.",
    )
    demo.add_argument("--visitors", type=int, default=2000, metavar="N", help="how many come (default 2000)")
    demo.add_argument("--stock", type=int, default=400, metavar="N", help="units for sale (default 400)")
    demo.add_argument("--workers", type=int, default=2, metavar="N", help="worker processes (default 2)")
    demo.add_argument("--seed", type=int, default=1, metavar="N", help="of the crowd's chance (default 1)")
    demo.add_argument(
        "--exit-when-done", action="store_true", help="do not stay up afterwards for a look in the browser"
    )
    demo.add_argument("--json", action="store_true", help="print the summary as one JSON object")
    demo.add_argument(
        "--logs", type=Path, metavar="FOLDER", help="keep what everybody wrote in FOLDER (default: only if it fails)"
    )
    demo.set_defaults(run=_demo)
    return parser


def _add_keys(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "keys",
        help="list, add and retire signing keys",
        description=KEYS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def verb(
        name: str, run: Callable[[argparse.Namespace], int], words: str, more: str = ""
    ) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, help=words, description=f"{words[0].upper()}{words[1:]}.{more}")
        made.add_argument("--config", required=True, type=Path, metavar="FILE", help="the configuration, YAML")
        made.set_defaults(run=run)
        return made

    verb(
        "new",
        _keys_new,
        "put another key into the file, as the newest",
        " It signs from the next start or SIGHUP on. Where several hosts share the keys, copy the file to all of them "
        "before any is told.",
    )
    listing = verb("list", _keys_list, "show the keys by their ids, which one signs, and when they were made")
    listing.add_argument("--json", action="store_true", help="one JSON object")
    retiring = verb(
        "retire",
        _keys_retire,
        "take a key out of the file",
        " What it signed is worth nothing from the next start or SIGHUP on. Refused for the key that signs, and for "
        "one that was replaced less than the longest ticket_keep or session_duration of the rooms ago. That is counted "
        "from when the next key was made: if the proxy was told of it later, wait as much longer. Whoever has been in "
        "line since before still carries what the old key signed, so retire it when that line is over.",
    )
    retiring.add_argument("id", metavar="ID", help="as `waitroom keys list` shows it")
    retiring.add_argument("--yes", action="store_true", help="although somebody may lose their place")
    verb(
        "assertion",
        _keys_assertion,
        "print the keys by which the shop verifies Waitroom-Assertion, one a line",
        " The newest comes last. Each is derived from a signing key and makes no ticket and no pass; but whoever has "
        "one can claim to come from here, so it is for the shop alone. See docs/ORIGIN.md.",
    )


def _settings(options: argparse.Namespace) -> Settings:
    settings = config.load(options.config, os.environ)
    return config.override(settings, listen=options.listen, workers=options.workers)


def _orders(options: argparse.Namespace, *, again: bool = False) -> Orders:
    settings = _settings(options)
    secret_keys = keys.load(settings.secret_keys_file, os.environ, make=not again)
    if settings.ledger is not None and not again:
        make_folder(settings.ledger.folder)
    if again:  # what no worker could start with is refused before anybody is told of the rest
        pages_of(settings)
    return Orders(settings, secret_keys, options.log_format)


def _serve(options: argparse.Namespace) -> int:
    orders = _orders(options)
    crashing.check()
    logs.configure(options.log_format)
    with (
        listen(orders.settings.listen, "choose another with --listen") as public,
        listen(orders.settings.admin.listen, "choose another in admin.listen") as admin,
    ):
        return asyncio.run(Supervisor(orders, public, lambda: _orders(options, again=True), admin=admin).run())


def _check(options: argparse.Namespace) -> int:
    settings = config.load(options.file, os.environ)
    for warning in [*config.warnings(settings), *doubts_of_pages(settings)]:
        print(f"warning: {warning}", file=sys.stderr)
    print("OK")
    return 0


def _schema(_: argparse.Namespace) -> int:
    print(json.dumps(config.schema(), indent=2))
    return 0


def _keys_new(options: argparse.Namespace) -> int:
    file = config.load(options.config, os.environ).secret_keys_file
    key = keys.new(file, os.environ, time.time())
    print(f"{key.id} is the newest key of {file} now.")
    print("It signs once the proxy knows it: send SIGHUP to a running one. What older keys signed stays valid.")
    print("A shop that verifies assertions must know it before that: waitroom keys assertion.")
    return 0


def _keys_list(options: argparse.Namespace) -> int:
    file = config.load(options.config, os.environ).secret_keys_file
    found = keys.listed(file, os.environ)
    source = keys.ENVIRONMENT if keys.from_environment(os.environ) else str(file)
    lines = [
        {
            "id": key.id,
            "signs": key is found[-1],
            "made_at": None if key.made_s is None else keys.shown_time(key.made_s),
            "replaced_at": None if key.replaced_s is None else keys.shown_time(key.replaced_s),
        }
        for key in found
    ]
    if options.json:
        print(json.dumps({"source": source, "keys": lines}, indent=2))
        return 0
    print(
        source if lines else f"{source} does not exist yet; the first start makes it, and so does `waitroom keys new`"
    )
    for line in lines:
        end = "signs" if line["signs"] else f"verifies; replaced {line['replaced_at'] or 'at an unknown time'}"
        print(f"  {line['id']}  made {line['made_at'] or 'at an unknown time':20}  {end}")
    return 0


def _keys_retire(options: argparse.Namespace) -> int:
    settings = config.load(options.config, os.environ)
    keep_s = max((max(room.ticket_keep_s, room.session_duration_s) for room in settings.rooms), default=0.0)
    file, now_s = settings.secret_keys_file, time.time()
    key = keys.retire(file, os.environ, options.id, now_s=now_s, keep_s=keep_s, sure=options.yes)
    print(f"{key.id} is no longer in {file}.")
    print("What it signed is refused once the proxy knows: send SIGHUP to a running one.")
    print("Then take the key that begins with the same letters from a shop that verifies assertions.")
    return 0


def _keys_assertion(options: argparse.Namespace) -> int:
    file = config.load(options.config, os.environ).secret_keys_file
    for secret in keys.load(file, os.environ):
        print(assertion_key(secret))
    return 0


def _demo(options: argparse.Namespace) -> int:
    from waitroom.demo import Demo  # noqa: PLC0415 - brings the crowd's client, which serving has no use for

    return asyncio.run(
        Demo(
            visitors=options.visitors,
            stock=options.stock,
            workers=options.workers,
            seed=options.seed,
            stay=not options.exit_when_done,
            as_json=options.json,
            logs=options.logs,
        ).run()
    )


if __name__ == "__main__":
    sys.exit(main())
