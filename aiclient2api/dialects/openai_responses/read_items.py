"""
The input of a request: its items, read into turns.

An item is a message, a thought, a call or a tool's answer, one beside the other; here they
become what one side said, in order. It must never know what the model is asked to do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs

from aiclient2api.conversation.request import (
    Audio,
    Call,
    File,
    Image,
    Part,
    Reasoning,
    Refusal,
    Result,
    Text,
    Tool,
    Turn,
)
from aiclient2api.conversation.seals import Seal, taken
from aiclient2api.conversation.tools import arguments_of
from aiclient2api.dialects.nodes import Node, code, kind_of
from aiclient2api.dialects.openai_media import read_audio, read_file, read_image
from aiclient2api.dialects.openai_responses.media_words import instead_of
from aiclient2api.dialects.openai_responses.request import NAME
from aiclient2api.dialects.wire_request import wrong
from aiclient2api.errors import InvalidRequest
from aiclient2api.framing.json_text import write

SHELL = "local_shell"
"""What the model calls the tool that OpenAI gives no name."""

_TEXTS = ("input_text", "output_text", "text")
_INSTRUCTIONS = ("system", "developer")


@attrs.define
class Items:
    """
    What the items of one input say.

    :ivar system: Instructions that stand before everything else.
    :ivar dropped: What was found no word for.
    """

    system: list[Text] = attrs.field(factory=list)
    turns: list[Turn] = attrs.field(factory=list)
    dropped: list[str] = attrs.field(factory=list)
    _shells: dict[str, str] = attrs.field(factory=dict)

    def take(self, item: Node) -> None:
        """
        Read one item.

        :raise InvalidRequest: if it is malformed, or refers to something stored elsewhere.
        """
        kind = item.text("type") or ("message" if item.has("role") else "")
        reader = _READERS.get(kind)
        if reader is not None:
            reader(self, item)
        elif kind == "item_reference" or (not kind and item.has("id")):
            raise InvalidRequest(
                f"The item {item.where} refers to one that is stored with OpenAI, which no other"
                " model can read; send the item itself.",
                code="unsupported_item",
                param=item.where,
            )
        elif not kind:
            raise item.wrong("type", "the type of the item")
        else:
            self.dropped.append(code("part", kind))

    def _message(self, item: Node) -> None:
        role = item.choice("role", "user", "assistant", *_INSTRUCTIONS)
        if not role:
            raise item.wrong("role", "user, assistant, system or developer")
        parts = self._parts(item, "content")
        if role not in _INSTRUCTIONS:
            self._say(role, *parts)
        else:
            told = [each for each in map(self._instructing, parts) if each is not None]
            if self.turns:
                self._say("system", *told)
            else:
                self.system += told

    def _instructing(self, part: Part) -> Text | None:
        """Return *part* as it stands among instructions, which are text everywhere else."""
        if isinstance(part, Image | File | Audio):
            loss, sentence = instead_of(part)
            self.dropped.append(loss)
            return Text(f"[{sentence}]")
        return (
            Text(part.text)
            if isinstance(part, Refusal)
            else part
            if isinstance(part, Text)
            else None
        )

    def _reasoning(self, item: Node) -> None:
        told = [*item.objects("summary")] or [*item.objects("content")]
        text = "\n\n".join(part.text("text") for part in told)
        seal = _seal(item)
        if text or seal is not None:
            self._say("assistant", Reasoning(text, seal))

    def _function_call(self, item: Node) -> None:
        arguments = item.members.get("arguments")
        if not isinstance(arguments, str):
            arguments = "{}" if arguments is None else _written(arguments)
        self._call(item, flat(item.name("name"), item), arguments)

    def _custom_call(self, item: Node) -> None:
        arguments = arguments_of(item.text("input"))
        self._call(item, flat(item.name("name"), item), arguments)

    def _local_shell_call(self, item: Node) -> None:
        call = self._call(item, SHELL, _action(item))
        self._shells[item.text("id") or call] = call

    def _shell_call(self, item: Node) -> None:
        self._call(item, "shell", _action(item))

    def _call(self, item: Node, name: str, arguments: str) -> str:
        id = item.text("call_id") or item.text("id")
        if not id:
            raise item.wrong("call_id", "the id of the call")
        self._say("assistant", Call(id, name, arguments))
        return id

    def _output(self, item: Node) -> None:
        id = item.text("call_id")
        if not id:
            # The answer of a local shell has the id of the item, or that of the call:
            # https://platform.openai.com/docs/guides/tools-local-shell
            own = item.text("id")
            id = self._shells.get(own, own)
        if not id:
            raise item.wrong("call_id", "the id of the call that is answered")
        parts = self._answer(item)
        self._say("user", Result(id, item.text("name"), parts))

    def _answer(self, item: Node) -> tuple[Text | Image | File | Audio, ...]:
        output = item.members.get("output")
        if output is None or isinstance(output, str):
            return (Text(output or ""),)
        if not _are_parts(output):
            return (Text(_written(output)),)
        parts = self._parts(item, "output")
        return tuple(part for part in parts if isinstance(part, Text | Image | File | Audio))

    def _parts(self, item: Node, key: str) -> list[Part]:
        content = item.members.get(key)
        if content is None:
            return []
        if isinstance(content, str):
            return [Text(content)]
        if not isinstance(content, list):
            raise wrong(item.path(key), kind_of(content), "a string or an array")
        parts: list[Part] = []
        for part in item.objects(key):
            kind = part.text("type")
            if part.has("prompt_cache_breakpoint"):
                self.dropped.append("cache_control")
            if kind in _TEXTS:
                parts.append(Text(part.text("text")))
                if part.members.get("annotations"):
                    self.dropped.append("citations")
            elif kind == "refusal":
                parts.append(Refusal(part.text("refusal")))
            elif kind == "input_image":
                parts.append(read_image(part))
            elif kind == "input_file":
                parts.append(read_file(part))
            elif kind == "input_audio":
                parts.append(read_audio(part))
            elif kind:
                self.dropped.append(code("part", kind))
            else:
                raise part.wrong("type", "the type of the part")
        return parts

    def _say(self, role: str, *parts: Part) -> None:
        self.turns.append(Turn(role, parts))


_READERS: dict[str, Callable[[Items, Node], None]] = {
    "message": Items._message,
    "reasoning": Items._reasoning,
    "function_call": Items._function_call,
    "custom_tool_call": Items._custom_call,
    "local_shell_call": Items._local_shell_call,
    "shell_call": Items._shell_call,
    "function_call_output": Items._output,
    "custom_tool_call_output": Items._output,
    "local_shell_call_output": Items._output,
    "shell_call_output": Items._output,
}


def flat(name: str, item: Node) -> str:
    """Return the name by which a tool is known everywhere else; see `Tool.flat_name`."""
    return Tool("function", name, namespace=item.text("namespace")).flat_name


def _seal(item: Node) -> Seal | None:
    sealed = item.text("encrypted_content")
    if not sealed:
        return None
    seal = taken(sealed, NAME)
    if seal.issuer == NAME and not seal.id:
        return attrs.evolve(seal, id=item.text("id"))
    return seal if seal.value else None


def _action(item: Node) -> str:
    action = item.object("action")
    if action is None:
        return "{}"
    return _written({key: value for key, value in action.members.items() if key != "type"})


def _are_parts(output: Any) -> bool:
    # The output of OpenAI's newer shell is a list, too, of what each command printed.
    parts: Sequence[Any] = output if isinstance(output, list) else ()
    return bool(parts) and all(isinstance(part, dict) and "type" in part for part in parts)


def _written(value: Any) -> str:
    return write(value).decode()
