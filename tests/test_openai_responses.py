"""Responses: requests in, answers watched, errors out."""

from __future__ import annotations

import json
from typing import Any

from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from aiclient2api.dialects.openai_responses import OPENAI_RESPONSES
from aiclient2api.errors import Fault, InvalidRequest, UpstreamError
from aiclient2api.interfaces import IWatcher
from aiclient2api.values import Route, SystemEdit, Usage
from tests.streams import Verdict, complete_from, splits, stream, verdict

_USAGE = Usage(input=10, output=5, cached=4, reasoning=2)
_GOLDEN = {
    "plain.sse": Verdict(1906, 8, usage=_USAGE, text="Hi 😀"),
    "incomplete.sse": Verdict(1961, 8, usage=_USAGE, text="Hi 😀"),
    "never_finished.sse": Verdict(1400, 7, complete=False, text="Hi 😀"),
    "failed.sse": Verdict(
        1649,
        8,
        complete=False,
        fault=Fault.RATE_LIMIT,
        status=429,
        message="Too fast.",
        text="Hi 😀",
    ),
    "error_first.sse": Verdict(
        540,
        3,
        started=False,
        complete=False,
        fault=Fault.SERVER,
        status=500,
        message="It broke.",
    ),
}


def _watcher(content_type: bytes = b"text/event-stream", fields: bytes = b"") -> IWatcher:
    body = b'{"model":"asked"%s}' % fields
    request = OPENAI_RESPONSES.parse(body=body, route=Route("generate"))
    return OPENAI_RESPONSES.watcher(request=request, content_type=content_type, want_text=True)


def _whole(answer: Any) -> IWatcher:
    watcher = _watcher(b"application/json")
    watcher.feed(json.dumps(answer).encode())
    watcher.end()
    return watcher


def _edited(fields: bytes, edit: SystemEdit) -> bytes:
    body = b'{"model":"m", ' + fields + b"}"
    request = OPENAI_RESPONSES.parse(body=body, route=Route("generate"))
    raw: bytes = request.amended(system=edit).raw
    json.loads(raw)
    return raw.removeprefix(b'{"model":"m", ').removesuffix(b"}")


class RequestTests(SynchronousTestCase):
    """Requests and their texts."""

    def test_input_may_be_text_or_items_or_absent(self) -> None:
        """Just these forms are taken."""
        for given in (b"", b',"input":null', b',"input":"x"', b',"input":[{}]'):
            body = b'{"model":"m"' + given + b"}"
            self.assertEqual(OPENAI_RESPONSES.parse(body=body, route=Route("generate")).raw, body)
        for given, param in ((b"5", "input"), (b"{}", "input"), (b'["x"]', "input[0]")):
            body = b'{"model":"m","input":' + given + b"}"
            error = self.assertRaises(
                InvalidRequest, OPENAI_RESPONSES.parse, body=body, route=Route("generate")
            )
            self.assertEqual(error.param, param)

    def test_texts(self) -> None:
        """What was asked last, and what the system says, can be logged."""
        for item, text in (
            ({"role": "user", "content": [{"type": "input_text", "text": "a"}]}, "a"),
            ({"type": "function_call_output", "call_id": "c", "output": "b"}, "b"),
            ({"type": "function_call_output", "output": [{"text": "c"}]}, "c"),
            ({"type": "item_reference", "id": "x"}, ""),
        ):
            body = {
                "model": "m",
                "instructions": "s",
                "input": [{"role": "developer", "content": "d"}, item],
            }
            request = OPENAI_RESPONSES.parse(
                body=json.dumps(body).encode(), route=Route("generate")
            )
            self.assertEqual((request.system_text(), request.prompt_text()), ("s\nd", text))

    def test_route(self) -> None:
        """It is asked on one path, and passes on but two headers."""
        (endpoint,) = [each for each in OPENAI_RESPONSES.endpoints if each.method == "POST"]
        headers = {b"openai-beta": b"b", b"openai-project": b"p", b"authorization": b"k"}
        route = OPENAI_RESPONSES.route(endpoint=endpoint, rest="", query=[], headers=headers)
        self.assertEqual(route.headers, ((b"openai-beta", b"b"),))


