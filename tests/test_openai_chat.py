"""Chat Completions: requests in, answers watched, errors and model lists out."""

from __future__ import annotations

import json
from typing import Any

from openai.types.chat import ChatCompletionChunk
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from aiclient2api.dialects.openai_chat import OPENAI_CHAT
from aiclient2api.dialects.openai_chat.watch import ChatReader
from aiclient2api.dialects.watching import Watcher
from aiclient2api.errors import Fault, InvalidRequest, UnknownModel, UpstreamError
from aiclient2api.interfaces import IWatcher
from aiclient2api.values import ModelInfo, Route, SystemEdit, Usage
from tests.streams import Verdict, complete_from, splits, stream, verdict

_GENERATE, _MODELS, _MODEL = OPENAI_CHAT.endpoints
_USAGE = Usage(input=10, output=5, cached=4, reasoning=2)
_GOLDEN = {
    "plain.sse": Verdict(1035, 6, usage=_USAGE, text="Grüße a\u2028b\x85 😀"),
    "tools_crlf.sse": Verdict(1085, 6),
    "moonshot_usage.sse": Verdict(642, 4, usage=Usage(input=8, output=3, cached=6), text="hi"),
    "two_choices.sse": Verdict(922, 6, text="abc"),
    "never_finished.sse": Verdict(384, 3, complete=False, text="half an ans"),
    "odd_records.sse": Verdict(360, 5, text="x\ufffd"),
    "error_midway.sse": Verdict(
        477,
        3,
        complete=False,
        fault=Fault.CAPACITY,
        status=503,
        message="The engine is overloaded.",
        text="half",
    ),
    "error_first.sse": Verdict(
        87,
        1,
        started=False,
        complete=False,
        fault=Fault.RATE_LIMIT,
        status=429,
        message="Slow down.",
    ),
}


def _watcher(
    content_type: bytes = b"text/event-stream", streaming: bool = True, want_text: bool = True
) -> IWatcher:
    body = b'{"model":"m","messages":[],"stream":%s}' % (b"true" if streaming else b"false")
    request = OPENAI_CHAT.parse(body=body, route=Route("generate"))
    return OPENAI_CHAT.watcher(request=request, content_type=content_type, want_text=want_text)


def _finish(choice: bytes, more: bytes = b'"x":0') -> bytes:
    return b'data: {"choices":[{%s,"finish_reason":"stop"}],%s}\n\n' % (choice, more)


def _whole(answer: Any) -> IWatcher:
    watcher = _watcher(b"application/json", streaming=False)
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    assert watcher.feed(body) == b""
    watcher.end()
    return watcher


class RouteTests(SynchronousTestCase):
    """What of a client's URL and headers goes upstream."""

    def test_only_harmless_headers_pass(self) -> None:
        """No key, cookie, account or client name of a caller reaches an upstream."""
        headers = {
            b"authorization": b"Bearer k",
            b"cookie": b"c",
            b"user-agent": b"u",
            b"openai-organization": b"o",
            b"openai-beta": b"b",
            b"idempotency-key": b"i",
        }
        route = OPENAI_CHAT.route(
            endpoint=_GENERATE, rest="", query=[("key", "k"), ("beta", "true")], headers=headers
        )
        passed = ((b"openai-beta", b"b"), (b"idempotency-key", b"i"))
        self.assertEqual(route, Route("generate", headers=passed))

    def test_model_in_path(self) -> None:
        """The id of a model may hold slashes and colons."""
        route = OPENAI_CHAT.route(endpoint=_MODEL, rest="a/b:c", query=[], headers={})
        self.assertEqual((route.action, route.model), ("model", "a/b:c"))


