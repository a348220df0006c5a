"""
What every built-in provider promises, whichever vendor it speaks to.

A third-party provider can run the same suite: inherit from `ProviderContract` and a
trial test case, and set `factory`, `settings` and the other attributes it names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import attrs
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.plugin import IPlugin, getPlugins
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

import aiclient2api.providers
from aiclient2api.errors import Fault, InvalidRequest, UpstreamError
from aiclient2api.interfaces import IDialect, IProvider, IProviderFactory, IUpstream, IWireRequest
from aiclient2api.providers.claude_custom import claude_custom
from aiclient2api.providers.gemini_custom import gemini_custom
from aiclient2api.providers.openai_custom import openai_custom
from aiclient2api.providers.openai_responses_custom import openai_responses_custom
from aiclient2api.providers.sandbox import sandbox
from aiclient2api.testing import MemoryResponse, MemoryUpstream, one_account
from aiclient2api.values import (
    Account,
    Affinity,
    Headers,
    Runtime,
    Sampling,
    SystemEdit,
    UpstreamRequest,
)

BODY = b'{"model" : "m-1",\t"x":1e400,"x":"\\ud83d"}'
KEY = "sk-test"
KINDS = {"secret", "url", "path", "text", "choice"}


@implementer(IWireRequest)
@attrs.frozen
class AskedRequest:
    """A wire request in no dialect: exactly what a test says it is."""

    action: str = "generate"
    model: str = "m-1"
    streaming: bool = False
    framing: str = "whole"
    raw: bytes = BODY
    headers: Headers = ()
    query: tuple[tuple[str, str], ...] = ()
    losses: tuple[str, ...] = ()
    dialect: str = "none"

    def without_foreign_seals(self) -> IWireRequest:
        """Return itself."""
        return self

    def amended(
        self,
        *,
        model: str | None = None,
        system: SystemEdit | None = None,
        streaming: bool | None = None,
        sampling: Sampling | None = None,
    ) -> IWireRequest:
        """Return itself."""
        return self

    def affinity(self) -> Affinity:
        """Return no conversation."""
        return Affinity()

    def to_bytes(self) -> bytes:
        """Return the bytes given."""
        return self.raw

    def system_text(self) -> str:
        """Return nothing."""
        return ""

    def prompt_text(self) -> str:
        """Return nothing."""
        return ""


STREAMED = AskedRequest(streaming=True, framing="sse")


def provider_of(
    factory: Any, *answers: MemoryResponse | Exception | None, name: str | None = None
) -> tuple[IProvider, MemoryUpstream]:
    """Return a provider whose way out gives *answers*, and that way out."""
    upstream = MemoryUpstream(answers)
    runtime = Runtime(clock=Clock(), upstream=upstream)
    return factory.provider(name=name or factory.name, runtime=runtime), upstream


def prepared(
    factory: Any, request: AskedRequest = AskedRequest(), **settings: str
) -> UpstreamRequest:
    """Return *request* as the provider would send it with these settings."""
    provider, _ = provider_of(factory)
    account = one_account(factory.name, factory.settings(**settings))
    return provider.prepare(request=cast(IWireRequest, request), account=account)


def listed(
    case: SynchronousTestCase, factory: Any, *bodies: bytes, **settings: str
) -> tuple[list[str], list[UpstreamRequest]]:
    """Return the ids of the models listed, and the requests that asked for them."""
    answers = (MemoryResponse(200, (), [body]) for body in bodies)
    provider, upstream = provider_of(factory, *answers)
    account = one_account(factory.name, factory.settings(**settings))
    found = case.successResultOf(provider.models(account=account))
    return [model.id for model in found], [sent.request for sent in upstream.sent]


class PluginTests(SynchronousTestCase):
    """Finding the providers."""

    def test_built_ins(self) -> None:
        """
        Exactly these providers come with the package.

        ``getPlugins`` drops a module that fails to import without a word, so that only
        the exact set shows that all are there.
        """
        found: Iterable[IProviderFactory] = getPlugins(IProviderFactory, aiclient2api.providers)
        self.assertEqual(
            sorted(factory.name for factory in found),
            [
                "claude-custom",
                "claude-kiro-oauth",
                "gemini-cli-oauth",
                "gemini-custom",
                "openai-custom",
                "openai-qwen-oauth",
                "openaiResponses-custom",
                "sandbox",
            ],
        )


class ProviderContract:
    """
    The promises; mixed into a test case for each provider.

    :ivar factory: The provider factory.
    :ivar settings: Keyword arguments of its settings class, with `KEY` as the secret.
    :ivar base_key: The configuration key of its base URL, None if it has none.
    """

    factory: Any
    settings: Mapping[str, str] = {}
    base_key: str | None = None

    def _provider(self, *answers: MemoryResponse | None) -> tuple[IProvider, MemoryUpstream]:
        return provider_of(self.factory, *answers, name=f"{self.factory.name}-x")

    def _account(self, **fields: Any) -> Account:
        settings = self.factory.settings(**self.settings)
        return one_account(self.factory.name, settings, **fields)

    def _prepared(self, request: AskedRequest, **fields: Any) -> UpstreamRequest:
        provider, _ = self._provider()
        return provider.prepare(
            request=cast(IWireRequest, request), account=self._account(**fields)
        )

    def test_interfaces(self: Any) -> None:
        """Factory, provider, dialect and way out have all the methods they promise."""
        provider, _ = self._provider()
        verifyObject(IPlugin, self.factory)
        verifyObject(IProviderFactory, self.factory)
        verifyObject(IProvider, provider)
        verifyObject(IDialect, provider.dialect)
        verifyObject(IUpstream, provider.upstream)
        self.assertEqual(provider.name, f"{self.factory.name}-x")
        for text in (self.factory.title, self.factory.terms):
            self.assertTrue(text)

    def test_it_is_a_key(self: Any) -> None:
        """Exchanges keep what they know of it in mappings, so it can be a key of one."""
        provider, _ = self._provider()
        self.assertEqual({provider: 1}[provider], 1)

    def test_settings(self: Any) -> None:
        """Every setting can be left out, has a kind that config reads, and a line of help."""
        self.factory.settings()
        for field in attrs.fields(self.factory.settings):
            self.assertIn(field.metadata["kind"], KINDS)
            self.assertTrue(field.metadata["help"])
            if field.metadata["kind"] == "choice":
                self.assertIn(field.default, field.metadata["choices"])

    def test_no_key_is_printed(self: Any) -> None:
        """Neither the settings nor a prepared request show the key when printed."""
        account = self._account()
        sent = self._prepared(AskedRequest())
        self.assertNotIn(KEY, repr(account) + repr(account.settings) + repr(sent))

    def test_body_is_untouched(self: Any) -> None:
        """The bytes that go out are the bytes of the request."""
        for request in (AskedRequest(), STREAMED):
            sent = self._prepared(request)
            self.assertEqual((sent.method, sent.body), ("POST", BODY))

    def test_accept(self: Any) -> None:
        """A stream is asked for as one, a whole answer as JSON; both send JSON."""
        for request, accept in (
            (AskedRequest(), b"application/json"),
            (STREAMED, b"text/event-stream"),
        ):
            headers = dict(self._prepared(request).headers)
            self.assertEqual(headers[b"accept"], accept)
            self.assertEqual(headers[b"content-type"], b"application/json")

    def test_account(self: Any) -> None:
        """The request names its account, so that no cookie is ever shared."""
        self.assertEqual(self._prepared(AskedRequest(), id="a7").account, "a7")

    def test_no_disguise(self: Any) -> None:
        """Nothing is sent that poses as another client, and nothing the wire adds itself."""
        names = {name for name, _ in self._prepared(STREAMED).headers}
        self.assertEqual({name.lower() for name in names}, names)
        known = {b"content-type", b"accept", b"authorization", b"x-api-key", b"x-goog-api-key"}
        self.assertEqual(names - known - {b"anthropic-version"}, set())

    def test_client_headers(self: Any) -> None:
        """What the dialect passes on goes out, but never over a header of ours."""
        passed = ((b"x-passed", b"1"), (b"content-type", b"text/plain"), (b"accept", b"*/*"))
        headers = self._prepared(AskedRequest(headers=passed)).headers
        self.assertIn((b"x-passed", b"1"), headers)
        names = [name for name, _ in headers]
        self.assertEqual(len(names), len(set(names)))
        self.assertEqual(dict(headers)[b"content-type"], b"application/json")

    def test_client_credentials(self: Any) -> None:
        """A client's own key or cookie never reaches upstream."""
        names = (b"authorization", b"x-api-key", b"x-goog-api-key", b"cookie")
        passed = tuple((name, b"client-secret") for name in names)
        headers = self._prepared(AskedRequest(headers=passed)).headers
        self.assertNotIn(b"client-secret", [value for _, value in headers])

    def test_key_stays_out_of_the_url(self: Any) -> None:
        """A key goes in a header, where no log prints it."""
        sent = self._prepared(STREAMED)
        self.assertNotIn(KEY, sent.url)
        self.assertTrue(sent.url.isascii())
        if self.settings:
            self.assertIn(KEY.encode(), b" ".join(value for _, value in sent.headers))

    def test_unknown_action(self: Any) -> None:
        """An action the upstream has no call for is refused as the caller's mistake."""
        with self.assertRaises(InvalidRequest) as caught:
            self._prepared(AskedRequest(action="dance"))
        self.assertIn("dance", caught.exception.message)

    def test_real_request(self: Any) -> None:
        """A body parsed by the provider's own dialect goes out as it came in."""
        provider, _ = self._provider()
        body, endpoint_rest = self.sample
        dialect = provider.dialect
        endpoint = next(each for each in dialect.endpoints if each.action == "generate")
        route = dialect.route(endpoint=endpoint, rest=endpoint_rest, query=(), headers={})
        request = dialect.parse(body=body, route=route)
        sent = provider.prepare(request=request, account=self._account())
        self.assertEqual(sent.body, body)

    def test_classify_status(self: Any) -> None:
        """Each status has its fault, and the caller gets it with the upstream's answer."""
        provider, _ = self._provider()
        body = b'{"error":{"message":"because"}}'
        for status, fault in (
            (400, Fault.CALLER),
            (401, Fault.CREDENTIAL),
            (402, Fault.QUOTA),
            (403, Fault.PERMISSION),
            (404, Fault.NOT_FOUND),
            (413, Fault.CALLER),
            (429, Fault.RATE_LIMIT),
            (500, Fault.SERVER),
            (503, Fault.CAPACITY),
            (529, Fault.CAPACITY),
        ):
            error = provider.classify(status=status, headers=(), body=body)
            self.assertEqual((error.fault, error.status), (fault, status))
            self.assertIn("because", error.message)
            self.assertTrue(error.message.startswith(provider.name))
            self.assertEqual((error.reply.status, error.reply.body), (status, body))

    def test_classify_redirect(self: Any) -> None:
        """A redirect shows where it leads, without its credentials."""
        provider, _ = self._provider()
        place = b"https://me:%s@b.test/v2?key=%s#%s" % ((KEY.encode(),) * 3)
        error = provider.classify(status=302, headers=((b"location", place),), body=KEY.encode())
        self.assertIn("https://b.test/v2,", error.message)
        self.assertNotIn(KEY, error.message)
        self.assertIsNone(error.reply)

    def test_classify_names_the_base_url(self: Any) -> None:
        """A page of HTML points to the setting that is likely to be wrong."""
        provider, _ = self._provider()
        error = provider.classify(status=404, headers=(), body=b"<html>nginx</html>")
        self.assertIsNone(error.reply)
        if self.base_key is not None:
            self.assertIn(self.base_key, error.message)
            names = [field.name for field in attrs.fields(self.factory.settings)]
            self.assertIn(self.base_key, names)

    def test_models_as_configured(self: Any) -> None:
        """An account with a list of supported models is not asked for its models."""
        provider, upstream = self._provider()
        account = self._account(supported=("b", "a"))
        found = self.successResultOf(provider.models(account=account))
        self.assertEqual([model.id for model in found], ["b", "a"])
        self.assertEqual(upstream.sent, [])

    def test_defaults_fit_the_settings(self: Any) -> None:
        """What a grouped name implies are settings that exist."""
        names = {field.name for field in attrs.fields(self.factory.settings)}
        for suffix in ("", "-b", "-kimi", "-glm-coding-cn"):
            defaults = self.factory.defaults(name=self.factory.name + suffix)
            self.assertLessEqual(set(defaults), names)


