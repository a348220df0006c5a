"""
Guess how many tokens an image, a document or a sound is.

Vendors bill them by size, pages and seconds, each by rules of its own; these are the
dearer of the published ones. Only the head of what was sent is decoded. This file must
never fetch anything: what lies elsewhere is taken for an ordinary one of its kind.
"""

from __future__ import annotations

import re
from binascii import a2b_base64
from collections.abc import Callable
from math import ceil
from typing import Literal

from aiclient2api.conversation.request import Audio, File, Image, Inline, Uploaded

# https://docs.claude.com/en/docs/build-with-claude/vision: width * height / 750, after the
# image was scaled down to at most about 1600 tokens.
_PIXELS = 750
_IMAGE_MOST = 1600
_IMAGE_LEAST = 85
"""What OpenAI asks for the smallest image; Google asks 258."""

# https://docs.claude.com/en/docs/build-with-claude/pdf-support: a page is its text and a
# picture of it, 1,500 to 3,000 tokens for the text alone; at most 100 pages.
_PAGE = 2300
_PAGES_MOST = 100
_PAGES_UNSEEN = 5

# https://ai.google.dev/gemini-api/docs/tokens: 32 tokens for a second of sound, 258 more
# where there are pictures. OpenAI asks 10 for a second of sound.
_SOUND_SECOND = 32
_VIDEO_SECOND = 290
_SECONDS_UNSEEN = 60
_RAW_RATE = 48_000
"""Bytes a second of sound that is not compressed: 24 kHz, 16 bits, one channel."""
_SOUND_RATE = 8_000
_VIDEO_RATE = 125_000

_HEAD = 64 * 1024
"""Bytes that are decoded to find the size of an image or to count a text."""
_DOCUMENT_HEAD = 1024 * 1024
_SEGMENTS = 64
"""Segments of a JPEG that are passed over to find the one that tells its size."""
_PAGE_MARK = re.compile(rb"/Type\s{0,4}/Page\b")
# Newer documents have their pages in compressed objects, but each page has a stream of
# its own. These streams are others: images, fonts, metadata, objects, tables.
_STREAM_END = b"endstream"
_OTHER_STREAM = re.compile(
    rb"/Subtype\s{0,4}/(?:Image|Type1C|CIDFontType0C|OpenType|XML)\b|/(?:Length1|ObjStm|XRef)\b"
)
_OTHER_PAGE_BYTES = 25_000
"""What takes the room of a page in a document of another kind."""
_TEXT = re.compile(r"text/|application/(json|xml|yaml|javascript|x-sh)|.*\+(json|xml)$")


def tokens_of(part: Image | File | Audio, tokens_in: Callable[[str], int]) -> float:
    """
    Return about how many tokens *part* is.

    :param tokens_in: Counts a text, for files that are texts.
    """
    if isinstance(part, Image):
        return _image(part)
    if isinstance(part, Audio):
        return _sound(part)
    return _file(part, tokens_in)


def size_of(image: bytes) -> tuple[int, int] | None:
    """Return width and height that the head of a PNG, GIF, WebP or JPEG tells, else None."""
    if image.startswith(b"\x89PNG\r\n\x1a\n"):
        return _pair(image, 16, 20, 4, "big")
    if image.startswith((b"GIF87a", b"GIF89a")):
        return _pair(image, 6, 8, 2, "little")
    if image.startswith(b"RIFF") and image[8:12] == b"WEBP":
        return _webp_size(image)
    if image.startswith(b"\xff\xd8"):
        return _jpeg_size(image)
    return None


def _image(image: Image) -> float:
    size = None
    if isinstance(image.media, Inline):
        size = size_of(_decoded(image.media.data, _HEAD))
    if size is None:
        return _IMAGE_MOST
    width, height = size
    return min(max(width * height / _PIXELS, _IMAGE_LEAST), _IMAGE_MOST)


def _file(file: File, tokens_in: Callable[[str], int]) -> float:
    if not isinstance(file.media, Inline):
        return _PAGES_UNSEEN * _PAGE
    length = _length(file.media.data)
    if _TEXT.match(file.media.mime.lower()):
        head = _decoded(file.media.data, _HEAD)
        return tokens_in(head.decode("utf-8", "replace")) * length / max(len(head), 1)
    head = _decoded(file.media.data, _DOCUMENT_HEAD)
    if head.startswith(b"%PDF"):
        pages = _pages(head) * length / len(head)
    else:
        pages = length / _OTHER_PAGE_BYTES
    # Pages that are pictures may be too large for the head to show one.
    pages = max(pages, length / _DOCUMENT_HEAD)
    return min(max(ceil(pages), 1), _PAGES_MOST) * _PAGE


def _pages(pdf: bytes) -> int:
    marks = len(_PAGE_MARK.findall(pdf))
    return marks or pdf.count(_STREAM_END) - len(_OTHER_STREAM.findall(pdf))


def _sound(sound: Audio) -> float:
    mime = "" if isinstance(sound.media, Uploaded) else sound.media.mime.lower()
    second = _VIDEO_SECOND if mime.startswith("video/") else _SOUND_SECOND
    if not isinstance(sound.media, Inline):
        return _SECONDS_UNSEEN * second
    head = _decoded(sound.media.data, 32)
    if head.startswith(b"RIFF") and len(head) == 32:
        rate = int.from_bytes(head[28:32], "little") or _RAW_RATE
    elif re.match(r"audio/(.*pcm|l16|.*wav)", mime):
        rate = _RAW_RATE
    else:
        rate = _VIDEO_RATE if mime.startswith("video/") else _SOUND_RATE
    return ceil(_length(sound.media.data) / rate) * second


def _length(data: str) -> int:
    """Return how many bytes base64 *data* stands for."""
    return max(len(data) * 3 // 4 - data[-2:].count("="), 0)


def _decoded(data: str, length: int) -> bytes:
    """Return about the first *length* bytes of base64 *data*, nothing if it is none."""
    try:
        return a2b_base64(data[: (length + 2) // 3 * 4])[:length]
    except ValueError:
        return b""


def _pair(
    image: bytes, width: int, height: int, length: int, order: Literal["big", "little"]
) -> tuple[int, int] | None:
    """Return the numbers at two places, None if the head is too short for them."""
    if len(image) < max(width, height) + length:
        return None
    return (
        int.from_bytes(image[width : width + length], order),
        int.from_bytes(image[height : height + length], order),
    )


def _webp_size(image: bytes) -> tuple[int, int] | None:
    """See https://developers.google.com/speed/webp/docs/riff_container."""
    kind = image[12:16]
    if kind == b"VP8X":
        less_one = _pair(image, 24, 27, 3, "little")
        return less_one and (less_one[0] + 1, less_one[1] + 1)
    if kind == b"VP8 ":
        scaled = _pair(image, 26, 28, 2, "little")
        return scaled and (scaled[0] & 0x3FFF, scaled[1] & 0x3FFF)
    if kind == b"VP8L" and len(image) >= 25:
        bits = int.from_bytes(image[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return None


def _jpeg_size(image: bytes) -> tuple[int, int] | None:
    """Return what the first frame header tells; it may stand behind a thumbnail."""
    at = 2
    for _ in range(_SEGMENTS):
        if image[at : at + 1] != b"\xff" or at + 9 > len(image):
            return None
        marker = image[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return _pair(image, at + 7, at + 5, 2, "big")
        at += 2 + int.from_bytes(image[at + 2 : at + 4], "big")
    return None
