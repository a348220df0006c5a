"""JSON bodies are checked, and edited in place, without being decoded."""

from __future__ import annotations

import json
import time
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.errors import InvalidRequest
from aiclient2api.framing import json_text
from aiclient2api.framing.json_text import check, quote, read, splice, text_of, write

_SPACES = st.text(alphabet=" \t\r\n", max_size=2)
_SCALARS = st.sampled_from(
    ["1e400", "-0.0", "12345678901234567890123", "true", "false", "null", "[]", "{}", '""']
)
_STRINGS = st.text(
    alphabet=st.sampled_from('ab"\\/\u2028é😀\n[]{},:\x00') | st.characters(codec="utf-8"),
    max_size=6,
).flatmap(lambda text: st.booleans().map(lambda ascii: json.dumps(text, ensure_ascii=ascii)))
_RAW_STRINGS = _STRINGS | st.sampled_from(['"\\ud83d"', '"\\ude00x"', '"\\\\ud83d"', '"a"'])


@st.composite
def _values(draw: st.DrawFn, depth: int = 0) -> str:
    kinds = [_SCALARS, _RAW_STRINGS]
    if depth < 3:
        kinds += [_arrays(depth + 1), _objects(depth + 1).map(lambda made: made[0])]
    return draw(st.one_of(kinds))


@st.composite
def _arrays(draw: st.DrawFn, depth: int) -> str:
    items = draw(st.lists(_values(depth), max_size=3))
    space = draw(_SPACES)
    return f"[{space}" + f"{space},{space}".join(items) + f"{space}]"


@st.composite
def _objects(draw: st.DrawFn, depth: int) -> tuple[str, list[tuple[str, str]]]:
    pairs = draw(st.lists(st.tuples(_RAW_STRINGS, _values(depth)), max_size=4))
    space = draw(_SPACES)
    inner = f"{space},{space}".join(f"{key}{space}:{space}{value}" for key, value in pairs)
    return f"{{{space}{inner}{space}}}", pairs


