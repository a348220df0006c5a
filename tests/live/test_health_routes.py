"""
What monitors and operators see of accounts, over real sockets.

One gateway with one account of each of two providers: the state of an account is seen in
``/ready``, in ``/provider_health``, by the command line and by the webhook.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

import aiclient2api
from aiclient2api.testing import Received, Script, ScriptedUpstream, json_reply, raw_reply
from tests.live.gateway import ACCOUNT_KEY, KEY, LiveGateway, Reply, good_answer
from tests.live.measure import until

PACKAGE = Path(aiclient2api.__file__).parent.parent
PATIENCE = 30.0
MAIN, OTHER = "openai-custom", "claude-custom"
MAIN_ID, OTHER_ID = "11111111-main", "22222222-other"
CHAT, READY = "/v1/chat/completions", "/ready"
HEALTH, RESET = "/provider_health", "/provider_health/reset"
REFUSED: Script = json_reply(401, {"error": {"message": "No such key.", "code": "invalid_api_key"}})
LIMITED: Script = json_reply(
    429,
    {"error": {"message": "Slow down.", "code": "rate_limit_exceeded"}},
    headers=((b"retry-after-ms", b"1200"),),
)


class HealthTestCase(TestCase):
    """A gateway with two accounts, and those who look at it."""

    timeout = 120

    async def begin(self, **config: object) -> None:
        """Start it."""
        accounts = {
            MAIN: lambda it: [it.entry(MAIN, uuid=MAIN_ID, customName="main")],
            OTHER: lambda it: [it.entry(OTHER, uuid=OTHER_ID)],
        }
        config = {"request_max_retries": 0, **config}
        self.gateway = LiveGateway(self, config=config, accounts=accounts, resting=True)
        await self.gateway.start()

    async def ask(self, method: str, target: str, body: object = None, *, key: str = KEY) -> Reply:
        """Send one request; without a key if that is ``""``."""
        headers = (("authorization", f"Bearer {key}"),) if key else ()
        sent = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body)
        sent = sent if isinstance(sent, bytes) else sent.encode()
        return await self.gateway.request(method, target, headers, sent)

    async def told(self, target: str, *, key: str = KEY) -> tuple[int, Any]:
        """Return the status and the body of what is got."""
        reply = await self.ask("GET", target, key=key)
        return reply.status, reply.json()

    async def chat(self) -> Reply:
        """Ask the account for something."""
        messages = [{"role": "user", "content": "hi"}]
        return await self.ask("POST", CHAT, {"model": "m-1", "messages": messages})

    async def item(self) -> dict[str, Any]:
        """Return what is told of the main account."""
        status, told = await self.told(f"{HEALTH}?provider={MAIN}")
        self.assertEqual(200, status, told)
        (item,) = told["items"]
        found: dict[str, Any] = item
        return found

    def refuse(self) -> None:
        """Have the main account's key be a wrong one."""
        self.gateway.answers[MAIN] = lambda request: REFUSED

    def allow(self) -> None:
        """Have it be a good one again."""
        self.gateway.answers[MAIN] = good_answer


