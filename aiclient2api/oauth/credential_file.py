"""
A credential file that other programs use as well: read whole, changed without a loss.

It knows where such files keep their tokens, and what may happen to a file: somebody writes
it in place, the disk is full, a process is killed half-way. It must never know whose
credential it is, nor a clock: all of it waits for the disk and belongs in a thread, but
`CredentialFile.stamp`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import attrs

LONGEST = 1 << 20
"""Bytes: what is longer is no credential file."""

_ABANDONED = 60.0
"""Seconds after which what a killed process left half done is in nobody's hands any more."""

_RESERVED = 64 * 1024
"""Bytes that must be free on the disk before a refresh token is used up."""

_ENDING = ".new"
_NESTED = ("token", "tokens")

Stamp = tuple[int, ...]
"""What changes whenever a file does."""


class NoCredential(ValueError):
    """
    A file holds no JSON object, or no token that could be sent: somebody is writing it, or
    it is broken. A clause.
    """


class NotWritable(Exception):
    """A file cannot be replaced. A sentence with the remedy."""


@attrs.frozen
class Found:
    """
    What a credential file holds.

    :ivar stamp: Of the file as it was read or written.
    :ivar written: False where a merge was given up for what somebody else had written.
    """

    document: Mapping[str, Any] = attrs.field(repr=False)
    stamp: Stamp
    written: bool = True


def access_token(document: Mapping[str, Any]) -> str | None:
    """Return a document's access token, in any spelling; None if there is none."""
    return _text(document, "access_token", "accessToken")


def refresh_token(document: Mapping[str, Any]) -> str | None:
    """Return a document's refresh token, in any spelling; None if there is none."""
    return _text(document, "refresh_token", "refreshToken")


def _text(document: Mapping[str, Any], *names: str) -> str | None:
    inner = (document.get(name) for name in _NESTED)
    for place in (document, *(each for each in inner if isinstance(each, Mapping))):
        for name in names:
            value = place.get(name)
            if isinstance(value, str) and value:
                return value
    return None


def digest(*tokens: str | None) -> str:
    """Return what stands for tokens where they themselves must not."""
    joined = "\0".join(each or "" for each in tokens).encode("utf-8", "surrogatepass")
    return hashlib.sha256(joined).hexdigest()[:24]


def check_tokens(document: Mapping[str, Any]) -> None:
    """
    See that a document's tokens could stand in a header.

    :raise NoCredential: if one could not: it is no token, and sending it would fail.
    """
    for token in (access_token(document), refresh_token(document)):
        if token is not None and not (token.isascii() and token.isprintable()):
            raise NoCredential("holds a token with characters that no token has")


def identity(document: Mapping[str, Any]) -> str:
    """Return what changes whenever one of a document's two tokens does."""
    return digest(access_token(document), refresh_token(document))


