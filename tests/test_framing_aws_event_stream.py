"""Amazon's event streams come out message by message, wherever the network cut them."""

from __future__ import annotations

import struct
import time
import tracemalloc
import uuid
import zlib
from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.framing.aws_event_stream import LONGEST, AWSEventStreamFramer, HeaderValue
from tests.streams import splits

TEXT = bytes.fromhex(
    "0000007c0000005c3bddcf780b3a6576656e742d74797065070016617373697374616e74526573706f6e73654576"
    "656e740d3a636f6e74656e742d747970650700106170706c69636174696f6e2f6a736f6e0d3a6d6573736167652d"
    "747970650700056576656e747b22636f6e74656e74223a224869227db02babdc"
)
CALL = bytes.fromhex(
    "000000a6000000521f2085870b3a6576656e742d7479706507000c746f6f6c5573654576656e740d3a636f6e7465"
    "6e742d747970650700106170706c69636174696f6e2f6a736f6e0d3a6d6573736167652d74797065070005657665"
    "6e747b226e616d65223a226c73222c22746f6f6c5573654964223a22746f6f6c7573655f31222c22696e70757422"
    "3a227b5c22705c223a222c2273746f70223a66616c73657deeed9f50"
)
EXCEPTION = bytes.fromhex(
    "0000008800000061de0175f40f3a657863657074696f6e2d747970650700135468726f74746c696e674578636570"
    "74696f6e0d3a636f6e74656e742d747970650700106170706c69636174696f6e2f6a736f6e0d3a6d657373616765"
    "2d74797065070009657863657074696f6e7b226d657373616765223a22736c6f7720646f776e227d5b4bbb49"
)
VECTORS = (TEXT, CALL, EXCEPTION)

# A header as it is sent: its name, its type's number, and its value.
Header = tuple[str, int, HeaderValue]

FORMATS = {2: ">b", 3: ">h", 4: ">i", 5: ">q", 8: ">q"}


def header(name: str, kind: int, value: HeaderValue) -> bytes:
    """Return a header as it is sent."""
    encoded = b""
    if isinstance(value, uuid.UUID):
        encoded = value.bytes
    elif isinstance(value, (bytes, str)):
        text = value.encode() if isinstance(value, str) else value
        encoded = struct.pack(">H", len(text)) + text
    elif kind in FORMATS:
        encoded = struct.pack(FORMATS[kind], value)
    label = name.encode()
    return bytes([len(label)]) + label + bytes([kind]) + encoded


def frame(headers: bytes, payload: bytes = b"", *, total: int = 0, length: int = -1) -> bytes:
    """Return a message with right checksums; its lengths may be told wrong."""
    length = len(headers) if length < 0 else length
    prelude = struct.pack(">II", total or len(headers) + len(payload) + 16, length)
    body = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + payload
    return body + struct.pack(">I", zlib.crc32(body))


def _integers(bits: int) -> st.SearchStrategy[int]:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


VALUES: st.SearchStrategy[tuple[int, HeaderValue]] = st.one_of(
    st.just((0, True)),
    st.just((1, False)),
    *(st.tuples(st.just(kind), _integers(bits)) for kind, bits in ((2, 8), (3, 16), (4, 32))),
    *(st.tuples(st.just(kind), _integers(64)) for kind in (5, 8)),
    st.tuples(st.just(6), st.binary(max_size=40)),
    st.tuples(st.just(7), st.text(max_size=20)),
    st.tuples(st.just(9), st.uuids()),
)
MESSAGES = st.lists(
    st.tuples(st.dictionaries(st.text(max_size=12), VALUES, max_size=5), st.binary(max_size=60)),
    max_size=4,
)


def cut(pieces: Iterable[bytes]) -> tuple[list[tuple[dict[str, HeaderValue], bytes]], bytes, bytes]:
    """Return the messages, the bytes let through, and the bytes left."""
    framer = AWSEventStreamFramer()
    messages, shown = [], b""
    for piece in pieces:
        for message in framer.feed(piece):
            messages.append((dict(message.headers), message.payload))
        shown += framer.whole
    return messages, shown, framer.rest


