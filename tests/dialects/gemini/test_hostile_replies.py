"""Whatever an upstream sends instead of an answer."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation import seals
from aiclient2api.conversation.events import (
    Failed,
    Finished,
)
from aiclient2api.conversation.grammar import Grammar
from aiclient2api.dialects.gemini.read_reply import GeminiDecoder
from tests.dialects.gemini.test_read_reply import whole

_TEXTS = st.sampled_from(("", "a", "b", "\ud83d"))
_ODD: Any = st.sampled_from((None, 5, True, "x", [], {}, {"a": 1}, 1.5, [None]))
_SIGNATURES = st.sampled_from(("S", "T", "", seals.PARCEL, 5))


def _mapping(**fields: Any) -> Any:
    return st.fixed_dictionaries({}, optional={key: value | _ODD for key, value in fields.items()})


_CALLS = _mapping(
    name=st.sampled_from(("f", "g")),
    id=st.sampled_from(("", "x")),
    args=_ODD,
    willContinue=st.booleans(),
    partialArgs=st.lists(
        _mapping(
            jsonPath=st.sampled_from(("$.a", "$.b[0]", "$.b[1].c", "$", "$.a.d", "$[0]")),
            stringValue=_TEXTS,
            numberValue=st.integers(),
            willContinue=st.booleans(),
        ),
        max_size=3,
    ),
)
_PARTS = _mapping(
    text=_TEXTS,
    thought=st.booleans(),
    thoughtSignature=_SIGNATURES,
    functionCall=_CALLS,
    inlineData=_mapping(mimeType=_TEXTS, data=_TEXTS),
)
_WEB = _mapping(web=_mapping(uri=_TEXTS, title=_TEXTS))
_GROUNDING = _mapping(
    groundingChunks=st.lists(_WEB, max_size=3),
    groundingSupports=st.lists(
        _mapping(
            segment=_mapping(startIndex=st.integers(-1, 9), endIndex=st.integers(-1, 9)),
            groundingChunkIndices=st.lists(st.integers(-1, 3), max_size=2),
        ),
        max_size=2,
    ),
)
_CANDIDATES = _mapping(
    index=st.integers(0, 1),
    content=_mapping(parts=st.lists(_PARTS | _ODD, max_size=4)),
    finishReason=st.sampled_from(("STOP", "MAX_TOKENS", "MALFORMED_FUNCTION_CALL", "SAFETY")),
    groundingMetadata=_GROUNDING,
    citationMetadata=_mapping(citations=st.lists(_mapping(uri=_TEXTS), max_size=2)),
)
_CHUNKS = _mapping(
    candidates=st.lists(_CANDIDATES, max_size=2),
    promptFeedback=_mapping(blockReason=_TEXTS),
    usageMetadata=_mapping(promptTokenCount=st.integers()),
    error=st.sampled_from((None, {}, "", {"message": "m"})),
    responseId=_TEXTS,
)


class HostileTests(SynchronousTestCase):
    """Whatever an upstream sends, what is read of it is legal."""

    @settings(max_examples=300, deadline=None)
    @given(st.lists(_CHUNKS, max_size=5))
    def test_streams(self, chunks: list[Any]) -> None:
        """Nothing is read that a writer would stumble over, and nothing after an end."""
        grammar, reader = Grammar(), GeminiDecoder(action="generate")
        for chunk in chunks:
            for event in reader.record(event=b"", data=json.dumps(chunk).encode()) or ():
                grammar.take(event)
        for event in reader.end():
            grammar.take(event)
        self.assertEqual(list(reader.end()), [])

    @settings(max_examples=150, deadline=None)
    @given(_CHUNKS)
    def test_bodies(self, chunk: Any) -> None:
        """A body is read to its end, or is none."""
        events = whole(chunk)
        if events is not None:
            grammar = Grammar()
            for event in events:
                grammar.take(event)
            self.assertIsInstance(events[-1], Finished | Failed)
