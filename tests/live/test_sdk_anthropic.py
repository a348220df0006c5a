"""
The ``anthropic`` library, through the gateway to an upstream of its kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import anthropic
import msgspec

from aiclient2api.testing import json_reply, messages_body, messages_events, sse_reply
from aiclient2api.values import Usage
from tests.live import sdk_case, sdk_cells
from tests.live.gateway import ACCOUNT_KEY
from tests.live.sdk import (
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

_USER = {"role": "user", "content": "Wie geht es dir? 你好 😀"}
_TOOLS = [{"name": "get_weather", "description": "Weather now", "input_schema": WEATHER}]
_PLAIN = {
    "model": MODEL,
    "max_tokens": 1000,
    "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    "messages": [_USER],
}
_IMAGE = [
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": IMAGE}},
    {"type": "text", "text": "What is this?"},
]
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "api_error",
    503: "overloaded_error",
}


class AnthropicSdk(Sdk):
    """The table; see `tests.live.sdk.Sdk`."""

    provider = "claude-custom"
    id = "msg_test"
    bases = ("", "/claude-custom", "/claude-custom/v1")
    finish = {
        "stop": "end_turn",
        "tools": "tool_use",
        "short": "max_tokens",
        "filtered": "refusal",
    }
    untold = frozenset({"reasoning"})
    handshake = 2
    tail = 2
    midway = anthropic.APIStatusError
    refusals = {
        400: anthropic.BadRequestError,
        401: anthropic.AuthenticationError,
        404: anthropic.NotFoundError,
        429: anthropic.RateLimitError,
        500: anthropic.InternalServerError,
        502: anthropic.InternalServerError,
    }
    unreachable = (anthropic.APITimeoutError,)
    lacks = {}
    asked = {
        "plain": _PLAIN,
        "thinking": {**_PLAIN, "thinking": {"type": "enabled", "budget_tokens": 1024}},
        "tools": {**_PLAIN, "tools": _TOOLS},
        "text and tools": {**_PLAIN, "tools": _TOOLS, "tool_choice": {"type": "auto"}},
        "image": {**_PLAIN, "messages": [{"role": "user", "content": _IMAGE}]},
        "short": {**_PLAIN, "max_tokens": 2},
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
        http = anthropic.DefaultHttpxClient(trust_env=False, verify=False, event_hooks=hooks)
        return anthropic.Anthropic(
            api_key=key, base_url=url, max_retries=retries, timeout=timeout, http_client=http
        )

    def async_client(self, url: str, key: str) -> Any:
        """Return an asynchronous client."""
        http = anthropic.DefaultAsyncHttpxClient(trust_env=False, verify=False)
        return anthropic.AsyncAnthropic(
            api_key=key, base_url=url, max_retries=0, timeout=PATIENCE, http_client=http
        )

    def close(self, client: Any) -> None:
        """Close what `client` made."""
        client.close()

    def frames(self, answer: Answer) -> list[bytes]:
        """Return *answer* as a stream."""
        return messages_events(
            answer.pieces,
            self.finish[answer.finish],
            answer.usage,
            thinking=answer.thinking,
            tools=answer.tools,
        )

    def body(self, answer: Answer) -> bytes:
        """Return *answer* whole."""
        return messages_body(
            "".join(answer.pieces),
            self.finish[answer.finish],
            answer.usage,
            thinking="".join(answer.thinking),
            tools=answer.tools,
        )

    def error(self, status: int, message: str) -> object:
        """Return an error answer's body."""
        told = {"type": _TYPES[status], "message": message}
        return {"type": "error", "error": told, "request_id": "req_test"}

    def error_frame(self, status: int, message: str) -> bytes:
        """Return the record that tells of an error in a stream."""
        return b"event: error\ndata: " + msgspec.json.encode(self.error(status, message)) + b"\n\n"

    def whole(self, client: Any, asked: Mapping[str, Any]) -> Any:
        """Ask for a whole message."""
        return client.messages.create(**asked)

    def stream(self, client: Any, asked: Mapping[str, Any]) -> Any:
        """Ask for a stream."""
        return client.messages.create(**asked, stream=True)

    def gathered(self, client: Any, asked: Mapping[str, Any]) -> Any:
        """Ask for a stream and return the message the library makes of it."""
        with client.messages.stream(**asked) as stream:
            return stream.get_final_message()

    def read(self, reply: Any) -> Seen:
        """Read a message."""
        blocks = reply.content
        return Seen(
            id=reply.id,
            model=reply.model,
            text="".join(block.text for block in blocks if block.type == "text"),
            finish=reply.stop_reason,
            usage=_usage(reply.usage),
            thinking="".join(block.thinking for block in blocks if block.type == "thinking"),
            calls=tuple(
                seen_call(block.id, block.name, block.input)
                for block in blocks
                if block.type == "tool_use"
            ),
        )

    def fold(self, events: Sequence[Any]) -> Seen:
        """Read all events."""
        assert [events[0].type, events[-1].type] == ["message_start", "message_stop"]
        (last,) = [event for event in events if event.type == "message_delta"]
        calls: dict[int, list[Any]] = {}
        for event in events:
            if event.type == "content_block_start" and event.content_block.type == "tool_use":
                calls[event.index] = [event.content_block.id, event.content_block.name, ""]
            elif event.type == "content_block_delta" and event.delta.type == "input_json_delta":
                calls[event.index][2] += event.delta.partial_json
        return Seen(
            id=events[0].message.id,
            model=events[0].message.model,
            text=self.text(events),
            finish=last.delta.stop_reason,
            usage=_usage(last.usage),
            thinking=_deltas(events, "thinking"),
            calls=tuple(seen_call(*call) for call in calls.values()),
        )

    def text(self, events: Sequence[Any]) -> str:
        """Return the text in some events."""
        return _deltas(events, "text")

    def ended(self, events: Sequence[Any]) -> bool:
        """Say whether an event told why the message ended."""
        return any(event.type in ("message_delta", "message_stop") for event in events)

    def troubles(self, events: Sequence[Any]) -> str:
        """Return nothing: iterating raises."""
        raise NotImplementedError

    def status(self, error: Any) -> int:
        """Return the HTTP status that an exception tells of."""
        return int(error.status_code)

    def follow_up(
        self, asked: Mapping[str, Any], reply: Any, results: Mapping[str, str]
    ) -> Mapping[str, Any]:
        """Return what to ask next: all blocks go back, the signed thoughts among them."""
        told = [
            {"type": "tool_result", "tool_use_id": block.id, "content": results[block.id]}
            for block in reply.content
            if block.type == "tool_use"
        ]
        turns = [
            {"role": "assistant", "content": reply.content},
            {"role": "user", "content": told},
        ]
        return {**asked, "messages": [*asked["messages"], *turns]}

    def parsed(self, client: Any) -> Iterator[Weather]:
        """Ask for `Weather`, whole and as a stream."""
        yield client.messages.parse(**_PLAIN, output_format=Weather).parsed_output
        with client.messages.stream(**_PLAIN, output_format=Weather) as stream:
            yield stream.get_final_message().parsed_output

    def model_list(self, ids: Sequence[str]) -> object:
        """Return an upstream's model list."""
        created = "2026-01-01T00:00:00Z"
        items = [
            {"type": "model", "id": id, "display_name": id, "created_at": created} for id in ids
        ]
        return {"data": items, "has_more": False, "first_id": ids[0], "last_id": ids[-1]}

    def models(self, client: Any) -> list[str]:
        """List models."""
        return [model.id for model in client.models.list()]

    def model(self, client: Any, id: str) -> str:
        """Ask for one model; return its id."""
        return str(client.models.retrieve(id).id)

    def count(self, client: Any) -> int:
        """Count tokens."""
        asked = {name: value for name, value in _PLAIN.items() if name != "max_tokens"}
        return int(client.messages.count_tokens(**asked).input_tokens)


