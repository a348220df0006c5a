"""What a client of Google's libraries asked."""

from __future__ import annotations

import json
from time import process_time
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation import seals
from aiclient2api.conversation.losses import known
from aiclient2api.conversation.request import (
    Audio,
    Call,
    Conversation,
    File,
    Image,
    Inline,
    Reasoning,
    Remote,
    Result,
    Text,
    Turn,
    Uploaded,
)
from aiclient2api.conversation.seals import Seal
from aiclient2api.conversation.turns import settled
from aiclient2api.dialects.convert import conversation_of
from aiclient2api.dialects.gemini import GEMINI
from aiclient2api.errors import InvalidRequest
from aiclient2api.values import Route
from tests.recordings import all_recordings

NAME = "gemini"
_FILES = "https://generativelanguage.googleapis.com/v1beta/files/abc"


def read(action: str = "generate", **fields: Any) -> Conversation:
    """Return what a request with *fields* says."""
    return read_bytes(json.dumps({"contents": [], **fields}).encode(), action)


def read_bytes(body: bytes, action: str = "generate") -> Conversation:
    """Return what the request *body* says."""
    return conversation_of(GEMINI.parse(body=body, route=Route(action, model="m")))


def turns(*contents: Any) -> tuple[Turn, ...]:
    """Return what *contents* say."""
    return read(contents=list(contents)).turns


def parts(*told: Any, role: str = "user") -> tuple[Any, ...]:
    """Return what the parts of one content say."""
    found = turns({"role": role, "parts": list(told)})
    return found[0].parts if found else ()


def model(*told: Any) -> dict[str, Any]:
    """Return a content of the model's."""
    return {"role": "model", "parts": list(told)}


def user(*told: Any) -> dict[str, Any]:
    """Return a content of the user's."""
    return {"role": "user", "parts": list(told)}


def called(name: str = "f", **more: Any) -> dict[str, Any]:
    """Return a call as a part."""
    return {"functionCall": {"name": name, "args": {}, **more}}


def answered(name: str = "f", **more: Any) -> dict[str, Any]:
    """Return an answer as a part."""
    return {"functionResponse": {"name": name, "response": {"result": "r"}, **more}}


def config(**fields: Any) -> Conversation:
    """Return what a request with these settings says."""
    return read(generationConfig=fields)


