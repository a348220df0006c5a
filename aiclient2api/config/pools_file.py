"""
Change the user's own accounts' file: when asked to, whole or not at all, and privately.

Several programs may write the file, and one that reads it never sees half of it. What the
text is to become is the business of `pools_text`; this knows only files.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from aiclient2api.config.key import folded
from aiclient2api.config.keys import CUSTOM_NAME, IS_DISABLED, PROVIDER_POOLS_FILE_PATH, UUID
from aiclient2api.config.pools_text import Found, Identify, PoolsText
from aiclient2api.config.settings import Settings
from aiclient2api.config.values import name_shown
from aiclient2api.errors import ConfigurationError, InvalidRequest

FILE = "provider_pools.json"
"""How the file is called if nobody named it."""

TRIES = 5
"""How often an edit is begun again because another program changed the file meanwhile."""

LOCK_SECONDS = 5.0
"""How long to wait for another program that edits a file in the same folder."""

_EMPTY = b"{}\n"
_DRAFT = ".new"
_NO_LOCKS = (errno.EBADF, errno.ENOLCK, errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)

Check = Callable[[Path], None]
"""
Told a file beside the real one that holds what is to be; raises to leave all as it is.
"""


@attrs.frozen
class Edited:
    """
    What was done. No secret is in it.

    :ivar path: The file that the account is in; links followed.
    :ivar written: False if all was so already, and the file was left alone.
    :ivar old_mode: The file's permissions as they were, if some were taken away.
    """

    path: Path
    provider: str
    account: Found
    written: bool
    old_mode: int | None


def add_account(
    path: Path,
    provider: str,
    entry: Mapping[str, Any],
    *,
    check: Check | None = None,
    new_id: Callable[[], object] = uuid.uuid4,
) -> Edited:
    """
    Add an account to *path*, the last of its provider; make the file if there is none.

    :param entry: Its keys. One without a uuid gets one.
    :raise ConfigurationError: if the file, or what becomes of it, cannot be used.
    :raise InvalidRequest: if there is an account of that uuid.
    :raise OSError: if the file cannot be read or written.
    """
    given = [str(value) for key, value in entry.items() if folded(key) == UUID.name and value]
    id = given[0] if given else str(new_id())
    whole = dict(entry) if given else {UUID.name: id, **entry}
    name = next((v for k, v in entry.items() if folded(k) == folded(CUSTOM_NAME.name)), None)

    def edit(text: PoolsText) -> tuple[PoolsText, Found]:
        there = text.ids(provider)
        if id in there:
            raise InvalidRequest(
                f"{provider} has an account {name_shown(id)} already; give this one another uuid.",
                code="account_exists",
                param=UUID.name,
            )
        return text.added(provider, whole), Found(len(there), id, name)

    return _edit(path, provider, edit, check, may_create=True)


def change_account(
    path: Path,
    provider: str,
    which: str,
    changes: Mapping[str, Any],
    *,
    check: Check | None = None,
    identify: Identify | None = None,
) -> Edited:
    """
    Set some keys of one account; None takes a key away.

    :param which: A uuid, a customName, the first characters of an id, or a place from 0.
    :raise ConfigurationError: if the file, or what becomes of it, cannot be used.
    :raise InvalidRequest: if no account is meant by *which*, or several.
    :raise OSError: if the file cannot be read or written.
    """

    def edit(text: PoolsText) -> tuple[PoolsText, Found]:
        found = text.find(provider, which, identify)
        return text.changed(provider, found.index, changes), found

    return _edit(path, provider, edit, check)


def remove_account(
    path: Path,
    provider: str,
    which: str,
    *,
    check: Check | None = None,
    identify: Identify | None = None,
) -> Edited:
    """Take one account out of the file; otherwise as `change_account`."""

    def edit(text: PoolsText) -> tuple[PoolsText, Found]:
        found = text.find(provider, which, identify)
        return text.removed(provider, found.index), found

    return _edit(path, provider, edit, check)


def disable_account(
    path: Path,
    provider: str,
    which: str,
    *,
    check: Check | None = None,
    identify: Identify | None = None,
) -> Edited:
    """Say of one account that it is not to be used; otherwise as `change_account`."""
    changes = {IS_DISABLED.name: True}
    return change_account(path, provider, which, changes, check=check, identify=identify)


def enable_account(
    path: Path,
    provider: str,
    which: str,
    *,
    check: Check | None = None,
    identify: Identify | None = None,
) -> Edited:
    """Say of one account that it may be used again; otherwise as `change_account`."""

    def edit(text: PoolsText) -> tuple[PoolsText, Found]:
        found = text.find(provider, which, identify)
        # One that never was disabled says nothing of it, and needs not.
        without = text.changed(provider, found.index, {IS_DISABLED.name: None})
        if without.content == text.content:
            return text, found
        return text.changed(provider, found.index, {IS_DISABLED.name: False}), found

    return _edit(path, provider, edit, check)


def pools_place(settings: Settings, *, named: object, cwd: Path) -> Path:
    """
    Return where the accounts' file is, or would be if there was one.

    :param named: What ``--provider-pools-file`` says, if anything.
    :param cwd: The folder the program was started in.
    """
    if settings.pools_path is not None:
        return settings.pools_path
    folder = cwd if settings.source is None else settings.source.parent
    if named:
        folder = cwd
    else:
        named = _named_in(settings.config_text)
    return folder / os.path.expanduser(str(named or FILE))


def _named_in(config: bytes | None) -> object:
    found = json.loads((config or b"{}").decode("utf-8-sig"))
    fold = folded(PROVIDER_POOLS_FILE_PATH.name)
    return next((value for key, value in found.items() if folded(key) == fold), None)


@contextlib.contextmanager
def draft(path: Path, content: bytes) -> Iterator[Path]:
    """
    Put *content* into a private file beside *path*, for as long as the context lasts.

    :raise OSError: if it cannot be written.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_DRAFT)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


