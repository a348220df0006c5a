"""Fallbacks: where else a request may go, in which order, and what has more room."""

from __future__ import annotations

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.fallbacks import CHAIN, MAPPING, Fallbacks, Target, matches, targets, wider
from aiclient2api.policy import Choice, Directory
from aiclient2api.values import CustomModel, Sampling

DIRECTORY = Directory(
    served={
        "openai-custom": ("gpt-4o", "shared"),
        "openai-custom-b": ("gpt-4o", "gpt-5"),
        "claude-custom": ("claude-sonnet", "shared"),
        "local": (),
    },
    speaks={},
    unavailable={"gemini-cli-oauth": "it is not built yet"},
    known=("openai-custom", "claude-custom", "gemini-custom", "gemini-cli-oauth"),
    defaults=("openai-custom",),
)
GPT = Choice("openai-custom", "gpt-4o", "model")


def places(
    fallbacks: Fallbacks, choice: Choice = GPT, directory: Directory = DIRECTORY
) -> list[str]:
    """Return the targets as ``provider:model``."""
    return [f"{each.provider}:{each.model}" for each in targets(choice, directory, fallbacks)]


class ChainTests(SynchronousTestCase):
    """The same model of other providers."""

    def test_without_fallbacks_there_is_the_choice(self) -> None:
        """Its reason is why it is tried."""
        self.assertEqual(
            targets(GPT, DIRECTORY, Fallbacks()), (Target("openai-custom", "gpt-4o", "model"),)
        )

    def test_the_chain_comes_in_its_order(self) -> None:
        """After the choice, each with the same model, and with why."""
        fallbacks = Fallbacks(chains=(("openai-custom", ("local", "openai-custom-b")),))
        self.assertEqual(
            targets(GPT, DIRECTORY, fallbacks),
            (
                Target("openai-custom", "gpt-4o", "model"),
                Target("local", "gpt-4o", CHAIN),
                Target("openai-custom-b", "gpt-4o", CHAIN),
            ),
        )

    def test_only_who_may_serve_the_model(self) -> None:
        """One whose models are known must have it; one whose models nobody knows may."""
        fallbacks = Fallbacks(chains=(("*", ("claude-custom", "local")),))
        self.assertEqual(places(fallbacks), ["openai-custom:gpt-4o", "local:gpt-4o"])

    def test_who_is_not_there_is_left_out(self) -> None:
        """Unavailable, unknown, without a credential: the configuration has warned."""
        names = ("gemini-cli-oauth", "gemini-custom", "nonsense", "openai-custom-b")
        fallbacks = Fallbacks(chains=(("openai-custom", names),))
        self.assertEqual(places(fallbacks), ["openai-custom:gpt-4o", "openai-custom-b:gpt-4o"])
        served = {**DIRECTORY.served, "gemini-cli-oauth": ()}
        seated_but_down = attrs.evolve(DIRECTORY, served=served)
        self.assertNotIn("gemini-cli-oauth:gpt-4o", places(fallbacks, GPT, seated_but_down))

    def test_a_chain_is_one_level_deep(self) -> None:
        """The chain of a provider in a chain is not followed, and nobody comes twice."""
        fallbacks = Fallbacks(
            chains=(
                ("openai-custom", ("openai-custom-b", "openai-custom", "openai-custom-b")),
                ("openai-custom-b", ("local",)),
            )
        )
        self.assertEqual(places(fallbacks), ["openai-custom:gpt-4o", "openai-custom-b:gpt-4o"])


