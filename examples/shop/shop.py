"""The shop's front door: ``python shop.py --help``.

Reads the command line, opens the database and the log, listens, says where, and serves until it is told to stop.
SIGTERM and SIGINT finish what is in flight and end with exit code 0; a mistake of the user's is one line and exit code
1.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import catalogue
import uvicorn
from app import create_app
from database import Database, DatabaseUnavailable
from journal import Journal
from sessions import Sessions

if TYPE_CHECKING:
    from types import FrameType

STOCK_MAX = 1_000_000
BACKLOG = 2_048
"""Connections that may wait to be accepted; a launch brings its visitors in one second."""
SHUTDOWN_TIMEOUT_S = 10
"""How long a request in flight may take to end after SIGTERM."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0}


class ShopServer(uvicorn.Server):
    """uvicorn's server, which says where it listens once it does."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept, then tell."""
        await super().startup(sockets)
        for listening in sockets or []:
            host, port = listening.getsockname()[:2]
            print(f"listening on http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)  # noqa: T201 - the one line we promise


def main() -> int:
    """Run the shop; return the exit code."""
    arguments = _parser().parse_args()
    try:
        database = Database(arguments.database, stock=arguments.stock, busy_timeout_s=arguments.busy_timeout)
    except DatabaseUnavailable as error:
        return _mistake(f"cannot use the database {arguments.database}: {error}")
    try:
        return _serve(arguments, database)
    finally:
        database.close()


def _serve(arguments: argparse.Namespace, database: Database) -> int:
    stock = asyncio.run(database.read(catalogue.stock))
    key = asyncio.run(database.read(catalogue.session_key))
    if stock.total != arguments.stock:
        _say(f"the database has {stock.left} of {stock.total} units; --stock {arguments.stock} is for a new one")
    app = create_app(database, Sessions(key), delay_s=arguments.delay, closed=arguments.closed)
    try:
        journal = Journal(app, arguments.log)
    except OSError as error:
        return _mistake(f"cannot write the log {arguments.log}: {error.strerror}")
    try:
        host, port = arguments.listen
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
        except OSError as error:
            return _mistake(f"cannot listen on {host}:{port}: {error.strerror}")
        with listening:
            _run(journal, listening)
    finally:
        journal.close()
    return 0


def _run(app: Journal, listening: socket.socket) -> None:
    server = ShopServer(
        uvicorn.Config(
            app,
            http="httptools",
            ws="none",
            lifespan="off",
            proxy_headers=False,  # nobody's X-Forwarded-For is needed here, so nobody's is believed
            server_header=False,
            access_log=False,
            log_level="error",
            backlog=BACKLOG,
            timeout_keep_alive=75,  # longer than a proxy keeps its side, so that it is the proxy that closes
            timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S,
        )
    )

    def stop(_signal: int, _frame: FrameType | None) -> None:
        server.should_exit = True

    # uvicorn, when it has ended, raises the signal once more for the handler that stood before its own: with the
    # default one the exit code would be the signal's. Ours also catches what comes before uvicorn listens to signals.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    server.run(sockets=[listening])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="shop.py",
        description="A small shop with a launch: a few units, one each, first come, first served. "
        "It is the origin that the waiting room stands in front of, and it runs alone as well.",
        epilog="""pages:
  /  /products  /products/ID      ordinary pages, which must stay fast during the event
  /stock  /health                 JSON: units left; whether the database answers
  /event/                         the launch: POST /event/cart, then POST /event/order
                                  (with "Accept: application/json": 201 and {"order", "number"}, or 409 when sold out)

example:
  python shop.py --listen 127.0.0.1:8000 --database shop.db --stock 50 --log shop.log
  curl -si -X POST -H 'Accept: application/json' http://127.0.0.1:8000/event/order

The database keeps stock and orders across restarts; delete the file to start anew.
The log has one JSON object a line for every request; README.md beside this file lists its fields.
SIGTERM and Ctrl-C finish what is in flight and end with exit code 0.""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--listen",
        type=_address,
        default=("127.0.0.1", 8000),
        metavar="HOST:PORT",
        help="where to listen; port 0 takes a free one, which is printed (default: 127.0.0.1:8000)",
    )
    parser.add_argument(
        "--database",
        type=Path,
        default=Path("shop.db"),
        metavar="FILE",
        help="the SQLite file, made when missing (default: shop.db)",
    )
    parser.add_argument(
        "--stock",
        type=_units,
        default=50,
        metavar="N",
        help="units of the launch in a new database; an existing one keeps its own (default: 50)",
    )
    parser.add_argument("--log", type=Path, metavar="FILE", help="append one JSON line a request (default: no log)")
    parser.add_argument(
        "--delay",
        type=_duration_s,
        default=0.0,
        metavar="TIME",
        help="make every page slower by this much: 20ms, 1.5s (default: 0ms)",
    )
    parser.add_argument(
        "--closed",
        action="store_true",
        help="the event has not opened: its page says so, carts and orders are refused with 403",
    )
    parser.add_argument(
        "--busy-timeout",
        type=_duration_s,
        default=5.0,
        metavar="TIME",
        help="how long a write waits for another program's lock on the database, before 503 (default: 5s)",
    )
    return parser


def _address(text: str) -> tuple[str, int]:
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]+)):([0-9]{1,5})", text, re.ASCII)
    if found is None or int(found[3]) > 65_535:  # noqa: PLR2004 - the largest port there is
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT, such as 127.0.0.1:8000 or [::1]:0")
    return found[1] or found[2], int(found[3])


def _units(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,7}", text, re.ASCII) or int(text) > STOCK_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to {STOCK_MAX:,}")
    return int(text)


def _duration_s(text: str) -> float:
    found = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)(ms|s|m)", text, re.ASCII)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration with its unit, such as 20ms, 1.5s or 1m")
    return float(found[1]) * _UNITS[found[2]]


def _say(message: str) -> None:
    print(f"shop: {message}", file=sys.stderr)  # noqa: T201 - a note to the operator


def _mistake(message: str) -> int:
    _say(message)
    return 1


if __name__ == "__main__":
    sys.exit(main())
