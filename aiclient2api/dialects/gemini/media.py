"""
Gemini: media as this dialect writes them: bytes in base64, or the address of a file.

It must never fetch anything.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from aiclient2api.conversation.request import Audio, File, Image, Inline, Media, Remote, Uploaded
from aiclient2api.dialects.gemini.request import NAME
from aiclient2api.dialects.nodes import Node
from aiclient2api.errors import InvalidRequest

_BASE64 = re.compile(r"[A-Za-z0-9+/]*")
# Of parameters, such as the rate of a sound, only those that can stand in a data URL.
_MIME = re.compile(
    r"[\w!#$&^.+-]+/[\w!#$&^.+-]+(?:[ \t]*;[ \t]*[\w-]+=(?:[\w.+-]+|\"[\w .+-]*\"))*", re.ASCII
)
_STANDARD = str.maketrans("-_", "+/")
_FILES = "generativelanguage.googleapis.com"
_VIDEOS = ("youtube.com", "youtu.be")
_SCHEMES = ("http", "https", "gs")
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".heic", ".heif", ".gif")
# Documents that are text are taken as such, whatever they are called.
_TEXTUAL = re.compile(
    r"application/(?:(?:.+\+)?(?:json|xml)|javascript|x-(?:javascript|ndjson|sh|yaml)|yaml|toml|sql)"
)
_SEEN_OR_HEARD = ("image/", "audio/", "video/")
_DOCUMENTS = ("application/pdf", "text/")


def read_inline(blob: Node) -> Image | File | Audio:
    """Return what ``inlineData`` holds."""
    mime = blob.name("mimeType").lower()
    if not is_mime(mime):
        raise _invalid(blob.path("mimeType"), "no MIME type; send one such as image/png")
    data = base64_of(blob.text("data"))
    if data is None:
        raise _invalid(blob.path("data"), "no base64; encode the bytes as base64")
    if not data and mime.startswith(_SEEN_OR_HEARD):
        raise _invalid(blob.path("data"), "no bytes; send those of the picture or sound")
    return _of_type(Inline(mime, data), mime, blob.text("displayName"))


def read_file(file: Node) -> Image | File | Audio:
    """Return what ``fileData`` points to."""
    url, mime = file.name("fileUri"), file.text("mimeType").lower()
    parts = _split(url)
    if parts is None or parts.scheme not in _SCHEMES:
        raise _invalid(
            file.path("fileUri"),
            "no address that can be read; send one that begins with https: or gs:, or the bytes"
            " as inlineData",
        )
    if _is_video(parts):
        return Audio(Remote(url, mime or "video/mp4"))
    if not mime and parts.path.lower().endswith(_PICTURES):
        mime = "image/" + parts.path.rpartition(".")[2].lower().replace("jpg", "jpeg")
    stored = parts.scheme == "gs" or _is_stored(parts)
    media = Uploaded(NAME, url) if stored else Remote(url, mime)
    return _of_type(media, mime, file.text("displayName"))


def needs_bytes(media: Any) -> bool:
    """Say whether Google must be given the bytes of *media*, which is named by address."""
    if not isinstance(media, Remote):
        return False
    parts = _split(media.url)
    return parts is None or not (parts.scheme == "gs" or _is_stored(parts) or _is_video(parts))


def written(media: Media, mime: str) -> dict[str, Any] | None:
    """
    Return the part that holds *media*; None if it lies with another vendor.

    :param mime: Its type, if it does not tell itself.
    :raise InvalidRequest: if Google cannot read it where it is.
    """
    if isinstance(media, Inline):
        return {"inlineData": {"mimeType": media.mime or mime, "data": media.data}}
    if isinstance(media, Uploaded):
        return {"fileData": {"fileUri": media.id}} if media.dialect == NAME else None
    if needs_bytes(media):
        raise InvalidRequest(
            "Media by address are not fetched for this provider unless the setting"
            " `fetch_images` is on; send the bytes as base64.",
            code="remote_media",
        )
    told = {"mimeType": media.mime} if media.mime else {}
    return {"fileData": {**told, "fileUri": media.url}}


def document_type(mime: str) -> str | None:
    """Return the type by which Google takes a document of the type *mime*, None if it does not."""
    mime = mime.lower()
    if mime.startswith(_DOCUMENTS):
        return mime
    return "text/plain" if _TEXTUAL.fullmatch(mime) else None


def base64_of(data: str) -> str | None:
    """
    Return *data* in standard base64, padded; None if it is none.

    Google's own clients use the other alphabet.
    """
    plain = "".join(data.split()).translate(_STANDARD).rstrip("=")
    if len(plain) % 4 == 1 or _BASE64.fullmatch(plain) is None:
        return None
    return plain + "=" * (-len(plain) % 4)


def is_mime(text: str) -> bool:
    """Say whether *text* is a MIME type, with or without parameters."""
    return _MIME.fullmatch(text) is not None


def _of_type(media: Media, mime: str, name: str) -> Image | File | Audio:
    if mime.startswith("image/"):
        return Image(media)
    if mime.startswith(("audio/", "video/")):
        return Audio(media)
    return File(media, name)


def _invalid(where: str, what: str) -> InvalidRequest:
    return InvalidRequest(f"The field {where} holds {what}.", code="invalid_value", param=where)


def _split(url: str) -> Any:
    try:
        return urlsplit(url)
    except ValueError:
        return None


def _is_stored(parts: Any) -> bool:
    return parts.hostname == _FILES and "/files/" in parts.path


def _is_video(parts: Any) -> bool:
    host = (parts.hostname or "").removeprefix("www.").removeprefix("m.")
    return host in _VIDEOS
