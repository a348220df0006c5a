"""Gemini: routes and requests in, both kinds of stream watched, errors and lists out."""

from __future__ import annotations

import json
from typing import Any

from google.genai.types import GenerateContentResponse
from google.genai.types import Model as SDKModel
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from aiclient2api.dialects.gemini import GEMINI
from aiclient2api.errors import Fault, InvalidRequest, UnknownRoute, UpstreamError
from aiclient2api.interfaces import IWatcher
from aiclient2api.values import ModelInfo, Route, SystemEdit, Usage
from tests.streams import Verdict, complete_from, splits, stream, verdict

_USAGE = Usage(input=11, output=5, cached=4, reasoning=2)
_TEXT = 'Grüße ] } " \\ 😀'
_QUOTA: dict[str, Any] = {
    "complete": False,
    "fault": Fault.RATE_LIMIT,
    "status": 429,
    "message": "Quota exceeded.",
}
_GOLDEN = {
    "plain.sse": Verdict(650, 4, usage=_USAGE, text=_TEXT),
    "array.json": Verdict(1128, 4, usage=_USAGE, text=_TEXT),
    "blocked.sse": Verdict(133, 1, usage=Usage(input=10)),
    "error_midway.sse": Verdict(222, 2, text=_TEXT[:-2], **_QUOTA),
    "array_error_midway.json": Verdict(320, 2, text=_TEXT[:-2], **_QUOTA),
    "array_error_first.json": Verdict(143, 1, started=False, **_QUOTA),
    "bare_error.json": Verdict(125, 1, started=False, **_QUOTA),
    "never_finished.sse": Verdict(357, 3, complete=False, text=_TEXT),
    "array_never_closed.json": Verdict(1125, 4, complete=False, usage=_USAGE, text=_TEXT),
}


def _route(rest: str, *query: tuple[str, str]) -> Route:
    route: Route = GEMINI.route(
        endpoint=GEMINI.endpoints[0], rest=rest, query=query, headers={b"x-goog-api-key": b"k"}
    )
    return route


def _parse(body: bytes, rest: str = "m:generateContent", *query: tuple[str, str]) -> Any:
    return GEMINI.parse(body=body, route=_route(rest, *query))


def _watcher(name: str = "plain.sse", verb: str = "streamGenerateContent") -> IWatcher:
    """Return a watcher as the upstream of that sample would be read by."""
    sse = name.endswith(".sse")
    request = _parse(b'{"contents":[]}', f"m:{verb}", *([("alt", "sse")] if sse else []))
    content_type = b"text/event-stream" if sse else b"application/json; charset=UTF-8"
    return GEMINI.watcher(request=request, content_type=content_type, want_text=True)


def _whole(answer: Any, verb: str = "generateContent") -> IWatcher:
    watcher = _watcher("x.json", verb)
    watcher.feed(json.dumps(answer).encode())
    watcher.end()
    return watcher


class RouteTests(SynchronousTestCase):
    """What the URL says."""

    def test_verbs(self) -> None:
        """Action, stream and framing stand in the path and in ``alt``."""
        sse = ("alt", "sse")
        for verb, query, wanted in (
            ("generateContent", (), ("generate", False, None, ())),
            ("generateContent", (sse,), ("generate", False, None, ())),
            ("streamGenerateContent", (), ("generate", True, "json_array", ())),
            ("streamGenerateContent", (sse, ("key", "k")), ("generate", True, "sse", (sse,))),
            ("streamGenerateContent", (("$alt", "json"),), ("generate", True, "json_array", ())),
            ("countTokens", (), ("count_tokens", False, None, ())),
        ):
            route = _route("m:" + verb, *query)
            self.assertEqual(
                (route.action, route.streaming, route.framing, route.query), wanted, verb
            )
            self.assertEqual((route.model, route.headers), ("m", ()))

    def test_model_ids(self) -> None:
        """An id may hold slashes and colons; a leading ``models/`` is no part of it."""
        for rest, model in (
            ("qwen2.5:7b:generateContent", "qwen2.5:7b"),
            ("a/b:c:countTokens", "a/b:c"),
            ("models/m:generateContent", "m"),
        ):
            self.assertEqual(_route(rest).model, model)
        endpoint = next(e for e in GEMINI.endpoints if e.action == "model")
        route = GEMINI.route(endpoint=endpoint, rest="a:b", query=[], headers={})
        self.assertEqual((route.action, route.model), ("model", "a:b"))

    def test_unknown_verbs(self) -> None:
        """Another verb is unknown, and the error names those that are not."""
        for rest in ("m:embedContent", "m", ":generateContent", "m\n:countTokens", "m:"):
            error = self.assertRaises(UnknownRoute, _route, rest)
            for verb in ("generateContent", "streamGenerateContent", "countTokens"):
                self.assertIn(verb, error.message)


