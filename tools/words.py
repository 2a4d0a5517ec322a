"""Bring the catalogues of the languages up to the sentences that the templates have.

What is new stands in each catalogue without a translation, and what no template says any more is taken out. The tests
fail while a sentence is not translated.
"""

from __future__ import annotations

import sys
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po, write_po

TEMPLATES = Path(__file__).parents[1] / "templates"


def main() -> int:
    """Rewrite each catalogue, and return how many sentences wait for a translation."""
    sentences = list(dict.fromkeys(found[2] for found in extract_from_dir(TEMPLATES, [("**.html", "jinja2")], {})))
    missing = 0
    for path in sorted(TEMPLATES.glob("locale/*/LC_MESSAGES/waitroom.po")):
        before = path.read_text("utf-8")
        head = before.partition("\n\n")[0]
        with path.open("rb") as file:
            known = {message.id: message.string for message in read_po(file) if message.id}
        catalog = Catalog(locale=path.parts[-3])
        for sentence in sentences:
            catalog.add(sentence, known.get(sentence, ""))
        with path.open("wb") as file:
            file.write(f"{head}\n\n".encode())
            write_po(file, catalog, width=120, no_location=True, omit_header=True)
        left = [sentence for sentence in sentences if not known.get(sentence)]
        missing += len(left)
        lines = [f"{path.parts[-3]}: {len(sentences)} sentences", *(f"  to translate: {sentence}" for sentence in left)]
        sys.stdout.write("\n".join([*lines, ""]))
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