class SystemTests(SynchronousTestCase):
    """The operator's system prompt."""

    def edited(self, messages: bytes, edit: SystemEdit) -> str:
        """Return what becomes of *messages*; the rest of the body must stay."""
        body = b'{ "model":"m", "messages": [' + messages + b'] , "x":1e400}'
        request = OPENAI_CHAT.parse(body=body, route=Route("generate"))
        raw = request.amended(system=edit).raw
        at = body.index(b"[") + 1
        head, tail = body[:at], body[at + len(messages) :]
        self.assertTrue(raw.startswith(head) and raw.endswith(tail), raw)
        json.loads(raw)
        return raw[len(head) : len(raw) - len(tail)].decode()

    USER = b'{"role":"user", "content":"\\u0068i system"}'

    def test_append_to_text(self) -> None:
        """The text goes before the closing quote of the first system message."""
        messages = self.USER + b' , {"content" : "a\\u0062", "role":"developer"}'
        self.assertEqual(
            self.edited(messages, SystemEdit("append", 'C"')),
            messages.decode().replace("\\u0062", '\\u0062\\nC\\"'),
        )

    def test_append_to_parts(self) -> None:
        """Parts get a new part at their end; cache marks stay."""
        part = b'{"type":"text","text":"a","cache_control":{"type":"ephemeral"}}'
        messages = b'{"role":"system","content":[ ' + part + b" ]}," + self.USER
        self.assertEqual(
            self.edited(messages, SystemEdit("append", "C")),
            messages.decode().replace("}} ]", '}},{"type":"text","text":"C"} ]'),
        )

    def test_overwrite_text(self) -> None:
        """The first system message becomes the text, the others go."""
        messages = b'{"role":"system","content":"a"},%s , {"role":"developer","content":"b"}'
        self.assertEqual(
            self.edited(messages % self.USER, SystemEdit("overwrite", "C")),
            '{"role":"system","content":"C"},' + self.USER.decode(),
        )

    def test_overwrite_parts(self) -> None:
        """A list stays a list and keeps the last cache mark."""
        messages = (
            b'{"role":"system","content":[{"type":"text","text":"a","cache_control":1},'
            b'{"type":"text","text":"b","cache_control":{"type" :"ephemeral"}},'
            b'{"type":"text","text":"c"}]}'
        )
        self.assertEqual(
            self.edited(messages, SystemEdit("overwrite", "C")),
            '{"role":"system","content":[{"type":"text","text":"C",'
            '"cache_control":{"type" :"ephemeral"}}]}',
        )

    def test_insert(self) -> None:
        """Without a system message, one is made, before all others."""
        made = '{"role":"system","content":"C"}'
        for mode in ("append", "overwrite"):
            edit = SystemEdit(mode, "C")
            self.assertEqual(self.edited(self.USER, edit), made + "," + self.USER.decode())
            self.assertEqual(self.edited(b"", edit), made)

    def test_replace(self) -> None:
        """Replacements reach every system text, in order, and no user's text."""
        messages = (
            b'{"role":"system","content":"hi a"},%s,'
            b'{"role":"developer","content":[{"type":"text","text":"hi b"},{"text":"\\u00e9"}]}'
        ) % self.USER
        edit = SystemEdit(replacements=(("hi", "hey"), ("hey a", "ho")))
        self.assertEqual(
            self.edited(messages, edit),
            messages.decode().replace("hi a", "ho").replace("hi b", "hey b"),
        )

    def test_empty_content(self) -> None:
        """A system message without a content is given one."""
        for content in (b"", b',"content":null'):
            edited = self.edited(b'{"role":"system"' + content + b"}", SystemEdit(text="C"))
            self.assertEqual(json.loads(edited), {"role": "system", "content": "C"})

    def test_malformed(self) -> None:
        """A system message that is none is refused, by its path."""
        for content in (b"5", b"{}", b"[5]", b'[{"text":5}]', b'"a","content":"b"'):
            messages = self.USER + b',{"role":"system","content":' + content + b"}"
            for mode in ("append", "overwrite"):
                error = self.assertRaises(
                    InvalidRequest, self.edited, messages, SystemEdit(mode, "C")
                )
                self.assertTrue(str(error.param).startswith("messages[1].content"), error.param)


