"""
No ``repr`` shows a secret: of every class that may hold one, and of everything made of one.

A new field whose name tells that it may hold a secret is hidden with ``repr=False``, or stands
in `SHOWN` with the reason why it may be seen.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import re
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import msgspec
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

import aiclient2api
from aiclient2api.config import Settings, load
from aiclient2api.interfaces import IProvider
from aiclient2api.options import provider_factories
from aiclient2api.scrubbing import secrets_of
from aiclient2api.testing import MemoryUpstream
from aiclient2api.values import Account, Credential, Runtime, UpstreamRequest

TELLING = re.compile(
    r"key|token|secret|passw|cred|proxy|environ|flags|bod(y|ies)\b|headers|url|config_text|inline"
    r"|document|settings|(?<!en)(?<!de)code|verifier|query$|auth",
    re.IGNORECASE,
)

NUMBER = re.compile(r"(int|float|bool)( \| (int|float|None))*")

SHOWN = {
    "accounts.lines.Member.credential": "a digest",
    "accounts.records._Record.credential": "a digest",
    "banner.Door.url": "where the gateway listens",
    "config.accounts.Field.key": "the name of a key of the configuration",
    "config.files.Reading.documents": "each hides its values",
    "config.flags.Flag.key": "the name of a key of the configuration",
    "conversation.events.Cited.url": "an address that a model named",
    "conversation.request.Conversation.cache_key": "a name that a client chose",
    "conversation.request.Remote.url": "an address that a client named",
    "dialects.gemini.chunks.Part.inlineData": "an image",
    "dialects.openai_chat.read_reply._Chunk.code": "the code of an error",
    "dialects.openai_chat.watch._Chunk.code": "the code of an error",
    "dialects.openai_responses.read_reply.Told.code": "the code of an error",
    "dialects.openai_responses.watch._Event.code": "the code of an error",
    "framing.aws_event_stream.Message.headers": "the names of events",
    "framing.json_text.Member.key": "the name of a member",
    "login_cli.Session.settings": "hides its own",
    "oauth.google_login.Google.authorize": "an address of Google's",
    "oauth.google_login.Google.token": "an address of Google's",
    "oauth.google_login.GoogleLogins.authorize": "an address of Google's",
    "oauth.google_login.GoogleLogins.file_key": "the name of a key of the configuration",
    "oauth.google_login.GoogleLogins.token": "an address of Google's",
    "oauth.kiro_login.KiroLogins.file_key": "the name of a key of the configuration",
    "oauth.qwen_login.QwenLogins.file_key": "the name of a key of the configuration",
    "observe.traces.TraceError.code": "the code of an error, without secrets",
    "observe.usage.Row.tokens": "numbers",
    "probes._Wanted.key": "a provider and an account's id",
    "providers._google_token.GoogleRenewal.url": "an address of Google's",
    "providers._kiro_faults._Judged.code": "the code of an error",
    "providers._kiro_token.KiroRenewal.oidc_url": "an address of Amazon's",
    "providers._kiro_token.KiroRenewal.social_url": "an address of Amazon's",
    "providers._qwen_token.QwenRenewal.url": "an address of Qwen's",
    "providers._sandbox_answer.Refusal.code": "the code of an error",
    "providers._sandbox_answer.Refusal.headers": "made up by the sandbox",
    "providers._sandbox_script.Script.headers": "made up by the sandbox",
    "providers.claude_custom.ClaudeSettings.claude_auth_header": "the name of a header",
    "state.shelf.Name.key": "the name of an entry",
    "upstream.faults._Told.code": "the code of an error",
    "values.Account.settings": "each kind hides its own",
    "values.Runtime.tokens": "a book that shows nothing",
    "values.UpstreamRequest.url": "shown as its origin only",
    "web.told_lists.Told.settings": "each kind hides its own",
}


def modules() -> Iterator[Any]:
    """Yield every module of the package but the doubles for tests."""
    for found in pkgutil.walk_packages(aiclient2api.__path__, "aiclient2api."):
        if not found.name.startswith(("aiclient2api.testing", "aiclient2api.__main__")):
            yield importlib.import_module(found.name)


def shown_fields() -> Iterator[str]:
    """Yield every field of a class of values that its ``repr`` shows."""
    for module in modules():
        for name, kind in vars(module).items():
            if not inspect.isclass(kind) or kind.__module__ != module.__name__:
                continue
            fields: tuple[str, ...] = ()
            if attrs.has(kind):
                fields = tuple(field.name for field in attrs.fields(kind) if field.repr)
            elif issubclass(kind, msgspec.Struct):
                fields = kind.__struct_fields__
            elif issubclass(kind, tuple) and hasattr(kind, "_fields"):
                fields = kind._fields
            types = inspect.get_annotations(kind)
            for field in fields:
                counts = re.search(r"(?i)\wtokens$|tokencount$", field) is not None
                if counts or field.endswith("_path") or NUMBER.fullmatch(str(types.get(field))):
                    continue
                yield f"{module.__name__}.{name}.{field}".removeprefix("aiclient2api.")


class FieldsTests(SynchronousTestCase):
    """The fields of all classes."""

    def test_what_may_hold_a_secret_is_hidden(self) -> None:
        """A field with a telling name is not shown, but for those that were looked at."""
        telling = {each for each in shown_fields() if TELLING.search(each.rpartition(".")[2])}
        self.assertEqual("", "\n".join(sorted(telling - SHOWN.keys())))
        self.assertEqual(sorted(SHOWN.keys() - telling), [], "these are not there any more")

    def test_nobody_asks_for_local_variables(self) -> None:
        """Neither a traceback with variables, nor a debugging aid that keeps them, is ever used."""
        forbidden = re.compile(
            r"captureVars|getDetailedTraceback|printDetailedTraceback|setDebugging"
            r"|capture_locals|cgitb|faulthandler|elideFrameworkCode"
        )
        for path in Path(aiclient2api.__file__).parent.rglob("*.py"):
            self.assertNotRegex(path.read_text(), forbidden, path.name)


class ValuesTests(SynchronousTestCase):
    """What is made of a configuration full of canaries."""

    def setUp(self) -> None:
        """Configure every kind of provider with canaries, in every place for a secret."""
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.count = 0
        self.canaries: list[str] = []
        self.secret: list[str] = []
        pools = {}
        for factory in provider_factories():
            entry: dict[str, object] = {"proxy_url": f"http://me:{self.canary()}@127.0.0.1:9"}
            self.secret.append(self.canaries[-1])
            for field in attrs.fields(factory.settings):
                kind = field.metadata.get("kind")
                if kind in ("secret", "text") and "interval" not in field.name:
                    entry[field.name] = self.canary()
                    if kind == "secret" or field.name.endswith("secret"):
                        self.secret.append(self.canaries[-1])
                elif kind == "url":
                    entry[field.name] = f"http://127.0.0.1:9/{self.canary()}"
            pools[factory.name] = [entry]
        (self.folder / "pools.json").write_text(json.dumps(pools))
        self.settings = self.load(
            required_api_key=[self.canary(), self.canary()],
            provider_pools_file_path="pools.json",
            proxy_url=f"socks5://me:{self.canary()}@127.0.0.1:9",
            health_alert_webhook_url=f"http://127.0.0.1/{self.canary()}",
            system_prompt=self.canary(),
        )

    def load(self, **config: object) -> Settings:
        """Read a configuration."""
        (self.folder / "config.json").write_text(json.dumps(config))
        return load(
            flags={"config": str(self.folder / "config.json")},
            environ={"HOME": str(self.folder)},
            cwd=self.folder,
            factories=provider_factories(),
        )

    def canary(self) -> str:
        """Return a new one."""
        self.count += 1
        self.canaries.append(f"canary-{self.count:03}-of-reprs")
        return self.canaries[-1]

    def check(self, thing: object) -> None:
        """See that *thing* shows none of them in any way there is to show it."""
        for way in (repr(thing), str(thing), f"{thing}", f"{thing!a}", json.dumps(str(thing))):
            for canary in self.canaries:
                self.assertNotIn(canary, way, type(thing).__name__)

    def accounts(self) -> Iterator[tuple[str, Account]]:
        """Yield all accounts with their provider's kind."""
        for provider in self.settings.providers.values():
            for account in provider.accounts:
                yield provider.base, account

    def test_settings_and_everything_in_them(self) -> None:
        """Settings, providers, accounts and what each kind of account is configured with."""
        self.check(self.settings)
        for provider in self.settings.providers.values():
            self.check(provider)
        found = 0
        for _, account in self.accounts():
            found += 1
            self.check(account)
            self.check(account.settings)
            self.check([account, {"of": account}])
        self.assertGreater(found, 6)

    def test_all_of_them_are_cut_out_of_what_is_told(self) -> None:
        """The scrubber knows every secret of a configuration, whatever it is of."""
        known = set(secrets_of(self.settings))
        self.assertGreater(len(self.secret), 10)
        self.assertEqual([], sorted({*self.secret, *self.canaries[-5:-1]} - known))

    def test_requests_as_they_are_sent(self) -> None:
        """What every provider makes of a request for an account shows no key."""
        upstream = MemoryUpstream([None] * 9)
        runtime = Runtime(clock=Clock(), upstream=upstream)
        asked = 0
        for base, account in self.accounts():
            factory = next(each for each in provider_factories() if each.name == base)
            provider: IProvider = factory.provider(name=base, runtime=runtime)
            self.check(provider)
            if "custom" not in base:
                continue
            provider.models(account=account)
            request = upstream.sent[-1].request
            sent = repr((request.url, request.headers, request.proxy))
            self.assertTrue(any(canary in sent for canary in self.canaries))
            self.check(request)
            asked += 1
        self.assertGreater(asked, 3)

    def test_a_credential_and_a_request_of_ones_own(self) -> None:
        """Tokens, and URLs with a name, a password, a secret path or a key in the query."""
        canary = self.canary()
        self.check(Credential(canary, details={"x": canary}, secrets=(canary,)))
        for url in (
            f"https://me:{canary}@host/x",
            f"https://host/services/{canary}",
            f"https://host?key={canary}",
            f"https://host#{canary}",
            f"{canary}",
        ):
            request = UpstreamRequest("GET", url, ((b"a", canary.encode()),), canary.encode())
            self.check(request)
        self.assertIn("https://host", repr(UpstreamRequest("GET", "https://me@host/x", ())))

    def test_local_variables_are_in_no_traceback(self) -> None:
        """An error in the middle of work with a key shows where it was, and not the key."""

        def work(settings: Settings, key: str, details: Mapping[str, str]) -> None:
            token = key + details["more"]
            raise ValueError(len(token))

        canary = self.canary()
        try:
            work(self.settings, canary, {"more": canary})
        except ValueError as error:
            self.check("".join(traceback.format_exception(error)))
            failure = Failure()
            self.check(failure)
            self.check(failure.getTraceback())
            self.check(failure.getTraceback(detail="verbose"))
            self.check(failure.getBriefTraceback())
            self.check(error.args)
