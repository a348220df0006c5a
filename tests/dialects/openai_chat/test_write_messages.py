"""Chat Completions: turns, written as messages for an upstream."""

from __future__ import annotations

import base64

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation.request import (
    Audio,
    Call,
    File,
    Image,
    Inline,
    OutputFormat,
    Part,
    Reasoning,
    Refusal,
    Remote,
    Result,
    Sampling,
    Text,
    Tool,
    ToolChoice,
    Turn,
    Uploaded,
)
from aiclient2api.conversation.seals import Seal
from aiclient2api.conversation.turns import UNANSWERED
from aiclient2api.dialects.openai_chat.request import NAME
from aiclient2api.dialects.openai_chat.write_request import write_request
from aiclient2api.errors import InvalidRequest
from aiclient2api.values import Traits
from aiclient2api.vendors import traits_of
from tests.dialects.openai_chat.judge import HI, asked, messages, written

_PNG = Inline("image/png", "aGk=")
_PNG_PART = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
_MARK = {"type": "ephemeral"}
_CALL = Turn("assistant", (Call("c1", "f"),))


def _user(*parts: Part) -> Turn:
    return Turn("user", parts)


def _model(*parts: Part) -> Turn:
    return Turn("assistant", parts)


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class MessageTests(SynchronousTestCase):
    """Turns."""

    def test_a_talk_with_tools(self) -> None:
        """Calls are answered at once and in their order, what was said beside them stays."""
        self.assertEqual(
            written(
                asked(
                    HI,
                    _model(Text("calling"), Call("c1", "f", '{"a":1.10}'), Call("c2", "f", "")),
                    _user(
                        Text("go on"),
                        Result("c2", parts=(Text("boom"),), is_error=True),
                        Result("c1", parts=(Text("r"), Text("1"))),
                    ),
                    system=(Text("S1"), Text("S2")),
                    tools=(Tool("function", "f", "d", {"type": "object"}),),
                    tool_choice=ToolChoice("required"),
                    sampling=Sampling(max_tokens=100, stop=("END",)),
                )
            ),
            (
                {
                    "model": "m",
                    "max_tokens": 100,
                    "stop": ["END"],
                    "tool_choice": "required",
                    "tools": [
                        {
                            "type": "function",
                            "function": {
                                "name": "f",
                                "description": "d",
                                "parameters": {"type": "object", "properties": {}},
                            },
                        }
                    ],
                    "messages": [
                        {"role": "system", "content": "S1\nS2"},
                        {"role": "user", "content": "Hi"},
                        {
                            "role": "assistant",
                            "content": "calling",
                            "tool_calls": [
                                {
                                    "id": "c1",
                                    "type": "function",
                                    "function": {"name": "f", "arguments": '{"a":1.10}'},
                                },
                                {
                                    "id": "c2",
                                    "type": "function",
                                    "function": {"name": "f", "arguments": "{}"},
                                },
                            ],
                        },
                        {"role": "tool", "tool_call_id": "c1", "content": "r1"},
                        {"role": "tool", "tool_call_id": "c2", "content": "Error: boom"},
                        {"role": "user", "content": "go on"},
                    ],
                },
                ("tool_error",),
            ),
        )

    def test_calls_alone(self) -> None:
        """They stand beside null, and every one is answered."""
        told, losses = messages(HI, _CALL)
        self.assertIsNone(told[1]["content"])
        answer = {"role": "tool", "tool_call_id": "c1", "content": f"Error: {UNANSWERED}"}
        self.assertEqual(told[2], answer)
        self.assertEqual(losses, ("tool_result", "tool_error"))

    def test_an_empty_answer_that_is_an_error(self) -> None:
        """It says so in words."""
        told, _ = messages(HI, _CALL, _user(Result("c1", is_error=True)))
        self.assertEqual(told[2]["content"], "Error: The tool failed.")

    def test_long_ids(self) -> None:
        """They are cut to what OpenAI takes, the same for call and answer."""
        id = "functions.f:0" * 9
        told, _ = messages(HI, _model(Call(id, "f")), _user(Result(id, parts=(Text("r"),))))
        (call,) = told[1]["tool_calls"]
        self.assertEqual(len(call["id"]), 40)
        self.assertEqual(told[2]["tool_call_id"], call["id"])

    def test_media(self) -> None:
        """Pictures, PDFs and sounds are parts; a file that is text is told as text."""
        told, losses = messages(
            _user(
                Text("a"),
                Image(_PNG, "low"),
                Image(Remote("https://a/b.png")),
                File(Inline("application/pdf", "aGk="), "a.pdf"),
                File(Uploaded("openai", "file-1")),
                File(Inline("text/plain", _base64("Grüße")), "n.txt"),
                Audio(Inline("audio/x-wav", "aGk=")),
                Audio(Inline("audio/mpeg", "aGk=")),
            )
        )
        low = {"url": "data:image/png;base64,aGk=", "detail": "low"}
        pdf = {"filename": "a.pdf", "file_data": "data:application/pdf;base64,aGk="}
        self.assertEqual(
            told[0]["content"],
            [
                {"type": "text", "text": "a"},
                {"type": "image_url", "image_url": low},
                {"type": "image_url", "image_url": {"url": "https://a/b.png"}},
                {"type": "file", "file": pdf},
                {"type": "file", "file": {"file_id": "file-1"}},
                {"type": "text", "text": "[The file n.txt:]\nGrüße"},
                {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}},
                {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "mp3"}},
            ],
        )
        self.assertEqual(losses, ())

    def test_media_that_cannot_be_sent(self) -> None:
        """A sentence stands in their place, and the loss is named."""
        for part, sentence, loss in (
            (Image(Remote("gs://a/b")), "An image (gs://a/b)", "image"),
            (Image(Uploaded("anthropic-messages", "f1")), "An image (f1)", "file_id"),
            (File(Remote("https://a/b.pdf")), "A file (https://a/b.pdf)", "file"),
            (File(Uploaded("gemini", "f1"), "a.pdf"), "A file (a.pdf)", "file_id"),
            (Audio(Inline("audio/ogg", "aGk=")), "A sound or video", "audio"),
            (Audio(Inline("video/mp4", "aGk=")), "A sound or video", "audio"),
        ):
            told, losses = messages(_user(part))
            self.assertEqual(told[0]["content"], f"[{sentence} was given here.]")
            self.assertEqual(losses, (loss,))

    def test_texts_in_parts(self) -> None:
        """Nothing comes between those of a model or a tool; a user's are a line apart."""
        parts = (Text("According to "), Text("NASA"), Text(", it is blue."))
        told, _ = messages(
            _user(*parts),
            _model(*parts, Call("c1", "f")),
            _user(Result("c1", parts=parts)),
        )
        whole = "According to NASA, it is blue."
        contents = [each["content"] for each in told]
        self.assertEqual(contents, ["According to NASA\n, it is blue.", whole, whole])

    def test_what_an_assistant_shows(self) -> None:
        """It can only speak."""
        told, losses = messages(HI, _model(Text("a"), Image(_PNG), Refusal("no")), HI)
        self.assertEqual(told[1]["content"], "a[An image was given here.]no")
        self.assertEqual(losses, ("image",))

    def test_pictures_of_a_tool(self) -> None:
        """They follow in the user's own words, unless the upstream takes them."""
        turns = (HI, _CALL, _user(Result("c1", parts=(Image(_PNG),)), Text("go on")))
        told, losses = messages(*turns)
        self.assertEqual(told[2]["content"], "(The answer is in the next message.)")
        label = {"type": "text", "text": "[What the tool f showed:]"}
        self.assertEqual(told[3]["content"], [label, _PNG_PART, {"type": "text", "text": "go on"}])
        self.assertEqual(losses, ("tool_media",))
        told, losses = messages(*turns, traits=Traits(media_in_results=True), judged=False)
        self.assertEqual(told[2]["content"], [_PNG_PART])
        self.assertEqual(told[3]["content"], "go on")
        self.assertEqual(losses, ())

    def test_thoughts(self) -> None:
        """They go back where they are wanted, and nowhere else."""
        turns = (HI, _model(Reasoning("hm"), Reasoning("so"), Text("a")), HI)
        told, losses = messages(*turns)
        self.assertNotIn("reasoning_content", told[1])
        self.assertEqual(losses, ("reasoning",))
        told, losses = messages(*turns, traits=Traits(replays_reasoning=True))
        self.assertEqual(told[1]["reasoning_content"], "hm\n\nso")
        self.assertEqual(losses, ())
        sealed = _model(Reasoning("hm", Seal("anthropic-messages", "AAAA")), Text("a"))
        told, losses = messages(HI, sealed, HI, traits=Traits(replays_reasoning=True))
        self.assertNotIn("reasoning_content", told[1])
        self.assertEqual(losses, ("reasoning",))

    def test_moonshot_insists_on_a_thought_beside_calls(self) -> None:
        """A blank will do; what was thought is better."""
        kimi = traits_of("kimi-k2-thinking")
        answer = _user(Result("c1", parts=(Text("r"),)))
        told, _ = messages(HI, _CALL, answer, traits=kimi)
        self.assertEqual(told[1]["reasoning_content"], " ")
        thought = _model(Reasoning("hm"), Call("c1", "f"))
        told, losses = messages(HI, thought, answer, traits=kimi)
        self.assertEqual(told[1]["reasoning_content"], "hm")
        self.assertEqual(losses, ())

    def test_a_thought_alone(self) -> None:
        """A message that says nothing is refused, so it is left out."""
        for traits in (Traits(), Traits(replays_reasoning=True)):
            told, losses = messages(HI, _model(Reasoning("hm")), HI, traits=traits)
            self.assertEqual([each["role"] for each in told], ["user", "user"])
            self.assertEqual(losses, ("reasoning",))

    def test_seals(self) -> None:
        """A call's seal goes back to its own dialect only."""
        for seal, extra, losses in (
            (Seal(NAME, "AAAA"), {"google": {"thought_signature": "AAAA"}}, ()),
            (Seal("gemini", "AAAA"), None, ("reasoning",)),
        ):
            turns = (HI, _model(Call("c1", "f", seal=seal)), _user(Result("c1")))
            told, lost = messages(*turns)
            self.assertEqual(told[1]["tool_calls"][0].get("extra_content"), extra)
            self.assertEqual(lost, losses)

    def test_cache_markers(self) -> None:
        """They are written for models whose vendors read them, and are a loss elsewhere."""
        turns = (
            _user(Text("a", _MARK)),
            _model(Call("c1", "f", cache=_MARK)),
            _user(Result("c1", parts=(Text("r"),), cache=_MARK)),
        )
        told, losses = messages(*turns)
        self.assertEqual([told[0]["content"], told[2]["content"]], ["a", "r"])
        self.assertEqual(losses, ("cache_control",))
        marked = {"type": "text", "text": "a", "cache_control": _MARK}
        told, losses = messages(*turns, model="anthropic/claude-x", judged=False)
        self.assertEqual(told[0]["content"], [marked])
        self.assertEqual(losses, ("cache_control",))
        self.assertEqual(
            messages(turns[0], model="qwen3-max", judged=False),
            ([{"role": "user", "content": [marked]}], ()),
        )

    def test_instructions_in_between(self) -> None:
        """They stay where they are; Qwen's template insists on them in front."""
        turns = (HI, Turn("system", (Text("S"),)), _model(Text("a")), HI)
        told, losses = messages(*turns)
        roles = [each["role"] for each in told]
        self.assertEqual((roles, losses), (["user", "system", "assistant", "user"], ()))
        told, losses = messages(*turns, model="qwen3-max", system=(Text("T"),))
        self.assertEqual(told[0], {"role": "system", "content": "T\nS"})
        self.assertEqual([each["role"] for each in told[1:]], ["user", "assistant", "user"])
        self.assertEqual(losses, ("system_position",))

    def test_a_prefill(self) -> None:
        """It is sent, but nobody promises to go on with it."""
        told, losses = messages(HI, _model(Text("{")))
        self.assertEqual(told[-1], {"role": "assistant", "content": "{"})
        self.assertEqual(losses, ("prefill",))

    def test_a_prefill_that_is_gone_on_with(self) -> None:
        """Where the vendor takes the mark; not together with a form for the answer."""
        talk, takes = (HI, _model(Text("{"))), Traits(prefill=True)
        told, losses = messages(*talk, traits=takes, judged=False)
        self.assertEqual(told[-1], {"role": "assistant", "content": "{", "partial": True})
        self.assertEqual(losses, ())
        told, losses = messages(*talk, traits=takes, output=OutputFormat())
        self.assertEqual((told[-1], losses[-1]), ({"role": "assistant", "content": "{"}, "prefill"))

    def test_nothing_is_said(self) -> None:
        """A request without a message is refused here, with a sentence."""
        error = self.assertRaises(InvalidRequest, write_request, asked(_user(Text(""))))
        self.assertEqual(error.param, "messages")
