"""
The sandbox as the gateway serves it: before a strict judge, and before the real library.

The judge is the ``openai`` library's own model of an answer, with unknown fields forbidden.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import openai
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import ValidationError
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.providers._sandbox_answer import MODELS
from aiclient2api.testing import chat_body
from tests.live.gateway import LiveGateway, Reply
from tests.live.sdk import CALLS, WEATHER
from tests.live.sdk_case import LiveCase
from tests.live.sdk_openai import OpenAILibrary
from tests.live.strict import strict

TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}}
QUESTIONS: Mapping[str, Mapping[str, Any]] = {
    "plain": {"messages": [{"role": "user", "content": "Grüße, 世界 😀"}]},
    "short": {"messages": [{"role": "user", "content": "Talk."}], "max_tokens": 2},
    "thinking": {"messages": [{"role": "user", "content": "Hm?"}], "reasoning_effort": "high"},
    "tool": {
        "messages": [{"role": "user", "content": "Use the tool get_weather."}],
        "tools": [TOOL],
    },
}
GOOD: Mapping[str, tuple[str, ...]] = {
    "sandbox": tuple(QUESTIONS),
    "sandbox-fast": tuple(QUESTIONS),
    "sandbox-think": tuple(QUESTIONS),
    "sandbox-tool": tuple(QUESTIONS),
    "sandbox-flaky": ("plain",),
    "sandbox-long": ("plain", "short"),
    # A second for every chunk.
    "sandbox-slow": ("short",),
}
"""The models that answer, each with what it is asked."""

FAILING: Mapping[str, tuple[type[openai.APIError], int | None]] = {
    "sandbox-400": (openai.BadRequestError, 400),
    "sandbox-401": (openai.AuthenticationError, 401),
    "sandbox-403": (openai.PermissionDeniedError, 403),
    "sandbox-404": (openai.NotFoundError, 404),
    "sandbox-429": (openai.RateLimitError, 429),
    "sandbox-429-long": (openai.RateLimitError, 429),
    "sandbox-500": (openai.InternalServerError, 500),
    "sandbox-503": (openai.InternalServerError, 503),
    "sandbox-529": (openai.InternalServerError, 529),
    "sandbox-hang": (openai.InternalServerError, 504),
    "sandbox-first-error": (openai.InternalServerError, 500),
    "sandbox-empty": (openai.InternalServerError, 502),
    "sandbox-cut": (openai.APIError, None),
    "sandbox-reset": (openai.APIError, None),
    "sandbox-error": (openai.APIError, None),
    "sandbox-stall": (openai.APIError, None),
}
"""The other models, each with what a stream of it raises; None if that comes after a 200."""


class JudgeTests(SynchronousTestCase):
    """The judge can say no."""

    def test_a_good_answer_is_accepted(self) -> None:
        """What a well-behaved upstream sends passes."""
        strict(ChatCompletion).model_validate_json(chat_body("Hello", tools=CALLS, thinking="Hm."))

    def test_what_is_unknown_or_of_a_wrong_type_is_refused(self) -> None:
        """One field too many, at any depth, or a number for a string, is an error."""
        good = chat_body("Hello", tools=CALLS)
        for old, new in (
            (b'{"id":"chatcmpl-test"', b'{"extra":1,"id":"chatcmpl-test"'),
            (b'"message":{', b'"message":{"extra":1,'),
            (b'"function":{', b'"function":{"extra":1,'),
            (b'"completion_tokens_details":{', b'"completion_tokens_details":{"extra":1,'),
            (b'"id":"chatcmpl-test"', b'"id":1'),
            (b'"finish_reason":"stop"', b'"finish_reason":"done"'),
            (b'"index":0', b'"index":"0"'),
        ):
            bad = good.replace(old, new)
            self.assertNotEqual(good, bad)
            with self.assertRaises(ValidationError, msg=new.decode()):
                strict(ChatCompletion).model_validate_json(bad)


class SandboxCase(LiveCase):
    """A gateway that has nothing but the sandbox to answer from."""

    async def start(self, **config: object) -> LiveGateway:
        """Start a gateway that answers from the sandbox."""
        config = {"request_base_delay": 10, **config}
        return await LiveGateway(self, default="sandbox", config=config).start()


class SandboxAnswersTests(SandboxCase):
    """Every good answer is as OpenAI's own would be."""

    def test_every_model_stands_in_a_table(self) -> None:
        """A new model of the sandbox has to be tried here."""
        self.assertEqual(set(MODELS), {*GOOD, *FAILING})
        self.assertEqual(set(), GOOD.keys() & FAILING.keys())

    async def test_every_good_answer(self) -> None:
        """Completions and chunks have all fields that are wanted, and no other."""
        gateway = await self.start()
        asking = [
            Deferred.fromCoroutine(self._judged(gateway, model, name, streaming))
            for model, names in GOOD.items()
            for name in names
            for streaming in (False, True)
        ]
        await gatherResults(asking, consumeErrors=True)

    async def _judged(self, gateway: LiveGateway, model: str, name: str, streaming: bool) -> None:
        asked: dict[str, Any] = {"model": model, **QUESTIONS[name], "stream": streaming}
        if streaming:
            asked["stream_options"] = {"include_usage": True}
        reply = await gateway.request(
            "POST", "/v1/chat/completions", gateway.bearer, json.dumps(asked).encode()
        )
        self.assertEqual(200, reply.status, (model, name, reply.body))
        self.assertTrue(reply.complete, (model, name))
        if streaming:
            ends = self._judged_chunks(reply)
        else:
            strict(ChatCompletion).model_validate_json(reply.body)
            ends = [choice["finish_reason"] for choice in reply.json()["choices"]]
        wanted = {"short": "length", "tool": "tool_calls"}.get(name, "stop")
        self.assertEqual([wanted], ends, (model, name))

    def _judged_chunks(self, reply: Reply) -> list[str]:
        *records, done, nothing = reply.body.split(b"\n\n")
        self.assertEqual((b"data: [DONE]", b""), (done, nothing))
        chunks = [
            strict(ChatCompletionChunk).model_validate_json(record.removeprefix(b"data: "))
            for record in records
        ]
        decoded = [json.loads(record.removeprefix(b"data: ")) for record in records]
        self.assertEqual(1, len({chunk["id"] for chunk in decoded}))
        counts = [chunk["usage"] for chunk in decoded]
        self.assertEqual([None] * (len(chunks) - 1), counts[:-1])
        self.assertGreater(counts[-1]["completion_tokens"], 0)
        ends = [choice["finish_reason"] for chunk in decoded for choice in chunk["choices"]]
        return [end for end in ends if end is not None]


