"""Messages: requests in, answers watched, errors and model lists out."""

from __future__ import annotations

import json
from typing import Any

from anthropic.types import ModelInfo as SDKModel
from anthropic.types import RawMessageStreamEvent
from pydantic import TypeAdapter
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from aiclient2api.dialects.anthropic_messages import ANTHROPIC_MESSAGES
from aiclient2api.errors import Fault, InvalidRequest, UpstreamError
from aiclient2api.interfaces import IWatcher
from aiclient2api.values import ModelInfo, Route, SystemEdit, Usage
from tests.streams import Verdict, complete_from, splits, stream, verdict

_GENERATE, _COUNT, _MODELS, _MODEL = ANTHROPIC_MESSAGES.endpoints
_START = Usage(input=13, output=1, cached=4, cache_write=3)
_END = Usage(input=13, output=9, cached=4, cache_write=3)
_GOLDEN = {
    "thinking_tool.sse": Verdict(1931, 17, usage=_END, text="Grüße 😀"),
    "no_message_stop.sse": Verdict(889, 7, usage=_END, text="Grüße 😀"),
    "never_finished.sse": Verdict(752, 7, complete=False, usage=_START, text="Grüße 😀"),
    "overloaded.sse": Verdict(
        882,
        8,
        complete=False,
        fault=Fault.CAPACITY,
        status=529,
        message="Overloaded",
        usage=_START,
        text="Grüße 😀",
    ),
    "error_first.sse": Verdict(
        435,
        3,
        started=False,
        complete=False,
        fault=Fault.RATE_LIMIT,
        status=429,
        message="Slow down.",
        usage=_START,
    ),
}


def _watcher(content_type: bytes = b"text/event-stream", action: str = "generate") -> IWatcher:
    body = b'{"model":"m","messages":[]}'
    request = ANTHROPIC_MESSAGES.parse(body=body, route=Route(action))
    return ANTHROPIC_MESSAGES.watcher(request=request, content_type=content_type, want_text=True)


def _whole(answer: Any, action: str = "generate") -> IWatcher:
    watcher = _watcher(b"application/json", action)
    watcher.feed(json.dumps(answer).encode())
    watcher.end()
    return watcher


def _edited(fields: bytes, edit: SystemEdit) -> bytes:
    body = b'{"model":"m", ' + fields + b"}"
    request = ANTHROPIC_MESSAGES.parse(body=body, route=Route("generate"))
    raw: bytes = request.amended(system=edit).raw
    json.loads(raw)
    return raw.removeprefix(b'{"model":"m", ').removesuffix(b"}")


class RequestTests(SynchronousTestCase):
    """Routes, requests and their texts."""

    def test_what_passes(self) -> None:
        """The API's version and betas pass; keys and everything else do not."""
        headers = {
            b"x-api-key": b"k",
            b"user-agent": b"u",
            b"anthropic-beta": b"b",
            b"anthropic-version": b"v",
            b"anthropic-dangerous-direct-browser-access": b"true",
        }
        query = [("beta", "true"), ("key", "k")]
        route = ANTHROPIC_MESSAGES.route(endpoint=_GENERATE, rest="", query=query, headers=headers)
        self.assertEqual(
            route,
            Route(
                "generate",
                headers=((b"anthropic-version", b"v"), (b"anthropic-beta", b"b")),
                query=(("beta", "true"),),
            ),
        )

    def test_count_tokens_never_streams(self) -> None:
        """A count is one JSON object, whatever the body says of streams."""
        route = ANTHROPIC_MESSAGES.route(endpoint=_COUNT, rest="", query=[], headers={})
        body = b'{"model":"m","messages":[],"stream":true}'
        request = ANTHROPIC_MESSAGES.parse(body=body, route=route)
        self.assertEqual((request.action, request.framing), ("count_tokens", "whole"))
        self.assertEqual(request.amended(model="n").action, "count_tokens")

    def test_texts(self) -> None:
        """What was asked last, a tool's result too, and the system prompt can be logged."""
        result = {"type": "tool_result", "content": [{"type": "text", "text": "r"}]}
        body = {
            "model": "m",
            "system": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
            "messages": [
                {"role": "system", "content": "c"},
                {"role": "user", "content": [result, {"type": "text", "text": "t"}]},
            ],
        }
        request = ANTHROPIC_MESSAGES.parse(body=json.dumps(body).encode(), route=Route("generate"))
        self.assertEqual((request.system_text(), request.prompt_text()), ("a\nb\nc", "r\nt"))


