"""``waitroom ledger``: verify the ledger, show its last line, look something up in it.

Nothing is asked of the running house: the files are read as they stand, and with them the signing keys, from which what
seals the lines is derived.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from waitroom import config, keys
from waitroom.core.tokens import key_id
from waitroom.errors import CommandError
from waitroom.ledger import files, lines
from waitroom.ledger.files import Head, HeadNote
from waitroom.ledger.judging import NOT_PROVED, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from waitroom.ledger.judging import Verdict
    from waitroom.model import Settings

KINDS = ("opened", "closed", "admitted", "bypassed", "acted", "limits", "gap", "dropped")
ANCHOR_CHARS_MIN = 16
_ANCHOR = re.compile(r"([1-9][0-9]{0,15}):([0-9a-f]{16,64})")

LEDGER = """\
The ledger says who was let in, how many requests went around a room and by what rule, and what operators and the shop
did. Each line names the one before it and is sealed by a key of the house, so that a line that was altered, taken out,
put in or moved is found. What it proves, and what no file can, stands in docs/adr/0017-the-ledger.md.

examples:
  waitroom ledger verify                         the whole of what the configuration names, with its keys
  waitroom ledger verify --anchor 4711:9f2c…     and that nothing up to a line you noted was changed, or is missing
  waitroom ledger verify COPY --without-keys     a copy, by somebody who has no key: the chain alone
  waitroom ledger head                           the last line's number and digest: note it where nobody here can write
  waitroom ledger show --room launch --number 17
  waitroom ledger show --kind acted --since 2026-12-01T12:00:00+09:00

