"""``waitroom draw``: publish what an event's draw was made of, and check what somebody published.

The published file holds the list in order, each entry with its place, and what the order was worked out from. Checking
needs the file alone: no house, no key, no network. It recomputes everything and believes nothing, says each thing that
is not as it should be, and says what no file can prove.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import json
import sys
from array import array
from dataclasses import dataclass, field
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from waitroom.commands.operating import where, with_client
from waitroom.core import draw
from waitroom.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from waitroom.commands.client import AdminClient

FORMAT = "waitroom draw 1"
NUMBER_MAX = 2**53
SAID_MAX = 5
"""How many places that are wrong are named; the rest are counted."""

TEXT_CHARS_MAX = 80

NOT_PROVED = (
    "that the commitment was published before anybody gathered: compare it with what you noted then (--commitment)",
    "that everybody who joined is on the list: each shows it for themselves, with their receipt (--ticket)",
    "that everybody on the list is a person, and nobody has several tickets",
    "that whoever runs the line, and so knew the seed, added no joins of their own to have another digest come out",
    "that people were then called in this order",
)
"""What stays open when every place is right."""

EPILOG = """\
examples:
  waitroom draw publish launch --output noon.json     after the start: the file to put on your site
  waitroom draw verify noon.json                      by anybody, anywhere
  waitroom draw verify noon.json --commitment 9f2c…   and that it is what was promised before
  waitroom draw verify noon.json --ticket 51ab…       and where this ticket stands (`receipt` in .waitroom/launch/me)

How places follow: SHA-256 of the seed is the commitment. The digest begins as SHA-256 of five lines (`waitroom draw 1`,
the room, the event, the generation, the commitment) and becomes, with each join, SHA-256 of the digest before, the
number in eight bytes, and the ticket's hash. The lot of a number is SHA-256 of the seed, the last digest, and the
number in eight bytes; the smallest lot has place 1.
"""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "draw",
        help="publish the draw of an event, or check a published one",
        description="Publish what the order of an event was drawn from, or recompute a published order.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    publishing = verbs.add_parser(
        "publish",
        parents=[where()],
        help="write the draw of a room's event, for everybody to check",
        description="Write the list of those who gathered, the hash of each ticket, each place, and what the order was "
        "drawn from. It holds nothing by which anybody could be known or could enter. Only until the room's next "
        "event begins.",
    )
    publishing.add_argument("room", metavar="ROOM", help="the room's name")
    publishing.add_argument("--output", type=Path, metavar="FILE", help="where to write it (default: to stdout)")
    publishing.set_defaults(run=with_client(_publish))
    verifying = verbs.add_parser(
        "verify",
        help="recompute every place of a published draw",
        description="Recompute the commitment, the digest of the list and every place of a published draw. Exits 0 "
        "when all of it is right and whole, else 1 with everything that is not. Says also what it does not prove.",
    )
    verifying.add_argument("file", type=Path, metavar="FILE", help="what was published; - reads stdin")
    verifying.add_argument("--commitment", metavar="HEX", help="what was published before anybody gathered")
    verifying.add_argument("--ticket", metavar="HEX", help="a ticket's hash, from its holder's receipt")
    verifying.add_argument("--json", action="store_true", help="print one JSON object")
    verifying.set_defaults(run=_verify)


def published(drawn: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is to be published of what the admin listener states."""
    shown, lost = drawn["draw"], drawn["lost"]
    tickets, ranks = base64.b64decode(drawn["tickets"]), array("I", base64.b64decode(drawn["ranks"]))
    numbers = chain.from_iterable(range(first, last + 1) for first, last in shown["series"])
    size = draw.TICKET_BYTES
    joins = [
        [number, None if at < lost else tickets[(at - lost) * size :][:size].hex(), rank + 1]
        for at, (number, rank) in enumerate(zip(numbers, ranks, strict=True))
    ]
    named = {name: shown[name] for name in ("event", "generation", "commitment", "seed", "digest")}
    return {
        "format": FORMAT,
        "room": drawn["room"],
        **named,
        "lost": {"count": lost, "digest": drawn["lost_digest"]},
        "joins": joins,
    }


