"""
Kinds of provider that one logs in to, for tests of ``login`` and ``import``.

They have the names, keys and logins of the real ones and make no provider.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from twisted.plugin import IPlugin
from twisted.python.components import registerAdapter
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from aiclient2api.interfaces import ILogins, IProvider, IProviderFactory
from aiclient2api.oauth.google_login import SCOPES, GoogleLogins
from aiclient2api.oauth.kiro_login import KiroLogins
from aiclient2api.oauth.qwen_login import QwenLogins
from aiclient2api.providers.openai_custom import openai_custom
from aiclient2api.values import Runtime, setting

GOOGLE = {
    "access_token": "ya29.google-secret",
    "refresh_token": "1//google-secret",
    "scope": " ".join(SCOPES),
    "token_type": "Bearer",
    "expiry_date": 1_700_000_000_000,
}
QWEN = {
    "access_token": "qwen-access-secret",
    "refresh_token": "qwen-refresh-secret",
    "token_type": "Bearer",
    "resource_url": "portal.qwen.ai",
    "expiry_date": 1_700_000_000_000,
}
KIRO = {
    "accessToken": "kiro-access-secret",
    "refreshToken": "kiro-refresh-secret",
    "expiresAt": "2023-11-14T22:13:20.000Z",
    "authMethod": "social",
}


@attrs.frozen(repr=False)
class GoogleSettings:
    """Where the credential is."""

    gemini_oauth_creds_file_path: Path | None = setting(kind="path", help="File.")
    gemini_base_url: str | None = setting(kind="url", help="URL.")
    project_id: str | None = setting(kind="text", help="Project.")


@attrs.frozen(repr=False)
class QwenSettings:
    """Where the credential is."""

    qwen_oauth_creds_file_path: Path | None = setting(kind="path", help="File.")
    qwen_oauth_base_url: str | None = setting(kind="url", help="URL.")


@attrs.frozen(repr=False)
class KiroSettings:
    """Where the credential is."""

    kiro_oauth_creds_file_path: Path | None = setting(kind="path", help="File.")
    kiro_oauth_creds_dir_path: Path | None = setting(kind="path", help="Folder.")


@implementer(IPlugin, IProviderFactory)
@attrs.frozen(eq=False)
class Kind:
    """A kind of provider that there is no provider of."""

    name: str
    settings: type[Any]
    logins: ILogins
    title: str = "A provider"
    terms: str = "Its vendor\nforbids it."
    needs_credential: bool = True

    def provider(self, *, name: str, runtime: Runtime) -> IProvider:
        """Fail: nobody asks for one."""
        raise AssertionError(name)

    def defaults(self, *, name: str) -> Mapping[str, str]:
        """Return nothing."""
        return {}


registerAdapter(lambda kind: kind.logins, Kind, ILogins)

KINDS: Sequence[IProviderFactory] = (
    Kind("gemini-cli-oauth", GoogleSettings, GoogleLogins(lambda settings: ("id", "secret"))),
    Kind("openai-qwen-oauth", QwenSettings, QwenLogins()),
    Kind("claude-kiro-oauth", KiroSettings, KiroLogins()),
    openai_custom,
)


class Terminal(io.StringIO):
    """Standard input with a person behind it."""

    def isatty(self) -> bool:
        """Say so."""
        return True


class LoginCase(SynchronousTestCase):
    """An empty folder and home, in which a command is run."""

    def setUp(self) -> None:
        """Make them."""
        self.folder = Path(self.mktemp()).absolute()
        self.home = self.folder / "home"
        self.home.mkdir(parents=True)
        self.state = self.folder / "state"
        self.path = self.folder / "provider_pools.json"
        self.patch(os, "environ", {"HOME": str(self.home)})

    def typed(
        self,
        command: Callable[[Sequence[str]], int],
        *arguments: str,
        status: int = 0,
        stdin: io.StringIO | None = None,
    ) -> str:
        """Run a command; return all that it printed. No secret may be in it."""
        out = io.StringIO()
        self.patch(sys, "stdin", stdin or io.StringIO())
        with (
            contextlib.chdir(self.folder),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(out),
        ):
            found = command(arguments)
        said = out.getvalue()
        self.assertEqual(found, status, said)
        self.assertNotIn("-secret", said)
        return said

    def write(self, path: str, document: Any) -> Path:
        """Write a JSON file below the folder."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(document))
        return file

    def pools(self) -> Any:
        """Return what the accounts' file holds; nothing if there is none."""
        return json.loads(self.path.read_text()) if self.path.exists() else {}
