"""
Counting tokens without a tokenizer: near enough, rather too much, and quickly.

What real tokenizers make of the same texts stands in `tests.token_samples`.
"""

from __future__ import annotations

from itertools import pairwise
from statistics import median
from typing import NoReturn

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation.counting import estimate, tokens_in
from aiclient2api.conversation.request import (
    Audio,
    Call,
    Conversation,
    File,
    Image,
    Inline,
    OutputFormat,
    Part,
    Reasoning,
    Refusal,
    Remote,
    Result,
    Text,
    Tool,
    Turn,
    Uploaded,
)
from aiclient2api.conversation.seals import Seal
from tests.token_samples import APART, OTHER, PLAIN, SAMPLES, Sample


def ratios(sample: Sample, counts: tuple[int, ...]) -> list[float]:
    """Return the estimate as a multiple of each count."""
    return [tokens_in(sample.text) / count for count in counts]


def said(*parts: Part, role: str = "user") -> Conversation:
    """Return a conversation of one turn."""
    return Conversation("m", False, turns=(Turn(role, parts),))


class NotWhole(str):
    """A text that must not be looked at as a whole."""

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> NoReturn:
        raise AssertionError("the whole text was looked at")


class TokensInTests(SynchronousTestCase):
    """One text."""

    def test_english_and_code(self) -> None:
        """Prose, code, JSON and logs are counted to within -14 and +30 percent, by any family."""
        for sample in SAMPLES:
            if sample.kind == PLAIN:
                for ratio in ratios(sample, sample.counts):
                    self.assertGreater(ratio, 0.86, sample.name)
                    self.assertLess(ratio, 1.30, sample.name)

    def test_other_languages(self) -> None:
        """Other languages: never far too little for models of today, half too much at worst."""
        for sample in SAMPLES:
            if sample.kind == OTHER:
                for ratio in ratios(sample, sample.counts.current):
                    self.assertGreater(ratio, 0.86, sample.name)
                    self.assertLess(ratio, 1.55, sample.name)

    def test_where_tokenizers_differ(self) -> None:
        """Where families differ by a factor of two and more, the estimate is between them."""
        for sample in SAMPLES:
            if sample.kind == APART:
                shares = ratios(sample, sample.counts.current)
                self.assertLess(min(shares), 1, sample.name)
                self.assertGreater(min(shares), 0.5, sample.name)
                self.assertGreater(max(shares), 1, sample.name)
                self.assertLess(max(shares), 2, sample.name)

    def test_vocabularies_of_yesterday(self) -> None:
        """What older models cut into pieces is counted too low by no more than is documented."""
        for sample in SAMPLES:
            for ratio in ratios(sample, sample.counts):
                self.assertGreater(ratio, 0.40, sample.name)

    def test_rather_too_much(self) -> None:
        """The middle of all errors is a few percent too much."""
        shares = [each for sample in SAMPLES for each in ratios(sample, sample.counts.current)]
        self.assertGreater(median(shares), 1.02)
        self.assertLess(median(shares), 1.08)

    def test_nothing(self) -> None:
        """Nothing is no token, anything is at least one."""
        self.assertEqual(tokens_in(""), 0)
        for text in (" ", "\n", "a", "\u00a0", "\u0e01", "\ud800", "\x00", "\U0010ffff"):
            self.assertGreaterEqual(tokens_in(text), 1, repr(text))

    def test_short_words(self) -> None:
        """Single short words are one token or two."""
        for text in ("a", "the", "Hello", "yes", "def"):
            self.assertIn(tokens_in(text), (1, 2), text)

    def test_nothing_is_free(self) -> None:
        """Whatever is repeated without end, more of it is more tokens."""
        for text in (" ", "\n", "\t", "\r\n", "a", "Z", "7", "-", "}", '"', "_", "é", "ж", "文"):
            self.assertGreater(tokens_in(text * 4000), tokens_in(text * 400), repr(text))
            self.assertGreater(tokens_in(text * 400), 10, repr(text))

    def test_put_together(self) -> None:
        """Two texts are about as many together as apart, and more than either."""
        for one, other in pairwise(SAMPLES):
            apart = tokens_in(one.text), tokens_in(other.text)
            together = tokens_in(one.text + other.text)
            self.assertLess(abs(together - sum(apart)), 4, (one.name, other.name))
            self.assertGreater(together, max(apart))

    def test_it_grows(self) -> None:
        """A text that is written on never becomes noticeably less."""
        for sample in SAMPLES:
            counts = [tokens_in(sample.text[:end]) for end in range(len(sample.text))]
            for before, after in pairwise(counts):
                self.assertGreater(after, before - 3, sample.name)

    def test_the_same_each_time(self) -> None:
        """The same text has the same count."""
        text = "".join(sample.text for sample in SAMPLES) * 20
        self.assertEqual(tokens_in(text), tokens_in(text[:1] + text[1:]))

    def test_long_texts_are_not_read_whole(self) -> None:
        """However long a text is, no more than some slices are looked at."""
        with self.assertRaises(AssertionError):
            tokens_in(NotWhole("short"))
        self.assertGreater(tokens_in(NotWhole("word " * 1_000_000)), 900_000)

    def test_long_texts_are_counted_by_their_slices(self) -> None:
        """A long text of many kinds is as many tokens as its parts, within four percent."""
        mixed = "".join(sample.text * 5 for sample in SAMPLES)
        whole = sum(tokens_in(sample.text * 5) for sample in SAMPLES)
        self.assertGreater(len(mixed), 40_000)
        self.assertLess(abs(tokens_in(mixed) / whole - 1), 0.04)
        self.assertLess(abs(tokens_in(mixed * 10) / (10 * whole) - 1), 0.04)


