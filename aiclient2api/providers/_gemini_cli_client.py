"""
The OAuth client of the Gemini CLI that the user has installed.

A login belongs to the program it was made with, and only that program's id and secret renew
it. Google ships both in the program's own text; they never stand in ours. All of it waits for
the disk and belongs in a thread.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

Client = tuple[str, str]
"""A client's id and its secret."""

PACKAGE = Path("@google", "gemini-cli")

_CORE = Path("@google", "gemini-cli-core", "dist", "src", "code_assist", "oauth2.js")
_NAMED = re.compile(
    rb"""OAUTH_CLIENT_(ID|SECRET)["']?\s*[:=]\s*["']([!-~]{10,200}?)["']""",
)
_MARK = b".apps.googleusercontent.com"
_LONGEST = 64 * 1024 * 1024
_MOST = 400
_ROOTS = (
    "/usr/local/lib/node_modules",
    "/usr/lib/node_modules",
    "/opt/homebrew/lib/node_modules",
    "~/.npm-global/lib/node_modules",
    "~/.local/lib/node_modules",
    "~/.bun/install/global/node_modules",
)
_PATTERNS = (
    ".nvm/versions/node/*/lib/node_modules",
    ".volta/tools/image/packages/@google/gemini-cli/lib/node_modules",
    ".local/share/fnm/node-versions/*/installation/lib/node_modules",
    ".local/share/pnpm/global/*/node_modules",
    "Library/pnpm/global/*/node_modules",
    "AppData/Roaming/npm/node_modules",
)


def installed_client(
    *, search: str | None = None, roots: Sequence[str] = _ROOTS, home: Path | None = None
) -> Client | None:
    """
    Find it where npm puts programs. Waits for the disk.

    :param search: Folders in which programs are looked for, as in ``PATH``; None: that.
    :param roots: Folders of packages to look into.
    :param home: The user's home folder; None: as it is.
    :return: None if Gemini CLI is not there, or in a form that is not known.
    """
    for package in _packages(search, roots, home):
        for file in islice(_texts(package), _MOST):
            client = client_in(file)
            if client is not None:
                return client
    return None


def client_in(file: Path) -> Client | None:
    """Return the client that one file of Gemini CLI names, None if it names none."""
    try:
        if not file.is_file() or file.stat().st_size > _LONGEST:
            return None
        text = file.read_bytes()
    except OSError:
        return None
    if _MARK not in text:
        return None
    found: dict[bytes, str] = {}
    for name, value in _NAMED.findall(text):
        if name == b"SECRET" or value.endswith(_MARK):
            found.setdefault(name, value.decode("ascii"))
    if len(found) < 2:
        return None
    return found[b"ID"], found[b"SECRET"]


def _packages(search: str | None, roots: Sequence[str], home: Path | None) -> Iterator[Path]:
    """Yield where the package may be, the program on the user's path first."""
    program = shutil.which("gemini", path=search)
    if program is not None:
        real = Path(os.path.realpath(program))
        for folder in real.parents:
            if folder.parts[-2:] == PACKAGE.parts:
                yield folder
                break
    try:
        own = home or Path.home()
    except RuntimeError:
        own = None
    for root in roots:
        if not root.startswith("~"):
            yield Path(root) / PACKAGE
        elif own is not None:
            yield own / root.removeprefix("~/") / PACKAGE
    if own is not None:
        for pattern in _PATTERNS:
            for root_found in sorted(own.glob(pattern), reverse=True):
                yield root_found / PACKAGE


def _texts(package: Path) -> Iterator[Path]:
    """Yield the files in which it may stand: in one piece since 2025, in parts before."""
    modules = package.parent.parent
    yield package / "node_modules" / _CORE
    yield modules / _CORE
    for folder in ("bundle", "dist"):
        yield from sorted((package / folder).glob("*.js"))