class MessageTests(SynchronousTestCase):
    """What a message says."""

    def test_vectors(self) -> None:
        """Text, a call and an exception are read as the service sent them."""
        messages, shown, rest = cut([b"".join(VECTORS)])
        json = {":content-type": "application/json"}
        self.assertEqual(
            messages,
            [
                (
                    {":event-type": "assistantResponseEvent", ":message-type": "event", **json},
                    b'{"content":"Hi"}',
                ),
                (
                    {":event-type": "toolUseEvent", ":message-type": "event", **json},
                    rb'{"name":"ls","toolUseId":"tooluse_1","input":"{\"p\":","stop":false}',
                ),
                (
                    {
                        ":exception-type": "ThrottlingException",
                        ":message-type": "exception",
                        **json,
                    },
                    b'{"message":"slow down"}',
                ),
            ],
        )
        self.assertEqual((shown, rest), (b"".join(VECTORS), b""))

    def test_every_type_of_header(self) -> None:
        """All ten types are read, the extreme values among them."""
        told = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")
        headers: list[Header] = [
            ("yes", 0, True),
            ("no", 1, False),
            ("byte", 2, -128),
            ("short", 3, 32767),
            ("int", 4, -(2**31)),
            ("long", 5, 2**63 - 1),
            ("bytes", 6, b"\x00\xff"),
            ("text", 7, "héllo 🙂"),
            ("time", 8, 1_700_000_000_000),
            ("uuid", 9, told),
        ]
        ((found, payload),), _, _ = cut([frame(b"".join(header(*each) for each in headers), b"p")])
        self.assertEqual(found, {name: value for name, _, value in headers})
        self.assertEqual(payload, b"p")
        self.assertIs(found["yes"], True)
        self.assertIs(found["no"], False)

    def test_nothing_in_it(self) -> None:
        """The shortest message has neither headers nor a payload."""
        self.assertEqual(cut([frame(b"")]), ([({}, b"")], frame(b""), b""))
        self.assertEqual(len(frame(b"")), 16)

    @given(MESSAGES, st.data())
    @settings(max_examples=150, deadline=None)
    def test_any_messages_any_split(
        self, sent: list[tuple[dict[str, tuple[int, HeaderValue]], bytes]], data: st.DataObject
    ) -> None:
        """What was encoded comes out again, and no byte is lost."""
        text = b"".join(
            frame(b"".join(header(name, *told) for name, told in headers.items()), payload)
            for headers, payload in sent
        )
        at = data.draw(st.integers(0, len(text)))
        messages, shown, rest = cut([text[:at], text[at:]])
        expected = [
            ({name: value for name, (_, value) in headers.items()}, payload)
            for headers, payload in sent
        ]
        self.assertEqual((messages, shown, rest), (expected, text, b""))


class SplitTests(SynchronousTestCase):
    """Where the network cuts is nobody's concern."""

    def test_every_split_gives_the_same(self) -> None:
        """Messages and the bytes let through do not depend on the reads."""
        stream = b"".join(VECTORS)
        expected = cut([stream])
        self.assertEqual(len(expected[0]), 3)
        for pieces in splits(stream):
            self.assertEqual(cut(pieces), expected)

    def test_partial_message_is_held(self) -> None:
        """Nothing of a message is let through before all of it is here."""
        framer = AWSEventStreamFramer()
        (message,) = framer.feed(TEXT + CALL[:20])
        self.assertEqual((framer.whole, framer.rest), (TEXT, CALL[:20]))
        self.assertEqual(message.end, len(TEXT))
        self.assertEqual(framer.feed(CALL[20:-1]), [])
        self.assertEqual((framer.whole, framer.rest), (b"", CALL[:-1]))
        first, second = framer.feed(CALL[-1:] + EXCEPTION)
        self.assertEqual((first.end, second.end), (len(CALL), len(CALL + EXCEPTION)))
        self.assertEqual((framer.whole, framer.rest), (CALL + EXCEPTION, b""))


