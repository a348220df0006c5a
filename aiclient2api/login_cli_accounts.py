"""
What ``login`` and ``import`` know of the configuration: what there is, and how to add to it.

An account is added to the user's accounts' file after the whole configuration was checked
as it would be. Credential files are made here and never replaced; no token is printed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import attrs

from aiclient2api import statedir
from aiclient2api.config import Settings, load
from aiclient2api.config.accounts import Kind, base_of, kinds_of
from aiclient2api.config.pools import names_of_kinds, stranger
from aiclient2api.config.pools_file import Edited, add_account, draft, pools_place
from aiclient2api.errors import ConfigurationError, InvalidRequest
from aiclient2api.interfaces import ILogins, IProviderFactory
from aiclient2api.scrubbing import IN_FORCE, secrets_of

FOLDER = "credentials"
"""Below the state directory: where new credential files go."""

_TRIES = 100


@attrs.frozen
class Place:
    """
    The configuration that a command is about.

    :ivar flags: As `config.load` takes them.
    :ivar cwd: The folder the program was started in.
    """

    flags: Mapping[str, object] = attrs.field(repr=False)
    environ: Mapping[str, str] = attrs.field(repr=False)
    cwd: Path
    factories: Sequence[IProviderFactory]

    def settings(self, pools: Path | None = None) -> Settings:
        """
        Return what is configured, or would be with another accounts' file.

        :raise ConfigurationError: with every fault.
        """
        flags = dict(self.flags)
        if pools is not None:
            flags["provider_pools_file_path"] = str(pools)
        settings = load(flags=flags, environ=self.environ, cwd=self.cwd, factories=self.factories)
        IN_FORCE.learn(secrets_of(settings))
        return settings

    @property
    def home(self) -> Path:
        """The user's home folder."""
        return Path(self.environ.get("HOME") or os.path.expanduser("~"))

    def kind(self, provider: str) -> Kind:
        """
        Return the kind of provider that a name is of.

        :raise InvalidRequest: if there is none.
        """
        kinds = kinds_of(self.factories)
        kind = base_of(provider, kinds)
        if kind is None:
            known = names_of_kinds(kinds)
            raise InvalidRequest(f"{stranger(provider, known)} There are: {', '.join(known)}.")
        return kind

    def provider_settings(self, provider: str, logins: ILogins) -> dict[str, Any]:
        """
        Return the settings that an account of *provider* would have, and ``proxy_url``.

        :raise ConfigurationError: with every fault of the configuration.
        """
        with tempfile.TemporaryDirectory(prefix="aiclient2api-") as folder:
            # Only the configuration's own reader knows what an account inherits: it is shown
            # one, with a credential file that exists.
            document = Path(folder) / "credential.json"
            document.write_text("{}")
            entry = dict(logins.entry(path=document, document={}))
            pools = Path(folder) / "pools.json"
            pools.write_text(json.dumps({provider: [entry]}))
            settings = self.settings(pools)
        accounts = settings.providers[provider].accounts
        if not accounts:
            return {"proxy_url": settings.proxy_url}
        own = attrs.asdict(accounts[0].settings, recurse=False)
        return {**own, "proxy_url": accounts[0].proxy}

    def add(self, provider: str, entry: Mapping[str, Any], *, command: str) -> Edited:
        """
        Add an account to the accounts' file, and say so.

        :raise ConfigurationError: if that would make a faulty configuration.
        :raise OSError: if the file cannot be written.
        """
        before = self.settings()
        named = self.flags.get("provider_pools_file_path")
        path = pools_place(before, named=named, cwd=self.cwd)
        warnings: list[str] = []

        def check(fresh: Path) -> None:
            # Relative paths are taken from where the file is named, not from behind a link.
            same = fresh.parent == path.parent
            with nullcontext(fresh) if same else draft(path, fresh.read_bytes()) as file:
                try:
                    after = self.settings(file)
                except ConfigurationError as error:
                    faults = [fault.replace(file.name, path.name) for fault in error.faults]
                    raise ConfigurationError(faults) from None
            known = {_unnumbered(warning) for warning in before.warnings}
            told = [warning.replace(file.name, path.name) for warning in after.warnings]
            warnings.extend(each for each in told if _unnumbered(each) not in known)

        edited = add_account(path, provider, entry, check=check)
        for warning in dict.fromkeys(warnings):
            print(f"aiclient2api {command}: (warning) {warning}", file=sys.stderr)
        called = edited.account.id[:8]
        if edited.account.name:
            called += f" ({edited.account.name})"
        print(
            f"Account {called} of {provider} was added in {edited.path}. "
            "A running gateway follows within a second."
        )
        if edited.old_mode is not None:
            print(
                f"That file is private now (mode 0600, it was {edited.old_mode:04o}): if the "
                "gateway runs as another user, make it the file's owner.",
                file=sys.stderr,
            )
        return edited


def login_of(factory: IProviderFactory | None) -> ILogins | None:
    """Return how one logs in to a kind of provider, None if one cannot."""
    return None if factory is None else ILogins(factory, None)


def write_credential(
    state_dir: Path, logins: ILogins, document: Mapping[str, Any], *, now: float | None = None
) -> Path:
    """
    Put a new credential into a file of its own, 0600, whole or not at all.

    :param now: Unix seconds, for its name.
    :return: Where it is.
    :raise OSError: if it cannot be written.
    """
    stamp = int((time.time() if now is None else now) * 1000)
    statedir.make_state_dir(state_dir)
    folder: Path = state_dir / FOLDER / logins.folder
    for each in (folder.parent, folder):
        each.mkdir(mode=0o700, exist_ok=True)
        _given_to_owner_of(state_dir, each)
    content = (json.dumps(document, indent=2) + "\n").encode()
    descriptor, scratch = tempfile.mkstemp(dir=folder, prefix=".", suffix=".new")
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        _given_to_owner_of(state_dir, Path(scratch))
        for later in range(_TRIES):
            path = folder / f"{stamp + later}_{logins.file_name}"
            # A link and no rename: what is there already stays.
            with contextlib.suppress(FileExistsError):
                os.link(scratch, path)
                return path
        raise FileExistsError(17, "is full of files of this name", str(folder))
    finally:
        os.unlink(scratch)


def _given_to_owner_of(state_dir: Path, path: Path) -> None:
    """Have the daemon's user own it, where root logs in for a daemon."""
    if os.geteuid() == 0:
        owner = state_dir.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


def _unnumbered(sentence: str) -> str:
    return re.sub(r"[0-9]+", "#", sentence)
