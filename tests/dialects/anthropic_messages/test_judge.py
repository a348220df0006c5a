"""The judge of requests refuses what Anthropic would refuse."""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError
from twisted.trial.unittest import SynchronousTestCase

from tests.dialects.anthropic_messages.judge import judge_request

TEXT = {"type": "text", "text": "t"}
CALL = {"type": "tool_use", "id": "a", "name": "f", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "a"}
THOUGHT = {"type": "thinking", "thinking": "t", "signature": "s"}


def judged(*contents: Any, **fields: Any) -> None:
    """Judge a conversation of these contents."""
    roles = ("user", "assistant") * len(contents)
    messages = [{"role": r, "content": c} for r, c in zip(roles, contents, strict=False)]
    body = {"model": "m", "max_tokens": 2000, "messages": messages, **fields}
    judge_request(json.dumps(body).encode())


class JudgeTests(SynchronousTestCase):
    """A judge that lets everything pass would prove nothing."""

    def test_good_ones(self) -> None:
        """Pass."""
        judged([TEXT])
        judged([TEXT], [THOUGHT, TEXT, CALL], [RESULT, TEXT], temperature=0.5)

    def test_unknown_fields(self) -> None:
        """Are refused wherever they stand."""
        for content, fields in (
            ([TEXT], {"odd": 1}),
            ([{**TEXT, "odd": 1}], {}),
            ([TEXT], {"tool_choice": {"type": "any", "name": "f"}}),
            ([TEXT], {"thinking": {"type": "adaptive", "budget_tokens": 1}}),
            ([{"type": "odd"}], {}),
        ):
            self.assertRaises(ValidationError, judged, content, **fields)

    def test_what_types_do_not_tell(self) -> None:
        """Order, emptiness and numbers."""
        marked = {**TEXT, "cache_control": {"type": "ephemeral"}}
        for contents, fields in (
            (([],), {}),
            (([{**TEXT, "text": " "}],), {}),
            (([TEXT], [CALL], [TEXT, RESULT]), {}),
            (([TEXT], [TEXT], [RESULT]), {}),
            (([TEXT], [TEXT, THOUGHT, TEXT]), {}),
            (([TEXT], [THOUGHT]), {}),
            (([marked] * 5,), {}),
            (([TEXT],), {"thinking": {"type": "enabled", "budget_tokens": 2000}}),
        ):
            self.assertRaises(AssertionError, judged, *contents, **fields)
