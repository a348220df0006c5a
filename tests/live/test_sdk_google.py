"""
The ``google-genai`` library, through the gateway to an upstream of its kind.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import httpx2
import msgspec
from google import genai
from google.genai import errors, types

from aiclient2api.testing import gemini_body, gemini_chunks, raw_reply
from aiclient2api.values import Usage
from tests.live import sdk_case, sdk_cells
from tests.live.sdk import (
    ANSWERS,
    IMAGE,
    MODEL,
    PATIENCE,
    PLAIN,
    WEATHER,
    Answer,
    Sdk,
    Seen,
    Weather,
    expected,
    seen_call,
)

_TEXT = "Wie geht es dir? 你好 😀"
_TOOLS = [{"function_declarations": [{"name": "get_weather", "parameters_json_schema": WEATHER}]}]
_BY_HAND = {"automatic_function_calling": {"disable": True}, "tools": _TOOLS}
_PLAIN = {"model": MODEL, "contents": _TEXT}
_IMAGE = [
    types.Part.from_text(text="What is this?"),
    types.Part.from_bytes(data=base64.b64decode(IMAGE), mime_type="image/png"),
]
_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}


class GoogleSdk(Sdk):
    """The table; see `tests.live.sdk.Sdk`."""

    provider = "gemini-custom"
    id = "test"
    bases = ("", "/gemini-custom")
    finish = {"stop": "STOP", "tools": "STOP", "short": "MAX_TOKENS", "filtered": "SAFETY"}
    untold = frozenset({"cache_write"})
    handshake = 0
    tail = 1
    midway = errors.APIError
    refusals = {
        400: errors.ClientError,
        401: errors.ClientError,
        404: errors.ClientError,
        429: errors.ClientError,
        500: errors.ServerError,
        502: errors.ServerError,
    }
    unreachable = (httpx2.TimeoutException,)
    lacks = {}
    asked = {
        "plain": _PLAIN,
        "thinking": {**_PLAIN, "config": {"thinking_config": {"include_thoughts": True}}},
        "tools": {**_PLAIN, "config": _BY_HAND},
        "text and tools": {**_PLAIN, "config": _BY_HAND},
        "image": {"model": MODEL, "contents": _IMAGE},
        "short": {**_PLAIN, "config": {"max_output_tokens": 2}},
    }

    def client(
        self,
        url: str,
        key: str,
        *,
        retries: int = 0,
        timeout: float = PATIENCE,
        sent: Callable[[Any], None] | None = None,
    ) -> Any:
        """Return a client whose every request is shown to *sent*."""
        hooks = {"request": [] if sent is None else [sent]}
        again: Any = {"attempts": retries + 1, "initial_delay": 0.01, "jitter": 0.0}
        options: Any = {
            "base_url": url,
            "timeout": int(timeout * 1000),
            "client_args": {"trust_env": False, "verify": False, "event_hooks": hooks},
            "async_client_args": {"trust_env": False, "verify": False},
            "retry_options": again,
        }
        return genai.Client(api_key=key, vertexai=False, http_options=options)

    def async_client(self, url: str, key: str) -> Any:
        """Return an asynchronous client."""
        return self.client(url, key).aio

    def close(self, client: Any) -> None:
        """Close what `client` made."""
        client.close()

    def frames(self, answer: Answer) -> list[bytes]:
        """Return *answer* as a stream."""
        return gemini_chunks(
            answer.pieces,
            self.finish[answer.finish],
            answer.usage,
            thinking=answer.thinking,
            tools=answer.tools,
        )

    def body(self, answer: Answer) -> bytes:
        """Return *answer* whole."""
        return gemini_body(
            "".join(answer.pieces),
            self.finish[answer.finish],
            answer.usage,
            thinking="".join(answer.thinking),
            tools=answer.tools,
        )

    def error(self, status: int, message: str) -> object:
        """Return an error answer's body."""
        return {"error": {"code": status, "message": message, "status": _STATUSES[status]}}

    def error_frame(self, status: int, message: str) -> bytes:
        """Return the record that tells of an error in a stream."""
        return b"data: " + msgspec.json.encode(self.error(status, message)) + b"\r\n\r\n"

    def whole(self, client: Any, asked: Mapping[str, Any]) -> Any:
        """Ask for a whole answer."""
        return client.models.generate_content(**asked)

    def stream(self, client: Any, asked: Mapping[str, Any]) -> Any:
        """Ask for a stream."""
        return client.models.generate_content_stream(**asked)

    def gathered(self, client: Any, asked: Mapping[str, Any]) -> Any:
        """Ask for a stream and return its last chunk with the parts of all."""
        chunks = list(self.stream(client, asked))
        parts = [part for chunk in chunks for part in _parts(chunk)]
        last = chunks[-1].model_copy(deep=True)
        last.candidates[0].content.parts = parts
        return last

    def read(self, reply: Any) -> Seen:
        """Read an answer."""
        (candidate,) = reply.candidates
        told, parts = reply.usage_metadata, _parts(reply)
        calls = [part.function_call for part in parts if part.function_call]
        return Seen(
            id=reply.response_id,
            model=reply.model_version,
            text=self.text([reply]),
            finish=candidate.finish_reason and candidate.finish_reason.value,
            usage=Usage(
                input=told.prompt_token_count,
                output=(told.candidates_token_count or 0) + (told.thoughts_token_count or 0),
                cached=told.cached_content_token_count,
                reasoning=told.thoughts_token_count,
            ),
            thinking="".join(part.text for part in parts if part.thought),
            calls=tuple(seen_call(call.id, call.name, call.args) for call in calls),
        )

    def fold(self, events: Sequence[Any]) -> Seen:
        """Read all chunks."""
        assert [chunk.candidates[0].finish_reason for chunk in events[:-1]] == [None] * (
            len(events) - 1
        )
        parts = [part for chunk in events for part in _parts(chunk)]
        last = events[-1].model_copy(deep=True)
        last.candidates[0].content.parts = parts
        return self.read(last)

    def text(self, events: Sequence[Any]) -> str:
        """Return the text in some chunks."""
        parts = [part for chunk in events for part in _parts(chunk)]
        return "".join(part.text for part in parts if part.text and not part.thought)

    def ended(self, events: Sequence[Any]) -> bool:
        """Say whether a chunk told why the answer ended."""
        return any(each.finish_reason for chunk in events for each in chunk.candidates or ())

    def troubles(self, events: Sequence[Any]) -> str:
        """Return nothing: iterating raises."""
        raise NotImplementedError

    def status(self, error: Any) -> int:
        """Return the HTTP status that an exception tells of."""
        return int(error.code)

    def follow_up(
        self, asked: Mapping[str, Any], reply: Any, results: Mapping[str, str]
    ) -> Mapping[str, Any]:
        """Return what to ask next: the model's turn goes back, then each result."""
        turn = reply.candidates[0].content
        told = [
            {
                "function_response": {
                    "id": part.function_call.id,
                    "name": part.function_call.name,
                    "response": {"result": results[part.function_call.id]},
                }
            }
            for part in turn.parts
            if part.function_call
        ]
        asking = {"role": "user", "parts": [{"text": asked["contents"]}]}
        return {**asked, "contents": [asking, turn, {"role": "user", "parts": told}]}

    def parsed(self, client: Any) -> Iterator[Weather]:
        """Ask for `Weather`; a stream's chunks are parsed each on their own, so only whole."""
        config = {"response_mime_type": "application/json", "response_schema": Weather}
        yield client.models.generate_content(**_PLAIN, config=config).parsed

    def model_list(self, ids: Sequence[str]) -> object:
        """Return an upstream's model list."""
        return {"models": [{"name": f"models/{id}", "displayName": id} for id in ids]}

    def models(self, client: Any) -> list[str]:
        """List models."""
        return [model.name.removeprefix("models/") for model in client.models.list()]

    def model(self, client: Any, id: str) -> str:
        """Ask for one model; return its id."""
        return str(client.models.get(model=id).name.removeprefix("models/"))

    def count(self, client: Any) -> int:
        """Count tokens."""
        return int(client.models.count_tokens(**_PLAIN).total_tokens)


