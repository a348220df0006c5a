"""
The sandbox: what it says to whom, at what pace, and how it fails when asked to.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionAborted, ConnectionLost
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseDone
from zope.interface.verify import verifyObject

from aiclient2api.errors import Fault
from aiclient2api.interfaces import IUpstream, IUpstreamResponse
from aiclient2api.providers._sandbox_answer import MODELS, REFUSALS
from aiclient2api.providers._sandbox_script import PACE
from aiclient2api.providers._sandbox_wire import SandboxUpstream
from aiclient2api.providers.sandbox import sandbox
from aiclient2api.testing import one_account
from aiclient2api.values import Runtime, UpstreamRequest

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"enum": ["C", "F"]}},
            "required": ["city", "unit"],
        },
    },
}
TIME = {"type": "function", "function": {"name": "get_time"}}


class Receiver(Protocol):
    """Keeps what it is given, and how it ended."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.ends: list[Failure] = []
        self.transports: list[Any] = []

    def connectionMade(self) -> None:
        self.transports.append(self.transport)

    def dataReceived(self, data: bytes) -> None:
        self.pieces.append(data)

    def connectionLost(self, reason: Failure | None = None) -> None:
        assert reason is not None
        self.ends.append(reason)

    @property
    def body(self) -> bytes:
        """Return all bytes so far."""
        return b"".join(self.pieces)


