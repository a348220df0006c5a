"""Which conversation a request is a turn of, for all four dialects side by side."""

from __future__ import annotations

import json
from typing import Any

import attrs
from hypothesis import given
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.dialects.affinity import session_of
from aiclient2api.dialects.all import DIALECTS
from aiclient2api.dialects.openai_responses import OPENAI_RESPONSES
from aiclient2api.dialects.openai_responses.state import expanded
from aiclient2api.errors import InvalidRequest
from aiclient2api.interfaces import IWireRequest
from aiclient2api.values import Affinity, Endpoint, Route
from tests.both_ways import BY_NAME, NAMES, parsed
from tests.mutations import broken_json, encoded
from tests.recorded_requests import RECORDED
from tests.tape import Tape, cases, drawn

_TURNS = {
    "openai-chat": "messages",
    "openai-responses": "input",
    "anthropic-messages": "messages",
    "gemini": "contents",
}
_SESSIONS = (
    "claude-code/shell_tool",
    "codex/shell_tool",
    "gemini-cli/shell_tool",
    "qwen-code/shell_tool",
    "anthropic-python/tool_roundtrip",
    "anthropic-python/thinking_tool_roundtrip",
    "google-genai-python/chat_session",
    "google-genai-python/tool_roundtrip_stream",
    "openai-python-chat/tool_roundtrip",
    "openai-python-responses/tool_roundtrip",
    "langchain/responses_parallel_tools",
    "litellm/openai_parallel_tools",
    "litellm/gemini_parallel_tools",
    "litellm/anthropic_parallel_tools",
)
"""Recorded cases in which a client takes several turns of one conversation."""
_BILLING = "x-anthropic-billing-header: cc_version=2.1.197; cch="
_CANNED = "Got it. Thanks for the context!"


def _request(
    name: str, body: dict[str, Any], session: str | None = None, action: str = "generate"
) -> IWireRequest:
    if name != "gemini":
        body = {"model": "m", **body}
    route = Route(action, model="m", session=session)
    request: IWireRequest = BY_NAME[name].parse(body=json.dumps(body).encode(), route=route)
    return request


def _turn(name: str, role: str, said: Any) -> dict[str, Any]:
    if name != "gemini":
        return {"role": role, "content": said}
    parts = [{"text": said}] if isinstance(said, str) else said
    return {"role": "model" if role == "assistant" else role, "parts": parts}


def _talk(name: str, *said: Any, **more: Any) -> Affinity:
    """Return the affinity of a request in which user and model said this by turns."""
    roles = ("user", "assistant")
    turns = [_turn(name, roles[index % 2], each) for index, each in enumerate(said)]
    return _request(name, {**more, _TURNS[name]: turns}).affinity()


def _recorded(case: str, *, headers: bool = True, named: bool = True) -> list[Affinity]:
    """Return the affinities of a recorded case, its turns in order."""
    found = [each for each in RECORDED if each.name.startswith(f"{case} #")]
    affinities = []
    for each in sorted(found, key=lambda each: each.name):
        route = each.route if headers else attrs.evolve(each.route, session=None)
        body = json.loads(each.body)
        if not named:
            for key in ("metadata", "prompt_cache_key", "client_metadata"):
                body.pop(key, None)
        affinities.append(parsed(each.dialect, json.dumps(body).encode(), route).affinity())
    return affinities


class RecordedSessionTests(SynchronousTestCase):
    """What real clients send."""

    def test_the_turns_of_a_session_share_a_name(self) -> None:
        """By its headers, by its body, or by nothing but how it begins."""
        for case in _SESSIONS:
            for headers, named in ((True, True), (False, True), (False, False)):
                first, *later = _recorded(case, headers=headers, named=named)
                self.assertTrue(later, case)
                for turn in later:
                    self.assertEqual(turn.find, first.bind, case)
                    self.assertEqual(turn.bind, first.bind, case)

    def test_different_sessions_share_none(self) -> None:
        """Of one agent in one folder, which send the same prompt."""
        for agent, headers in (
            ("claude-code", True),
            ("codex", True),
            ("codex", False),
            ("gemini-cli", True),
            ("qwen-code", True),
        ):
            plain = {*_recorded(f"{agent}/plain", headers=headers)[0].bind}
            shell = {*_recorded(f"{agent}/shell_tool", headers=headers)[0].bind}
            self.assertTrue(plain and shell, agent)
            self.assertEqual(plain & shell, set(), agent)

    def test_what_the_agents_are_known_by(self) -> None:
        """Claude Code and Codex name their sessions, twice; Gemini CLI and Qwen Code do not."""
        for agent, headers, kind in (
            ("claude-code", True, "session"),
            ("claude-code", False, "user"),
            ("codex", True, "session"),
            ("codex", False, "cache"),
            ("gemini-cli", True, "begin"),
            ("qwen-code", True, "begin"),
        ):
            for each in _recorded(f"{agent}/shell_tool", headers=headers):
                self.assertEqual([n.partition(":")[0] for n in each.bind], [kind], agent)


