"""
``gemini-cli-oauth`` from end to end: an exchange with a fake of Google's over loopback.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from aiclient2api.dialects.convert import Converted, relayed
from aiclient2api.dialects.gemini import GEMINI
from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.exchange import Exchange, Patience, Way
from aiclient2api.interfaces import IEnveloping, ILogins, IRenewing, IWireRequest
from aiclient2api.oauth.tokens import TokenBook
from aiclient2api.providers.gemini_cli_oauth import gemini_cli_oauth
from aiclient2api.testing import (
    CODE_ASSIST_FAULTS,
    CodeAssistAnswer,
    FakeCodeAssist,
    FixedPool,
    MemoryObserver,
    MemoryReply,
    one_account,
)
from aiclient2api.testing.code_assist_answers import SIGNATURE
from aiclient2api.values import Account, Credential, ExchangeRecord, Runtime
from tests.raw_peers import REACTOR, WireCase
from tests.test_providers_contract import (
    BODY,
    KEY,
    STREAMED,
    AskedRequest,
    ProviderContract,
    provider_of,
)

HI = {"contents": [{"parts": [{"text": "hi"}]}]}


class GeminiCLIContractTests(ProviderContract, SynchronousTestCase):
    """The contract for ``gemini-cli-oauth``."""

    factory = gemini_cli_oauth
    settings = {"gemini_oauth_creds_base64": "e30="}
    base_key = "gemini_base_url"
    sample = (b'{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}', "m-1:generateContent")

    def _account(self, **fields: Any) -> Account:
        credential = Credential(KEY, {"project": "p-1"}, (KEY,))
        settings: Any = self.settings
        return one_account(
            "gemini-cli-oauth",
            gemini_cli_oauth.settings(**settings),
            credential=credential,
            **fields,
        )

    def test_body_is_untouched(self) -> None:
        """The bytes of the request go out in an envelope, but for the model's name."""
        for request in (AskedRequest(), STREAMED):
            sent = self._prepared(request)
            front = b'{"model":"m-1","project":"p-1","request":'
            self.assertEqual(sent.body, front + BODY.replace(b'"model" : "m-1",\t', b"") + b"}")

    def test_real_request(self) -> None:
        """A body parsed by the dialect goes out as it came in, in the envelope."""
        body, rest = self.sample
        endpoint = next(each for each in GEMINI.endpoints if each.action == "generate")
        route = GEMINI.route(endpoint=endpoint, rest=rest, query=(), headers={})
        request = GEMINI.parse(body=body, route=route)
        sent = self._prepared(cast(AskedRequest, request))
        self.assertEqual(sent.body, b'{"model":"m-1","project":"p-1","request":' + body + b"}")

    def test_more_interfaces(self) -> None:
        """It renews credentials and opens envelopes, and there is a login for it."""
        provider, _ = provider_of(gemini_cli_oauth)
        verifyObject(IRenewing, provider)
        verifyObject(IEnveloping, provider)
        self.assertIsNotNone(ILogins(gemini_cli_oauth, None))

    def test_terms(self) -> None:
        """What Google thinks of it is said plainly."""
        for word in ("forbid", "suspended", "gemini-custom"):
            self.assertIn(word, gemini_cli_oauth.terms)

    def test_urls(self) -> None:
        """Each action has its verb; the version is added where the base has none."""
        provider, _ = provider_of(gemini_cli_oauth)
        for base in ("", "https://x.test", "https://x.test/v1internal/"):
            host = base.partition("/v1")[0] or "https://cloudcode-pa.googleapis.com"
            for request, end in (
                (AskedRequest(), "generateContent"),
                (STREAMED, "streamGenerateContent?alt=sse"),
                (
                    AskedRequest(streaming=True, framing="json_array"),
                    "streamGenerateContent?alt=sse",
                ),
                (AskedRequest(action="count_tokens"), "countTokens"),
            ):
                account = one_account("g", gemini_cli_oauth.settings(gemini_base_url=base))
                sent = provider.prepare(request=cast(IWireRequest, request), account=account)
                self.assertEqual(sent.url, f"{host}/v1internal:{end}")

    def test_models(self) -> None:
        """There is a list without asking, and it is known without asking, too."""
        provider, upstream = provider_of(gemini_cli_oauth)
        found = self.successResultOf(provider.models(account=self._account()))
        self.assertIn("gemini-2.5-pro", [model.id for model in found])
        self.assertEqual(provider.known_models, tuple(model.id for model in found))
        self.assertEqual(upstream.sent, [])

    def test_without_credential(self) -> None:
        """An account with nothing to log in with is told so, and its timer does not fail."""
        found, _ = provider_of(gemini_cli_oauth)
        provider = IRenewing(found)
        account = one_account("g", gemini_cli_oauth.settings())
        error = self.failureResultOf(provider.credential(account=account), UpstreamError)
        self.assertIn("bug", str(error.value))
        told = self.successResultOf(provider.renew_early(account=account, seconds=1.0))
        self.assertIsInstance(told, UpstreamError)
        self.assertEqual(provider.version(account=account), "")


