"""
OpenAI Responses: a request as a client sent it, bytes with places.

It finds the few fields that policy reads or edits, and must never look at the rest.
"""

from __future__ import annotations

from typing import Any

import attrs
from zope.interface import implementer

from aiclient2api.conversation import seals
from aiclient2api.dialects import system_prompt
from aiclient2api.dialects.affinity import affinity, plain
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
)
from aiclient2api.framing.json_text import Edit, Member, quote, read, text_of
from aiclient2api.interfaces import IOpenAIResponsesRequest
from aiclient2api.values import Affinity, Sampling, SystemEdit

NAME = "openai-responses"
UNSEALED = seals.carried(seals.Seal(issuer="none", value=""), NAME)
"""
The seal of a thought that has none, and was not OpenAI's.

It is known again by it should the client turn to OpenAI, which has never heard of its id.
"""
_SYSTEM_ROLES = ("system", "developer")
_KEPT = ("previous_response_id", "conversation")


@implementer(IOpenAIResponsesRequest)
@attrs.frozen
class ResponsesRequest(BodyRequest):
    """
    One Responses request, as bytes with places.

    :ivar previous: The response it went on from, once that is spliced into its input.
    """

    previous: str = ""
    dialect: str = attrs.field(default=NAME, init=False)

    def amended(
        self,
        *,
        model: str | None = None,
        system: SystemEdit | None = None,
        streaming: bool | None = None,
        sampling: Sampling | None = None,
    ) -> ResponsesRequest:
        """Return a copy with these changed; every other byte stays as it was."""
        edits: list[Edit] = []
        if system is not None:
            edits += self._instruction_edits(system)
            edits += self._input_edits(system)
        if sampling is not None and self.action == "generate":
            edits += sampling_edits(
                self.body,
                (
                    (("temperature",), sampling.temperature),
                    (("top_p",), sampling.top_p),
                    (("max_output_tokens",), sampling.max_tokens),
                ),
            )
        return amended(self, model=model, streaming=streaming, edits=edits)

    def without_foreign_seals(self) -> ResponsesRequest:
        """
        Return a copy without the thoughts that are sealed for models of other dialects.

        OpenAI refuses a thought that it cannot read, with its id and all, so the whole
        item goes. A seal of its own that was put into a parcel is taken out of it.
        """
        if seals.PARCEL.encode() not in self.raw:
            return self
        text, member = self.body.text, self.body.one("input")
        if member is None or self.body.kind(member) != "array":
            return self
        items = text.elements(member.start)
        edits: list[Edit] = []
        foreign: list[int] = []
        for index, (start, end) in enumerate(items):
            if seals.PARCEL.encode() not in text.raw[start:end]:
                continue
            item = Fields.of(text, start, f"input[{index}]")
            sealed = item.one("encrypted_content")
            if sealed is None or item.kind(sealed) != "string":
                continue
            seal = seals.taken(text_of(item.raw(sealed)), NAME)
            if seal.issuer != NAME:
                foreign.append(index)
            elif seal.value != text_of(item.raw(sealed)):
                edits.append((sealed.start, sealed.end, quote(seal.value)))
                edits += [item.put("id", quote(seal.id))] if seal.id else []
        edits += system_prompt.dropped(items, foreign)
        return freed(self, edits=edits, losses=("reasoning",) if foreign else ())

    def system_text(self) -> str:
        """Return the text of the instructions and of system and developer items."""
        body = decoded(self.body.text)
        items = [
            entry(item, "content")
            for item in listed(body.get("input"))
            if entry(item, "role") in _SYSTEM_ROLES
        ]
        return text_in([body.get("instructions"), *items])

    def prompt_text(self) -> str:
        """Return the text of the input's last item; what a tool gave back counts."""
        given = decoded(self.body.text).get("input")
        return text_in(given[-1] if isinstance(given, list) and given else given)

    def affinity(self) -> Affinity:
        """Say which conversation this is a turn of."""
        if self.action != "generate":
            return Affinity()
        kept = {
            member.key: self._readable(member)
            for member in self.body.members
            if member.key in _KEPT
        }
        talk = kept.get("conversation")
        return affinity(
            self.body,
            session=self.session,
            system=("instructions",),
            turns="input",
            stored=plain(kept.get("previous_response_id")) is not None,
            conversation=plain(talk) or plain(entry(talk, "id")),
        )

    def _readable(self, member: Member) -> Any:
        return read(self.body.text.readable[member.start : member.end])

    def _instruction_edits(self, edit: SystemEdit) -> list[Edit]:
        member = self.body.check("instructions", "string", "null", "absent")
        told = member is not None and self.body.kind(member) == "string"
        if edit.text and (not told or edit.mode == "overwrite"):
            return [self.body.put("instructions", system_prompt.added(edit))]
        if member is None:
            return []
        place, where = (member.start, member.end), "instructions"
        if edit.text:
            return system_prompt.appended(self.body.text, place, edit, part=b"", where=where)
        return system_prompt.replaced(self.body.text, place, edit, where=where)

    def _input_edits(self, edit: SystemEdit) -> list[Edit]:
        text, member = self.body.text, self.body.one("input")
        if member is None or self.body.kind(member) != "array":
            return []
        items = text.elements(member.start)
        found = system_prompt.with_role(text, items, _SYSTEM_ROLES)
        if edit.text and edit.mode == "overwrite" and len(found) < len(items):
            return system_prompt.dropped(items, found)
        edits: list[Edit] = []
        for index in found:
            item = Fields.of(text, items[index][0], f"input[{index}]")
            content = item.one("content")
            if content is not None:
                place = (content.start, content.end)
                where = item.path("content")
                edits += system_prompt.replaced(text, place, edit, where=where)
        return edits