class KeyedContract(ProviderContract):
    """
    Further promises of the providers that go over the network with a key.

    :ivar models_url: Where they ask for models, by default.
    :ivar models_body: A model list of one model, ``m-1``.
    """

    models_url: str
    models_body: bytes

    def test_proxy(self: Any) -> None:
        """An account's proxy is used for requests and for the model list."""
        proxy = "http://127.0.0.1:9"
        self.assertEqual(self._prepared(AskedRequest(), proxy=proxy).proxy, proxy)
        provider, upstream = self._provider(None)
        provider.models(account=self._account(proxy=proxy)).addErrback(lambda _: None)
        self.assertEqual(upstream.sent[0].request.proxy, proxy)

    def test_needs_credential(self: Any) -> None:
        """It counts as configured only once there is a key."""
        self.assertTrue(self.factory.needs_credential)
        kinds = [field.metadata["kind"] for field in attrs.fields(self.factory.settings)]
        self.assertEqual(kinds.count("secret"), 1)

    def test_models(self: Any) -> None:
        """The upstream is asked for its models, with the account's key."""
        provider, upstream = self._provider(MemoryResponse(200, (), [self.models_body]))
        found = self.successResultOf(provider.models(account=self._account(id="a7")))
        self.assertEqual([model.id for model in found], ["m-1"])
        asked = upstream.sent[0].request
        self.assertEqual((asked.method, asked.url), ("GET", self.models_url))
        self.assertEqual((asked.body, asked.account), (None, "a7"))
        self.assertIn(KEY.encode(), b" ".join(value for _, value in asked.headers))

    def test_models_refused(self: Any) -> None:
        """A refusal is classified like any other."""
        body = b'{"error":{"message":"no such key"}}'
        provider, _ = self._provider(MemoryResponse(401, (), [body]))
        failure = self.failureResultOf(provider.models(account=self._account()), UpstreamError)
        self.assertIs(failure.value.fault, Fault.CREDENTIAL)

    def test_models_stalled(self: Any) -> None:
        """A refusal that stalls in its body is classified by what came, and bares no key."""
        body = b'{"error":{"message":"no such key: ' + KEY.encode() + b'"}}'
        stalled = MemoryResponse(401, (), [body], end=None)
        clock = Clock()
        provider = self.factory.provider(
            name="x", runtime=Runtime(clock=clock, upstream=MemoryUpstream([stalled]))
        )
        asking = provider.models(account=self._account())
        self.assertNoResult(asking)
        clock.advance(10)
        error = self.failureResultOf(asking, UpstreamError).value
        self.assertIs(error.fault, Fault.CREDENTIAL)
        self.assertNotIn(KEY, error.message)
        self.assertNotIn(KEY.encode(), error.reply.body)
        self.assertTrue(stalled.aborted)
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_models_nonsense(self: Any) -> None:
        """An answer that is no model list names the base URL to look at."""
        for body in (b"<html></html>", b"3", b'{"data":3,"models":3}', b""):
            provider, _ = self._provider(MemoryResponse(200, (), [body]))
            failure = self.failureResultOf(provider.models(account=self._account()), UpstreamError)
            self.assertIs(failure.value.fault, Fault.SERVER)
            self.assertIn(self.base_key, failure.value.message)

    def test_models_cancelled(self: Any) -> None:
        """Giving up on the model list closes the connection, before the head and after."""
        provider, upstream = self._provider(None)
        asking = provider.models(account=self._account())
        asking.cancel()
        self.failureResultOf(asking, CancelledError)
        self.assertTrue(upstream.sent[0].cancelled)
        response = MemoryResponse(200, (), [b"{"], end=None)
        provider, _ = self._provider(response)
        asking = provider.models(account=self._account())
        asking.cancel()
        self.failureResultOf(asking, CancelledError)
        self.assertTrue(response.aborted)


