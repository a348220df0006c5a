"""
Sentences that stand for media where they have no place.

It must never know where that is.
"""

from __future__ import annotations

from aiclient2api.conversation.events import MediaDelta
from aiclient2api.conversation.request import Audio, File, Image, Remote, Uploaded


def instead_of(part: Image | File | Audio) -> tuple[str, str]:
    """Return the code of what is lost with *part*, and the sentence that comes in its place."""
    media = part.media
    if isinstance(part, Audio):
        return "audio", "A sound was played here."
    id = media.id if isinstance(media, Uploaded) else ""
    if isinstance(part, Image):
        known = f"The image {id} was shown here." if id else "An image was shown here."
        return ("file_id" if id else "image"), known
    name = part.name or (media.url if isinstance(media, Remote) else id)
    known = f"The file {name} was given here." if name else "A file was given here."
    return ("file_id" if id else "file"), known


def told_of(media: MediaDelta) -> str:
    """Return the sentence for what a model made and an answer of this dialect cannot hold."""
    size = len(media.data) * 3 // 4 - media.data[-2:].count("=")
    return (
        f"[Here the model made something of the type {media.mime}, {size} bytes, which this API"
        " cannot carry.]"
    )
