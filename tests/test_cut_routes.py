"""Which streams are gone on with: by model, by provider, by pattern."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.cut_routes import OnCut


class OnCutTests(SynchronousTestCase):
    """What the operator's words come to."""

    def test_one_word_for_all(self) -> None:
        """Nothing is resumed unless somebody said so."""
        self.assertFalse(OnCut().resumes("openai-custom", ["m"]))
        self.assertFalse(OnCut("error").resumes("openai-custom", ["m"]))
        self.assertTrue(OnCut("resume").resumes("openai-custom", ["m"]))

    def test_what_counts_most(self) -> None:
        """A model's own name, then its provider, then the longest pattern."""
        rules = OnCut(
            providers={"openai-custom": "resume", "claude-custom": "error"},
            models={"gpt-4o": "error", "claude-*": "error", "claude-3*": "resume", "m": "resume"},
        )
        self.assertTrue(rules.resumes("openai-custom", ["gpt-4"]))
        self.assertFalse(rules.resumes("openai-custom", ["gpt-4o"]))
        self.assertTrue(rules.resumes("openai-custom", ["claude-2"]))
        self.assertFalse(rules.resumes("claude-custom", ["claude-3-5"]))
        self.assertTrue(rules.resumes("claude-custom", ["m"]))
        self.assertTrue(rules.resumes("other", ["claude-3-5"]))
        self.assertFalse(rules.resumes("other", ["claude-2"]))
        self.assertFalse(rules.resumes("other", ["gpt-5"]))

    def test_every_name_of_a_model(self) -> None:
        """The one that counts most first: an id of the operator's own, then the real name."""
        rules = OnCut(models={"mine": "resume", "gpt-4o": "error", "*": "resume"})
        self.assertTrue(rules.resumes("p", ["mine", "gpt-4o"]))
        self.assertFalse(rules.resumes("p", ["gpt-4o", "mine"]))
        self.assertTrue(rules.resumes("p", ["else"]))