class RequestTests(SynchronousTestCase):
    """Requests and their texts."""

    def test_contents(self) -> None:
        """Contents are a list, or one object as Google's own examples send it."""
        for body in (b'{"contents":[]}', b'{"contents":{"parts":{"text":"a"}}}'):
            self.assertEqual(_parse(body).raw, body)
        for body in (b"{}", b'{"contents":"a"}', b'{"contents":null}'):
            error = self.assertRaises(InvalidRequest, _parse, body)
            self.assertEqual(error.param, "contents")

    def test_count_tokens_bodies(self) -> None:
        """A count asks with contents or with a whole request."""
        for body in (
            b'{"contents":[]}',
            b'{"generateContentRequest":{"contents":[]}}',
            b'{"generate_content_request":{"contents":[]}}',
        ):
            request = _parse(body, "m:countTokens")
            self.assertEqual((request.action, request.framing), ("count_tokens", "whole"))
        self.assertRaises(InvalidRequest, _parse, b'{"generateContentRequest":5}', "m:countTokens")

    def test_both_spellings_are_one_key(self) -> None:
        """``systemInstruction`` and ``system_instruction`` together are a duplicate."""
        body = b'{"contents":[],"systemInstruction":{},"system_instruction":{}}'
        error = self.assertRaises(InvalidRequest, _parse, body)
        self.assertEqual(error.code, "duplicate_field")

    def test_amended(self) -> None:
        """Model and stream change in the URL; bytes that name neither stay."""
        request = _parse(b'{"contents":[]}')
        amended = request.amended(model="n", streaming=True)
        self.assertEqual((amended.raw, amended.model), (request.raw, "n"))
        self.assertEqual((amended.framing, amended.query), ("sse", (("alt", "sse"),)))
        back = amended.amended(streaming=False)
        self.assertEqual((back.framing, back.query, back.streaming), ("whole", (), False))
        array = _parse(b'{"contents":[]}', "m:streamGenerateContent")
        self.assertEqual(array.amended(streaming=True).framing, "json_array")

    def test_a_model_named_in_the_body(self) -> None:
        """A prefix of ours goes upstream nowhere, however often the model is named."""
        nested = b'{"generateContentRequest":{ "model" : %s,"contents":[]},"model":%s}'
        for body, verb in (
            (nested, "countTokens"),
            (nested.replace(b"ContentR", b"_content_r"), "countTokens"),
            (b'{"contents":[{"model":"p:m"}] , "model":%s,"model" : %s}', "generateContent"),
        ):
            request = _parse(body % (b'"models/p:m"', b'"p\\u003am"'), "p:m:" + verb)
            amended = request.amended(model="m2", system=SystemEdit(text="C"))
            self.assertEqual(amended.model, "m2")
            for token in (b'"models/m2"', b'"m2"'):
                self.assertIn(token, amended.raw)
            plain = request.amended(model="m2").raw
            self.assertEqual(plain, body % (b'"models/m2"', b'"m2"'))
            self.assertEqual(request.amended(model="p:m").raw, request.raw)
            other = body % (b'"models/other"', b"5")
            self.assertEqual(_parse(other, "p:m:" + verb).amended(model="m").raw, other)

    def test_texts(self) -> None:
        """Snake case, single parts and what a function gave back can be logged."""
        for parts, text in (
            ([{"text": "a"}, {"inlineData": {}}, {"text": "b"}], "a\nb"),
            ({"text": "a"}, "a"),
            ([{"functionResponse": {"name": "f", "response": {"result": "r"}}}], "r"),
            ([{"function_response": {"response": {"x": 1}}}], '{"x":1}'),
        ):
            body = {
                "contents": [{"parts": [{"text": "old"}]}, {"parts": parts}],
                "system_instruction": {"parts": {"text": "s"}},
            }
            request = _parse(json.dumps(body).encode())
            self.assertEqual((request.system_text(), request.prompt_text()), ("s", text))