class StreamTests(SynchronousTestCase):
    """What is seen in a stream."""

    def test_contract(self) -> None:
        """A watcher is what the relay expects."""
        verifyObject(IWatcher, _watcher())

    def test_golden(self) -> None:
        """However the bytes arrive, the verdict is the same and no byte is changed."""
        for name, expected in _GOLDEN.items():
            data = stream("openai_chat", name)
            for pieces in splits(data):
                seen, shown = verdict(_watcher(), pieces)
                self.assertEqual(seen, expected, name)
                self.assertTrue(data.startswith(shown), name)

    def test_cut_anywhere(self) -> None:
        """A stream cut before its finish reason is never complete, and from there on is."""
        for name, end in (
            ("plain.sse", b'"finish_reason":"stop"}]}'),
            ("tools_crlf.sse", b'"finish_reason":"tool_calls"}]}'),
            ("two_choices.sse", b'"finish_reason":"length"}]}'),
        ):
            data = stream("openai_chat", name)
            self.assertEqual(complete_from(_watcher, data), data.index(end) + len(end), name)
        for name in ("never_finished.sse", "error_midway.sse", "error_first.sse"):
            self.assertIsNone(complete_from(_watcher, stream("openai_chat", name)), name)

    def test_start(self) -> None:
        """Only what a reader could show or act on is a start."""
        bare = (
            b': x\n\ndata: {"choices":[]}\n\ndata: {"choices":[{"index":0,"delta":{"role":'
            b'"assistant","content":"","refusal":null,"tool_calls":[]},"finish_reason":null}]}\n\n'
            b"data: 1\n\n"
        )
        watcher = _watcher(want_text=False)
        self.assertEqual(watcher.feed(bare), bare)
        self.assertEqual((watcher.started, watcher.events), (False, 3))
        for delta in (
            b'"delta":{"content":"x"}',
            b'"delta":{"reasoning_content":"x"}',
            b'"delta":{"reasoning":"x"}',
            b'"delta":{"tool_calls":[{"index":0}]}',
            b'"delta":{"refusal":"x"}',
            b'"delta":{"audio":{"id":"x"}}',
            b'"delta":{},"finish_reason":"stop"',
        ):
            watcher = _watcher(want_text=False)
            watcher.feed(b'data: {"choices":[{"index":0,%s}]}\n\n' % delta)
            self.assertTrue(watcher.started, delta)

    def test_text_only_if_asked(self) -> None:
        """No text is kept that nobody wants."""
        watcher = _watcher(want_text=False)
        watcher.feed(stream("openai_chat", "plain.sse"))
        self.assertEqual((watcher.text, watcher.usage), ("", _USAGE))

    def test_errors(self) -> None:
        """Whatever form an error takes, it is one, with whose fault it is."""
        for record, fault, status in (
            (b'data: {"error":"boom"}', Fault.SERVER, 502),
            (b'data: {"error":{"message":"m","code":429}}', Fault.RATE_LIMIT, 429),
            (b'data: {"error":{"message":"m","code":"401"}}', Fault.CREDENTIAL, 401),
            (b'data: {"error":{"type":"server_error"}}', Fault.SERVER, 500),
            (b'data: {"error":{"code":"content_filter"}}', Fault.POLICY, 400),
            (b'data: {"error":{"code":"context_length_exceeded"}}', Fault.CONTEXT, 400),
            (b'data: {"error":{"type":"invalid_request_error"}}', Fault.CALLER, 400),
            (b'data: {"error":{"code":"insufficient_quota"}}', Fault.QUOTA, 429),
            (b'data: {"object":"error","message":"m","code":400}', Fault.CALLER, 400),
            (b"event: error\ndata: oops", Fault.SERVER, 502),
            (b'event: error\ndata: {"message":"m","code":503}', Fault.CAPACITY, 503),
        ):
            watcher = _watcher()
            shown = watcher.feed(record + b"\n\ndata: [DONE]\n\n") + watcher.feed(b"data: x\n\n")
            self.assertEqual(shown + watcher.end(), record + b"\n\n")
            failure = watcher.failure
            self.assertEqual((failure.fault, failure.status), (fault, status), record)
            self.assertIsNone(failure.reply)
            self.assertNotEqual(failure.message, "")

    def test_empty_errors_are_none(self) -> None:
        """Some upstreams send the field with every chunk: only one that says something counts."""
        for empty in (b'""', b"{}", b"{ }", b"false", b"0", b"[]", b"null"):
            watcher, data = _watcher(), _finish(b'"logprobs":null', b'"error":' + empty)
            self.assertEqual(watcher.feed(data), data)
            self.assertEqual((watcher.failure, watcher.complete), (None, True), empty)

    def test_a_break_is_no_reason_to_finish(self) -> None:
        """Some vendors tell of a failure in finish_reason; nothing of theirs may follow it."""
        for reason in (b"network_error", b"error"):
            record = _finish(b'"delta":{}').replace(b"stop", reason)
            watcher = _watcher()
            self.assertEqual(watcher.feed(record + b"data: [DONE]\n\n"), record)
            self.assertEqual((watcher.failure.fault, watcher.failure.status), (Fault.SERVER, 502))
            self.assertEqual((watcher.started, watcher.complete), (False, False))
        watcher = _watcher()
        watcher.feed(_finish(b'"error":{"code":429,"message":"Busy."}').replace(b"stop", b"error"))
        self.assertEqual(
            (watcher.failure.fault, watcher.failure.message), (Fault.RATE_LIMIT, "Busy.")
        )

    def test_numbers_of_any_size(self) -> None:
        """A count that is none is not told; the record it stands in is read all the same."""
        for number in (b"1" + b"0" * 400, b"9" * 5000, b"9223372036854775808", b"1e300", b"1e400"):
            told = b'"usage":{"prompt_tokens":%s,"completion_tokens":2}' % number
            watcher, data = _watcher(), _finish(b'"delta":{}', told)
            self.assertEqual(watcher.feed(data), data)
            self.assertEqual((watcher.complete, watcher.usage), (True, Usage(output=2)), number)

    def test_records_written_loosely(self) -> None:
        """What an upstream's JSON library lets pass is read, and relayed as it stands."""
        for field, text in (
            (b'"logprob":NaN,"delta":{"content":"a"}', "a"),
            (b'"logprob":[-Infinity,Infinity],"delta":{"content":"\\ud83d"}', "\ufffd"),
            (b'"delta":{"content":"a\tb\x01"}', "a\tb\x01"),
            (b'"delta":{"content":"\\ud83d\x00\xff"}', "\ufffd\x00\ufffd"),
        ):
            watcher, data = _watcher(), _finish(field)
            self.assertEqual(watcher.feed(data), data)
            self.assertEqual((watcher.complete, watcher.text), (True, text), field)

    def test_error_frame(self) -> None:
        """An error of ours is a chunk the SDK raises on; no end follows it."""
        frame = _watcher().error_frame(UpstreamError("Cut.", fault=Fault.TRUNCATED, status=502))
        error = {"message": "Cut.", "type": "server_error", "param": None, "code": None}
        assert frame is not None
        self.assertEqual(json.loads(frame.removeprefix(b"data: ")), {"error": error})
        self.assertTrue(frame.endswith(b"}\n\n"))

    def test_streams_are_real(self) -> None:
        """The samples are what the official SDK reads."""
        for line in stream("openai_chat", "plain.sse").split(b"\n"):
            if line.startswith(b"data: {"):
                ChatCompletionChunk.model_validate_json(line[6:], strict=True)