class SandboxLibraryTests(SandboxCase):
    """The real library before the sandbox."""

    def client(self, gateway: LiveGateway) -> Any:
        """Return the library's client."""
        client = OpenAILibrary().client(gateway.url + "/v1", gateway.key)
        self.addCleanup(client.close)
        return client

    async def test_models(self) -> None:
        """All models of the sandbox are listed."""
        gateway = await self.start()
        listed = await self.call(lambda: list(self.client(gateway).models.list()))
        self.assertEqual(list(MODELS), [model.id for model in listed])

    async def test_a_tool_round_trip(self) -> None:
        """A tool is called, and its result comes up in the answer."""
        gateway = await self.start()
        client, asked = self.client(gateway), dict(QUESTIONS["tool"])

        def talk() -> str:
            create = client.chat.completions.create
            message = create(model="sandbox-fast", **asked).choices[0].message
            (call,) = message.tool_calls
            self.assertEqual("get_weather", call.function.name)
            self.assertEqual(["city"], list(json.loads(call.function.arguments)))
            result = {"role": "tool", "tool_call_id": call.id, "content": "21 °C"}
            asked["messages"] = [*asked["messages"], message, result]
            pieces = create(model="sandbox-fast", **asked, stream=True)
            return "".join(chunk.choices[0].delta.content or "" for chunk in pieces)

        self.assertIn("21 °C", await self.call(talk))

    async def test_every_failing_model(self) -> None:
        """Each raises what it is there to raise, and none looks whole."""
        gateway = await self.start(
            request_max_retries=0, timeouts={"response_headers": 2, "idle": 2}
        )
        client = self.client(gateway)

        def ask(model: str) -> tuple[list[Any], Any]:
            chunks: list[Any] = []
            try:
                chunks.extend(
                    client.chat.completions.create(model=model, **QUESTIONS["plain"], stream=True)
                )
            except openai.APIError as error:
                return chunks, error
            return chunks, None

        for model, (kind, status) in FAILING.items():
            chunks, error = await self.call(ask, model)
            self.assertIsInstance(error, kind, model)
            self.assertEqual(status, getattr(error, "status_code", None), model)
            ends = [choice.finish_reason for chunk in chunks for choice in chunk.choices]
            self.assertEqual([], [end for end in ends if end], model)