class SystemTests(SynchronousTestCase):
    """The operator's system prompt."""

    def edited(self, system: bytes, edit: SystemEdit, key: bytes = b"systemInstruction") -> bytes:
        """Return what becomes of the system instruction; the rest must stay."""
        head, tail = b'{"' + key + b'": ', b' , "contents":[{"parts":[{"text":"a"}]}]}'
        raw: bytes = _parse(head + system + tail).amended(system=edit).raw
        self.assertTrue(raw.startswith(head) and raw.endswith(tail), raw)
        json.loads(raw)
        return raw[len(head) : len(raw) - len(tail)]

    def test_append(self) -> None:
        """A new part comes last; parts there were stay as they are."""
        edit = SystemEdit("append", "C")
        for key in (b"systemInstruction", b"system_instruction"):
            self.assertEqual(
                self.edited(b'{"role":"user", "parts":[{"text" :"\\u0061"} ]}', edit, key),
                b'{"role":"user", "parts":[{"text" :"\\u0061"},{"text":"C"} ]}',
            )
        self.assertEqual(
            self.edited(b'{"parts": {"text":"a"}}', edit), b'{"parts": [{"text":"a"},{"text":"C"}]}'
        )
        self.assertEqual(self.edited(b'{"parts":[]}', edit), b'{"parts":[{"text":"C"}]}')

    def test_overwrite(self) -> None:
        """Just one part is left; what else stood there stays."""
        self.assertEqual(
            self.edited(
                b'{"role":"user", "parts":[{"text":"a"},{"text":"b"}]}',
                SystemEdit("overwrite", "C"),
            ),
            b'{"role":"user", "parts":[{"text":"C"}]}',
        )

    def test_nothing_there(self) -> None:
        """Where there is none, null or an empty one, one is made."""
        for mode in ("append", "overwrite"):
            for system in (b"null", b"{}", b'{"parts":null}'):
                self.assertEqual(
                    self.edited(system, SystemEdit(mode, "C")), b'{"parts":[{"text":"C"}]}'
                )
            raw = _parse(b'{"contents":[]}').amended(system=SystemEdit(mode, "C")).raw
            made = b'{"contents":[],"systemInstruction":{"parts":[{"text":"C"}]}}'
            self.assertEqual(raw, made)

    def test_replace(self) -> None:
        """Each part is edited where it stands."""
        system = b'{"parts":[{"text":"a"},{"text":"ab"},{"text":"\\u0062"}]}'
        self.assertEqual(
            self.edited(system, SystemEdit(replacements=(("a", "x"),))),
            system.replace(b'"a', b'"x'),
        )

    def test_malformed(self) -> None:
        """A system instruction that is none is refused, by its path."""
        for system in (b'"a"', b"5", b"[]", b'{"parts":"a"}', b'{"parts":["a"]}'):
            for mode in ("append", "overwrite"):
                error = self.assertRaises(
                    InvalidRequest, self.edited, system, SystemEdit(mode, "C")
                )
                self.assertTrue(str(error.param).startswith("systemInstruction"), error.param)

    def test_count_tokens(self) -> None:
        """A count is of the request as it would be sent, where it has the place for it."""
        body = b'{"generateContentRequest":{"contents":[]}}'
        edited = _parse(body, "m:countTokens").amended(system=SystemEdit(text="C"))
        self.assertEqual(edited.system_text(), "C")
        bare = _parse(b'{"contents":[]}', "m:countTokens")
        self.assertEqual(bare.amended(system=SystemEdit(text="C")).raw, bare.raw)


