"""Policy: which provider answers, and under which model name."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.errors import InvalidRequest, ProviderUnavailable, UnknownModel
from aiclient2api.policy import Choice, Directory, choose_provider, split_prefix
from aiclient2api.values import CustomModel, Sampling

DIRECTORY = Directory(
    served={
        "openai-custom": ["gpt-4o", "shared"],
        "claude-custom": ["claude-sonnet", "shared"],
        "sandbox": ["sandbox"],
    },
    speaks={"openai-custom": "chat", "claude-custom": "messages", "sandbox": "chat"},
    unavailable={"gemini-cli-oauth": "it is not built yet"},
    known=("openai-custom", "claude-custom", "gemini-custom", "gemini-cli-oauth", "sandbox"),
    defaults=("openai-custom",),
)


def choose(model: str, **named: Any) -> Choice:
    """Choose among `DIRECTORY`."""
    return choose_provider(model=model, directory=DIRECTORY, **named)


class ChoiceTests(SynchronousTestCase):
    """The order: model prefix, path, header, the model's own provider, default."""

    def test_a_model_prefix_beats_everything(self) -> None:
        """``provider:model`` goes to that provider, without the prefix."""
        self.assertEqual(
            choose("claude-custom:gpt-4o", path="openai-custom", header="sandbox"),
            Choice("claude-custom", "gpt-4o", "model prefix"),
        )

    def test_the_path_beats_the_header(self) -> None:
        """A provider named in the path wins over one named in a header."""
        self.assertEqual(
            choose("gpt-4o", path="claude-custom", header="sandbox"),
            Choice("claude-custom", "gpt-4o", "path"),
        )

    def test_the_header_beats_the_model(self) -> None:
        """``Model-Provider`` wins over what serves the model."""
        self.assertEqual(choose("gpt-4o", header="sandbox").provider, "sandbox")

    def test_a_model_that_one_provider_serves_goes_there(self) -> None:
        """No prefix is needed where only one provider has the model."""
        self.assertEqual(choose("claude-sonnet"), Choice("claude-custom", "claude-sonnet", "model"))

    def test_a_model_that_several_serve_goes_to_the_default(self) -> None:
        """An ambiguous model is the default provider's."""
        self.assertEqual(choose("shared"), Choice("openai-custom", "shared", "default"))

    def test_an_unknown_model_goes_to_the_default(self) -> None:
        """The upstream knows its models better than we do."""
        self.assertEqual(choose("brand-new"), Choice("openai-custom", "brand-new", "default"))


class DialectTests(SynchronousTestCase):
    """Where the rules leave a choice, the caller's own dialect makes it."""

    def test_among_several_that_serve_the_model(self) -> None:
        """The one that needs no conversion."""
        self.assertEqual(
            choose("shared", dialect="messages"), Choice("claude-custom", "shared", "model")
        )
        self.assertEqual(choose("shared", dialect="gemini").reason, "default")

    def test_among_several_defaults(self) -> None:
        """A list in model_provider serves clients of several dialects at one address."""
        both = attrs.evolve(DIRECTORY, defaults=("openai-custom", "claude-custom"))
        for dialect, provider in (
            ("messages", "claude-custom"),
            ("chat", "openai-custom"),
            ("gemini", "openai-custom"),
        ):
            choice = choose_provider(model="new", directory=both, dialect=dialect)
            self.assertEqual(choice, Choice(provider, "new", "default"))

    def test_what_is_named_is_not_second_guessed(self) -> None:
        """A prefix, a path or a header wins over the dialect."""
        self.assertEqual(choose("sandbox:x", dialect="messages").provider, "sandbox")
        self.assertEqual(choose("x", path="sandbox", dialect="messages").provider, "sandbox")
        self.assertEqual(choose("gpt-4o", dialect="messages").provider, "openai-custom")


