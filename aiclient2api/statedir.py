"""
The state directory, and the key the gateway makes for itself.

Nothing here runs before the service starts: under an init system the directory must
belong to the user the daemon runs as, not to the one that starts it.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

KEY_FILE = "api_key"


def make_state_dir(path: Path) -> None:
    """
    Create the state directory, readable by its owner only.

    :raise OSError: if it cannot be made or is no directory.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def own_key(state_dir: Path) -> tuple[str, bool]:
    """
    Return the gateway's own key and whether it was made just now.

    The file appears whole and with mode 0600, or not at all; of two processes that
    start at once, both end up with the same key.

    :raise OSError: if the file cannot be read or written.
    :raise ValueError: if it holds no key.
    """
    path = state_dir / KEY_FILE
    try:
        return _read(path), False
    except FileNotFoundError:
        pass
    fresh = "ak-" + secrets.token_urlsafe(32)
    scratch = path.with_name(f".{KEY_FILE}.{os.getpid()}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(fresh + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(scratch, path)
    except FileExistsError:
        return _read(path), False
    finally:
        scratch.unlink(missing_ok=True)
    return fresh, True


def _read(path: Path) -> str:
    key = path.read_text(encoding="utf-8").strip()
    if not key:
        raise ValueError(f"{path} is empty; delete it and start again to have a new key made")
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise ValueError(f"others may read or write {path}; chmod 600 {path}, or have a new one")
    return key
