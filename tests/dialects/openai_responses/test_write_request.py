"""Responses: what an upstream is asked, written."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation.losses import known
from aiclient2api.conversation.request import (
    Audio,
    Call,
    Conversation,
    File,
    Image,
    Inline,
    Media,
    OutputFormat,
    Part,
    Reasoning,
    Refusal,
    Remote,
    Result,
    Sampling,
    Text,
    Thinking,
    Tool,
    Turn,
    Uploaded,
)
from aiclient2api.conversation.seals import Seal
from aiclient2api.dialects.openai_responses.request import NAME
from aiclient2api.interfaces import IConversation, IOpenAIResponsesRequest
from aiclient2api.values import Traits
from tests.dialects.openai_responses.judge import asked, parsed, read, written
from tests.recordings import all_recordings

_PNG = Inline("image/png", "aGk=")
_OWN = Seal(NAME, "gAAAA", id="rs_1")


def _user(*parts: Part) -> Turn:
    return Turn("user", parts)


def _model(*parts: Part) -> Turn:
    return Turn("assistant", parts)


def _items(*turns: Turn, **fields: Any) -> tuple[list[Any], tuple[str, ...]]:
    body, losses = written(asked(*turns, **fields))
    return body["input"], losses


def _content(*parts: Part) -> tuple[list[Any], tuple[str, ...]]:
    ((item,), losses) = _items(_user(*parts))
    return item["content"], losses


class InputTests(SynchronousTestCase):
    """Turns."""

    def test_a_talk_with_tools(self) -> None:
        """Calls are answered at once, what was said beside them stays."""
        body, losses = written(
            asked(
                _user(Text("hi")),
                _model(Text("calling"), Call("c1", "f", '{"a":1.10}'), Call("c2", "f", "")),
                _user(
                    Result("c1", parts=(Text("r1"),)),
                    Result("c2", parts=(Text("boom"),), is_error=True),
                    Text("go on"),
                ),
                system=(Text("S1"), Text("S2")),
                tools=(Tool("function", "f", "d", {"type": "object"}),),
            )
        )
        self.assertEqual(
            body,
            {
                "model": "m",
                "store": False,
                "instructions": "S1\n\nS2",
                "input": [
                    _said("user", "hi"),
                    {"type": "message", "role": "assistant", "content": "calling"},
                    {
                        "type": "function_call",
                        "call_id": "c1",
                        "name": "f",
                        "arguments": '{"a":1.10}',
                    },
                    {"type": "function_call", "call_id": "c2", "name": "f", "arguments": "{}"},
                    {"type": "function_call_output", "call_id": "c1", "output": "r1"},
                    {"type": "function_call_output", "call_id": "c2", "output": "Error: boom"},
                    _said("user", "go on"),
                ],
                "tools": [
                    {
                        "type": "function",
                        "name": "f",
                        "description": "d",
                        "parameters": {"type": "object", "properties": {}},
                        "strict": False,
                    }
                ],
            },
        )
        self.assertEqual(losses, ("tool_error",))

    def test_streams(self) -> None:
        """A stream is asked for where one was."""
        body, _ = written(attrs.evolve(asked(), streaming=True))
        self.assertIs(body["stream"], True)

    def test_instructions_in_between_stay_there(self) -> None:
        """They are the developer's: the Codex backend takes no others."""
        items, losses = _items(_user(Text("a")), Turn("system", (Text("b"),)), _user(Text("c")))
        self.assertEqual(items, [_said("user", "a"), _said("developer", "b"), _said("user", "c")])
        self.assertEqual(losses, ())

    def test_nothing_but_instructions(self) -> None:
        """They are the input then, for there must be one."""
        body, _ = written(Conversation("m", False, system=(Text("S"),)))
        self.assertEqual(body["input"], [_said("developer", "S")])
        self.assertNotIn("instructions", body)

    def test_long_ids(self) -> None:
        """An id that is too long is the same short one in call and answer."""
        long = "call_" + "x" * 200
        items, _ = _items(_model(Call(long, "f")), _user(Result(long, parts=(Text("r"),))))
        ids = {item["call_id"] for item in items}
        self.assertEqual(len(ids), 1)
        self.assertEqual(len(ids.pop()), 64)

    def test_media(self) -> None:
        """Pictures and documents go along by bytes, address or OpenAI's own id."""
        uploaded: list[Media] = [Uploaded("openai", "file_1"), Uploaded("openai", "file_2")]
        content, losses = _content(
            Text("look"),
            Image(_PNG, "low"),
            Image(Remote("https://x/y.png")),
            *map(Image, uploaded),
            File(Inline("application/pdf", "aGk="), "a.pdf"),
            File(Inline("application/pdf", "aGk=")),
            File(Remote("https://x/a.pdf")),
            *map(File, uploaded),
        )
        image = {"type": "input_image", "detail": "auto"}
        pdf = {"type": "input_file", "file_data": "data:application/pdf;base64,aGk="}
        self.assertEqual(
            content,
            [
                {"type": "input_text", "text": "look"},
                {**image, "detail": "low", "image_url": "data:image/png;base64,aGk="},
                {**image, "image_url": "https://x/y.png"},
                {**image, "file_id": "file_1"},
                {**image, "file_id": "file_2"},
                {**pdf, "filename": "a.pdf"},
                {**pdf, "filename": "file.pdf"},
                {"type": "input_file", "file_url": "https://x/a.pdf"},
                {"type": "input_file", "file_id": "file_1"},
                {"type": "input_file", "file_id": "file_2"},
            ],
        )
        self.assertEqual(losses, ())

    def test_media_that_cannot_go_along(self) -> None:
        """A sentence stands in the place of each, and it is named."""
        for part, code, words in (
            (Audio(Inline("audio/wav", "aGk=")), "audio", "A sound"),
            (Image(Uploaded("gemini", "files/1")), "file_id", "files/1"),
            (File(Uploaded("anthropic-messages", "f1"), "a.pdf"), "file_id", "a.pdf"),
            (Image(Remote("gs://x/y")), "image", "An image"),
            (File(Remote("gs://x/y")), "file", "gs://x/y"),
            (Image(Inline("image/svg+xml", "aGk=")), "image", "An image"),
        ):
            (told,), losses = _content(part)
            self.assertEqual((told["type"], losses), ("input_text", (code,)))
            self.assertIn(words, told["text"])
        items, losses = _items(_user(Text("a")), _model(Image(_PNG)), _user(Text("b")))
        self.assertEqual((items[1]["role"], losses), ("assistant", ("image",)))

    def test_media_that_a_tool_gave(self) -> None:
        """It goes along in the tool's answer, in its place."""
        result = Result("c", parts=(Text("a"), Image(_PNG), Text("b")), is_error=True)
        items, _ = _items(_model(Call("c", "f")), _user(result))
        kinds = [part["type"] for part in items[1]["output"]]
        self.assertEqual(kinds, ["input_text", "input_text", "input_image", "input_text"])
        self.assertEqual(items[1]["output"][0]["text"], "Error:")

    def test_what_the_model_said(self) -> None:
        """Each text is a message; what is empty is none; the last one is not gone on with."""
        items, losses = _items(
            _user(Text("")), _model(Text("a"), Text(""), Text("b"), Refusal("no"), Text("{"))
        )
        self.assertEqual([item["content"] for item in items], ["a", "b", "no", "{"])
        self.assertEqual(losses, ("prefill",))

    def test_cache_marks(self) -> None:
        """They have no place, wherever they stand."""
        mark = {"type": "ephemeral"}
        for conversation in (
            asked(system=(Text("s", cache=mark),)),
            asked(_user(Text("s", cache=mark))),
            asked(tools=(Tool("function", "f", cache=mark),)),
        ):
            self.assertEqual(written(conversation)[1], ("cache_control",))


