"""
Kiro as tests know it: what it refuses is what the real one was seen to refuse.

And what Amazon's own client sends, it takes; what it answers, Amazon's own decoder reads.
"""

from __future__ import annotations

import copy
import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from aiclient2api.testing import (
    FakeKiro,
    event_stream_message,
    kiro_call,
    kiro_error,
    kiro_exception,
    kiro_metadata,
    kiro_reply,
    kiro_text,
    kiro_tool,
    kiro_trifles,
)
from aiclient2api.testing.fake_kiro_rules import LONGEST_DESCRIPTION, violations
from aiclient2api.values import Headers, UpstreamRequest
from tests.raw_peers import REACTOR, WireCase, read
from tests.test_framing_aws_event_stream import CALL, EXCEPTION, TEXT

RECORDINGS = Path(__file__).parent / "kiro_recordings"
JSON = ((b"content-type", b"application/json"),)
AMZ = ((b"content-type", b"application/x-amz-json-1.0"),)
PNG = "iVBORw0KGgo="


def user(content: str = "hi", **fields: Any) -> dict[str, Any]:
    """Return what the user says."""
    told = {"content": content, "modelId": "claude-sonnet-4.5", "origin": "AI_EDITOR", **fields}
    return {"userInputMessage": told}


def assistant(content: str = "well", **fields: Any) -> dict[str, Any]:
    """Return what the model said."""
    return {"assistantResponseMessage": {"content": content, **fields}}


def results(*ids: str, status: str = "success") -> list[dict[str, Any]]:
    """Return the results of calls."""
    return [{"toolUseId": id, "status": status, "content": [{"text": "r"}]} for id in ids]


def tool(name: str = "f", description: str = "d", schema: Any = None) -> dict[str, Any]:
    """Return a tool that is offered."""
    json_schema = {"type": "object", "properties": {}} if schema is None else schema
    told = {"name": name, "description": description, "inputSchema": {"json": json_schema}}
    return {"toolSpecification": told}


def asked(
    current: Any = None, history: Sequence[Any] | None = None, **fields: Any
) -> dict[str, Any]:
    """Return a question."""
    state: dict[str, Any] = {
        "chatTriggerType": "MANUAL",
        "conversationId": "c-1",
        "currentMessage": user() if current is None else current,
    }
    if history is not None:
        state["history"] = list(history)
    return {"conversationState": state, **fields}


def uses(*ids: str, name: str = "f") -> list[dict[str, Any]]:
    """Return calls."""
    return [{"toolUseId": id, "name": name, "input": {"a": 1}} for id in ids]


def in_context(**fields: Any) -> dict[str, Any]:
    """Return a message of the user with *fields* in its context."""
    return user("go on", userInputMessageContext=fields)


def recorded() -> dict[str, dict[str, Any]]:
    """Return what Amazon's client sent, by its case."""
    return {path.stem: json.loads(path.read_bytes()) for path in RECORDINGS.glob("*.json")}


