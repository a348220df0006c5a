"""Exchanges whose stream breaks off: who goes on, and what the client is told if nobody does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost

from aiclient2api.conversation.vault import SealVault
from aiclient2api.conversions import Conversions
from aiclient2api.dialects.convert import Converted
from aiclient2api.dialects.openai_chat import OPENAI_CHAT
from aiclient2api.dialects.rescuing import Rescue
from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.exchange import Exchange, Patience, Way
from aiclient2api.providers.claude_custom import claude_custom as CLAUDE
from aiclient2api.providers.openai_custom import openai_custom as OPENAI
from aiclient2api.testing import (
    Call,
    MemoryReply,
    MemoryResponse,
    chat_chunks,
    messages_events,
    one_account,
)
from aiclient2api.values import ExchangeRecord, Headers, Route, Runtime, Usage
from tests.test_failover import JSON, SSE, FailoverCase, refusal

PIECES = ("Once ", "upon ", "a time", " there", " was.")
TALE = "".join(PIECES)
USAGE = Usage(input=3, output=5, cached=0, reasoning=0)
OLDER = "claude-3-5-haiku-20241022"


def whole(pieces: Sequence[str] = PIECES, **more: Any) -> MemoryResponse:
    """Return a stream that ends well."""
    return MemoryResponse(200, SSE, [b"".join(chat_chunks(pieces, usage=USAGE, **more))])


def cut(
    count: int = 2,
    end: Exception | None = ConnectionLost(),  # noqa: B008
    *,
    last: bytes = b"",
    frames: Sequence[bytes] | None = None,
) -> MemoryResponse:
    """Return a stream that breaks off behind so many pieces; with *end* None it falls silent."""
    frames = chat_chunks(PIECES) if frames is None else frames
    return MemoryResponse(200, SSE, [*frames[: count + 1], last], end=end)


def error_record(code: str, message: str = "No.") -> bytes:
    """Return an error in a stream."""
    told = {"error": {"message": message, "type": code, "code": code}}
    return b"data: " + json.dumps(told).encode() + b"\n\n"


class ResumeCase(FailoverCase):
    """A client of Chat Completions whose route is to be resumed."""

    def resumed(
        self,
        *ways: Way,
        patience: Patience = Patience(max_retries=0, wait=0.0),  # noqa: B008
        **fields: Any,
    ) -> Deferred[None]:
        """Start an exchange over *ways*; *fields* are those of the request."""
        asked = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
        body = json.dumps({**asked, **fields}).encode()
        request = OPENAI_CHAT.parse(body=body, route=Route(action="generate"))
        self.rescue = Rescue()
        conversions = Conversions(
            vault=SealVault(self.clock.seconds), make_id=lambda: "0" * 32, now=lambda: 1.0
        )

        async def convert(way: Way) -> Converted:
            return await conversions.converted(
                request.amended(model=way.model),
                source=OPENAI_CHAT,
                provider=way.provider,
                model="m",
                caller="c",
                rescue=self.rescue,
            )

        def head(record: ExchangeRecord, converted: Converted) -> Headers:
            return ((b"x-who", f"{record.provider} {record.account}".encode()),)

        self.record = ExchangeRecord(
            id="x1",
            caller="c",
            request=request,
            provider=ways[0].provider.name,
            model="m",
            began=self.clock.seconds(),
        )
        exchange = Exchange(
            record=self.record,
            ways=ways,
            convert=convert,
            reply=self.reply,
            patience=patience,
            clock=self.clock,
            jitter=lambda: 0.0,
            observers=self.observer,
            budget=self.budget,
            head=head,
            rescue=self.rescue,
        )
        self.running = exchange
        return Deferred.fromCoroutine(exchange.run())

    def claude(self, name: str, answers: Sequence[Any], **options: Any) -> Way:
        """Return a provider that speaks Messages, with a model that takes a prefill."""
        way = self.way(name, answers, model=OLDER, **options)
        runtime = Runtime(clock=self.clock, upstream=self.upstreams[name])
        provider = CLAUDE.provider(name=name, runtime=runtime)
        listed = [
            one_account(
                name,
                CLAUDE.settings(claude_api_key=f"sk-{n}", claude_base_url="http://127.0.0.1:1"),
                id=f"{name}-{n}",
            )
            for n in range(options.get("accounts", 1))
        ]
        self.pools[name].adopt(listed, self.pools[name]._rules)
        return Way(provider, way.pool, OLDER, way.why)

    def text(self) -> str:
        """Return what the client has read; fail if it is no stream of this dialect."""
        found = []
        for record in self.reply.body.split(b"\n\n"):
            if not record.startswith(b"data: {"):
                continue
            for choice in json.loads(record[6:]).get("choices", ()):
                found.append(choice["delta"].get("content") or "")
        return "".join(found)

    def assert_resumed(self, done: Deferred[None], by: str, text: str = TALE) -> None:
        """The client got all of it, once, and one end."""
        self.successResultOf(done)
        self.assertEqual(self.text(), text)
        self.assertEqual(self.reply.body.count(b"[DONE]"), 1)
        self.assertEqual(self.reply.body.count(b'"role":"assistant"'), 1)
        self.assertEqual(self.reply.body.count(b'"finish_reason":"stop"'), 1)
        self.assertEqual(self.reply.ended, "finished")
        self.assertIn(f", account {by}\n\n".encode(), self.reply.body)
        self.assertEqual(self.observer.outcomes["x1"].how, "complete")
        self.assertEqual(self.record.account, by)
        self.assertEqual(self.observer.told.count("first_byte"), 1)
        self.assert_over()

    def assert_told(self, done: Deferred[None], said: bytes, text: str = "Once upon ") -> None:
        """The client got what was sent before the cut, and an error for an end."""
        self.successResultOf(done)
        self.assertEqual(self.text(), text)
        self.assertNotIn(b"[DONE]", self.reply.body)
        self.assertNotIn(b'"finish_reason":"', self.reply.body)
        self.assertEqual(self.reply.body.count(b'data: {"error"'), 1)
        self.assertIn(said, self.reply.body.split(b"\n\n")[-2])
        self.assertEqual(self.reply.ended, "finished")
        self.assertEqual(self.observer.outcomes["x1"].how, "truncated")
        self.assert_over()

    def whats(self) -> list[str]:
        """Return what was noted, but for who was chosen."""
        skipped = ("target", "chosen", "skipped", "refused")
        return [step.what for step in self.record.steps if step.what not in skipped]


class RepeatedTests(ResumeCase):
    """Another account that tells the same again."""

    def test_a_connection_that_breaks(self) -> None:
        """The next account goes on; head, ids and headers are the first one's."""
        done = self.resumed(self.way("one", [cut(), whole()], accounts=2))
        self.assert_resumed(done, "one-1")
        self.assertEqual(self.asked("one"), ["one-0", "one-1"])
        self.assertEqual(self.reply.header(b"x-who"), b"one one-0")
        told = (
            b": aiclient2api: resumed after 10 characters (repeated and verified) by provider one"
        )
        self.assertIn(told, self.reply.body)
        self.assertLess(self.reply.body.index(told), self.reply.body.index(b'finish_reason":"s'))
        self.assertEqual(self.whats(), ["attempt", "cut", "resumed", "attempt", "ended"])
        self.assertEqual(len(self.reply.producers), 2)
        failures = [each.tally.failures for each in self.pools["one"].report()]
        self.assertEqual(failures, [1, 0])

    def test_the_same_request_goes_out_again(self) -> None:
        """Byte for byte."""
        self.assert_resumed(self.resumed(self.way("one", [cut(), whole()], accounts=2)), "one-1")
        first, second = (sent.request.body for sent in self.upstreams["one"].sent)
        self.assertEqual(first, second)

    def test_nothing_is_sent_while_it_catches_up(self) -> None:
        """Then all that is news at once, and the rest as it comes."""
        done = self.resumed(
            self.way("one", [cut(), MemoryResponse(200, SSE, [], None)], accounts=2)
        )
        response = self.upstreams["one"].sent[1].answer
        assert isinstance(response, MemoryResponse)
        sent = self.reply.body
        frames = chat_chunks(PIECES, usage=USAGE)
        for frame in frames[:2]:
            response.push(frame)
            self.assertIsNone(self.reply.producer)
        response.push(frames[2])
        self.assertEqual(self.reply.body, sent)
        # It goes on: the trouble is over.
        self.assertEqual(self.budget.trying, 0)
        response.push(frames[3])
        self.assertGreater(len(self.reply.body), len(sent))
        self.reply.slow()
        self.assertTrue(response.paused)
        self.reply.drain()
        response.push(b"".join(frames[4:]))
        response.finish()
        self.assert_resumed(done, "one-1")

    def test_a_stream_that_falls_silent(self) -> None:
        """The idle clock cuts it, and the next account goes on."""
        patience = Patience(max_retries=0, wait=0.0, idle=7.0)
        way = self.way("one", [cut(end=None), whole()], accounts=2)
        done = self.resumed(way, patience=patience)
        self.clock.pump([7.0])
        self.assert_resumed(done, "one-1")
        self.assertTrue(self.upstreams["one"].sent[0].answer.aborted)  # type: ignore[union-attr]

    def test_an_error_in_the_stream(self) -> None:
        """One that another account may not have."""
        for code in ("rate_limit_exceeded", "server_error", "overloaded_error"):
            self.setUp()
            first = cut(last=error_record(code))
            done = self.resumed(self.way("one", [first, whole()], accounts=2))
            self.assert_resumed(done, "one-1")

    def test_another_provider(self) -> None:
        """A fallback in another dialect repeats it as well."""
        said = b"".join(messages_events(PIECES, usage=USAGE))
        one = self.way("one", [cut()])
        two = self.claude("two", [refusal(400), MemoryResponse(200, SSE, [said])])
        done = self.resumed(one, two)
        self.assert_resumed(done, "two-0")
        self.assertEqual(self.record.provider, "two")

    def test_an_account_that_tells_something_else(self) -> None:
        """It is stopped at the first letter that differs, blamed for nothing; another may try."""
        other = MemoryResponse(200, SSE, [b"".join(chat_chunks(["Once upon", "!"])[:3])], None)
        done = self.resumed(self.way("one", [cut(), other, whole()], accounts=3))
        self.assert_resumed(done, "one-2")
        self.assertTrue(other.aborted)
        failures = [each.tally.failures for each in self.pools["one"].report()]
        self.assertEqual(failures, [1, 0, 0])

    def test_a_second_cut(self) -> None:
        """Is gone on with as well."""
        done = self.resumed(self.way("one", [cut(1), cut(3), whole()], accounts=3))
        self.assert_resumed(done, "one-2")
        self.assertEqual(self.reply.body.count(b": aiclient2api: resumed"), 2)
        self.assertEqual(self.whats().count("cut"), 2)

    def test_one_account(self) -> None:
        """Is asked again itself, after the usual wait, if there is no other."""
        patience = Patience(max_retries=1, base_delay=2.0, wait=0.0)
        done = self.resumed(self.way("one", [cut(), whole()]), patience=patience)
        self.assertNoResult(done)
        self.clock.pump([2.0])
        self.assert_resumed(done, "one-0")

    def test_all_tokens_are_booked(self) -> None:
        """As far as each run has told them; one that was stopped early has told of none."""
        frames = chat_chunks(PIECES[:2])
        usage = (
            b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\n'
        )
        first = MemoryResponse(200, SSE, [*frames[:3], usage], end=ConnectionLost())
        done = self.resumed(self.way("one", [first, whole(["No."]), whole()], accounts=3))
        self.assert_resumed(done, "one-2")
        booked = self.observer.outcomes["x1"].usage
        assert booked is not None
        self.assertEqual((booked.input, booked.output), (6, 7))
        told = [each.tally.output for each in self.pools["one"].report()]
        self.assertEqual(told, [2, 0, 5])

    def test_a_long_repetition(self) -> None:
        """The clocks are those of a stream under way, not of a first event."""
        patience = Patience(max_retries=0, wait=0.0, first_event=5.0, idle=5.0)
        way = self.way("one", [cut(), MemoryResponse(200, SSE, [], None)], accounts=2)
        done = self.resumed(way, patience=patience)
        response = self.upstreams["one"].sent[1].answer
        assert isinstance(response, MemoryResponse)
        for frame in chat_chunks(PIECES):
            self.clock.advance(4.0)
            response.push(frame)
        response.finish()
        self.assert_resumed(done, "one-1")

    def test_before_anything_was_sent(self) -> None:
        """It is a failover like any other."""
        done = self.resumed(self.way("one", [cut(0), refusal(503), whole()], accounts=3))
        self.successResultOf(done)
        self.assertEqual(self.text(), TALE)
        self.assertNotIn(b"aiclient2api", self.reply.body)
        self.assertEqual(self.reply.header(b"x-who"), b"one one-2")
        self.assert_over()


