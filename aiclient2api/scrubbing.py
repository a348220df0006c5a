"""
What this process must not tell: the scrubber that its log and its commands go through.

Which strings of the settings are secret is said here, once for the gateway and for every
command. It must never know what a text says, nor open a file.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO, cast
from urllib.parse import unquote, urlsplit

import attrs

from aiclient2api.config import Settings
from aiclient2api.errors import ConfigurationError
from aiclient2api.observe.redaction import MARK
from aiclient2api.observe.scrubber import Scrubber, secrets_in

IN_FORCE = Scrubber()
"""What this process knows to be secret. The log goes through it from the first line on."""

_LEAST_OF_PATHS = 6
"""Characters of a webhook's path from which on it may be what gives access."""


def secrets_of(settings: Settings) -> Iterator[str]:
    """Yield all that is secret in *settings*; credential files are not read for it."""
    yield from settings.keys or ()
    for provider in settings.providers.values():
        for account in provider.accounts:
            yield from account.secrets
            yield from _set(account.settings)
            yield from _passwords(account.proxy)
    yield from _passwords(settings.proxy_url)
    webhook = settings.health_alert_webhook_url
    yield from _passwords(webhook)
    if webhook:
        parts = _split(webhook)
        for part in (parts.path.strip("/"), parts.query) if parts else (webhook,):
            if len(part) >= _LEAST_OF_PATHS:
                yield part


def _set(settings: Any) -> Iterator[str]:
    """Yield what an account is set to under the names of secrets, such as a client's secret."""
    fields = attrs.fields(type(settings)) if attrs.has(type(settings)) else ()
    values = {each.name: getattr(settings, each.name) for each in fields}
    yield from secrets_in(values)


def passwords_in(*urls: str | None) -> Iterator[str]:
    """Yield the passwords in URLs such as those of proxies, as written and as sent."""
    for url in urls:
        yield from _passwords(url)


def _passwords(url: str | None) -> Iterator[str]:
    parts = _split(url) if url else None
    if parts is not None and parts.password:
        yield parts.password
        yield unquote(parts.password)


def _split(url: str) -> Any:
    try:
        return urlsplit(url)
    except ValueError:
        return None


@attrs.define(eq=False)
class CleanText:
    """
    A text stream whose reader is told no secret; all else is the stream's own.

    Whoever writes a secret in two pieces is not found out: nobody here does.
    """

    _stream: TextIO
    _scrubber: Scrubber

    def write(self, text: str) -> int:
        """Write *text* without what is known to be secret."""
        self._stream.write(cleaned(self._scrubber.known, text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def cleaned(clean: Any, text: str) -> str:
    """Return what *clean* makes of *text*; never *text* itself if that fails."""
    try:
        return cast(str, clean(text))
    except Exception as error:
        ending = "\n" if text.endswith("\n") else ""
        return f"{MARK} (this could not be looked through: {type(error).__name__}){ending}"


@contextmanager
def discreet() -> Iterator[None]:
    """Let nothing that is printed meanwhile hold a secret, not even a bug's traceback."""
    IN_FORCE.forget()
    out, err = CleanText(sys.stdout, IN_FORCE), CleanText(sys.stderr, IN_FORCE)
    with redirect_stdout(cast(TextIO, out)), redirect_stderr(cast(TextIO, err)):
        try:
            yield
        except (ConfigurationError, SystemExit):
            raise
        except Exception:
            sys.excepthook(*sys.exc_info())
            raise SystemExit(1) from None
