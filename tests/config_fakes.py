"""
Small kinds of providers and a scratch folder for the tests of the configuration.

The fakes show that `aiclient2api.config` needs nothing but the seam: no real provider
is imported.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from twisted.plugin import IPlugin
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from aiclient2api.config import Settings, load
from aiclient2api.errors import ConfigurationError
from aiclient2api.interfaces import IProvider, IProviderFactory
from aiclient2api.values import Runtime, setting


@attrs.frozen
class OpenAISettings:
    """A key, a URL and a choice."""

    openai_api_key: str | None = setting(kind="secret", help="The key.")
    openai_base_url: str = setting(
        kind="url", default="https://api.openai.com/v1", help="The base URL."
    )
    openai_flavour: str = setting(
        kind="choice", default="plain", choices=("plain", "Fancy"), help="A choice."
    )


@attrs.frozen
class FileSettings:
    """A credential in a file."""

    sample_creds_file_path: Path | None = setting(kind="path", help="The credential's file.")
    sample_project: str | None = setting(kind="text", help="A project.")


@attrs.frozen
class NoSettings:
    """Nothing to set."""


@implementer(IPlugin, IProviderFactory)
@attrs.frozen
class FakeFactory:
    """A kind of provider, as config sees it."""

    name: str
    settings: Any
    needs_credential: bool = True
    presets: Mapping[str, Mapping[str, str]] = {}
    title: str = "A fake"
    terms: str = ""

    def provider(self, *, name: str, runtime: Runtime) -> IProvider:
        """Fail: config never makes a provider."""
        raise AssertionError("config must not make providers")

    def defaults(self, *, name: str) -> Mapping[str, str]:
        """Return the preset of *name*."""
        return self.presets.get(name, {})


OPENAI = FakeFactory(
    "openai-custom",
    OpenAISettings,
    presets={"openai-custom-kimi": {"openai_base_url": "https://api.kimi.example/v1"}},
)
OPENAI_RESPONSES = FakeFactory("openaiResponses-custom", OpenAISettings)
SAMPLE = FakeFactory("sample-oauth", FileSettings)
SANDBOX = FakeFactory("sandbox", NoSettings, needs_credential=False)
FACTORIES: tuple[FakeFactory, ...] = (OPENAI, OPENAI_RESPONSES, SAMPLE, SANDBOX)


class ConfigTestCase(SynchronousTestCase):
    """A scratch folder with a configuration in it."""

    def setUp(self) -> None:
        """Make the folder the program is started in, and a home."""
        self.cwd = Path(self.mktemp()).absolute()
        self.cwd.mkdir(parents=True)
        self.home = self.cwd / "home"
        self.home.mkdir()

    def write(self, name: str, content: Any) -> Path:
        """Write a file below the start-up folder: text as it is, anything else as JSON."""
        path = self.cwd / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    def load(
        self,
        content: Any = None,
        *,
        pools: Any = None,
        flags: Mapping[str, object] | None = None,
        environ: Mapping[str, str] | None = None,
        factories: Sequence[Any] = FACTORIES,
        uid: int = 1000,
    ) -> Settings:
        """Load ``config.json`` and ``provider_pools.json`` with this content, if any."""
        if content is not None:
            self.write("config.json", content)
        if pools is not None:
            self.write("provider_pools.json", pools)
        return load(
            flags=flags or {},
            environ={"HOME": str(self.home), **(environ or {})},
            cwd=self.cwd,
            factories=factories,
            system_config=self.cwd / "system" / "config.json",
            uid=uid,
        )

    def faults(self, content: Any = None, **arguments: Any) -> tuple[str, ...]:
        """Return the faults of a configuration that must not be accepted."""
        try:
            self.load(content, **arguments)
        except ConfigurationError as error:
            return error.faults
        self.fail("the configuration was accepted")

    def assertFault(self, content: Any, *parts: str, **arguments: Any) -> None:
        """Check that there is one fault and that it holds all *parts*."""
        found = self.faults(content, **arguments)
        self.assertEqual(len(found), 1, found)
        for part in parts:
            self.assertIn(part, found[0])

    def assertWarned(self, settings: Settings, *parts: str) -> None:
        """Check that one warning holds all *parts*."""
        for warning in settings.warnings:
            if all(part in warning for part in parts):
                return
        self.fail(f"no warning with {parts} in {settings.warnings}")
