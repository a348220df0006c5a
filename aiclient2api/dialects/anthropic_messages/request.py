"""
Anthropic Messages: a request as a client sent it, bytes with places.

It finds the few fields that policy reads or edits, and must never look at the rest.
"""

from __future__ import annotations

import attrs
from zope.interface import implementer

from aiclient2api.conversation import seals
from aiclient2api.dialects import system_prompt
from aiclient2api.dialects.affinity import affinity
from aiclient2api.dialects.anthropic_messages.foreign_seals import ForeignSeals
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
from aiclient2api.framing.json_text import Edit
from aiclient2api.interfaces import IAnthropicMessagesRequest
from aiclient2api.values import Affinity, Sampling, SystemEdit

NAME = "anthropic-messages"


@implementer(IAnthropicMessagesRequest)
@attrs.frozen
class MessagesRequest(BodyRequest):
    """One Messages request, or a question how many tokens it would be."""

    dialect: str = attrs.field(default=NAME, init=False)

    def amended(
        self,
        *,
        model: str | None = None,
        system: SystemEdit | None = None,
        streaming: bool | None = None,
        sampling: Sampling | None = None,
    ) -> MessagesRequest:
        """Return a copy with these changed; every other byte stays as it was."""
        edits: list[Edit] = []
        if system is not None:
            edits += self._system_edits(system)
            edits += self._message_edits(system)
        # Who only counts takes no such fields.
        if sampling is not None and self.action == "generate":
            edits += sampling_edits(
                self.body,
                (
                    (("temperature",), sampling.temperature),
                    (("top_p",), sampling.top_p),
                    (("max_tokens",), sampling.max_tokens),
                ),
            )
        return amended(self, model=model, streaming=streaming, edits=edits)

    def without_foreign_seals(self) -> MessagesRequest:
        """Return a copy without what models of other dialects sealed."""
        if seals.PARCEL.encode() not in self.raw:
            return self
        foreign = ForeignSeals(self.body, NAME)
        return freed(self, edits=foreign.edits, losses=foreign.losses)

    def system_text(self) -> str:
        """Return the text of the system prompt, and of system messages."""
        body = decoded(self.body.text)
        messages = [
            entry(message, "content")
            for message in listed(body.get("messages"))
            if entry(message, "role") == "system"
        ]
        return text_in([body.get("system"), *messages])

    def prompt_text(self) -> str:
        """Return the text of the last message; what a tool gave back counts."""
        messages = listed(decoded(self.body.text).get("messages"))
        return text_in(entry(messages[-1], "content")) if messages else ""

    def affinity(self) -> Affinity:
        """Say which conversation this is a turn of."""
        return affinity(
            self.body, session=self.session, system=("system",), turns="messages", personal=True
        )

    def _system_edits(self, edit: SystemEdit) -> list[Edit]:
        member = self.body.check("system", "string", "array", "null", "absent")
        if member is None:
            return [self.body.put("system", system_prompt.added(edit))] if edit.text else []
        text, place = self.body.text, (member.start, member.end)
        if not edit.text:
            return system_prompt.replaced(text, place, edit, where="system")
        string = system_prompt.added(edit)
        if edit.mode == "overwrite":
            return [system_prompt.overwritten(text, place, string=string, where="system")]
        part = b'{"type":"text","text":' + string + b"}"
        return system_prompt.appended(text, place, edit, part=part, where="system")

    def _message_edits(self, edit: SystemEdit) -> list[Edit]:
        """Return the edits of messages whose role is ``system``: some clients send such."""
        text, member = self.body.text, self.body.check("messages", "array")
        assert member is not None
        items = text.elements(member.start)
        found = system_prompt.with_role(text, items, ("system",))
        if edit.text and edit.mode == "overwrite" and len(found) < len(items):
            return system_prompt.dropped(items, found)
        edits: list[Edit] = []
        for index in found:
            message = Fields.of(text, items[index][0], f"messages[{index}]")
            content = message.one("content")
            if content is not None:
                place, where = (content.start, content.end), message.path("content")
                edits += system_prompt.replaced(text, place, edit, where=where)
        return edits