class NamedTests(SynchronousTestCase):
    """What a client calls its conversation."""

    def test_headers(self) -> None:
        """Each of the headers that agents send; a blank one says nothing."""
        for header in (
            b"x-claude-code-session-id",
            b"x-opencode-session",
            b"x-session-affinity",
            b"x-session-id",
            b"session-id",
            b"session_id",
            b"conversation_id",
            b"x-conversation-id",
            b"x-litellm-session-id",
            b"x-openwebui-chat-id",
            b"thread-id",
        ):
            self.assertEqual(session_of({b"accept": b"*/*", header: b" s1 "}), "s1")
        self.assertIsNone(session_of({b"session-id": b" ", b"user-agent": b"u"}))
        self.assertEqual(session_of({b"session-id": b"\xff"}), "\ufffd")

    def test_a_session_is_known_but_not_passed_on(self) -> None:
        """The headers that name it go to no vendor."""
        for dialect in DIALECTS:
            endpoint = next(e for e in dialect.endpoints if e.action == "generate")
            route = dialect.route(
                endpoint=endpoint,
                rest="m:generateContent" if dialect.name == "gemini" else "",
                query=[],
                headers={b"x-session-id": b"secret"},
            )
            body = b'{"model":"m","%s":[]}' % _TURNS[dialect.name].encode()
            request = dialect.parse(body=body, route=route)
            self.assertEqual((route.session, route.headers, request.headers), ("secret", (), ()))
            self.assertEqual(request.affinity().find, ("session:secret",))
            self.assertEqual(request.amended(model="n").affinity().bind, ("session:secret",))
            self.assertNotIn("secret", repr(route) + repr(request))

    def test_the_surest_name_wins(self) -> None:
        """Headers, then fields of the body, a key of the cache, and what metadata say."""
        body = {
            "litellm_session_id": "l",
            "prompt_cache_key": "c",
            "metadata": {"user_id": "u", "sessionId": "q"},
        }
        for name in NAMES:
            left = dict(body)
            self.assertEqual(_talk(name, "hi", **left).find, ("session:l",))
            del left["litellm_session_id"]
            self.assertEqual(_talk(name, "hi", **left).find, ("cache:c",))
            del left["prompt_cache_key"]
            self.assertEqual(_talk(name, "hi", **left).find, ("session:q",))
            asked = _request(name, {**body, _TURNS[name]: []}, session="s").affinity()
            self.assertEqual(asked, Affinity(("session:s",), ("session:s",)))

    def test_other_names(self) -> None:
        """Codex's metadata, a number, Gemini's cached prompt in both spellings."""
        for name in NAMES:
            for more, wanted in (
                ({"client_metadata": {"session_id": "a"}}, "session:a"),
                ({"litellm_metadata": {"session_id": "a"}}, "session:a"),
                ({"conversation_id": 7}, "session:7"),
                ({"cachedContent": "cachedContents/x"}, "cache:cachedContents/x"),
                ({"cached_content": "cachedContents/x"}, "cache:cachedContents/x"),
                ({"session_id": "a\ud83d"}, "session:a\ufffd"),
            ):
                found = _talk(name, "hi", **more)
                self.assertEqual(found, Affinity((wanted,), (wanted,)), more)

    def test_a_person_is_no_conversation(self) -> None:
        """Except in Messages, where Claude Code puts its session behind the person."""
        person = {"user": "u", "safety_identifier": "u", "metadata": {"user_id": "u_session_1"}}
        for name in NAMES:
            bound = _talk(name, "hi", **person).bind[0]
            if name == "anthropic-messages":
                self.assertEqual(bound, "user:u_session_1")
            else:
                self.assertTrue(bound.startswith("begin:"), name)

    def test_kinds_do_not_collide(self) -> None:
        """The same text names one thing as a session and another as a key."""
        for name in NAMES:
            named = [_talk(name, "hi", **{key: "x"}).bind for key in ("session_id", "thread_id")]
            keyed = _talk(name, "hi", prompt_cache_key="x").bind
            self.assertEqual(named[0], named[1])
            self.assertNotEqual(named[0], keyed)