class RulesTests(SynchronousTestCase):
    """Every rule, broken alone."""

    def assertBroken(self, document: Any, rule: str) -> None:
        """Fail unless *document* breaks that rule."""
        broken = violations(document)
        self.assertTrue(any(rule in each for each in broken), (rule, broken))

    def test_good(self) -> None:
        """What obeys them all is taken."""
        history = [user(), assistant(toolUses=uses("t1", "t2"))]
        current = in_context(tools=[tool()], toolResults=results("t1", "t2"))
        for document in (
            asked(),
            asked(history=[user(), assistant()]),
            asked(current, history),
            asked(user("look", images=[{"format": "png", "source": {"bytes": PNG}}])),
            asked(inferenceConfig={"maxTokens": 1}, profileArn="arn:x"),
        ):
            self.assertEqual(violations(document), [])

    def test_current_message(self) -> None:
        """Rule 1: the last word is the user's."""
        self.assertBroken(asked(assistant()), "1: currentMessage")

    def test_empty_content(self) -> None:
        """Rule 2: nobody says nothing."""
        for content in ("", " \n"):
            self.assertBroken(asked(user(content)), "2: the content of currentMessage")
            self.assertBroken(asked(history=[user(content), assistant()]), "2: the content of")
            self.assertBroken(asked(history=[user(), assistant(content)]), "2: the content of")

    def test_alternation(self) -> None:
        """Rule 3: they take turns, the user first and the model last; no list is empty."""
        for history in ([], [assistant()], [user()], [user(), user()], [user(), assistant()] * 2):
            bad = history != [user(), assistant()] * 2
            self.assertEqual(bool(violations(asked(history=history))), bad, history)
        self.assertBroken(asked(history=[user(), assistant(), assistant()]), "3: history[2]")
        self.assertBroken(asked(user(images=[])), "3: images")
        self.assertBroken(asked(user(userInputMessageContext={})), "3: userInputMessageContext")
        self.assertBroken(asked(in_context(tools=[])), "3: tools")
        self.assertBroken(asked(history=[user(), assistant(toolUses=[])]), "3: toolUses")

    def test_results(self) -> None:
        """Rule 4: a result answers a call just before it, once; its tool is told of."""
        history = [user(), assistant(toolUses=uses("t1"))]
        for ids, rule in (
            ((), "4: currentMessage does not answer t1"),
            (("t1", "t1"), "4: currentMessage answers a call twice"),
            (("t1", "t9"), "4: currentMessage answers t9"),
        ):
            current = in_context(tools=[tool()], **({"toolResults": results(*ids)} if ids else {}))
            self.assertBroken(asked(current, history), rule)
        unknown = in_context(toolResults=results("t1"))
        self.assertBroken(asked(unknown, history), "4: the tool f of the history")
        odd = in_context(tools=[tool()], toolResults=results("t1", status="failed"))
        self.assertBroken(asked(odd, history), "4: a result")

    def test_tools(self) -> None:
        """Rule 5: names, descriptions and schemas are of a form."""
        for bad, rule in (
            (tool("a" * 65), "is no name"),
            (tool("a.b"), "is no name"),
            (tool(description=" "), "has no description"),
            (tool(description="d" * (LONGEST_DESCRIPTION + 1)), "is too long"),
            (tool(schema={"properties": {}}), "is of no object"),
        ):
            self.assertBroken(asked(in_context(tools=[bad])), rule)
        self.assertBroken(asked(in_context(tools=[tool(), tool()])), "stands in tools twice")
        calls = [{"toolUseId": "t1", "name": "f", "input": {"a": [{"": 1}]}}]
        current = in_context(tools=[tool()], toolResults=results("t1"))
        history = [user(), assistant(toolUses=calls)]
        self.assertBroken(asked(current, history), "5: a call of history[1]")

    def test_the_vendors_own_tools(self) -> None:
        """Rule 6: Anthropic's own tools are not taken, nor their names."""
        native = {"type": "web_search_20250305", "name": "web_search"}
        self.assertBroken(asked(in_context(tools=[native])), "6: a tool is no toolSpecification")
        self.assertBroken(asked(in_context(tools=[tool("WebSearch")])), "6: WebSearch")

    def test_null(self) -> None:
        """Rule 8: null stands nowhere."""
        self.assertBroken(asked(profileArn=None), "8: null at .profileArn")
        deep = tool(schema={"type": "object", "properties": {"a": {"enum": ["b", None]}}})
        self.assertBroken(asked(in_context(tools=[deep])), "8: null at")

    def test_images(self) -> None:
        """An image is of a known format, and base64."""
        for image in (
            {"format": "jpg", "source": {"bytes": PNG}},
            {"format": "png", "source": {"bytes": "https://a.test/x.png"}},
            {"format": "png", "source": {"url": "https://a.test/x.png"}},
        ):
            self.assertBroken(asked(user(images=[image])), "is no image")