def _usage(told: Any) -> Usage:
    read, written = told.cache_read_input_tokens or 0, told.cache_creation_input_tokens or 0
    return Usage(
        input=told.input_tokens + read + written,
        output=told.output_tokens,
        cached=read,
        cache_write=written,
    )


def _deltas(events: Sequence[Any], kind: str) -> str:
    deltas = [event.delta for event in events if event.type == "content_block_delta"]
    return "".join(getattr(delta, kind) for delta in deltas if delta.type == f"{kind}_delta")


class AnthropicCellsTests(sdk_cells.SdkCells):
    """Every cell of the matrix."""

    sdk = AnthropicSdk()


class AnthropicOnlyTests(sdk_case.SdkCase):
    """What only this library does."""

    sdk = AnthropicSdk()

    async def test_a_bearer_token(self) -> None:
        """``ANTHROPIC_AUTH_TOKEN``, the way of Claude Code, lets a caller in as well."""
        gateway, upstream = await self.start()
        self.answering(gateway, self.good(PLAIN, streaming=False))
        client = self.client(gateway, key="sk-unused").copy(auth_token=gateway.key)
        client.api_key = None
        reply = await self.call(self.sdk.whole, client, _PLAIN)
        self.assertEqual(expected(self.sdk, PLAIN), self.sdk.read(reply))
        (request,) = upstream.requests
        self.assertEqual(ACCOUNT_KEY.encode(), request.header(b"x-api-key"))
        self.assertIsNone(request.header(b"authorization"))

    async def test_betas(self) -> None:
        """What a caller of the beta API asks for reaches the upstream."""
        gateway, upstream = await self.start()
        self.answering(gateway, self.good(PLAIN, streaming=False))
        sent: list[str] = []
        client = self.client(
            gateway, sent=lambda request: sent.append(request.headers["anthropic-version"])
        )
        betas = ["context-1m-2025-08-07", "files-api-2025-04-14"]
        reply = await self.call(lambda: client.beta.messages.create(**_PLAIN, betas=betas))
        self.assertEqual(expected(self.sdk, PLAIN), self.sdk.read(reply))
        (request,) = upstream.requests
        self.assertEqual(",".join(betas).encode(), request.header(b"anthropic-beta"))
        self.assertEqual(sent, [(request.header(b"anthropic-version") or b"").decode()])

    async def test_overloaded(self) -> None:
        """Anthropic's own 529 arrives as 529, whole or as the first event."""
        gateway, _ = await self.start()
        client = self.client(gateway)
        told = self.sdk.error(503, "Overloaded")
        frame = self.sdk.error_frame(503, "Overloaded")
        for ask, script in (
            (self.sdk.whole, json_reply(529, told)),
            (self.sdk.stream, sse_reply([*self.sdk.frames(PLAIN)[:2], frame])),
        ):
            self.answering(gateway, script)
            error = await self.call(self.refusal, ask, client)
            self.assertEqual(529, self.sdk.status(error))
            self.assertIn("Overloaded", str(error))

    async def test_an_end_without_message_stop(self) -> None:
        """A stream that told its stop reason is whole without ``message_stop``."""
        gateway, _ = await self.start()
        self.answering(gateway, sse_reply(self.sdk.frames(PLAIN)[:-1]))
        events, error = await self.call(self.drain, self.client(gateway), _PLAIN)
        self.assertIsNone(error)
        self.assertEqual("".join(PLAIN.pieces), self.sdk.text(events))
        self.assertEqual("end_turn", events[-1].delta.stop_reason)
