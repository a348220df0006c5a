"""
The fake of Code Assist is true: it takes what the real client sends, and refuses the rest.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.testing import (
    CODE_ASSIST_FAULTS,
    CodeAssistAnswer,
    FakeCodeAssist,
    Refusal,
    Send,
)
from aiclient2api.testing.code_assist_answers import SIGNATURE
from aiclient2api.testing.code_assist_rules import BYPASS
from aiclient2api.values import Headers, UpstreamRequest
from tests.raw_peers import REACTOR, WireCase, read

RECORDED = Path(__file__).parent / "code_assist_recordings"
TOKEN = "ya29.recorded"

METADATA = {
    "ideType": "IDE_UNSPECIFIED",
    "platform": "PLATFORM_UNSPECIFIED",
    "pluginType": "GEMINI",
}
ASKED: dict[str, Any] = {
    "model": "gemini-2.5-pro",
    "project": "fake-managed-project",
    "user_prompt_id": "p",
    "request": {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]},
}
CALL = {"functionCall": {"name": "f", "args": {}}, "thoughtSignature": SIGNATURE}
ANSWER = {"functionResponse": {"name": "f", "response": {"result": "1"}}}


def asked(**changes: Any) -> dict[str, Any]:
    """Return a good request with members of its envelope changed; None takes one out."""
    body = {**copy.deepcopy(ASKED), **changes}
    return {key: value for key, value in body.items() if value is not None}


def inner(**changes: Any) -> dict[str, Any]:
    """Return a good request with members within the envelope changed."""
    return asked(request={**ASKED["request"], **changes})


def talk(*contents: tuple[str, list[Any]], model: str = "gemini-2.5-pro") -> dict[str, Any]:
    """Return a request of these contents."""
    told = [{"role": role, "parts": parts} for role, parts in contents]
    return asked(model=model, request={"contents": told})


class FakeCase(WireCase):
    """A fake and a client for it."""

    async def fake(self, **fields: Any) -> FakeCodeAssist:
        """Return a listening fake; a server like those of `WireCase`."""
        fake = FakeCodeAssist(**fields)
        await fake.listen(REACTOR)
        self.addCleanup(fake.stop)
        fake.accept(TOKEN)
        self.client = self.upstream()
        return fake

    async def send(
        self,
        fake: FakeCodeAssist,
        what: str,
        body: Any = None,
        *,
        token: str | None = TOKEN,
        form: Mapping[str, str] | None = None,
        path: str | None = None,
    ) -> tuple[int, Any]:
        """Send one request and return status and decoded body."""
        kind = b"application/json" if form is None else b"application/x-www-form-urlencoded"
        headers: Headers = ((b"content-type", kind),)
        if token is not None:
            headers += ((b"authorization", b"Bearer " + token.encode()),)
        data = json.dumps(body).encode() if form is None else urlencode(form).encode()
        request = UpstreamRequest(
            method="GET" if body is None and form is None else "POST",
            url=fake.url + (f"/v1internal:{what}" if path is None else path),
            headers=headers,
            body=None if body is None and form is None else data,
        )
        response = await self.client.send(request=request)
        data, _ = await read(response)
        self.raw = data
        try:
            return response.status, json.loads(data)
        except ValueError:
            return response.status, None

    async def refused(
        self, fake: FakeCodeAssist, what: str, body: Any, status: int, words: str = ""
    ) -> None:
        """Fail unless a request is refused as Google does."""
        code, told = await self.send(fake, what, body)
        self.assertEqual(code, status, body)
        self.assertEqual(told["error"]["code"], status)
        self.assertIn(words, told["error"]["message"])


class RecordedTests(FakeCase):
    """The real client's requests."""

    async def test_they_are_taken(self) -> None:
        """Each recorded request of Gemini CLI is answered with a 200."""
        fake = await self.fake(project="zq-managed-project")
        recordings = sorted(RECORDED.glob("*.json"))
        self.assertGreater(len(recordings), 15)
        for path in recordings:
            recording = json.loads(path.read_bytes())
            onboarding = recording["case"].startswith("onboard")
            fake.tier = None if onboarding and recording["seq"] < 3 else "free-tier"
            if recording["path"].endswith("/operations/zq-onboard-1"):
                recording["path"] = "/v1internal/operations/fake-onboard-1"
            status, _ = await self.send(fake, "", recording["body"] or None, path=recording["path"])
            self.assertEqual((path.name, status), (path.name, 200))
        self.assertEqual(
            {each.what for each in fake.asked},
            {
                "loadCodeAssist",
                "onboardUser",
                "operation",
                "retrieveUserQuota",
                "listExperiments",
                "streamGenerateContent",
            },
        )