class FramesTests(SynchronousTestCase):
    """The event stream that it writes."""

    def test_vectors(self) -> None:
        """The same bytes as those that Amazon's decoder was tried with."""

        def named(kind: str, name: str, message: str) -> dict[str, str]:
            return {
                kind: name,
                ":content-type": "application/json",
                ":message-type": message,
            }

        text = named(":event-type", "assistantResponseEvent", "event")
        self.assertEqual(event_stream_message(text, b'{"content":"Hi"}'), TEXT)
        self.assertEqual(kiro_text("Hi"), TEXT)
        call = named(":event-type", "toolUseEvent", "event")
        told = b'{"name":"ls","toolUseId":"tooluse_1","input":"{\\"p\\":","stop":false}'
        self.assertEqual(event_stream_message(call, told), CALL)
        self.assertEqual(kiro_exception("ThrottlingException", "slow down"), EXCEPTION)

    def test_amazon_reads_it(self) -> None:
        """Amazon's decoder finds every message, and in it what was meant."""
        try:
            decoder = importlib.import_module("botocore.eventstream")
        except ImportError:
            raise SkipTest("botocore is not installed") from None
        frames = [
            kiro_text("é\U0001f600"),
            *kiro_call("t1", "f", ['{"a":', "1}"]),
            kiro_metadata({"inputTokens": 1}, "END_TURN"),
            *kiro_trifles(),
            kiro_exception("ThrottlingException", "slow", "MONTHLY_REQUEST_COUNT"),
            kiro_error("InternalError", "no idea"),
        ]
        buffer = decoder.EventStreamBuffer()
        found = []
        for byte in b"".join(frames):
            buffer.add_data(bytes([byte]))
            found += list(buffer)
        self.assertEqual(len(found), len(frames))
        self.assertEqual(json.loads(found[0].payload), {"content": "é\U0001f600"})
        self.assertEqual(found[-1].headers[":error-code"], "InternalError")
        self.assertEqual(found[-2].headers[":exception-type"], "ThrottlingException")


class FakeKiroCase(WireCase):
    """One fake on loopback, and a way to ask it."""

    async def setUp(self) -> None:  # type: ignore[override]
        """Start it."""
        super().setUp()
        self.clock = Clock()
        self.clock.advance(1_800_000_000)
        self.kiro = FakeKiro(now=self.clock.seconds)
        await self.kiro.listen(REACTOR)
        self.addCleanup(self.kiro.stop)
        self.way = self.upstream()

    async def ask(
        self, path: str, body: Any = None, headers: Headers = JSON, method: str = "POST"
    ) -> tuple[int, Any]:
        """Send a request; return status and JSON, or the bytes of a stream."""
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body)
        sent = data.encode() if isinstance(data, str) else data
        url = self.kiro.server.url + path
        response = await self.way.send(UpstreamRequest(method, url, headers, sent))
        told, _ = await read(response)
        kind = dict(response.headers)[b"content-type"]
        return response.status, json.loads(told) if kind == b"application/json" else told

    async def generate(
        self, token: str, body: Any, *, region: str = "us-east-1", target: bool = False
    ) -> tuple[int, Any]:
        """Ask for an answer, in either of the two ways."""
        bearer = ((b"authorization", b"Bearer " + token.encode()),)
        if target:
            name = b"AmazonCodeWhispererStreamingService.GenerateAssistantResponse"
            return await self.ask(f"/q/{region}/", body, (*AMZ, *bearer, (b"x-amz-target", name)))
        return await self.ask(f"/q/{region}/generateAssistantResponse", body, JSON + bearer)

    async def renew(self, told: Any, registration: Any, *, region: str) -> tuple[int, Any]:
        """Ask AWS for new tokens."""
        body = {
            "clientId": registration["clientId"],
            "clientSecret": registration["clientSecret"],
            "refreshToken": told["refreshToken"],
            "grantType": "refresh_token",
        }
        return await self.ask(f"/oidc/{region}/token", body)


