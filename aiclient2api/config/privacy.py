"""
Which files others may read or write: those of the gateway's own are refused, others' warned of.

It looks at modes and never changes one: what was readable may have been read, and that is
for the operator to know. It must never open a file.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import attrs

from aiclient2api.config.files import Findings
from aiclient2api.config.settings import Settings

OWN_FILES = (
    "api_key",
    "state.sqlite3",
    "state.sqlite3-wal",
    "state.sqlite3-shm",
    "state.sqlite3-journal",
)
"""What the gateway keeps in its state directory."""

CREDENTIALS = "credentials"
"""The folder in there with what ``aiclient2api login`` wrote."""

_BY_OTHERS = "others on this machine may read"


def judge(settings: Settings, findings: Findings) -> None:
    """
    Note every file that somebody else may read or write and should not.

    The gateway's own files are for its user alone; the user's own may have a group, such as
    the one that an administrator shares a configuration with.
    """
    for folder in (settings.state_dir, settings.state_dir / CREDENTIALS):
        if _mode(folder) & 0o022:
            findings.fault(
                f"state_dir: others may write to {folder}, and so put files of theirs in the "
                f"place of the gateway's; chmod 700 {folder}, or name another, such as one below it"
            )
    for path in _own(settings):
        if _mode(path) & 0o077:
            findings.fault(
                f"{path.name}: others may read or write {path}, which must be private; "
                f"chmod 600 {path}, and change what is secret in it if that was so for long"
            )
    for path, what in _theirs(settings):
        if _mode(path) & 0o002 and _reached(path):
            findings.warn(
                f"{path.name}: everybody on this machine may write to {path}, and so decide where "
                f"your keys and prompts go; chmod o-w {path}"
            )
        elif what and _mode(path) & 0o004 and _reached(path):
            findings.warn(f"{path.name}: {_BY_OTHERS} {path}, which holds {what}; chmod 600 {path}")


def _own(settings: Settings) -> Iterator[Path]:
    folder = settings.state_dir
    yield from (folder / name for name in OWN_FILES)
    yield from _files(folder / CREDENTIALS)
    if settings.prompt_log_mode == "file":
        base = settings.prompt_log_base_name
        # As `observe.prompt_log` names them: each start has one of its own.
        for path in _files(base.parent):
            if path.name.startswith(f"{base.name}-") and path.name.endswith(".log"):
                yield path


def _theirs(settings: Settings) -> Iterator[tuple[Path, str]]:
    """Yield what the user and other programs wrote, and what is secret in it, if anything."""
    own = settings.state_dir / CREDENTIALS
    if settings.source is not None:
        text = (settings.config_text or b"").decode("utf-8", "replace")
        keys = [*(settings.keys or ()), *_account_keys(settings)]
        yield settings.source, "keys" if any(key in text for key in keys) else ""
    if settings.pools_path is not None:
        yield settings.pools_path, "keys" if any(_account_keys(settings)) else ""
    for path in dict.fromkeys(_credential_files(settings)):
        if own not in path.parents:
            yield path, "a login"


def _account_keys(settings: Settings) -> Iterator[str]:
    for provider in settings.providers.values():
        for account in provider.accounts:
            yield from account.secrets


def _credential_files(settings: Settings) -> Iterator[Path]:
    for provider in settings.providers.values():
        for account in provider.accounts:
            if not attrs.has(type(account.settings)):
                continue
            for field in attrs.fields(type(account.settings)):
                value = getattr(account.settings, field.name)
                if field.metadata.get("kind") == "path" and isinstance(value, Path):
                    yield value


def _files(folder: Path) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    yield from (Path(entry.path) for entry in entries if entry.is_file(follow_symlinks=False))


def _mode(path: Path) -> int:
    """Return a file's permissions; none if nobody can tell, such as one that is not there."""
    try:
        return stat.S_IMODE(os.stat(path).st_mode)
    except OSError:
        return 0


def _reached(path: Path) -> bool:
    """Say whether others may pass through all folders that lead there."""
    return all(_mode(folder) & 0o001 for folder in Path(os.path.realpath(path)).parents)