class RefusedTests(FakeCase):
    """What the real service refuses."""

    async def test_tokens(self) -> None:
        """A token that is missing, unknown or expired is a 401 with Google's reason."""
        fake = await self.fake()
        fake.accept("ya29.old")
        fake.expire("ya29.old")
        for token, reason in (
            (None, "CREDENTIALS_MISSING"),
            ("ya29.who", "ACCESS_TOKEN_TYPE_UNSUPPORTED"),
            ("ya29.old", "ACCESS_TOKEN_EXPIRED"),
        ):
            status, told = await self.send(fake, "generateContent", ASKED, token=token)
            self.assertEqual((status, told["error"]["status"]), (401, "UNAUTHENTICATED"))
            self.assertEqual(told["error"]["details"][0]["reason"], reason)

    async def test_paths(self) -> None:
        """What is not there is a page of HTML, and so is the wrong verb."""
        fake = await self.fake()
        for what, body in (("listModels", {}), ("generateContent", None)):
            status, told = await self.send(fake, what, body)
            self.assertEqual((status, told), (404, None))
            self.assertIn(b"<!DOCTYPE", self.raw)
        status, _ = await self.send(fake, "", {}, path="/v1internal/operations/other")
        self.assertEqual(status, 404)

    async def test_json(self) -> None:
        """What is no JSON object is a 400."""
        fake = await self.fake()
        await self.refused(fake, "generateContent", ["x"], 400)

    async def test_envelope(self) -> None:
        """A field of the envelope that is missing, unknown or in the wrong case is a 400."""
        fake = await self.fake()
        for body, word in (
            (asked(model=None), "model"),
            (asked(project=None), "project"),
            (asked(project=""), "project"),
            (asked(request=None), "request"),
            (asked(userPromptId="x"), "userPromptId"),
            (asked(contents=[]), "contents"),
            (inner(system_instruction={}), "system_instruction"),
            (inner(generation_config={}), "generation_config"),
            (inner(sessionId="x"), "sessionId"),
            (inner(model="gemini-2.5-pro"), "model"),
            (inner(contents=[]), "contents"),
        ):
            await self.refused(fake, "generateContent", body, 400, word)

    async def test_projects(self) -> None:
        """A number is a 400; 'default' and a project of others are a 403."""
        fake = await self.fake()
        await self.refused(fake, "generateContent", asked(project="123456"), 400)
        await self.refused(fake, "generateContent", asked(project="default"), 403, "default")
        await self.refused(fake, "generateContent", asked(project="others"), 403)
        await self.refused(fake, "retrieveUserQuota", {}, 400)

    async def test_models(self) -> None:
        """A model that is not there is a 404, and so is one with a prefix."""
        fake = await self.fake()
        for model in ("gemini-9", "models/gemini-2.5-pro"):
            await self.refused(fake, "generateContent", asked(model=model), 404)

    async def test_contents(self) -> None:
        """A content has a role that is known and parts that are one thing each."""
        fake = await self.fake()
        for contents in (
            [{"parts": [{"text": "x"}]}],
            [{"role": "assistant", "parts": [{"text": "x"}]}],
            [{"role": "user", "parts": []}],
            [{"role": "user", "parts": [{}]}],
            [{"role": "user", "parts": [{"text": "x", "inlineData": {}}]}],
        ):
            await self.refused(fake, "generateContent", inner(contents=contents), 400)

    async def test_functions(self) -> None:
        """A function's name follows the rule, and it has one schema."""
        fake = await self.fake()
        for declared in (
            {"name": ""},
            {"name": "1x"},
            {"name": "a b"},
            {"name": "x" * 65},
            {"name": "f", "parameters": {}, "parametersJsonSchema": {}},
        ):
            body = inner(tools=[{"functionDeclarations": [declared]}])
            await self.refused(fake, "generateContent", body, 400)
        twice = inner(tools=[{"functionDeclarations": [{"name": "f"}, {"name": "f"}]}])
        await self.refused(fake, "generateContent", twice, 400, "Duplicate")

    async def test_answers_of_functions(self) -> None:
        """There are as many answers as calls, and each names its function."""
        fake = await self.fake()
        user = ("user", [{"text": "x"}])
        for contents in (
            (user, ("model", [CALL, CALL]), ("user", [ANSWER])),
            (user, ("model", [CALL]), ("user", [ANSWER, ANSWER])),
            (user, ("user", [ANSWER])),
        ):
            words = "number of function response parts"
            await self.refused(fake, "generateContent", talk(*contents), 400, words)
        nameless = {"functionResponse": {"name": "", "response": {}}}
        body = talk(user, ("model", [CALL]), ("user", [nameless]))
        await self.refused(fake, "generateContent", body, 400, "Name cannot be empty")

    async def test_signatures(self) -> None:
        """Gemini 3 wants the first call of each step of the turn signed, by itself."""
        fake = await self.fake()
        bare = {"functionCall": CALL["functionCall"]}
        user, answer = ("user", [{"text": "x"}]), ("user", [ANSWER])
        three = "gemini-3-pro-preview"
        for part, model, status in (
            (CALL, three, 200),
            ({**bare, "thoughtSignature": BYPASS}, three, 200),
            (bare, three, 400),
            (bare, "gemini-2.5-pro", 200),
            ({**bare, "thoughtSignature": "b3RoZXI="}, three, 400),
            ({**bare, "thoughtSignature": "b3RoZXI="}, "gemini-2.5-pro", 400),
        ):
            body = talk(user, ("model", [part]), answer, model=model)
            self.assertEqual((await self.send(fake, "generateContent", body))[0], status, part)
        both = [ANSWER, ANSWER]
        good = talk(user, ("model", [CALL, bare]), ("user", both), model=three)
        self.assertEqual((await self.send(fake, "generateContent", good))[0], 200)
        past = talk(user, ("model", [bare]), answer, ("model", [{"text": "y"}]), user, model=three)
        self.assertEqual((await self.send(fake, "generateContent", past))[0], 200)

    async def test_thinking(self) -> None:
        """A budget and a level exclude one another."""
        fake = await self.fake()
        config = {"thinkingConfig": {"thinkingBudget": 1, "thinkingLevel": "low"}}
        await self.refused(fake, "generateContent", inner(generationConfig=config), 400)

    async def test_stream_framing(self) -> None:
        """A stream is server-sent events."""
        fake = await self.fake()
        await self.refused(fake, "streamGenerateContent", ASKED, 400, "alt=sse")

    async def test_counts(self) -> None:
        """A count has an envelope of its own, and takes no thoughts."""
        fake = await self.fake()
        contents = ASKED["request"]["contents"]
        good = {"model": "models/gemini-2.5-pro", "contents": contents}
        status, told = await self.send(fake, "countTokens", {"request": good})
        self.assertEqual((status, list(told)), (200, ["totalTokens"]))
        thought = [{"role": "model", "parts": [{"text": "x", "thought": True}]}]
        for body in (
            {"request": good, "project": "fake-managed-project"},
            {"request": {**good, "model": "gemini-2.5-pro"}},
            {"request": {**good, "safetySettings": []}},
            {"request": {**good, "contents": thought}},
            {"model": "models/gemini-2.5-pro", "contents": contents},
        ):
            await self.refused(fake, "countTokens", body, 400)
        unknown = {"request": {**good, "model": "models/x"}}
        await self.refused(fake, "countTokens", unknown, 404)

    async def test_load(self) -> None:
        """An empty project is refused, and so is a word that is no platform."""
        fake = await self.fake()
        for body, status in (
            ({}, 400),
            ({"metadata": METADATA, "cloudaicompanionProject": ""}, 400),
            ({"metadata": {**METADATA, "duetProject": ""}}, 400),
            ({"metadata": METADATA, "cloudaicompanionProject": "123"}, 400),
            ({"metadata": {**METADATA, "platform": "LINUX"}}, 400),
            ({"metadata": METADATA, "cloudaicompanionProject": "default"}, 403),
        ):
            await self.refused(fake, "loadCodeAssist", body, status)

    async def test_onboard(self) -> None:
        """The free tier takes no project, others want one."""
        fake = await self.fake(tier=None, projects={"mine"})
        own = {"tierId": "free-tier", "metadata": METADATA, "cloudaicompanionProject": "mine"}
        await self.refused(fake, "onboardUser", own, 412, "Precondition Failed")
        await self.refused(fake, "onboardUser", {"tierId": "x", "metadata": METADATA}, 400)
        fake.offered = "standard-tier"
        bare = {"tierId": "standard-tier", "metadata": METADATA}
        await self.refused(fake, "onboardUser", bare, 400)
        own["tierId"] = "standard-tier"
        status, told = await self.send(fake, "onboardUser", own)
        self.assertEqual(told["response"]["cloudaicompanionProject"]["id"], "mine")
        self.assertEqual((status, fake.tier), (200, "standard-tier"))

    async def test_onboarding_takes_its_time(self) -> None:
        """An operation is asked after until it is done."""
        fake = await self.fake(tier=None, polls=2)
        body = {"tierId": "free-tier", "metadata": METADATA}
        _, told = await self.send(fake, "onboardUser", body)
        name = told["name"]
        for done in (False, True):
            self.assertEqual(told.get("done"), False)
            _, told = await self.send(fake, "", path=f"/v1internal/{name}")
            self.assertEqual(told["done"], done)
        self.assertEqual(told["response"]["cloudaicompanionProject"]["id"], "fake-managed-project")