class CheckTests(SynchronousTestCase):
    """What is let in."""

    def refused(self, body: bytes) -> InvalidRequest:
        """Return the error *body* is refused with."""
        error: InvalidRequest = self.assertRaises(InvalidRequest, check, body)
        return error

    def test_no_body(self) -> None:
        """No body, or a blank one, is told as such."""
        for body in (b"", b" \r\n"):
            self.assertEqual(self.refused(body).code, "empty_body")

    def test_bad_json_names_the_byte(self) -> None:
        """The message says where the JSON goes wrong."""
        self.assertIn("byte 6", self.refused(b'{"a": x}').message)
        self.assertIn("byte 7", self.refused(b'{"a":1,}').message)
        self.assertIn("byte 5", self.refused(b'{"a":').message)
        self.assertIn("byte 0", self.refused(b"\xef\xbb\xbf{}").message)
        for body in (b"{}x", b"nope", b'{"a":NaN}', b"{'a':1}", b'{"a\n":1}', b'{"a":"\\x"}'):
            self.assertEqual(self.refused(body).code, "invalid_json", body)

    def test_surrogates_do_not_shift_the_place(self) -> None:
        """The place is right also where lone surrogates stand before it."""
        body = b'{"a":"\\ud83d", "b": x}'
        self.assertIn(f"byte {body.index(b'x')}", self.refused(body).message)

    def test_not_an_object(self) -> None:
        """JSON of another kind is refused by its kind."""
        for body in (b"[]", b'"a"', b"1", b" null "):
            self.assertIn("no object", self.refused(body).message)

    def test_bad_utf8_names_the_byte(self) -> None:
        """Bytes that are no UTF-8 are refused, wherever they stand."""
        self.assertIn("byte 6", self.refused(b'{"a":"\xff"}').message)
        body = b'{"a":"' + "é".encode() * 40_000 + b"\xc3" + b'"}'
        self.assertIn(f"byte {body.index(bytes([0xC3, 0x22]))}", self.refused(body).message)
        self.assertEqual(self.refused(b'{"\xed\xa0\xbd":1}').code, "invalid_utf8")

    def test_strange_but_valid(self) -> None:
        """1e400, lone surrogates and duplicate keys are the upstream's affair."""
        for body in (
            b'{"a":1e400,"a":-0.0,"b":' + b"9" * 5000 + b"}",
            b'{"\\ud83d":"\\ud83d","c":["\\\\ud83d","\\ude00\\ud83d\\ude00"]}',
            b' {"a":"\xe2\x80\xa8\x7f"}\n',
        ):
            check(body)

    def test_nul_is_not_masked_into_validity(self) -> None:
        """A raw NUL stays an error beside a lone surrogate."""
        self.refused(b'{"a":"\0\0\\ud83d"}')

    def test_depth(self) -> None:
        """256 levels are taken, 257 are not; brackets in strings do not count."""
        check(b'{"a":' + b"[" * 255 + b"]" * 255 + b"}")
        error = self.refused(b'{"a":' + b"[" * 256 + b"]" * 256 + b"}")
        self.assertEqual(error.code, "nested_too_deep")
        check(b'{"a":"' + b"[{" * 1000 + b'", "b\\\\":"\\"' + b"[" * 500 + b'"}')
        check(b'{"a":[' + b"[[]]," * 1000 + b"1]}")
        self.refused(b'{"a":["\\\\",' + b"[" * 300 + b"]" * 300 + b"]}")

    def test_hostile_depth_is_cheap(self) -> None:
        """A hundred thousand brackets cost nothing and hurt nobody."""
        for body in (b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 100_000, b"[" * 4_000_000):
            began = time.process_time()
            self.assertEqual(self.refused(body).code, "nested_too_deep")
            self.assertLess(time.process_time() - began, 0.2)

    def test_hostile_bodies_are_bearable(self) -> None:
        """4 MB made to be slow are read in the blink of an eye."""
        size = 4 << 20
        for piece in (b"[],", b'"",', b'["["],', b"[" * 250 + b"]" * 250 + b",", b'"\\"\\\\",'):
            body = b'{"a":["\\ud83d",' + piece * (size // len(piece)) + b'1],"b":2}'
            began = time.process_time()
            text = check(body)
            self.assertEqual([m.key for m in text.members(0)], ["a", "b"])
            self.assertLess(time.process_time() - began, 1.5, piece)

    @given(_values())
    @settings(max_examples=200, deadline=None)
    def test_depth_is_exact(self, value: str) -> None:
        """The quick scan sees the same depth as a decoder does."""
        depth = _depth(json.loads(value, object_pairs_hook=lambda pairs: [v for _, v in pairs]))
        body = value.encode()
        self.assertFalse(json_text.deeper_than(body, depth))
        if depth:
            self.assertTrue(json_text.deeper_than(body, depth - 1))


class PlaceTests(SynchronousTestCase):
    """Where values stand."""

    @given(_objects(0))
    @settings(max_examples=300, deadline=None)
    def test_members_are_exact(self, made: tuple[str, list[tuple[str, str]]]) -> None:
        """Every member is found, duplicates too, with the bytes as written."""
        source, pairs = made
        text = check(source.encode())
        members = text.members(0)
        self.assertEqual(
            [(m.key, text.raw[m.start : m.end].decode()) for m in members],
            [(json.loads(key), value) for key, value in pairs],
        )
        for member, (key, _) in zip(members, pairs, strict=True):
            self.assertEqual(text.raw[member.key_start :][: len(key.encode())], key.encode())

    @given(_arrays(0))
    @settings(max_examples=200, deadline=None)
    def test_elements_are_exact(self, source: str) -> None:
        """Every element is found, with the bytes as written."""
        text = check(b'{"a":' + source.encode() + b"}")
        elements = [text.raw[start:end] for start, end in text.elements(5)]
        self.assertEqual([json.loads(e) for e in elements], json.loads(source))

    @given(_objects(0), st.data())
    @settings(max_examples=200, deadline=None)
    def test_splice_leaves_the_rest(
        self, made: tuple[str, list[tuple[str, str]]], data: st.DataObject
    ) -> None:
        """Only the edited ranges change, and what comes out is as sound as before."""
        text = check(made[0].encode())
        chosen = [m for m in text.members(0) if data.draw(st.booleans())]
        edits = [(m.start, m.end, b'"\\ud83d new"') for m in chosen]
        edited = text.spliced(edits)
        left, at = b"", 0
        for start, end, _ in edits:
            left += text.raw[at:start]
            at = end
        self.assertEqual(edited.raw.replace(b'"\\ud83d new"', b""), left + text.raw[at:])
        self.assertEqual(edited, check(edited.raw))

    def test_insertions_keep_their_order(self) -> None:
        """Two insertions at one place come out in the order they were given."""
        self.assertEqual(splice(b"ab", [(1, 1, b"1"), (1, 2, b""), (1, 1, b"2")]), b"a12")

    def test_too_many_items(self) -> None:
        """An array of a hundred thousand and one messages is refused."""
        text = check(b'{"a":[' + b"0," * json_text.MAX_ITEMS + b"0]}")
        error = self.assertRaises(InvalidRequest, text.elements, 5)
        self.assertEqual(error.code, "too_many_items")

    def test_without_the_decoders_complaint(self) -> None:
        """Ends of values are found also if msgspec should word its errors otherwise."""
        text = b'{"a":[{"b":"]"}, "\\"]"] , "c":1}'
        self.assertEqual(json_text._scanned_end(text, 5), text.index(b" , "))

    def test_the_decoder_complains_as_expected(self) -> None:
        """The quick way is the way taken: msgspec still tells where a value ends."""
        self.patch(json_text, "_scanned_end", lambda *_: self.fail("slow way taken"))
        self.assertEqual([m.end for m in check(b'{"a":[1] \n,"b":{}}').members(0)], [8, 17])


class TextTests(SynchronousTestCase):
    """Strings in and out."""

    @given(st.text(alphabet=st.characters(exclude_categories=())))
    @settings(max_examples=300, deadline=None)
    def test_quote_and_back(self, text: str) -> None:
        """Any text survives, lone surrogates too, and the bytes are UTF-8."""
        token = quote(text)
        token.decode("utf-8")
        whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
        self.assertEqual(text_of(token), whole)

    def test_quote_is_not_ascii(self) -> None:
        """Letters stay letters."""
        self.assertEqual(quote('é😀"\n'), '"é😀\\"\\n"'.encode())

    def test_read_takes_anything(self) -> None:
        """Reading for a log never raises."""
        self.assertEqual(read(b'["\\ud83d"]'), ["\ud83d"])
        self.assertEqual(read(b"[1e400,NaN,-Infinity,%s]" % (b"9" * 5000)), [None] * 4)
        self.assertEqual(read(b'\xef\xbb\xbf{"a":"b\tc\xff"}'), {"a": "b\tc\ufffd"})
        self.assertIsNone(read(b"["))
        self.assertIsNone(read(b"[" * 100_000))

    def test_write_is_utf8(self) -> None:
        """Whatever we send can be decoded by whoever gets it."""
        self.assertEqual(json.loads(write({"a": "x\ud83dé"}).decode("utf-8")), {"a": "x\ufffdé"})
        self.assertEqual(json.loads(write([10**400])), [10**400])

    def test_mask_keeps_the_length(self) -> None:
        """Masked text reads alike but for the surrogates, and is as long."""
        raw = rb'"\\ud83d \\\ud83d \ud83d\ude00 \ude00 \uD83D\ud83d\uDE00"'
        masked = json_text.masked(raw)
        self.assertEqual(len(masked), len(raw))
        self.assertEqual(json.loads(masked), "\\ud83d \\\ufffd 😀 \ufffd \ufffd😀")


def _depth(value: Any) -> int:
    if isinstance(value, list):
        return 1 + max(map(_depth, value), default=0)
    return 0
