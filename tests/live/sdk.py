"""
The table that every official SDK's tests are made from.

Each dialect's own file fills in a `Sdk`: what its library is asked, and what it is to
make of the answers, which stand here for all dialects alike. `tests.live.sdk_cells` has
a test for each cell. Nothing here may know one library or one dialect from another.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import attrs
from pydantic import BaseModel

from aiclient2api.testing import Call
from aiclient2api.values import Usage

MODEL = "test-model"
PATIENCE = 10.0
"""Seconds an SDK waits for anything: more than any test needs, less than its limit."""

IMAGE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
"""A PNG of one dot, in base64."""
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}


class Weather(BaseModel):
    """What structured output is asked for."""

    city: str
    degrees: int


_USAGE = Usage(input=20, output=9, cached=5, cache_write=2, reasoning=4)


@attrs.frozen
class Answer:
    """
    One good answer, in no dialect yet.

    :ivar finish: ``stop``, ``tools``, ``short`` or ``filtered``.
    """

    pieces: tuple[str, ...] = ()
    thinking: tuple[str, ...] = ()
    tools: tuple[Call, ...] = ()
    finish: str = "stop"
    usage: Usage = _USAGE


CALLS = (
    Call("call_1", "get_weather", '{"city":"Zürich"}'),
    Call("call_2", "get_weather", '{"city":"北京"}'),
)
PLAIN = Answer(("Grüße, ", "世界\u2028", "😀 and so on."))
THINKING = Answer(("So ", "be it."), thinking=("First ", "this — then that."))
ANSWERS = {
    "plain": PLAIN,
    "thinking": THINKING,
    "tools": Answer(tools=CALLS, finish="tools"),
    "text and tools": Answer(("I ", "look."), tools=CALLS, finish="tools"),
    "image": Answer(("A dot.",)),
    "short": Answer(("And then",), finish="short"),
}
STRUCTURED = Answer(('{"city":"Zürich",', '"degrees":21}'))

RESULTS = {"call_1": "21 °C", "call_2": "下雨"}
REFUSED = (400, 401, 404, 429, 500)


@attrs.frozen
class Seen:
    """What an SDK made of one answer; arguments of calls as canonical JSON."""

    id: str
    model: str
    text: str
    finish: str | None
    usage: Usage
    thinking: str = ""
    calls: tuple[Call, ...] = ()


def seen_call(id: str | None, name: str | None, arguments: str | Mapping[str, Any] | None) -> Call:
    """Return a call an SDK has seen, its arguments in canonical JSON."""
    decoded = json.loads(arguments) if isinstance(arguments, str) else arguments
    return Call(str(id), str(name), json.dumps(decoded, sort_keys=True))


class Sdk(Protocol):
    """
    One library before one dialect: the table its tests are made from.

    A method that is given a client must serve the blocking one and the asynchronous one
    alike, returning what the latter's call returns, to be awaited.

    :ivar id: The id of every good answer of `aiclient2api.testing` in this dialect.
    :ivar bases: Base URL paths that all lead here, the usual one first; the others name
        the provider.
    :ivar finish: What the dialect calls each of the ways an `Answer` finishes.
    :ivar untold: The fields of `Usage` that the dialect has no words for.
    :ivar asked: What to pass to the library, for each of `ANSWERS`.
    :ivar handshake: How many frames of a stream come before its first real event.
    :ivar tail: How many frames of a stream its semantic end and all after it are.
    :ivar refusals: The exception for each status in `REFUSED`, and for 502.
    :ivar midway: The exception for an error in mid-stream; None if iterating raises none.
    :ivar unreachable: The exceptions for an answer that never came.
    :ivar lacks: Cells that the library cannot have, each with its reason.
    """

    provider: str
    id: str
    bases: tuple[str, ...]
    finish: Mapping[str, str]
    untold: frozenset[str]
    asked: Mapping[str, Mapping[str, Any]]
    handshake: int
    tail: int
    refusals: Mapping[int, type[Exception]]
    midway: type[Exception] | None
    unreachable: tuple[type[Exception], ...]
    lacks: Mapping[str, str]

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

    def async_client(self, url: str, key: str) -> Any:
        """Return an asynchronous client."""

    def close(self, client: Any) -> None:
        """Close what `client` made."""

    def frames(self, answer: Answer) -> list[bytes]:
        """Return *answer* as a stream."""

    def body(self, answer: Answer) -> bytes:
        """Return *answer* whole."""

    def error(self, status: int, message: str) -> object:
        """Return an error answer's body."""

    def error_frame(self, status: int, message: str) -> bytes:
        """Return the record that tells of an error in a stream."""

    def whole(self, client: Any, asked: Mapping[str, Any]) -> Any:
        """Ask for a whole answer."""

    def stream(self, client: Any, asked: Mapping[str, Any]) -> Any:
        """Ask for a stream; return what iterates over its events."""

    def gathered(self, client: Any, asked: Mapping[str, Any]) -> Any:
        """Ask for a stream and return the whole answer the library makes of it."""

    def read(self, reply: Any) -> Seen:
        """Read a whole answer."""

    def fold(self, events: Sequence[Any]) -> Seen:
        """Read all events of a stream."""

    def text(self, events: Sequence[Any]) -> str:
        """Return the text in some events of a stream."""

    def ended(self, events: Sequence[Any]) -> bool:
        """Say whether *events* look like those of an answer that was completed."""

    def troubles(self, events: Sequence[Any]) -> str:
        """Return the message of the error event in *events*; only asked if none raises."""

    def status(self, error: Any) -> int:
        """Return the HTTP status that an exception tells of."""

    def follow_up(
        self, asked: Mapping[str, Any], reply: Any, results: Mapping[str, str]
    ) -> Mapping[str, Any]:
        """Return what to pass next, given the tools' results by the ids of their calls."""

    def parsed(self, client: Any) -> Iterator[Weather]:
        """Ask for `Weather` in every way the library has."""

    def model_list(self, ids: Sequence[str]) -> object:
        """Return an upstream's model list."""

    def models(self, client: Any) -> list[str]:
        """List models."""

    def model(self, client: Any, id: str) -> str:
        """Ask for one model; return its id."""

    def count(self, client: Any) -> int:
        """Count tokens; the upstream counts 12."""


def expected(sdk: Sdk, answer: Answer) -> Seen:
    """Return what *sdk* is to make of *answer*."""
    return Seen(
        id=sdk.id,
        model=MODEL,
        text="".join(answer.pieces),
        finish=sdk.finish[answer.finish],
        usage=attrs.evolve(answer.usage, **dict.fromkeys(sdk.untold)),
        thinking="".join(answer.thinking),
        calls=tuple(seen_call(call.id, call.name, call.arguments) for call in answer.tools),
    )
