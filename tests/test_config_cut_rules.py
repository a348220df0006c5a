"""What to do with a stream that broke off: ``on_cut``."""

from __future__ import annotations

from aiclient2api.config import Settings
from aiclient2api.cut_routes import OnCut
from tests.config_fakes import ConfigTestCase

KEY = {"openai_api_key": "sk-a"}


class OnCutTests(ConfigTestCase):
    """Two providers of a group, and models."""

    def having(self, on_cut: object, key: str = "on_cut") -> Settings:
        """Load with *on_cut*."""
        return self.load({**KEY, key: on_cut}, pools={"openai-custom-b": [{}]})

    def test_one_word(self) -> None:
        """In each spelling; the default is to tell the client."""
        self.assertEqual(self.load(KEY).on_cut, OnCut("error"))
        for key in ("on_cut", "ON_CUT", "onCut"):
            found = self.having("Resume", key)
            self.assertEqual((found.on_cut, found.warnings), (OnCut("resume"), ()))

    def test_routes(self) -> None:
        """A provider by its name or its kind, anything else is a model or a pattern."""
        found = self.having(
            {"openai-custom": "resume", "gpt-4o": "error", "gpt-*": "resume", "_c": 1, "x": None}
        )
        self.assertEqual(
            found.on_cut,
            OnCut(
                providers={"openai-custom": "resume", "openai-custom-b": "resume"},
                models={"gpt-4o": "error", "gpt-*": "resume"},
            ),
        )
        self.assertEqual(found.warnings, ())

    def test_a_name_beats_its_kind(self) -> None:
        """Wherever the two stand."""
        wanted = {"openai-custom": "resume", "openai-custom-b": "error"}
        for names in (("openai-custom", "openai-custom-b"), ("openai-custom-b", "openai-custom")):
            found = self.having({name: wanted[name] for name in names})
            self.assertEqual(dict(found.on_cut.providers), wanted)

    def test_a_provider_without_an_account(self) -> None:
        """Is told of."""
        found = self.having({"sample-oauth": "resume"})
        self.assertWarned(found, "on_cut", "sample-oauth is not configured")
        self.assertEqual(found.on_cut, OnCut())

    def test_faults(self) -> None:
        """Each with its key and what may stand there."""
        self.assertFault({"on_cut": "retry"}, "on_cut", "error", "resume")
        self.assertFault({"on_cut": ["resume"]}, "on_cut", "object")
        self.assertFault({"on_cut": {"gpt-4o": "sometimes"}}, "on_cut", "gpt-4o", "resume")