class WholeTests(SynchronousTestCase):
    """What is seen in an answer that is no stream."""

    def test_completion(self) -> None:
        """It starts and is complete at its end, with usage and text."""
        watcher = _watcher(b"", streaming=False)
        body = (
            b'{"choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"stop"}],'
            b'"usage":{"prompt_tokens":1,"completion_tokens":2}}\n'
        )
        self.assertEqual((watcher.feed(body[:50]), watcher.feed(body[50:])), (b"", b""))
        self.assertEqual((watcher.started, watcher.complete), (False, False))
        self.assertEqual(watcher.end(), body)
        self.assertEqual((watcher.started, watcher.complete), (True, True))
        self.assertEqual((watcher.text, watcher.usage), ("hi", Usage(input=1, output=2)))
        self.assertIsNone(watcher.error_frame(UnknownModel("x")))

    def test_cut(self) -> None:
        """Half an answer is not complete, and is not shown."""
        for body in (b"", b" \n", b"\xef\xbb\xbf", b'{"choices":[', b"[]"):
            watcher = _whole(body)
            self.assertEqual((watcher.started, watcher.complete, watcher.events), (False,) * 3)
            self.assertIsNone(watcher.failure)

    def test_no_answer_at_all(self) -> None:
        """A page of HTML is told from an answer cut short by its first byte."""
        for streaming, page in (
            (True, b"\n <!doctype html>"),
            (True, b"\xef\xbb\xbf<html>"),
            (False, b"<html>"),
            (False, b"upstream busy"),
            (False, b'"no"'),
        ):
            for content_type in (b"text/html", b"application/json", b"text/event-stream"):
                if content_type == b"text/event-stream" and b"<" not in page:
                    continue
                watcher = _watcher(content_type, streaming)
                for at in range(len(page)):
                    self.assertEqual(watcher.feed(page[at : at + 1]), b"")
                self.assertEqual(watcher.end(), b"")
                failure = watcher.failure
                self.assertEqual((failure.code, failure.status), ("no_answer", 502), page)
                self.assertEqual((watcher.started, watcher.complete), (False, False))

    def test_answers_written_loosely(self) -> None:
        """A byte order mark, NaN and control characters do not make an answer unreadable."""
        plain = b'{"choices":[{"message":{"content":"a"},"finish_reason":"stop"%s}]}'
        for body in (
            b"\xef\xbb\xbf" + plain % b"",
            b"\r\n\r\n" + plain % b',"logprobs":NaN',
            plain % b',"x":"\x1f\n"',
            plain % b',"x":1e400',
        ):
            for streaming in (True, False):
                watcher = _watcher(b"text/plain", streaming)
                for at in range(len(body)):
                    self.assertEqual(watcher.feed(body[at : at + 1]), b"")
                self.assertEqual(watcher.end(), body)
                self.assertEqual((watcher.complete, watcher.text), (True, "a"), body)

    def test_a_break_is_no_reason_to_finish(self) -> None:
        """A whole answer that says it broke off is not passed on as one."""
        watcher = _whole({"choices": [{"finish_reason": "network_error", "message": {}}]})
        self.assertEqual((watcher.failure.fault, watcher.complete), (Fault.SERVER, False))

    def test_limit(self) -> None:
        """An answer without end is given up, whole or streamed."""
        for content_type in (b"application/json", b"text/event-stream"):
            request = OPENAI_CHAT.parse(
                body=b'{"model":"m","messages":[]}', route=Route("generate")
            )
            reader = ChatReader(want_text=False)
            watcher = Watcher(reader=reader, request=request, content_type=content_type, limit=9)
            watcher.feed(b"{23456789" if content_type == b"application/json" else b"123456789")
            error = self.assertRaises(UpstreamError, watcher.feed, b"0")
            self.assertEqual((error.fault, error.status), (Fault.SERVER, 502))

    def test_error_in_a_200(self) -> None:
        """An error object without choices is an error, whatever the status says."""
        watcher = _whole({"error": {"message": "m", "code": "model_not_found"}})
        self.assertEqual((watcher.failure.fault, watcher.complete), (Fault.NOT_FOUND, False))
        nothing: tuple[object, ...] = (None, "", {}, [], False, 0)
        for empty in nothing:
            for answer in ({"choices": [], "error": empty}, {"x": 1, "error": empty}):
                watcher = _whole(answer)
                self.assertEqual((watcher.failure, watcher.complete), (None, True))

    def test_framing_follows_the_first_byte(self) -> None:
        """An upstream that ignores the stream flag, or mislabels, is read as what it sends."""
        for content_type, streaming, before, first, framing in (
            (b"application/json", True, "sse", b"d", "sse"),
            (b"text/plain", True, "sse", b":", "sse"),
            (b"", True, "sse", b"\xef\xbb\xbf\ne", "sse"),
            (b"text/event-stream", True, "sse", b"{", "whole"),
            (b"Application/JSON", True, "sse", b"\n\n {", "whole"),
            (b"", True, "sse", b"[", "whole"),
            (b"Text/Event-Stream; charset=utf-8", False, "sse", b"d", "sse"),
            (b"text/event-stream", False, "sse", b"{", "whole"),
            (b"text/plain", False, "whole", b"{", "whole"),
        ):
            watcher = _watcher(content_type, streaming)
            for at in range(len(first)):
                self.assertEqual(watcher.framing, before)
                watcher.feed(first[at : at + 1])
            self.assertEqual(watcher.framing, framing, (content_type, streaming, first))

    def test_blanks_without_end(self) -> None:
        """Blank lines before an answer are held, but not for ever."""
        for streaming in (True, False):
            body = b'{"model":"m","messages":[],"stream":%s}' % (b"true" if streaming else b"false")
            watcher = OPENAI_CHAT.watcher(
                request=OPENAI_CHAT.parse(body=body, route=Route("generate")),
                content_type=b"",
                want_text=False,
                limit=9,
            )
            watcher.feed(b"\r\n" * 4)
            error = self.assertRaises(UpstreamError, watcher.feed, b"\r\n")
            self.assertEqual(error.code, "record_too_long")


