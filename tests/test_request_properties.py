"""
What holds of every converted request: it is understood, taken, and nothing is lost unsaid.

Requests that nobody thought of, careless ones, broken ones, and what real clients sent. The
judges are the SDKs' own types (`tests.strict_requests`), the vendors' own rules
(`tests.request_laws`), and an inventory of what was said (`tests.inventory`).

``AICLIENT2API_LONG=1`` runs each property on 200,000 cases.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import attrs
from hypothesis import given
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation import losses
from aiclient2api.conversation.request import Conversation
from aiclient2api.dialects.convert import conversation_of
from aiclient2api.errors import InvalidRequest
from aiclient2api.interfaces import IWireRequest
from aiclient2api.values import Traits
from tests.any_conversations import conversation, history
from tests.both_ways import BY_NAME, NAMES, parsed
from tests.inventory import undeclared
from tests.mutations import broken_json, encoded
from tests.recorded_requests import RECORDED, Recorded
from tests.request_laws import obey
from tests.strict_requests import judge
from tests.tape import Tape, cases, drawn
from tests.wire_inventory import unsaid

MODELS = {
    "anthropic-messages": ("m", "claude-sonnet-4-5", "claude-opus-4-8", "claude-3-5-haiku-latest"),
    "gemini": ("m", "gemini-2.5-pro", "gemini-3-pro-preview", "gemini-2.0-flash"),
    "openai-chat": ("m", "gpt-5", "gpt-4o", "deepseek-chat", "glm-4.6", "kimi-k2-thinking"),
    "openai-responses": ("m", "gpt-5.1", "gpt-4o", "o3"),
}
"""Models with different wishes, by the dialect in which they are asked."""
_REFUSALS = ("remote_media", "empty_conversation", "missing_field")
"""Why a conversation may be no request: nothing is said in it, or it was not completed."""
# Nobody else has filters to set, so a converted request says what it wants of Google's.
_OWN = {"gemini": ("field:safetySettings",)}


def asked(tape: Tape) -> tuple[str, Conversation]:
    """Return the name of a dialect, and an orderly conversation for a model of it."""
    name = tape.pick(NAMES)
    model = tape.pick(MODELS[name])
    return name, attrs.evolve(conversation(tape), model=model)


def asked_badly(tape: Tape) -> tuple[str, Conversation]:
    """Return the same, with a careless history, and for a peculiar upstream."""
    name, found = asked(tape)
    if tape.one_in(2):
        found = attrs.evolve(found, turns=history(tape))
    if tape.one_in(3):
        traits = Traits(
            thinking=tape.pick(["effort", "switch", "enable", "none"]),
            reasoning_with_calls=tape.one_in(2),
            replays_reasoning=tape.one_in(2),
            completion_tokens=tape.one_in(2),
            auto_tools_only=tape.one_in(2),
            stream_usage=tape.one_in(2),
        )
        found = attrs.evolve(found, traits=traits)
    return name, found


def written(name: str, found: Conversation) -> IWireRequest | None:
    """Return *found* as a request in the dialect *name*, None if it may be refused."""
    try:
        request: IWireRequest = BY_NAME[name].request_interface(found)
    except InvalidRequest as error:
        if error.code not in _REFUSALS:
            raise
        return None
    return request


class WrittenTests(SynchronousTestCase):
    """What is written is taken, and says what it was to say."""

    def _judge(self, name: str, request: IWireRequest) -> None:
        body = json.loads(request.to_bytes())
        judge(name, body)
        obey(name, body)
        for code in request.losses:
            self.assertTrue(losses.known(code), code)

    @cases(800)
    @given(drawn(asked, size=420))
    def test_what_is_lost_is_declared(self, case: tuple[str, Conversation]) -> None:
        """Written and read in one dialect, a conversation is the same but for its losses."""
        name, found = case
        request = written(name, found)
        if request is None:
            return
        self._judge(name, request)
        back = conversation_of(request)
        self.assertEqual(_OWN.get(name, ()), back.dropped)
        self.assertEqual([], undeclared(found, back, request.losses), name)

    @cases(300)
    @given(drawn(asked, size=420))
    def test_what_went_through_once_goes_through_again(
        self, case: tuple[str, Conversation]
    ) -> None:
        """There is nothing left to lose the second time."""
        name, found = case
        once = written(name, found)
        if once is None:
            return
        back = conversation_of(once)
        twice = written(name, back)
        assert twice is not None
        self.assertEqual(set(), {*twice.losses} - {*once.losses, *_OWN.get(name, ())})
        again = conversation_of(twice)
        self.assertEqual([], undeclared(back, again, twice.losses), name)

    @cases(500)
    @given(drawn(asked_badly, size=620))
    def test_whatever_a_client_says_is_made_fit(self, case: tuple[str, Conversation]) -> None:
        """Calls without answers, turns in any order: the upstream takes what it is sent."""
        name, found = case
        request = written(name, found)
        if request is not None:
            self._judge(name, request)


def broken(tape: Tape) -> tuple[Recorded, bytes]:
    """Return a recorded request, and its body with something wrong."""
    recorded = tape.pick(RECORDED)
    # The largest take their time, and are made of the same things.
    while len(recorded.body) > 20_000:
        recorded = tape.pick(RECORDED)
    return recorded, encoded(broken_json(tape, json.loads(recorded.body)))


class BrokenRequestsTests(SynchronousTestCase):
    """What clients get wrong is told them; it never makes the gateway fail."""

    @cases(800)
    @given(drawn(broken, size=64))
    def test_a_broken_request_is_understood_or_refused(self, case: tuple[Recorded, bytes]) -> None:
        """With a sentence about the field that is wrong, and nothing else."""
        recorded, body = case
        try:
            request = parsed(recorded.dialect, body, recorded.route)
            found = conversation_of(request)
        except InvalidRequest as error:
            self.assertTrue(error.message)
            return
        for code in found.dropped:
            self.assertTrue(losses.known(code), code)
        for name in NAMES:
            written(name, attrs.evolve(found, action="generate"))


class RecordedRequestsTests(SynchronousTestCase):
    """What real clients really send, in every other dialect."""

    def _each(self, name: str, target: str, models: Sequence[str]) -> None:
        for recorded in RECORDED:
            if recorded.dialect != name:
                continue
            if recorded.action == "count_tokens" and not BY_NAME[target].counts_tokens:
                continue
            request = parsed(name, recorded.body, recorded.route)
            found = conversation_of(request)
            for model in models:
                theirs = written(target, attrs.evolve(found, model=model))
                assert theirs is not None, recorded.name
                body = json.loads(theirs.to_bytes())
                judge(target, body, action=recorded.action)
                inner = body.get("generateContentRequest", body)
                obey(target, inner)
                for code in theirs.losses:
                    self.assertTrue(losses.known(code), code)
                missing = unsaid(json.loads(recorded.body), inner, theirs.losses)
                self.assertEqual([], missing, (recorded.name, target, model))

    def test_to_chat(self) -> None:
        """Every client can ask a model behind Chat Completions."""
        for name in NAMES:
            self._each(name, "openai-chat", ("gpt-5", "deepseek-chat"))

    def test_to_responses(self) -> None:
        """Every client can ask a model behind Responses."""
        for name in NAMES:
            self._each(name, "openai-responses", ("gpt-5.1", "gpt-4o"))

    def test_to_messages(self) -> None:
        """Every client can ask a model behind Messages."""
        for name in NAMES:
            self._each(name, "anthropic-messages", ("claude-sonnet-4-5", "claude-opus-4-8"))

    def test_to_gemini(self) -> None:
        """Every client can ask a model behind Gemini."""
        for name in NAMES:
            self._each(name, "gemini", ("gemini-2.5-pro", "gemini-3-pro-preview"))

    def test_each_is_understood_whole(self) -> None:
        """Of what is read, nothing is lost when it is written in the client's own dialect."""
        for recorded in RECORDED:
            request = parsed(recorded.dialect, recorded.body, recorded.route)
            found = conversation_of(request)
            again: Any = BY_NAME[recorded.dialect].request_interface(found)
            back = conversation_of(again)
            self.assertEqual([], undeclared(found, back, again.losses), recorded.name)