class KeyTests(SynchronousTestCase):
    """Whose chain it is: a name beats a base, a base beats the longest pattern."""

    def chain(self, provider: str, *keys: str) -> tuple[str, ...]:
        """Return the keys that count for *provider*."""
        fallbacks = Fallbacks(chains=tuple((key, (key,)) for key in keys))
        return tuple(fallbacks.chain(provider, bases=DIRECTORY.known))

    def test_a_name_beats_its_base(self) -> None:
        """In whatever order they stand."""
        keys = ("*", "openai-*", "openai-custom", "openai-custom-b")
        for order in (keys, keys[::-1]):
            self.assertEqual(self.chain("openai-custom-b", *order), ("openai-custom-b",))

    def test_a_base_covers_grouped_names(self) -> None:
        """And beats a pattern, even a longer one."""
        keys = ("*", "openai-custom-*", "openai-custom")
        for order in (keys, keys[::-1]):
            self.assertEqual(self.chain("openai-custom-b", *order), ("openai-custom",))
            self.assertEqual(self.chain("openai-custom-b-c", *order), ("openai-custom",))

    def test_a_grouped_name_is_no_base(self) -> None:
        """``openai-custom-kimi`` has nothing to do with ``openai-custom-kimi-cn``."""
        self.assertEqual(self.chain("openai-custom-kimi-cn", "openai-custom-kimi"), ())
        self.assertEqual(self.chain("openai-customs", "openai-custom"), ())

    def test_the_longest_pattern_counts(self) -> None:
        """In whatever order they stand."""
        for order in (("*", "loc*", "lo*"), ("loc*", "lo*", "*")):
            self.assertEqual(self.chain("local", *order), ("loc*",))
        self.assertEqual(self.chain("local", "x*"), ())


class PatternTests(SynchronousTestCase):
    """A star is any text."""

    def test_patterns(self) -> None:
        """All of the name has to fit, and nothing but the star is special."""
        for pattern, name, fits in (
            ("*", "", True),
            ("*", "a\nb", True),
            ("claude-*", "claude-", True),
            ("claude-*", "my-claude-3", False),
            ("*-latest", "a-latest", True),
            ("*-latest", "a-latest-b", False),
            ("a*a", "a", False),
            ("a*b*c", "a-c-b-c", True),
            ("a*b*c", "acb", False),
            ("a**b", "ab", True),
            ("gpt-4.1", "gpt-4x1", False),
            ("gpt-[45]*", "gpt-4", False),
            ("", "", True),
            ("", "a", False),
        ):
            self.assertIs(matches(pattern, name), fits, (pattern, name))

    @given(st.text("ab*", max_size=6), st.text("ab", max_size=8))
    def test_it_is_what_a_star_means(self, pattern: str, name: str) -> None:
        """As the plain definition, letter by letter, says."""

        def fits(pattern: str, name: str) -> bool:
            if not pattern:
                return not name
            if pattern[0] == "*":
                return any(fits(pattern[1:], name[at:]) for at in range(len(name) + 1))
            return name[:1] == pattern[0] and fits(pattern[1:], name[1:])

        self.assertIs(matches(pattern, name), fits(pattern, name))


