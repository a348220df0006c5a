"""Server-sent events come out whole, wherever the network cut them."""

from __future__ import annotations

import time

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.framing.sse import SSEFramer
from tests.streams import splits


def _cut(pieces: list[bytes]) -> tuple[list[tuple[bytes, bytes, bool]], bytes, bytes]:
    framer = SSEFramer()
    records, shown = [], b""
    for piece in pieces:
        records += [(r.event, r.data, r.comment) for r in framer.feed(piece)]
        shown += framer.whole
    return records, shown, framer.rest


class RecordTests(SynchronousTestCase):
    """What counts as a record."""

    def test_event_and_data(self) -> None:
        """A record has the name and the data that the sender gave it."""
        records, _, _ = _cut([b'event: ping\ndata: {"a":1}\n\n'])
        self.assertEqual(records, [(b"ping", b'{"a":1}', False)])

    def test_space_after_colon_is_optional(self) -> None:
        """Just one space after the colon is taken off."""
        records, _, _ = _cut([b"data:a\n\ndata: b\n\ndata:  c\n\nevent:d\ndata:e\n\n"])
        self.assertEqual([r[1] for r in records], [b"a", b"b", b" c", b"e"])
        self.assertEqual(records[3][0], b"d")

    def test_data_lines_are_joined(self) -> None:
        """Several data lines are one value with line feeds in it."""
        records, _, _ = _cut([b"data: a\r\ndata\r\ndata: b\r\nid: 3\r\n\r\n"])
        self.assertEqual(records, [(b"", b"a\n\nb", False)])

    def test_comments_are_told_apart(self) -> None:
        """A keep-alive is no event."""
        records, _, _ = _cut([b": keep-alive\n\nretry: 10\n\nevent: x\n\n"])
        self.assertEqual([r[2] for r in records], [True, True, False])

    def test_all_line_ends(self) -> None:
        """CR, LF and CRLF end lines, in any mixture; U+0085 and U+2028 do not."""
        text = "x\x85\u2028y".encode()
        for end in (b"\n", b"\r", b"\r\n"):
            for blank in (b"\n", b"\r", b"\r\n"):
                if (end, blank) == (b"\r", b"\n"):
                    continue
                records, _, rest = _cut([b"data: " + text + end + blank])
                self.assertEqual((records, rest), ([(b"", text, False)], b""), (end, blank))

    def test_crlf_alone_is_no_blank_line(self) -> None:
        """One CRLF does not end a record."""
        self.assertEqual(_cut([b"data: a\r\n"])[0], [])

    def test_byte_order_mark(self) -> None:
        """A byte order mark before the first record is passed over."""
        for pieces in splits(b"\xef\xbb\xbfdata: a\n\n"):
            records, shown, _ = _cut(pieces)
            self.assertEqual((records, len(shown)), ([(b"", b"a", False)], 12))

    def test_finish_reads_what_is_left(self) -> None:
        """A last record without its blank line can be looked at."""
        framer = SSEFramer()
        framer.feed(b"data: a\n\ndata: b\n")
        last = framer.finish()
        assert last is not None
        self.assertEqual((last.data, framer.rest), (b"b", b"data: b\n"))
        self.assertIsNone(SSEFramer().finish())


class SplitTests(SynchronousTestCase):
    """Where the network cuts is nobody's concern."""

    STREAM = (
        b"\n\nevent: a\r\ndata: 1\r\n\r\n\r\ndata: 2\n\n\n\n: c\r\rdata:3\r\ndata:4\r\n\r\n"
        b"event: b\ndata: 5\n\r\ndata: 6\r\n\ndata: 7\r\n\r"
    )

    def test_every_split_gives_the_same(self) -> None:
        """Records and the bytes let through do not depend on the reads."""
        expected = _cut([self.STREAM])
        self.assertEqual([r[1] for r in expected[0]], [b"1", b"2", b"", b"3\n4", b"5", b"6", b"7"])
        self.assertEqual(expected[1:], (self.STREAM, b""))
        for pieces in splits(self.STREAM):
            self.assertEqual(_cut(pieces), expected)

    @given(
        st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"data: x", b":", b"data", b"\xef"])),
        st.data(),
    )
    @settings(max_examples=150, deadline=None)
    def test_any_bytes_any_split(self, tokens: list[bytes], data: st.DataObject) -> None:
        """Also for hostile mixtures: same records, and no byte lost or moved."""
        text = b"".join(tokens)
        at = data.draw(st.integers(0, len(text)))
        records, shown, rest = _cut([text])
        again, shown_again, rest_again = _cut([text[:at], text[at:]])
        self.assertEqual(again, records)
        self.assertEqual(shown + rest, text)
        self.assertEqual(shown_again + rest_again, text)

    def test_partial_record_is_held(self) -> None:
        """Nothing of a record is let through before all of it is here."""
        framer = SSEFramer()
        framer.feed(b"data: a\n\ndata: b")
        self.assertEqual((framer.whole, framer.rest), (b"data: a\n\n", b"data: b"))
        framer.feed(b"\n")
        self.assertEqual(framer.whole, b"")
        framer.feed(b"\n")
        self.assertEqual((framer.whole, framer.rest), (b"data: b\n\n", b""))


class LimitTests(SynchronousTestCase):
    """Memory is bounded, and so is time."""

    def test_too_long_a_record(self) -> None:
        """A record over the limit is the upstream's fault, however it arrives."""
        record = b"data: " + b"x" * 100 + b"\n\n"
        for pieces in ([record], [record[:60], record[60:]], [record[:-1]]):
            framer = SSEFramer(limit=50)
            error = self.assertRaises(UpstreamError, _feed_all, framer, pieces)
            self.assertEqual((error.fault, error.status), (Fault.SERVER, 502))

    def test_limit_is_for_one_record(self) -> None:
        """Many small records in one read are not one long one."""
        framer = SSEFramer(limit=20)
        self.assertEqual(len(framer.feed(b"data: x\n\n" * 100)), 100)

    def test_long_record_in_small_pieces(self) -> None:
        """8 MB in 1 KB pieces takes no more than its share of time."""
        framer = SSEFramer()
        began = time.process_time()
        for _ in range(8192):
            framer.feed(b"x" * 1024)
        self.assertEqual(len(framer.feed(b"\n\n")), 1)
        self.assertLess(time.process_time() - began, 2.0)


def _feed_all(framer: SSEFramer, pieces: list[bytes]) -> None:
    for piece in pieces:
        framer.feed(piece)
