"""
The services behind the logins, for the matrix of logins and clients: what each is told to
say, what it was asked, and an account there whose token has just expired.

What was asked is read here by hand, and never by a dialect of ours: a test compares two
sources. Nothing here knows a client.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import attrs
from twisted.internet.defer import Deferred

from aiclient2api.testing import (
    Call,
    CodeAssistAnswer,
    FakeCodeAssist,
    FakeKiro,
    FakeQwen,
    QwenReply,
    kiro_call,
    kiro_metadata,
    kiro_text,
)
from aiclient2api.testing.code_assist_answers import SIGNATURE
from tests.live.sdk import Answer, seen_call

_PAST = 3600
"""Seconds since the token expired."""


@attrs.frozen
class Told:
    """
    What one request tells a model.

    :ivar said: All that the user says, a line each.
    :ivar images: Type and base64 of each image.
    :ivar calls: The calls it was reminded of, their arguments as canonical JSON; the id is
        ``""`` where none was told.
    :ivar results: The id of a call and what came of it, in order.
    :ivar thoughts: The thoughts that it was reminded of.
    :ivar seals: What those thoughts and calls were signed with.
    :ivar thinks: Whether it is to think.
    """

    said: str
    images: tuple[tuple[str, str], ...] = ()
    calls: tuple[Call, ...] = ()
    results: tuple[tuple[str, str], ...] = ()
    thoughts: str = ""
    seals: tuple[str, ...] = ()
    thinks: bool = False


class LoginUpstream(Protocol):
    """
    One service, and one account there.

    :ivar provider: Whose service it is.
    :ivar model: What it is asked for, by the name that it tells as well.
    """

    provider: str
    model: str

    def listen(self, reactor: Any) -> Deferred[int]:
        """Start to listen on 127.0.0.1."""

    def stop(self) -> Deferred[None]:
        """Stop, and break what is open."""

    def account(self, folder: Path) -> Mapping[str, object]:
        """Log in, let the token expire, write the file to *folder*; return the settings."""

    def play(self, answer: Answer) -> None:
        """Give *answer* to the next request."""

    def told(self) -> Told:
        """Return what the last request says."""

    def bodies(self) -> Sequence[tuple[str, Any]]:
        """Return each request for an answer, where it is of a dialect that has a judge."""

    @property
    def refused(self) -> Sequence[object]:
        """Return what it had to refuse."""

    @property
    def renewals(self) -> int:
        """Return how often a token was renewed."""


@attrs.define(eq=False)
class CodeAssistUpstream(LoginUpstream):
    """Google's Code Assist."""

    provider = "gemini-cli-oauth"
    model = "gemini-3-pro-preview"
    fake: FakeCodeAssist = attrs.field(factory=FakeCodeAssist)

    def listen(self, reactor: Any) -> Deferred[int]:
        """Start to listen on 127.0.0.1."""
        return self.fake.listen(reactor)

    def stop(self) -> Deferred[None]:
        """Stop, and break what is open."""
        return self.fake.stop()

    def account(self, folder: Path) -> Mapping[str, object]:
        """Write the file of Gemini CLI."""
        return {
            "gemini_oauth_creds_file_path": _written(
                folder / "oauth_creds.json", self.fake.login(lifetime=-_PAST)
            ),
            "gemini_base_url": self.fake.url,
            "gemini_oauth_token_url": self.fake.token_url,
            "gemini_oauth_client_id": self.fake.client_id,
            "gemini_oauth_client_secret": self.fake.client_secret,
        }

    def play(self, answer: Answer) -> None:
        """Say it in Gemini's parts; the first call is signed, as this model always does."""
        parts: list[dict[str, Any]] = [{"text": text, "thought": True} for text in answer.thinking]
        parts += [{"text": text} for text in answer.pieces]
        for index, call in enumerate(answer.tools):
            told = {"id": call.id, "name": call.name, "args": json.loads(call.arguments)}
            signed = {} if index else {"thoughtSignature": SIGNATURE}
            parts.append({"functionCall": told, **signed})
        usage = {
            "promptTokenCount": 20,
            "cachedContentTokenCount": 5,
            "candidatesTokenCount": 5,
            "thoughtsTokenCount": 4,
            "totalTokenCount": 29,
        }
        self.fake.play(CodeAssistAnswer(tuple(parts), model=self.model, usage=usage))

    def told(self) -> Told:
        """Read the contents."""
        request = self._requests()[-1]
        parts = [
            (content["role"], _camel(part))
            for content in request["contents"]
            for part in content["parts"]
        ]
        calls = [part["functionCall"] for _, part in parts if "functionCall" in part]
        media = [_camel(part["inlineData"]) for _, part in parts if "inlineData" in part]
        thinking = _camel(_camel(request.get("generationConfig", {})).get("thinkingConfig", {}))
        return Told(
            said=_lines(part["text"] for role, part in parts if role == "user" and "text" in part),
            images=tuple((each["mimeType"], _plain(each["data"])) for each in media),
            calls=tuple(
                seen_call(call.get("id", ""), call["name"], call["args"]) for call in calls
            ),
            results=tuple(
                (
                    part["functionResponse"].get("id", ""),
                    "".join(_strings(part["functionResponse"])),
                )
                for _, part in parts
                if "functionResponse" in part
            ),
            thoughts="".join(part["text"] for _, part in parts if part.get("thought")),
            seals=tuple(
                part["thoughtSignature"] for _, part in parts if "thoughtSignature" in part
            ),
            thinks=bool(thinking.get("includeThoughts")),
        )

    def bodies(self) -> Sequence[tuple[str, Any]]:
        """Return what is in each envelope."""
        return [("gemini", request) for request in self._requests()]

    def _requests(self) -> Sequence[Any]:
        asked = (*self.fake.calls("generateContent"), *self.fake.calls("streamGenerateContent"))
        order = sorted(asked, key=self.fake.asked.index)
        return [each.body["request"] for each in order]

    @property
    def refused(self) -> Sequence[object]:
        """Return the requests that had an error for an answer."""
        return [(each.what, each.status) for each in self.fake.asked if each.status != 200]

    @property
    def renewals(self) -> int:
        """Return how often its login service was asked."""
        return len(self.fake.calls("token"))