class EstimateTests(SynchronousTestCase):
    """A whole request."""

    def test_more_than_its_texts(self) -> None:
        """A conversation is more than what is said in it."""
        texts = [sample.text for sample in SAMPLES]
        turns = tuple(
            Turn("assistant" if number % 2 else "user", (Text(text),))
            for number, text in enumerate(texts)
        )
        whole = estimate(Conversation("m", False, system=(Text(texts[0]),), turns=turns))
        parts = sum(map(tokens_in, texts)) + tokens_in(texts[0])
        self.assertGreater(whole, parts)
        self.assertLess(whole, parts + 10 * len(turns))

    def test_a_short_question(self) -> None:
        """A greeting is some ten tokens, not hundreds."""
        self.assertIn(estimate(said(Text("Hello, Claude"))), range(8, 16))
        self.assertLess(estimate(Conversation("m", False)), 10)

    def test_every_part_counts(self) -> None:
        """Whatever a turn holds makes it longer."""
        text = Text("What is in this?")
        least = estimate(said(text))
        picture, paper = Inline("image/png", "AAAA"), Inline("application/pdf", "AAAA")
        parts: tuple[Part, ...] = (
            text,
            Refusal("I would rather not."),
            Reasoning("The user wants to know what is in the picture."),
            Reasoning(seal=Seal("anthropic-messages", "A" * 400, hidden=True)),
            Call("call_1", "look"),
            Result("call_1"),
            Result("call_1", parts=(text,)),
            Image(picture),
            Image(Remote("https://example.org/a.png")),
            Image(Uploaded("openai-responses", "file-1")),
            File(paper),
            File(paper, name="The minutes of the last meeting.pdf"),
            Audio(Inline("audio/wav", "AAAA")),
            Result("call_1", parts=(Image(picture),)),
        )
        counts = [estimate(said(text, part)) for part in parts]
        for part, count in zip(parts, counts, strict=True):
            self.assertGreater(count, least, part)
        self.assertGreater(counts[6], counts[5])
        self.assertGreater(counts[11], counts[10])
        self.assertGreater(counts[13], counts[5] + 80)

    def test_arguments_and_answers(self) -> None:
        """What a tool is called with and what it answers count as any text does."""
        code = next(sample.text for sample in SAMPLES if sample.name == "Python")
        none = estimate(said(Call("1", "run", "{}"), role="assistant"))
        some = estimate(said(Call("1", "run", msgspec.json.encode(code).decode())))
        self.assertGreater(some - none, tokens_in(code))
        answered = estimate(said(Result("1", parts=(Text(code),)))) - estimate(said(Result("1")))
        self.assertLess(abs(answered - tokens_in(code)), 3)

    def test_a_sealed_thought(self) -> None:
        """A thought that only its seal is left of counts by the seal's length, once."""
        seal = Seal("openai-responses", "A" * 1600)
        hidden = estimate(said(Reasoning(seal=seal)))
        self.assertEqual(hidden - estimate(said(Reasoning())), 300)
        thought = Reasoning("Let me see.")
        sealed = Reasoning("Let me see.", seal=seal)
        self.assertEqual(estimate(said(sealed)), estimate(said(thought)))

    def test_tools(self) -> None:
        """Each tool counts with its name, its description and its schema."""
        schema = {"type": "object", "properties": {"city": {"type": "string"}}}
        bare = Tool("function", "weather")
        told = Tool("function", "weather", "Tell the weather of a city.")
        whole = Tool("function", "weather", "Tell the weather of a city.", schema)
        counts = [
            estimate(Conversation("m", False, tools=tools))
            for tools in ((), (bare,), (told,), (whole,), (whole, whole))
        ]
        self.assertGreater(counts[1], counts[0] + 350)
        self.assertGreater(counts[2], counts[1] + 4)
        self.assertGreater(counts[3], counts[2] + 12)
        self.assertLess(counts[4] - counts[3], 60)

    def test_tools_of_one_vendor(self) -> None:
        """A tool's grammar counts, and so does a search that the vendor runs."""
        grammar = {"type": "grammar", "syntax": "lark", "definition": "start: LINE+\n" * 40}
        free = Tool("custom", "apply_patch", "Patch files.", raw={"name": "apply_patch"})
        ruled = Tool("custom", "apply_patch", "Patch files.", raw={"format": grammar})
        least, most = (estimate(Conversation("m", False, tools=(tool,))) for tool in (free, ruled))
        self.assertGreater(most, least + 200)
        for kind in ("web_search", "local_shell"):
            one = estimate(Conversation("m", False, tools=(Tool(kind, kind),)))
            self.assertGreater(one, 380, kind)

    def test_the_form_of_the_answer(self) -> None:
        """A schema that the answer is held to is part of the prompt."""
        schema = {"type": "object", "properties": {"title": {"type": "string"}}}
        free = estimate(said(Text("Go on.")))
        held = Conversation(
            "m", False, turns=(Turn("user", (Text("Go on."),)),), output=OutputFormat(schema)
        )
        self.assertGreater(estimate(held), free + 10)

    def test_odd_values(self) -> None:
        """Numbers that no float holds and halves of characters are counted, not refused."""
        schema = {"maximum": msgspec.Raw(b"1e400"), "description": "\ud83d", "é": None}
        odd = Conversation(
            "m",
            False,
            system=(Text("\udfff"),),
            turns=(Turn("user", (Text(""), Text("\x00\ufeff"))),),
            tools=(Tool("function", "f", parameters=schema),),
        )
        self.assertGreater(estimate(odd), 370)

    def test_long_conversations_are_not_read_whole(self) -> None:
        """Many long texts together are looked at no closer than a single one."""
        text = "word " * 100_000
        turns = tuple(Turn("user", (Text(text),)) for _ in range(10))
        count = estimate(Conversation("m", False, turns=turns))
        self.assertLess(abs(count / (10 * tokens_in(text)) - 1), 0.02)
