"""An operator's sampling values in a caller's request, for all four dialects side by side."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.errors import InvalidRequest
from aiclient2api.interfaces import IWireRequest
from aiclient2api.values import Route, Sampling, SystemEdit
from tests.both_ways import BY_NAME, NAMES, parsed
from tests.recorded_requests import RECORDED

_ALL = Sampling(temperature=0.5, top_p=0.25, max_tokens=99)
_BODIES = {
    "openai-chat": b'{ "model":"m", "messages": [] , "x":1e400%s }',
    "openai-responses": b'{ "model":"m", "input": "hi" , "x":1e400%s }',
    "anthropic-messages": b'{ "model":"m", "messages": [] , "x":1e400%s }',
    "gemini": b'{ "contents": [] , "x":1e400%s }',
}
_LIMITS = {
    "openai-chat": b"max_tokens",
    "openai-responses": b"max_output_tokens",
    "anthropic-messages": b"max_tokens",
}


def _asked(name: str, more: bytes = b"", action: str = "generate") -> IWireRequest:
    body = _BODIES[name] % more
    request: IWireRequest = BY_NAME[name].parse(body=body, route=Route(action, model="m"))
    return request


def _edited(name: str, more: bytes, sampling: Sampling = _ALL, **changes: Any) -> bytes:
    """Return what becomes of *more*; the rest of the body must stay."""
    raw: bytes = _asked(name, more).amended(sampling=sampling, **changes).raw
    head, tail = _BODIES[name].split(b"%s")
    assert raw.startswith(head), raw
    assert raw.endswith(tail), raw
    return raw[len(head) : -len(tail)]


class SamplingTests(SynchronousTestCase):
    """The operator's values win, and nothing else is touched."""

    def test_values_that_the_caller_left_out(self) -> None:
        """They are added behind everything else."""
        for name, limit in _LIMITS.items():
            added = b',"temperature":0.5,"top_p":0.25,"%s":99' % limit
            self.assertEqual(_edited(name, b""), added, name)
        config = b',"generationConfig":{"temperature":0.5,"topP":0.25,"maxOutputTokens":99}'
        self.assertEqual(_edited("gemini", b""), config)

    def test_values_that_the_caller_gave(self) -> None:
        """Each is replaced where it stands, null as well."""
        for name, limit in _LIMITS.items():
            more = b', "%s" : 5,"top_p":null, "temperature" :1e0 ,"y":"top_p"' % limit
            wanted = b', "%s" : 99,"top_p":0.25, "temperature" :0.5 ,"y":"top_p"' % limit
            self.assertEqual(_edited(name, more), wanted, name)

    def test_none_leaves_the_callers(self) -> None:
        """One value at a time, or none at all."""
        for name, limit in _LIMITS.items():
            more = b',"temperature":1,"top_p":1,"%s":1' % limit
            for sampling, before, after in (
                (Sampling(temperature=0.0), b'"temperature":1', b'"temperature":0.0'),
                (Sampling(top_p=0.5), b'"top_p":1', b'"top_p":0.5'),
                (Sampling(max_tokens=2), b'"%s":1' % limit, b'"%s":2' % limit),
                (Sampling(), b"", b""),
            ):
                edited = _edited(name, more, sampling)
                self.assertEqual(edited, more.replace(before, after), name)
        for name in NAMES:
            request = _asked(name)
            self.assertEqual(request.amended(sampling=Sampling()).raw, request.raw)
            self.assertEqual(request.amended(sampling=None).raw, request.raw)

    def test_with_other_edits(self) -> None:
        """Model, prompt and stream flag change in the same go, and all can change again."""
        edit = SystemEdit(text="S")
        for name in NAMES:
            once = _asked(name).amended(model="n", system=edit, streaming=True, sampling=_ALL)
            self.assertEqual((once.model, once.streaming), ("n", True))
            self.assertEqual(once.system_text(), "S")
            again = once.amended(sampling=Sampling(max_tokens=7), model="o")
            self.assertEqual(again.raw.count(b"99"), 0, name)
            changed = once.raw.replace(b":99", b":7").replace(b'"n"', b'"o"')
            self.assertEqual(again.raw, changed, name)
            self.assertEqual(again.amended(sampling=Sampling(max_tokens=7)).raw, changed, name)

    def test_a_count_is_not_sampled(self) -> None:
        """Who counts tokens refuses such fields, or has no use for them."""
        for name in ("anthropic-messages", "gemini"):
            request = _asked(name, action="count_tokens")
            self.assertEqual(request.amended(sampling=_ALL).raw, request.raw)

    def test_a_value_given_twice_is_refused(self) -> None:
        """Policy and upstream might read different ones."""
        for name in _LIMITS:
            request = _asked(name, b',"top_p":1,"top_p":0')
            error = self.assertRaises(InvalidRequest, request.amended, sampling=_ALL)
            self.assertEqual((error.code, error.param), ("duplicate_field", "top_p"))
            self.assertIn(b'"temperature":0.5', request.amended(sampling=Sampling(0.5)).raw)

    def test_what_real_clients_send(self) -> None:
        """Their own values change, others come to them, and all else is as it was."""
        for recorded in RECORDED:
            request = parsed(recorded.dialect, recorded.body, recorded.route)
            edited = json.loads(request.amended(sampling=_ALL).raw)
            before = json.loads(recorded.body)
            if recorded.action != "generate":
                self.assertEqual(edited, before, recorded.name)
                continue
            told = {"temperature": 0.5, "topp": 0.25}
            told[_limit(recorded.dialect, before)] = 99
            if recorded.dialect == "gemini":
                edited, config = _apart(edited)
                before, old = _apart(before)
                self.assertEqual(edited, before, recorded.name)
                edited, before = config, old
            self.assertEqual(_unspelt(edited), {**_unspelt(before), **told}, recorded.name)
            self.assertEqual(len(edited), len(_unspelt(edited)), recorded.name)


