"""
``aiclient2api import``: offer the logins that are on this machine already.

They are known by their shape, whatever a file is called, and used where they are: an account
that is added refers to its file. No file is copied or changed, and no token is printed.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from aiclient2api.config.accounts import Kind, base_of, kinds_of
from aiclient2api.config.key import folded
from aiclient2api.config.keys import CUSTOM_NAME
from aiclient2api.errors import ConfigurationError, GatewayError
from aiclient2api.interfaces import ILogins
from aiclient2api.login_cli_accounts import Place, login_of
from aiclient2api.login_cli_options import parse_import
from aiclient2api.oauth.credential_file import digest, refresh_token
from aiclient2api.options import provider_factories

CONFIGS = "configs"
"""How AIClient-2-API calls its folder."""

POOLS, CONFIG = "provider_pools.json", "config.json"

DEEPEST = 4
"""Folders below a provider's that are looked into."""

MOST = 5000
"""Files that are looked at in one folder."""

LARGEST = 256 * 1024
"""Bytes: what is larger is no credential."""

_KEPT = ("notsupportedmodels", "supportedmodels")
"""What goes along to a new account besides its settings and name; folded."""


@attrs.frozen
class Found:
    """
    One credential file.

    :ivar provider: The name of the provider that it is for.
    :ivar told: What another program's files say of it besides: settings and a name.
    """

    path: Path
    provider: str
    logins: ILogins
    document: Mapping[str, Any] = attrs.field(repr=False)
    told: Mapping[str, Any] = attrs.field(factory=dict, repr=False)

    @property
    def token(self) -> str | None:
        """What stands for the login, however many files there are of it."""
        token = refresh_token(self.document)
        return None if token is None else digest(token)


def import_(arguments: Sequence[str]) -> int:
    """
    Run the command.

    :return: The exit status: 0 well, also if there is nothing; 1 it could not be done, or a
        person had to be asked and there is none; 2 bad usage.
    """
    options, flags = parse_import(arguments)
    if isinstance(options, int):
        return options
    place = Place(flags, dict(os.environ), Path.cwd(), provider_factories())
    try:
        return _import(place, [Path(folder) for folder in options.folders], all=options.yes)
    except ConfigurationError as error:
        told: Sequence[str] = error.faults
    except GatewayError as error:
        told = (error.message,)
    except OSError as error:
        told = (f"{error.filename or 'a file'}: {error.strerror or type(error).__name__}",)
    except (KeyboardInterrupt, EOFError):
        told = ("given up; what was added before stays",)
    for sentence in told:
        print(f"aiclient2api import: {sentence}", file=sys.stderr)
    return 1


def _import(place: Place, folders: Sequence[Path], *, all: bool) -> int:
    search = Search(place)
    search.referenced()
    search.installed()
    if folders:
        for folder in folders:
            if not folder.is_dir():
                raise ConfigurationError([f"there is no folder {folder}; name one that exists"])
            search.folder(folder)
    elif (place.cwd / CONFIGS).is_dir():
        search.folder(place.cwd / CONFIGS)
    for note in search.notes:
        print(note)
    if not search.found:
        print(
            "No login was found that is not an account already. Log in with aiclient2api login, or "
            "name a folder of AIClient-2-API: aiclient2api import FOLDER."
        )
        return 0
    print(
        f"{len(search.found)} found. The files stay where they are and are renewed there, together "
        "with the programs that use them: of a copy, one would stop working."
    )
    asked = False
    for number, each in enumerate(search.found, 1):
        print(f"\n{number}. {each.provider}  {each.path}")
        for remark in _remarks(each):
            print(f"   {remark}")
        answer = "y" if all else _answer("   Add it? [y/N] ")
        if answer is None:
            print(
                "\naiclient2api import: nobody is there to ask; say --yes to add them all",
                file=sys.stderr,
            )
            return 1
        if answer.strip().lower() in ("y", "yes"):
            asked = True
            factory = place.kind(each.provider).factory
            if factory is not None:
                print(f"   {' '.join(factory.terms.split())}")
            entry = {**each.told, **each.logins.entry(path=each.path, document=each.document)}
            place.add(each.provider, entry, command="import")
    if not asked:
        print("\nNothing was added.")
    return 0


def _answer(question: str) -> str | None:
    print(question, end="", flush=True)
    line = sys.stdin.readline()
    if not sys.stdin.isatty():
        print()
    return line or None


def _remarks(found: Found) -> Iterator[str]:
    if found.token is None:
        yield "It has no refresh token: it works until its token expires."
    if not os.access(found.path, os.W_OK) or not os.access(found.path.parent, os.W_OK):
        yield (
            "You cannot write to it, so renewed tokens would be lost: give the gateway's user the "
            "right to, or log in anew."
        )


