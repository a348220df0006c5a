"""
What one account is configured with: gathered from all sources, then looked at.

A kind of provider names its keys in its factory's settings class; nothing here knows
which kinds there are. A credential is never repeated, only its digest becomes an id.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs

from aiclient2api.config import values as read
from aiclient2api.config.files import Document, Findings, Reading
from aiclient2api.config.key import Key
from aiclient2api.config.later_keys import UNBUILT
from aiclient2api.config.values import Given, Place
from aiclient2api.interfaces import IProviderFactory

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "aiclient2api:account")
_READERS: Mapping[str, read.Reader[Any]] = {
    "secret": read.secret,
    "url": read.url,
    "path": read.path,
    "text": read.text,
}


@attrs.frozen
class Field:
    """
    One setting of a kind of provider.

    :ivar kind: ``secret``, ``url``, ``path``, ``text`` or ``choice``.
    """

    kind: str
    key: Key[Any]


@attrs.frozen
class Kind:
    """A kind of provider: one with a factory, or one whose name is only known."""

    name: str
    fields: tuple[Field, ...]
    factory: IProviderFactory | None

    @property
    def built(self) -> bool:
        """True if it can be used at all."""
        return self.factory is not None

    @property
    def free(self) -> bool:
        """True if it works with no credential at all."""
        return self.factory is not None and not self.factory.needs_credential

    @property
    def credentials(self) -> tuple[str, ...]:
        """The names of the keys that can hold a credential."""
        return tuple(f.key.name for f in self.fields if f.kind in ("secret", "path"))

    def defaults(self, name: str) -> Mapping[str, str]:
        """Return the settings that a configured name implies."""
        return self.factory.defaults(name=name) if self.factory else {}


def kinds_of(factories: Sequence[IProviderFactory]) -> tuple[Kind, ...]:
    """Return every kind of provider: those that are built, then those only known."""
    built = [Kind(factory.name, _fields(factory.settings), factory) for factory in factories]
    taken = {kind.name for kind in built}
    unbuilt = [
        Kind(name, tuple(_field(of, kind) for of, kind in fields), None)
        for name, fields in UNBUILT.items()
        if name not in taken
    ]
    return (*built, *unbuilt)


def keys_of(kinds: Sequence[Kind]) -> list[Key[Any]]:
    """Return every key that some kind of provider is configured with."""
    return list({field.key.name: field.key for kind in kinds for field in kind.fields}.values())


def base_of(name: str, kinds: Sequence[Kind]) -> Kind | None:
    """Return the kind a configured name is of: itself, or the longest it begins with."""
    fitting = [kind for kind in kinds if name == kind.name or name.startswith(f"{kind.name}-")]
    return max(fitting, key=lambda kind: len(kind.name), default=None)


def _fields(settings: type[Any]) -> tuple[Field, ...]:
    return tuple(
        _field(
            field.name,
            field.metadata.get("kind", "text"),
            default=None if field.default is attrs.NOTHING else field.default,
            help=field.metadata.get("help", ""),
            choices=field.metadata.get("choices", ()),
        )
        for field in attrs.fields(settings)
    )


def _field(
    name: str, kind: str, default: Any = None, help: str = "", choices: tuple[str, ...] = ()
) -> Field:
    reader = read.choice(*choices) if kind == "choice" else _READERS[kind]
    return Field(kind, Key(name, reader, default, help))


@attrs.frozen
class _Part:
    """
    One setting of one account.

    :ivar given: Where it stands; None: nobody wrote it, it is a preset or a default.
    :ivar own: True if it stands in the account's own entry.
    """

    field: Field
    value: Any = attrs.field(repr=False)
    given: Given | None = None
    own: bool = False

    @property
    def where(self) -> str:
        """Where it stands, for a sentence."""
        return self.given.where if self.given else self.field.key.name


@attrs.frozen
class _Inherited:
    """
    What an account has of one setting, if its own entry says nothing.

    :ivar given: Where it stands, or None, as in `_Part`.
    """

    field: Field
    value: Any = attrs.field(repr=False)
    given: Given | None


@attrs.frozen
class Inheritance:
    """
    What the accounts of one provider have in common; worked out once for all of them.

    :ivar name: The provider's configured name.
    :ivar usual: The values `kind` has under its base name, where none is its own.
    """

    name: str
    kind: Kind
    place: Place
    findings: Findings
    settings: tuple[_Inherited, ...] = attrs.field(repr=False)
    usual: Mapping[str, Any] = attrs.field(repr=False)

    @classmethod
    def of(cls, kind: Kind, name: str, shared: Reading) -> Inheritance:
        """
        Gather it: what everybody shares comes before what the name implies.

        But a preset's URL comes before a shared one: that one was not meant for the
        vendor in the name.
        """
        normal, implied = kind.defaults(kind.name), kind.defaults(name)
        place = shared.documents[0].place
        settings = []
        usual: dict[str, Any] = {}
        for field in kind.fields:
            key = field.key
            common = shared.given(key)
            value = shared.read(common, key, None) if common else None
            usual[key.name] = normal.get(key.name, key.default)
            if common and field.kind == "url":
                usual[key.name] = value
            if field.kind == "url" and normal.get(key.name) != implied.get(key.name):
                common = None
            told = _or_default(value if common else implied.get(key.name), field, place)
            settings.append(_Inherited(field, told, common))
        return cls(name, kind, place, shared.findings, tuple(settings), usual)

    def draft(self, entry: Document | None) -> Draft:
        """Gather the settings of one account: its own entry comes before all else."""
        if entry is None:
            parts = [_Part(one.field, one.value, one.given) for one in self.settings]
            return Draft(self.name, self.kind, tuple(parts), self.usual)
        own = Reading((entry,), self.findings)
        parts = []
        for one in self.settings:
            given = own.given(one.field.key)
            if given is None:
                parts.append(_Part(one.field, one.value, one.given))
                continue
            value = own.read(given, one.field.key, None)
            value = _or_default(value, one.field, self.place)
            parts.append(_Part(one.field, value, given, True))
        return Draft(self.name, self.kind, tuple(parts), self.usual)


def _or_default(value: Any, field: Field, place: Place) -> Any:
    if value in (None, ""):
        value = field.key.default
    if field.kind == "path" and isinstance(value, str):
        return place.resolve(value)
    return value


@attrs.frozen
class Draft:
    """
    The settings of one account, gathered but not judged.

    :ivar name: The provider's configured name.
    :ivar usual: As in `Inheritance`.
    """

    name: str
    kind: Kind
    parts: tuple[_Part, ...]
    usual: Mapping[str, Any] = attrs.field(repr=False)

    def _filled(self, kind: str) -> Iterator[_Part]:
        return (part for part in self.parts if part.field.kind == kind and part.value)

    @property
    def values(self) -> dict[str, Any]:
        """Every setting by its name."""
        return {part.field.key.name: part.value for part in self.parts}

    @property
    def secrets(self) -> tuple[str, ...]:
        """The credentials that are texts, each once."""
        return tuple(dict.fromkeys(part.value for part in self._filled("secret")))

    @property
    def files(self) -> tuple[Path, ...]:
        """The credentials that are files."""
        return tuple(part.value for part in self._filled("path"))

    @property
    def missing(self) -> str | None:
        """The key of a credential file that does not exist, or None."""
        return next((part.field.key.name for part in self._lost()), None)

    @property
    def missing_told(self) -> bool:
        """True if `oddities` tells of the missing file, as the user named it."""
        return any(part.given for part in self._lost())

    def _lost(self) -> Iterator[_Part]:
        return (part for part in self._filled("path") if not os.path.exists(part.value))

    @property
    def local(self) -> bool:
        """True if the user names a URL of another server, which may ask for no key."""
        usual = self.kind.defaults(self.kind.name)
        for part in self._filled("url"):
            normal = usual.get(part.field.key.name, part.field.key.default) or ""
            if part.given and part.value.rstrip("/") != normal.rstrip("/"):
                return True
        return False

    @property
    def identity(self) -> str:
        """
        An id that stays the same while the credential does.

        It is a digest: nobody gets the key back from it.
        """
        told: Sequence[Any] = self.secrets or [os.path.abspath(path) for path in self.files]
        told = told or [part.value for part in self._filled("url")]
        digest = hashlib.sha256("\0".join(told).encode()).hexdigest()
        return str(uuid.uuid5(_NAMESPACE, f"{self.name}:{digest}"))

    def oddities(self) -> Iterator[tuple[str, str]]:
        """Return what an operator should look at: a sentence each, and of which sort it is."""
        for part in self._filled("secret"):
            if part.given and part.value.endswith("..."):
                yield (
                    f"{part.where}: is the example's placeholder; write your own key",
                    f"{self.name}: placeholder",
                )
        for part in self._lost():
            if part.given:
                yield (
                    f"{part.where}: there is no file {part.value}; no account without it",
                    f"{self.name}: no file",
                )
        for part in self._filled("url"):
            parts = urlsplit(part.value)
            if parts.scheme == "http" and not read.is_loopback(parts.hostname or ""):
                yield (
                    f"{part.where}: is plain http beyond this machine;"
                    " keys and prompts travel unencrypted",
                    f"{self.name}: plain http",
                )
        borrowed = [part.where for part in self._filled("secret") if part.given and not part.own]
        for part in self._filled("url"):
            normal = self.usual.get(part.field.key.name)
            if borrowed and normal and not _same_host(part.value, normal):
                yield (
                    f"{self.name}: sends the key of {borrowed[0]} to"
                    f" {urlsplit(part.value).hostname}; if that is not meant, give it its own",
                    f"{self.name}: another host",
                )


def _same_host(one: str, other: str) -> bool:
    return urlsplit(one).netloc.lower() == urlsplit(other).netloc.lower()
