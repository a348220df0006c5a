"""
Code Assist without a network: requests in their envelope, answers out of theirs, and errors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from aiclient2api.dialects.gemini import GEMINI
from aiclient2api.dialects.gemini.request import GeminiRequest
from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.interfaces import IEnvelope
from aiclient2api.providers._code_assist_answer import Opening, unwrapped
from aiclient2api.providers._code_assist_faults import code_assist_error
from aiclient2api.providers._code_assist_request import wrapped, wrapped_count
from aiclient2api.testing import CODE_ASSIST_FAULTS, CodeAssistAnswer, Refusal
from aiclient2api.testing.code_assist_answers import VALIDATION_LINK, google_error
from aiclient2api.values import Route


def gemini(body: bytes, action: str = "generate", model: str = "gemini-2.5-pro") -> GeminiRequest:
    """Return a request as the dialect reads it."""
    return GEMINI.parse(body=body, route=Route(action=action, model=model))


def sent(body: bytes, project: str = "p-1") -> bytes:
    """Return what stands under ``request`` when *body* is sent."""
    whole = wrapped(gemini(body), project)
    front = b'{"model":"gemini-2.5-pro","project":"p-1","request":'
    assert whole.startswith(front), whole
    return whole[len(front) : -1]


class RequestTests(SynchronousTestCase):
    """The envelope of a request."""

    def test_all_else_stays(self) -> None:
        """Spacing, duplicates, odd numbers and half characters are sent as they were written."""
        body = b'{ "contents" : [ {"role":"user", "parts":[{"text":"\\ud83d"}]} ],"x":1e400,"x":1}'
        self.assertEqual(sent(body), body)

    def test_model(self) -> None:
        """The model stands outside only, and without a prefix."""
        content = b'"contents":[{"role":"user","parts":[]}]'
        for before, after in (
            (b'{"model":"a",%s}', b"{%s}"),
            (b'{%s,"model":"a"}', b"{%s}"),
            (b'{"model":"a",%s,"model":"b"}', b"{%s}"),
        ):
            self.assertEqual(sent(before % content), after % content)
        whole = wrapped(gemini(b"{%s}" % content, model="models/m"), "")
        self.assertEqual(whole, b'{"model":"m","request":{%s}}' % content)

    def test_names_in_camel_case(self) -> None:
        """Fields directly inside are renamed, and nothing deeper is."""
        for snake, camel in (
            (b"system_instruction", b"systemInstruction"),
            (b"generation_config", b"generationConfig"),
            (b"safety_settings", b"safetySettings"),
            (b"tool_config", b"toolConfig"),
            (b"cached_content", b"cachedContent"),
        ):
            body = b'{"contents":[],"model":"x","%s" : {"top_p":1}}'
            self.assertEqual(sent(body % snake), b'{"contents":[],"%s":{"top_p":1}}' % camel)

    def test_roles(self) -> None:
        """Who does not say who speaks is the user."""
        for before, after in (
            (b'[{"parts":[]}]', b'[{"parts":[],"role":"user"}]'),
            (b"[{}]", b'[{"role":"user"}]'),
            (b'[{"role":null},{"role":"model"}]', b'[{"role":"user"},{"role":"model"}]'),
            (b'[{"role":""}]', b'[{"role":"user"}]'),
            (b'{"parts":[]}', b'[{"parts":[],"role":"user"}]'),
        ):
            self.assertEqual(sent(b'{"contents":%s}' % before), b'{"contents":%s}' % after)

    def count(self, body: bytes) -> Any:
        """Return what is counted of *body*."""
        told = json.loads(wrapped_count(gemini(body, "count_tokens")))
        self.assertEqual(list(told), ["request"])
        self.assertEqual(list(told["request"]), ["model", "contents"])
        self.assertEqual(told["request"]["model"], "models/gemini-2.5-pro")
        return told["request"]["contents"]

    def test_count(self) -> None:
        """A count sends a model and contents, bare or out of the request it is about."""
        user = {"role": "user", "parts": [{"text": "x"}]}
        for body in (
            {"contents": [user]},
            {"contents": [user], "safetySettings": [], "model": "y"},
            {"generateContentRequest": {"model": "models/y", "contents": [user]}},
            {"contents": {"parts": [{"text": "x"}]}},
        ):
            (found,) = self.count(json.dumps(body).encode())
            self.assertEqual(found, user)
        self.assertEqual(self.count(b"{}"), [])

    def test_count_of_what_has_no_place(self) -> None:
        """A system instruction and tools are counted as what the user says."""
        body = {
            "systemInstruction": {"parts": [{"text": "be brief"}]},
            "contents": [{"role": "user", "parts": [{"text": "x"}]}],
            "tools": [{"functionDeclarations": [{"name": "f"}]}],
        }
        for each in (body, {"generateContentRequest": body}):
            first, _, last = self.count(json.dumps(each).encode())
            self.assertEqual(first, {"role": "user", "parts": [{"text": "be brief"}]})
            self.assertIn("functionDeclarations", last["parts"][0]["text"])

    def test_count_of_thoughts(self) -> None:
        """A thought is counted as a text, and other parts lose the flag."""
        parts = [
            {"text": "a", "thought": True},
            {"thought": True, "thoughtSignature": "s"},
            {"functionCall": {"name": "f"}, "thought": True},
            {"thought": True, "text": "b"},
        ]
        (content,) = self.count(json.dumps({"contents": [{"parts": parts}]}).encode())
        self.assertEqual(
            content["parts"],
            [
                {"text": "a"},
                {"text": "", "thoughtSignature": "s"},
                {"functionCall": {"name": "f"}},
                {"text": "b"},
            ],
        )
        self.assertEqual(content["role"], "user")


def opened(pieces: Sequence[bytes], framing: str = "sse") -> bytes:
    """Return what a client gets of *pieces*."""
    opening = Opening(framing=framing)
    return b"".join([*map(opening.open, pieces), opening.end()])


PARTS = (
    {"text": "Hm\u2028\u00fc", "thought": True, "thoughtSignature": "c2ln"},
    {"text": 'line\nand "quote"'},
    {"functionCall": {"name": "f", "args": {"a": [1, {}]}}},
)


class AnswerTests(SynchronousTestCase):
    """The envelope of an answer."""

    def test_interface(self) -> None:
        """It is an envelope, and says what comes out."""
        for framing, kind in (
            ("sse", b"text/event-stream"),
            ("json_array", b"application/json"),
            ("whole", b"application/json"),
        ):
            opening = Opening(framing=framing)
            verifyObject(IEnvelope, opening)
            self.assertEqual(opening.content_type, kind)

    def test_bytes_stay(self) -> None:
        """A response is passed on as the bytes it was sent in, all its fields among them."""
        response = (
            b'{ "candidates":[],"modelVersion" : "m","createTime":"t","n":1e400,"s":"\\ud83d" }'
        )
        for record in (
            b'{"response":%s,"traceId":"1"}',
            b'{"traceId":"1", "response" : %s }',
            b'\xef\xbb\xbf{"response":%s}',
            b'[{"response":%s}]',
        ):
            self.assertEqual(unwrapped(record % response), response)

    def test_odd_records(self) -> None:
        """Errors go on, bare responses stay, and what tells a client nothing is left out."""
        error = b'{"error":{"code":429}}'
        for record, told in (
            (error, error),
            (b"[" + error + b"]", error),
            (b'{"response":{},"error":{"code":1}}', b'{"response":{},"error":{"code":1}}'),
            (b'{"response":{},"error":null}', b"{}"),
            (b'{"candidates":[]}', b'{"candidates":[]}'),
            (b'{"response":null,"traceId":"x"}', None),
            (b'{"remainingCredits":[]}', None),
            (b"[DONE]", None),
            (b"", None),
        ):
            self.assertEqual(unwrapped(record), told)
        self.assertEqual(unwrapped(b'{"response":{"a":"\x01"}}'), b'{"a":"\\u0001"}')

    def test_every_split(self) -> None:
        """Wherever the bytes are cut, the client's are the same; whatever the lines end with."""
        for answer in (
            CodeAssistAnswer(PARTS),
            CodeAssistAnswer(PARTS, line_end=b"\n"),
            CodeAssistAnswer(PARTS, line_end=b"\r", last_blank=False),
            CodeAssistAnswer(PARTS, lines=2, last_blank=False),
        ):
            data = b": hello\r\n\r\n" + b"".join(answer.records())
            for framing in ("sse", "json_array"):
                whole = opened([data], framing)
                self.assertEqual(self.read(whole, framing), answer.responses())
                self.assertEqual(
                    opened([data[i : i + 1] for i in range(len(data))], framing), whole
                )
                for cut in range(1, len(data)):
                    self.assertEqual(opened([data[:cut], data[cut:]], framing), whole)

    def read(self, data: bytes, framing: str) -> Any:
        """Read a client's bytes as a client does."""
        if framing == "json_array":
            return json.loads(data)
        records = data.split(b"\r\n\r\n")[:-1]
        joined = [b"\n".join(line[6:] for line in each.split(b"\r\n")) for each in records]
        return [json.loads(each) for each in joined]

    def test_whole(self) -> None:
        """A whole answer is its response, at the end; so in any split."""
        data = b'{"response":{"candidates":[1]},"traceId":"x"}\n'
        for cut in range(len(data)):
            opening = Opening(framing="whole")
            self.assertEqual(opening.open(data[:cut]) + opening.open(data[cut:]), b"")
            self.assertEqual(opening.end(), b'{"candidates":[1]}')

    def test_other_framings(self) -> None:
        """A stream that comes as an array or as one document is a stream nevertheless."""
        one = b'{"response":{"candidates":[1]}}'
        for data in (b"\n[" + one + b",\n" + one + b"]", b"[" + one + b"," + one + b"] "):
            self.assertEqual(opened([data[:5], data[5:]]), b'data: {"candidates":[1]}\r\n\r\n' * 2)
            self.assertEqual(len(json.loads(opened([data], "json_array"))), 2)
        self.assertEqual(opened([one]), b'data: {"candidates":[1]}\r\n\r\n')
        error = b'[{"error":{"code":429}}]'
        self.assertEqual(opened([error]), b'data: {"error":{"code":429}}\r\n\r\n')
        self.assertEqual(opened([error], "whole"), b'{"error":{"code":429}}')

    def test_cut(self) -> None:
        """What is not whole is dropped, and an array that was not closed stays open."""
        data = b"".join(CodeAssistAnswer(PARTS).records())
        cut = data[:-9]
        self.assertEqual(opened([cut]).count(b"data: "), 2)
        self.assertEqual(opened([data], "json_array")[-1:], b"]")
        self.assertEqual(opened([b'[{"response":{"candidates":[]}},'], "json_array")[-1:], b"}")
        self.assertEqual(opened([b'{"response":{"candida'], "whole"), b"")
        self.assertEqual(opened([]), b"")

    def test_damaged(self) -> None:
        """A record that is no JSON in the middle of a stream is an error, not a gap."""
        for framing in ("sse", "json_array"):
            for damage in (b"data: {\r\n\r\n", b"data: 3\r\n\r\n", b'data: {"response":}\r\n\r\n'):
                opening = Opening(framing=framing)
                opening.open(b'data: {"response":{"candidates":[]}}\r\n\r\n')
                error = self.assertRaises(UpstreamError, opening.open, damage)
                self.assertEqual((error.code, error.status), ("garbled_record", 502))

    def test_no_answer(self) -> None:
        """A page of HTML goes on to who can say what it is."""
        for framing in ("sse", "json_array", "whole"):
            self.assertEqual(opened([b"\n<", b"html>"], framing), b"\n<html>")

    def test_limit(self) -> None:
        """An answer that does not end is given up."""
        opening = Opening(framing="whole", limit=10)
        self.assertRaises(UpstreamError, opening.open, b'{"response":1')