class SystemTests(SynchronousTestCase):
    """The operator's system prompt."""

    ITEMS = b'"input":[{"role":"system","content":"a"} , {"role":"user","content":"u"}]'

    def test_append(self) -> None:
        """Instructions grow by a line; system items stay."""
        self.assertEqual(
            _edited(b'"instructions":"\\u0061", ' + self.ITEMS, SystemEdit("append", "C")),
            b'"instructions":"\\u0061\\nC", ' + self.ITEMS,
        )
        for fields in (b"", b',"instructions":null'):
            edited = _edited(self.ITEMS + fields, SystemEdit("append", "C"))
            self.assertEqual(edited, self.ITEMS + b',"instructions":"C"')

    def test_overwrite(self) -> None:
        """Instructions become the text; system and developer items go."""
        more = self.ITEMS[:-1] + b',{"type":"message","role":"developer","content":"b"}]'
        self.assertEqual(
            _edited(b'"instructions":"a", ' + more, SystemEdit("overwrite", "C")),
            b'"instructions":"C", "input":[{"role":"user","content":"u"}]',
        )

    def test_overwrite_leaves_an_input(self) -> None:
        """An input of system items only is not emptied: the upstream would refuse it."""
        items = b'"input":[{"role":"system","content":"a"}]'
        edited = _edited(items, SystemEdit("overwrite", "C"))
        self.assertEqual(edited, items + b',"instructions":"C"')

    def test_replace(self) -> None:
        """Replacements reach instructions and system items, and no user's text."""
        fields = b'"instructions":"au", "input":[{"role":"system","content":[{"text":"u"}]},'
        user = b'{"role":"user","content":"u"}]'
        edited = _edited(fields + user, SystemEdit(replacements=(("u", "v"),)))
        self.assertEqual(edited, fields.replace(b'u"', b'v"') + user)

    def test_malformed(self) -> None:
        """Instructions that are no text are refused once they are to be edited."""
        for fields in (b'"instructions":5', b'"instructions":["a"]'):
            error = self.assertRaises(InvalidRequest, _edited, fields, SystemEdit(text="C"))
            self.assertEqual(error.param, "instructions")


class StreamTests(SynchronousTestCase):
    """What is seen in a stream."""

    def test_contract(self) -> None:
        """A watcher is what the relay expects."""
        verifyObject(IWatcher, _watcher())

    def test_golden(self) -> None:
        """However the bytes arrive, the verdict is the same and no byte is changed."""
        for name, expected in _GOLDEN.items():
            data = stream("openai_responses", name)
            for pieces in splits(data):
                seen, shown = verdict(_watcher(), pieces)
                self.assertEqual(seen, expected, name)
                self.assertTrue(data.startswith(shown), name)

    def test_its_id_is_known_from_the_start(self) -> None:
        """A later request may go on from it, at the account that keeps it."""
        data = stream("openai_responses", "plain.sse")
        for pieces in splits(data):
            watcher = _watcher()
            self.assertIsNone(watcher.reply_id)
            verdict(watcher, pieces)
            self.assertEqual(watcher.reply_id, "resp_1")
        watcher = _watcher()
        watcher.feed(data[: data.index(b"\n\n") + 2])
        self.assertEqual(watcher.reply_id, "resp_1")

    def test_an_id_told_at_the_end_only(self) -> None:
        """Some upstreams leave out the start."""
        watcher = _watcher()
        watcher.feed(b'data: {"type":"response.completed","response":{"id":"resp_2"}}\n\n')
        self.assertEqual(watcher.reply_id, "resp_2")

    def test_what_else_is_kept_is_known_at_the_end(self) -> None:
        """Items and containers, which a later request may name; what is no id is none."""
        data = stream("openai_responses", "plain.sse")
        watcher = _watcher()
        watcher.feed(data)
        self.assertEqual(list(watcher.kept_ids), ["msg_1"])
        output = b'[{"id":"a","container_id":"c"},{"id":5},{"id":""},{"id":"b"}]'
        done = b'data: {"type":"response.completed","response":{"id":"r","output":%b}}\n\n'
        for told, ids in ((output, ["a", "c", "b"]), (b"null", []), (b"5", []), (b'["x"]', [])):
            watcher = _watcher()
            watcher.feed(done % told)
            self.assertEqual((watcher.reply_id, list(watcher.kept_ids)), ("r", ids), told)
        watcher = _watcher(fields=b',"store":false')
        watcher.feed(done % output)
        self.assertEqual(list(watcher.kept_ids), [])

    def test_an_id_that_nothing_is_kept_under(self) -> None:
        """What is no text, and the id of a response that the client wants nobody to keep."""
        for id in (b"null", b"5", b'""', b"[]"):
            watcher = _watcher()
            watcher.feed(b'data: {"type":"response.created","response":{"id":%s}}\n\n' % id)
            self.assertIsNone(watcher.reply_id, id)
        watcher = _watcher(fields=b',"store":false')
        watcher.feed(stream("openai_responses", "plain.sse"))
        self.assertIsNone(watcher.reply_id)

    def test_cut_anywhere(self) -> None:
        """A stream is complete from its terminal event on, and not a byte before."""
        for name in ("plain.sse", "incomplete.sse"):
            data = stream("openai_responses", name)
            self.assertEqual(complete_from(_watcher, data), len(data) - 2, name)
        for name in ("never_finished.sse", "failed.sse", "error_first.sse"):
            self.assertIsNone(complete_from(_watcher, stream("openai_responses", name)), name)

    def test_errors(self) -> None:
        """Whatever form an error takes, it is one."""
        for record, fault in (
            (b'event: error\ndata: {"code":"rate_limit_exceeded","message":"m"}', Fault.RATE_LIMIT),
            (b'data: {"type":"error","error":{"type":"server_error","message":"m"}}', Fault.SERVER),
            (b'data: {"error":{"code":"invalid_api_key","message":"m"}}', Fault.CREDENTIAL),
            (b'event: error\ndata: {"type":"tokens","code":"slow_down"}', Fault.CAPACITY),
            (b'data: {"type":"response.failed","response":{}}', Fault.SERVER),
            (b"event: error\ndata: oops", Fault.SERVER),
        ):
            watcher = _watcher()
            self.assertEqual(watcher.feed(record + b"\n\ndata: x\n\n"), record + b"\n\n")
            self.assertEqual(watcher.failure.fault, fault, record)

    def test_empty_errors_are_none(self) -> None:
        """A field that says nothing is no error, and hides none beside it."""
        for empty in (b'""', b"{}", b"false", b"0", b"[]", b"null"):
            watcher = _watcher()
            watcher.feed(b'data: {"error":%s}\n\n' % empty)
            self.assertIsNone(watcher.failure, empty)
            watcher.feed(
                b'data: {"type":"response.failed","error":%s,'
                b'"response":{"error":{"code":"slow_down","message":"m"}}}\n\n' % empty
            )
            self.assertEqual(watcher.failure.fault, Fault.CAPACITY, empty)

    def test_error_frame_before_a_start(self) -> None:
        """Where no response had begun, the error event stands alone."""
        frame = _watcher().error_frame(UpstreamError("Cut.", fault=Fault.TRUNCATED, status=502))
        assert frame is not None
        self.assertEqual(
            json.loads(frame.removeprefix(b"event: error\ndata: ")),
            {
                "type": "error",
                "code": "server_error",
                "message": "Cut.",
                "param": None,
                "sequence_number": 0,
            },
        )

    def test_error_frame_after_a_start(self) -> None:
        """Where one had begun, it is told to have failed, as the SDK's own types say."""
        watcher = _watcher()
        watcher.feed(stream("openai_responses", "never_finished.sse"))
        frame = watcher.error_frame(UpstreamError("Cut.", fault=Fault.TRUNCATED, status=502))
        assert frame is not None
        error, failed = (
            json.loads(record.partition(b"\ndata: ")[2]) for record in frame.split(b"\n\n")[:2]
        )
        self.assertEqual((error["sequence_number"], failed["sequence_number"]), (7, 8))
        response = failed["response"]
        self.assertEqual((response["id"], response["model"]), ("resp_1", "m"))
        self.assertEqual((failed["type"], response["status"]), ("response.failed", "failed"))
        self.assertEqual(response["error"], {"code": "server_error", "message": "Cut."})
        # The frame is itself a failure to whoever watches it.
        again = _watcher()
        again.feed(frame)
        self.assertEqual(again.failure.message, "Cut.")
        adapter: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
        for event in (error, failed):
            adapter.validate_json(json.dumps(event))