@attrs.define(eq=False)
class QwenUpstream(LoginUpstream):
    """Qwen's service; what an answer costs is its own affair."""

    provider = "openai-qwen-oauth"
    model = "vision-model"
    fake: FakeQwen = attrs.field(factory=lambda: FakeQwen(seconds=time.time))

    def listen(self, reactor: Any) -> Deferred[int]:
        """Start to listen; a stream for which no tool is offered will hold nonsense."""
        self.fake.poisoned = True
        return self.fake.listen(reactor)

    def stop(self) -> Deferred[None]:
        """Stop, and break what is open."""
        return self.fake.stop()

    def account(self, folder: Path) -> Mapping[str, object]:
        """Write the file of Qwen Code, which says where the service is."""
        document = self.fake.log_in()
        self.fake.revoke(document["access_token"])
        document["expiry_date"] = int(time.time() - _PAST) * 1000
        return {
            "qwen_oauth_creds_file_path": _written(folder / "oauth_creds.json", document),
            "qwen_oauth_base_url": self.fake.url,
        }

    def play(self, answer: Answer) -> None:
        """Say it in words, and calls of what is offered."""
        text, thinking = "".join(answer.pieces), "".join(answer.thinking)
        self.fake.replies.append(QwenReply(text, thinking, answer.tools))

    def told(self) -> Told:
        """Read the messages."""
        body = self.fake.chats[-1]
        messages = body["messages"]
        shown = [
            part
            for message in messages
            if message["role"] == "user"
            for part in _content(message["content"])
        ]
        calls = [call for message in messages for call in message.get("tool_calls") or ()]
        images = [part["image_url"]["url"] for part in shown if part["type"] == "image_url"]
        return Told(
            said=_lines(part["text"] for part in shown if part["type"] == "text"),
            images=tuple(_of_data_url(url) for url in images),
            calls=tuple(
                seen_call(call["id"], call["function"]["name"], call["function"]["arguments"])
                for call in calls
            ),
            results=tuple(
                (
                    message["tool_call_id"],
                    "".join(part["text"] for part in _content(message["content"])),
                )
                for message in messages
                if message["role"] == "tool"
            ),
            thoughts="".join(message.get("reasoning_content") or "" for message in messages),
            thinks=bool(body.get("enable_thinking") or body.get("reasoning_effort")),
        )

    def bodies(self) -> Sequence[tuple[str, Any]]:
        """Return each request, without marks for the service's cache, which OpenAI has not."""
        return [("openai-chat", _unmarked(body)) for body in self.fake.chats]

    @property
    def refused(self) -> Sequence[object]:
        """Return what was neither answered nor a renewal."""
        answered = len(self.fake.chats) + self.fake.refreshed
        return [request.target for request in self.fake.requests][answered:]

    @property
    def renewals(self) -> int:
        """Return how often its login service gave a token."""
        return self.fake.refreshed


