"""What an exchange took: as told, else as seen."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation.counting import estimate
from aiclient2api.conversation.pieces import Pieces
from aiclient2api.dialects.all import DIALECTS
from aiclient2api.dialects.convert import conversation_of
from aiclient2api.dialects.openai_chat.dialect import OPENAI_CHAT
from aiclient2api.exchange.metering import NOTHING, Meter, added, prompt_tokens
from aiclient2api.values import Route, Spent, Usage
from tests.test_pieces import WORDS, asked

PROMPT = 77


@attrs.define
class Seen:
    """As much of a watcher as is asked for."""

    usage: Usage | None = None
    complete: bool = False
    pieces: Pieces = attrs.field(factory=Pieces)

    def see(self, count: int) -> Seen:
        """Let so many tokens pass."""
        for number in range(count):
            word = WORDS[number % len(WORDS)]
            self.pieces.add(word, len(word))
        return self


class MeterTests(SynchronousTestCase):
    """`Meter`."""

    def setUp(self) -> None:
        """Count the prompts that are estimated."""
        self.prompts = 0
        self.meter = Meter(self.prompt)
        self.request: Any = object()

    def prompt(self, request: Any) -> int:
        """Estimate a prompt."""
        self.assertIs(request, self.request)
        self.prompts += 1
        return PROMPT

    def spent(self, seen: Seen, **how: Any) -> Spent:
        """Return what an exchange took that has one answer."""
        watcher: Any = seen
        self.meter.began(watcher, self.request)
        return self.meter.spent(**how)

    def test_nobody_answered(self) -> None:
        """Zero, and not unknown."""
        self.assertEqual(self.meter.spent(), Spent(NOTHING, False, None))
        self.assertNotIn(None, attrs.astuple(NOTHING))

    def test_given_up_while_somebody_was_asked(self) -> None:
        """Zero as well, but nobody knows for certain."""
        self.meter.asked()
        self.assertEqual(self.meter.spent(), Spent(NOTHING, True))
        self.meter.failed()
        self.assertEqual(self.meter.spent(), Spent(NOTHING))

    def test_all_was_told(self) -> None:
        """Then nothing is estimated, not even looked at."""
        told = Usage(input=10, output=2, cached=4)
        self.assertEqual(self.spent(Seen(told, complete=True).see(9)), Spent(told))
        self.assertEqual(self.prompts, 0)

    def test_nothing_was_told(self) -> None:
        """The answer is what was seen of it, the prompt is estimated; the rest is unknown."""
        for complete in (True, False):
            spent = self.spent(Seen(complete=complete).see(25))
            self.assertEqual(spent, Spent(Usage(input=PROMPT, output=25), True))

    def test_the_prompt_was_told_at_the_start(self) -> None:
        """As Anthropic does, with an output of one that is the first token."""
        spent = self.spent(Seen(Usage(input=10, output=1)).see(25))
        self.assertEqual(spent, Spent(Usage(input=10, output=25), True))
        self.assertEqual(self.prompts, 0)
        self.assertEqual(self.spent(Seen(Usage(input=10, output=1))).usage.output, 1)

    def test_it_is_told_all_the_time(self) -> None:
        """As Gemini does: what was told with the last piece is exact."""
        seen = Seen(Usage(input=10, output=31)).see(25)
        seen.pieces.told()
        self.assertEqual(self.spent(seen), Spent(Usage(input=10, output=31)))
        seen.see(5)
        self.assertEqual(self.spent(seen), Spent(Usage(input=10, output=36), True))

    def test_an_attempt_that_failed(self) -> None:
        """What was told of it is lost but not forgotten; the answer's own is apart."""
        watcher: Any = Seen(Usage(input=10, output=1, cached=3))
        for _ in range(2):
            self.meter.began(watcher, self.request)
            self.meter.failed()
        self.meter.failed()
        told = Usage(input=20, output=7)
        spent = self.spent(Seen(told, complete=True))
        self.assertEqual(spent, Spent(told, False, Usage(input=20, output=2, cached=6)))

    def test_all_failed(self) -> None:
        """Then the answer is nothing."""
        watcher: Any = Seen(Usage(input=10, output=1))
        self.meter.began(watcher, self.request)
        self.meter.failed()
        self.assertEqual(self.meter.spent(), Spent(NOTHING, False, Usage(input=10, output=1)))

    def test_an_answer_that_goes_on_elsewhere(self) -> None:
        """What the client has got of both is one sum."""
        watcher: Any = Seen().see(5)
        self.meter.began(watcher, self.request)
        self.meter.shown()
        spent = self.spent(Seen(Usage(input=10, output=7), complete=True))
        self.assertEqual(spent, Spent(Usage(input=PROMPT + 10, output=12), True))

    def test_a_question_is_free(self) -> None:
        """A count of tokens takes none, though one is told."""
        told = Usage(input=10, output=2)
        self.assertEqual(self.spent(Seen(told, complete=True), generated=False), Spent(NOTHING))

    def test_a_prompt_that_cannot_be_estimated(self) -> None:
        """It is unknown, the log says so without a word of it, and the exchange goes on."""

        def fail(request: Any) -> int:
            raise RuntimeError("CANARY")

        self.meter.prompt = fail
        self.assertEqual(self.spent(Seen().see(3)), Spent(Usage(input=None, output=3), True))
        self.meter.prompt = lambda request: None
        self.assertIsNone(self.spent(Seen().see(3)).usage.input)

    def test_prompts_of_all_dialects(self) -> None:
        """A prompt is estimated as it is when a client asks for a count."""
        for dialect in DIALECTS:
            request = asked(dialect)
            self.assertEqual(prompt_tokens(request), estimate(conversation_of(request)))

    def test_a_prompt_that_is_none(self) -> None:
        """What cannot be understood was relayed all the same, and is not estimated."""
        body = b'{"model":"m","messages":[{"role":"nobody","content":7}]}'
        request = OPENAI_CHAT.parse(body=body, route=Route(action="generate"))
        self.assertIsNone(prompt_tokens(request))

    def test_sums(self) -> None:
        """What neither told is not zero."""
        self.assertIsNone(added(None, None))
        self.assertEqual(added(None, Usage(input=1)), Usage(input=1))
        one, other = Usage(input=1, output=2), Usage(input=3, cached=4)
        self.assertEqual(added(one, other), Usage(input=4, output=2, cached=4))