@dataclass(slots=True)
class Verdict:
    """What came of checking a file. ``wrong`` has a sentence for each thing that is not as it should be."""

    room: str
    event: str
    places: int
    wrong: list[str] = field(default_factory=list)
    place: int | None = None


def verify(stated: object, commitment: str | None = None, ticket: str | None = None) -> Verdict:
    """Judge what was published. Raises ``CommandError`` where it is no such file at all."""
    found = _read(stated)
    verdict = Verdict(found.room, found.event, len(found.joins))
    committed = hashlib.sha256(found.seed).hexdigest()
    if committed != found.commitment:
        verdict.wrong.append(f"the seed hashes to {committed}, and the file states the commitment {found.commitment}")
    if commitment is not None and commitment.strip().lower() != found.commitment:
        verdict.wrong.append(f"the commitment is {found.commitment}, and not the one you noted")
    verdict.wrong += _judge_list(found)
    verdict.wrong += _judge_places(found)
    if ticket is not None:
        places = [place for _, of, place in found.joins if of is not None and of.hex() == ticket.strip().lower()]
        verdict.place = places[0] if places else None
        if not places:
            verdict.wrong.append("no entry has the ticket that you name")
    return verdict


# -- how ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Published:
    """A file that was read: its shape is right, and nothing else is known of it."""

    room: str
    event: str
    generation: int
    commitment: str
    seed: bytes
    digest: bytes
    lost: int
    lost_digest: bytes
    joins: Sequence[tuple[int, bytes | None, int]]


def _judge_list(found: _Published) -> Iterator[str]:
    numbers = [number for number, *_ in found.joins]
    if any(later <= number for number, later in pairwise(numbers)):
        yield "the numbers on the list do not rise from each to the next"
    missing = [number for number, ticket, _ in found.joins[found.lost :] if ticket is None]
    if missing:
        yield f"{len(missing)} entries have no ticket, the first is number {missing[0]}"
    if found.lost:
        yield (
            f"the tickets of the first {found.lost} entries were lost with a record: their places follow from the "
            "digest, but who they are cannot be checked"
        )
    digest = found.lost_digest
    if not found.lost:
        digest = draw.beginning(found.room, found.event, found.generation, found.commitment)
    for number, ticket, _ in found.joins[found.lost :]:
        digest = draw.written(digest, number, ticket or b"")
    if digest != found.digest:
        yield f"the list has the digest {digest.hex()}, and the file states {found.digest.hex()}"


def _judge_places(found: _Published) -> Iterator[str]:
    series = tuple((number, number) for number, *_ in found.joins)
    # By position alone, as numbers in a file need not rise: an order is dealt over what stands there.
    ranks = draw.dealt(found.seed, found.digest, series).ranks
    wrong = [
        f"number {number} has place {rank + 1}, and the file states {place}"
        for (number, _, place), rank in zip(found.joins, ranks, strict=True)
        if place != rank + 1
    ]
    yield from wrong[:SAID_MAX]
    if len(wrong) > SAID_MAX:
        yield f"so are {len(wrong) - SAID_MAX} more places of {len(found.joins)}"


def _read(stated: object) -> _Published:
    if not isinstance(stated, dict) or stated.get("format") != FORMAT:
        raise CommandError(f"this is no published draw: it does not state the format {FORMAT!r}")
    lost = stated.get("lost")
    if not isinstance(lost, dict) or not isinstance(stated.get("joins"), list):
        raise CommandError("this is no published draw: `lost` and `joins` are not what they should be")
    joins = tuple(_entry(at, entry) for at, entry in enumerate(stated["joins"], 1))
    return _Published(
        room=_text(stated, "room"),
        event=_text(stated, "event"),
        generation=_whole(stated.get("generation"), "generation"),
        commitment=_hash(stated.get("commitment"), "commitment").hex(),
        seed=_hash(stated.get("seed"), "seed"),
        digest=_hash(stated.get("digest"), "digest"),
        lost=_whole(lost.get("count"), "lost.count", most=len(joins)),
        lost_digest=_hash(lost.get("digest"), "lost.digest") if lost.get("count") else b"",
        joins=joins,
    )