class BeginningTests(SynchronousTestCase):
    """A conversation that nobody named."""

    def test_it_is_found_once_there_is_an_answer(self) -> None:
        """Asking the same twice makes no conversation; going on from an answer does."""
        for name in NAMES:
            first = _talk(name, "hi")
            self.assertEqual(first.find, ())
            self.assertEqual(_talk(name, "hi"), first)
            second = _talk(name, "hi", "Hello!", "how?")
            self.assertEqual((second.find, second.bind), (first.bind, first.bind))
            third = _talk(name, "hi", "Hello!", "how?", "so", "why?")
            self.assertEqual(third, second)

    def test_another_beginning_is_another_conversation(self) -> None:
        """Another prompt, another first word, or the same letters in other texts."""
        system = {
            "openai-chat": "system",
            "openai-responses": "instructions",
            "anthropic-messages": "system",
            "gemini": "systemInstruction",
        }
        for name in NAMES:
            prompt: Any = {"parts": [{"text": "S"}]} if name == "gemini" else "S"
            texts = [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]
            bound = {
                _talk(name, "hi").bind,
                _talk(name, "ho").bind,
                _talk(name, texts).bind,
            }
            self.assertEqual(len(bound), 3, name)
            if name != "openai-chat":
                self.assertNotIn(_talk(name, "hi", **{system[name]: prompt}).bind, bound)
        messages = [{"role": "developer", "content": "S"}, {"role": "user", "content": "hi"}]
        told = _request("openai-chat", {"messages": messages}).affinity()
        self.assertNotEqual(told.bind, _talk("openai-chat", "hi").bind)

    def test_nothing_said_begins_nothing(self) -> None:
        """A prompt alone, or what only a model said."""
        for name in NAMES:
            for turns in ([], [_turn(name, "assistant", "hi")], [_turn(name, "system", "S")]):
                asked = _request(name, {_TURNS[name]: turns})
                self.assertEqual(asked.affinity(), Affinity(), name)

    def test_all_that_comes_before_the_first_answer_counts(self) -> None:
        """Some clients describe the folder first, in a message that is always the same."""
        for name in NAMES:
            turns = [_turn(name, "user", "folder"), _turn(name, "user", "do this")]
            first = _request(name, {_TURNS[name]: turns}).affinity()
            self.assertNotEqual(first.bind, _talk(name, "folder").bind)
            turns += [_turn(name, "assistant", "done"), _turn(name, "user", "do that")]
            self.assertEqual(_request(name, {_TURNS[name]: turns}).affinity().find, first.bind)

    def test_what_the_client_put_into_the_models_mouth_is_no_answer(self) -> None:
        """Neither the thanks of Qwen Code for its context, nor a greeting."""
        for name in NAMES:
            this = _talk(name, "folder", _CANNED, "do this")
            that = _talk(name, "folder", _CANNED, "do that")
            self.assertEqual((this.find, that.find), ((), ()))
            self.assertNotEqual(this.bind, that.bind)
            self.assertEqual(_talk(name, "folder", _CANNED, "do this", "ok", "x").find, this.bind)
            greeted = [_turn(name, "assistant", "Welcome!"), _turn(name, "user", "hi")]
            found = _request(name, {_TURNS[name]: greeted}).affinity()
            self.assertEqual((found.find, found.bind), ((), _talk(name, "hi").bind))

    def test_marks_and_wrappings_change_nothing(self) -> None:
        """A cache mark moves from turn to turn, and one text is as good as one part of text."""
        mark = {"cache_control": {"type": "ephemeral"}}
        for name in NAMES:
            plain = _talk(name, "hi").bind
            for part in ({"text": "hi"}, {"type": "text", "text": "hi", **mark}):
                self.assertEqual(_talk(name, [part]).bind, plain, name)
        bound = {
            _talk("anthropic-messages", "hi", system=prompt).bind
            for prompt in (
                "S",
                [{"type": "text", "text": "S"}],
                [{"type": "text", "text": "S", **mark}],
                [{"type": "text", "text": _BILLING + "1;"}, {"type": "text", "text": "S", **mark}],
                [{"type": "text", "text": _BILLING + "2;"}, {"type": "text", "text": "S"}],
                _BILLING + "3;\nS",
            )
        }
        self.assertEqual(len(bound), 1)

    def test_both_spellings_of_gemini_are_one(self) -> None:
        """Of the prompt, and within a part."""
        bound = {
            _talk("gemini", [{key: {kind: "image/png", "data": "AA=="}}], **{prompt: "S"}).bind
            for key, kind, prompt in (
                ("inlineData", "mimeType", "systemInstruction"),
                ("inline_data", "mime_type", "system_instruction"),
            )
        }
        self.assertEqual(len(bound), 1)

    def test_pictures_count(self) -> None:
        """However large: two that differ at their beginning, their end or in length differ."""
        size = 1 << 18
        pictures = ("A" * size, "B" + "A" * (size - 1), "A" * (size - 1) + "B", "A" * (size + 1))
        bound = {_talk("gemini", [{"inlineData": {"data": each}}]).bind for each in pictures}
        self.assertEqual(len(bound), 4)

    def test_what_a_count_holds(self) -> None:
        """A request within a count begins the conversation that it would be."""
        held = {"contents": [_turn("gemini", "user", "hi")], "model": "models/m"}
        counted = _request("gemini", {"generateContentRequest": held}, action="count_tokens")
        self.assertEqual(counted.affinity().bind, _talk("gemini", "hi").bind)
        one = _request("gemini", {"contents": _turn("gemini", "user", "hi")})
        self.assertEqual(one.affinity().bind, _talk("gemini", "hi").bind)