class ContinuedTests(ResumeCase):
    """A model that goes on with the text so far."""

    def said(self, *pieces: str, **more: Any) -> MemoryResponse:
        """Return a stream of Messages."""
        data = b"".join(messages_events(pieces, usage=USAGE, **more))
        return MemoryResponse(200, SSE, [data])

    def begun(self, count: int = 2, kind: int = 0) -> MemoryResponse:
        """Return a stream of Messages that breaks off behind so many pieces."""
        frames = messages_events(PIECES)
        return MemoryResponse(200, SSE, list(frames[: 3 + count]), end=ConnectionLost())

    def bodies(self, name: str) -> list[Any]:
        """Return what the upstream was asked."""
        return [json.loads(sent.request.body or b"") for sent in self.upstreams[name].sent]

    def test_the_text_so_far_is_given(self) -> None:
        """Without the blanks at its end; the model brings them back."""
        way = self.claude("one", [self.begun(), self.said(" a time there was.")], accounts=2)
        self.assert_resumed(self.resumed(way), "one-1")
        first, second = self.bodies("one")
        self.assertEqual(first["messages"], second["messages"][:-1])
        content = [{"type": "text", "text": "Once upon"}]
        self.assertEqual(second["messages"][-1], {"role": "assistant", "content": content})
        told = b"resumed after 10 characters (continued) by provider one, model claude-3-5"
        self.assertIn(told, self.reply.body)

    def test_a_model_that_refuses(self) -> None:
        """Is asked by the same account to repeat instead; the client hears nothing of it."""
        no = MemoryResponse(400, JSON, [b'{"type":"error","error":{"message":"no prefill"}}'])
        way = self.claude("one", [self.begun(), no, self.said(*PIECES)], accounts=2)
        self.assert_resumed(self.resumed(way), "one-1")
        self.assertEqual(self.asked("one"), ["one-0", "one-1", "one-1"])
        first, _, third = self.bodies("one")
        self.assertEqual(first, third)

    def test_a_model_that_refuses_and_tells_something_else(self) -> None:
        """The client is told of the cut, not of the refusal."""
        no = MemoryResponse(400, JSON, [b'{"type":"error","error":{"message":"no prefill"}}'])
        way = self.claude("one", [self.begun(), no, self.said("Never.")], accounts=2)
        self.assert_told(self.resumed(way), b"broke before its answer was complete")

    def test_other_blanks(self) -> None:
        """A model that does not bring them back has to repeat."""
        answers = [self.begun(), self.said("a time there was."), self.said(*PIECES)]
        self.assert_resumed(self.resumed(self.claude("one", answers, accounts=2)), "one-1")

    def test_only_a_text(self) -> None:
        """A thought that is not finished is repeated."""
        frames = messages_events(PIECES, thinking=["Hm, ", "well."])
        first = MemoryResponse(200, SSE, list(frames[:4]), end=ConnectionLost())
        second = MemoryResponse(200, SSE, [b"".join(frames)])
        way = self.claude("one", [first, second], accounts=2)
        self.assert_resumed(self.resumed(way), "one-1")
        self.assertEqual(*self.bodies("one"))

    def test_requests_that_forbid_it(self) -> None:
        """Thoughts, a form, a certain tool, a beginning of the client's own, anything lost."""
        tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
        own = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Well:"}]
        schema = {"name": "s", "schema": {"type": "object"}}
        for fields in (
            {"reasoning_effort": "low"},
            {"response_format": {"type": "json_schema", "json_schema": schema}},
            {"tools": [tool], "tool_choice": "required"},
            {"messages": own},
        ):
            self.setUp()
            way = self.claude("one", [self.begun(), self.said(*PIECES)], accounts=2)
            self.assert_resumed(self.resumed(way, **fields), "one-1")
            first, second = self.bodies("one")
            self.assertEqual(first, second, fields)

    def test_one_account(self) -> None:
        """It goes on itself, if there is no other."""
        answers = [self.begun(), self.said(" a time there was.")]
        patience = Patience(max_retries=1, base_delay=2.0, wait=0.0)
        done = self.resumed(self.claude("one", answers), patience=patience)
        self.clock.pump([2.0])
        self.assert_resumed(done, "one-0")
        self.assertEqual(self.bodies("one")[1]["messages"][-1]["role"], "assistant")

    def test_moonshot(self) -> None:
        """Its own API is told that the last message is partial."""
        way = self.way("one", [cut(), whole([" a time", " there was."])], accounts=2)
        runtime = Runtime(clock=self.clock, upstream=self.upstreams["one"])
        provider = OPENAI.provider(name="openai-custom-kimi", runtime=runtime)
        kimi = Way(provider, way.pool, "moonshot-v1-8k", "default")
        self.assert_resumed(self.resumed(kimi), "one-1")
        last = self.bodies("one")[1]["messages"][-1]
        self.assertEqual(last, {"role": "assistant", "content": "Once upon", "partial": True})