class LoginTests(FakeCase):
    """The token endpoint and who the user is."""

    async def test_renewal(self) -> None:
        """A refresh token gives an access token and stays as it is."""
        fake = await self.fake()
        login = fake.login()
        form = {
            "client_id": fake.client_id,
            "client_secret": fake.client_secret,
            "refresh_token": login["refresh_token"],
            "grant_type": "refresh_token",
        }
        status, told = await self.send(fake, "", form=form, path="/token", token=None)
        self.assertEqual(status, 200)
        self.assertEqual(
            sorted(told), ["access_token", "expires_in", "id_token", "scope", "token_type"]
        )
        status, _ = await self.send(fake, "generateContent", ASKED, token=told["access_token"])
        self.assertEqual(status, 200)
        for changes, expected, error in (
            ({"client_id": "x"}, 401, "invalid_client"),
            ({"client_secret": "x"}, 401, "invalid_client"),
            ({"grant_type": "x"}, 400, "unsupported_grant_type"),
            ({"refresh_token": "x"}, 400, "invalid_grant"),
        ):
            status, told = await self.send(
                fake, "", form={**form, **changes}, path="/token", token=None
            )
            self.assertEqual((status, told["error"]), (expected, error))
        status, told = await self.send(fake, "", form, path="/token", token=None)
        self.assertEqual((status, told["error"]), (400, "invalid_request"))
        fake.revoke()
        status, told = await self.send(fake, "", form=form, path="/token", token=None)
        self.assertEqual(told["error_description"], "Token has been expired or revoked.")

    async def test_who_it_is(self) -> None:
        """Token and user can be asked after."""
        fake = await self.fake()
        status, told = await self.send(fake, "", path="/oauth2/v2/userinfo")
        self.assertEqual((status, told["email"]), (200, "user@example.com"))
        status, _ = await self.send(fake, "", path=f"/tokeninfo?access_token={TOKEN}")
        self.assertEqual(status, 200)
        status, told = await self.send(fake, "", path="/tokeninfo?access_token=x", token=None)
        self.assertEqual((status, told["error"]), (400, "invalid_token"))


