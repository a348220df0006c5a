"""What all four kinds of request refuse, in words that help, and how they are edited."""

from __future__ import annotations

import json
from collections.abc import Iterator

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from aiclient2api.dialects.all import DIALECTS
from aiclient2api.dialects.anthropic_messages import ANTHROPIC_MESSAGES
from aiclient2api.dialects.gemini import GEMINI
from aiclient2api.dialects.openai_chat import OPENAI_CHAT
from aiclient2api.dialects.openai_responses import OPENAI_RESPONSES
from aiclient2api.dialects.wire_request import Fields, text_in
from aiclient2api.errors import GatewayError, InvalidRequest
from aiclient2api.framing.json_text import Edit, JSONText
from aiclient2api.interfaces import IDialect, IWireRequest
from aiclient2api.values import Route, SystemEdit

_SMALL = {
    OPENAI_CHAT.name: b'{"model":"m","messages":[{"role":"user","content":"hi"}]%s}',
    OPENAI_RESPONSES.name: b'{"model":"m","input":"hi"%s}',
    ANTHROPIC_MESSAGES.name: b'{"model":"m","messages":[{"role":"user","content":"hi"}]%s}',
    GEMINI.name: b'{"contents":[{"role":"user","parts":[{"text":"hi"}]}]%s}',
}
_STRANGE = (
    b', "x" : [1e400, "\\ud83d", {"k":1, "k":2}, '
    + b"[" * 200
    + b"]" * 200
    + b'] ,\r\n"\\u0079":"\\u00e9"'
)


def _body(dialect: IDialect, more: bytes = b"") -> bytes:
    return _SMALL[dialect.name] % more


def _parse(dialect: IDialect, body: bytes) -> IWireRequest:
    return dialect.parse(body=body, route=Route(action="generate", model="m"))


class DialectsTests(SynchronousTestCase):
    """The four dialects as a set."""

    def test_interfaces(self) -> None:
        """Every dialect, and every request it reads, keeps its contract."""
        for dialect in DIALECTS:
            verifyObject(IDialect, dialect)
            request = _parse(dialect, _body(dialect))
            verifyObject(dialect.request_interface, request)
            self.assertEqual(request.dialect, dialect.name)

    def test_who_claims_the_model_list(self) -> None:
        """The headers of a client tell which list of models it wants."""
        shared = [d for d in DIALECTS if any(e.path == "/v1/models" for e in d.endpoints)]
        for headers, wanted in (
            ({b"x-goog-api-key": b"k"}, GEMINI),
            ({b"x-goog-api-client": b"c", b"anthropic-version": b"1"}, GEMINI),
            ({b"anthropic-version": b"2023-06-01"}, ANTHROPIC_MESSAGES),
            ({b"authorization": b"Bearer k"}, OPENAI_CHAT),
        ):
            self.assertIs(next(d for d in shared if d.claims(headers=headers)), wanted)

    def test_examples_are_valid(self) -> None:
        """What we print for people to paste is taken, at a path we answer on."""
        for dialect in DIALECTS:
            path, body = dialect.example(model="a/b:c")
            endpoint = next(
                e
                for e in dialect.endpoints
                if e.action == "generate" and path.startswith(e.path.partition("<")[0])
            )
            rest = path.removeprefix(endpoint.path.partition("<")[0])
            route = dialect.route(endpoint=endpoint, rest=rest, query=(), headers={})
            self.assertEqual(dialect.parse(body=body, route=route).model, "a/b:c")

    def test_texts_are_utf8(self) -> None:
        """An error that quotes half a character is still good JSON in UTF-8."""
        for dialect in DIALECTS:
            status, body = dialect.render_error(GatewayError("no model \ud83d", param="\ud83d"))
            self.assertEqual(status, 500)
            self.assertIn("no model \ufffd", json.dumps(json.loads(body), ensure_ascii=False))