class ContentTests(SynchronousTestCase):
    """Who said what."""

    def test_roles(self) -> None:
        """The user speaks unless somebody else is said to; functions answer for it."""
        found = turns(
            {"parts": [{"text": "a"}]},
            {"role": "model", "parts": {"text": "b"}},
            {"role": "function", "parts": [answered(name="x")]},
            {"role": None, "parts": None},
            {"role": "user"},
        )
        self.assertEqual([turn.role for turn in found], ["user", "assistant", "user"])
        self.assertEqual([turn.parts[0] for turn in found[:2]], [Text("a"), Text("b")])
        (turn,) = read(contents={"parts": {"text": "a"}}).turns
        self.assertEqual(turn, Turn("user", (Text("a"),)))

    def test_contents_of_one_role_are_one_turn(self) -> None:
        """As a stream leaves them behind, a content for each chunk; its texts are one."""
        self.assertEqual(
            turns(model({"text": "a"}), model({"text": "b"}), user({"text": "c"}, {"text": "d"})),
            (Turn("assistant", (Text("ab"),)), Turn("user", (Text("c"), Text("d")))),
        )

    def test_system_instruction(self) -> None:
        """Is a content, or a bare text, in either spelling."""
        for instruction, expected in (
            ({"parts": [{"text": "a"}, {"text": ""}, {"text": "b"}]}, (Text("a"), Text("b"))),
            ({"role": "system", "parts": {"text": "a"}}, (Text("a"),)),
            ("a", (Text("a"),)),
            (None, ()),
        ):
            for key in ("systemInstruction", "system_instruction"):
                fields: dict[str, Any] = {key: instruction}
                self.assertEqual(read(**fields).system, expected)
        blob = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
        self.assertEqual(read(systemInstruction={"parts": [blob]}).dropped, ("part:image",))

    def test_thoughts(self) -> None:
        """The pieces of a streamed thought are one, with the seal that came last."""
        seal = Seal("anthropic-messages", "EqQB")
        parcel = seals.carried(seal, NAME)
        found = turns(
            model({"text": "a", "thought": True}),
            model({"text": "b", "thought": True}),
            model({"text": "", "thought": True, "thoughtSignature": parcel}),
            model({"text": "c", "thought": True, "thought_signature": "AAAA"}, {"text": "d"}),
            model({"text": "", "thought": True}, {"thought": True, "thoughtSignature": "BBBB"}),
        )
        expected = (
            Reasoning("ab", seal),
            Reasoning("c", Seal(NAME, "AAAA")),
            Text("d"),
            Reasoning("", Seal(NAME, "BBBB")),
        )
        self.assertEqual(found, (Turn("assistant", expected),))

    def test_a_hidden_thought_is_one_of_its_own(self) -> None:
        """What was never shown seals nothing that was."""
        hidden = Seal("anthropic-messages", "EqQB", hidden=True)
        told = {"thought": True, "thoughtSignature": seals.carried(hidden, NAME)}
        found = parts({"text": "a", "thought": True}, told, role="model")
        self.assertEqual(found, (Reasoning("a"), Reasoning("", hidden)))

    def test_signatures(self) -> None:
        """A call has its own; the word that stands for none is none; on a text it is lost."""
        for signature, seal in (
            ("AAAA", Seal(NAME, "AAAA")),
            ("skip_thought_signature_validator", None),
            ("context_engineering_is_the_way_to_go", None),
            (seals.carried(Seal("x", "y", id="z"), NAME), Seal("x", "y", id="z")),
            (seals.PARCEL + "%%%", None),
        ):
            (call,) = parts({**called(), "thoughtSignature": signature}, role="model")
            self.assertEqual(call.seal, seal)
        lost = read(contents=[model({"text": "a", "thoughtSignature": "AAAA"})])
        self.assertEqual(lost.dropped, ("part:thoughtSignature",))

    def test_what_only_google_knows(self) -> None:
        """Is left out and named."""
        contents = [
            model({"executableCode": {"code": "1"}}, {"codeExecutionResult": {"output": "1"}}),
            user({"text": "a", "videoMetadata": {"fps": 1}}, {"toolCall": {}}, {}),
        ]
        conversation = read(contents=contents)
        self.assertEqual(conversation.turns, (Turn("user", (Text("a"),)),))
        self.assertEqual(
            conversation.dropped,
            (
                "part:executableCode",
                "part:codeExecutionResult",
                "field:videoMetadata",
                "part:toolCall",
            ),
        )