class ThoughtTests(SynchronousTestCase):
    """Thoughts, and how much to think."""

    def test_own_thoughts_go_back(self) -> None:
        """With seal and id as they were, in front of what they led to."""
        items, losses = _items(
            _user(Text("a")), _model(Reasoning("hm", _OWN), Call("c", "f")), model="gpt-5"
        )
        self.assertEqual(
            items[1],
            {
                "type": "reasoning",
                "id": "rs_1",
                "summary": [{"type": "summary_text", "text": "hm"}],
                "encrypted_content": "gAAAA",
            },
        )
        self.assertEqual(items[2]["type"], "function_call")
        self.assertNotIn("reasoning", losses)
        bare = attrs.evolve(_OWN, id="")
        items, _ = _items(_model(Reasoning("", bare), Text("x")), _user(Text("y")))
        self.assertEqual(
            items[0], {"type": "reasoning", "summary": [], "encrypted_content": "gAAAA"}
        )

    def test_others_stay_behind(self) -> None:
        """Thoughts without a seal, of another's, or that led to nothing; or nobody would think."""
        for thought, model in (
            (Reasoning("hm"), "gpt-5"),
            (Reasoning("hm", Seal("anthropic-messages", "sig")), "gpt-5"),
            (Reasoning("hm", _OWN), "gpt-4o"),
        ):
            items, losses = _items(_model(thought, Text("x")), _user(Text("y")), model=model)
            self.assertEqual([item["type"] for item in items], ["message", "message"])
            self.assertEqual(losses, ("reasoning",))
        items, losses = _items(_user(Text("x")), _model(Text("y"), Reasoning("hm", _OWN)))
        self.assertEqual((len(items), "reasoning" in losses), (2, True))

    def test_effort(self) -> None:
        """Each model is told what it takes, the next greater effort where it must be."""
        for model, thinking, reasoning, lost in (
            ("gpt-5-mini", Thinking(effort="minimal"), {"effort": "minimal"}, False),
            ("gpt-5", Thinking(effort="none"), {"effort": "minimal"}, True),
            ("gpt-5", Thinking(effort="max"), {"effort": "high"}, True),
            ("gpt-5.1", Thinking(effort="none"), {"effort": "none"}, False),
            ("gpt-5.1", Thinking(effort="minimal"), {"effort": "low"}, True),
            ("gpt-5.1", Thinking(effort="auto"), {"effort": "medium"}, False),
            ("gpt-5.2", Thinking(effort="xhigh"), {"effort": "xhigh"}, False),
            ("gpt-5.2-codex", Thinking(effort="max"), {"effort": "xhigh"}, True),
            ("gpt-5-pro", Thinking(effort="low"), {"effort": "high"}, True),
            ("o4-mini", Thinking(effort="minimal"), {"effort": "low"}, True),
            ("openai/o3", Thinking(effort="high"), {"effort": "high"}, False),
            ("o3", Thinking(effort="auto"), None, False),
            ("grok-5", Thinking(effort="max"), {"effort": "max"}, False),
            ("grok-5", Thinking(budget=10_000), {"effort": "high"}, False),
            ("grok-5", Thinking(budget=-1, shown=True), {"summary": "auto"}, False),
            ("gpt-5", Thinking(shown=True), {"summary": "auto"}, False),
            (
                "gpt-5",
                Thinking(effort="low", shown=True),
                {"effort": "low", "summary": "auto"},
                False,
            ),
            ("gpt-5", Thinking(effort="low", shown=False), {"effort": "low"}, False),
            ("gpt-4o", Thinking(effort="low"), None, True),
            ("gpt-4o", Thinking(effort="none"), None, False),
            ("gpt-5-chat-latest", Thinking(effort="low", shown=True), None, True),
        ):
            body, losses = written(asked(model=model, thinking=thinking))
            self.assertEqual(body.get("reasoning"), reasoning, (model, thinking))
            self.assertEqual(losses, ("thinking",) if lost else (), (model, thinking))

    def test_a_model_that_cannot_think(self) -> None:
        """What the upstream's own peculiarities say counts, too."""
        traits = Traits(thinking="none")
        body, losses = written(asked(thinking=Thinking(effort="low"), traits=traits))
        self.assertEqual((body.get("reasoning"), losses), (None, ("thinking",)))

    def test_thoughts_come_along_sealed(self) -> None:
        """Wherever there may be any: they could not be sent back otherwise."""
        own = (_model(Reasoning("", _OWN), Text("x")), _user(Text("y")))
        for conversation, wanted in (
            (asked(model="gpt-5"), True),
            (asked(model="o3"), True),
            (asked(model="codex-mini-latest"), True),
            (asked(model="gpt-5.1", thinking=Thinking(effort="none")), False),
            (asked(model="gpt-4o"), False),
            (asked(model="gpt-4o", thinking=Thinking(effort="low")), False),
            (asked(model="grok-5"), False),
            (asked(model="grok-5", thinking=Thinking(shown=True)), True),
            (asked(*own, model="grok-5"), True),
        ):
            body, _ = written(conversation)
            include = ["reasoning.encrypted_content"] if wanted else None
            self.assertEqual(body.get("include"), include, conversation)


