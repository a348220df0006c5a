"""
OpenAI Chat Completions: a request as a client sent it, bytes with places.

It finds the few fields that policy reads or edits, and must never look at the rest.
"""

from __future__ import annotations

import attrs
from zope.interface import implementer

from aiclient2api.conversation import seals
from aiclient2api.dialects import system_prompt
from aiclient2api.dialects.affinity import affinity
from aiclient2api.dialects.openai_chat.foreign_seals import ForeignSeals
from aiclient2api.dialects.openai_chat.models import model_of
from aiclient2api.dialects.sampling import edits as sampling_edits
from aiclient2api.dialects.wire_request import (
    BodyRequest,
    Fields,
    amended,
    decoded,
    entry,
    freed,
    listed,
    text_in,
    wrong,
)
from aiclient2api.framing.json_text import Edit
from aiclient2api.interfaces import IOpenAIChatRequest
from aiclient2api.values import Affinity, Sampling, SystemEdit

NAME = "openai-chat"
_SYSTEM_ROLES = ("system", "developer")
_LIMITS = ("max_completion_tokens", "max_tokens")


@implementer(IOpenAIChatRequest)
@attrs.frozen
class ChatRequest(BodyRequest):
    """One Chat Completions request, as bytes with places."""

    dialect: str = attrs.field(default=NAME, init=False)

    def amended(
        self,
        *,
        model: str | None = None,
        system: SystemEdit | None = None,
        streaming: bool | None = None,
        sampling: Sampling | None = None,
    ) -> ChatRequest:
        """Return a copy with these changed; every other byte stays as it was."""
        edits: list[Edit] = []
        if system is not None:
            edits += self._system_edits(system)
        if sampling is not None:
            edits += self._sampling_edits(sampling, self.model if model is None else model)
        return amended(self, model=model, streaming=streaming, edits=edits)

    def without_foreign_seals(self) -> ChatRequest:
        """Return a copy without what models of other dialects sealed."""
        if seals.PARCEL.encode() not in self.raw:
            return self
        foreign = ForeignSeals(self.body, NAME)
        return freed(self, edits=foreign.edits, losses=foreign.losses)

    def system_text(self) -> str:
        """Return the text of the system and developer messages."""
        return text_in(
            [
                entry(message, "content")
                for message in listed(decoded(self.body.text).get("messages"))
                if entry(message, "role") in _SYSTEM_ROLES
            ]
        )

    def prompt_text(self) -> str:
        """Return the text of the last message."""
        messages = listed(decoded(self.body.text).get("messages"))
        return text_in(entry(messages[-1], "content")) if messages else ""

    def affinity(self) -> Affinity:
        """Say which conversation this is a turn of."""
        return affinity(self.body, session=self.session, system=(), turns="messages")

    def _sampling_edits(self, asked: Sampling, model: str) -> list[Edit]:
        edits = sampling_edits(
            self.body, ((("temperature",), asked.temperature), (("top_p",), asked.top_p))
        )
        if asked.max_tokens is None:
            return edits
        given = [member for key in _LIMITS if (member := self.body.one(key)) is not None]
        sent = [member for member in given if self.body.kind(member) != "null"]
        edits += [self.body.without(other) for other in sent[1:]]
        fresh = _LIMITS[0] if model_of(model).completion_tokens else _LIMITS[1]
        key = (sent or given)[0].key if given else fresh
        return edits + sampling_edits(self.body, (((key,), asked.max_tokens),))

    def _system_edits(self, edit: SystemEdit) -> list[Edit]:
        text = self.body.text
        member = self.body.check("messages", "array")
        assert member is not None
        items = text.elements(member.start)
        found = system_prompt.with_role(text, items, _SYSTEM_ROLES)
        if edit.text and not found:
            message = b'{"role":"system","content":' + system_prompt.added(edit) + b"}"
            at = items[0][0] if items else member.start + 1
            return [(at, at, message + (b"," if items else b""))]
        edits: list[Edit] = []
        overwriting = bool(edit.text) and edit.mode == "overwrite"
        for position, index in enumerate(found):
            if overwriting and position:
                continue
            message_fields = Fields.of(text, items[index][0], f"messages[{index}]")
            changing = bool(edit.text) and not position
            edits += _content_edits(message_fields, edit if changing else _only_replacing(edit))
        return edits + (system_prompt.dropped(items, found[1:]) if overwriting else [])


def _only_replacing(edit: SystemEdit) -> SystemEdit:
    return attrs.evolve(edit, text=None)


def _content_edits(message: Fields, edit: SystemEdit) -> list[Edit]:
    """Return the edits of one system message's content."""
    member, where = message.one("content"), message.path("content")
    if member is None:
        return [message.put("content", system_prompt.added(edit))] if edit.text else []
    place = (member.start, member.end)
    if message.kind(member) == "object":
        raise wrong(where, "object", "a string or a list of text parts")
    if not edit.text:
        return system_prompt.replaced(message.text, place, edit, where=where)
    string = system_prompt.added(edit)
    if edit.mode == "overwrite":
        return [system_prompt.overwritten(message.text, place, string=string, where=where)]
    part = b'{"type":"text","text":' + string + b"}"
    return system_prompt.appended(message.text, place, edit, part=part, where=where)
