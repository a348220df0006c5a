"""
One request as every dialect could have said it: the middle of each conversion.

Values only, block-structured like the richest dialects. It must never know how any
dialect writes them: a reader fills them in, a writer says what it could not write.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from zope.interface import implementer

from aiclient2api.conversation.seals import Seal
from aiclient2api.interfaces import IConversation
from aiclient2api.values import Traits

# --- parts of a turn ----------------------------------------------------------


@attrs.frozen
class Inline:
    """
    Media by its bytes.

    :ivar mime: Such as ``image/png``.
    :ivar data: Standard base64, padded.
    """

    mime: str
    data: str = attrs.field(repr=False)


@attrs.frozen
class Remote:
    """
    Media by its address.

    :ivar url: ``https:``, ``http:`` or ``gs:``.
    :ivar mime: If it was told, else ``""``.
    """

    url: str
    mime: str = ""


@attrs.frozen
class Uploaded:
    """
    Media by the id that one vendor's file store gave it: nobody else can follow it.

    :ivar dialect: Whose id it is: a dialect's name, or that of a store that several share.
    """

    dialect: str
    id: str


Media = Inline | Remote | Uploaded


@attrs.frozen
class Text:
    """
    Text.

    :ivar cache: A cache marker as the Messages dialect writes one, such as
        ``{"type": "ephemeral"}``: up to here the prompt is worth keeping.
    """

    text: str = attrs.field(repr=False)
    cache: Mapping[str, Any] | None = None


@attrs.frozen
class Image:
    """A picture; *detail* is OpenAI's ``low``, ``high`` or ``auto``."""

    media: Media
    detail: str | None = None
    cache: Mapping[str, Any] | None = None


@attrs.frozen
class File:
    """
    A document, such as a PDF.

    :ivar name: Its file name or title, ``""`` if none was told.
    """

    media: Media
    name: str = ""
    cache: Mapping[str, Any] | None = None


@attrs.frozen
class Audio:
    """Sound, such as ``audio/wav``. A video is one, too: its type tells."""

    media: Media


@attrs.frozen
class Refusal:
    """What the model said instead of an answer."""

    text: str = attrs.field(repr=False)


@attrs.frozen
class Reasoning:
    """
    What the model thought.

    :ivar text: ``""`` where only the seal was shown.
    :ivar seal: What the issuer needs to take the thought back, or None.
    """

    text: str = attrs.field(default="", repr=False)
    seal: Seal | None = attrs.field(default=None, repr=False)


@attrs.frozen
class Call:
    """
    The model's call of a tool.

    :ivar id: As the upstream gave it; dialects that cannot write it map it reversibly.
    :ivar arguments: JSON text of an object, exactly as it was told; see
        `aiclient2api.conversation.arguments` for what is no such thing.
    :ivar seal: A seal that belongs to this call (Gemini signs calls).
    :ivar cache: A cache marker.
    """

    id: str
    name: str
    arguments: str = attrs.field(default="{}", repr=False)
    seal: Seal | None = attrs.field(default=None, repr=False)
    cache: Mapping[str, Any] | None = None


@attrs.frozen
class Result:
    """
    What a tool answered.

    :ivar id: The call's.
    :ivar name: The tool's; `turns.settled` takes it from the call.
    :ivar parts: Text, images and files.
    """

    id: str
    name: str = ""
    parts: tuple[Text | Image | File | Audio, ...] = attrs.field(default=(), repr=False)
    is_error: bool = False
    cache: Mapping[str, Any] | None = None


Part = Text | Image | File | Audio | Refusal | Reasoning | Call | Result


@attrs.frozen
class Turn:
    """
    What one side said.

    :ivar role: ``user``, ``assistant`` or ``system`` (instructions given in between).
    """

    role: str
    parts: tuple[Part, ...]


# --- tools --------------------------------------------------------------------


@attrs.frozen
class Tool:
    """
    One tool that is offered.

    :ivar kind: ``function``: a name and a schema. ``custom``: free text in (a function
        with one string, ``input``, where the target has no such thing).
        ``local_shell``: OpenAI's own, a function elsewhere. ``web_search``: run by
        the vendor.
    :ivar name: What the model calls it.
    :ivar parameters: A JSON Schema, or None.
    :ivar strict: Whether arguments are held to the schema; None if not said.
    :ivar namespace: The group it stands in (Responses), ``""`` for none. The name that
        a target sees is then `flat_name`.
    :ivar raw: The tool as it was written, for what only its own dialect knows of it.
    """

    kind: str
    name: str
    description: str = ""
    parameters: Mapping[str, Any] | None = None
    strict: bool | None = None
    namespace: str = ""
    cache: Mapping[str, Any] | None = None
    raw: Mapping[str, Any] | None = attrs.field(default=None, repr=False)

    @property
    def flat_name(self) -> str:
        """The name with its namespace in front, for targets without namespaces."""
        if not self.namespace:
            return self.name
        stem = self.namespace.rstrip("_")
        return f"{stem}__{self.name.lstrip('_')}"


@attrs.frozen
class ToolChoice:
    """
    Which tools may or must be called.

    :ivar mode: ``auto``, ``none``, ``required`` (any of *allowed*, if not empty) or
        ``named`` (the first of *allowed*).
    :ivar allowed: Flat names; empty for all.
    """

    mode: str = "auto"
    allowed: tuple[str, ...] = ()


# --- settings -----------------------------------------------------------------


@attrs.frozen
class Sampling:
    """How to choose tokens. None is "not said"; an explicit 0 stays 0."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logprobs: int | None = None
    """How many alternatives to tell of for each token; None for no log probabilities."""


@attrs.frozen
class OutputFormat:
    """
    What form the answer must have.

    :ivar schema: A JSON Schema, or None: any JSON.
    """

    schema: Mapping[str, Any] | None = None
    name: str = ""
    description: str = ""
    strict: bool | None = None


@attrs.frozen
class Thinking:
    """
    How much to think.

    :ivar effort: ``none``, ``minimal``, ``low``, ``medium``, ``high``, ``xhigh``, ``max``
        or ``auto`` (as much as the model sees fit); None if only a budget was told.
    :ivar budget: Tokens; -1 is ``auto``, 0 is none; None if only an effort was told.
    :ivar shown: Whether the thoughts are to be shown; None if not said.
    """

    effort: str | None = None
    budget: int | None = None
    shown: bool | None = None


@implementer(IConversation)
@attrs.frozen
class Conversation:
    """
    One request.

    :ivar system: Instructions given before everything else.
    :ivar parallel: Whether several tools may be called at once; None if not said.
    :ivar user: The caller's own id for its end user, ``""`` if none.
    :ivar cache_key: A key under which prompts that begin alike are kept together.
    :ivar dropped: What the reader found no word for, as codes of `losses`.
    :ivar traits: What the upstream wants beyond its dialect; set before it is written.
    """

    model: str
    streaming: bool
    turns: tuple[Turn, ...] = attrs.field(default=(), repr=False)
    system: tuple[Text, ...] = attrs.field(default=(), repr=False)
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel: bool | None = None
    sampling: Sampling = attrs.field(factory=Sampling)
    output: OutputFormat | None = None
    thinking: Thinking | None = None
    user: str = attrs.field(default="", repr=False)
    metadata: Mapping[str, Any] | None = None
    cache_key: str = ""
    action: str = "generate"
    dropped: tuple[str, ...] = ()
    traits: Traits = attrs.field(factory=Traits)
