"""
Media as OpenAI's two dialects write them: data URLs, addresses, ids of uploaded files.

Files lie in one store, whichever of the two is spoken. It must never fetch anything, nor
know which of the two it is used for.
"""

from __future__ import annotations

import base64
import re
from urllib.parse import unquote_to_bytes

from aiclient2api.conversation.request import Audio, File, Image, Inline, Media, Remote, Uploaded
from aiclient2api.dialects.nodes import Node
from aiclient2api.errors import InvalidRequest

STORE = "openai"
"""Whose store the ids of files belong to."""

_SCHEMES = ("https:", "http:", "gs:")
_FORMATS = {"mp3": "audio/mpeg"}
_BASE64 = re.compile(r"[A-Za-z0-9+/]*")
_STANDARD = str.maketrans("-_", "+/")
_PDF = "application/pdf"
_OFFICE = "application/vnd.openxmlformats-officedocument"
_TYPES = {
    ".pdf": _PDF,
    ".txt": "text/plain",
    ".md": "text/markdown",
    ".csv": "text/csv",
    ".html": "text/html",
    ".json": "application/json",
    ".xml": "application/xml",
    ".docx": f"{_OFFICE}.wordprocessingml.document",
    ".xlsx": f"{_OFFICE}.spreadsheetml.sheet",
    ".pptx": f"{_OFFICE}.presentationml.presentation",
}
_ENDINGS = {mime: ending for ending, mime in _TYPES.items()}


def read_image(part: Node) -> Image:
    """Return the picture of an ``input_image``."""
    detail = part.text("detail") or None
    url = part.get("image_url")
    # Chat Completions writes the address one level deeper, and clients mix the two up.
    key = "url" if isinstance(url, dict) else "image_url"
    holder = Node(url, part.path("image_url")) if isinstance(url, dict) else part
    address = holder.text(key)
    if address:
        return Image(_at(address, holder.path(key)), detail)
    if part.text("file_id"):
        return Image(Uploaded(STORE, part.name("file_id")), detail)
    raise part.wrong("image_url", "a data URL or an address, or file_id")


def read_file(part: Node) -> File:
    """Return the document of an ``input_file``."""
    name = part.text("filename")
    mime = _TYPES.get(f".{name.rpartition('.')[2].lower()}", "")
    data, url = part.text("file_data"), part.text("file_url")
    if data:
        where = part.path("file_data")
        if data[:5].lower() == "data:":
            return File(_at(data, where), name)
        return File(Inline(mime or _PDF, _standard(data, where)), name)
    if url:
        media = _at(url, part.path("file_url"))
        return File(Remote(media.url, mime) if isinstance(media, Remote) else media, name)
    if part.text("file_id"):
        return File(Uploaded(STORE, part.name("file_id")), name)
    raise part.wrong("file_data", "a data URL, or file_url or file_id")


def read_audio(part: Node) -> Audio:
    """Return the sound of an ``input_audio``."""
    sound = part.object("input_audio")
    if sound is None:
        raise part.wrong("input_audio", "an object with data and format")
    form = sound.name("format").lower()
    data = _standard(sound.name("data"), sound.path("data"))
    return Audio(Inline(_FORMATS.get(form, f"audio/{form}"), data))


def data_url(media: Inline) -> str:
    """Return *media* as a data URL."""
    return f"data:{media.mime};base64,{media.data}"


def file_name(file: File, mime: str) -> str:
    """Return a file's name; one that tells its type if it has none."""
    return file.name or f"file{_ENDINGS.get(mime, '')}"


def _at(url: str, where: str) -> Media:
    if url[:5].lower() != "data:":
        if not url.lower().startswith(_SCHEMES):
            raise InvalidRequest(
                f"The field {where} holds no address that can be read; send a data URL, or one"
                " that begins with https:.",
                code="invalid_value",
                param=where,
            )
        return Remote(url)
    head, _, data = url[5:].partition(",")
    mime, *rest = head.lower().split(";")
    if "base64" not in rest:
        data = base64.b64encode(unquote_to_bytes(data)).decode()
    return Inline(mime.strip() or "text/plain", _standard(data, where))


def _standard(data: str, where: str) -> str:
    """Return *data* in standard base64, padded."""
    plain = "".join(data.split()).translate(_STANDARD).rstrip("=")
    if len(plain) % 4 == 1 or _BASE64.fullmatch(plain) is None:
        raise InvalidRequest(
            f"The field {where} holds no base64; encode the bytes as base64.",
            code="invalid_value",
            param=where,
        )
    return plain + "=" * (-len(plain) % 4)