class OAuthCase(WireCase):
    """An account at a fake, and a gateway's exchange with it."""

    async def start(self, *, path: bool = False, **fields: Any) -> None:
        """Start the fake, and log its user in."""
        settings = {key: fields.pop(key) for key in list(fields) if key == "project_id"}
        self.fake = FakeCodeAssist(**fields)
        await self.fake.listen(REACTOR)
        self.addCleanup(self.fake.stop)
        self.document = self.fake.login()
        if path:
            self.file = Path(self.mktemp()).absolute()
            self.file.write_text(json.dumps({**self.document, "theirs": 1}), encoding="utf-8")
            settings["gemini_oauth_creds_file_path"] = self.file
        else:
            packed = base64.b64encode(json.dumps(self.document).encode()).decode()
            settings["gemini_oauth_creds_base64"] = packed
        self.book = TokenBook(
            clock=REACTOR,
            now=REACTOR.seconds,
            jitter=lambda: 0.5,
            in_thread=lambda function, *args: maybeDeferred(function, *args),
        )
        self.addCleanup(self.book.close)
        runtime = Runtime(clock=REACTOR, upstream=self.upstream(), tokens=self.book)
        self.provider = gemini_cli_oauth.provider(name="gemini-cli-oauth", runtime=runtime)
        self.account = one_account(
            "gemini-cli-oauth",
            gemini_cli_oauth.settings(
                gemini_base_url=self.fake.url,
                gemini_oauth_token_url=self.fake.token_url,
                gemini_oauth_client_id=self.fake.client_id,
                gemini_oauth_client_secret=self.fake.client_secret,
                **settings,
            ),
        )

    async def ask(
        self,
        body: Any,
        verb: str = "generateContent",
        *,
        model: str = "gemini-2.5-pro",
        query: tuple[tuple[str, str], ...] = (),
    ) -> MemoryReply:
        """Ask through an exchange, as a client of the Gemini API does."""
        endpoint = next(each for each in GEMINI.endpoints if each.action == "generate")
        route = GEMINI.route(endpoint=endpoint, rest=f"{model}:{verb}", query=query, headers={})
        request = GEMINI.parse(body=json.dumps(body).encode(), route=route)
        self.pool, reply = FixedPool([self.account]), MemoryReply()

        async def convert(way: Way) -> Converted:
            return relayed(request, source=GEMINI)

        exchange = Exchange(
            record=ExchangeRecord(
                id="x",
                caller="c",
                request=request,
                provider="gemini-cli-oauth",
                model=model,
                began=REACTOR.seconds(),
            ),
            ways=[Way(self.provider, self.pool, model, "default")],
            convert=convert,
            reply=reply,
            patience=Patience(wait=0.0, max_retries=0, total=15.0),
            clock=REACTOR,
            jitter=lambda: 0.0,
            observers=MemoryObserver(),
        )
        await exchange.run()
        return reply

    async def refused(self, body: Any = HI, **more: Any) -> UpstreamError:
        """Return the error that an exchange must end with."""
        try:
            await self.ask(body, **more)
        except UpstreamError as error:
            return error
        self.fail("It was answered.")

    def answers(self, reply: MemoryReply) -> list[Any]:
        """Return the records of a stream that a client got."""
        records = reply.body.split(b"\r\n\r\n")
        self.assertEqual(records.pop(), b"")
        return [json.loads(record.removeprefix(b"data: ")) for record in records]