class CredentialFile:
    """
    One credential file. Several processes may have one of the same path.

    It is never written in place: whoever reads it finds the old document or the new one. Each
    writer's scratch file lies beside it and is named for the tokens that it succeeds, so that
    what a killed process had finished, and not yet put in place, is found (`recover`).

    :param path: Absolute, and no symbolic link: a link would be replaced, not followed.
    :ivar title: What messages call it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._folder = path.parent
        # Several vendors call theirs the same; the folder tells them apart.
        self.title = f"the credential file {path.parent.name}/{path.name}"

    def stamp(self) -> Stamp | None:
        """Return what the file looks like from outside, None if it cannot be seen. Fast."""
        try:
            return _stamp(os.stat(self.path))
        except OSError:
            return None

    def read(self) -> Found:
        """
        Read the file.

        :raise OSError: if there is none, or it may not be read.
        :raise NoCredential: if what it holds is no JSON object with sound tokens.
        """
        # Without O_NONBLOCK a FIFO put in its place would hold the thread for ever.
        descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            # As it was before it was read: a change meanwhile shows at the next look.
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise NoCredential("is no regular file")
            return Found(_parsed(file.read(LONGEST + 1)), _stamp(found))

    def check_writable(self) -> None:
        """
        See that `merge` will work, as far as one can: the answer cannot be had twice.

        :raise NotWritable: if it would not.
        """
        with self._failing(), self._scratch("probe") as (descriptor, path):
            try:
                os.posix_fallocate(descriptor, 0, _RESERVED)
            except (AttributeError, OSError) as error:
                if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
                    raise
            os.unlink(path)

    def merge(
        self,
        changes: Mapping[str, Any],
        *,
        used: str | None = None,
        instead: Mapping[str, Any] | None = None,
    ) -> Found:
        """
        Put *changes* into the document, on the disk for good once this returns.

        Unknown keys stay, in their order; new ones come last. Mode 0600; the owner stays.

        :param used: The refresh token that *changes* were had for. If the file holds another
            one by now, somebody logged in anew: then it stays as it is, and is returned.
        :param instead: The document to go on from if the file is gone or broken.
        :raise NotWritable: if it cannot be written.
        :raise OSError: if it cannot be read, and there is nothing *instead*.
        :raise NoCredential: likewise.
        """
        try:
            found = self.read()
        except (OSError, NoCredential):
            if instead is None:
                raise
            found = Found(instead, ())
        if used is not None and refresh_token(found.document) != used:
            return attrs.evolve(found, written=False)
        document = {**found.document, **changes}
        if found.stamp and document == found.document:
            return found
        with self._failing(), self._scratch(identity(found.document)) as (descriptor, path):
            _write(descriptor, _dumped(document))
            os.fsync(descriptor)
            try:
                os.rename(path, self.path)
            except FileNotFoundError:
                # Our lock was broken while we were held up: somebody took us for dead, and put
                # it in place for us, and may have gone on from there.
                return attrs.evolve(self.read(), written=False)
            self._sync_folder()
            # The file that we wrote: by now another one may be in its place.
            return Found(document, _stamp(os.fstat(descriptor)))

    def recover(self, *, now: float) -> Found | None:
        """
        Put in place what a process had written when it was killed; sweep up after others.

        Only for whoever holds the lock: then no other writer is at work.

        :param now: Unix seconds, as file dates have them.
        :return: What the file holds now, None if there was nothing for it.
        :raise NotWritable: if it cannot be put in place.
        :raise OSError: if the file cannot be read.
        :raise NoCredential: likewise.
        """
        left = sorted(self._folder.glob(f".{_escaped(self.path.name)}.*{_ENDING}"))
        if not left:
            return None
        here = identity(self.read().document)
        recovered = None
        for path in left:
            successor = CredentialFile(path)
            try:
                document = successor.read().document
                whole = identity(document) != here and path.name.split(".")[-3] == here
            except (OSError, NoCredential):
                whole = False
            if whole:
                with self._failing():
                    _sync(path)
                    os.rename(path, self.path)
                    self._sync_folder()
                recovered = self.read()
                here = identity(recovered.document)
            else:
                with contextlib.suppress(OSError):
                    if now - path.stat().st_mtime > _ABANDONED:
                        path.unlink()
        return recovered

    @contextlib.contextmanager
    def _scratch(self, mark: str) -> Iterator[tuple[int, Path]]:
        """Have a new file beside ours, with our owner; it is gone at the end or in place."""
        name = f".{self.path.name}.{mark}.{secrets.token_hex(4)}{_ENDING}"
        path = self._folder / name
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
            self._keep_owner(descriptor)
            yield descriptor, path
        finally:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                os.unlink(path)

    def _keep_owner(self, descriptor: int) -> None:
        try:
            owner = os.stat(self.path)
        except FileNotFoundError:
            return
        own = os.geteuid()
        if own == 0:
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        elif owner.st_uid != own:
            # Replacing it would take it from whoever owns it: they could not read it any more.
            raise NotWritable(
                f"{self._subject()} belongs to another user and cannot be written without taking "
                "it from them. Run the gateway as that user, or give it a copy of its own."
            )

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> NoReturn:
        why = error.strerror or type(error).__name__
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = "Make room on its disk."
        else:
            remedy = (
                "Let the gateway's user write to its folder, or give it a copy of the file in a "
                "folder of its own."
            )
        raise NotWritable(f"{self._subject()} cannot be written ({why}). {remedy}") from None

    def _subject(self) -> str:
        return self.title[0].upper() + self.title[1:]

    def _sync_folder(self) -> None:
        # Some network file systems cannot; there the rename is as safe as it gets.
        with contextlib.suppress(OSError):
            _sync(self._folder)


def _parsed(data: bytes) -> dict[str, Any]:
    if len(data) > LONGEST:
        raise NoCredential(f"is longer than {LONGEST} bytes")
    try:
        document = json.loads(
            data.decode("utf-8-sig"), parse_constant=_no_number, parse_float=_float
        )
    except (ValueError, RecursionError):
        # Its own words would quote the content.
        raise NoCredential("holds no valid JSON") from None
    if not isinstance(document, dict):
        raise NoCredential("holds no JSON object")
    check_tokens(document)
    return document


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        # It could not be written as JSON again.
        raise ValueError(text)
    return number


def _dumped(document: Mapping[str, Any]) -> bytes:
    """Write a document as the vendors' own clients do, in JavaScript."""
    text = json.dumps(document, indent=2, ensure_ascii=False)
    try:
        return text.encode()
    except UnicodeEncodeError:
        # Half a surrogate pair can only be kept as an escape.
        return json.dumps(document, indent=2).encode()


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _stamp(found: os.stat_result) -> Stamp:
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _escaped(name: str) -> str:
    """Return a name that a glob takes literally."""
    return "".join(f"[{each}]" if each in "*?[" else each for each in name)