def _entry(at: int, entry: object) -> tuple[int, bytes | None, int]:
    if not isinstance(entry, list) or len(entry) != 3:  # noqa: PLR2004 - number, ticket, place
        raise CommandError(f"entry {at} of `joins` is no number, ticket and place")
    number, ticket, place = entry
    name = f"entry {at} of `joins`"
    known = None if ticket is None else _hash(ticket, name, draw.TICKET_BYTES)
    return _whole(number, name), known, _whole(place, name)


def _whole(value: object, name: str, most: int = NUMBER_MAX) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise CommandError(f"{name}: {str(value)[:TEXT_CHARS_MAX]!r} is no whole number from 0 to {most}")
    return value


def _hash(value: object, name: str, size: int = draw.SEED_BYTES) -> bytes:
    try:
        found = bytes.fromhex(value) if isinstance(value, str) else b""
    except ValueError:
        found = b""
    if len(found) != size:
        raise CommandError(f"{name}: {str(value)[:TEXT_CHARS_MAX]!r} is not {2 * size} hexadecimal digits")
    return found


def _text(stated: Mapping[str, object], name: str) -> str:
    value = stated.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= TEXT_CHARS_MAX or not value.isprintable():
        raise CommandError(f"{name}: is no name")
    return value


def _publish(options: argparse.Namespace, client: AdminClient) -> None:
    drawn = client.drawn(options.room)
    try:
        found = published(drawn)
    except (LookupError, TypeError, ValueError, binascii.Error):
        raise CommandError("what answers is no admin listener of this version") from None
    joins = found.pop("joins")
    head = json.dumps(found, indent=1, ensure_ascii=False).removesuffix("\n}")
    rows = ",\n".join(map(json.dumps, joins))
    text = f'{head},\n "joins": [\n{rows}\n]}}\n'
    if options.output is None:
        print(text, end="")
        return
    try:
        options.output.write_text(text)
    except OSError as error:
        raise CommandError(f"{options.output}: cannot be written: {error.strerror}") from None
    if "json" in options:
        print(json.dumps({"room": found["room"], "event": found["event"], "places": len(joins)}))
    else:
        print(f"{len(joins):,} places of event {found['event']} are in {options.output}.")


def _verify(options: argparse.Namespace) -> int:
    try:
        stated = json.loads(sys.stdin.read() if str(options.file) == "-" else options.file.read_text("utf-8"))
    except OSError as error:
        raise CommandError(f"{options.file}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise CommandError(f"{options.file}: this is no JSON") from None
    verdict = verify(stated, options.commitment, options.ticket)
    if options.json:
        facts = {"room": verdict.room, "event": verdict.event, "places": verdict.places, "place": verdict.place}
        print(json.dumps({"ok": not verdict.wrong, **facts, "wrong": verdict.wrong, "not_proved": NOT_PROVED}))
    else:
        print("\n".join(_told(verdict)))
    return 1 if verdict.wrong else 0


def _told(verdict: Verdict) -> Iterable[str]:
    yield f"{verdict.room}, event {verdict.event}: {verdict.places:,} places"
    if verdict.wrong:
        yield "This is NOT the order of a fair draw over this list, or nobody can tell:"
    else:
        yield "Every place is right: the seed has its commitment, the list its digest, and the order follows from both."
    yield from (f"  - {wrong}" for wrong in verdict.wrong)
    if verdict.place is not None:
        yield f"The ticket stands on the list, at place {verdict.place:,}."
    yield "Not proved by this:"
    yield from (f"  - {what}" for what in NOT_PROVED)