@attrs.define
class Search:
    """
    Looks for credential files that no account refers to yet.

    :ivar found: Those that may be offered.
    :ivar notes: What else is worth saying.
    """

    place: Place
    found: list[Found] = attrs.field(factory=list)
    notes: list[str] = attrs.field(factory=list)
    _paths: set[str] = attrs.field(factory=set)
    _tokens: dict[str, str] = attrs.field(factory=dict)
    _kinds: tuple[Kind, ...] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._kinds = kinds_of(self.place.factories)

    def referenced(self) -> None:
        """Note the files that accounts refer to: they are not offered."""
        for provider in self.place.settings().providers.values():
            for account in provider.accounts:
                for path in _paths_in(account.settings):
                    # Some name the folder that their file is in.
                    names = [logins.file_name for _, logins in self._all_logins()]
                    for each in (path, *(path / name for name in names if path.is_dir())):
                        self._paths.add(os.path.realpath(each))
                        token = refresh_token(_read(each) or {})
                        if token is not None:
                            self._tokens.setdefault(digest(token), str(each))

    def installed(self) -> None:
        """Look where the vendors' own clients keep their logins."""
        for name, logins in self._all_logins():
            for usual in logins.usual_files:
                self._look(self.place.home / usual, only=name)

    def folder(self, folder: Path) -> None:
        """Look into a folder of AIClient-2-API, the one around it, or any of credentials."""
        folder = Path(os.path.abspath(folder))
        if (folder / CONFIGS).is_dir():
            folder = folder / CONFIGS
        told = {**self._pools(folder), **self._config(folder)}
        for file, (provider, more) in told.items():
            self._look(Path(file), only=provider, told=more)
        places = [folder / logins.folder for _, logins in self._all_logins()]
        known = [place for place in places if place.is_dir()]
        for place in known or [folder]:
            for path in _files(place):
                self._look(path)

    def _all_logins(self) -> Iterator[tuple[str, ILogins]]:
        for factory in self.place.factories:
            logins = login_of(factory)
            if logins is not None:
                yield factory.name, logins

    def _look(
        self, path: Path, *, only: str | None = None, told: Mapping[str, Any] | None = None
    ) -> None:
        """Offer a file if it is a credential, for the provider *only* if one is named."""
        real = os.path.realpath(path)
        if real in self._paths:
            return
        document = _read(Path(real))
        if document is None:
            return
        wanted = base_of(only, self._kinds) if only else None
        for name, logins in self._all_logins():
            if (wanted is None or wanted.name == name) and logins.recognises(document=document):
                found = Found(Path(real), only or name, logins, document, told or {})
                break
        else:
            return
        self._paths.add(real)
        if found.token is not None and found.token in self._tokens:
            self.notes.append(
                f"{real} is the same login as {self._tokens[found.token]} and is left out."
            )
            return
        if found.token is not None:
            self._tokens[found.token] = real
        self.found.append(found)

    def _pools(self, folder: Path) -> dict[str, tuple[str, dict[str, Any]]]:
        """Return the files that another program's accounts refer to, with what it says."""
        found: dict[str, tuple[str, dict[str, Any]]] = {}
        keys = 0
        for provider, entries in (_read(folder / POOLS) or {}).items():
            kind = base_of(provider, self._kinds)
            if kind is None or not isinstance(entries, list):
                continue
            for entry in entries:
                if not isinstance(entry, dict):
                    continue
                paths = _named(kind, "path", entry)
                keys += not paths and bool(_named(kind, "secret", entry))
                for path in paths.values():
                    file = _resolved(folder, path)
                    if file is not None:
                        found[file] = (provider, _kept(kind, entry))
        if keys:
            self.notes.append(
                f"{folder / POOLS} has {keys} account{'s' * (keys > 1)} with keys. They are not "
                "copied: use that file itself with --provider-pools-file, or add them with "
                "aiclient2api accounts add."
            )
        return found

    def _config(self, folder: Path) -> dict[str, tuple[str, dict[str, Any]]]:
        config = _read(folder / CONFIG) or {}
        found: dict[str, tuple[str, dict[str, Any]]] = {}
        for kind in self._kinds:
            for path in _named(kind, "path", config).values():
                file = _resolved(folder, path)
                if file is not None:
                    found[file] = (kind.name, _kept(kind, config, own=False))
        return found


def _paths_in(settings: Any) -> Iterator[Path]:
    for field in attrs.fields(type(settings)):
        value = getattr(settings, field.name)
        if field.metadata.get("kind") == "path" and value:
            yield Path(value)


def _named(kind: Kind, sort: str, entry: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings of one sort that stand in *entry*, under the keys used there."""
    folds = {fold for field in kind.fields if field.kind == sort for fold in field.key.folds}
    return {
        key: value
        for key, value in entry.items()
        if folded(key) in folds and isinstance(value, str) and value
    }


def _kept(kind: Kind, entry: Mapping[str, Any], *, own: bool = True) -> dict[str, Any]:
    """Return what goes along to the new account: its name, its models, its addresses."""
    kept = {**_named(kind, "text", entry), **_named(kind, "url", entry)}
    for key, value in entry.items():
        if own and value and folded(key) in _KEPT:
            kept[key] = value
        if own and folded(key) == folded(CUSTOM_NAME.name) and isinstance(value, str) and value:
            kept[CUSTOM_NAME.node] = value
    return kept


def _resolved(folder: Path, named: str) -> str | None:
    """Return the file that another program's configuration names, None if there is none."""
    path = Path(os.path.expanduser(named))
    # That program takes them from where it was started, which is the folder around.
    for place in (folder.parent, folder):
        if (place / path).is_file():
            return str(place / path)
    return None


def _files(folder: Path) -> Iterator[Path]:
    """Yield the JSON files below a folder, not too deep and not too many."""
    left = MOST
    base = len(folder.parts)
    for here, folders, names in os.walk(folder):
        folders.sort()
        if len(Path(here).parts) - base >= DEEPEST:
            folders.clear()
        for name in sorted(names):
            left -= 1
            if left < 0:
                return
            if name.endswith(".json"):
                yield Path(here) / name


def _read(path: Path) -> dict[str, Any] | None:
    """Return what a JSON file holds; None if it is none, or none that could be meant."""
    try:
        # Without O_NONBLOCK a FIFO would hold us for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            content = file.read(LARGEST + 1)
        document = json.loads(content) if len(content) <= LARGEST else None
    except (OSError, ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None
