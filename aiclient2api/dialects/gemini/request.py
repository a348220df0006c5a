"""
Gemini: a request as a client sent it, bytes with places.

It finds the few fields that policy reads or edits, and must never look at the rest.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import attrs
from zope.interface import implementer

from aiclient2api.conversation import seals
from aiclient2api.conversation.losses import merged
from aiclient2api.dialects import sampling, system_prompt
from aiclient2api.dialects.affinity import affinity
from aiclient2api.dialects.gemini.signatures import without_foreign
from aiclient2api.dialects.wire_request import (
    Fields,
    decoded,
    entry,
    listed,
    text_in,
    wrong,
)
from aiclient2api.errors import InvalidRequest
from aiclient2api.framing.json_text import Edit, quote, text_of, write
from aiclient2api.interfaces import IGeminiRequest
from aiclient2api.values import Affinity, Headers, Sampling, SystemEdit

NAME = "gemini"
SYSTEM = ("systemInstruction", "system_instruction")
NESTED = ("generateContentRequest", "generate_content_request")
CONFIG = ("generationConfig", "generation_config")
SSE_QUERY = (("alt", "sse"),)


@implementer(IGeminiRequest)
@attrs.frozen
class GeminiRequest:
    """One generateContent, streamGenerateContent or countTokens request."""

    body: Fields = attrs.field(repr=False)
    model: str
    streaming: bool
    framing: str
    action: str = "generate"
    headers: Headers = attrs.field(default=(), repr=False)
    query: tuple[tuple[str, str], ...] = attrs.field(default=(), repr=False)
    losses: tuple[str, ...] = ()
    session: str | None = attrs.field(default=None, repr=False)
    dialect: str = attrs.field(default=NAME, init=False)

    @property
    def raw(self) -> bytes:
        """The body as it stands."""
        return self.body.text.raw

    def amended(
        self,
        *,
        model: str | None = None,
        system: SystemEdit | None = None,
        streaming: bool | None = None,
        sampling: Sampling | None = None,
    ) -> GeminiRequest:
        """
        Return a copy with these changed; every other byte stays as it was.

        Model and stream stand in the URL; where the body names the model as well, as a
        count of tokens does, it is changed there, too.
        """
        request = self
        if streaming is not None and streaming != self.streaming:
            request = attrs.evolve(
                request,
                streaming=streaming,
                framing="sse" if streaming else "whole",
                query=SSE_QUERY if streaming else (),
            )
        edits = self._system_edits(system) if system is not None else []
        # The length of an answer is nothing to who only counts.
        if sampling is not None and self.action == "generate":
            edits += self._sampling_edits(sampling)
        if model is not None and model != self.model:
            edits += self._model_edits(model)
        return attrs.evolve(
            request,
            model=self.model if model is None else model,
            body=Fields.of(self.body.text.spliced(edits)) if edits else self.body,
        )

    def without_foreign_seals(self) -> GeminiRequest:
        """Return a copy without what models of other dialects sealed."""
        if seals.PARCEL.encode() not in self.raw:
            return self
        holder = (self.action == "count_tokens" and _holder(self.body)) or self.body
        edits, lost = without_foreign(holder, NAME)
        if not edits:
            return self
        return attrs.evolve(
            self,
            body=Fields.of(self.body.text.spliced(edits)),
            losses=merged(self.losses, ("reasoning",) if lost else ()),
        )

    def to_bytes(self) -> bytes:
        """Return the body to send."""
        return self.raw

    def system_text(self) -> str:
        """Return the text of the system instruction."""
        body = _content_of(decoded(self.body.text))
        found = [entry(body.get(key), "parts") for key in SYSTEM]
        return text_in([_parts_text(parts) for parts in found])

    def prompt_text(self) -> str:
        """Return the text of the last content; what a function gave back counts."""
        contents = listed(_content_of(decoded(self.body.text)).get("contents"))
        return _parts_text(entry(contents[-1], "parts")) if contents else ""

    def affinity(self) -> Affinity:
        """Say which conversation this is a turn of."""
        body = self.body
        # What a count holds was not looked into, so it may be of any size and form.
        with suppress(InvalidRequest):
            body = (self.action == "count_tokens" and _holder(body)) or body
        return affinity(body, session=self.session, system=SYSTEM, turns="contents")

    def _sampling_edits(self, asked: Sampling) -> list[Edit]:
        member = self.body.check(CONFIG[0], "object", "null", "absent", spellings=CONFIG[1:])
        keys = [member.key] if member else [each.key for each in self.body.members]
        snake = any("_" in key for key in keys)
        values = [
            (spellings[::-1] if snake else spellings, value)
            for spellings, value in (
                (("temperature",), asked.temperature),
                (("topP", "top_p"), asked.top_p),
                (("maxOutputTokens", "max_output_tokens"), asked.max_tokens),
            )
        ]
        if member is not None and self.body.kind(member) == "object":
            config = Fields.of(self.body.text, member.start, member.key)
            return sampling.edits(config, values)
        if asked == Sampling():
            return []
        return [self.body.put(member.key if member else CONFIG[snake], sampling.written(values))]

    def _model_edits(self, model: str) -> list[Edit]:
        """Return the edits of every field that names the model as the URL does."""
        before = {prefix + self.model: prefix for prefix in ("", "models/")}
        edits: list[Edit] = []
        for fields in filter(None, (self.body, _holder(self.body))):
            for member in fields.members:
                if member.key == "model" and fields.kind(member) == "string":
                    prefix = before.get(text_of(fields.raw(member)))
                    if prefix is not None:
                        edits.append((member.start, member.end, quote(prefix + model)))
        return edits

    def _system_edits(self, edit: SystemEdit) -> list[Edit]:
        body = _holder(self.body) if self.action == "count_tokens" else self.body
        if body is None:
            # A bare countTokens has no place for a system instruction.
            return []
        member = body.check(SYSTEM[0], "object", "null", "absent", spellings=SYSTEM[1:])
        part = b'{"text":' + system_prompt.added(edit) + b"}"
        whole = b'{"parts":[' + part + b"]}"
        if member is None or body.kind(member) == "null":
            return [body.put(member.key if member else SYSTEM[0], whole)] if edit.text else []
        content = Fields.of(body.text, member.start, body.path(member.key))
        parts, where = content.one("parts"), content.path("parts")
        kind = content.kind(parts)
        if kind not in ("array", "object", "null", "absent"):
            raise wrong(where, kind, "a list of text parts")
        if parts is None or kind == "null":
            return [content.put("parts", b"[" + part + b"]")] if edit.text else []
        place = (parts.start, parts.end)
        changes = system_prompt.replaced(body.text, place, edit, where=where)
        if not edit.text:
            return changes
        if edit.mode == "overwrite":
            return [content.put("parts", b"[" + part + b"]")]
        return system_prompt.appended(body.text, place, edit, part=part, where=where)


def _holder(body: Fields) -> Fields | None:
    """Return the request a countTokens body holds, None if it holds bare contents."""
    member = body.one(*NESTED)
    if member is None or body.kind(member) != "object":
        return None
    return Fields.of(body.text, member.start, member.key)


def _content_of(body: dict[str, Any]) -> dict[str, Any]:
    held = next((body[key] for key in NESTED if isinstance(body.get(key), dict)), body)
    return held


def _parts_text(parts: Any) -> str:
    return "\n".join(text for text in map(_part_text, listed(parts)) if text)


def _part_text(part: Any) -> str:
    answer = entry(part, "functionResponse") or entry(part, "function_response")
    if answer is None:
        return text_in(entry(part, "text"))
    given = entry(answer, "response")
    for key in ("output", "result", "content", "error"):
        if isinstance(entry(given, key), str):
            return text_in(given[key])
    return write(given).decode() if given else ""