class SystemTests(SynchronousTestCase):
    """The operator's system prompt."""

    USER = b'"messages":[{"role":"user","content":"u"}]'
    BLOCKS = (
        b'"system":[{"type":"text","text":"a","cache_control":{"type":"ephemeral"}} ,'
        b'{"text":"b","type":"text","cache_control":{"type":"ephemeral", "ttl":"1h"}}], '
    )

    def test_append(self) -> None:
        """A string grows by a line; a list gets a block and keeps all its marks."""
        edit = SystemEdit("append", "C")
        self.assertEqual(
            _edited(b'"system":"\\u0061", ' + self.USER, edit),
            b'"system":"\\u0061\\nC", ' + self.USER,
        )
        self.assertEqual(
            _edited(self.BLOCKS + self.USER, edit),
            self.BLOCKS.replace(b"], ", b',{"type":"text","text":"C"}], ') + self.USER,
        )
        self.assertEqual(
            _edited(b'"system":[ ], ' + self.USER, edit),
            b'"system":[{"type":"text","text":"C"} ], ' + self.USER,
        )
        self.assertEqual(_edited(self.USER, edit), self.USER + b',"system":"C"')

    def test_overwrite(self) -> None:
        """A string stays a string; a list becomes one block with the last cache mark."""
        edit = SystemEdit("overwrite", "C")
        self.assertEqual(_edited(b'"system":"a",' + self.USER, edit), b'"system":"C",' + self.USER)
        self.assertEqual(
            _edited(self.BLOCKS + self.USER, edit),
            b'"system":[{"type":"text","text":"C","cache_control":{"type":"ephemeral", "ttl":"1h"}'
            b"}], " + self.USER,
        )
        self.assertEqual(_edited(self.USER, edit), self.USER + b',"system":"C"')

    def test_overwrite_drops_system_messages(self) -> None:
        """Messages whose role is system go, wherever they stand."""
        system = b'{"role":"system","content":"a"}'
        user = b'{"role":"user","content":"u"}'
        for messages in (
            b"%s , %s" % (system, user),
            b"%s,%s" % (user, system),
            b"%s,%s,%s,%s" % (system, system, user, system),
        ):
            fields = b'"system":"a","messages":[' + messages + b"]"
            self.assertEqual(
                _edited(fields, SystemEdit("overwrite", "C")),
                b'"system":"C","messages":[' + user + b"]",
            )

    def test_replace(self) -> None:
        """Replacements reach blocks, also after an append, and no user's text."""
        edit = SystemEdit("append", "bu", (("b", "x"), ("xu", "y")))
        self.assertEqual(
            _edited(self.BLOCKS + self.USER, edit),
            self.BLOCKS.replace(b'"b"', b'"x"').replace(b"], ", b',{"type":"text","text":"y"}], ')
            + self.USER,
        )
        # A pattern may span the line where the two texts meet.
        self.assertEqual(
            _edited(b'"system":"a",' + self.USER, SystemEdit("append", "b", (("a\nb", "c"),))),
            b'"system":"c",' + self.USER,
        )

    def test_malformed(self) -> None:
        """A system prompt that is none is refused, by its path."""
        for value in (b"5", b"{}", b"[5]", b'["a"]', b'[{"type":"text","text":5}]', b"true"):
            for edit in (SystemEdit(text="C"), SystemEdit("overwrite", "C")):
                fields = b'"system":' + value + b"," + self.USER
                error = self.assertRaises(InvalidRequest, _edited, fields, edit)
                self.assertTrue(str(error.param).startswith("system"), error.param)