class SettingTests(SynchronousTestCase):
    """Everything beside turns and tools."""

    def test_sampling(self) -> None:
        """What there is is sent, an explicit 0 too; the rest is named."""
        everything = Sampling(7777, 0, 0.0, 3, ("END",), 1, 0.1, 0.2, 2)
        body, losses = written(asked(sampling=everything))
        self.assertEqual(
            (body["max_output_tokens"], body["temperature"], body["top_p"]), (7777, 0, 0.0)
        )
        self.assertEqual(
            losses,
            ("top_k", "seed", "presence_penalty", "frequency_penalty", "logprobs", "stop"),
        )

    def test_models_that_think_take_no_temperature(self) -> None:
        """Nor top_p; OpenAI refuses both but where the model was told not to think."""
        sampling = Sampling(temperature=1.0, top_p=0.9)
        for model, effort, takes in (
            ("gpt-5", None, False),
            ("o3", "low", False),
            ("gpt-5.1", None, True),
            ("gpt-5.1", "none", True),
            ("gpt-5.2", "low", False),
            ("gpt-4o", None, True),
            ("grok-5", "high", True),
        ):
            thinking = Thinking(effort=effort) if effort else None
            body, losses = written(asked(model=model, sampling=sampling, thinking=thinking))
            self.assertEqual("temperature" in body, takes, model)
            self.assertEqual(losses, () if takes else ("temperature", "top_p"), model)

    def test_few_tokens(self) -> None:
        """OpenAI refuses fewer than 16."""
        body, losses = written(asked(sampling=Sampling(max_tokens=1)))
        self.assertEqual((body["max_output_tokens"], losses), (16, ("max_tokens",)))

    def test_schemas(self) -> None:
        """An answer is held to its schema, strictly where OpenAI can."""
        closed = {
            "type": "object",
            "properties": {"a": {"type": "string"}},
            "required": ["a"],
            "additionalProperties": False,
        }
        output = OutputFormat(closed, "an answer", "d", True)
        body, losses = written(asked(output=output))
        form = {"type": "json_schema", "name": "an_answer", "schema": closed, "strict": True}
        self.assertEqual(body["text"], {"format": {**form, "description": "d"}})
        self.assertEqual(losses, ())
        body, losses = written(asked(output=OutputFormat({"type": "object"}, strict=True)))
        self.assertEqual(
            body["text"]["format"],
            {
                "type": "json_schema",
                "name": "answer",
                "schema": {"type": "object"},
                "strict": False,
            },
        )
        self.assertEqual(losses, ("strict",))

    def test_json_is_asked_for_in_words_too(self) -> None:
        """OpenAI refuses to make JSON that nobody speaks of."""
        body, _ = written(asked(output=OutputFormat()))
        self.assertEqual(body["text"], {"format": {"type": "json_object"}})
        self.assertEqual(body["input"][0], _said("developer", "Answer with one JSON object."))
        body, _ = written(asked(_user(Text("As Json, please")), output=OutputFormat()))
        self.assertEqual(len(body["input"]), 1)

    def test_who_asks(self) -> None:
        """Ids that are too long are replaced by others that are as good."""
        body, losses = written(asked(user="u", cache_key="k", metadata={"a": "b"}))
        self.assertEqual((body["user"], body["prompt_cache_key"]), ("u", "k"))
        self.assertEqual((body["metadata"], losses), ({"a": "b"}, ()))
        body, losses = written(asked(user="u" * 120, metadata={"a": {"b": 1}}))
        self.assertEqual(len(body["user"]), 64)
        self.assertEqual(losses, ("metadata",))
        self.assertNotIn("metadata", body)

    def test_what_was_dropped_before(self) -> None:
        """It is named along with what is dropped here."""
        conversation = asked(dropped=("field:n",), sampling=Sampling(top_k=1))
        self.assertEqual(written(conversation)[1], ("field:n", "top_k"))


class RecordedTests(SynchronousTestCase):
    """What real clients of this dialect send, read and written again."""

    def test_every_recording_can_be_written(self) -> None:
        """OpenAI's library would take it, and what it says is the same."""
        for recording in all_recordings():
            if recording.dialect != NAME or recording.malformed:
                continue
            conversation = read(recording.as_bytes())
            body, losses = written(conversation)
            self.assertEqual(body["model"], recording.model)
            self.assertTrue(all(map(known, losses)), losses)
            request = IOpenAIResponsesRequest(conversation)
            again: Any = IConversation(parsed(request.raw))
            said = [[p.text for p in turn.parts if isinstance(p, Text)] for turn in again.turns]
            for turn in conversation.turns:
                texts = [part.text for part in turn.parts if isinstance(part, Text)]
                for text in texts:
                    self.assertTrue(any(text in each for each in said), recording.name)


def _said(role: str, text: str) -> dict[str, Any]:
    content = [{"type": "input_text", "text": text}]
    return {"type": "message", "role": role, "content": content}
