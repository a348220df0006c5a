"""Requests that go to Google as they are, but for what others have sealed."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation import seals
from aiclient2api.conversation.seals import Seal
from aiclient2api.dialects.gemini import GEMINI
from aiclient2api.framing.json_text import check
from aiclient2api.values import Route
from tests.strict_requests import judge

NAME = "gemini"
FOREIGN = seals.carried(Seal("anthropic-messages", "EqQB"), NAME)
OWN = seals.carried(Seal(NAME, "AAAA", id="x"), NAME)
BYPASS = "skip_thought_signature_validator"
USER = {"role": "user", "parts": [{"text": "hi"}]}
TEXT = {"text": "t"}


def model(*parts: Any) -> dict[str, Any]:
    """Return what the model said."""
    return {"role": "model", "parts": list(parts)}


def signed(part: Any, signature: str, key: str = "thoughtSignature") -> dict[str, Any]:
    """Return *part* with a signature."""
    return {**part, key: signature}


def thought(text: str, signature: str | None = None) -> dict[str, Any]:
    """Return a thought."""
    part = {"text": text, "thought": True}
    return part if signature is None else signed(part, signature)


def call(name: str = "f") -> dict[str, Any]:
    """Return a call."""
    return {"functionCall": {"name": name, "args": {}}}


def left_of(raw: bytes, action: str = "generate") -> bytes:
    """Return what is left of a request, which must be one still."""
    request = GEMINI.parse(body=raw, route=Route(action, model="m"))
    left = request.without_foreign_seals()
    check(left.raw)
    judge(NAME, json.loads(left.raw), action=action)
    return left.raw


def rid(*contents: Any, separators: tuple[str, str] = (", ", ": ")) -> Any:
    """Return what is left of *contents*."""
    return json.loads(left_of(json.dumps({"contents": contents}, separators=separators).encode()))[
        "contents"
    ]


class ForeignSealTests(SynchronousTestCase):
    """What another vendor's model sealed is taken out, and nothing else."""

    def test_a_request_without_any(self) -> None:
        """Is the very same object; so is one that only speaks of parcels."""
        for contents in (
            [USER, model(signed(call(), "AAAA"), thought("a"))],
            [{"role": "user", "parts": [{"text": FOREIGN}]}],
        ):
            raw = json.dumps({"contents": contents}).encode()
            request = GEMINI.parse(body=raw, route=Route("generate", model="m"))
            self.assertIs(request.without_foreign_seals(), request)

    def test_thoughts(self) -> None:
        """Go, with the pieces they were streamed in; those of Google's own stay."""
        own = thought("own", "AAAA")
        for said, left in (
            ([thought("a", FOREIGN), TEXT], [TEXT]),
            ([TEXT, thought("a", FOREIGN)], [TEXT]),
            ([own, thought("a"), thought("b", FOREIGN), TEXT], [own, TEXT]),
            ([thought("a"), TEXT, thought("", FOREIGN)], [thought("a"), TEXT]),
            ([{"thought": True, "thought_signature": FOREIGN}, TEXT], [TEXT]),
            ([thought("a", seals.PARCEL), TEXT], [TEXT]),
        ):
            self.assertEqual(rid(USER, model(*said), USER), [USER, model(*left), USER])

    def test_what_is_told_of_it(self) -> None:
        """Thoughts that go are a loss; a seal alone, or one that is unpacked, is none."""
        for said, losses in (
            ([thought("a", FOREIGN), TEXT], ("reasoning",)),
            ([thought("a", FOREIGN)], ("reasoning",)),
            ([signed(call(), FOREIGN), signed(TEXT, FOREIGN)], ()),
            ([thought("a", OWN), TEXT], ()),
            ([thought("a", "AAAA"), TEXT], ()),
        ):
            raw = json.dumps({"contents": [USER, model(*said)]}).encode()
            request = GEMINI.parse(body=raw, route=Route("generate", model="m"))
            self.assertEqual(request.without_foreign_seals().losses, losses)

    def test_a_thought_streamed_as_many_contents(self) -> None:
        """Goes with all of them."""
        said = [model(thought("a")), model(thought("b")), model(thought("", FOREIGN)), model(TEXT)]
        self.assertEqual(rid(USER, *said, USER), [USER, model(TEXT), USER])

    def test_a_content_with_nothing_else(self) -> None:
        """Goes, wherever it stands."""
        gone = model(thought("a", FOREIGN))
        for contents in ([gone, USER], [USER, gone], [USER, gone, USER], [gone, gone, USER]):
            left = [each for each in contents if each is not gone]
            self.assertEqual(rid(*contents), left)
        self.assertEqual(rid(gone), [])
        single = json.dumps({"contents": {**gone, "parts": thought("a", FOREIGN)}}).encode()
        self.assertEqual(json.loads(left_of(single)), {"contents": []})

    def test_calls(self) -> None:
        """The first of a turn must have a signature, so it is given the word for none."""
        for said, left in (
            ([signed(call(), FOREIGN)], [signed(call(), BYPASS)]),
            (
                [signed(call(), FOREIGN), signed(call(), FOREIGN)],
                [signed(call(), BYPASS), call()],
            ),
            ([call(), signed(call(), FOREIGN)], [call(), call()]),
            (
                [TEXT, signed(call(), "AAAA"), signed(call(), FOREIGN, "thought_signature")],
                [TEXT, signed(call(), "AAAA"), call()],
            ),
        ):
            self.assertEqual(rid(USER, model(*said), USER), [USER, model(*left), USER])
        turns = [USER, model(signed(call(), FOREIGN)), model(signed(call(), FOREIGN)), USER]
        expected = [USER, model(signed(call(), BYPASS)), model(call()), USER]
        self.assertEqual(rid(*turns, *turns), [*expected, *expected])

    def test_texts(self) -> None:
        """Lose the signature; a text with nothing else in it goes."""
        said = [signed(TEXT, FOREIGN), signed({"text": ""}, FOREIGN)]
        self.assertEqual(rid(model(*said)), [model(TEXT)])

    def test_what_was_googles_all_along(self) -> None:
        """Is unpacked: a parcel may hold Google's own."""
        said = [thought("a", OWN), signed(call(), OWN), signed(TEXT, OWN)]
        left = [thought("a", "AAAA"), signed(call(), "AAAA"), signed(TEXT, "AAAA")]
        self.assertEqual(rid(model(*said)), [model(*left)])

    def test_every_other_byte_stays(self) -> None:
        """Spacing, numbers, keys that come twice in a call."""
        before = (
            b'{ "contents" : [ {"role":"model","parts":[ {"thoughtSignature" : "%s" ,\n'
            b'"functionCall":{"name":"f","args":{"a":1.10,"a":1e400}}} ]} ] , "labels":{} }'
        )
        raw = before % FOREIGN.encode()
        self.assertEqual(
            GEMINI.parse(body=raw, route=Route("generate", model="m")).without_foreign_seals().raw,
            before % BYPASS.encode(),
        )
        for separators in ((",", ":"), (", ", ": "), ("\n,\n", "\t:\t")):
            said = [signed(TEXT, FOREIGN), thought("a", FOREIGN), TEXT]
            self.assertEqual(rid(model(*said), separators=separators), [model(TEXT, TEXT)])

    def test_counting(self) -> None:
        """A request within a question is looked at, too."""
        contents = [USER, model(thought("a", FOREIGN), TEXT)]
        for key in ("generateContentRequest", None):
            body: Any = {"contents": contents}
            if key is not None:
                body = {key: {"model": "models/m", **body}}
            told = json.loads(left_of(json.dumps(body).encode(), "count_tokens"))
            self.assertEqual((told[key] if key else told)["contents"], [USER, model(TEXT)])

    def test_contents_that_are_none(self) -> None:
        """Stay where they are within a question, which is looked at less closely."""
        contents = [5, model(thought("a", FOREIGN)), USER]
        for body, left in (({"contents": contents}, [5, USER]), ({"other": FOREIGN}, None)):
            raw = json.dumps({"generateContentRequest": body}).encode()
            request = GEMINI.parse(body=raw, route=Route("count_tokens", model="m"))
            told = json.loads(request.without_foreign_seals().raw)["generateContentRequest"]
            self.assertEqual(told.get("contents"), left)

    def test_odd_bodies(self) -> None:
        """What is of no known form is left alone."""
        for contents in (
            [{"role": "model", "parts": [5, {"thoughtSignature": 5}, {"text": FOREIGN}]}],
            [{"role": "model", "parts": FOREIGN}],
            [{"role": 5, "parts": [{"thoughtSignature": [FOREIGN]}]}],
        ):
            raw = json.dumps({"contents": contents}).encode()
            request = GEMINI.parse(body=raw, route=Route("generate", model="m"))
            self.assertEqual(request.without_foreign_seals().raw, raw)