class StreamTests(SynchronousTestCase):
    """What is seen in a stream."""

    def test_contract(self) -> None:
        """A watcher is what the relay expects."""
        verifyObject(IWatcher, _watcher())

    def test_golden(self) -> None:
        """However the bytes arrive, the verdict is the same and no byte is changed."""
        for name, expected in _GOLDEN.items():
            data = stream("anthropic_messages", name)
            for pieces in splits(data):
                seen, shown = verdict(_watcher(), pieces)
                self.assertEqual(seen, expected, name)
                self.assertTrue(data.startswith(shown), name)

    def test_cut_anywhere(self) -> None:
        """A stream is complete from its stop reason on, and not a byte before."""
        for name in ("thinking_tool.sse", "no_message_stop.sse"):
            data = stream("anthropic_messages", name)
            end = data.index(b"\n\n", data.index(b"event: message_delta"))
            self.assertEqual(complete_from(_watcher, data), end, name)
        for name in ("never_finished.sse", "overloaded.sse", "error_first.sse"):
            self.assertIsNone(complete_from(_watcher, stream("anthropic_messages", name)), name)

    def test_start(self) -> None:
        """A start of message and pings are no start of an answer."""
        watcher = _watcher()
        watcher.feed(b'event: message_start\ndata: {"type":"message_start","message":{}}\n\n')
        watcher.feed(b'event: ping\ndata: {"type":"ping"}\n\ndata: 1\n\n')
        self.assertEqual((watcher.started, watcher.events), (False, 3))
        watcher.feed(b'data: {"type":"content_block_start","index":0}\n\n')
        self.assertTrue(watcher.started)

    def test_errors(self) -> None:
        """The type of an error says whose fault it is."""
        for kind, fault, status in (
            (b"authentication_error", Fault.CREDENTIAL, 401),
            (b"permission_error", Fault.PERMISSION, 403),
            (b"invalid_request_error", Fault.CALLER, 400),
            (b"api_error", Fault.SERVER, 500),
            (b"new_error", Fault.SERVER, 502),
        ):
            watcher = _watcher()
            record = b'data: {"type":"error","error":{"type":"%s","message":"m"}}\n\n' % kind
            self.assertEqual(watcher.feed(record + b": x\n\n"), record)
            self.assertEqual((watcher.failure.fault, watcher.failure.status), (fault, status))
        watcher = _watcher()
        watcher.feed(
            b'event: error\ndata: {"error":{"type":"invalid_request_error",'
            b'"message":"prompt is too long: 9 > 8"}}\n\n'
        )
        self.assertEqual(watcher.failure.fault, Fault.CONTEXT)

    def test_odd_counts(self) -> None:
        """What is only counted never hides the end of an answer."""
        for usage in (b"[]", b'"x"', b"5", b"null", b'{"output_tokens":"x"}', b'{"x":1e400}'):
            for message in (b'{"usage":%s}' % usage, usage):
                data = (
                    b'data: {"type":"message_start","message":%s}\n\ndata: {"type":"message_delta",'
                    b'"delta":{"stop_reason":"end_turn"},"usage":%s}\n\n' % (message, usage)
                )
                watcher = _watcher()
                self.assertEqual(watcher.feed(data), data)
                self.assertEqual((watcher.started, watcher.complete), (True, True), data)
                self.assertIn(watcher.usage, (None, Usage()))

    def test_empty_errors_are_none(self) -> None:
        """A field that says nothing is no error."""
        for empty in (b'""', b"{}", b"false", b"0", b"[]", b"null"):
            watcher = _watcher()
            watcher.feed(b'data: {"error":%s}\n\n' % empty)
            self.assertIsNone(watcher.failure, empty)

    def test_error_frame(self) -> None:
        """An error of ours is the event the SDK raises on."""
        frame = _watcher().error_frame(UpstreamError("Cut.", fault=Fault.TRUNCATED, status=502))
        self.assertEqual(
            frame,
            b'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"Cut."}}'
            b"\n\n",
        )

    def test_streams_are_real(self) -> None:
        """The samples are what the official SDK reads."""
        adapter: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
        for line in stream("anthropic_messages", "thinking_tool.sse").split(b"\n"):
            if line.startswith(b"data: {") and b"ping" not in line:
                adapter.validate_json(line[6:])