class StreamTests(SynchronousTestCase):
    """What is seen in a stream of either kind."""

    def test_contract(self) -> None:
        """A watcher is what the relay expects."""
        verifyObject(IWatcher, _watcher())

    def test_golden(self) -> None:
        """However the bytes arrive, the verdict is the same and no byte is changed."""
        for name, expected in _GOLDEN.items():
            data = stream("gemini", name)
            for pieces in splits(data):
                seen, shown = verdict(_watcher(name), pieces)
                self.assertEqual(seen, expected, name)
                self.assertTrue(data.startswith(shown), name)

    def test_cut_anywhere(self) -> None:
        """A stream is complete from its finish reason on; an array must be closed, too."""
        for name, left in (("plain.sse", 4), ("blocked.sse", 4), ("array.json", 1)):
            data = stream("gemini", name)

            def make(name: str = name) -> IWatcher:
                return _watcher(name)

            self.assertEqual(complete_from(make, data), len(data) - left, name)

    def test_framing(self) -> None:
        """What the upstream sends decides, not what it says; a bare object is no array."""
        for verb, content_type, first, framing in (
            ("streamGenerateContent", b"application/json", b" \n[", "json_array"),
            ("streamGenerateContent", b"application/json", b" \n{", "whole"),
            ("streamGenerateContent", b"", b"[", "json_array"),
            ("streamGenerateContent", b"text/event-stream", b"d", "sse"),
            ("streamGenerateContent", b"application/json", b"d", "sse"),
            ("streamGenerateContent?", b"application/json", b"\xef\xbb\xbf[", "json_array"),
            ("streamGenerateContent?", b"application/json", b"d", "sse"),
            ("streamGenerateContent?", b"text/event-stream", b"{", "whole"),
            ("generateContent", b"application/json", b"[", "whole"),
        ):
            query = [("alt", "sse")] if verb[-1] == "?" else []
            request = _parse(b'{"contents":[]}', f"m:{verb.rstrip('?')}", *query)
            watcher = GEMINI.watcher(request=request, content_type=content_type, want_text=False)
            for at in range(len(first)):
                watcher.feed(first[at : at + 1])
            self.assertEqual(watcher.framing, framing)

    def test_an_array_where_events_were_asked_for(self) -> None:
        """It is relayed as what it is, and cut at its elements."""
        data = stream("gemini", "array.json")
        for pieces in splits(data):
            seen, shown = verdict(_watcher(), pieces)
            self.assertEqual((seen, shown), (_GOLDEN["array.json"], data))

    def test_no_reason_is_no_end(self) -> None:
        """The default of the enumeration says that nothing was said."""
        chunk = b'data: {"candidates":[{"content":%s,"finishReason":"%s"}]}\n\n'
        watcher = _watcher()
        watcher.feed(chunk % (b'{"parts":[{"text":"x"}]}', b"FINISH_REASON_UNSPECIFIED"))
        self.assertEqual((watcher.started, watcher.complete, watcher.text), (True, False, "x"))
        for content in (b"null", b'"x"', b"[]", b'{"parts":"x"}'):
            watcher = _watcher()
            watcher.feed(chunk % (content, b"STOP"))
            self.assertEqual((watcher.complete, watcher.text), (True, ""), content)

    def test_empty_errors_are_none(self) -> None:
        """A field that says nothing is no error."""
        for empty in (b'""', b"{}", b"false", b"0", b"[]", b"null"):
            watcher = _watcher()
            watcher.feed(b'data: {"candidates":[{"finishReason":"STOP"}],"error":%s}\n\n' % empty)
            self.assertEqual((watcher.failure, watcher.complete), (None, True), empty)
            whole = _whole(json.loads(b'{"error":%s}' % empty))
            self.assertEqual((whole.failure, whole.complete), (None, True), empty)

    def test_array_has_no_error_frame(self) -> None:
        """Into an array no error can be put; into server-sent events it can."""
        error = UpstreamError("Cut.", fault=Fault.TRUNCATED, status=502)
        self.assertIsNone(_watcher("array.json").error_frame(error))
        frame = _watcher("plain.sse").error_frame(error)
        assert frame is not None
        told = {"code": 502, "message": "Cut.", "status": "UNAVAILABLE", "details": []}
        self.assertEqual(json.loads(frame.removeprefix(b"data: ")), {"error": told})
        self.assertTrue(frame.endswith(b"}\n\n"))

    def test_errors(self) -> None:
        """Status names and codes say whose fault it is."""
        for error, fault, status in (
            (b'{"code":503,"status":"UNAVAILABLE"}', Fault.CAPACITY, 503),
            (b'{"code":400,"status":"INVALID_ARGUMENT"}', Fault.CALLER, 400),
            (b'{"code":403,"status":"PERMISSION_DENIED"}', Fault.PERMISSION, 403),
            (b'{"code":401}', Fault.CREDENTIAL, 401),
            (b'{"code":500,"status":"INTERNAL"}', Fault.SERVER, 500),
            (b'{"code":13}', Fault.SERVER, 502),
            (b'"boom"', Fault.SERVER, 502),
            (
                b'{"code":400,"message":"The input token count (9) exceeds the maximum"}',
                Fault.CONTEXT,
                400,
            ),
        ):
            watcher = _watcher()
            record = b'data: {"error":' + error + b"}\r\n\r\n"
            self.assertEqual(watcher.feed(record + b"data: {}\r\n\r\n"), record)
            self.assertEqual((watcher.failure.fault, watcher.failure.status), (fault, status))

    def test_streams_are_real(self) -> None:
        """The samples are what the official SDK reads."""
        for chunk in json.loads(stream("gemini", "array.json")):
            GenerateContentResponse.model_validate(chunk)