@attrs.define(eq=False)
class KiroUpstream(LoginUpstream):
    """Kiro's service, to which somebody came by a social login."""

    provider = "claude-kiro-oauth"
    model = "claude-sonnet-4.5"
    fake: FakeKiro = attrs.field(factory=FakeKiro)

    def listen(self, reactor: Any) -> Deferred[int]:
        """Start to listen on 127.0.0.1."""
        return self.fake.listen(reactor)

    def stop(self) -> Deferred[None]:
        """Stop, and break what is open."""
        return self.fake.stop()

    def account(self, folder: Path) -> Mapping[str, object]:
        """Write the file of the Kiro IDE."""
        document = self.fake.social()
        self.fake.expire(document["accessToken"])
        document["expiresAt"] = "2026-01-01T00:00:00.000Z"
        path = _written(folder / "kiro-auth-token.json", document)
        return {"kiro_oauth_creds_file_path": path, **self.fake.settings}

    def play(self, answer: Answer) -> None:
        """Say it in events; thoughts only if it is told to think, and among the text."""

        def frames(body: Mapping[str, Any]) -> Sequence[bytes]:
            pieces = list(answer.pieces)
            if answer.thinking and _is_to_think(body):
                pieces[:0] = ["<thinking>", *answer.thinking, "</thinking>\n\n"]
            told = [kiro_text(piece) for piece in pieces]
            for call in answer.tools:
                half = len(call.arguments) // 2
                told += kiro_call(
                    call.id, call.name, (call.arguments[:half], call.arguments[half:])
                )
            usage = {
                "uncachedInputTokens": 13,
                "cacheReadInputTokens": 5,
                "cacheWriteInputTokens": 2,
                "outputTokens": 9,
                "totalTokens": 29,
            }
            return [*told, kiro_metadata(usage)]

        self.fake.answers.append(frames)

    def told(self) -> Told:
        """Read the history and the current message."""
        turns = _kiro_turns(self.fake.asked[-1])
        users = [turn["userInputMessage"] for turn in turns if "userInputMessage" in turn]
        models = [
            turn["assistantResponseMessage"] for turn in turns if "assistantResponseMessage" in turn
        ]
        answered = [
            result
            for user in users
            for result in user.get("userInputMessageContext", {}).get("toolResults", ())
        ]
        thoughts = [
            each["content"].partition("<thinking>")[2].partition("</thinking>")[0]
            for each in models
        ]
        return Told(
            said=_lines(user["content"] for user in users),
            images=tuple(
                (f"image/{image['format']}", image["source"]["bytes"])
                for user in users
                for image in user.get("images", ())
            ),
            calls=tuple(
                seen_call(call["toolUseId"], call["name"], call["input"])
                for each in models
                for call in each.get("toolUses", ())
            ),
            results=tuple(
                (result["toolUseId"], "".join(part["text"] for part in result["content"]))
                for result in answered
            ),
            thoughts="".join(thoughts),
            thinks=_is_to_think(self.fake.asked[-1]),
        )

    def bodies(self) -> Sequence[tuple[str, Any]]:
        """Return nothing: nobody but the fake itself judges them."""
        return []

    @property
    def refused(self) -> Sequence[object]:
        """Return the targets that were neither answered nor a renewal, and broken rules."""
        answered = len(self.fake.asked) + self.fake.renewed
        targets = [request.target for request in self.fake.server.requests]
        return [*self.fake.broken, *targets[answered:]]

    @property
    def renewals(self) -> int:
        """Return how often a token was renewed."""
        return self.fake.renewed


def _written(path: Path, document: Mapping[str, Any]) -> str:
    path.write_text(json.dumps(document))
    path.chmod(0o600)
    return str(path)


def _lines(texts: Iterator[str]) -> str:
    return "\n".join(texts)


def _camel(told: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an object with names as Gemini writes them: it takes others as well."""
    return {re.sub("_([a-z])", lambda found: found[1].upper(), key): told[key] for key in told}


def _plain(data: str) -> str:
    """Return base64 in the usual alphabet: Google's is the one for URLs."""
    return data.translate(str.maketrans("-_", "+/"))


def _of_data_url(url: str) -> tuple[str, str]:
    head, _, data = url.partition(";base64,")
    return head.removeprefix("data:"), data


def _content(content: Any) -> Sequence[Mapping[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content or []


def _unmarked(told: Any) -> Any:
    if isinstance(told, list):
        return [_unmarked(each) for each in told]
    if not isinstance(told, dict):
        return told
    return {key: _unmarked(value) for key, value in told.items() if key != "cache_control"}


def _strings(answer: Mapping[str, Any]) -> Iterator[str]:
    """Yield the texts of a function's response, whatever they are called."""
    return (each for each in answer["response"].values() if isinstance(each, str))


def _kiro_turns(body: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    state = body["conversationState"]
    return [*state.get("history", ()), state["currentMessage"]]


def _is_to_think(body: Mapping[str, Any]) -> bool:
    return "<thinking_mode>" in _kiro_turns(body)[0]["userInputMessage"]["content"]
