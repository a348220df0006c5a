"""
Kinds of providers and the settings of one account, before anybody judges them.
"""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from aiclient2api.config.accounts import Draft, Inheritance, base_of, keys_of, kinds_of
from aiclient2api.config.files import Document, Findings, Reading
from aiclient2api.config.later_keys import UNBUILT
from aiclient2api.config.values import Place
from aiclient2api.interfaces import IProviderFactory
from tests.config_fakes import FACTORIES, OPENAI, FakeFactory, NoSettings

PLACE = Place(Path("/f"), Path("/c"), None)


class KindTests(SynchronousTestCase):
    """Kinds of providers."""

    def test_the_fakes_are_honest(self) -> None:
        """The fakes of these tests keep the contract of a provider's factory."""
        for factory in FACTORIES:
            self.assertTrue(verifyObject(IProviderFactory, factory))

    def test_built_comes_before_known(self) -> None:
        """A provider that gets built takes the place of its mere name."""
        name = next(iter(UNBUILT))
        kinds = kinds_of((FakeFactory(name, NoSettings),))
        self.assertEqual([kind.built for kind in kinds if kind.name == name], [True])

    def test_fields_are_keys(self) -> None:
        """Every field of a settings class is a key of that name, with its default."""
        keys = {key.name: key for key in keys_of(kinds_of(FACTORIES))}
        self.assertEqual(keys["openai_base_url"].default, "https://api.openai.com/v1")
        self.assertIn("sample_creds_file_path", keys)
        self.assertIn("codex_oauth_creds_file_path", keys)

    def test_bases(self) -> None:
        """A name is of its own kind, or of the longest it begins with."""
        kinds = kinds_of(FACTORIES)
        for name, base in (
            ("openai-custom", "openai-custom"),
            ("openai-custom-b-c", "openai-custom"),
            ("openai-customer", None),
            ("openai", None),
            ("sandbox-2", "sandbox"),
        ):
            found = base_of(name, kinds)
            self.assertEqual(found and found.name, base, name)


class DraftTests(SynchronousTestCase):
    """One account's settings."""

    def draft(self, name: str, shared: dict[str, object], entry: dict[str, object]) -> Draft:
        """Gather an account of the OpenAI fake."""
        reading = Reading((Document("c.json: ", PLACE, shared),), Findings())
        inherited = Inheritance.of(kinds_of((OPENAI,))[0], name, reading)
        return inherited.draft(Document("p.json: ", PLACE, entry))

    def test_no_key_in_the_repr(self) -> None:
        """A draft may be logged by mistake without giving a key away."""
        draft = self.draft("openai-custom", {"openai_api_key": "hush"}, {})
        self.assertEqual(draft.secrets, ("hush",))
        self.assertNotIn("hush", repr(draft))

    def test_identity_without_a_credential(self) -> None:
        """Two servers that ask for no key are two accounts."""
        ids = {
            self.draft(
                "openai-custom", {}, {"openai_base_url": f"http://127.0.0.1:{port}"}
            ).identity
            for port in (1, 2)
        }
        self.assertEqual(len(ids), 2)

    def test_a_key_of_its_own_is_not_borrowed(self) -> None:
        """Only a shared key that goes elsewhere is odd."""
        url = "https://b.example/v1"
        shared: dict[str, object] = {"openai_api_key": "sk-all"}
        borrowed = self.draft("openai-custom", shared, {"openai_base_url": url})
        self.assertIn("b.example", "".join(told for told, _ in borrowed.oddities()))
        own = self.draft("openai-custom", shared, {"openai_base_url": url, "openaiApiKey": "sk-b"})
        self.assertEqual(list(own.oddities()), [])