The log has a line `ledger head SEQ:DIGEST` once a minute while there is anything new: a log that is collected elsewhere
is full of anchors.
"""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "ledger",
        help="verify and read the record of admissions, bypasses and operators' acts",
        description="Verify and read the record of admissions, bypasses and operators' acts.",
        epilog=LEDGER,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def verb(name: str, run: Callable[[argparse.Namespace], int], words: str, more: str) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, help=words, description=f"{words[0].upper()}{words[1:]}. {more}")
        made.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="its folder, or files of it in any order")
        made.add_argument(
            "--config",
            type=Path,
            metavar="FILE",
            help="the configuration (default: what WAITROOM_CONFIG names, or config/waitroom.yaml)",
        )
        made.add_argument("--json", action="store_true", help="print JSON")
        made.set_defaults(run=run)
        return made

    verifying = verb(
        "verify",
        _verify,
        "judge every line, and what the lines say together",
        "Says which line was altered, is missing, out of order, or sealed by a key that is not yours; whether anybody "
        "was let in twice, and whether any minute had more than its limit. Exits 0 when nothing is wrong, else 1. "
        "Says also what it does not prove. With the configuration at hand, the head that is noted beside its keys is "
        "an anchor too.",
    )
    verifying.add_argument(
        "--anchor", action="append", default=[], metavar="SEQ:DIGEST", help="a line that you noted; may be said again"
    )
    verifying.add_argument(
        "--without-keys", action="store_true", help="judge the chain alone; anybody can write such a chain anew"
    )
    verb("head", _head, "print the last line's number and digest", "As --anchor of `verify` takes it, alone on a line.")
    showing = verb(
        "show",
        _show,
        "print lines, without judging them",
        "As they stand, the oldest first; with --json only what they state. `verify` says what they are worth.",
    )
    showing.add_argument("--room", metavar="ROOM", help="of this room")
    showing.add_argument("--number", type=int, metavar="N", help="of whoever has this number")
    showing.add_argument("--kind", choices=KINDS, help="of this kind")
    showing.add_argument("--since", metavar="TIME", help="from this time on, as 2026-12-01T12:00:00+09:00")
    showing.add_argument(
        "--visitor",
        metavar="ID",
        help="of this visitor: the id as the shop gets it in Waitroom-Visitor; needs the keys",
    )


def _verify(options: argparse.Namespace) -> int:
    anchors = [_anchor(text) for text in options.anchor]
    settings = None if options.without_keys and options.paths else _settings(options.config)
    secrets = None
    if settings is not None:
        if not options.without_keys:
            secrets = keys.load(settings.secret_keys_file, os.environ, make=False)
        anchors += _noted(options.paths, settings)
    paths = _files(options.paths, settings)
    try:
        verdict = judge(paths, secrets, anchors, _progress if sys.stderr.isatty() else lambda _: None)
    except OSError as error:
        raise _unreadable(error) from None
    if options.json:
        print(json.dumps(_facts(verdict, sealed=secrets is not None)))
    else:
        print("\n".join(_told(verdict, sealed=secrets is not None)))
    return 1 if verdict.wrong else 0


def _head(options: argparse.Namespace) -> int:
    path = _files(options.paths, None if options.paths else _settings(options.config))[-1]
    try:
        head = files.tail(path).head
    except OSError as error:
        raise _unreadable(error) from None
    print(json.dumps({"seq": head.seq, "digest": head.digest, "file": str(path)}) if options.json else head)
    return 0


def _show(options: argparse.Namespace) -> int:
    settings = None if options.paths and options.visitor is None else _settings(options.config)
    secrets = {}
    if options.visitor is not None and settings is not None:
        found = keys.load(settings.secret_keys_file, os.environ, make=False)
        secrets = {key_id(secret): secret for secret in found}
    since = _since(options.since)
    for path in _files(options.paths, settings):
        try:
            for read in _lines_of(path, options, since, secrets):
                if options.json:
                    print(json.dumps({name: value for name, value in read.facts.items() if name not in _CHAIN}))
                else:
                    print(_shown(read))
        except OSError as error:
            raise _unreadable(error) from None
    return 0


# -- how ---------------------------------------------------------------------------------------------------------------

_CHAIN = ("prev", "seal")


def _settings(file: Path | None) -> Settings:
    return config.load(file or Path(os.environ.get("WAITROOM_CONFIG") or "config/waitroom.yaml"), os.environ)


def _noted(paths: Sequence[Path], settings: Settings) -> list[Head]:
    """Return the head that is noted beside the keys, where it is of the ledger that is judged."""
    if settings.ledger is None or (paths and [path.absolute() for path in paths] != [settings.ledger.folder]):
        return []
    try:
        head = HeadNote(files.head_path(settings.secret_keys_file)).read()
    except OSError as error:
        raise _unreadable(error) from None
    return [] if head is None else [head]


def _files(paths: Sequence[Path], settings: Settings | None) -> list[Path]:
    """Return the files that are meant, in the order they were begun."""
    if not paths:
        assert settings is not None
        if settings.ledger is None:
            raise CommandError("the configuration keeps no ledger: `ledger` is null, or the store is memory:")
        paths = [settings.ledger.folder]
    found: list[Path] = []
    for path in paths:
        try:
            found += files.listed(path) if path.is_dir() else [path]
        except OSError as error:
            raise _unreadable(error) from None
    if not found:
        raise CommandError(f"{paths[0]}: there is no file of a ledger in it")
    return sorted(found, key=lambda path: (files.index(path), path.name))


def _lines_of(path: Path, options: argparse.Namespace, since: str, secrets: dict[str, str]) -> Iterator[lines.Read]:
    pseudonym = None
    for line in files.each_line(path):
        read = lines.read(line.rstrip(b"\n"))
        if read is None:
            print(f"waitroom: {path}: a line that is none of a ledger is left out", file=sys.stderr)
            continue
        facts = read.facts
        if read.kind == "opened" and options.visitor is not None:
            secret = secrets.get(str(facts.get("key")))
            made = None if secret is None else lines.FileKeys.derive(secret, str(facts.get("nonce")))
            pseudonym = None if made is None else made.pseudonym(options.visitor)
        wanted = (
            (options.room is None or facts.get("room") == options.room)
            and (options.number is None or facts.get("number") == options.number)
            and (options.kind is None or read.kind == options.kind)
            and str(facts["at"]) >= since
            and (options.visitor is None or (pseudonym is not None and facts.get("visitor") == pseudonym))
        )
        if wanted:
            yield read


def _anchor(text: str) -> Head:
    found = _ANCHOR.fullmatch(text.strip().lower())
    if found is None:
        raise CommandError(
            f"--anchor {text[:80]}: is no anchor; write SEQ:DIGEST as `waitroom ledger head` prints it, with at least "
            f"{ANCHOR_CHARS_MIN} digits of the digest"
        )
    return Head(int(found[1]), found[2])


def _since(text: str | None) -> str:
    """Return a moment as lines state it; the empty text is before all of them."""
    if text is None:
        return ""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise CommandError(f"--since {text[:80]}: is no time with its offset; write 2026-12-01T12:00:00+09:00, or Z")
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def _progress(count: int) -> None:
    print(f"\r{count:,} lines", end="", file=sys.stderr, flush=True)


def _unreadable(error: OSError) -> CommandError:
    return CommandError(f"{error.filename}: cannot be read: {error.strerror}")


def _facts(verdict: Verdict, *, sealed: bool) -> dict[str, Any]:
    return {
        "ok": not verdict.wrong,
        "files": verdict.files,
        "lines": verdict.lines,
        "first_seq": verdict.first.seq,
        "head": str(verdict.head),
        "since": verdict.since,
        "until": verdict.until,
        "seals_checked": sealed,
        "kinds": dict(verdict.kinds),
        "rooms": {name: asdict(room) for name, room in sorted(verdict.rooms.items())},
        "wrong": verdict.wrong,
        "wrong_unsaid": verdict.unsaid,
        "notes": verdict.notes,
        "not_proved": NOT_PROVED,
    }


def _told(verdict: Verdict, *, sealed: bool) -> Iterator[str]:
    yield f"{verdict.lines:,} lines in {verdict.files:,} files, from {verdict.since or '-'} to {verdict.until or '-'}"
    for name, room in sorted(verdict.rooms.items()):
        yield (
            f"  {name}: {room.admitted:,} let in, at most {room.most_in_a_minute:,} in a minute; "
            f"{room.bypassed:,} requests went around; {room.acted:,} acts"
        )
    if verdict.wrong:
        yield "This ledger is NOT as it was written, or what it says must not be:"
        yield from (f"  - {wrong}" for wrong in verdict.wrong)
        if verdict.unsaid:
            yield f"  - and {verdict.unsaid:,} things more"
    else:
        checked = "every seal fits, and each line names" if sealed else "each line names"
        yield f"Nothing is wrong: {checked} the one before it."
    if verdict.notes:
        yield "To know:"
        yield from (f"  - {note}" for note in verdict.notes)
    yield f"The last line is {verdict.head}."
    yield "Not proved by this:"
    yield from (f"  - {what}" for what in NOT_PROVED)


def _shown(read: lines.Read) -> str:
    said = " ".join(
        f"{name}={json.dumps(value, ensure_ascii=False)}"
        for name, value in read.facts.items()
        if name not in ("seq", "at", "kind", *_CHAIN)
    )
    return f"{read.seq} {read.facts['at']} {read.kind} {said}"
