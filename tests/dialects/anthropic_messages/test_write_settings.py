"""Sampling and thinking as one model or another will have them."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation.request import (
    Call,
    Part,
    Reasoning,
    Result,
    Sampling,
    Text,
    Thinking,
    ToolChoice,
    Turn,
)
from tests.dialects.anthropic_messages.asking import (
    CLAUDE,
    FOREIGN,
    SEAL,
    TOOL,
    USER,
    asked,
)


class SamplingTests(SynchronousTestCase):
    """How tokens are chosen."""

    def sampled(self, model: str, *, thinking: Thinking | None = None, **fields: Any) -> Any:
        """Return the settings that are sent to *model*, and the losses."""
        told = asked(model, sampling=Sampling(**fields), thinking=thinking)
        keys = ("temperature", "top_p", "top_k", "stop_sequences")
        return {key: told[key] for key in keys if key in told}, told["losses"]

    def test_what_was_said(self) -> None:
        """An explicit nought stays one."""
        self.assertEqual(
            self.sampled(CLAUDE, temperature=0, top_k=0, stop=("END",)),
            ({"temperature": 0, "top_k": 0, "stop_sequences": ["END"]}, ()),
        )

    def test_too_hot(self) -> None:
        """Anthropic's temperatures end at 1."""
        self.assertEqual(
            self.sampled(CLAUDE, temperature=1.5), ({"temperature": 1}, ("temperature",))
        )

    def test_temperature_and_top_p(self) -> None:
        """Models from 4.1 on take one of them."""
        both: dict[str, Any] = {"temperature": 0.5, "top_p": 0.9}
        self.assertEqual(self.sampled("claude-sonnet-4-0", **both), (both, ()))
        self.assertEqual(self.sampled("kimi-k2", **both), (both, ()))
        self.assertEqual(
            self.sampled("claude-opus-4-1", **both), ({"temperature": 0.5}, ("top_p",))
        )
        self.assertEqual(self.sampled("claude-opus-4-1", top_p=0.9), ({"top_p": 0.9}, ()))

    def test_while_it_thinks(self) -> None:
        """No temperature but 1, no top_k, and hardly any top_p."""
        budget = Thinking(budget=2048)
        self.assertEqual(
            self.sampled(CLAUDE, thinking=budget, temperature=0.5, top_k=5, top_p=0.5),
            ({}, ("temperature", "top_p", "top_k")),
        )
        self.assertEqual(
            self.sampled(CLAUDE, thinking=budget, temperature=1, top_p=0.95), ({"top_p": 0.95}, ())
        )
        off = Thinking(effort="none")
        self.assertEqual(
            self.sampled(CLAUDE, thinking=off, temperature=0.5), ({"temperature": 0.5}, ())
        )

    def test_models_that_take_nothing(self) -> None:
        """From 4.7 on, none of the three is taken; what is usual is no loss."""
        self.assertEqual(
            self.sampled("claude-opus-4-7", temperature=0.5, top_k=5, top_p=0.99),
            ({}, ("temperature", "top_p", "top_k")),
        )
        self.assertEqual(self.sampled("claude-sonnet-5", temperature=1, top_p=1), ({}, ()))

    def test_what_anthropic_has_not(self) -> None:
        """It is named, unless it asks for nothing."""
        told = self.sampled(
            CLAUDE, seed=0, presence_penalty=0.5, frequency_penalty=0, logprobs=0, stop=("\n", "x")
        )
        self.assertEqual(
            told,
            ({"stop_sequences": ["x"]}, ("seed", "presence_penalty", "logprobs", "stop")),
        )

    def test_limits(self) -> None:
        """The caller's if the model can; what is usual for it if there is none."""
        for model, given, wanted, lost in (
            (CLAUDE, 100, 100, ()),
            (CLAUDE, None, 32000, ()),
            (CLAUDE, -1, 32000, ()),
            (CLAUDE, 200_000, 64_000, ("max_tokens",)),
            ("claude-3-haiku-20240307", None, 4096, ()),
            ("claude-opus-4-6", 200_000, 128_000, ("max_tokens",)),
            ("some-model", None, 8192, ()),
            ("some-model", 200_000, 200_000, ()),
        ):
            told = asked(model, sampling=Sampling(max_tokens=given))
            self.assertEqual((told["max_tokens"], told["losses"]), (wanted, lost), model)

    def test_users(self) -> None:
        """The end user's id, if Anthropic takes it; no other metadata."""
        self.assertEqual(asked(user="u")["metadata"], {"user_id": "u"})
        self.assertEqual(asked(user="u" * 257)["losses"], ("user",))
        self.assertEqual(asked(metadata={"a": 1})["losses"], ("metadata",))


