"""Make the virtual environment, also where Debian's python3-venv is missing.

Without that package ``python3 -m venv`` cannot put pip in. If the system's own pip can be asked, it installs one into
the new environment; otherwise the message says what to install, in one line.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

NEEDED = (3, 11)


def main() -> int:
    """Make the environment named on the command line. Return the exit code."""
    target = Path(sys.argv[1])
    if sys.version_info < NEEDED:
        found = ".".join(map(str, sys.version_info[:2]))
        sys.stderr.write(f"Waitroom needs Python 3.11 or newer; this is {found}. Try: make PYTHON=python3.11 …\n")
        return 1
    python = target / "bin" / "python"
    if python.exists() and _has_pip(python):
        return 0
    try:
        venv.create(target, with_pip=True, clear=True)
    except (subprocess.CalledProcessError, ImportError):
        venv.create(target, with_pip=False, clear=True)
    if _has_pip(python) or _borrow_pip(python):
        return 0
    sys.stderr.write("pip is missing here. On Debian or Ubuntu: sudo apt-get install python3-venv\n")
    return 1


def _has_pip(python: Path) -> bool:
    return subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0


def _borrow_pip(python: Path) -> bool:
    """Install pip into the environment by the pip of the Python that runs this."""
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "pip"]
    return subprocess.run(command, check=False).returncode == 0 and _has_pip(python)


if __name__ == "__main__":
    sys.exit(main())