class CallTests(SynchronousTestCase):
    """Calls and their answers."""

    def test_arguments(self) -> None:
        """Are JSON text, digits and all; none are an empty object."""
        body = (
            b'{"contents":[{"role":"model","parts":[{"functionCall":'
            b'{"name":"f","id":"i","args":{"b":1.10,"a":12345678901234567890}}},'
            b'{"function_call":{"name":"g"}}]}]}'
        )
        (turn,) = read_bytes(body).turns
        self.assertEqual(
            turn.parts,
            (Call("i", "f", '{"b":1.10,"a":12345678901234567890}'), Call("call_0_1", "g")),
        )

    def ids(self, *contents: Any) -> list[tuple[str, str]]:
        """Return the ids of all calls and answers."""
        return [
            (type(part).__name__, part.id)
            for turn in turns(*contents)
            for part in turn.parts
            if isinstance(part, Call | Result)
        ]

    def test_answers_without_ids(self) -> None:
        """Go to the calls of their names, in order."""
        self.assertEqual(
            self.ids(
                model(called("f"), called("g"), called("f")),
                user(answered("f"), answered("f"), answered("g")),
            ),
            [
                ("Call", "call_0_0"),
                ("Call", "call_0_1"),
                ("Call", "call_0_2"),
                ("Result", "call_0_0"),
                ("Result", "call_0_2"),
                ("Result", "call_0_1"),
            ],
        )

    def test_answers_go_to_the_last_turn_first(self) -> None:
        """An old call that nobody answered does not take the answer to a new one."""
        found = self.ids(
            model(called("f")),
            user({"text": "never mind"}),
            model(called("f")),
            user(answered("f")),
            user(answered("f")),
            user(answered("f")),
        )
        self.assertEqual(
            [id for kind, id in found if kind == "Result"], ["call_2_0", "call_0_0", "call_5_0"]
        )

    def test_ids(self) -> None:
        """Answers with one go to the call that has it; an unknown one is as good as none."""
        found = self.ids(
            model(called("f", id="x"), called("f", id="y"), called("g")),
            user(answered("f", id="y"), answered("g", id="made-up"), answered("f")),
        )
        self.assertEqual([id for _, id in found], ["x", "y", "call_0_2", "y", "call_0_2", "x"])

    def test_an_id_that_is_used_again(self) -> None:
        """Belongs to the latest call, and both are kept apart."""
        found = self.ids(
            model(called("f", id="x")),
            user(answered("f", id="x")),
            model(called("f", id="x")),
            user(answered("f", id="x")),
        )
        self.assertEqual([id for _, id in found], ["x", "x", "call_2_0", "call_2_0"])
        taken = self.ids(model(called("f", id="call_0_1"), called("g")))
        self.assertEqual(taken, [("Call", "call_0_1"), ("Call", "call_0_1_")])

    def test_what_was_answered(self) -> None:
        """A text alone is a text, anything else is its JSON, an error is one."""
        for response, expected in (
            ({"result": "r"}, ("r", False)),
            ({"output": "r"}, ("r", False)),
            ({"content": "r"}, ("r", False)),
            ({"result": ""}, ("", False)),
            ({"result": {"a": 1}}, ('{"result":{"a":1}}', False)),
            ({"result": "r", "more": 1}, ('{"result":"r","more":1}', False)),
            ({"a": 1}, ('{"a":1}', False)),
            ({}, ("{}", False)),
            ({"error": "boom"}, ("boom", True)),
            ({"error": {"code": 5}}, ('{"code":5}', True)),
            ({"output": "r", "error": None}, ('{"output":"r","error":null}', False)),
            ("r", ("r", False)),
            (None, ("", False)),
        ):
            (result,) = parts(answered(response=response))
            text = result.parts[0].text if result.parts else ""
            self.assertEqual((text, result.is_error), expected)

    def test_media_in_an_answer(self) -> None:
        """Belong to it."""
        blob = {"inlineData": {"mimeType": "image/png", "data": "AAAA", "displayName": "x.png"}}
        (result,) = parts(answered(parts=[blob, called()]))
        picture = Image(Inline("image/png", "AAAA"))
        self.assertEqual(result.parts, (Text("r"), picture))

    def test_whoever_is_said_to_speak(self) -> None:
        """Calls are the model's, answers are not."""
        found = turns(user(called()), model(answered()))
        self.assertEqual([turn.role for turn in found], ["assistant", "user"])
        self.assertEqual(settled(found).losses, ())

    def test_malformed_calls(self) -> None:
        """Are refused, and the error says where."""
        for part, param in (
            ({"functionCall": {}}, "contents[0].parts[0].functionCall.name"),
            ({"function_call": {"name": ""}}, "contents[0].parts[0].function_call.name"),
            (called(args=[]), "contents[0].parts[0].functionCall.args"),
            (called(id=5), "contents[0].parts[0].functionCall.id"),
            ({"functionCall": "f"}, "contents[0].parts[0].functionCall"),
        ):
            error = self.assertRaises(InvalidRequest, parts, part, role="model")
            self.assertEqual(error.param, param)