class SandboxCase(SynchronousTestCase):
    """A sandbox on a clock of its own."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.upstream = SandboxUpstream(self.clock)

    def send(self, body: bytes) -> Deferred[IUpstreamResponse]:
        """Send one body."""
        url = "http://sandbox.invalid/"
        return self.upstream.send(UpstreamRequest(method="POST", url=url, headers=(), body=body))

    def ask(
        self, text: object = "hi", model: str = "sandbox-fast", **more: Any
    ) -> tuple[IUpstreamResponse, Receiver]:
        """Ask one thing and let it be answered as far as it will be."""
        messages = more.pop("messages", [{"role": "user", "content": text}])
        body = json.dumps({"model": model, "messages": messages, **more}).encode()
        asking = self.send(body)
        self.clock.advance(1)
        response = self.successResultOf(asking)
        receiver = Receiver()
        response.deliver(receiver)
        self.clock.pump([PACE] * 600)
        return response, receiver

    def whole(self, text: object = "hi", **more: Any) -> Any:
        """Return the one choice of a whole answer."""
        response, receiver = self.ask(text, **more)
        self.assertEqual(response.status, 200, receiver.body)
        (choice,) = json.loads(receiver.body)["choices"]
        return choice

    def events(self, text: object = "hi", **more: Any) -> list[Any]:
        """Return the records of a streamed answer, the ``[DONE]`` as a string."""
        _, receiver = self.ask(text, stream=True, **more)
        return records(receiver.body)

    def error(self, body: bytes) -> tuple[int, Any]:
        """Return the status and error object of a refusal."""
        response = self.successResultOf(self.send(body))
        receiver = Receiver()
        response.deliver(receiver)
        self.clock.advance(0)
        return response.status, json.loads(receiver.body)["error"]


def records(body: bytes) -> list[Any]:
    """Cut a stream into its records."""
    found = [block.removeprefix(b"data: ") for block in body.split(b"\n\n") if block]
    return ["[DONE]" if record == b"[DONE]" else json.loads(record) for record in found]


def deltas(events: Sequence[Any], key: str) -> str:
    """Join the deltas of one kind."""
    return "".join(
        choice["delta"].get(key) or ""
        for event in events
        if event != "[DONE]"
        for choice in event["choices"]
    )


def finish(events: Sequence[Any]) -> list[str]:
    """Return every finish reason told."""
    return [
        choice["finish_reason"]
        for event in events
        if event != "[DONE]" and "choices" in event
        for choice in event["choices"]
        if choice["finish_reason"]
    ]


class SayingTests(SandboxCase):
    """What it says."""

    def test_echo(self) -> None:
        """It says back what it was told, in any script, streamed or whole."""
        for text in ("hello there", "你好，世界", "a 👩‍👩‍👧 b\u2028c"):
            said = self.whole(text)["message"]["content"]
            self.assertIn(text, said)
            self.assertEqual(deltas(self.events(text), "content"), said)

    def test_parts(self) -> None:
        """Text in parts is heard as well; pictures are not."""
        parts = [{"type": "text", "text": "one"}, {"type": "image_url"}, {"text": "two"}]
        self.assertIn("one two", self.whole(parts)["message"]["content"])

    def test_long_text_is_cut(self) -> None:
        """Only the beginning of a long message is repeated."""
        said = self.whole("x" * 5000)["message"]["content"]
        self.assertLess(len(said), 300)

    def test_lone_surrogate(self) -> None:
        """Half a character, as cut by some clients, does no harm."""
        _, receiver = self.ask("cut \ud83d")
        self.assertIn("cut ?", receiver.body.decode("utf-8"))

    def test_same_again(self) -> None:
        """The same request is answered with the same bytes; another with other ids."""
        first, again = self.ask("a")[1].body, self.ask("a")[1].body
        self.assertEqual(first, again)
        self.assertNotEqual(json.loads(first)["id"], json.loads(self.ask("b")[1].body)["id"])

    def test_stream_form(self) -> None:
        """A stream begins with the role, ends with one finish and [DONE], under one id."""
        events = self.events()
        self.assertEqual(events[0]["choices"][0]["delta"], {"role": "assistant", "content": ""})
        self.assertEqual((finish(events), events[-1]), (["stop"], "[DONE]"))
        self.assertEqual(len({(e["id"], e["created"], e["model"]) for e in events[:-1]}), 1)

    def test_content_type(self) -> None:
        """Streams and whole answers say what they are."""
        kinds = [dict(self.ask(stream=stream)[0].headers)[b"content-type"] for stream in (1, True)]
        self.assertEqual(kinds, [b"application/json", b"text/event-stream; charset=utf-8"])

    def test_usage(self) -> None:
        """Words are counted; a stream tells only if asked, in a chunk of its own."""
        usage = json.loads(self.ask("one two")[1].body)["usage"]
        self.assertEqual(usage["prompt_tokens"], 2)
        self.assertEqual(usage["total_tokens"], 2 + usage["completion_tokens"])
        events = self.events("one two", stream_options={"include_usage": True})
        self.assertEqual((events[-2]["choices"], events[-2]["usage"]), ([], usage))
        self.assertEqual({event["usage"] is None for event in events[:-2]}, {True})
        self.assertNotIn("usage", self.events()[0])

    def test_limit(self) -> None:
        """A limit on the words ends the answer for its length."""
        for key in ("max_tokens", "max_completion_tokens"):
            choice = self.whole("hi", **{key: 3})
            self.assertEqual(choice["finish_reason"], "length")
            self.assertEqual(len(choice["message"]["content"].split()), 3)
            self.assertEqual(finish(self.events("hi", **{key: 3})), ["length"])
        self.assertEqual(self.whole("hi", max_tokens=500)["finish_reason"], "stop")

    def test_thinks(self) -> None:
        """It thinks before it speaks if the model or the request wants that."""
        for more in (
            {"model": "sandbox-think"},
            {"reasoning_effort": "low"},
            {"thinking": {"type": "enabled"}},
        ):
            events = self.events(**more)
            self.assertTrue(deltas(events, "reasoning_content"), more)
            keys = [next(iter(event["choices"][0]["delta"]), "") for event in events[1:-2]]
            self.assertEqual(keys, sorted(keys, reverse=True))
            self.assertIn("reasoning_content", self.whole(**more)["message"])

    def test_does_not_think(self) -> None:
        """It does not think if it need not."""
        for more in ({}, {"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}):
            self.assertNotIn("reasoning_content", self.whole(**more)["message"])

    def test_thinking_is_counted(self) -> None:
        """Thoughts count as words and towards the limit."""
        answer = json.loads(self.ask(model="sandbox-think", max_tokens=2)[1].body)
        self.assertEqual(answer["choices"][0]["finish_reason"], "length")
        self.assertEqual(answer["usage"]["completion_tokens"], 2)
        self.assertEqual(answer["usage"]["completion_tokens_details"]["reasoning_tokens"], 2)

    def test_long(self) -> None:
        """The long model says about two thousand words."""
        said = self.whole(model="sandbox-long")["message"]["content"]
        self.assertGreater(len(said.split()), 2000)
        self.assertEqual(deltas(self.events(model="sandbox-long"), "content"), said)


class ToolTests(SandboxCase):
    """When it calls tools."""

    def calls(self, text: str, **more: Any) -> list[tuple[str, Any]]:
        """Return the names and arguments called, the same whole and streamed."""
        more.setdefault("tools", [WEATHER, TIME])
        choice = self.whole(text, **more)
        calls = choice["message"].get("tool_calls", [])
        self.assertEqual(choice["finish_reason"], "tool_calls" if calls else "stop")
        self.assertEqual(choice["message"]["content"] is None, bool(calls))
        functions = [call["function"] for call in calls]
        self.assertEqual([call["function"] for call in self.streamed(text, more)], functions)
        return [(c["function"]["name"], json.loads(c["function"]["arguments"])) for c in calls]

    def streamed(self, text: str, more: Any) -> list[Any]:
        """Put the calls of a stream together as a client does."""
        calls: list[Any] = []
        for event in self.events(text, **more)[:-1]:
            for part in event["choices"][0]["delta"].get("tool_calls", ()):
                if "id" in part:
                    self.assertEqual(part.pop("index"), len(calls))
                    calls.append(part)
                else:
                    self.assertNotIn("name", part["function"])
                    more_arguments = part["function"]["arguments"]
                    calls[part["index"]]["function"]["arguments"] += more_arguments
        return calls

    def test_asked_for_a_tool(self) -> None:
        """The word is enough for the first tool offered."""
        expected = [("get_weather", {"city": "example", "unit": "C"})]
        for text in ("Use a tool!", "use your TOOLS", "请使用工具", "用tool吧"):
            self.assertEqual(self.calls(text), expected, text)

    def test_named(self) -> None:
        """A tool named in the text is the one called; two named are both called."""
        self.assertEqual(self.calls("please get_time now"), [("get_time", {})])
        both = self.calls("get_time and get_weather")
        self.assertEqual([name for name, _ in both], ["get_weather", "get_time"])
        one = self.calls("get_time and get_weather", parallel_tool_calls=False)
        self.assertEqual(len(one), 1)

    def test_not_asked(self) -> None:
        """Tools are left alone where nothing asks for one, or the choice is none."""
        for text, more in (
            ("hi", {}),
            ("toolbox, get_weathers", {}),
            ("use a tool", {"tool_choice": "none"}),
            ("use a tool", {"tools": []}),
            ("use a tool", {"tools": None}),
            ("use a tool", {"tools": [1, {}, {"function": {}}]}),
        ):
            self.assertEqual(self.calls(text, **more), [], (text, more))

    def test_forced(self) -> None:
        """A tool choice beats the text."""
        choice = {"type": "function", "function": {"name": "get_time"}}
        self.assertEqual(self.calls("hi", tool_choice=choice), [("get_time", {})])
        self.assertEqual(len(self.calls("hi", tool_choice="required")), 1)
        self.assertEqual(len(self.calls("hi", model="sandbox-tool")), 1)

    def test_impossible_choice(self) -> None:
        """A choice that cannot be met is the caller's mistake."""
        for more in (
            {"tool_choice": {"type": "function", "function": {"name": "no"}}, "tools": [TIME]},
            {"tool_choice": "required"},
        ):
            response, receiver = self.ask(**more)
            self.assertEqual(response.status, 400)
            self.assertEqual(json.loads(receiver.body)["error"]["param"], "tool_choice")

    def test_arguments(self) -> None:
        """Arguments are made up from the schema: what is required, and nothing else."""
        properties = {
            "s": {"type": "string"},
            "n": {"type": "number"},
            "i": {"type": ["null", "integer"]},
            "b": {"type": "boolean"},
            "a": {"type": "array", "items": {"type": "string"}},
            "o": {"type": "object"},
            "e": {"type": "string", "enum": ["x", "y"]},
            "c": {"const": 7},
            "u": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
            "d": {"type": "object", "properties": {"p": {}}, "required": ["p"]},
            "left_out": {"type": "string"},
        }
        required = ["s", "n", "i", "b", "a", "o", "e", "c", "u", "d", "unknown"]
        schema = {"type": "object", "properties": properties, "required": required}
        tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
        ((_, arguments),) = self.calls("use a tool", tools=[tool])
        self.assertEqual(
            arguments,
            {
                "s": "example",
                "n": 1,
                "i": 1,
                "b": True,
                "a": [],
                "o": {},
                "e": "x",
                "c": 7,
                "u": True,
                "d": {"p": "example"},
                "unknown": "example",
            },
        )

    def test_result(self) -> None:
        """After a tool's result it answers with that, and calls no more."""
        messages = [
            {"role": "user", "content": "use a tool"},
            {"role": "assistant", "content": None, "tool_calls": []},
            {"role": "tool", "tool_call_id": "c", "content": "21 degrees"},
        ]
        choice = self.whole(messages=messages, tools=[WEATHER], tool_choice="required")
        self.assertIn("21 degrees", choice["message"]["content"])
        self.assertEqual(choice["finish_reason"], "stop")