_OPENAI_LIST = b'{"object":"list","data":[{"id":"m-1","object":"model","created":1}]}'


class OpenAICustomContractTests(KeyedContract, SynchronousTestCase):
    """The contract for ``openai-custom``."""

    factory = openai_custom
    settings = {"openai_api_key": KEY}
    base_key = "openai_base_url"
    sample = (b'{"messages":[{"role":"user","content":"hi"}], "model":"m-1"}', "")
    models_url = "https://api.openai.com/v1/models"
    models_body = _OPENAI_LIST


class ResponsesCustomContractTests(KeyedContract, SynchronousTestCase):
    """The contract for ``openaiResponses-custom``."""

    factory = openai_responses_custom
    settings = {"openai_api_key": KEY}
    base_key = "openai_base_url"
    sample = (b'{"input":"hi", "model":"m-1"}', "")
    models_url = "https://api.openai.com/v1/models"
    models_body = _OPENAI_LIST


class ClaudeCustomContractTests(KeyedContract, SynchronousTestCase):
    """The contract for ``claude-custom``."""

    factory = claude_custom
    settings = {"claude_api_key": KEY}
    base_key = "claude_base_url"
    sample = (b'{"max_tokens":1,"messages":[{"role":"user","content":"hi"}], "model":"m-1"}', "")
    models_url = "https://api.anthropic.com/v1/models?limit=1000"
    models_body = b'{"data":[{"type":"model","id":"m-1","display_name":"M"}],"has_more":false}'


class GeminiCustomContractTests(KeyedContract, SynchronousTestCase):
    """The contract for ``gemini-custom``."""

    factory = gemini_custom
    settings = {"gemini_api_key": KEY}
    base_key = "gemini_api_base_url"
    sample = (b'{"contents":[{"parts":[{"text":"hi"}]}]}', "m-1:generateContent")
    models_url = "https://generativelanguage.googleapis.com/v1beta/models?pageSize=1000"
    models_body = b'{"models":[{"name":"models/m-1"}]}'


class SandboxContractTests(ProviderContract, SynchronousTestCase):
    """The contract for ``sandbox``."""

    factory = sandbox
    sample = (b'{"messages":[{"role":"user","content":"hi"}], "model":"sandbox"}', "")

    def test_needs_no_credential(self) -> None:
        """It is there without any configuration."""
        self.assertFalse(sandbox.needs_credential)


class AskedRequestTests(SynchronousTestCase):
    """The double of this suite."""

    def test_interface(self) -> None:
        """It is a wire request."""
        verifyObject(IWireRequest, AskedRequest())
        requests: Sequence[AskedRequest] = (AskedRequest(), STREAMED)
        self.assertEqual([request.to_bytes() for request in requests], [BODY, BODY])