class MediaTests(SynchronousTestCase):
    """Pictures, sounds and files."""

    def test_inline(self) -> None:
        """The type decides what it is; both alphabets of base64 are read."""
        for mime, data, expected in (
            ("image/PNG", "-_8", Image(Inline("image/png", "+/8="))),
            ("audio/wav", "AAAA", Audio(Inline("audio/wav", "AAAA"))),
            ("video/mp4", "AAAA", Audio(Inline("video/mp4", "AAAA"))),
            ("application/pdf", "AAAA", File(Inline("application/pdf", "AAAA"))),
            ("text/plain", "", File(Inline("text/plain", ""))),
        ):
            for part in (
                {"inlineData": {"mimeType": mime, "data": data}},
                {"inline_data": {"mime_type": mime, "data": data}},
            ):
                self.assertEqual(parts(part), (expected,))
        named = {"mimeType": "application/pdf", "data": "AAAA", "displayName": "a.pdf"}
        self.assertEqual(parts({"inlineData": named})[0].name, "a.pdf")

    def test_files(self) -> None:
        """Those in Google's store are ids there, others addresses that anybody can read."""
        for file, expected in (
            ({"fileUri": _FILES, "mimeType": "image/png"}, Image(Uploaded(NAME, _FILES))),
            ({"fileUri": "gs://b/a.pdf"}, File(Uploaded(NAME, "gs://b/a.pdf"))),
            ({"fileUri": "https://x/a.JPG"}, Image(Remote("https://x/a.JPG", "image/jpeg"))),
            ({"fileUri": "https://x/a"}, File(Remote("https://x/a"))),
            (
                {"fileUri": "https://youtu.be/x"},
                Audio(Remote("https://youtu.be/x", "video/mp4")),
            ),
        ):
            self.assertEqual(parts({"fileData": file}), (expected,))

    def test_malformed_media(self) -> None:
        """Are refused, and the error says where."""
        where = "contents[0].parts[0]"
        for part, param in (
            ({"inlineData": {"mimeType": "a/b", "data": "A"}}, f"{where}.inlineData.data"),
            ({"inlineData": {"mimeType": "a/b", "data": "ä"}}, f"{where}.inlineData.data"),
            ({"inlineData": {"mimeType": "a", "data": "AAAA"}}, f"{where}.inlineData.mimeType"),
            ({"inlineData": {"mimeType": "a/b,", "data": ""}}, f"{where}.inlineData.mimeType"),
            ({"inlineData": {"mimeType": "audio/wav", "data": ""}}, f"{where}.inlineData.data"),
            ({"inlineData": {"mimeType": "image/png"}}, f"{where}.inlineData.data"),
            ({"inline_data": {"data": "AAAA"}}, f"{where}.inline_data.mimeType"),
            ({"fileData": {}}, f"{where}.fileData.fileUri"),
            ({"fileData": {"file_uri": "file:///etc/passwd"}}, f"{where}.fileData.file_uri"),
            ({"fileData": {"fileUri": "http://[x"}}, f"{where}.fileData.fileUri"),
            ({"text": 5}, f"{where}.text"),
            (5, where),
        ):
            error = self.assertRaises(InvalidRequest, parts, part)
            self.assertEqual(error.param, param)


class CountTests(SynchronousTestCase):
    """Questions how many tokens something is."""

    def test_both_forms(self) -> None:
        """Bare contents, or a whole request."""
        whole = {
            "model": "models/m",
            "contents": [{"parts": [{"text": "a"}]}],
            "systemInstruction": {"parts": [{"text": "s"}]},
        }
        for body in (
            {"contents": whole["contents"]},
            {"generateContentRequest": whole},
            {"generate_content_request": whole},
        ):
            conversation = read_bytes(json.dumps(body).encode(), "count_tokens")
            self.assertEqual(conversation.turns, (Turn("user", (Text("a"),)),))
            self.assertEqual((conversation.action, conversation.dropped), ("count_tokens", ()))
        self.assertEqual(conversation.system, (Text("s"),))


