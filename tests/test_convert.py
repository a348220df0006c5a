"""Conversion: a request of the right dialect passes untouched, others say why not."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.dialects.all import DIALECTS
from aiclient2api.dialects.anthropic_messages import ANTHROPIC_MESSAGES
from aiclient2api.dialects.convert import convert
from aiclient2api.dialects.gemini import GEMINI
from aiclient2api.dialects.openai_chat import OPENAI_CHAT
from aiclient2api.dialects.openai_responses import OPENAI_RESPONSES
from aiclient2api.errors import InvalidRequest
from aiclient2api.interfaces import IDialect, IWireRequest
from aiclient2api.values import Route

BODIES: dict[IDialect, bytes] = {
    OPENAI_CHAT: b'{"model":"m","messages":[]}',
    OPENAI_RESPONSES: b'{"model":"m","input":"hi"}',
    ANTHROPIC_MESSAGES: b'{"model":"m","messages":[]}',
    GEMINI: b'{"contents":[]}',
}


def request(dialect: IDialect) -> IWireRequest:
    """Return a small request in *dialect*."""
    return dialect.parse(
        body=BODIES[dialect], route=Route(action="generate", model="m", streaming=False)
    )


class ConvertTests(SynchronousTestCase):
    """Four dialects by four."""

    def test_the_same_dialect_is_the_same_request(self) -> None:
        """Not a copy: the very object, and so the very bytes."""
        for dialect in DIALECTS:
            wire = request(dialect)
            self.assertIs(convert(wire, source=dialect, target=dialect, provider="p"), wire)

    def test_another_dialect_is_refused_naming_both(self) -> None:
        """And where to send it instead."""
        for source in DIALECTS:
            for target in DIALECTS:
                if source is target:
                    continue
                error = self.assertRaises(
                    InvalidRequest,
                    convert,
                    request(source),
                    source=source,
                    target=target,
                    provider="p",
                )
                self.assertIn(source.title, error.message)
                self.assertIn(target.title, error.message)
                self.assertEqual(error.code, "dialect_mismatch")