class NotResumedTests(ResumeCase):
    """What nobody goes on with, and what the client is told then."""

    def test_nobody_is_left(self) -> None:
        """The client is told of the cut, whatever the others said."""
        for other in (
            refusal(400),
            refusal(401),
            refusal(429, wait="60"),
            refusal(500),
            UpstreamError("nobody listens", fault=Fault.UNREACHABLE, status=502),
            whole(["Something else."]),
            MemoryResponse(200, SSE, [error_record("content_filter")]),
        ):
            self.setUp()
            done = self.resumed(self.way("one", [cut(), other], accounts=2))
            self.assert_told(done, b"broke before its answer was complete")
            self.assertIn(b": aiclient2api: not resumed after 10 characters", self.reply.body)
            self.assertEqual(self.record.account, "one-0")
            self.assertIn("not resumed", self.whats())

    def test_a_fault_of_the_request(self) -> None:
        """Nobody else is asked: anybody would say the same."""
        for code in ("content_filter", "invalid_request_error", "context_length_exceeded"):
            self.setUp()
            first = cut(last=error_record(code, "Not that."))
            done = self.resumed(self.way("one", [first, whole()], accounts=2))
            self.assert_told(done, b"Not that.")
            self.assertEqual(self.asked("one"), ["one-0"])

    def test_a_tool_call(self) -> None:
        """Nobody else is asked, whether it was whole or not."""
        frames = chat_chunks(["I look."], "tool_calls", tools=[Call("c", "f", '{"a":1}')])
        for count in (2, 3):
            self.setUp()
            first = cut(count, frames=frames)
            done = self.resumed(self.way("one", [first, whole()], accounts=2))
            self.assert_told(done, b"broke before", "I look.")
            self.assertEqual(self.asked("one"), ["one-0"])

    def test_a_tool_call_of_the_only_account(self) -> None:
        """Nor is the same account asked again."""
        frames = chat_chunks(["I look."], "tool_calls", tools=[Call("c", "f", '{"a":1}')])
        patience = Patience(max_retries=3, wait=0.0)
        done = self.resumed(self.way("one", [cut(2, frames=frames), whole()]), patience=patience)
        self.assert_told(done, b"broke before", "I look.")
        self.assertEqual(self.asked("one"), ["one-0"])

    def test_an_end_that_was_told(self) -> None:
        """What is whole is not asked for again, though the connection broke."""
        done = self.resumed(self.way("one", [cut(99), whole()], accounts=2))
        self.successResultOf(done)
        self.assertEqual(self.asked("one"), ["one-0"])
        self.assertNotIn(b"[DONE]", self.reply.body)
        self.assertIn(b'data: {"error"', self.reply.body)

    def test_no_further_try(self) -> None:
        """Switches, the budget and the exchange's time hold as ever."""
        patience = Patience(max_retries=0, wait=0.0, max_switches=0)
        done = self.resumed(self.way("one", [cut(), whole()], accounts=2), patience=patience)
        self.assert_told(done, b"broke before")
        self.setUp()
        self.budget.share, self.budget.floor = 0.0, 0
        done = self.resumed(self.way("one", [cut(), whole()], accounts=2))
        self.assert_told(done, b"broke before")
        self.setUp()
        patience = Patience(max_retries=0, wait=0.0, total=5.0)
        way = self.way("one", [cut(end=None), whole()], accounts=2)
        done = self.resumed(way, patience=patience)
        self.clock.pump([5.0])
        self.assert_told(done, b"timeouts.total")

    def test_no_secret_is_told(self) -> None:
        """The account's key is cut out of what the upstream said."""
        done = self.resumed(self.way("one", [cut(last=error_record("server_error", "at sk-0."))]))
        self.assert_told(done, b"at ")
        self.assertNotIn(b"sk-0.", self.reply.body)

    def test_a_bug_of_ours(self) -> None:
        """Is told as such, and nobody else is asked."""

        class Broken(MemoryReply):
            def write(self, data: bytes) -> None:
                if b"upon" in data and b"error" not in data:
                    raise RuntimeError("no")
                super().write(data)

        self.reply = Broken()
        done = self.resumed(self.way("one", [cut(), whole()], accounts=2))
        self.successResultOf(done)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual(self.asked("one"), ["one-0"])
        self.assertIn(b"Please report it", self.reply.body)