class RefusingTests(SandboxCase):
    """What it refuses, as a real service would."""

    def test_bad_requests(self) -> None:
        """A body that is no request is a 400 in OpenAI's form, naming the field."""
        for body, param in (
            (b"", None),
            (b"{", None),
            (b"[]", None),
            (b"[" * 100_000, None),
            (b"\xff", None),
            (b'{"messages":[]}', "model"),
            (b'{"model":1,"messages":[]}', "model"),
            (b'{"model":"sandbox"}', "messages"),
            (b'{"model":"sandbox","messages":[]}', "messages"),
            (b'{"model":"sandbox","messages":[{}]}', "messages[0]"),
            (b'{"model":"sandbox","messages":[{"role":"user"}],"max_tokens":0}', "max_tokens"),
            (b'{"model":"sandbox","messages":[{"role":"user"}],"tools":{}}', "tools"),
        ):
            status, error = self.error(body)
            self.assertEqual((status, error["type"]), (400, "invalid_request_error"), body)
            self.assertEqual(error["param"], param)
            self.assertTrue(error["message"])

    def test_unknown_model(self) -> None:
        """An unknown model is a 404 that lists those there are."""
        status, error = self.error(b'{"model":"gpt-\\ud83d","messages":[{"role":"user"}]}')
        self.assertEqual((status, error["code"]), (404, "model_not_found"))
        self.assertIn("sandbox-think", error["message"])

    def test_refusing_models(self) -> None:
        """Each failing model fails with its status, and its fault is known for what it is."""
        provider = sandbox.provider(
            name="sandbox", runtime=Runtime(clock=self.clock, upstream=None)
        )
        for model, fault, wait in (
            ("sandbox-400", Fault.CALLER, None),
            ("sandbox-401", Fault.CREDENTIAL, None),
            ("sandbox-403", Fault.PERMISSION, None),
            ("sandbox-404", Fault.NOT_FOUND, None),
            ("sandbox-429", Fault.RATE_LIMIT, 1.0),
            ("sandbox-429-long", Fault.RATE_LIMIT, 3600.0),
            ("sandbox-500", Fault.SERVER, None),
            ("sandbox-503", Fault.CAPACITY, None),
            ("sandbox-529", Fault.CAPACITY, None),
        ):
            for stream in (False, True):
                response, receiver = self.ask(model=model, stream=stream)
                self.assertEqual(str(response.status), model.split("-")[1])
                error = provider.classify(
                    status=response.status, headers=response.headers, body=receiver.body
                )
                self.assertEqual((error.fault, error.retry_after), (fault, wait), model)
        self.assertEqual(len(REFUSALS), 9)

    def test_flaky(self) -> None:
        """The flaky model fails on every odd attempt of the same body."""
        statuses = [self.ask(model="sandbox-flaky")[0].status for _ in range(4)]
        self.assertEqual(statuses, [500, 200, 500, 200])
        self.ask("a", model="sandbox-flaky")
        self.assertEqual(self.ask("b", model="sandbox-flaky")[0].status, 500)