class WholeTests(SynchronousTestCase):
    """What is seen in an answer that is no stream."""

    def test_message(self) -> None:
        """Usage and text are found; thinking is not text."""
        blocks = [{"type": "thinking", "thinking": "h"}, {"type": "text", "text": "hi"}]
        usage = {"input_tokens": 6, "cache_read_input_tokens": 4, "output_tokens": 5}
        watcher = _whole({"type": "message", "content": blocks, "usage": usage})
        self.assertEqual((watcher.complete, watcher.text), (True, "hi"))
        self.assertEqual(watcher.usage, Usage(input=10, output=5, cached=4))

    def test_count(self) -> None:
        """A count of tokens is an answer, and uses none."""
        watcher = _whole({"input_tokens": 6}, "count_tokens")
        self.assertEqual((watcher.started, watcher.complete), (True, True))
        self.assertIsNone(watcher.usage)

    def test_error_in_a_200(self) -> None:
        """An error object is an error, whatever the status says."""
        watcher = _whole({"type": "error", "error": {"type": "overloaded_error", "message": "m"}})
        self.assertEqual((watcher.failure.fault, watcher.complete), (Fault.CAPACITY, False))
        nothing: tuple[object, ...] = ("", {}, False, 0, [], None)
        for empty in nothing:
            watcher = _whole({"error": empty, "usage": []})
            self.assertEqual((watcher.failure, watcher.complete), (None, True))
            watcher = _whole({"type": "error", "error": empty})
            self.assertEqual((watcher.failure.fault, watcher.complete), (Fault.SERVER, False))


class RenderTests(SynchronousTestCase):
    """Errors and model lists."""

    def test_errors(self) -> None:
        """Types are those that Anthropic's clients know."""
        for status, kind in (
            (400, "invalid_request_error"),
            (401, "authentication_error"),
            (403, "permission_error"),
            (404, "not_found_error"),
            (405, "invalid_request_error"),
            (408, "timeout_error"),
            (413, "request_too_large"),
            (429, "rate_limit_error"),
            (500, "api_error"),
            (503, "overloaded_error"),
            (504, "timeout_error"),
            (529, "overloaded_error"),
        ):
            error = UpstreamError("No.", fault=Fault.SERVER, status=status)
            wanted = {"type": "error", "error": {"type": kind, "message": "No."}}
            answered, body = ANTHROPIC_MESSAGES.render_error(error)
            self.assertEqual((answered, json.loads(body)), (status, wanted))

    def test_models(self) -> None:
        """A list is one page, in the form the SDK reads; own fields come back."""
        item = {
            "type": "model",
            "id": "a",
            "display_name": "A",
            "created_at": "2025-02-19T00:00:00Z",
        }
        (model,) = ANTHROPIC_MESSAGES.read_models(json.dumps({"data": [item, 5]}).encode())
        self.assertEqual((model.id, model.created, model.display_name), ("a", 1739923200, "A"))
        other = ModelInfo(id="b", created=1739923200)
        page = json.loads(ANTHROPIC_MESSAGES.render_models([model, other]))
        self.assertEqual((page["first_id"], page["last_id"], page["has_more"]), ("a", "b", False))
        self.assertEqual(page["data"][0], item)
        self.assertEqual(page["data"][1]["created_at"], item["created_at"])
        SDKModel.model_validate(json.loads(ANTHROPIC_MESSAGES.render_model(other)))
        odd = json.loads(ANTHROPIC_MESSAGES.render_model(ModelInfo(id="c", created=10**12)))
        self.assertEqual(odd["created_at"], "1970-01-01T00:00:00Z")
        self.assertIsNone(json.loads(ANTHROPIC_MESSAGES.render_models([]))["first_id"])

    def test_no_model_list(self) -> None:
        """What is no list is told as such."""
        for body in (b"{}", b"", b"[]"):
            self.assertRaises(ValueError, ANTHROPIC_MESSAGES.read_models, body)