class LoginTests(FakeKiroCase):
    """Where tokens come from."""

    async def test_social(self) -> None:
        """A social refresh token is good until it is followed; another one is refused."""
        told = self.kiro.social()
        body = {"refreshToken": told["refreshToken"]}
        status, fresh = await self.ask("/desktop/us-east-1/refreshToken", body)
        self.assertEqual((status, fresh["expiresIn"]), (200, 3600))
        self.assertEqual(fresh["profileArn"], told["profileArn"])
        status, refused = await self.ask("/desktop/us-east-1/refreshToken", {"refreshToken": "x"})
        self.assertEqual((status, refused), (401, {"message": "Bad credentials"}))

    async def test_used_once(self) -> None:
        """AWS takes a refresh token once."""
        told, registration = self.kiro.builder_id()
        status, fresh = await self.renew(told, registration, region="us-east-1")
        self.assertEqual((status, fresh["tokenType"]), (200, "Bearer"))
        status, refused = await self.renew(told, registration, region="us-east-1")
        self.assertEqual((status, refused["error"]), (400, "invalid_grant"))
        self.assertEqual(self.kiro.burned, [told["refreshToken"]])

    async def test_wrong_region(self) -> None:
        """In another region AWS knows nothing of it, and says so in other words."""
        self.kiro.oidc_region = "ap-southeast-1"
        told, registration = self.kiro.enterprise()
        status, refused = await self.renew(told, registration, region="us-east-1")
        self.assertEqual((status, refused["error"]), (400, "invalid_request"))
        self.assertEqual(refused["error_description"], "Invalid token provided")
        status, _ = await self.renew(told, registration, region="ap-southeast-1")
        self.assertEqual(status, 200)

    async def test_registration(self) -> None:
        """A registration ends some day, and then nothing is renewed."""
        told, registration = self.kiro.builder_id()
        self.kiro.expire_registration(registration["clientId"])
        status, refused = await self.renew(told, registration, region="us-east-1")
        self.assertEqual((status, refused["error"]), (401, "invalid_client"))

    async def test_device(self) -> None:
        """Register, ask for a code, wait for the person, have the tokens."""
        status, refused = await self.ask("/oidc/us-east-1/client/register", {"clientName": "x"})
        self.assertEqual((status, refused["error"]), (400, "invalid_client_metadata"))
        named = {"clientName": "x", "clientType": "public"}
        _, told = await self.ask("/oidc/us-east-1/client/register", named)
        client = {key: told[key] for key in ("clientId", "clientSecret")}
        start = {**client, "startUrl": "https://view.awsapps.com/start"}
        _, device = await self.ask("/oidc/us-east-1/device_authorization", start)
        body = {
            **client,
            "deviceCode": device["deviceCode"],
            "grantType": "urn:ietf:params:oauth:grant-type:device_code",
        }
        status, waits = await self.ask("/oidc/us-east-1/token", body)
        self.assertEqual((status, waits["error"]), (400, "authorization_pending"))
        self.kiro.approved = True
        status, granted = await self.ask("/oidc/us-east-1/token", body)
        self.assertEqual(status, 200)
        status, _ = await self.generate(granted["accessToken"], asked())
        self.assertEqual(status, 200)
        status, over = await self.ask("/oidc/us-east-1/token", body)
        self.assertEqual((status, over["error"]), (400, "expired_token"))