class MappingTests(SynchronousTestCase):
    """Other models, after the chain."""

    def test_stand_ins_follow_the_chain(self) -> None:
        """Each with the chain of its own provider behind it, across dialects."""
        fallbacks = Fallbacks(
            chains=(("openai-custom", ("openai-custom-b",)), ("claude-custom", ("local",))),
            models=(
                ("gpt-4o", (("claude-custom", "claude-sonnet"), ("openai-custom-b", "gpt-5"))),
            ),
        )
        self.assertEqual(
            targets(GPT, DIRECTORY, fallbacks),
            (
                Target("openai-custom", "gpt-4o", "model"),
                Target("openai-custom-b", "gpt-4o", CHAIN),
                Target("claude-custom", "claude-sonnet", MAPPING, mapped=True),
                Target("local", "claude-sonnet", CHAIN, mapped=True),
                Target("openai-custom-b", "gpt-5", MAPPING, mapped=True),
            ),
        )

    def test_stand_ins_have_no_stand_ins(self) -> None:
        """Two models may stand in for one another."""
        fallbacks = Fallbacks(
            models=(
                ("gpt-4o", (("claude-custom", "claude-sonnet"),)),
                ("claude-sonnet", (("openai-custom", "gpt-4o"), ("local", "llama"))),
            )
        )
        self.assertEqual(places(fallbacks), ["openai-custom:gpt-4o", "claude-custom:claude-sonnet"])

    def test_a_name_beats_the_longest_pattern(self) -> None:
        """In whatever order they stand."""
        table = (
            ("*", (("local", "a"),)),
            ("gpt-*", (("local", "b"),)),
            ("gpt-4o", (("local", "c"),)),
        )
        for step in (1, -1):
            by_name, by_pattern = (
                Fallbacks(models=table[::step]),
                Fallbacks(models=table[:2][::step]),
            )
            self.assertEqual(places(by_name)[1:], ["local:c"])
            self.assertEqual(places(by_pattern)[1:], ["local:b"])

    def test_a_provider_that_was_named_is_believed(self) -> None:
        """It need not be known to serve the model; but it must be there."""
        models = (("*", (("claude-custom", "brand-new"), ("gemini-cli-oauth", "x"))),)
        self.assertEqual(places(Fallbacks(models=models))[1:], ["claude-custom:brand-new"])

    def test_without_a_provider_it_is_the_one_that_was_asked(self) -> None:
        """Unless that is known not to have it, and another has."""
        for model, place in (
            ("shared", "openai-custom:shared"),
            ("claude-sonnet", "claude-custom:claude-sonnet"),
            ("brand-new", "openai-custom:brand-new"),
            ("local:llama", "local:llama"),
            ("qwen:7b", "openai-custom:qwen:7b"),
        ):
            for provider in (None, "auto"):
                models = (("gpt-4o", ((provider, model),)),)
                self.assertEqual(places(Fallbacks(models=models))[1:], [place])
        choice = Choice("local", "gpt-4o", "path")
        found = places(Fallbacks(models=(("gpt-4o", ((None, "claude-sonnet"),)),)), choice)
        self.assertEqual(found[1:], ["local:claude-sonnet"])
        models = (("gpt-4o", ((None, "gemini-cli-oauth:gemini-2.5-pro"),)),)
        self.assertEqual(places(Fallbacks(models=models))[1:], [])

    def test_a_chain_and_a_mapping_may_name_one_place(self) -> None:
        """It comes once, in its first place, and counts as a stand-in too."""
        fallbacks = Fallbacks(
            chains=(("openai-custom", ("openai-custom-b",)),),
            models=(("gpt-4o", (("openai-custom-b", "gpt-4o"),)),),
        )
        found = targets(GPT, DIRECTORY, fallbacks)
        self.assertEqual(found[1:], (Target("openai-custom-b", "gpt-4o", CHAIN, mapped=True),))


