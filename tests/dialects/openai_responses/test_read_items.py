"""Responses: items and tools that a client sends, read."""

from __future__ import annotations

import json
from time import process_time
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation.request import (
    Audio,
    Call,
    File,
    Image,
    Inline,
    Reasoning,
    Refusal,
    Remote,
    Result,
    Text,
    Tool,
    ToolChoice,
    Turn,
    Uploaded,
)
from aiclient2api.conversation.seals import Seal, carried
from aiclient2api.dialects.openai_responses.request import NAME, UNSEALED
from tests.dialects.openai_responses.judge import read, said

_FUNCTION = {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}}


class MessageTests(SynchronousTestCase):
    """Items with a role, and what is in them."""

    def test_plain_input(self) -> None:
        """A string is what the user says."""
        conversation = read({"input": "Hi", "instructions": "Be brief."})
        self.assertEqual(conversation.turns, (Turn("user", (Text("Hi"),)),))
        self.assertEqual(conversation.system, (Text("Be brief."),))

    def test_instructions_before_and_in_between(self) -> None:
        """Those at the front are the system prompt, behind the instructions; others keep place."""
        conversation = read(
            {
                "instructions": "one",
                "input": [
                    {"role": "developer", "content": "two"},
                    {"type": "message", "role": "system", "content": [_text("three")]},
                    {"role": "user", "content": "Hi"},
                    {"role": "developer", "content": "four"},
                ],
            }
        )
        self.assertEqual(conversation.system, (Text("one"), Text("two"), Text("three")))
        self.assertEqual(
            conversation.turns, (Turn("user", (Text("Hi"),)), Turn("system", (Text("four"),)))
        )

    def test_media_among_instructions(self) -> None:
        """Instructions are text elsewhere: a sentence stands for what is none, and is named."""
        parts = [
            _text("Look."),
            {"type": "input_image", "image_url": "https://x.test/a.png"},
            {"type": "input_file", "file_id": "file-1"},
            {"type": "input_file", "file_url": "https://x.test/a.pdf"},
            {"type": "input_audio", "input_audio": {"format": "wav", "data": "UklGRg=="}},
            {"type": "refusal", "refusal": "No."},
        ]
        wanted = (
            Text("Look."),
            Text("[An image was shown here.]"),
            Text("[The file file-1 was given here.]"),
            Text("[The file https://x.test/a.pdf was given here.]"),
            Text("[A sound was played here.]"),
            Text("No."),
        )
        told = {"role": "developer", "content": parts}
        hello = {"role": "user", "content": "Hi"}
        first, later = read({"input": [told, hello]}), read({"input": [hello, told]})
        self.assertEqual((first.system, later.turns[1]), (wanted, Turn("system", wanted)))
        for conversation in (first, later):
            self.assertEqual(conversation.dropped, ("image", "file_id", "file", "audio"))

    def test_parts(self) -> None:
        """Texts, pictures, documents, sounds and refusals are what they are."""
        (turn,) = said(
            {
                "role": "user",
                "content": [
                    _text("Look:"),
                    {
                        "type": "input_image",
                        "image_url": "data:image/png;base64,aGk",
                        "detail": "low",
                    },
                    {"type": "input_image", "image_url": "https://x/y.png"},
                    {"type": "input_image", "image_url": {"url": "https://x/z.png"}},
                    {"type": "input_image", "file_id": "file_1"},
                    {"type": "input_file", "filename": "a.pdf", "file_data": "data:;base64,aGk="},
                    {"type": "input_file", "filename": "a.csv", "file_data": "aG k\n"},
                    {"type": "input_file", "file_url": "https://x/a.pdf"},
                    {"type": "input_file", "file_id": "file_2"},
                    {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "mp3"}},
                    {"type": "input_file", "file_data": "data:text/plain,h%69"},
                ],
            }
        )
        self.assertEqual(turn.role, "user")
        self.assertEqual(
            turn.parts,
            (
                Text("Look:"),
                Image(Inline("image/png", "aGk="), "low"),
                Image(Remote("https://x/y.png")),
                Image(Remote("https://x/z.png")),
                Image(Uploaded("openai", "file_1")),
                File(Inline("text/plain", "aGk="), "a.pdf"),
                File(Inline("text/csv", "aGk="), "a.csv"),
                File(Remote("https://x/a.pdf")),
                File(Uploaded("openai", "file_2")),
                Audio(Inline("audio/mpeg", "aGk=")),
                File(Inline("text/plain", "aGk=")),
            ),
        )
        (turn,) = said(
            {
                "role": "assistant",
                "content": [
                    {"type": "output_text", "text": "No."},
                    {"type": "refusal", "refusal": "I won't."},
                ],
            }
        )
        self.assertEqual(turn, Turn("assistant", (Text("No."), Refusal("I won't."))))

    def test_what_has_no_word_is_named(self) -> None:
        """Items and parts that only OpenAI knows are left out, each with its name."""
        source = {"type": "url_citation", "url": "https://x", "title": "x"}
        conversation = read(
            {
                "input": [
                    {"type": "web_search_call", "id": "ws_1"},
                    {"type": "mcp_call", "id": "mcp_1"},
                    {"role": "user", "content": [{"type": "input_hologram", "beam": 1}]},
                    {
                        "role": "assistant",
                        "content": [{"type": "output_text", "text": "x", "annotations": [source]}],
                    },
                    {
                        "role": "user",
                        "content": [
                            {**_text("y"), "prompt_cache_breakpoint": {"mode": "explicit"}}
                        ],
                    },
                    {"type": "odd\nname ÿ"},
                ]
            }
        )
        self.assertEqual(
            conversation.dropped,
            (
                "part:web_search_call",
                "part:mcp_call",
                "part:input_hologram",
                "citations",
                "cache_control",
                "part:odd_name__",
            ),
        )