class RenderTests(SynchronousTestCase):
    """Errors and model lists."""

    def test_errors(self) -> None:
        """Type and code are those that OpenAI's clients know."""
        for status, kind, code in (
            (400, "invalid_request_error", None),
            (401, "authentication_error", "invalid_api_key"),
            (403, "permission_error", None),
            (429, "rate_limit_error", None),
            (503, "server_error", None),
        ):
            error = UpstreamError("No.", fault=Fault.SERVER, status=status, param="x")
            wanted = {"message": "No.", "type": kind, "param": "x", "code": code}
            answered, body = OPENAI_CHAT.render_error(error)
            self.assertEqual((answered, json.loads(body)), (status, {"error": wanted}))
        status, body = OPENAI_CHAT.render_error(UnknownModel("No.", code="model_not_found"))
        self.assertEqual((status, json.loads(body)["error"]["code"]), (404, "model_not_found"))

    def test_models_come_back_as_they_were(self) -> None:
        """An upstream's own fields survive; only the id is ours."""
        items: list[dict[str, object]] = [{"id": "a", "created": 5, "owned_by": "o", "x": [1]}]
        for body in (json.dumps({"data": [*items, 5, {}]}), json.dumps(items)):
            (model,) = OPENAI_CHAT.read_models(body.encode())
            self.assertEqual((model.id, model.created, model.owned_by), ("a", 5, "o"))
            renamed = ModelInfo(id="p:a", raw=model.raw, raw_dialect=model.raw_dialect)
            self.assertEqual(
                json.loads(OPENAI_CHAT.render_models([renamed]))["data"],
                [{**items[0], "id": "p:a"}],
            )

    def test_foreign_model(self) -> None:
        """A model known from elsewhere is listed in OpenAI's shape."""
        model = ModelInfo(id="g", owned_by="google", created=7, raw_dialect="gemini", raw={"n": 1})
        wanted = {"id": "g", "object": "model", "created": 7, "owned_by": "google"}
        self.assertEqual(json.loads(OPENAI_CHAT.render_model(model)), wanted)

    def test_numbers_of_any_size(self) -> None:
        """A date that is none is not known; the list goes on as it came."""
        for created in (b"1" + b"0" * 400, b"9223372036854775808", b"1e300", b"1e400", b"NaN"):
            body = b'{"data":[{"id":"a","created":%s}]}' % created
            (model,) = OPENAI_CHAT.read_models(body)
            self.assertEqual((model.id, model.created), ("a", 0), created)
            self.assertEqual(json.loads(OPENAI_CHAT.render_models([model]))["data"][0]["id"], "a")

    def test_no_model_list(self) -> None:
        """What is no list is told as such."""
        for body in (b"{}", b"", b'{"data":{}}', b"<html>"):
            self.assertRaises(ValueError, OPENAI_CHAT.read_models, body)