class AskingTests(OAuthCase):
    """Answers of all kinds."""

    async def test_whole(self) -> None:
        """A whole answer is Gemini's own, with everything that Google says of it."""
        await self.start()
        answer = CodeAssistAnswer()
        self.fake.play(answer)
        reply = await self.ask(HI)
        self.assertEqual(json.loads(reply.body), answer.response(answer.parts, last=True))
        for name in ("modelVersion", "responseId", "createTime"):
            self.assertIn(name, json.loads(reply.body))
        self.assertEqual(self.pool.ends(), ["succeeded"])
        (sent,) = self.fake.calls("generateContent")
        self.assertEqual(
            sent.body,
            {
                "model": "gemini-2.5-pro",
                "project": "fake-managed-project",
                "request": {"contents": [{"parts": [{"text": "hi"}], "role": "user"}]},
            },
        )
        assert sent.received is not None
        self.assertTrue((sent.received.header(b"user-agent") or b"").startswith(b"aiclient2api/"))

    async def test_stream(self) -> None:
        """A stream is one of server-sent events, however its lines end."""
        await self.start()
        for line_end in (b"\r\n", b"\n"):
            for last_blank in (True, False):
                answer = CodeAssistAnswer(
                    ({"text": "a"}, {"text": "b"}), line_end=line_end, last_blank=last_blank
                )
                self.fake.play(answer)
                reply = await self.ask(HI, "streamGenerateContent", query=(("alt", "sse"),))
                self.assertEqual(self.answers(reply), answer.responses())
                self.assertEqual(reply.header(b"content-type"), b"text/event-stream; charset=utf-8")
        self.assertEqual(self.pool.ends(), ["succeeded"])

    async def test_array(self) -> None:
        """Who does not ask for events gets an array, as from the Gemini API."""
        await self.start()
        answer = CodeAssistAnswer(({"text": "a"}, {"text": "b"}))
        self.fake.play(answer)
        reply = await self.ask(HI, "streamGenerateContent")
        self.assertEqual(json.loads(reply.body), answer.responses())
        self.assertEqual(reply.header(b"content-type"), b"application/json; charset=utf-8")

    async def test_count(self) -> None:
        """Tokens are counted, thoughts and all."""
        await self.start()
        contents = [
            *HI["contents"],
            {"role": "model", "parts": [{"text": "hm", "thought": True}]},
        ]
        body = {"contents": contents, "safetySettings": [], "systemInstruction": {"parts": []}}
        reply = await self.ask(body, "countTokens")
        self.assertEqual(list(json.loads(reply.body)), ["totalTokens"])

    async def test_tools_and_thoughts(self) -> None:
        """Parallel calls with a signed thought go out and come back in a tool loop."""
        await self.start()
        thought = {"text": "Hm.", "thought": True}
        calls = [{"functionCall": {"name": "f", "args": {"n": n}}} for n in (1, 2)]
        calls[0]["thoughtSignature"] = SIGNATURE  # type: ignore[assignment]
        self.fake.play(CodeAssistAnswer((thought, *calls), model="gemini-3-pro-preview"))
        tools = [{"functionDeclarations": [{"name": "f", "parameters": {"type": "OBJECT"}}]}]
        body: dict[str, Any] = {**HI, "tools": tools}
        three = "gemini-3-pro-preview"
        reply = await self.ask(body, "streamGenerateContent", model=three, query=(("alt", "sse"),))
        told = [each["candidates"][0]["content"]["parts"][0] for each in self.answers(reply)]
        self.assertEqual(told, [thought, *calls])
        answer = {"functionResponse": {"name": "f", "response": {"result": 1}}}
        again = [
            *HI["contents"],
            {"role": "model", "parts": told[1:]},
            {"parts": [answer, answer]},
        ]
        reply = await self.ask({**body, "contents": again}, model=three)
        self.assertEqual(self.pool.ends(), ["succeeded"])
        unsigned = [{"functionCall": each["functionCall"]} for each in calls]
        again[1] = {"role": "model", "parts": unsigned}
        error = await self.refused({**body, "contents": again}, model=three)
        self.assertIs(error.fault, Fault.CALLER)
        self.assertIn("thought_signature", error.message)

    async def test_image(self) -> None:
        """An image goes out as it is, and one that comes is passed on."""
        await self.start()
        image = {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}
        self.fake.play(CodeAssistAnswer((image,)))
        reply = await self.ask({"contents": [{"parts": [image, {"text": "What?"}]}]})
        parts = json.loads(reply.body)["candidates"][0]["content"]["parts"]
        self.assertEqual(parts, [image])

    async def test_unknown_model(self) -> None:
        """A model that is not there is Google's 404, and no other answers in its place."""
        await self.start()
        error = await self.refused(model="gemini-9")
        self.assertEqual((error.fault, error.status), (Fault.NOT_FOUND, 404))

    async def test_faults(self) -> None:
        """Each error of the table reaches the client with its status and Google's words."""
        await self.start()
        for name, refusal in CODE_ASSIST_FAULTS.items():
            if name in ("unauthenticated", "html"):
                continue
            self.fake.play(refusal)
            error = await self.refused()
            self.assertEqual((name, error.status), (name, refusal.status))
            assert error.reply is not None
            told = json.loads(error.reply.body)
            self.assertEqual(told, [refusal.body] if refusal.in_array else refusal.body)
            self.assertEqual(self.pool.ends(), ["failed"])

    async def test_error_in_a_stream(self) -> None:
        """An error record after a part reaches the client as the dialect's error."""
        await self.start()
        error = {"error": {"code": 503, "message": "Overloaded.", "status": "UNAVAILABLE"}}
        self.fake.play(CodeAssistAnswer(({"text": "a"},), finish=None, error=error))
        reply = await self.ask(HI, "streamGenerateContent", query=(("alt", "sse"),))
        self.assertEqual(self.answers(reply)[-1], error)
        self.assertEqual(self.pool.ends(), ["failed"])

    async def test_stream_that_breaks_off(self) -> None:
        """A stream without its end is not passed off as whole, nor is an array closed."""
        await self.start()
        parts = ({"text": "a"}, {"text": "b"})
        self.fake.play(CodeAssistAnswer(parts, reset=1), CodeAssistAnswer(parts, finish=None))
        for framing in ((("alt", "sse"),), ()):
            reply = await self.ask(HI, "streamGenerateContent", query=framing)
            if framing:
                self.assertIn(b'{"error":', reply.body.split(b"data: ")[-1])
            else:
                self.assertEqual(reply.ended, "aborted")
                self.assertRaises(ValueError, json.loads, reply.body)