class StoredTests(SynchronousTestCase):
    """Responses that go on from what an upstream keeps, at one account only."""

    def test_what_goes_on_from_a_response_begins_nothing(self) -> None:
        """The client's name counts; how the newest turn begins names nothing."""
        body: dict[str, Any] = {"previous_response_id": "resp_1", "input": "hi"}
        asked = _request("openai-responses", body)
        self.assertEqual(asked.affinity(), Affinity())
        asked = _request("openai-responses", {**body, "prompt_cache_key": "c"})
        self.assertEqual(asked.affinity(), Affinity(("cache:c",), ("cache:c",)))

    def test_a_kept_conversation(self) -> None:
        """By its id, or as the object that has one; it is surer than the client's own name."""
        for talk in ("conv_1", {"id": "conv_1"}):
            asked = _request("openai-responses", {"conversation": talk, "input": "x"}, session="s")
            name = ("conversation:conv_1",)
            self.assertEqual(asked.affinity(), Affinity(name, name))

    def test_once_spliced_it_is_a_conversation_like_any_other(self) -> None:
        """Where the gateway keeps the answers, all of the conversation is in the request."""
        first = _request("openai-responses", {"input": "hi"}).affinity()
        again = OPENAI_RESPONSES.parse(
            body=b'{"model":"m","previous_response_id":"resp_1","input":"how?"}',
            route=Route("generate"),
        )
        items = [
            {
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": "hi"}],
            },
            {"type": "message", "role": "assistant", "id": "msg_1", "content": []},
        ]
        found = expanded(again, json.dumps(items).encode()).affinity()
        self.assertEqual((found.find, found.bind), (first.bind, first.bind))

    def test_asking_for_a_kept_response(self) -> None:
        """It is no turn of a conversation, whatever the client calls its session."""
        route = OPENAI_RESPONSES.route(
            endpoint=Endpoint("GET", "/v1/responses/<path:rest>", "stored"),
            rest="resp_1",
            query=[],
            headers={b"session-id": b"s"},
        )
        asked = OPENAI_RESPONSES.parse(body=b"", route=route)
        self.assertEqual(asked.affinity(), Affinity())


class OddTests(SynchronousTestCase):
    """Whatever stands in a request that was taken, it can be asked whose turn it is."""

    def test_odd_names_are_none(self) -> None:
        """What is no text and no number names nothing."""
        for name in NAMES:
            plain = _talk(name, "hi")
            for odd in (None, True, [], ["x"], {}, {"a": 1}, 1.5, 2**70, "", " \n"):
                for key in ("session_id", "metadata", "cachedContent", "client_metadata"):
                    self.assertEqual(_talk(name, "hi", **{key: odd}), plain, (key, odd))
                asked = _talk(name, "hi", metadata={"session_id": odd, "user_id": odd})
                self.assertEqual(asked, plain)

    def test_a_count_beyond_all_bounds(self) -> None:
        """What a count holds was not looked into when it was taken."""
        members = b",".join(b'"%d":0' % number for number in range(100_001))
        body = b'{"generateContentRequest":{%s}}' % members
        asked = BY_NAME["gemini"].parse(body=body, route=Route("count_tokens", model="m"))
        self.assertEqual(asked.affinity(), Affinity())

    @cases(200)
    @given(drawn(lambda tape: tape))
    def test_it_never_raises(self, tape: Tape) -> None:
        """Recorded requests with wrong things in them; each name has bytes, and a kind."""
        recorded = tape.pick(RECORDED)
        body = json.loads(recorded.body)
        for key in ("metadata", "client_metadata", "prompt_cache_key", "tools"):
            if tape.one_in(2):
                body.pop(key, None)
        route = attrs.evolve(recorded.route, session=None)
        try:
            asked = parsed(recorded.dialect, encoded(broken_json(tape, body)), route)
        except InvalidRequest:
            return
        found = asked.affinity()
        for name in (*found.find, *found.bind):
            self.assertIn(b":", name.encode())
        self.assertEqual(found, asked.affinity())