class DamageTests(SynchronousTestCase):
    """A message that did not arrive as it was sent."""

    def assertBad(self, text: bytes, word: str = "", code: str = "bad_frame") -> None:
        """Check that these bytes are the upstream's fault, and stay so."""
        framer = AWSEventStreamFramer()
        error = self.assertRaises(UpstreamError, framer.feed, text)
        self.assertEqual((error.fault, error.status, error.code), (Fault.SERVER, 502, code))
        self.assertIn(word, error.message)
        self.assertEqual((framer.whole, framer.rest), (b"", b""))
        self.assertIs(self.assertRaises(UpstreamError, framer.feed, TEXT), error)

    def test_every_flipped_bit(self) -> None:
        """No single bit can change without being noticed, wherever the reads are cut."""
        for vector in VECTORS:
            for at in range(len(vector) * 8):
                flipped = bytearray(vector)
                flipped[at // 8] ^= 1 << at % 8
                self.assertBad(bytes(flipped))
                framer = AWSEventStreamFramer()
                with self.assertRaises(UpstreamError):
                    for start in range(0, len(flipped), 7):
                        framer.feed(bytes(flipped[start : start + 7]))

    def test_lengths_are_checked_before_anything_is_awaited(self) -> None:
        """Twelve bytes are enough to refuse a length that is wrong."""
        self.assertBad(frame(b"", total=15)[:12], "contradict")
        self.assertBad(frame(b"", length=1)[:12], "contradict")
        self.assertBad(frame(b"", total=2**32 - 1)[:12], str(LONGEST), "record_too_long")
        self.assertBad(b"HTTP/1.1 200", "checksum of its lengths")

    def test_malformed_headers(self) -> None:
        """Headers that are not well-formed are refused although the checksums are right."""
        for headers, word in (
            (b"\x05ab", "past"),
            (b"\x01a", "past"),
            (b"\x01a\x04\x00\x00", "past"),
            (b"\x01a\x07\x00", "past"),
            (b"\x01a\x07\x00\x05abcd", "past"),
            (b"\x01a\x09" + b"x" * 15, "past"),
            (b"\x01a\x0a", "type that does not exist"),
            (b"\x01a\x07\x00\x01\xff", "UTF-8"),
            (b"\x01\xff\x00", "UTF-8"),
            (b"\x01a\x00\x01a\x01", "twice"),
        ):
            self.assertBad(frame(headers), word)

    @given(st.binary(max_size=200), st.booleans())
    @settings(max_examples=150, deadline=None)
    def test_any_bytes(self, junk: bytes, dressed: bool) -> None:
        """Whatever stands in the headers or the stream, there are messages or that error."""
        try:
            cut([frame(junk) if dressed else junk])
        except UpstreamError as error:
            self.assertEqual(error.code, "bad_frame")


class LimitTests(SynchronousTestCase):
    """Memory is bounded, and so is time."""

    def test_longest_message(self) -> None:
        """A message may have as many bytes as the limit, and not one more."""
        text = frame(b"", b"x" * 84)
        self.assertEqual(len(AWSEventStreamFramer(limit=100).feed(text)), 1)
        for pieces in ([text], [text[:12]], [text[:11], text[11:]]):
            framer = AWSEventStreamFramer(limit=99)
            error = self.assertRaises(UpstreamError, _feed_all, framer, pieces)
            self.assertEqual((error.fault, error.status), (Fault.SERVER, 502))
            self.assertEqual(error.code, "record_too_long")
            self.assertIn(" 99 bytes", error.message)

    def test_limit_is_for_one_message(self) -> None:
        """Many small messages in one read are not one long one."""
        self.assertEqual(len(AWSEventStreamFramer(limit=200).feed(b"".join(VECTORS * 50))), 150)

    def test_sixteen_mebibytes(self) -> None:
        """A higher limit does not make messages longer than the format has them."""
        text = frame(b"", b"x" * (LONGEST - 16))
        framer = AWSEventStreamFramer(limit=10 * LONGEST)
        self.assertEqual([len(message.payload) for message in framer.feed(text)], [LONGEST - 16])
        longer = frame(b"", total=LONGEST + 1)[:12]
        self.assertRaises(UpstreamError, framer.feed, longer)

    def test_nothing_is_kept(self) -> None:
        """A long stream of messages leaves nothing behind."""
        framer = AWSEventStreamFramer()
        stream = b"".join(VECTORS)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        for _ in range(2000):
            self.assertEqual(len(framer.feed(stream)), 3)
        self.assertLess(tracemalloc.get_traced_memory()[0], 200_000)

    def test_long_message_in_small_pieces(self) -> None:
        """8 MB in 1 KB pieces takes no more than its share of time."""
        text = frame(b"", b"x" * 8 * 1024 * 1024)
        framer = AWSEventStreamFramer()
        began = time.process_time()
        count = sum(len(framer.feed(text[at : at + 1024])) for at in range(0, len(text), 1024))
        self.assertEqual(count, 1)
        self.assertLess(time.process_time() - began, 2.0)


def _feed_all(framer: AWSEventStreamFramer, pieces: list[bytes]) -> None:
    for piece in pieces:
        framer.feed(piece)
