"""The few static files: read once at the start, served from memory, under a name that changes with their content.

No request ever reaches the file system, so no path can lead out of the folder, and an address may be kept for ever.
"""

from __future__ import annotations

import hashlib
import mimetypes
from dataclasses import dataclass
from typing import TYPE_CHECKING

from answers import HEADERS, Refusal
from starlette.responses import Response

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request


@dataclass(frozen=True, slots=True)
class _Asset:
    body: bytes
    media_type: str


class Assets:
    """The files of ``folder``. ``addresses`` maps each name to the address pages use."""

    def __init__(self, folder: Path) -> None:
        self.addresses: dict[str, str] = {}
        self._served: dict[str, _Asset] = {}
        for file in sorted(folder.iterdir()):
            body = file.read_bytes()
            name = f"{file.stem}.{hashlib.sha256(body).hexdigest()[:12]}{file.suffix}"
            # The C locale's table knows no SVG, so nothing is left to the machine's own.
            media_type = mimetypes.MimeTypes().guess_type(file.name)[0] or "application/octet-stream"
            self.addresses[file.name] = f"/static/{name}"
            self._served[name] = _Asset(body, media_type)

    async def serve(self, request: Request) -> Response:
        """``GET /static/{name}``."""
        asset = self._served.get(request.path_params["name"])
        if asset is None:
            raise Refusal(404, "not_found", "There is no such file.")
        headers = HEADERS | {"cache-control": "public, max-age=31536000, immutable"}
        return Response(asset.body, headers=headers, media_type=asset.media_type)
