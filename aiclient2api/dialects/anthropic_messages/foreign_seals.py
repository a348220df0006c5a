"""
Anthropic Messages: take out of a request what models of other dialects sealed.

A client that has talked to one of them sends its thoughts back in Claude's own blocks,
in parcels of ours; Anthropic would answer that the signature is invalid. Ranges of bytes
are edited, whatever is not named stays as it was. It must never look into a seal.
"""

from __future__ import annotations

from typing import Any

from aiclient2api.conversation import seals
from aiclient2api.dialects.anthropic_messages.tool_loop import THOUGHTS, loop_start
from aiclient2api.dialects.system_prompt import dropped
from aiclient2api.dialects.wire_request import Fields, entry, kind_at
from aiclient2api.framing.json_text import Edit, quote, read, text_of, write

_PARCEL = seals.PARCEL.encode()
_EMPTIED = b'{"type":"text","text":"(A thought that is not shown.)"}'
"""What a message says that held nothing else: one without content is refused."""


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
        messages = body.one("messages")
        places = body.text.elements(messages.start) if messages is not None else []
        bare: set[int] = set()
        for index, place in enumerate(places):
            if self._text.raw.find(_PARCEL, *place) >= 0 and self._message(place[0]):
                bare.add(index)
        if bare and loop_start(len(places), lambda index: self._read(places[index])) in bare:
            self._stop_thinking(body)

    def _message(self, start: int) -> bool:
        """Edit a message; say whether thoughts are gone from it and it begins with none."""
        content = Fields.of(self._text, start).one("content")
        if content is None or kind_at(self._text, content.start) != "array":
            return False
        blocks = self._text.elements(content.start)
        kinds: list[str] = []
        gone: list[int] = []
        for index, (at, end) in enumerate(blocks):
            if kind_at(self._text, at) != "object":
                continue
            block = Fields.of(self._text, at)
            kind = _string(block, "type")
            if kind in THOUGHTS and not self._thought(block, kind, end):
                gone.append(index)
                continue
            kinds.append(kind)
            if kind == "text":
                self._citations(block)
        if len(gone) == len(blocks) and gone:
            self.edits.append((blocks[0][0], blocks[-1][1], _EMPTIED))
        else:
            self.edits += dropped(blocks, gone)
        if gone:
            self.losses = ("reasoning",)
        return bool(gone) and (not kinds or kinds[0] not in THOUGHTS)

    def _thought(self, block: Fields, kind: str, end: int) -> bool:
        """Edit a thought of the dialect's own; say whether it is one."""
        key = THOUGHTS[kind]
        member, carried = block.one(key), _string(block, key)
        if member is None or not carried.startswith(seals.PARCEL):
            return True
        seal = seals.taken(carried, self._dialect)
        if seal.issuer != self._dialect:
            return False
        if seal.hidden == (kind == "redacted_thinking"):
            self.edits.append((member.start, member.end, quote(seal.value)))
            return True
        native: dict[str, Any] = (
            {"type": "redacted_thinking", "data": seal.value}
            if seal.hidden
            else {"type": "thinking", "thinking": "", "signature": seal.value}
        )
        self.edits.append((block.start, end, write(native)))
        return True

    def _citations(self, block: Fields) -> None:
        """Take out the citations that `write_reply` made of another vendor's."""
        member = block.one("citations")
        if member is None or kind_at(self._text, member.start) != "array":
            return
        places = self._text.elements(member.start)
        ours = [index for index, place in enumerate(places) if self._is_ours(place[0])]
        if ours and len(ours) == len(places):
            self.edits.append((member.start, member.end, b"null"))
        else:
            self.edits += dropped(places, ours)

    def _is_ours(self, start: int) -> bool:
        if kind_at(self._text, start) != "object":
            return False
        index = _string(Fields.of(self._text, start), "encrypted_index")
        return index.startswith(seals.PARCEL)

    def _stop_thinking(self, body: Fields) -> None:
        """Ask for no thoughts in this request; see `tool_loop`."""
        thinking = body.one("thinking")
        if thinking is None or entry(read(body.raw(thinking)), "type") != "enabled":
            return
        self.losses += ("thinking",)
        removed = [thinking]
        managed = body.one("context_management")
        if managed is not None and body.kind(managed) == "object":
            edits = Fields.of(self._text, managed.start).one("edits")
            if edits is not None and kind_at(self._text, edits.start) == "array":
                places = self._text.elements(edits.start)
                # Refused without thinking: https://github.com/anthropics/claude-code/issues/11971
                idle = [i for i, place in enumerate(places) if self._clears_thoughts(place)]
                if idle and len(idle) == len(places):
                    removed.append(managed)
                else:
                    self.edits += dropped(places, idle)
        places = [(member.key_start, member.end) for member in body.members]
        self.edits += dropped(places, [body.members.index(member) for member in removed])

    def _read(self, place: tuple[int, int]) -> Any:
        return read(self._text.raw[slice(*place)])

    def _clears_thoughts(self, place: tuple[int, int]) -> bool:
        kind = entry(self._read(place), "type")
        return isinstance(kind, str) and kind.startswith("clear_thinking")


def _string(fields: Fields, key: str) -> str:
    member = fields.one(key)
    if member is None or fields.kind(member) != "string":
        return ""
    return text_of(fields.raw(member))
