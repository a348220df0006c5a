"""A streamed JSON array comes out element by element, wherever it was cut."""

from __future__ import annotations

import json
import time

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.framing.json_array import JSONArrayFramer
from tests.streams import splits


def _cut(pieces: list[bytes]) -> tuple[list[bytes], bytes, bool]:
    framer = JSONArrayFramer()
    elements, shown = [], b""
    for piece in pieces:
        elements += [element.data for element in framer.feed(piece)]
        shown += framer.whole
    return elements, shown, framer.closed


class JSONArrayFramerTests(SynchronousTestCase):
    """Elements, boundaries and limits."""

    def test_every_split_gives_the_same(self) -> None:
        """Brackets and quotes in strings do not confuse it, nor does any cut."""
        first, second = b'{"a": "]}\\"\\\\", "b": [[1], {"c": "\\u005d"}]}', b"{ }"
        text = b" [" + first + b",\r\n" + second + b"]\n "
        for pieces in splits(text):
            self.assertEqual(_cut(pieces), ([first, second], text, True))

    def test_partial_element_is_held(self) -> None:
        """Bytes go through up to the end of the last whole element."""
        framer = JSONArrayFramer()
        framer.feed(b'[{"a":1},{"b"')
        self.assertEqual((framer.whole, framer.closed), (b'[{"a":1}', False))
        self.assertEqual([e.data for e in framer.feed(b":2}")], [b'{"b":2}'])
        self.assertEqual(framer.whole, b',{"b":2}')

    @given(st.lists(st.dictionaries(st.text(), st.text() | st.lists(st.text()))), st.data())
    @settings(max_examples=100, deadline=None)
    def test_any_array(self, items: list[object], data: st.DataObject) -> None:
        """Elements are exactly those a JSON decoder sees."""
        text = json.dumps(items, ensure_ascii=data.draw(st.booleans())).encode()
        at = data.draw(st.integers(0, len(text)))
        elements, shown, closed = _cut([text[:at], text[at:]])
        self.assertEqual([json.loads(element) for element in elements], items)
        self.assertEqual((shown, closed), (text, True))

    def test_too_long_an_element(self) -> None:
        """An element over the limit is the upstream's fault."""
        for text in (b'[{"a":"' + b"x" * 60, b'[{"a":"' + b"x" * 60 + b'"}'):
            framer = JSONArrayFramer(limit=50)
            error = self.assertRaises(UpstreamError, framer.feed, text)
            self.assertEqual((error.fault, error.status), (Fault.SERVER, 502))

    def test_long_element_in_small_pieces(self) -> None:
        """8 MB in 1 KB pieces takes no more than its share of time."""
        framer = JSONArrayFramer()
        began = time.process_time()
        framer.feed(b'[{"a":"')
        for _ in range(8192):
            framer.feed(b"\\n" * 512)
        self.assertEqual(len(framer.feed(b'"}')), 1)
        self.assertLess(time.process_time() - began, 2.0)