class StoppingTests(ResumeCase):
    """The gateway has to stop while somebody goes on."""

    def test_in_every_phase(self) -> None:
        """The client is told of that; nobody else is asked, and no account is blamed for it."""
        stop = UpstreamError("It stops.", fault=Fault.SERVER, status=503, code="stopping")
        frames = chat_chunks(PIECES)
        for name, second in {
            "before the head": None,
            "while it catches up": MemoryResponse(200, SSE, list(frames[:2]), None),
            "behind that": MemoryResponse(200, SSE, list(frames[:4]), None),
        }.items():
            self.setUp()
            way = self.way("one", [cut(), second, whole()], accounts=3)
            done = self.resumed(way, patience=Patience(max_retries=3, wait=0.0))
            if not self.running.interrupt(stop):
                done.cancel()
            text = "Once upon a time" if name == "behind that" else "Once upon "
            self.successResultOf(done)
            self.assertEqual(self.text(), text, name)
            self.assertEqual(self.reply.ended, "finished")
            self.assertIn(b"It stops.", self.reply.body.split(b"\n\n")[-2])
            self.assertNotIn(b"[DONE]", self.reply.body)
            self.assertEqual(len(self.asked("one")), 2)
            failures = [each.tally.failures for each in self.pools["one"].report()]
            self.assertEqual(failures, [1, 0, 0], name)
            self.assert_over()

    def test_the_first_run(self) -> None:
        """An answer that had not broken off yet is ended, and not gone on with."""
        stop = UpstreamError("It stops.", fault=Fault.SERVER, status=503, code="stopping")
        done = self.resumed(self.way("one", [cut(end=None), whole()], accounts=2))
        self.assertTrue(self.running.interrupt(stop))
        self.assert_told(done, b"It stops.")
        self.assertEqual(self.asked("one"), ["one-0"])


class LeavingTests(ResumeCase):
    """A client that leaves while somebody goes on."""

    def test_in_every_phase(self) -> None:
        """The second upstream is closed at once, and nothing is left."""
        frames = chat_chunks(PIECES)
        for name, second in {
            "before the head": None,
            "before the first event": MemoryResponse(200, SSE, [], None),
            "while it catches up": MemoryResponse(200, SSE, list(frames[:2]), None),
            "behind that": MemoryResponse(200, SSE, list(frames[:4]), None),
        }.items():
            self.setUp()
            done = self.resumed(self.way("one", [cut(), second], accounts=2))
            self.assertNoResult(done)
            done.cancel()
            self.failureResultOf(done, CancelledError)
            sent = self.upstreams["one"].sent[1]
            self.assertTrue(sent.cancelled if second is None else second.aborted, name)
            self.assertEqual(self.observer.outcomes["x1"].how, "cancelled")
            self.assert_over()

    def test_while_it_waits(self) -> None:
        """Before the same account is asked again."""
        patience = Patience(max_retries=1, base_delay=2.0, wait=0.0)
        done = self.resumed(self.way("one", [cut(), whole()]), patience=patience)
        done.cancel()
        self.failureResultOf(done, CancelledError)
        self.assert_over()