class BreakingTests(SandboxCase):
    """How its streams break."""

    def broken(self, model: str, **more: Any) -> tuple[list[Any], Receiver]:
        """Return the records of a stream that breaks, and who received them."""
        _, receiver = self.ask("hello", model=model, stream=True, **more)
        return records(receiver.body), receiver

    def test_cut(self) -> None:
        """A cut stream ends cleanly in HTTP, with no finish and no [DONE]."""
        events, receiver = self.broken("sandbox-cut")
        self.assertTrue(deltas(events, "content"))
        self.assertEqual((finish(events), events.count("[DONE]")), ([], 0))
        self.assertTrue(receiver.ends[0].check(ResponseDone))

    def test_reset(self) -> None:
        """A reset stream loses its connection after some text."""
        events, receiver = self.broken("sandbox-reset")
        self.assertTrue(deltas(events, "content"))
        self.assertEqual(finish(events), [])
        self.assertTrue(receiver.ends[0].check(ConnectionLost))

    def test_never_finished(self) -> None:
        """Even the shortest answer of those two has no finish."""
        for model in ("sandbox-cut", "sandbox-reset", "sandbox-error"):
            for more in ({"max_tokens": 1}, {"tools": [TIME], "tool_choice": "required"}):
                events, _ = self.broken(model, **more)
                self.assertEqual(finish(events), [], (model, more))
                self.assertGreater(len(events), 1)

    def test_stall(self) -> None:
        """A stalled stream gives one word and then nothing, not even an end."""
        events, receiver = self.broken("sandbox-stall")
        self.assertEqual(len(events), 2)
        self.assertEqual(receiver.ends, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_error(self) -> None:
        """An error record comes in mid-stream, and nothing after it."""
        events, _ = self.broken("sandbox-error")
        self.assertTrue(deltas(events[:-1], "content"))
        self.assertIn("message", events[-1]["error"])

    def test_first_error(self) -> None:
        """The first event of a 200 is an error."""
        for stream in (True, False):
            response, receiver = self.ask(model="sandbox-first-error", stream=stream)
            self.assertEqual(response.status, 200)
            document = records(receiver.body)[0] if stream else json.loads(receiver.body)
            self.assertIn("message", document["error"])

    def test_empty(self) -> None:
        """A 200 with nothing in it."""
        for stream in (True, False):
            response, receiver = self.ask(model="sandbox-empty", stream=stream)
            self.assertEqual((response.status, receiver.body), (200, b""))
            self.assertTrue(receiver.ends[0].check(ResponseDone))

    def test_whole_answers_break_too(self) -> None:
        """A whole answer of the breaking models is no JSON, with the same end."""
        for model, ends in (
            ("sandbox-cut", [ResponseDone]),
            ("sandbox-reset", [ConnectionLost]),
            ("sandbox-stall", []),
        ):
            _, receiver = self.ask(model=model)
            self.assertTrue(receiver.body)
            with self.assertRaises(ValueError):
                json.loads(receiver.body)
            self.assertEqual([end.type for end in receiver.ends], ends)

    def test_hang(self) -> None:
        """The hanging model never sends its headers; giving up is possible."""
        asking = self.send(b'{"model":"sandbox-hang","stream":true,"messages":[{"role":"user"}]}')
        self.clock.advance(9999)
        self.assertNoResult(asking)
        asking.cancel()
        self.failureResultOf(asking, CancelledError)


class PacingTests(SandboxCase):
    """Time, pausing and aborting, as with a real connection."""

    def streaming(self, model: str = "sandbox") -> tuple[IUpstreamResponse, Receiver]:
        """Begin a stream; nothing of it has arrived yet."""
        body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "hi"}]}
        response = self.successResultOf(self.send(json.dumps(body).encode()))
        receiver = Receiver()
        response.deliver(receiver)
        self.assertEqual(receiver.pieces, [])
        return response, receiver

    def test_interfaces(self) -> None:
        """It is a way out, and its transport is a push producer."""
        verifyObject(IUpstream, self.upstream)
        response, receiver = self.streaming()
        verifyObject(IUpstreamResponse, response)
        verifyObject(IPushProducer, receiver.transport)
        self.assertEqual(len(receiver.transports), 1)

    def test_pace(self) -> None:
        """One record comes every 20 ms, or every second from the slow model."""
        for model, pace in (("sandbox", PACE), ("sandbox-slow", 1.0)):
            _, receiver = self.streaming(model)
            for count in range(1, 4):
                self.clock.advance(pace * 0.9)
                self.assertEqual(len(receiver.pieces), count - 1)
                self.clock.advance(pace * 0.1)
                self.assertEqual(len(receiver.pieces), count)

    def test_fast(self) -> None:
        """The fast model says all in one turn."""
        _, receiver = self.streaming("sandbox-fast")
        self.clock.advance(0)
        self.assertTrue(receiver.body.endswith(b"[DONE]\n\n"))
        self.assertEqual(len(receiver.ends), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_whole_takes_its_time_first(self) -> None:
        """A whole answer waits before its headers, then comes at once."""
        body = b'{"model":"sandbox-slow","messages":[{"role":"user","content":"hi"}]}'
        asking = self.send(body)
        self.clock.advance(0.99)
        self.assertNoResult(asking)
        self.clock.advance(0.01)
        receiver = Receiver()
        self.successResultOf(asking).deliver(receiver)
        self.clock.advance(0)
        self.assertEqual((len(receiver.pieces), len(receiver.ends)), (1, 1))

    def test_cancel_before_the_headers(self) -> None:
        """Giving up on a whole answer leaves no timer behind."""
        asking = self.send(b'{"model":"sandbox-slow","messages":[{"role":"user"}]}')
        asking.cancel()
        self.failureResultOf(asking, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_pause(self) -> None:
        """While paused nothing comes, not even the end; then it goes on where it was."""
        for model in ("sandbox", "sandbox-fast"):
            _, receiver = self.streaming(model)
            producer = receiver.transports[0]
            producer.pauseProducing()
            self.clock.pump([PACE] * 100)
            self.assertEqual((receiver.pieces, receiver.ends), ([], []))
            producer.resumeProducing()
            producer.resumeProducing()
            self.assertEqual(len(self.clock.getDelayedCalls()), 1)
            self.clock.pump([PACE] * 100)
            self.assertEqual(finish(records(receiver.body)), ["stop"])
            self.assertEqual(len(receiver.ends), 1)

    def test_pause_in_a_burst(self) -> None:
        """A receiver that pauses on every record gets one at a time from the fast model."""
        _, receiver = self.streaming("sandbox-fast")
        producer = receiver.transports[0]
        take = receiver.pieces.append

        def take_and_pause(data: bytes) -> None:
            take(data)
            producer.pauseProducing()

        receiver.dataReceived = take_and_pause  # type: ignore[method-assign]
        for count in range(1, 4):
            self.clock.advance(1)
            self.assertEqual(len(receiver.pieces), count)
            producer.resumeProducing()
        for _ in range(100):
            self.clock.advance(1)
            producer.resumeProducing()
        self.assertTrue(receiver.body.endswith(b"[DONE]\n\n"))
        self.assertEqual(len(receiver.ends), 1)

    def test_stop(self) -> None:
        """Closing the connection ends the bytes at once and is told once."""
        for close in ("abort", "stopProducing"):
            response, receiver = self.streaming()
            self.clock.advance(PACE)
            getattr(response, close)()
            response.abort()
            self.assertEqual(receiver.ends, [])
            self.clock.pump([PACE] * 100)
            self.assertEqual(len(receiver.pieces), 1)
            self.assertEqual([end.type for end in receiver.ends], [ConnectionAborted])
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_abort_before_delivery(self) -> None:
        """An answer aborted unread leaves nothing behind; read after that, it is broken."""
        body = b'{"model":"sandbox","stream":true,"messages":[{"role":"user"}]}'
        response = self.successResultOf(self.send(body))
        response.abort()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        receiver = Receiver()
        response.deliver(receiver)
        self.clock.advance(1)
        self.assertEqual((receiver.pieces, len(receiver.ends)), ([], 1))

    def test_abort_at_once(self) -> None:
        """A receiver that closes the connection as soon as it has it hears of one end."""
        body = b'{"model":"sandbox","stream":true,"messages":[{"role":"user"}]}'
        response = self.successResultOf(self.send(body))
        receiver = Receiver()
        receiver.connectionMade = response.abort  # type: ignore[method-assign]
        response.deliver(receiver)
        self.clock.pump([PACE] * 10)
        self.assertEqual((receiver.pieces, len(receiver.ends)), ([], 1))

    def test_abort_after_the_end(self) -> None:
        """Closing what has ended changes nothing."""
        response, receiver = self.streaming("sandbox-fast")
        self.clock.advance(0)
        response.abort()
        self.clock.advance(0)
        self.assertEqual([end.type for end in receiver.ends], [ResponseDone])


class SandboxProviderTests(SandboxCase):
    """The provider in front of it."""

    def test_models(self) -> None:
        """All models are listed without asking anyone, those that fail last."""
        provider = sandbox.provider(
            name="sandbox", runtime=Runtime(clock=self.clock, upstream=None)
        )
        account = one_account("sandbox", sandbox.settings())
        found = [m.id for m in self.successResultOf(provider.models(account=account))]
        self.assertEqual(found, list(provider.known_models))
        self.assertEqual(found, list(MODELS))
        self.assertEqual(found[0], "sandbox")
        broken = [found.index(model) for model in REFUSALS]
        self.assertGreater(min(broken), found.index("sandbox-long"))