class ServiceTests(FakeKiroCase):
    """The service itself."""

    async def test_recorded_requests(self) -> None:
        """Amazon's own client is answered, but for the two whose prompts break a rule."""
        login = self.kiro.social()
        refused = []
        for case, request in sorted(recorded().items()):
            body = copy.deepcopy(request["body"])
            body["profileArn"] = login["profileArn"]
            message = body["conversationState"]["currentMessage"]["userInputMessage"]
            # Recorded with filler in the place of the picture.
            for image in message.get("images", ()):
                image["source"]["bytes"] = PNG
            if case == "bad_token_403":
                status, told = await self.generate("nonsense", body)
                self.assertEqual(status, 403)
                self.assertIn("bearer token", told["message"])
                continue
            self.assertEqual(request["path"], "/generateAssistantResponse")
            status, told = await self.generate(login["accessToken"], body)
            if status != 200:
                refused.append(case)
                improper = {"message": "Improperly formed request.", "reason": None}
                self.assertEqual((status, told), (400, improper))
        self.assertEqual(refused, ["malformed_history_400", "parallel_tools-2"])
        self.assertIn("2: the content", self.kiro.broken[1][0])

    async def test_target(self) -> None:
        """The other way of asking is as good."""
        login = self.kiro.social()
        body = asked(profileArn=login["profileArn"])
        status, told = await self.generate(login["accessToken"], body, target=True)
        self.assertEqual(status, 200)
        self.assertIn(b"Hello from ", told)

    async def test_tokens(self) -> None:
        """No token, a token of another region, one that is expired: three times no."""
        self.kiro.region = "eu-central-1"
        told, _ = self.kiro.builder_id()
        token = told["accessToken"]
        for wrong, region in (("", "eu-central-1"), (token, "us-east-1")):
            status, refused = await self.generate(wrong, asked(), region=region)
            said = "The bearer token included in the request is invalid."
            self.assertEqual((status, refused), (403, {"message": said, "reason": None}))
        self.assertEqual((await self.generate(token, asked(), region="eu-central-1"))[0], 200)
        self.kiro.expire(token)
        for expected in (403, 401):
            self.kiro.expired_status = expected
            status, _ = await self.generate(token, asked(), region="eu-central-1")
            self.assertEqual(status, expected)

    async def test_profiles(self) -> None:
        """A profile is needed, and it is one's own, of that region."""
        login = self.kiro.social()
        token = login["accessToken"]
        another = self.kiro.social()["profileArn"]
        for arn, expected, words in (
            (None, 400, "profileArn is required"),
            (another, 403, "not authorized to make this call"),
            (another.replace("us-east-1", "eu-central-1"), 400, "Improperly formed"),
        ):
            body = asked(**({"profileArn": arn} if arn else {}))
            status, refused = await self.generate(token, body)
            self.assertEqual(status, expected)
            self.assertIn(words, refused["message"])

    async def test_list_profiles(self) -> None:
        """Who does not know the profile can ask for it."""
        told, _ = self.kiro.enterprise()
        target = (b"x-amz-target", b"AmazonCodeWhispererService.ListAvailableProfiles")
        bearer = (b"authorization", b"Bearer " + told["accessToken"].encode())
        status, found = await self.ask("/q/us-east-1/", {}, (*AMZ, target, bearer))
        self.assertEqual(status, 200)
        arn = self.kiro.arn_of(told["accessToken"])
        self.assertEqual([each["arn"] for each in found["profiles"]], [arn])

    async def test_models_and_sizes(self) -> None:
        """A model that there is none of, and a request that is too long, are told apart."""
        told, _ = self.kiro.builder_id()
        current = user()
        current["userInputMessage"]["modelId"] = "gpt-5"
        status, refused = await self.generate(told["accessToken"], asked(current))
        self.assertEqual((status, refused["reason"]), (400, "INVALID_MODEL_ID"))
        status, refused = await self.generate(told["accessToken"], asked(user("x" * 950_000)))
        self.assertEqual((status, refused["message"]), (400, "Input is too long."))

    async def test_usage(self) -> None:
        """The limits are told to who asks as the IDE does."""
        login = self.kiro.social()
        bearer = ((b"authorization", b"Bearer " + login["accessToken"].encode()),)
        path = "/q/us-east-1/getUsageLimits?origin=AI_EDITOR&resourceType=AGENTIC_REQUEST"
        status, _ = await self.ask(path, None, bearer, "GET")
        self.assertEqual(status, 403)
        path += f"&profileArn={login['profileArn']}"
        status, told = await self.ask(path, None, bearer, "GET")
        self.assertEqual((status, told["usageBreakdownList"][0]["usageLimit"]), (200, 50))

    async def test_scripted(self) -> None:
        """Calls in pieces, exceptions in the middle, anything: as the test says."""
        told, _ = self.kiro.builder_id()
        frames = [
            kiro_tool("a", name="f", input='{"x":'),
            kiro_tool("b", name="f", input="{}", stop=True),
            kiro_tool("a", input="1}", stop=True),
            kiro_exception("ThrottlingException", "slow down"),
        ]
        self.kiro.answers = [frames, lambda body: kiro_reply([kiro_text("made")])]
        self.assertEqual(await self.generate(told["accessToken"], asked()), (200, b"".join(frames)))
        _, made = await self.generate(told["accessToken"], asked())
        self.assertIn(b"made", made)