class AnswerTests(SynchronousTestCase):
    """What it can be told to answer."""

    def test_framings(self) -> None:
        """Lines end as told, a record may be spread over lines, the last may lack its blank."""
        plain = CodeAssistAnswer(({"text": "a"}, {"text": "b"})).records()
        self.assertEqual([each[:6] + each[-4:] for each in plain], [b"data: \r\n\r\n"] * 2)
        spread = CodeAssistAnswer(lines=3, line_end=b"\n", last_blank=False).records()[0]
        self.assertGreater(spread.count(b"\ndata: "), 3)
        self.assertEqual(spread[-2:], b"}\n")
        joined = b"\n".join(line[6:] for line in spread.splitlines())
        self.assertEqual(json.loads(joined)["response"]["responseId"], "fAke-0001")

    def test_refusals(self) -> None:
        """Each error of the table is one that Google's client would read."""
        for name, refusal in CODE_ASSIST_FAULTS.items():
            if refusal.text is None:
                self.assertEqual(refusal.body["error"]["code"], refusal.status, name)
        sent = Refusal(429, {"error": {}}, in_array=True).script(streaming=True)
        self.assertEqual(sent[1], Send(b'[{"error": {}}]'))


class ScriptedTests(FakeCase):
    """Answers in the order they were scripted."""

    async def test_order(self) -> None:
        """Answers come one after the other, then greetings; faults of a method come first."""
        fake = await self.fake()
        fake.play(CodeAssistAnswer(({"text": "one"},)), CODE_ASSIST_FAULTS["rate"])
        fake.fail("generateContent", CODE_ASSIST_FAULTS["internal"])
        seen = [(await self.send(fake, "generateContent", ASKED))[0] for _ in range(4)]
        self.assertEqual(seen, [500, 200, 429, 200])
        self.assertEqual([each.status for each in fake.calls("generateContent")], seen)
