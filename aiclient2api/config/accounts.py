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
from aiclient2api.config.files import Document, Reading
from aiclient2api.config.keys import UNBUILT, Key
from aiclient2api.config.values import Given
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
class Draft:
    """
    The settings of one account, gathered but not judged.

    :ivar name: The provider's configured name.
    :ivar usual: The values `kind` has under its base name, where none is its own.
    """

    name: str
    kind: Kind
    parts: tuple[_Part, ...]
    usual: Mapping[str, Any] = attrs.field(repr=False)

    @classmethod
    def of(cls, kind: Kind, name: str, entry: Document | None, shared: Reading) -> Draft:
        """
        Gather one account.

        Its own entry comes first, then what everybody shares, then what its name
        implies. But a preset's URL comes before a shared one: that one was not meant
        for the vendor in the name.
        """
        usual, implied = kind.defaults(kind.name), kind.defaults(name)
        entries = Reading((entry,) if entry else (), shared.findings)
        parts = []
        for field in kind.fields:
            key = field.key
            own, common = entries.given(key), shared.given(key)
            preset = field.kind == "url" and usual.get(key.name) != implied.get(key.name)
            given = own or (None if preset else common)
            value = shared.read(given, key, None) if given else implied.get(key.name)
            if value in (None, ""):
                value = key.default
            if field.kind == "path" and isinstance(value, str):
                value = shared.documents[0].place.resolve(value)
            parts.append(_Part(field, value, given, own is not None))
        normal = {
            field.key.name: usual.get(field.key.name, field.key.default) for field in kind.fields
        }
        for field in kind.fields:
            common = shared.given(field.key)
            if common and field.kind == "url":
                normal[field.key.name] = shared.read(common, field.key, None)
        return cls(name, kind, tuple(parts), normal)

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
        for part in self._filled("path"):
            if not os.path.exists(part.value):
                return part.field.key.name
        return None

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

    def oddities(self) -> Iterator[str]:
        """Return what an operator should look at, a sentence each."""
        for part in self._filled("secret"):
            if part.given and part.value.endswith("..."):
                yield f"{part.where}: is the example's placeholder; write your own key"
        for part in self._filled("path"):
            if part.given and not os.path.exists(part.value):
                yield f"{part.where}: there is no file {part.value}; no account without it"
        for part in self._filled("url"):
            parts = urlsplit(part.value)
            if parts.scheme == "http" and not read.is_loopback(parts.hostname or ""):
                yield (
                    f"{part.where}: is plain http beyond this machine;"
                    " keys and prompts travel unencrypted"
                )
        borrowed = [part.where for part in self._filled("secret") if part.given and not part.own]
        for part in self._filled("url"):
            normal = self.usual.get(part.field.key.name)
            if borrowed and normal and not _same_host(part.value, normal):
                yield (
                    f"{self.name}: sends the key of {borrowed[0]} to"
                    f" {urlsplit(part.value).hostname}; if that is not meant, give it its own"
                )


def _same_host(one: str, other: str) -> bool:
    return urlsplit(one).netloc.lower() == urlsplit(other).netloc.lower()