class ReadyTests(HealthTestCase):
    """``GET /ready``."""

    async def test_within_a_second(self) -> None:
        """Once the only account has failed nobody is sent here, until it is reset."""
        await self.begin()
        await self.gateway.world.pools().known()
        self.assertEqual((200, {"ready": True}), await self.told(READY, key=""))
        self.refuse()
        self.assertEqual(401, (await self.chat()).status)
        # The very first look shows it, so that no clock has to be generous.
        self.assertEqual((503, {"ready": False}), await self.told(READY, key=""))
        self.assertEqual((200, "healthy"), await self.alive())
        self.allow()
        refused = len(self.gateway.upstreams[MAIN].requests)
        self.assertEqual(503, (await self.told(READY))[0])
        reply = await self.ask("POST", RESET)
        self.assertEqual((200, []), (reply.status, reply.json()["unknown"]))
        self.assertLessEqual({MAIN_ID, OTHER_ID}, set(reply.json()["reset"]))
        self.assertEqual((200, {"ready": True}), await self.told(READY, key=""))
        self.assertEqual(refused, len(self.gateway.upstreams[MAIN].requests))
        self.assertEqual(200, (await self.chat()).status)

    async def alive(self) -> tuple[int, str]:
        """Return what the liveness route says."""
        status, told = await self.told("/health", key="")
        self.assertIsNone(told["provider"])
        return status, told["status"]

    async def test_who_may_know_why(self) -> None:
        """Names are for those who have a key; a wrong key is as good as none."""
        await self.begin()
        self.refuse()
        await self.chat()
        for key in ("", "sk-wrong"):
            self.assertEqual((503, {"ready": False}), await self.told(READY, key=key))
        status, told = await self.told(READY)
        self.assertEqual((503, [MAIN]), (status, told["empty"]))
        self.assertIn("/provider_health tells why", told["message"])

    async def test_one_provider(self) -> None:
        """Who asks for one is told of that one, whatever the default is."""
        await self.begin()
        self.refuse()
        await self.chat()
        self.assertEqual(503, (await self.told(f"{READY}?provider={MAIN}"))[0])
        status, told = await self.told(f"{READY}?provider={OTHER}")
        self.assertEqual((200, {OTHER: True}), (status, told["providers"]))
        self.assertEqual(200, (await self.told(f"{READY}?provider=auto", key=""))[0])
        status, told = await self.told(f"{READY}?provider=nobody")
        self.assertEqual((404, False), (status, told["ready"]))
        self.assertIn("'nobody'", told["message"])
        self.assertIn(MAIN, told["message"])
        self.assertEqual(
            (404, {"ready": False}), await self.told(f"{READY}?provider=nobody", key="")
        )


class ProviderHealthTests(HealthTestCase):
    """``GET /provider_health`` and what resets."""

    async def test_the_key(self) -> None:
        """Without one there is the usual 401, and nothing is told or done."""
        await self.begin()
        self.refuse()
        await self.chat()
        for method, target in (("GET", HEALTH), ("POST", RESET)):
            for key in ("", "sk-wrong"):
                reply = await self.ask(method, target, key=key)
                self.assertEqual(401, reply.status)
                self.assertEqual("invalid_api_key", reply.json()["error"]["code"])
                self.assertNotIn(MAIN.encode(), reply.body)
        self.assertEqual("rejected", (await self.item())["state"])

    async def test_an_account_that_rests(self) -> None:
        """Its state, why, since when, and what comes next; no key."""
        await self.begin()
        await self.chat()
        item = await self.item()
        self.assertEqual(("ready", "", None), (item["state"], item["reason"], item["nextTry"]))
        self.assertEqual((True, 1, 0), (item["isHealthy"], item["requests"], item["failures"]))
        self.refuse()
        await self.chat()
        item = await self.item()
        self.assertEqual(("rejected", "credential"), (item["state"], item["reason"]))
        self.assertEqual((False, 2, 1), (item["isHealthy"], item["requests"], item["failures"]))
        self.assertIn("No such key.", item["message"])
        self.assertLess(item["since"], item["nextTry"])
        reply = await self.ask("GET", HEALTH)
        told = reply.json()
        self.assertLessEqual({MAIN_ID, OTHER_ID}, {each["uuid"] for each in told["items"]})
        self.assertEqual((1, False), (told["unhealthyCount"], told["summaryHealth"]))
        self.assertNotIn(ACCOUNT_KEY.encode(), reply.body)
        self.assertNotIn(b'"secrets"', reply.body)

    async def test_questions_that_make_no_sense(self) -> None:
        """Each is told what is wrong with it, and then nothing is reset."""
        await self.begin()
        self.refuse()
        await self.chat()
        for target, words in (
            (f"{HEALTH}?provider=nobody", "no provider 'nobody'"),
            (f"{HEALTH}?unhealthRatioThreshold=half", "'half'"),
        ):
            status, told = await self.told(target)
            self.assertEqual(400, status)
            self.assertIn(words, told["error"]["message"])
        bad: tuple[tuple[object, str], ...] = (
            (b"{", "The body is no JSON"),
            (b"\xff", "The body is no JSON"),
            ([], "The body"),
            ({"acounts": []}, "'acounts' is no field"),
            ({"provider": "nobody"}, "no provider 'nobody'"),
            ({"provider": 7}, "provider"),
            ({"accounts": MAIN_ID}, "accounts"),
        )
        for body, words in bad:
            reply = await self.ask("POST", RESET, body)
            self.assertEqual(400, reply.status, body)
            self.assertIn(words, reply.json()["error"]["message"])
        reply = await self.ask("POST", RESET, {"accounts": ["nobody"]})
        self.assertEqual({"reset": [], "unknown": ["nobody"]}, reply.json())
        self.assertEqual(405, (await self.ask("GET", RESET)).status)
        self.assertEqual("rejected", (await self.item())["state"])


