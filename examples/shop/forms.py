"""What a visitor asks for, read without trusting them.

The event sells one thing, one each, so a form can only agree: ``item`` and ``quantity``, both optional, must be the
launch's and 1 where they are given. The same two may come as a JSON object. Anything else is refused before it costs
anything: a body has a largest size and a longest time, a form a largest number of fields.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from answers import Refusal
from schema import LAUNCH_PRODUCT
from starlette.requests import ClientDisconnect

if TYPE_CHECKING:
    from starlette.requests import Request

BODY_BYTES_MAX = 16 * 1024
BODY_TIMEOUT_S = 10.0
FIELDS_MAX = 8

_AGREED = {"item": str(LAUNCH_PRODUCT), "quantity": "1"}


async def check_wish(request: Request) -> None:
    """Read the request's body and return if it asks for one unit of the launch; else raise ``Refusal``."""
    # The browser says when a form was sent by another site's page; nobody buys a phone by visiting a stranger's page.
    if request.headers.get("sec-fetch-site") == "cross-site":
        raise Refusal(403, "cross_site", "This form was sent by another site. Please use the one on our page.")
    body = await _body(request)
    if not body:
        return
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if kind == "application/x-www-form-urlencoded":
            fields = _form(body)
        elif kind == "application/json":
            fields = _object(body)
        else:
            raise Refusal(415, "media_type", "Send a form (application/x-www-form-urlencoded) or a JSON object.")
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "malformed", "The form could not be read.") from error
    for name, value in fields:
        if name in _AGREED and value != _AGREED[name]:
            raise Refusal(400, "not_offered", "This event sells one unit of one product to each visitor.")


def _form(body: bytes) -> list[tuple[str, str]]:
    text = body.decode("ascii")
    return parse_qsl(text, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=FIELDS_MAX)


def _object(body: bytes) -> list[tuple[str, str]]:
    def pairs(found: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
        return found

    # Pairs and not a dict: of two fields with one name, both must agree.
    value = json.loads(body, object_pairs_hook=pairs)
    if not body.lstrip().startswith(b"{"):
        raise ValueError("not an object")
    # Only text and whole numbers agree: True and 1.0 are not what "1" says.
    return [(name, str(item) if type(item) in (str, int) else repr(item)) for name, item in value]


async def _body(request: Request) -> bytes:
    # The rest of a refused body is never read, so the connection cannot carry another request.
    too_large = Refusal(413, "too_large", "The form is too large.", headers={"connection": "close"})
    declared = request.headers.get("content-length", "0")
    if not declared.isascii() or not declared.isdigit() or len(declared) > len(str(BODY_BYTES_MAX)):
        raise too_large
    if int(declared) > BODY_BYTES_MAX:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > BODY_BYTES_MAX:
                    raise too_large
    except TimeoutError as error:
        raise Refusal(408, "too_slow", "The form did not arrive in time.", headers={"connection": "close"}) from error
    except ClientDisconnect as error:
        # Nobody will read this; the number, nginx's habit, is for the log.
        raise Refusal(499, "gone", "The visitor left before the form was complete.") from error
    return bytes(body)
