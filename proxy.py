"""The front door: ``python proxy.py …`` is ``waitroom …``, from a source tree.

Kept at the top so that whoever opens the repository finds where it starts. It is not installed as a module.
"""

import sys

from waitroom.cli import main

if __name__ == "__main__":
    sys.exit(main())
