"""Logins against the fakes of their vendors, over loopback, up to the running gateway."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from aiclient2api.errors import UpstreamError
from aiclient2api.interfaces import ILoginFlow
from aiclient2api.oauth.kiro_login import KiroLogins
from aiclient2api.oauth.qwen_login import QwenLogins
from aiclient2api.oauth.requests import Asker
from aiclient2api.testing import FakeKiro, FakeQwen
from aiclient2api.upstream.client import Upstream
from aiclient2api.values import Runtime
from tests.installed import free_port, healthy, until

reactor: Any = _reactor


class FlowTests(TestCase):
    """The flows, with a clock that the test moves and a network that is real."""

    timeout = 60

    def setUp(self) -> None:
        """Have a way out."""
        self.clock = Clock()
        self.upstream = Upstream(reactor=reactor, connect_timeout=10.0, environ={})
        self.addCleanup(self.upstream.close)
        self.runtime = Runtime(clock=self.clock, upstream=self.upstream)

    async def ask(self, finishing: Deferred[Any], seconds: float) -> None:
        """Let so much time pass, and what is asked then be answered."""
        waits = {call.getTime() for call in self.clock.getDelayedCalls()}
        self.clock.advance(seconds)
        for _ in range(2000):
            timers = {call.getTime() for call in self.clock.getDelayedCalls()}
            idle = len(timers) == 1 and timers != waits and min(timers) - self.clock.seconds() < 30
            if finishing.called or idle:
                return
            await deferLater(reactor, 0.005, lambda: None)
        self.fail("Nobody answered.")

    async def begun(self, flow: ILoginFlow) -> Deferred[Any]:
        """Start a login."""
        await flow.start()
        return flow.finish()

    async def test_qwen(self) -> None:
        """It waits while nobody has decided, and the token is good for the service."""
        fake = FakeQwen(seconds=self.clock.seconds)
        await fake.listen(reactor)
        self.addCleanup(fake.stop)
        flow = QwenLogins(now=self.clock.seconds).login(
            options={}, runtime=self.runtime, settings={"qwen_oauth_base_url": fake.url}
        )
        finishing = await self.begun(flow)
        await self.ask(finishing, 2)
        self.assertFalse(finishing.called)
        fake.approve(str(flow.code))
        await self.ask(finishing, 2)
        document = await finishing
        self.assertTrue(fake.is_good(document["access_token"]))
        self.assertEqual(document["expiry_date"], int(self.clock.seconds() + 21600) * 1000)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_qwen_refused(self) -> None:
        """Whoever says no in the browser ends it."""
        fake = FakeQwen(seconds=self.clock.seconds)
        await fake.listen(reactor)
        self.addCleanup(fake.stop)
        flow = QwenLogins().login(
            options={}, runtime=self.runtime, settings={"qwen_oauth_base_url": fake.url}
        )
        finishing = await self.begun(flow)
        fake.deny(str(flow.code))
        await self.ask(finishing, 2)
        await self.assertFailure(finishing, UpstreamError)

    async def test_kiro(self) -> None:
        """What a Builder ID and an organisation's login leave behind can be renewed."""
        for region, options in (
            ("us-east-1", {"builder-id": ""}),
            ("eu-west-1", {"idc": "https://example.awsapps.com/start eu-west-1"}),
        ):
            fake = FakeKiro(now=lambda: 1_700_000_000.0, oidc_region=region)
            await fake.listen(reactor)
            self.addCleanup(fake.stop)
            flow = KiroLogins().login(options=options, runtime=self.runtime, settings=fake.settings)
            finishing = await self.begun(flow)
            await self.ask(finishing, 1)
            self.assertFalse(finishing.called)
            fake.approved = True
            await self.ask(finishing, 1)
            document = await finishing
            renewed = await Asker(self.upstream, self.clock, "It").json(
                fake.settings["kiro_refresh_idc_url"].replace("{{region}}", document["idcRegion"]),
                {
                    **{key: document[key] for key in ("refreshToken", "clientId", "clientSecret")},
                    "grantType": "refresh_token",
                },
            )
            self.assertEqual((renewed.status, fake.renewed, fake.burned), (200, 1, []))
            self.assertEqual(self.clock.getDelayedCalls(), [])


class GatewayTests(TestCase):
    """The account that a login adds, in a gateway that runs already."""

    timeout = 120

    async def test_a_running_gateway_has_it(self) -> None:
        """A request that it refused before is answered with the new account."""
        fake = FakeQwen(seconds=time.time)
        fake.interval = 1
        await fake.listen(reactor)
        self.addCleanup(fake.stop)
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        port = free_port()
        config = {
            "port": port,
            "required_api_key": "k",
            "state_dir": "state",
            "qwen_oauth_base_url": fake.url,
            "qwen_base_url": fake.base,
        }
        (folder / "config.json").write_text(json.dumps(config))

        def typed(*arguments: str) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, "-m", "aiclient2api", *arguments],
                cwd=folder,
                env={
                    **os.environ,
                    "HOME": str(folder),
                    "NO_BROWSER": "1",
                    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                },
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            self.addCleanup(process.wait, 30)
            self.addCleanup(process.kill)
            return process

        def answered() -> bool:
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/openai-qwen-oauth/v1/chat/completions",
                json.dumps(
                    {"model": "coder-model", "messages": [{"role": "user", "content": "hi"}]}
                ).encode(),
                {"Authorization": "Bearer k", "Content-Type": "application/json"},
            )
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            try:
                with opener.open(request, timeout=30) as answer:
                    return "Hello!" in answer.read().decode()
            except OSError:
                return False

        typed("run")
        self.assertTrue(await deferToThread(until, lambda: healthy(port), seconds=60.0))
        self.assertFalse(await deferToThread(answered))
        login = typed("login", "openai-qwen-oauth", "--name", "mine")

        def code() -> str:
            shown = ""
            for line in login.stdout or ():
                shown += line
                if "The code is" in line:
                    return line.split()[-1]
            return shown

        shown = await deferToThread(code)
        self.assertRegex(shown, r"\AQWEN-\d{4}\Z")
        fake.approve(shown)
        said, _ = await deferToThread(login.communicate, timeout=60)
        self.assertEqual(login.returncode, 0, said)
        self.assertIn("(mine) of openai-qwen-oauth was added", said)
        self.assertTrue(await deferToThread(until, answered, seconds=30.0))
        self.assertEqual(len(fake.chats), 1)
