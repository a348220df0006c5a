"""
Counting images, documents and sounds by what their first bytes tell.
"""

from __future__ import annotations

import base64
import struct

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation.media_tokens import size_of, tokens_of
from aiclient2api.conversation.request import (
    Audio,
    File,
    Image,
    Inline,
    Remote,
    Uploaded,
)


def png(width: int, height: int) -> bytes:
    """Return the head of a PNG."""
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height)


def jpeg(width: int, height: int, before: bytes = b"") -> bytes:
    """Return the head of a JPEG with *before* in front of its frame header."""
    frame = struct.pack(">2sHBHH", b"\xff\xc2", 17, 8, height, width)
    return b"\xff\xd8" + before + frame + bytes(10)


def segment(marker: int, length: int) -> bytes:
    """Return a segment of a JPEG that tells nothing of its size."""
    return struct.pack(">BBH", 0xFF, marker, length + 2) + bytes(length)


def webp(kind: bytes, rest: bytes) -> bytes:
    """Return the head of a WebP."""
    return b"RIFF\x00\x00\x00\x00WEBP" + kind + b"\x00\x00\x00\x00" + rest


def inline(mime: str, content: bytes) -> Inline:
    """Return media by their bytes."""
    return Inline(mime, base64.b64encode(content).decode())


def tokens(part: Image | File | Audio) -> float:
    """Return the count of *part*, a text being as many tokens as it has characters."""
    return tokens_of(part, len)


class SizeTests(SynchronousTestCase):
    """What the head of an image tells."""

    def test_every_format(self) -> None:
        """PNG, GIF, JPEG and the three kinds of WebP tell their size."""
        simple = b"\x00\x00\x00\x9d\x01\x2a" + struct.pack("<HH", 640 | 0x4000, 480)
        lossless = b"\x2f" + struct.pack("<I", 639 | 479 << 14)
        extended = bytes(4) + (639).to_bytes(3, "little") + (479).to_bytes(3, "little")
        for image in (
            png(640, 480),
            b"GIF89a" + struct.pack("<HH", 640, 480),
            b"GIF87a" + struct.pack("<HH", 640, 480),
            jpeg(640, 480),
            webp(b"VP8 ", simple),
            webp(b"VP8L", lossless),
            webp(b"VP8X", extended),
        ):
            self.assertEqual(size_of(image), (640, 480), image[:16])

    def test_a_photograph_with_remarks(self) -> None:
        """A JPEG is measured behind its Exif block, its tables and its thumbnail."""
        exif = segment(0xE1, 60_000)
        tables = segment(0xDB, 130) + segment(0xC4, 418)
        self.assertEqual(size_of(jpeg(4000, 3000, exif + tables)), (4000, 3000))

    def test_cut_short(self) -> None:
        """An image that ends too early, or is none, has no size, and no error."""
        images = (png(9, 9), jpeg(9, 9, segment(0xE0, 14)), webp(b"VP8X", bytes(10)), b"GIF89a1234")
        for image in images:
            for end in range(len(image)):
                self.assertIn(size_of(image[:end]), (None, size_of(image)))
        for image in (b"", b"BM", b"\xff\xd8" * 90, b"\xff\xd8" + segment(0xE0, 0) * 90):
            self.assertIsNone(size_of(image))