class CustomModelTests(SynchronousTestCase):
    """An operator's own models on either side of a fallback."""

    def setUp(self) -> None:
        """Name one."""
        self.sampling = Sampling(temperature=0.2)
        self.custom = CustomModel(
            id="coder",
            alias="my-coder",
            owner="house",
            provider="claude-custom",
            model="claude-sonnet",
            context=500_000,
            sampling=self.sampling,
        )
        self.directory = attrs.evolve(DIRECTORY, custom=(self.custom,))
        self.choice = Choice("claude-custom", "claude-sonnet", "custom model", self.custom)

    def test_its_sampling_goes_along_the_chain(self) -> None:
        """It is the same model, answered by another."""
        fallbacks = Fallbacks(chains=(("claude-custom", ("local",)),))
        found = targets(self.choice, self.directory, fallbacks)
        self.assertEqual([each.provider for each in found], ["claude-custom", "local"])
        self.assertEqual([each.sampling for each in found], [self.sampling, self.sampling])

    def test_it_is_mapped_by_any_of_its_names(self) -> None:
        """Its id counts most, then its alias, then what the provider calls the model."""
        table = tuple((key, ((None, f"for-{key}"),)) for key in ("claude-sonnet", "coder"))
        found = places(Fallbacks(models=table), self.choice, self.directory)
        self.assertEqual(found[1:], ["claude-custom:for-coder"])
        for key in ("claude-sonnet", "my-coder", "cod*", "claude-*"):
            models = ((key, (("local", "llama"),)),)
            found = places(Fallbacks(models=models), self.choice, self.directory)
            self.assertEqual(found[1:], ["local:llama"])

    def test_a_name_beats_a_pattern_of_another_name(self) -> None:
        """``*`` fits the id, yet the model itself was named."""
        models = (("*", (("local", "a"),)), ("claude-sonnet", (("local", "b"),)))
        found = places(Fallbacks(models=models), self.choice, self.directory)
        self.assertEqual(found[1:], ["local:b"])

    def test_it_may_stand_in(self) -> None:
        """By id or alias, with a prefix or a provider of its own; its values go with it."""
        stand_in = Target(
            "claude-custom", "claude-sonnet", MAPPING, self.sampling, 500_000, mapped=True
        )
        for provider, model in (
            (None, "coder"),
            (None, "house:my-coder"),
            ("house", "coder"),
            ("claude-custom", "my-coder"),
        ):
            fallbacks = Fallbacks(models=(("gpt-4o", ((provider, model),)),))
            self.assertEqual(targets(GPT, self.directory, fallbacks)[1:], (stand_in,))

    def test_another_provider_has_its_own_model_of_that_name(self) -> None:
        """Whoever names the provider means its model."""
        fallbacks = Fallbacks(models=(("gpt-4o", (("local", "coder"),)),))
        self.assertEqual(
            targets(GPT, self.directory, fallbacks)[1:],
            (Target("local", "coder", MAPPING, mapped=True),),
        )

    def test_nothing_to_override_is_nothing(self) -> None:
        """Then the request need not be touched."""
        choice = attrs.evolve(self.choice, custom=attrs.evolve(self.custom, sampling=Sampling()))
        self.assertIsNone(targets(choice, self.directory, Fallbacks())[0].sampling)


class WiderTests(SynchronousTestCase):
    """What is tried when the context was too long."""

    found = (
        Target("a", "small", "model"),
        Target("b", "small", CHAIN),
        Target("a", "large", MAPPING, mapped=True),
        Target("b", "large", CHAIN, mapped=True),
        Target("a", "small-too", MAPPING, mapped=True),
        Target("a", "unknown", MAPPING, mapped=True),
        Target("a", "larger", MAPPING, mapped=True),
    )

    def after(self, at: int, **windows: int) -> list[str]:
        """Return where to go after the target at *at*."""
        windows = {"small": 100, "small_too": 100, "large": 200, "larger": 300, **windows}

        def window(provider: str, model: str) -> int | None:
            self.assertIn(provider, ("a", "b"))
            return windows.get(model.replace("-", "_"))

        later = wider(self.found, at, window)
        return [f"{each.provider}:{each.model}" for each in later]

    def test_only_stand_ins_with_a_larger_window(self) -> None:
        """Not the chain, not the same size, not the unknown."""
        self.assertEqual(self.after(0), ["a:large", "b:large", "a:larger"])

    def test_only_later_ones(self) -> None:
        """And larger than what failed last."""
        self.assertEqual(self.after(2), ["a:larger"])
        self.assertEqual(self.after(6), [])

    def test_after_an_unknown_window_nothing_is_known_to_be_larger(self) -> None:
        """A try that fails again helps no one."""
        self.assertEqual(self.after(5), [])

    def test_the_operators_word_counts(self) -> None:
        """A custom model says how much it takes."""
        known = attrs.evolve(self.found[5], context=1000)
        later = wider((self.found[0], known), 0, lambda provider, model: 100)
        self.assertEqual(later, (known,))
        little = attrs.evolve(known, context=50)
        self.assertEqual(wider((self.found[0], little), 0, lambda provider, model: 100), ())