class ThoughtTests(SynchronousTestCase):
    """Thoughts and their seals."""

    def thought(self, **fields: Any) -> Any:
        """Return the only part of an input that holds a thought."""
        ((part,),) = (turn.parts for turn in said({"type": "reasoning", "summary": [], **fields}))
        return part

    def test_own_seals_keep_their_id(self) -> None:
        """What OpenAI sealed goes back with the id it belongs to."""
        summary = [{"type": "summary_text", "text": "a"}, {"type": "summary_text", "text": "b"}]
        part = self.thought(id="rs_1", summary=summary, encrypted_content="gAAAA")
        self.assertEqual(part, Reasoning("a\n\nb", Seal(NAME, "gAAAA", id="rs_1")))
        self.assertEqual(
            self.thought(encrypted_content="gAAAA"), Reasoning("", Seal(NAME, "gAAAA"))
        )

    def test_parcels_tell_their_issuer(self) -> None:
        """Seals of other dialects, carried for us, are theirs again."""
        seal = Seal("anthropic-messages", "sig", hidden=True)
        part = self.thought(id="rs_ours", encrypted_content=carried(seal, NAME))
        self.assertEqual(part, Reasoning("", seal))
        broken = carried(seal, NAME)[:17]
        summary = [{"type": "summary_text", "text": "a"}]
        self.assertEqual(self.thought(summary=summary, encrypted_content=broken), Reasoning("a"))
        self.assertEqual(self.thought(summary=summary, encrypted_content=UNSEALED), Reasoning("a"))

    def test_thoughts_in_their_own_words(self) -> None:
        """Some models tell them as content; one that says nothing at all is left out."""
        content = [{"type": "reasoning_text", "text": "hm"}]
        self.assertEqual(self.thought(content=content), Reasoning("hm"))
        turn = {"role": "user", "content": "x"}
        nothing = {"type": "reasoning", "id": "rs_1", "summary": []}
        self.assertEqual(said(turn, nothing), said(turn))


class CallTests(SynchronousTestCase):
    """Calls and what was answered."""

    def test_functions(self) -> None:
        """Arguments stay as they were told; the call's id links, not the item's."""
        turns = said(
            {
                "type": "function_call",
                "id": "fc_1",
                "call_id": "call_1",
                "name": "f",
                "arguments": '{"n": 1.10}',
            },
            {"type": "function_call", "call_id": "call_2", "name": "spawn", "namespace": "agents"},
            {"type": "function_call_output", "call_id": "call_1", "output": "42"},
            {
                "type": "function_call_output",
                "call_id": "call_2",
                "output": [
                    _text("see"),
                    {"type": "input_image", "image_url": "https://x/y.png"},
                ],
            },
        )
        self.assertEqual(
            turns,
            (
                Turn("assistant", (Call("call_1", "f", '{"n": 1.10}'),)),
                Turn("assistant", (Call("call_2", "agents__spawn", "{}"),)),
                Turn("user", (Result("call_1", parts=(Text("42"),)),)),
                Turn(
                    "user",
                    (Result("call_2", parts=(Text("see"), Image(Remote("https://x/y.png")))),),
                ),
            ),
        )

    def test_free_text(self) -> None:
        """A tool that takes free text is called with one argument."""
        turns = said(
            {"type": "custom_tool_call", "call_id": "c", "name": "patch", "input": 'a"\n'},
            {"type": "custom_tool_call_output", "call_id": "c", "output": "done"},
        )
        self.assertEqual(turns[0].parts, (Call("c", "patch", '{"input":"a\\"\\n"}'),))
        self.assertEqual(turns[1].parts, (Result("c", parts=(Text("done"),)),))

    def test_shells(self) -> None:
        """The action is the arguments; an answer may name the call by its item."""
        action = {"type": "exec", "command": ["ls"], "env": {}}
        for answer in ({"id": "lsh_1"}, {"id": "c"}, {"call_id": "c"}):
            turns = said(
                {"type": "local_shell_call", "id": "lsh_1", "call_id": "c", "action": action},
                {"type": "local_shell_call_output", **answer, "output": '{"stdout":"x"}'},
            )
            call = Call("c", "local_shell", '{"command":["ls"],"env":{}}')
            self.assertEqual(turns[0].parts, (call,))
            self.assertEqual(turns[1].parts, (Result("c", parts=(Text('{"stdout":"x"}'),)),))
        printed = [{"stdout": "x", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}]
        turns = said(
            {"type": "shell_call", "call_id": "c", "action": {"commands": ["ls"]}},
            {"type": "shell_call_output", "call_id": "c", "output": printed},
        )
        self.assertEqual(turns[0].parts, (Call("c", "shell", '{"commands":["ls"]}'),))
        (result,) = turns[1].parts
        assert isinstance(result, Result) and isinstance(result.parts[0], Text)
        self.assertEqual(json.loads(result.parts[0].text), printed)