F = Fault
TABLE: Mapping[str, tuple[Fault, float | None, bool | None]] = {
    "not found": (F.NOT_FOUND, None, True),
    "validation": (F.PERMISSION, None, None),
    "validation, bare": (F.PERMISSION, None, None),
    "limit 0": (F.QUOTA, None, None),
    "limit 0, 499": (F.QUOTA, None, None),
    "limit 0, 503": (F.QUOTA, None, None),
    "prose": (F.RATE_LIMIT, 12.5, None),
    "prose, ms": (F.RATE_LIMIT, 0.9, None),
    "prose, long": (F.QUOTA, 301, None),
    "prose, capacity": (F.CAPACITY, None, True),
    "prose, capacity, until": (F.CAPACITY, 43384, True),
    "bare 429": (F.RATE_LIMIT, None, None),
    "bare 499": (F.SERVER, None, None),
    "bare 503": (F.CAPACITY, None, None),
    "per day": (F.QUOTA, None, None),
    "daily": (F.QUOTA, 9, None),
    "model capacity": (F.CAPACITY, None, True),
    "model capacity, 503": (F.CAPACITY, None, True),
    "credits": (F.QUOTA, None, None),
    "rate": (F.RATE_LIMIT, 34.07, None),
    "rate, reset": (F.RATE_LIMIT, 62, True),
    "rate, long": (F.QUOTA, 301, None),
    "rate, endless": (F.QUOTA, None, None),
    "quota": (F.QUOTA, 7200, True),
    "quota, stamp": (F.QUOTA, 7200, None),
    "retry info": (F.RATE_LIMIT, 0.9, None),
    "retry info, long": (F.QUOTA, 400, None),
    "per minute": (F.RATE_LIMIT, 60, None),
    "per minute, limit": (F.RATE_LIMIT, 60, None),
    "other": (F.RATE_LIMIT, None, None),
    "in an array": (F.RATE_LIMIT, 7, None),
    "default project": (F.PERMISSION, None, None),
    "private API": (F.PERMISSION, None, None),
    "no permission": (F.PERMISSION, None, None),
    "banned": (F.PERMISSION, None, None),
    "unauthenticated": (F.CREDENTIAL, None, None),
    "internal": (F.SERVER, None, None),
    "html": (F.SERVER, None, None),
}