class CustomModelTests(SynchronousTestCase):
    """An operator's own models go where he said, unless the caller names somebody else."""

    def setUp(self) -> None:
        """Name one that is listed under one provider and answered by another."""
        self.custom = CustomModel(
            id="coder",
            alias="my-coder",
            owner="sandbox",
            provider="claude-custom",
            model="claude-sonnet",
            sampling=Sampling(temperature=0.0),
        )
        self.directory = attrs.evolve(DIRECTORY, custom=(self.custom,))

    def choose(self, model: str, **named: Any) -> Choice:
        """Choose where `custom` is known."""
        return choose_provider(model=model, directory=self.directory, **named)

    def test_by_id_and_by_alias(self) -> None:
        """The choice carries the custom model, so that its sampling can be applied."""
        for model in ("coder", "my-coder"):
            self.assertEqual(
                self.choose(model),
                Choice("claude-custom", "claude-sonnet", "custom model", self.custom),
            )

    def test_a_prefix_may_name_either_provider(self) -> None:
        """That under which it is listed, or that which answers; the path has no say then."""
        for prefix in ("sandbox", "claude-custom"):
            for model in ("coder", "my-coder"):
                choice = self.choose(f"{prefix}:{model}", path="openai-custom")
                self.assertIs(choice.custom, self.custom)

    def test_another_prefix_means_that_providers_own_model(self) -> None:
        """``openai-custom:coder`` is a model of openai-custom, whatever we call ours."""
        self.assertEqual(
            self.choose("openai-custom:coder"), Choice("openai-custom", "coder", "model prefix")
        )

    def test_path_and_header_may_exclude_it(self) -> None:
        """The user named a provider explicitly; the header counts without a path only."""
        for named in ({"path": "openai-custom"}, {"header": "openai-custom"}):
            self.assertEqual(self.choose("coder", **named).provider, "openai-custom")
        named = {"path": "sandbox", "header": "openai-custom"}
        self.assertIs(self.choose("coder", **named).custom, self.custom)

    def test_auto_and_an_empty_header_exclude_nothing(self) -> None:
        """They name no provider."""
        for named in ({"path": "auto"}, {"header": "auto"}, {"header": ""}):
            self.assertIs(self.choose("coder", **named).custom, self.custom)

    def test_it_beats_a_model_of_the_same_name(self) -> None:
        """Even one that exactly one provider serves."""
        custom = attrs.evolve(self.custom, id="gpt-4o")
        directory = attrs.evolve(DIRECTORY, custom=(custom,))
        choice = choose_provider(model="gpt-4o", directory=directory)
        self.assertEqual(choice.provider, "claude-custom")

    def test_a_name_with_a_colon(self) -> None:
        """An id is compared whole before anything is split off."""
        custom = attrs.evolve(self.custom, id="mine:7b", alias=None)
        directory = attrs.evolve(DIRECTORY, custom=(custom,))
        for model in ("mine:7b", "sandbox:mine:7b"):
            choice = choose_provider(model=model, directory=directory)
            self.assertIs(choice.custom, custom)

    def test_of_two_of_one_name_the_first_that_fits_counts(self) -> None:
        """Two providers may have an own ``coder`` each."""
        other = attrs.evolve(self.custom, owner=None, provider="openai-custom", model="gpt-4o")
        directory = attrs.evolve(DIRECTORY, custom=(self.custom, other))
        choice = choose_provider(model="coder", directory=directory)
        self.assertIs(choice.custom, self.custom)
        choice = choose_provider(model="coder", directory=directory, path="openai-custom")
        self.assertIs(choice.custom, other)

    def test_an_owner_need_not_be_configured(self) -> None:
        """It may be a name to list under and no more."""
        custom = attrs.evolve(self.custom, owner="house")
        directory = attrs.evolve(DIRECTORY, custom=(custom,))
        choice = choose_provider(model="house:coder", directory=directory)
        self.assertIs(choice.custom, custom)

    def test_a_provider_that_cannot_answer_says_so(self) -> None:
        """The error names the model by which the caller asked for it."""
        for provider, kind in (
            ("gemini-cli-oauth", ProviderUnavailable),
            ("gemini-custom", InvalidRequest),
        ):
            custom = attrs.evolve(self.custom, provider=provider)
            directory = attrs.evolve(DIRECTORY, custom=(custom,))
            error = self.assertRaises(kind, choose_provider, model="coder", directory=directory)
            self.assertIn("custom model coder", error.message)

    def test_no_model_is_no_custom_model(self) -> None:
        """Requests that concern no model are routed as ever."""
        self.assertEqual(self.choose("").reason, "default")
        self.assertEqual(self.choose("sandbox:").reason, "default")


class PrefixTests(SynchronousTestCase):
    """A colon in a model name is not always a prefix."""

    def test_a_tag_is_no_prefix(self) -> None:
        """``qwen2.5:7b`` and ``a/b:free`` survive whole."""
        for model in ("qwen2.5:7b", "moonshotai/kimi-k2:free", "sandbox:", ":x"):
            self.assertEqual(split_prefix(model, {"sandbox": 1}), (None, model))

    def test_only_the_first_colon_splits(self) -> None:
        """A model behind a prefix may have a tag of its own."""
        self.assertEqual(split_prefix("sandbox:a:b", {"sandbox": 1}), ("sandbox", "a:b"))


class RefusalTests(SynchronousTestCase):
    """What cannot be chosen is refused with a reason."""

    def test_a_provider_that_is_not_built_is_unavailable(self) -> None:
        """Naming it, in any way, gives 503 and why."""
        for named in (
            {"model": "gemini-cli-oauth:gemini-2.5-pro"},
            {"model": "x", "path": "gemini-cli-oauth"},
            {"model": "x", "header": "gemini-cli-oauth"},
        ):
            error = self.assertRaises(
                ProviderUnavailable, choose_provider, directory=DIRECTORY, **named
            )
            self.assertIn("not built yet", error.message)

    def test_an_unknown_provider_is_a_bad_request_that_lists_the_known(self) -> None:
        """A typo is told apart from a provider without a credential."""
        error = self.assertRaises(InvalidRequest, choose, "x", header="opnai")
        self.assertIn("does not exist", error.message)
        self.assertIn("claude-custom, openai-custom, sandbox", error.message)
        error = self.assertRaises(InvalidRequest, choose, "x", header="gemini-custom")
        self.assertIn("no credential", error.message)

    def test_without_a_default_an_undecided_model_is_not_found(self) -> None:
        """In auto mode the message says how to write a prefix."""
        auto = attrs.evolve(DIRECTORY, unavailable={}, defaults=())
        error = self.assertRaises(UnknownModel, choose_provider, model="shared", directory=auto)
        self.assertIn("openai-custom:shared", error.message)
        self.assertRaises(UnknownModel, choose_provider, model="brand-new", directory=auto)

    def test_auto_in_the_path_asks_for_the_model_to_decide(self) -> None:
        """``/auto/v1/...`` does not fall back to the default provider."""
        self.assertEqual(choose("claude-sonnet", path="auto").provider, "claude-custom")
        self.assertRaises(UnknownModel, choose, "brand-new", path="auto")

    def test_a_default_that_cannot_answer_says_so(self) -> None:
        """A configured default that is not built gives 503, not a wrong provider."""
        directory = attrs.evolve(DIRECTORY, defaults=("gemini-cli-oauth",))
        self.assertRaises(
            ProviderUnavailable, choose_provider, model="gemini-2.5-pro", directory=directory
        )