class WholeTests(SynchronousTestCase):
    """What is seen in an answer that is no stream."""

    def test_response(self) -> None:
        """Usage and text are found."""
        answer = json.loads(stream("gemini", "array.json"))[3]
        answer["candidates"][0]["content"]["parts"] = [{"text": "hi"}]
        watcher = _whole(answer)
        self.assertEqual((watcher.complete, watcher.text, watcher.usage), (True, "hi", _USAGE))

    def test_count(self) -> None:
        """A count of tokens is an answer, and uses none."""
        watcher = _whole({"totalTokens": 6}, "countTokens")
        self.assertEqual((watcher.started, watcher.complete, watcher.usage), (True, True, None))

    def test_error_in_a_200(self) -> None:
        """An error object is an error, also as the one element of an array."""
        error = {"error": {"code": 429, "message": "m"}}
        for answer in (error, [error]):
            watcher = _whole(answer)
            self.assertEqual((watcher.failure.fault, watcher.complete), (Fault.RATE_LIMIT, False))
        watcher = _whole([{"candidates": []}])
        self.assertEqual((watcher.failure, watcher.complete), (None, False))


class RenderTests(SynchronousTestCase):
    """Errors and model lists."""

    def test_errors(self) -> None:
        """Code and status name agree with the HTTP status."""
        for status, name in (
            (400, "INVALID_ARGUMENT"),
            (401, "UNAUTHENTICATED"),
            (403, "PERMISSION_DENIED"),
            (404, "NOT_FOUND"),
            (413, "INVALID_ARGUMENT"),
            (429, "RESOURCE_EXHAUSTED"),
            (500, "INTERNAL"),
            (503, "UNAVAILABLE"),
            (504, "DEADLINE_EXCEEDED"),
        ):
            error = UpstreamError("No.", fault=Fault.SERVER, status=status)
            wanted = {"code": status, "message": "No.", "status": name, "details": []}
            answered, body = GEMINI.render_error(error)
            self.assertEqual((answered, json.loads(body)), (status, {"error": wanted}))

    def test_models(self) -> None:
        """Own fields come back; a foreign model gets what the SDK asks for."""
        item = {"name": "models/a", "displayName": "A", "inputTokenLimit": 5, "x": [1]}
        (model,) = GEMINI.read_models(json.dumps({"models": [item, 5]}).encode())
        self.assertEqual((model.id, model.display_name, model.input_limit), ("a", "A", 5))
        other = ModelInfo(id="b/c", output_limit=7)
        listed = json.loads(GEMINI.render_models([model, other]))["models"]
        self.assertEqual(listed[0], item)
        self.assertEqual((listed[1]["name"], listed[1]["outputTokenLimit"]), ("models/b/c", 7))
        SDKModel.model_validate(
            {"name": listed[1]["name"], "displayName": listed[1]["displayName"]}
        )
        self.assertEqual(json.loads(GEMINI.render_model(other)), listed[1])

    def test_no_model_list(self) -> None:
        """What is no list is told as such; an empty object is an empty list."""
        self.assertEqual(list(GEMINI.read_models(b"{}")), [])
        for body in (b"", b"[]", b'{"data":[]}'):
            self.assertRaises(ValueError, GEMINI.read_models, body)