def told(refusal: Refusal) -> UpstreamError:
    """Return what a refusal is taken for."""
    body = refusal.text or json.dumps([refusal.body] if refusal.in_array else refusal.body).encode()
    return code_assist_error(
        provider="g", status=refusal.status, headers=refusal.headers, body=body
    )


class FaultTests(SynchronousTestCase):
    """What errors mean."""

    def test_table(self) -> None:
        """Each row: whose fault it is, how long to wait, and whether only a model is meant."""
        self.assertEqual(set(TABLE), set(CODE_ASSIST_FAULTS))
        for name, expected in TABLE.items():
            error = told(CODE_ASSIST_FAULTS[name])
            found = (error.fault, error.retry_after, error.of_model or None)
            self.assertEqual((name, found), (name, expected))
            self.assertEqual(error.status, CODE_ASSIST_FAULTS[name].status)
            self.assertEqual(error.reply is None, name == "html")

    def test_validation(self) -> None:
        """The link that Google wants opened is shown; a link that is none is not."""
        for name in ("validation", "validation, bare"):
            error = told(CODE_ASSIST_FAULTS[name])
            self.assertIn(VALIDATION_LINK, error.message)
            self.assertEqual(error.code, "validation_required")
        info = {"reason": "VALIDATION_REQUIRED", "domain": "cloudcode-pa.googleapis.com"}
        odd = {**info, "metadata": {"validation_link": "javascript:\x1b[0m"}}
        error = told(Refusal(403, google_error(403, "x", odd)))
        self.assertNotIn("javascript", error.message)
        other = {**info, "domain": "example.com"}
        self.assertIsNone(told(Refusal(403, google_error(403, "x", other))).code)

    def test_projects(self) -> None:
        """A project that may not be used points to its setting."""
        for name in ("default project", "private API", "no permission"):
            self.assertIn("project_id", told(CODE_ASSIST_FAULTS[name]).message)
        self.assertNotIn("project_id", told(CODE_ASSIST_FAULTS["banned"]).message)

    def test_nonsense(self) -> None:
        """An error of any form is an error and nothing else."""
        odd: tuple[Any, ...] = (None, 3, [], {"details": 3}, {"details": [3, {"metadata": 3}]})
        for error in (*odd, {"details": [{"metadata": 3, "reason": 3}]}):
            for status in (403, 429, 503):
                self.assertEqual(told(Refusal(status, {"error": error})).status, status)
        infinite = [{"reason": "x", "metadata": {"quotaResetTimeStamp": "never"}}]
        self.assertIsNone(told(Refusal(429, google_error(429, "x", *infinite))).retry_after)
