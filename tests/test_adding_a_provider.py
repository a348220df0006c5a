"""
docs/adding-a-provider.md: the file that it shows is a provider, and works.

It is taken from the page as it stands there, put on a path, found, and asked.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.dialects.convert import Converted, relayed
from aiclient2api.dialects.openai_chat import OPENAI_CHAT
from aiclient2api.exchange import Exchange, Patience, Way
from aiclient2api.testing import (
    FixedPool,
    MemoryObserver,
    MemoryReply,
    MemoryResponse,
    MemoryUpstream,
    chat_chunks,
    one_account,
)
from aiclient2api.values import ExchangeRecord, Route, Runtime
from tests.test_docs import ROOT, blocks
from tests.test_providers_contract import KEY, KeyedContract

PAGE = ROOT / "docs/adding-a-provider.md"
BODY = b'{"model":"m-1","stream":true,"messages":[{"role":"user","content":"hi"}]}'


def on_the_page() -> str:
    """Return the provider's file, which is the first Python block."""
    return blocks(PAGE, language="python")[0].text


def loaded() -> ModuleType:
    """Return the file as a module."""
    module = ModuleType("acme_custom")
    # attrs looks into the module of a class it makes.
    sys.modules.setdefault(module.__name__, module)
    exec(compile(on_the_page(), str(PAGE), "exec"), vars(module))
    return module


acme: Any = loaded()


class AcmeContractTests(KeyedContract, SynchronousTestCase):
    """The contract for the page's provider; on the page it says the same."""

    factory = acme.acme_custom
    settings = {"acme_api_key": KEY}
    base_key = "acme_base_url"
    sample = (b'{"messages":[{"role":"user","content":"hi"}], "model":"m-1"}', "")
    models_url = "https://llm.acme.example/v1/models"
    models_body = b'{"object":"list","data":[{"id":"m-1","object":"model","created":1}]}'

    def test_the_page_shows_this_very_suite(self) -> None:
        """What it says of the contract is what is done here."""
        shown = next(
            each.text for each in blocks(PAGE, language="python") if "Contract" in each.text
        )
        scope: dict[str, Any] = {
            "KeyedContract": object,
            "SynchronousTestCase": type("Case", (), {}),
            "acme_custom": self.factory,
            "KEY": KEY,
        }
        shown = shown.replace("(KeyedContract, SynchronousTestCase)", "(SynchronousTestCase)")
        exec(shown, scope)
        mine = vars(scope["AcmeContractTests"])
        for name in ("factory", "settings", "base_key", "sample", "models_url", "models_body"):
            self.assertEqual(mine[name], getattr(self, name))


class AnsweringTests(SynchronousTestCase):
    """The provider in an exchange."""

    def test_a_stream(self) -> None:
        """A request goes out with the key, and the answer comes back as it was."""
        stream = b"".join(chat_chunks(["Hel", "lo"]))
        clock = Clock()
        head = ((b"content-type", b"text/event-stream"),)
        upstream = MemoryUpstream([MemoryResponse(200, head, [stream])], clock=clock)
        provider = acme.acme_custom.provider(
            name="acme-custom-b", runtime=Runtime(clock=clock, upstream=upstream)
        )
        account = one_account("acme-custom-b", acme.AcmeSettings(acme_api_key=KEY))
        pool, reply = FixedPool([account]), MemoryReply()
        request = OPENAI_CHAT.parse(body=BODY, route=Route(action="generate"))

        async def convert(way: Way) -> Converted:
            return relayed(request, source=OPENAI_CHAT)

        exchange = Exchange(
            record=ExchangeRecord(
                id="x1", caller="c", request=request, provider=provider.name, model="m-1", began=0.0
            ),
            ways=[Way(provider, pool, "m-1", "default")],
            convert=convert,
            reply=reply,
            patience=Patience(wait=0.0, total=30.0),
            clock=clock,
            jitter=lambda: 0.0,
            observers=MemoryObserver(),
        )
        self.successResultOf(Deferred.fromCoroutine(exchange.run()))
        (sent,) = upstream.sent
        self.assertEqual(sent.request.url, "https://llm.acme.example/v1/chat/completions")
        self.assertEqual(sent.request.body, BODY)
        self.assertEqual(dict(sent.request.headers)[b"x-api-key"], KEY.encode())
        self.assertEqual((reply.body, pool.ends()), (stream, ["succeeded"]))


class OnThePathTests(SynchronousTestCase):
    """The file in a folder of its own, and nothing else done."""

    def test_it_is_found(self) -> None:
        """The commands of the page know it: its settings, its accounts, its grouped names."""
        folder = Path(self.mktemp()).absolute()
        plugins = folder / "plugins/aiclient2api/providers"
        plugins.mkdir(parents=True)
        (plugins / "acme_custom.py").write_text(on_the_page(), "utf-8")
        paths = [str(folder / "plugins"), *filter(None, sys.path)]
        environ = {key: os.environ[key] for key in ("PATH", "LANG") if key in os.environ}
        environ |= {"HOME": str(folder), "PYTHONPATH": os.pathsep.join(paths)}

        def typed(*arguments: str, stdin: str = "") -> str:
            ended = subprocess.run(
                [sys.executable, "-m", "aiclient2api", *arguments],
                cwd=folder,
                env=environ,
                input=stdin,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            self.assertEqual(ended.returncode, 0, ended.stderr)
            return ended.stdout

        added = typed("accounts", "add", "acme-custom-work", "--key", "-", stdin=KEY)
        self.assertIn("of acme-custom-work was added", added)
        self.assertIn("ACME_API_KEY", (folder / "provider_pools.json").read_text())
        self.assertIn("acme-custom-work", typed("check"))
