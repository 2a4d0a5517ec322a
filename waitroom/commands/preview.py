"""``waitroom preview``: every page a visitor may see, in a browser, before any visitor does.

The pages are those that the proxy would send, with the headers it would send, so a picture or font that the policy
blocks is blocked here too. The overview shows them at a telephone's size and without script; each opens whole.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2
import uvicorn
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from waitroom import config, resources
from waitroom.config.values import listening
from waitroom.errors import CommandError, ConfigError, Mistake, WaitroomError
from waitroom.model import Address
from waitroom.sockets import listen
from waitroom.web import samples
from waitroom.web.pages import Pages

if TYPE_CHECKING:
    import argparse

    from starlette.requests import Request

DESCRIPTION = """\
Serve every page a visitor may see, in every language, as the proxy would send it: in line, called, sold out, full, the
shop down and so on. Open the address it prints; edit the templates, and load the page again. With --config and --room
it is that room's own templates and languages. It needs no shop and no running house, and changes nothing.
"""

INDEX_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'; base-uri 'none'"


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser's."""
    preview = commands.add_parser("preview", help="see every page of a room in a browser", description=DESCRIPTION)
    preview.add_argument("--config", type=Path, metavar="FILE", help="the configuration; without it, the usual pages")
    preview.add_argument("--room", metavar="NAME", help="whose pages (default: the file's first room)")
    preview.add_argument(
        "--listen", default="127.0.0.1:8090", metavar="HOST:PORT", help="where to serve them (default 127.0.0.1:8090)"
    )
    preview.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM."""
    room, languages, own = _room(options.config, options.room)
    app = application(room, languages, own)
    try:
        address = listening(options.listen)
    except ValueError as error:
        raise ConfigError([Mistake("command line", 1, "--listen", str(error))]) from error
    with listen(address, "choose another with --listen") as sock:
        served = Address(*sock.getsockname()[:2])
        print(f"every page of {room}: http://{served}/   (Ctrl-C ends it)", flush=True)
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off"))
        asyncio.run(server.serve([sock]))
    return 0


def application(room: str, languages: tuple[str, ...] | None, own: Path | None) -> Starlette:
    """Return what serves the pages of a room; ``languages`` None: all there are. ``own``: the folder of its templates.

    Raises ``StartError`` when the templates cannot be used. They are read anew for every page that is looked at.
    """
    ours = resources.find("templates")

    def made() -> tuple[Pages, dict[str, dict[str, bytes]]]:
        pages = Pages(ours, own)
        spoken = sorted(pages.languages) if languages is None else languages
        if unknown := [language for language in spoken if language not in pages.languages]:
            known = ", ".join(sorted(pages.languages))
            raise CommandError(f"nobody translated the pages to {unknown[0]}: there are {known}")
        return pages, {language: samples.every(pages, room, language) for language in spoken}

    def overview(_: Request) -> Response:
        _pages, found = made()
        sizes = {language: {name: len(page) for name, page in named.items()} for language, named in found.items()}
        return HTMLResponse(index.render(room=room, sizes=sizes), headers={"Content-Security-Policy": INDEX_POLICY})

    def one(request: Request) -> Response:
        pages, found = made()
        name = request.path_params["name"]
        page = found.get(request.path_params["language"], {}).get(name)
        if page is None:
            return PlainTextResponse("There is no such page.\n", 404)
        policy = (pages.form_csp if name in ("form-again", "invite") else pages.csp).decode()
        headers = {"Content-Security-Policy": policy, "Referrer-Policy": "same-origin", "Cache-Control": "no-store"}
        return HTMLResponse(page, headers=headers)

    def shop(_: Request) -> Response:
        return PlainTextResponse("Here the shop would answer.\n")

    def broken(_: Request, error: Exception) -> Response:
        return PlainTextResponse(f"{error}\n", 500)

    made()
    index = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
        (ours / "preview.html").read_text("utf-8")
    )
    return Starlette(
        routes=[
            Route("/", overview),
            Route(samples.PAGE_URL, shop, methods=["GET", "POST"]),
            Route("/{language}/{name}", one),
        ],
        exception_handlers={WaitroomError: broken},
    )


def _room(file: Path | None, name: str | None) -> tuple[str, tuple[str, ...] | None, Path | None]:
    """Return the name, the languages and the templates of the room that is to be seen."""
    if file is None:
        return name or "launch", None, None
    rooms = {room.name: room for room in config.load(file, os.environ).rooms}
    if not rooms:
        raise CommandError(f"{file} has no rooms; without --config the usual pages are shown")
    if name is not None and name not in rooms:
        raise CommandError(f"{file} has no room {name}; it has {', '.join(rooms)}")
    room = rooms[name] if name is not None else next(iter(rooms.values()))
    return room.name, room.languages, room.templates
