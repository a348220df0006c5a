"""Conversion: the right dialect passes untouched, a direct way is taken, the hub does the rest."""

from __future__ import annotations

import json
from typing import Any

from twisted.python.components import registerAdapter
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides

from aiclient2api.conversation.request import Conversation
from aiclient2api.dialects.all import DIALECTS
from aiclient2api.dialects.anthropic_messages import ANTHROPIC_MESSAGES
from aiclient2api.dialects.convert import conversation_of, verbatim, written
from aiclient2api.dialects.gemini import GEMINI
from aiclient2api.dialects.openai_chat import OPENAI_CHAT
from aiclient2api.dialects.openai_responses import OPENAI_RESPONSES
from aiclient2api.errors import InvalidRequest
from aiclient2api.interfaces import IDialect, IWireRequest
from aiclient2api.values import Route

BODIES: dict[IDialect, bytes] = {
    OPENAI_CHAT: b'{"model":"m","messages":[{"role":"user","content":"hi"}]}',
    OPENAI_RESPONSES: b'{"model":"m","input":"hi"}',
    ANTHROPIC_MESSAGES: (
        b'{"model":"m","max_tokens":99,"messages":[{"role":"user","content":"hi"}]}'
    ),
    GEMINI: b'{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}',
}


def request(dialect: IDialect, *, streaming: bool = False) -> IWireRequest:
    """Return a small request in *dialect*."""
    body = BODIES[dialect]
    if streaming and dialect is not GEMINI:
        body = body[:-1] + b',"stream":true}'
    route = Route(action="generate", model="m", streaming=streaming, framing="sse")
    return dialect.parse(body=body, route=route)


class ConvertTests(SynchronousTestCase):
    """Four dialects by four."""

    def test_the_same_dialect_is_the_same_request(self) -> None:
        """Not a copy: the very object, and so the very bytes."""
        for dialect in DIALECTS:
            wire = request(dialect)
            self.assertIs(verbatim(wire, dialect), wire)

    def test_any_dialect_becomes_any_other(self) -> None:
        """The model, the way of answering and the words are the same."""
        for source in DIALECTS:
            for target in DIALECTS:
                if source is target:
                    continue
                for streaming in (False, True):
                    wire = request(source, streaming=streaming)
                    self.assertIsNone(verbatim(wire, target))
                    theirs = written(wire, conversation_of(wire), target)
                    self.assertTrue(target.request_interface.providedBy(theirs))
                    self.assertEqual(theirs.model, "m")
                    self.assertEqual(theirs.streaming, streaming)
                    self.assertEqual(theirs.framing, "sse" if streaming else "whole")
                    self.assertEqual(theirs.prompt_text(), "hi")
                    self.assertEqual(theirs.losses, ())
                    json.loads(theirs.to_bytes())

    def test_a_request_converts_there_and_back(self) -> None:
        """What both dialects can say survives the way through a third."""
        for source in DIALECTS:
            for target in DIALECTS:
                before = conversation_of(request(source))
                theirs = written(request(source), before, target)
                self.assertEqual(conversation_of(theirs).turns, before.turns)

    def test_a_dialect_without_a_reader_is_refused(self) -> None:
        """With a sentence, not with an exception of zope's."""

        class IStrange(IWireRequest):
            """A dialect nobody taught us."""

        class Strange:
            dialect = "strange"

        strange: Any = Strange()
        directlyProvides(strange, IStrange)
        error = self.assertRaises(InvalidRequest, conversation_of, strange)
        self.assertEqual(error.code, "dialect_mismatch")
        self.assertIn("strange", error.message)

    def test_a_direct_way_is_preferred_to_the_hub(self) -> None:
        """A third party may register one between two dialects."""

        class IStrange(IWireRequest):
            """A dialect of a third party."""

        class StrangeDialect:
            title = "Strange"
            request_interface = IStrange

        class Strange:
            def __init__(self, wire: IWireRequest) -> None:
                self.of = wire

        wire = request(OPENAI_CHAT)
        target: Any = StrangeDialect()
        conversation = conversation_of(wire)
        self.assertIsInstance(conversation, Conversation)
        error = self.assertRaises(InvalidRequest, written, wire, conversation, target)
        self.assertIn("Strange", error.message)
        registerAdapter(Strange, OPENAI_CHAT.request_interface, IStrange)
        theirs: Any = written(wire, conversation, target)
        self.assertIsInstance(theirs, Strange)
        self.assertIs(theirs.of, wire)