class TokensOfTests(SynchronousTestCase):
    """What media cost."""

    def test_images_by_size(self) -> None:
        """An image is a token for 750 pixels, between 85 and 1600."""
        for (width, height), count in {
            (1000, 750): 1000,
            (640, 480): 409.6,
            (16, 16): 85,
            (8000, 6000): 1600,
        }.items():
            self.assertEqual(tokens(Image(inline("image/png", png(width, height)))), count)

    def test_images_of_unknown_size(self) -> None:
        """An image that cannot be measured counts as a large one."""
        for media in (
            Inline("image/png", "this is no base64!"),
            Inline("image/png", "é"),
            Inline("image/heic", "AAAA"),
            Remote("https://example.org/a.png"),
            Uploaded("openai-responses", "file-1"),
        ):
            self.assertEqual(tokens(Image(media)), 1600)

    def test_documents_by_pages(self) -> None:
        """A PDF counts by the pages that can be seen in it; their tree is no page."""
        pdf = b"%PDF-1.4\n<</Type /Pages /Count 3>>" + b"<</Type /Page>>" * 2 + b"<</Type/Page >>"
        self.assertEqual(tokens(File(inline("application/pdf", pdf))), 3 * 2300)

    def test_documents_with_hidden_pages(self) -> None:
        """Where pages are compressed, streams that are no picture and no font stand for them."""
        stream = b"<</Filter/FlateDecode>>stream\n123\nendstream\n"
        others = b"".join(
            b"<<" + kind + b">>stream\n123\nendstream\n"
            for kind in (b"/Type/XRef", b"/Type /ObjStm", b"/Subtype /Image", b"/Length1 99")
        )
        pdf = b"%PDF-1.7\n" + stream * 4 + others
        self.assertEqual(tokens(File(inline("application/pdf", pdf))), 4 * 2300)

    def test_long_documents(self) -> None:
        """Only the head is looked at; a hundred pages are the most."""
        page = b"<</Type /Page>>".ljust(100_000)
        for pages, count in ((1, 1), (42, 42), (150, 100)):
            found = tokens(File(inline("application/pdf", b"%PDF-1.4\n" + page * pages))) / 2300
            self.assertLessEqual(abs(found - count), count * 0.08)
        scans = b"%PDF-1.4\n".ljust(4_000_000)
        self.assertEqual(tokens(File(inline("application/pdf", scans))), 4 * 2300)

    def test_documents_of_other_kinds(self) -> None:
        """What is no PDF counts by its size, what is not here as five pages."""
        self.assertEqual(tokens(File(inline("application/msword", bytes(60_000)))), 3 * 2300)
        self.assertEqual(tokens(File(Inline("", ""))), 2300)
        for media in (Remote("https://example.org/a.pdf"), Uploaded("openai-responses", "file-1")):
            self.assertEqual(tokens(File(media)), 5 * 2300)

    def test_documents_that_are_texts(self) -> None:
        """A text counts as what is written in it, a long one by its beginning."""
        for mime in ("text/plain; charset=utf-8", "Text/CSV", "application/json", "image/svg+xml"):
            self.assertEqual(tokens(File(inline(mime, "naïve".encode()))), 5 * 6 / 6)
        text = "word " * 100_000
        self.assertLess(abs(tokens(File(inline("text/plain", text.encode()))) - len(text)), 10)
        self.assertEqual(tokens(File(Inline("text/plain", "§"))), 0)

    def test_sounds_by_seconds(self) -> None:
        """A second of sound is 32 tokens; a WAV tells how many bytes a second has."""
        wav = b"RIFF\0\0\0\0WAVEfmt " + struct.pack("<IHHII", 16, 1, 2, 44100, 176400)
        for mime, content, count in (
            ("audio/wav", wav.ljust(10 * 176_400), 320),
            ("audio/wav", wav[:28] + bytes(4 + 96_000 - 32), 64),
            ("audio/pcm", bytes(96_000), 64),
            ("audio/mpeg", bytes(80_000), 320),
            ("video/mp4", bytes(1_250_000), 2900),
        ):
            self.assertEqual(tokens(Audio(inline(mime, content))), count, mime)

    def test_sounds_that_are_not_here(self) -> None:
        """A sound that lies elsewhere counts as a minute, a video as a minute of pictures."""
        self.assertEqual(tokens(Audio(Remote("https://example.org/a.mp3"))), 1920)
        self.assertEqual(tokens(Audio(Uploaded("gemini", "files/1"))), 1920)
        self.assertEqual(tokens(Audio(Remote("gs://b/a.mp4", "video/mp4"))), 60 * 290)