class WholeTests(SynchronousTestCase):
    """What is seen in an answer that is no stream."""

    def test_response(self) -> None:
        """Usage and text are found."""
        content = [{"type": "output_text", "text": "hi"}]
        output = [{"type": "reasoning", "summary": []}, {"type": "message", "content": content}]
        watcher = _whole({"object": "response", "output": output, "usage": {"input_tokens": 1}})
        self.assertEqual((watcher.complete, watcher.text), (True, "hi"))
        self.assertEqual(watcher.usage, Usage(input=1))

    def test_failed_response_is_an_answer(self) -> None:
        """A response that says it failed is passed on as the upstream wrote it."""
        answer = {"object": "response", "status": "failed", "error": {"code": "server_error"}}
        watcher = _whole(answer)
        self.assertEqual((watcher.complete, watcher.failure), (True, None))

    def test_the_id_of_what_is_kept(self) -> None:
        """Not of what was just deleted, and not of an error."""
        answer = {"id": "resp_1", "object": "response", "output": []}
        self.assertEqual(_whole(answer).reply_id, "resp_1")
        self.assertEqual(_whole({"id": "resp_1", "output": []}).reply_id, "resp_1")
        self.assertIsNone(_whole({**answer, "id": 5}).reply_id)
        deleted = {"id": "resp_1", "object": "response.deleted", "deleted": True}
        self.assertIsNone(_whole(deleted).reply_id)
        self.assertIsNone(_whole({"id": "resp_1", "error": {"message": "m"}}).reply_id)

    def test_error_in_a_200(self) -> None:
        """A bare error object is an error, whatever the status says."""
        watcher = _whole({"error": {"message": "m", "type": "invalid_request_error"}})
        self.assertEqual((watcher.failure.fault, watcher.complete), (Fault.CALLER, False))
        nothing: tuple[object, ...] = ("", {}, False, 0, [], None)
        for empty in nothing:
            watcher = _whole({"error": empty})
            self.assertEqual((watcher.failure, watcher.complete), (None, True))


class ModelTests(SynchronousTestCase):
    """Models, which share OpenAI's shape."""

    def test_round_trip(self) -> None:
        """A list read from an upstream keeps its fields."""
        body = b'{"object":"list","data":[{"id":"a","object":"model","x":1}]}'
        models = OPENAI_RESPONSES.read_models(body)
        self.assertEqual(json.loads(OPENAI_RESPONSES.render_models(models)), json.loads(body))
        self.assertEqual(json.loads(OPENAI_RESPONSES.render_model(models[0]))["x"], 1)