def _parts(chunk: Any) -> list[Any]:
    candidates = chunk.candidates or ()
    return [part for each in candidates if each.content for part in each.content.parts or ()]


class GoogleCellsTests(sdk_cells.SdkCells):
    """Every cell of the matrix."""

    sdk = GoogleSdk()


class GoogleOnlyTests(sdk_case.SdkCase):
    """What only this library does."""

    sdk = GoogleSdk()

    async def test_every_api_version(self) -> None:
        """``v1beta``, ``v1`` and whatever the library has by default lead to one place."""
        gateway, upstream = await self.start()
        self.answering(gateway, self.good(PLAIN, streaming=False))
        client = self.client(gateway)

        def ask(version: str | None) -> Any:
            options = {} if version is None else {"http_options": {"api_version": version}}
            return client.models.generate_content(**_PLAIN, config=options)

        for version in (None, "v1beta", "v1"):
            self.assertEqual(
                expected(self.sdk, PLAIN), self.sdk.read(await self.call(ask, version))
            )
        targets = [request.target for request in upstream.requests]
        self.assertEqual([f"/v1beta/models/{MODEL}:generateContent"] * 3, targets)

    async def test_a_function_is_called_by_the_library(self) -> None:
        """Offered a Python function, the library calls it and goes on by itself."""
        gateway, upstream = await self.start()
        tools = ANSWERS["tools"]
        self.answering(
            gateway, self.good(tools, streaming=False), self.good(PLAIN, streaming=False)
        )
        client = self.client(gateway)
        asked: list[str] = []

        def get_weather(city: str) -> str:
            """Tell the weather."""
            asked.append(city)
            return f"fine in {city}"

        chat = client.chats.create(model=MODEL, config={"tools": [get_weather]})
        reply = await self.call(chat.send_message, _TEXT)
        self.assertEqual(expected(self.sdk, PLAIN), self.sdk.read(reply))
        self.assertEqual(["Zürich", "北京"], asked)
        last = msgspec.json.decode(upstream.requests[-1].body)
        told = [part["functionResponse"] for part in last["contents"][-1]["parts"]]
        results = [{"result": "fine in Zürich"}, {"result": "fine in 北京"}]
        self.assertEqual(results, [each["response"] for each in told])

    async def test_a_chat_remembers(self) -> None:
        """A chat sends the model's streamed turn back as it came."""
        gateway, upstream = await self.start()
        self.answering(gateway, self.good(PLAIN, streaming=True))
        chat = self.client(gateway).chats.create(model=MODEL)
        for _ in range(2):
            chunks = await self.call(lambda: list(chat.send_message_stream(_TEXT)))
            self.assertEqual(expected(self.sdk, PLAIN), self.sdk.fold(chunks))
        contents = msgspec.json.decode(upstream.requests[-1].body)["contents"]
        roles = [turn["role"] for turn in contents]
        self.assertEqual(["user", *["model"] * len(PLAIN.pieces), "user"], roles)
        said = [part["text"] for turn in contents[1:-1] for part in turn["parts"]]
        self.assertEqual(list(PLAIN.pieces), said)

    async def test_an_error_in_place_of_an_array(self) -> None:
        """Without ``alt=sse`` Google wraps its errors in a list; the status is real still."""
        gateway, _ = await self.start()
        told = msgspec.json.encode(self.sdk.error(429, "Upstream says 429."))
        self.answering(gateway, raw_reply(200, b"[" + told + b"]"))
        path = f"models/{MODEL}:streamGenerateContent"
        question = {"contents": [{"parts": [{"text": _TEXT}]}]}

        def ask(client: Any, _: object) -> Any:
            # Of the library's own calls none asks for an array, nor can it read one.
            return client._api_client.request_streamed("post", path, question)

        error = await self.call(self.refusal, ask, self.client(gateway))
        self.assertIsInstance(error, errors.ClientError)
        self.assertEqual(429, self.sdk.status(error))
        self.assertIn("Upstream says 429.", str(error))