_ODD: Any = st.sampled_from((None, 5, True, "x", "", [], {}, {"a": 1}, [None], [{}], 1.5))


def _mapping(**fields: Any) -> Any:
    return st.fixed_dictionaries({}, optional={key: value | _ODD for key, value in fields.items()})


_BLOBS = _mapping(mimeType=st.just("image/png"), data=st.just("AAAA"))
_PARTS = _mapping(
    text=st.just("a"),
    thought=st.booleans(),
    thoughtSignature=st.sampled_from(("AAAA", seals.PARCEL)),
    functionCall=_mapping(name=st.just("f"), args=st.just({"a": 1}), id=st.just("i")),
    function_response=_mapping(name=st.just("f"), response=st.just({"result": "r"})),
    inlineData=_BLOBS,
    fileData=_mapping(fileUri=st.just("https://x"), mimeType=st.just("image/png")),
)
_CONTENTS = _mapping(role=st.sampled_from(("user", "model")), parts=st.lists(_PARTS, max_size=3))
_BODIES = st.fixed_dictionaries(
    {"contents": st.lists(_CONTENTS, max_size=3)},
    optional={
        "systemInstruction": _mapping(parts=st.lists(_PARTS, max_size=2)) | _ODD,
        "tools": st.lists(
            _mapping(
                functionDeclarations=st.lists(_mapping(name=st.just("f"), parameters=_ODD)),
                googleSearch=st.just({}),
            ),
            max_size=2,
        )
        | _ODD,
        "toolConfig": _mapping(functionCallingConfig=_mapping(mode=st.just("ANY"))) | _ODD,
        "generationConfig": _mapping(
            temperature=st.just(1),
            responseSchema=_ODD,
            thinkingConfig=_mapping(thinkingBudget=st.just(1)),
        )
        | _ODD,
    },
)


class HostileTests(SynchronousTestCase):
    """Whatever a client sends is read, or refused with a reason."""

    @settings(max_examples=300, deadline=None)
    @given(_BODIES)
    def test_any(self, body: Any) -> None:
        """Nothing else is raised, and everything that is left out has a code that is known."""
        try:
            conversation = read_bytes(json.dumps(body).encode())
        except InvalidRequest as error:
            self.assertTrue(error.param)
            return
        for code in conversation.dropped:
            self.assertTrue(known(code), code)

    def test_many_pieces(self) -> None:
        """Cost no more than they are many: they are put together once."""
        for told in ({"text": "a" * 2000}, {"text": "a" * 2000, "thought": True}):
            contents = [model(*[told] * 5000), model(*[told] * 5000)]
            started = process_time()
            ((part,),) = (turn.parts for turn in turns(*contents))
            self.assertEqual(part.text, "a" * 20_000_000)  # type: ignore[union-attr]
            self.assertLess(process_time() - started, 5)

    def test_many_calls_without_answers(self) -> None:
        """Cost no more than they are many."""
        calls = [called(f"f{index}") for index in range(5000)]
        answers = [answered("nobody") for _ in range(5000)]
        (_, turn) = turns(model(*calls), user(*answers))
        self.assertEqual(len(turn.parts), 5000)


class RecordedTests(SynchronousTestCase):
    """What real clients sent."""

    def test_all_are_read(self) -> None:
        """Nothing of it is lost, but what they say about what a function returns."""
        seen = 0
        for recording in all_recordings():
            if recording.dialect != NAME:
                continue
            seen += 1
            conversation = read_bytes(recording.as_bytes(), recording.action)
            self.assertTrue(conversation.turns, recording.name)
            self.assertEqual(settled(conversation.turns).losses, (), recording.name)
            self.assertLessEqual(
                set(conversation.dropped), {"field:responseJsonSchema"}, recording.name
            )
        self.assertGreater(seen, 40)