class ToolTests(SynchronousTestCase):
    """Tools and the choice among them."""

    def test_kinds(self) -> None:
        """Functions, free text, the local shell, groups and the search are told apart."""
        custom = {"type": "custom", "name": "p", "format": {"type": "text"}}
        inner = {"type": "function", "name": "g"}
        group = {"type": "namespace", "name": "n", "description": "A group.", "tools": [inner]}
        search = {"type": "web_search", "search_context_size": "low"}
        shell = {"type": "local_shell"}
        conversation = read(
            {
                "input": "x",
                "tools": [
                    {**_FUNCTION, "strict": True},
                    custom,
                    shell,
                    group,
                    search,
                    {"type": "web_search_preview_2025_03_11"},
                    {"type": "file_search", "vector_store_ids": []},
                ],
            }
        )
        function, free, local, grouped, web, preview = conversation.tools
        self.assertEqual(
            function,
            Tool(
                "function",
                "f",
                "d",
                {"type": "object"},
                True,
                raw={**_FUNCTION, "strict": True},
            ),
        )
        self.assertEqual(free, Tool("custom", "p", raw=custom))
        self.assertEqual(local, Tool("local_shell", "local_shell", raw=shell))
        self.assertEqual(grouped, Tool("function", "g", namespace="n", raw=inner))
        self.assertEqual(grouped.flat_name, "n__g")
        self.assertEqual(web, Tool("web_search", "web_search", raw=search))
        self.assertEqual(preview.kind, "web_search")
        self.assertEqual(conversation.dropped, ("field:namespace.description", "tool:file_search"))

    def test_what_only_openais_search_knows(self) -> None:
        """It is named; what other searches may know, too, is left to who writes it."""
        search = {"type": "web_search", "filters": {"allowed_domains": ["x.org"]}}
        for told, dropped in (
            ({"external_web_access": True, "user_location": None, "odd": None}, ()),
            ({"external_web_access": False}, ("field:web_search.external_web_access",)),
            ({"search_content_types": ["text"]}, ("field:web_search.search_content_types",)),
        ):
            conversation = read({"input": "x", "tools": [{**search, **told}]})
            self.assertEqual(conversation.dropped, dropped)

    def test_many_allowed_tools(self) -> None:
        """Thousands are found as quickly as they are read."""
        names = [f"f{number}" for number in range(8000)]
        functions = [{"type": "function", "name": name} for name in names]
        choice = {"type": "allowed_tools", "mode": "auto", "tools": functions}
        began = process_time()
        conversation = read({"input": "x", "tools": functions, "tool_choice": choice})
        self.assertLess(process_time() - began, 3.0)
        self.assertEqual(conversation.tool_choice, ToolChoice("auto", tuple(names)))

    def test_choices(self) -> None:
        """A choice is of all tools, of some, or of one, by its full name."""
        inner = {"type": "function", "name": "g"}
        group = {"type": "namespace", "name": "n", "tools": [inner]}
        tools = [_FUNCTION, {"type": "custom", "name": "p"}, group, {"type": "web_search"}]

        def allowed(*names: str, mode: str = "required") -> Any:
            some = [{"type": "function", "name": name} for name in names]
            return {"type": "allowed_tools", "mode": mode, "tools": some}

        for choice, wanted, lost in (
            ("auto", ToolChoice("auto"), ()),
            ("none", ToolChoice("none"), ()),
            ("required", ToolChoice("required"), ()),
            ({"type": "function", "name": "f"}, ToolChoice("named", ("f",)), ()),
            ({"type": "custom", "name": "p"}, ToolChoice("named", ("p",)), ()),
            ({"type": "function", "name": "g"}, ToolChoice("named", ("n__g",)), ()),
            ({"type": "web_search_preview"}, ToolChoice("named", ("web_search",)), ()),
            ({"type": "mcp", "server_label": "x"}, None, ("tool_choice",)),
            (allowed("f", "g"), ToolChoice("required", ("f", "n__g")), ()),
            (allowed("f", "gone", mode="auto"), ToolChoice("auto", ("f",)), ("tool_choice",)),
            (allowed("gone"), None, ("tool_choice",)),
            (None, None, ()),
        ):
            conversation = read({"input": "x", "tools": tools, "tool_choice": choice})
            self.assertEqual((conversation.tool_choice, conversation.dropped), (wanted, lost))


def _text(text: str) -> dict[str, Any]:
    return {"type": "input_text", "text": text}