class CommandTests(HealthTestCase):
    """``aiclient2api accounts`` beside a running gateway."""

    async def test_list_and_reset(self) -> None:
        """They find the gateway by its configuration, and say what it says."""
        await self.begin()
        self.refuse()
        await self.chat()
        listed = await self.accounts("list")
        self.assertEqual((0, ""), (listed.returncode, listed.stderr))
        (line,) = (line for line in listed.stdout.splitlines() if " main " in line)
        for word in (MAIN, "11111111", "rejected", "credential", "1/1"):
            self.assertIn(word, line)
        reset = await self.accounts("reset", MAIN, "main")
        self.assertEqual((0, ""), (reset.returncode, reset.stderr))
        self.assertIn("1 account is ready again: 11111111", reset.stdout)
        self.assertEqual("ready", (await self.item())["state"])
        listed = await self.accounts("list", "--json")
        told = json.loads(listed.stdout)
        self.assertTrue(told["running"])
        (item,) = (each for each in told["items"] if each["uuid"] == MAIN_ID)
        self.assertEqual(("ready", 1), (item["state"], item["failures"]))
        self.assertNotIn(ACCOUNT_KEY, listed.stdout)

    def accounts(self, *arguments: str) -> Deferred[subprocess.CompletedProcess[str]]:
        """Run the command in a process of its own."""
        folder = self.gateway.folder
        where = ("--config", str(folder / "config.json"), "--port", str(self.gateway.port))
        return deferToThread(
            subprocess.run,
            [sys.executable, "-m", "aiclient2api", "accounts", *arguments, *where],
            cwd=folder,
            env={
                "PATH": os.environ.get("PATH", ""),
                "HOME": str(folder),
                "PYTHONPATH": str(PACKAGE),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )


class WebhookTests(HealthTestCase):
    """Another program is told, by a POST each, of every change."""

    async def test_an_account_that_rests_and_is_back(self) -> None:
        """One POST when it begins to rest and one when it is back; no passage is told."""
        listener = ScriptedUpstream(lambda request: raw_reply(200, b"{}"))
        await listener.listen(reactor)
        self.addCleanup(listener.stop)
        await self.begin(health_alert_webhook_url=f"{listener.url}/hook?token=t-1")
        answers = iter((LIMITED,))
        self.gateway.answers[MAIN] = lambda request: next(answers, None) or good_answer(request)
        self.assertEqual(429, (await self.chat()).status)
        await listener.when_requests(1).addTimeout(PATIENCE, reactor)
        # It waits for the account, which comes back with it.
        self.assertEqual(200, (await self.chat()).status)
        await listener.when_requests(2).addTimeout(PATIENCE, reactor)
        self.refuse()
        self.assertEqual(401, (await self.chat()).status)
        await listener.when_requests(3).addTimeout(PATIENCE, reactor)
        self.assertEqual(200, (await self.ask("POST", RESET, {"provider": MAIN})).status)
        await listener.when_requests(4).addTimeout(PATIENCE, reactor)
        told = [self.change(request) for request in listener.requests]
        self.assertEqual(
            [
                ("ready", "cooling", "rate_limit", False),
                ("cooling", "ready", "", True),
                ("ready", "rejected", "credential", False),
                ("rejected", "ready", "", True),
            ],
            told,
        )
        world = self.gateway.world
        await until(lambda: world._webhook._working is None, what="the webhook's end")
        self.assertEqual((0, 0), (world._webhook.failed, world._webhook.dropped))

    def change(self, request: Received) -> tuple[str, str, str, bool]:
        """Return what a POST says."""
        self.assertEqual(("POST", "/hook?token=t-1"), (request.method, request.target))
        self.assertEqual(b"application/json", request.header(b"content-type"))
        self.assertNotIn(ACCOUNT_KEY.encode(), request.body)
        told = json.loads(request.body)
        account = (told["event"], told["provider"], told["uuid"], told["customName"])
        self.assertEqual(("account_state", MAIN, MAIN_ID, "main"), account)
        return told["from"], told["to"], told["reason"], told["usable"]
