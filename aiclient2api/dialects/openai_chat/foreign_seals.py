"""
Chat Completions: take out of a request what models of other dialects sealed.

A client that has talked to one of them sends its seals back where Google's own endpoint
of this dialect keeps them: beside a call, in parcels of ours. Ranges of bytes are edited,
whatever is not named stays as it was. It must never look into a seal.
"""

from __future__ import annotations

from aiclient2api.conversation import seals
from aiclient2api.dialects.system_prompt import dropped
from aiclient2api.dialects.wire_request import Fields
from aiclient2api.framing.json_text import Edit, Member, quote, text_of

_PARCEL = seals.PARCEL.encode()
_PATH = ("extra_content", "google", "thought_signature")


class ForeignSeals:
    """
    The edits that rid one request of them.

    :param dialect: Whose seals stay.
    :ivar edits: Ranges of the body to replace.
    :ivar losses: Codes of `aiclient2api.conversation.losses`.
    """

    def __init__(self, body: Fields, dialect: str) -> None:
        self.edits: list[Edit] = []
        self.losses: tuple[str, ...] = ()
        self._text = body.text
        self._dialect = dialect
        for message in self._objects(body, "messages"):
            for call in self._objects(message, "tool_calls"):
                self._call(call)

    def _objects(self, fields: Fields, key: str) -> list[Fields]:
        """Return those of the objects in the array under *key* that hold a parcel."""
        member = fields.one(key)
        if member is None or fields.kind(member) != "array":
            return []
        raw = self._text.raw
        return [
            Fields.of(self._text, start)
            for start, end in self._text.elements(member.start)
            if raw[start] == ord("{") and raw.find(_PARCEL, start, end) >= 0
        ]

    def _call(self, call: Fields) -> None:
        """Edit one call: take the seal out, and what holds nothing but the seal."""
        holders: list[tuple[Fields, Member]] = []
        fields = call
        for key in _PATH:
            member = fields.one(key)
            if member is None:
                return
            holders.append((fields, member))
            if key != _PATH[-1]:
                if fields.kind(member) != "object":
                    return
                fields = Fields.of(self._text, member.start)
        holder, member = holders[-1]
        carried = text_of(holder.raw(member)) if holder.kind(member) == "string" else ""
        if not carried.startswith(seals.PARCEL):
            return
        seal = seals.taken(carried, self._dialect)
        if seal.issuer == self._dialect:
            self.edits.append((member.start, member.end, quote(seal.value)))
            return
        self.losses = ("reasoning",)
        while len(holder.members) == 1 and len(holders) > 1:
            holders.pop()
            holder, member = holders[-1]
        places = [(each.key_start, each.end) for each in holder.members]
        self.edits += dropped(places, [holder.members.index(member)])