class ParseTests(SynchronousTestCase):
    """What is refused, for all dialects alike."""

    def test_strange_bodies_go_through(self) -> None:
        """Unknown fields, odd numbers, depth, escapes and half characters stay as they are."""
        for dialect in DIALECTS:
            body = _body(dialect, _STRANGE)
            request = _parse(dialect, body)
            self.assertEqual((request.raw, request.to_bytes()), (body, body))
            self.assertEqual(request.amended(model="m").raw, body)

    def test_what_no_dialect_takes(self) -> None:
        """No body, bad JSON, no object and bad UTF-8 are refused by every dialect."""
        for dialect in DIALECTS:
            for body in (b"", b"{", b"[]", b'{"a":"\xff"}', b"[" * 100_000):
                self.assertRaises(InvalidRequest, _parse, dialect, body)

    def test_duplicates_are_refused(self) -> None:
        """A field that decides anything may stand in the body once only."""
        for body, key, dialect in self._duplicates():
            error = self.assertRaises(InvalidRequest, _parse, dialect, body)
            self.assertEqual((error.param, error.code), (key, "duplicate_field"), body)
            self.assertIn(key, error.message)

    def _duplicates(self) -> Iterator[tuple[bytes, str, IDialect]]:
        wanted = {
            OPENAI_CHAT: ("model", "stream", "messages"),
            OPENAI_RESPONSES: ("model", "stream", "input", "instructions"),
            ANTHROPIC_MESSAGES: ("model", "stream", "messages", "system"),
            GEMINI: ("contents", "systemInstruction"),
        }
        for dialect, keys in wanted.items():
            for key in keys:
                first = key.encode()
                # An escaped spelling of the same key is the same key.
                second = b"\\u%04x" % first[0] + first[1:]
                twice = b',"%s":null,"%s":null' % (first, second)
                yield _body(dialect, twice), key, dialect

    def test_wrong_types_name_the_field(self) -> None:
        """The error names the field, what it is and what it should be."""
        for dialect in (OPENAI_CHAT, ANTHROPIC_MESSAGES, OPENAI_RESPONSES):
            for value in (b"5", b"null", b'""', b'" "', b'"a\\n"', b'"\\ud83d"', b"[]"):
                body = _body(dialect).replace(b'"m"', value)
                error = self.assertRaises(InvalidRequest, _parse, dialect, body)
                self.assertEqual(error.param, "model", body)
            error = self.assertRaises(
                InvalidRequest, _parse, dialect, _body(dialect, b',"stream":"yes"')
            )
            self.assertEqual(error.param, "stream")
            self.assertFalse(_parse(dialect, _body(dialect, b',"stream":null')).streaming)
        for dialect in (OPENAI_CHAT, ANTHROPIC_MESSAGES):
            error = self.assertRaises(InvalidRequest, _parse, dialect, b'{"model":"m"}')
            self.assertEqual((error.param, error.code), ("messages", "missing_field"))
            body = b'{"model":"m","messages":[{},5]}'
            error = self.assertRaises(InvalidRequest, _parse, dialect, body)
            self.assertEqual(error.param, "messages[1]")

    def test_odd_shapes_have_no_text(self) -> None:
        """Reading texts for a log never fails, whatever stands there."""
        for dialect in DIALECTS:
            for odd in (b"5", b"null", b"[5,null,[[]]]", b'[{"text":5}]', b'{"a":1}'):
                for key in (b"messages", b"input", b"contents", b"system", b"instructions"):
                    body = _body(dialect).replace(b'"hi"', odd)
                    if key not in body:
                        body = body[:-1] + b',"' + key + b'":' + odd + b"}"
                    try:
                        request = _parse(dialect, body)
                    except InvalidRequest:
                        continue
                    self.assertIsInstance(request.prompt_text() + request.system_text(), str)

    def test_nested_text(self) -> None:
        """Parts, and what stands in a tool's result, are joined line by line."""
        content = ["a", {"text": "b"}, {"content": [{"text": "c"}]}, {"output": "d"}, 5]
        self.assertEqual(text_in(content), "a\nb\nc\nd")


class AmendTests(SynchronousTestCase):
    """Edits, for all dialects alike."""

    def test_only_the_edited_bytes_differ(self) -> None:
        """Model and stream flag change; every other byte is where it was."""
        for dialect in (OPENAI_CHAT, ANTHROPIC_MESSAGES, OPENAI_RESPONSES):
            body = _body(dialect, _STRANGE).replace(b'"m"', b' "p:\\u006d" ')
            request = _parse(dialect, body)
            self.assertEqual(request.model, "p:m")
            amended = request.amended(model="n", streaming=True)
            self.assertEqual((amended.model, amended.framing), ("n", "sse"))
            wanted = body.replace(b'"p:\\u006d"', b'"n"')[:-1] + b',"stream":true}'
            self.assertEqual(amended.raw, wanted)
            again = amended.amended(streaming=False)
            self.assertEqual(again.raw, wanted.replace(b"true}", b"false}"))
            self.assertEqual(request.raw, body)

    def test_no_edit_is_no_change(self) -> None:
        """An edit that says nothing returns the same bytes."""
        for dialect in DIALECTS:
            request = _parse(dialect, _body(dialect, _STRANGE))
            for system in (SystemEdit(), SystemEdit("overwrite"), SystemEdit(text="")):
                self.assertEqual(request.amended(system=system).raw, request.raw)

    def test_inserted_prompt(self) -> None:
        """Where there is no system prompt, both modes make one; replacements apply to it."""
        for dialect in DIALECTS:
            for mode in ("append", "overwrite"):
                request = _parse(dialect, _body(dialect, _STRANGE))
                edit = SystemEdit(mode, "Be kind\ud83d.", (("kind", "brief"), ("", "x")))
                amended = request.amended(system=edit)
                self.assertEqual(amended.system_text(), "Be brief\ud83d.")
                self.assertEqual(amended.prompt_text(), "hi")
                self.assertIn(_STRANGE, amended.raw)
                # It is well-formed and can be edited again.
                twice = amended.amended(system=SystemEdit("append", "More."), model="n")
                self.assertEqual(twice.system_text(), "Be brief\ud83d.\nMore.")


class FieldsTests(SynchronousTestCase):
    """An object within a body, and edits of its members."""

    def edited(self, body: bytes, *edits: Edit) -> bytes:
        """Return *body* after *edits*."""
        return JSONText(body, body).spliced(edits).raw

    def test_members_are_added_behind_the_others(self) -> None:
        """Or between the braces, if there is none."""
        items = [("a", b"1"), ("b", b"[]")]
        for body, wanted in (
            (b'{ "x" : 0 }', b'{ "x" : 0,"a":1,"b":[] }'),
            (b"{ }", b'{"a":1,"b":[] }'),
        ):
            fields = Fields.of(JSONText(body, body))
            self.assertEqual(self.edited(body, fields.behind(items)), wanted)

    def test_a_member_is_taken_out_with_one_comma(self) -> None:
        """The first, one in the middle, the last, the only one."""
        for body, index, wanted in (
            (b'{ "a":1 , "b":2 , "c":3 }', 0, b'{ "b":2 , "c":3 }'),
            (b'{ "a":1 , "b":2 , "c":3 }', 1, b'{ "a":1 , "c":3 }'),
            (b'{ "a":1 , "b":2 , "c":3 }', 2, b'{ "a":1 , "b":2 }'),
            (b'{ "a":1 }', 0, b"{  }"),
        ):
            fields = Fields.of(JSONText(body, body))
            self.assertEqual(self.edited(body, fields.without(fields.members[index])), wanted)