class ThinkingTests(SynchronousTestCase):
    """How much to think."""

    def thought(self, model: str, thinking: Thinking, **fields: Any) -> Any:
        """Return what *model* is told of thinking, its limit of tokens and the losses."""
        told = asked(model, thinking=thinking, **fields)
        effort = told.get("output_config", {}).get("effort")
        return told.get("thinking"), effort, told["losses"]

    def test_budgets(self) -> None:
        """Models up to 4.5 are given tokens, never fewer than 1024."""
        for thinking, tokens, lost in (
            (Thinking(budget=2048), 2048, ()),
            (Thinking(effort="low"), 1024, ()),
            (Thinking(effort="high"), 24576, ()),
            (Thinking(effort="auto"), 24576, ()),
            (Thinking(budget=-1), 24576, ()),
            (Thinking(effort="minimal"), 1024, ("thinking",)),
            (Thinking(budget=5), 1024, ("thinking",)),
        ):
            wanted = {"type": "enabled", "budget_tokens": tokens}
            self.assertEqual(self.thought(CLAUDE, thinking), (wanted, None, lost))

    def test_budgets_and_limits(self) -> None:
        """The limit grows by the budget; where it cannot, the budget shrinks."""
        for given, budget, limit, granted, lost in (
            (4096, 2048, 4096, 2048, ()),
            (2048, 2048, 4096, 2048, ("max_tokens",)),
            (100, 8192, 8292, 8192, ("max_tokens",)),
            (None, 32768, 64000, 32000, ("thinking",)),
            (64000, 128000, 64000, 32000, ("max_tokens", "thinking")),
        ):
            told = asked(
                CLAUDE, thinking=Thinking(budget=budget), sampling=Sampling(max_tokens=given)
            )
            self.assertEqual(told["max_tokens"], limit)
            self.assertEqual(told["thinking"]["budget_tokens"], granted)
            self.assertEqual(told["losses"], lost)

    def test_efforts(self) -> None:
        """Models from 4.6 on are given a word, and think as they see fit."""
        plain, lost = {"type": "adaptive"}, ("thinking",)
        shown = {"type": "adaptive", "display": "summarized"}
        for model, thinking, config, effort, losses in (
            ("claude-opus-4-6", Thinking(effort="low"), plain, "low", ()),
            ("claude-opus-4-6", Thinking(effort="xhigh"), plain, "high", lost),
            ("claude-opus-4-7", Thinking(effort="xhigh"), shown, "xhigh", ()),
            ("claude-opus-4-7", Thinking(effort="minimal"), shown, "low", lost),
            ("claude-opus-4-7", Thinking(effort="auto"), shown, None, ()),
            ("claude-opus-4-7", Thinking(budget=8192), shown, "medium", lost),
            (
                "claude-sonnet-5",
                Thinking(effort="high", shown=False),
                {"type": "adaptive", "display": "omitted"},
                "high",
                (),
            ),
        ):
            self.assertEqual(self.thought(model, thinking), (config, effort, losses))

    def test_not_at_all(self) -> None:
        """Each generation has its own word for it, and some have none."""
        for model, config, effort, lost in (
            (CLAUDE, {"type": "disabled"}, None, ()),
            ("kimi-k2", {"type": "disabled"}, None, ()),
            ("claude-3-5-sonnet-20241022", None, None, ()),
            ("claude-opus-4-7", None, None, ()),
            ("claude-opus-5", {"type": "disabled"}, None, ()),
            ("claude-sonnet-5-5", {"type": "between_tools"}, None, ()),
            ("claude-opus-5-5", None, "low", ("thinking",)),
        ):
            for thinking in (Thinking(effort="none"), Thinking(budget=0)):
                self.assertEqual(self.thought(model, thinking), (config, effort, lost), model)

    def test_models_that_never_think(self) -> None:
        """They are not asked to."""
        told = self.thought("claude-3-5-haiku-20241022", Thinking(effort="high"))
        self.assertEqual(told, (None, None, ("thinking",)))

    def test_nothing_said(self) -> None:
        """Nothing is asked."""
        self.assertEqual(self.thought(CLAUDE, Thinking()), (None, None, ()))

    def test_a_forced_call(self) -> None:
        """Is what the caller insists on: no thinking stands in its way."""
        told = self.thought(
            CLAUDE, Thinking(budget=2048), tools=(TOOL,), tool_choice=ToolChoice("required")
        )
        self.assertEqual(told, (None, None, ("thinking",)))

    def test_a_prefill(self) -> None:
        """So is a turn that is to be gone on with."""
        turns = (USER, Turn("assistant", (Text("{"),)))
        told = self.thought(CLAUDE, Thinking(budget=2048), turns=turns)
        self.assertEqual(told, (None, None, ("thinking",)))

    def test_a_turn_that_began_without_a_thought(self) -> None:
        """Is gone on with as it began, but for models that do not mind."""
        budget = Thinking(budget=2048)

        def loop(*first: Part) -> dict[str, Any]:
            turns = (
                USER,
                Turn("assistant", (*first, Call("a", "f"))),
                Turn("user", (Result("a"),)),
                Turn("assistant", (Call("b", "f"),)),
                Turn("user", (Result("b"),)),
            )
            return {"turns": turns, "tools": (TOOL,)}

        wanted = {"type": "enabled", "budget_tokens": 2048}
        self.assertEqual(
            self.thought(CLAUDE, budget, **loop(Reasoning("hm", SEAL))), (wanted, None, ())
        )
        bare = (None, None, ("reasoning", "thinking"))
        self.assertEqual(self.thought(CLAUDE, budget, **loop(Reasoning("hm", FOREIGN))), bare)
        effort = Thinking(effort="low")
        told = self.thought("claude-opus-4-6", effort, **loop(Reasoning("hm", FOREIGN)))
        self.assertEqual(told, ({"type": "adaptive"}, "low", ("reasoning",)))
        over = loop(Reasoning("hm", FOREIGN))
        over["turns"] += (Turn("assistant", (Text("done"),)), USER)
        self.assertEqual(self.thought(CLAUDE, budget, **over), (wanted, None, ("reasoning",)))