@attrs.frozen
class _State:
    """A file at one moment; without content if there is none."""

    content: bytes | None = attrs.field(repr=False)
    stat: os.stat_result | None


def _edit(
    path: Path,
    provider: str,
    edit: Callable[[PoolsText], tuple[PoolsText, Found]],
    check: Check | None,
    *,
    may_create: bool = False,
) -> Edited:
    for _ in range(TRIES):
        real = Path(os.path.realpath(path))
        with _locked(real.parent) as alone:
            if alone:
                _sweep(real)
            before = _state(real)
            if before.content is None and not may_create:
                raise ConfigurationError([f"{path.name}: there is no file {path}; name another"])
            text = PoolsText.of(_EMPTY if before.content is None else before.content, path.name)
            after, account = edit(text)
            if after.content == before.content:
                return Edited(real, provider, account, False, None)
            with draft(real, after.content) as fresh:
                if check is not None:
                    check(fresh)
                lost = _inherit(fresh, before.stat, real.parent)
                if os.path.realpath(path) != str(real) or _state(real).content != before.content:
                    continue
                os.replace(fresh, real)
            _settle(real.parent)
            return Edited(real, provider, account, True, lost)
    raise ConfigurationError(
        [f"{path.name}: another program keeps changing it; nothing was changed, try again"]
    )


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """
    Keep others like us from editing in *folder*; it is locked itself: no litter is left.

    Yields whether it could be: some network file systems lock no folders.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield _lock(descriptor, folder)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> bool:
    ends = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= ends:
                raise ConfigurationError(
                    [f"{folder}: is locked by another program; try again once it is done"]
                ) from None
            time.sleep(0.02)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return False
            raise


def _sweep(path: Path) -> None:
    """Delete what one of us left that was killed: there are keys in it."""
    for name in os.listdir(path.parent):
        if name.startswith(f".{path.name}.") and name.endswith(_DRAFT):
            (path.parent / name).unlink(missing_ok=True)


def _state(path: Path) -> _State:
    try:
        # Without O_NONBLOCK a FIFO put in its place would hold us for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return _State(None, None)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise ConfigurationError([f"{path.name}: {path} is no regular file; name another"])
    with open(descriptor, "rb") as file:
        return _State(file.read(), found)


def _inherit(fresh: Path, old: os.stat_result | None, folder: Path) -> int | None:
    """
    Give a new file the owner of the one it replaces, or of its folder.

    A group is let read on if the user meant it to, which is where others may not.

    :return: The old permissions, if some of them are lost.
    """
    if os.geteuid() == 0:
        owner = old or folder.stat()
        os.chown(fresh, owner.st_uid, owner.st_gid)
    elif old is not None:
        with contextlib.suppress(PermissionError):
            os.chown(fresh, -1, old.st_gid)
    if old is None:
        return None
    mode = 0o600
    if not old.st_mode & 0o007 and fresh.stat().st_gid == old.st_gid:
        mode |= old.st_mode & 0o040
    os.chmod(fresh, mode)
    return stat.S_IMODE(old.st_mode) if old.st_mode & 0o077 & ~mode else None


def _settle(folder: Path) -> None:
    """Have the disk know of a rename."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Not every file system does this for folders, and the file itself is safe.
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