class CredentialTests(OAuthCase):
    """The account's token and project."""

    async def test_renewed_once(self) -> None:
        """A token that Google refuses is renewed, once, and the client never learns of it."""
        await self.start(path=True)
        self.fake.expire(self.document["access_token"])
        before = self.provider.version(account=self.account)  # type: ignore[attr-defined]
        reply = await self.ask(HI)
        self.assertEqual((reply.status, self.pool.ends()), (200, ["succeeded"]))
        self.assertEqual(len(self.fake.calls("token")), 1)
        written = json.loads(self.file.read_bytes())
        self.assertEqual(
            (written["theirs"], written["refresh_token"]), (1, self.document["refresh_token"])
        )
        self.assertNotEqual(written["access_token"], self.document["access_token"])
        self.assertNotIn("project_id", written)
        after = self.provider.version(account=self.account)  # type: ignore[attr-defined]
        self.assertNotEqual(before, after)

    async def test_refused_in_the_middle(self) -> None:
        """With the project known, a 401 of the request itself is renewed as well."""
        await self.start()
        await self.ask(HI)
        self.fake.expire(self.document["access_token"])
        await self.ask(HI)
        self.assertEqual(
            [each.status for each in self.fake.calls("generateContent")], [200, 401, 200]
        )
        self.assertEqual(len(self.fake.calls("loadCodeAssist")), 1)

    async def test_logged_out(self) -> None:
        """A refresh token that is dead is told with what to do, and nothing is sent."""
        await self.start()
        self.fake.expire(self.document["access_token"])
        self.fake.revoke()
        error = await self.refused()
        self.assertIs(error.fault, Fault.CREDENTIAL)
        self.assertIn("aiclient2api login gemini-cli-oauth", error.message)
        self.assertEqual(self.fake.calls("generateContent"), [])

    async def test_project_is_found_once(self) -> None:
        """Requests that come together ask for the project once."""
        await self.start()
        await gatherResults([Deferred.fromCoroutine(self.ask(HI)) for _ in range(5)])
        await self.ask(HI)
        self.assertEqual(len(self.fake.calls("loadCodeAssist")), 1)
        self.assertEqual(len(self.fake.calls("generateContent")), 6)

    async def test_onboarding(self) -> None:
        """A new account is taken in by its first request."""
        await self.start(tier=None)
        await self.ask(HI)
        self.assertEqual(
            [each.what for each in self.fake.asked],
            ["loadCodeAssist", "onboardUser", "generateContent"],
        )

    async def test_project_as_written(self) -> None:
        """A project that is written down is used, and nobody is asked."""
        await self.start(project_id="mine", projects={"mine"})
        await self.ask(HI)
        (sent,) = self.fake.asked
        self.assertEqual(sent.body["project"], "mine")

    async def test_project_number(self) -> None:
        """A number is none."""
        await self.start(project_id="1234567")
        error = await self.refused()
        self.assertEqual(error.code, "project_number")
        self.assertEqual(self.fake.asked, [])

    async def test_verification(self) -> None:
        """An account that Google wants verified says where to do that."""
        tier = {"reasonCode": "VALIDATION_REQUIRED", "validationUrl": "https://a.test/v"}
        await self.start(tier=None, ineligible=[tier])
        error = await self.refused()
        self.assertEqual((error.fault, error.status), (Fault.PERMISSION, 403))
        self.assertIn("https://a.test/v", error.message)

    async def test_service_controls(self) -> None:
        """Behind VPC service controls a project has to be written down."""
        await self.start(locked=True)
        self.assertEqual((await self.refused()).code, "project_needed")

    async def test_usage(self) -> None:
        """What is left of the allowances can be asked."""
        await self.start()
        provider: Any = self.provider
        (bucket,) = await provider.usage(account=self.account)
        self.assertEqual((bucket.model, bucket.fraction), ("gemini-2.5-pro", 0.998))

    async def test_early(self) -> None:
        """A token that expires soon is renewed by the timer; one that does not is left alone."""
        await self.start()
        provider: Any = self.provider
        self.assertIsNone(await provider.renew_early(account=self.account, seconds=60.0))
        self.assertEqual(self.fake.calls("token"), [])
        self.assertIsNone(await provider.renew_early(account=self.account, seconds=7200.0))
        self.assertEqual(len(self.fake.calls("token")), 1)

    async def test_nothing_is_shown(self) -> None:
        """Neither a token nor a secret stands in what is printed or told."""
        await self.start()
        self.fake.fail("loadCodeAssist", CODE_ASSIST_FAULTS["banned"])
        error = await self.refused()
        credential = await self.provider.credential(account=self.account)  # type: ignore[attr-defined]
        shown = error.message + repr((self.account, self.provider, credential))
        for secret in (
            self.document["access_token"],
            self.document["refresh_token"],
            self.fake.client_secret,
        ):
            self.assertNotIn(secret, shown)
            self.assertIn(secret, credential.secrets)