class ChatLimitTests(SynchronousTestCase):
    """Chat Completions has two names for one limit, and takes only one of them."""

    def limited(self, more: bytes, **changes: Any) -> bytes:
        """Return what becomes of *more*."""
        return _edited("openai-chat", more, Sampling(max_tokens=99), **changes)

    def test_the_callers_name_is_kept(self) -> None:
        """Old or new; a null is not a value, but a place."""
        for more, wanted in (
            (b',"max_completion_tokens":5', b',"max_completion_tokens":99'),
            (b',"max_tokens":5', b',"max_tokens":99'),
            (b',"max_completion_tokens":null', b',"max_completion_tokens":99'),
            (
                b',"max_completion_tokens":null,"max_tokens":5',
                b',"max_completion_tokens":null,"max_tokens":99',
            ),
        ):
            self.assertEqual(self.limited(more), wanted)

    def test_one_of_both_goes(self) -> None:
        """The new one stays, wherever they stand, with what is added behind them."""
        for more, wanted in (
            (b',"max_tokens":5 , "max_completion_tokens":6', b' , "max_completion_tokens":99'),
            (b',"max_completion_tokens":6 , "max_tokens":5', b',"max_completion_tokens":99'),
            (
                b',"max_completion_tokens":6,"max_tokens":5,"y":1',
                b',"max_completion_tokens":99,"y":1',
            ),
        ):
            self.assertEqual(self.limited(more), wanted)
            self.assertEqual(self.limited(more, streaming=True), wanted + b',"stream":true')
        body = b'{"max_tokens":5,"model":"m","messages":[],"max_completion_tokens":6}'
        request = BY_NAME["openai-chat"].parse(body=body, route=Route("generate"))
        self.assertEqual(
            request.amended(sampling=Sampling(max_tokens=99)).raw,
            b'{"model":"m","messages":[],"max_completion_tokens":99}',
        )
        self.assertEqual(request.amended(sampling=Sampling(0.5)).raw.count(b"tokens"), 2)

    def test_where_there_was_none_the_model_decides(self) -> None:
        """Newer models of OpenAI refuse the old name; everybody else knows it."""
        self.assertEqual(self.limited(b""), b',"max_tokens":99')
        raw = _asked("openai-chat").amended(model="gpt-5", sampling=Sampling(max_tokens=9)).raw
        self.assertIn(b',"max_completion_tokens":9 }', raw)


class GeminiTests(SynchronousTestCase):
    """Gemini keeps the values in an object, in either spelling."""

    def test_the_callers_spelling_is_kept(self) -> None:
        """That of the field if there is one, else that of the object around it."""
        for more, wanted in (
            (
                b',"generation_config":{}',
                b',"generation_config":{"temperature":0.5,"top_p":0.25,"max_output_tokens":99}',
            ),
            (
                b',"generationConfig":{ "max_output_tokens":1 , "a":{"topP":1}}',
                b',"generationConfig":{ "max_output_tokens":99 , "a":{"topP":1},'
                b'"temperature":0.5,"topP":0.25}',
            ),
            (
                b',"generationConfig":null',
                b',"generationConfig":{"temperature":0.5,"topP":0.25,"maxOutputTokens":99}',
            ),
            (
                b',"safety_settings":[]',
                b',"safety_settings":[],"generation_config":{"temperature":0.5,"top_p":0.25,'
                b'"max_output_tokens":99}',
            ),
        ):
            self.assertEqual(_edited("gemini", more), wanted)

    def test_only_what_is_set_is_written(self) -> None:
        """A new object holds nothing else."""
        sampling = Sampling(max_tokens=9)
        wanted = b',"generationConfig":{"maxOutputTokens":9}'
        self.assertEqual(_edited("gemini", b"", sampling), wanted)

    def test_what_is_no_object_is_refused(self) -> None:
        """And so are two of them, or two spellings of one value."""
        for more, param in (
            (b',"generationConfig":5', "generationConfig"),
            (b',"generationConfig":{},"generation_config":{}', "generation_config"),
            (b',"generationConfig":{"topP":1,"top_p":1}', "generationConfig.top_p"),
        ):
            request = _asked("gemini", more)
            error = self.assertRaises(InvalidRequest, request.amended, sampling=_ALL)
            self.assertEqual(error.param, param)


def _limit(name: str, body: dict[str, Any]) -> str:
    """Return what the limit is called in a body, spelling aside."""
    if name in ("gemini", "openai-responses"):
        return "maxoutputtokens"
    new = "max_completion_tokens" in body or body["model"].startswith("gpt-5")
    return "maxcompletiontokens" if new and "max_tokens" not in body else "maxtokens"


def _unspelt(body: dict[str, Any]) -> dict[str, Any]:
    return {key.replace("_", "").lower(): value for key, value in body.items()}


def _apart(body: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a Gemini body without its configuration, and that."""
    rest = dict(body)
    held = [rest.pop(key, None) for key in ("generationConfig", "generation_config")]
    return rest, held[0] or held[1] or {}
