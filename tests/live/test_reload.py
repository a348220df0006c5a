"""
What SIGHUP does to a running gateway: a good file is in force at once, a bad one is not.

Requests under way never notice: they keep the rules they began with.
"""

from __future__ import annotations

import json
import os
import signal

from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase
from zope.interface import provider

from aiclient2api.testing import STREAM_HEAD, Chunk, EndChunks, Hold, Script, chat_chunks
from tests.live.gateway import ACCOUNT_KEY, KEY, LiveGateway, Reply
from tests.live.measure import front, until

FRAMES = chat_chunks(["one ", "two ", "three"])
CHAT = "/v1/chat/completions"


class ReloadTests(TestCase):
    """A gateway whose configuration file changes under it."""

    timeout = 20

    def setUp(self) -> None:
        """Listen to the log."""
        self.reloads_refused: list[str] = []

        @provider(ILogObserver)
        def observe(event: LogEvent) -> None:
            text = formatEvent(event)
            if "was not reloaded" in text:
                self.assertNotIn("sk-new", text)
                self.reloads_refused.append(text)

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)

    async def ask(
        self, gateway: LiveGateway, key: str, *, model: str = "m-1", streaming: bool = False
    ) -> Reply:
        """Send a small request with a key."""
        body = json.dumps({"model": model, "messages": [], "stream": streaming}).encode()
        headers = (("authorization", f"Bearer {key}"),)
        return await gateway.request("POST", CHAT, headers, body)

    async def test_another_key(self) -> None:
        """The new key lets in, the old one no longer does, on old connections too."""
        gateway = await LiveGateway(self).start()
        body = b'{"model":"m-1","messages":[]}'
        wire = await gateway.connect()
        reply = await wire.request("POST", CHAT, gateway.bearer, body)
        self.assertEqual(200, reply.status)
        self.assertTrue(gateway.reload(required_api_key="sk-new"))
        self.assertEqual(200, (await self.ask(gateway, "sk-new")).status)
        self.assertEqual(401, (await self.ask(gateway, KEY)).status)
        reply = await wire.request("POST", CHAT, gateway.bearer, body)
        self.assertEqual(401, reply.status)

    async def test_several_keys(self) -> None:
        """A second key can be added before the first is taken away."""
        gateway = await LiveGateway(self).start()
        self.assertTrue(gateway.reload(required_api_key=[KEY, "sk-new"]))
        for key in (KEY, "sk-new"):
            self.assertEqual(200, (await self.ask(gateway, key)).status)

    async def test_a_bad_file(self) -> None:
        """A file with a fault in it changes nothing, not even what is right in it."""
        gateway = await LiveGateway(self).start()
        for bad in ({"timeouts": {"idle": "soon"}}, {"model_provider": "nobody-custom"}):
            self.assertFalse(gateway.reload(required_api_key="sk-new", **bad), bad)
            self.assertEqual(200, (await self.ask(gateway, KEY)).status)
            self.assertEqual(401, (await self.ask(gateway, "sk-new")).status)
        (gateway.folder / "config.json").write_text('{"required_api_key": "sk-new", ')
        self.assertFalse(self.hung_up(gateway))
        (gateway.folder / "config.json").unlink()
        self.assertFalse(self.hung_up(gateway))
        self.assertEqual(200, (await self.ask(gateway, KEY)).status)
        # Its log tells of each, and that is how an operator comes to know.
        self.assertEqual(4, len(self.reloads_refused))

    def hung_up(self, gateway: LiveGateway) -> bool:
        """Reload the file as it stands."""
        assert gateway._service is not None
        return gateway._service.reload()

    async def test_requests_under_way(self) -> None:
        """A stream goes on to its end through a reload that takes its key and account away."""
        gateway = await LiveGateway(self).start()
        upstream = gateway.upstreams["openai-custom"]
        chunks = [Chunk(frame) for frame in FRAMES]
        script: Script = (STREAM_HEAD, *chunks[:3], Hold(), *chunks[3:], EndChunks())
        gateway.answers["openai-custom"] = lambda request: script
        asking: Deferred[Reply]
        asking = Deferred.fromCoroutine(self.ask(gateway, KEY, streaming=True))
        await upstream.when_requests(1)
        self.assertFalse(gateway.reload(required_api_key=7))
        self.assertEqual(1, front(gateway).in_flight)
        pools = gateway.folder / "other_pools.json"
        account = {"openai_api_key": "sk-other", "openai_base_url": upstream.url + "/v1"}
        pools.write_text(json.dumps({"openai-custom": [account]}))
        path = str(pools)
        self.assertTrue(gateway.reload(required_api_key="sk-new", provider_pools_file_path=path))
        upstream.release()
        reply = await asking
        self.assertEqual((200, b"".join(FRAMES)), (reply.status, reply.body))
        self.assertTrue(reply.complete)
        asking = Deferred.fromCoroutine(self.ask(gateway, "sk-new", streaming=True))
        await upstream.when_requests(2)
        upstream.release()
        self.assertEqual(200, (await asking).status)
        sent = [request.header(b"authorization") for request in upstream.requests]
        self.assertEqual([f"Bearer {key}".encode() for key in (ACCOUNT_KEY, "sk-other")], sent)

    async def test_another_provider(self) -> None:
        """A provider that was added serves at once, also as the default."""
        gateway = await LiveGateway(self).start()
        pools = json.loads((gateway.folder / "provider_pools.json").read_text())
        url = gateway.upstreams["openaiResponses-custom"].url + "/v1"
        pools["openai-custom-b"] = [{"openai_api_key": "sk-b", "openai_base_url": url}]
        (gateway.folder / "provider_pools.json").write_text(json.dumps(pools))
        self.assertTrue(gateway.reload())
        reply = await self.ask(gateway, KEY, model="openai-custom-b:m-9")
        self.assertEqual(200, reply.status)
        self.assertEqual(b"openai-custom-b", reply.header(b"x-aiclient2api-provider"))
        (received,) = gateway.upstreams["openaiResponses-custom"].requests
        self.assertEqual(b"Bearer sk-b", received.header(b"authorization"))
        self.assertEqual("m-9", json.loads(received.body)["model"])
        self.assertTrue(gateway.reload(model_provider="openai-custom-b"))
        reply = await self.ask(gateway, KEY)
        self.assertEqual(b"openai-custom-b", reply.header(b"x-aiclient2api-provider"))

    async def test_clocks_and_limits(self) -> None:
        """Timeouts and sizes are those of the file when the request comes."""
        gateway = await LiveGateway(self, config={"request_max_retries": 0}).start()
        gateway.answers["openai-custom"] = lambda request: (Hold(),)
        self.assertTrue(gateway.reload(timeouts={"response_headers": 0.2}))
        self.assertEqual(504, (await self.ask(gateway, KEY)).status)
        self.assertTrue(gateway.reload(limits={"body_bytes": 20}))
        self.assertEqual(413, (await self.ask(gateway, KEY)).status)

    async def test_the_signal(self) -> None:
        """SIGHUP is what does all this, and after the gateway's end it does not."""
        gateway = await LiveGateway(self).start()
        path = gateway.folder / "config.json"
        changed = {**json.loads(path.read_text()), "required_api_key": "sk-new"}
        path.write_text(json.dumps(changed))
        before = self.setup(gateway)
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: self.setup(gateway) is not before, what="the reload")
        self.assertEqual(200, (await self.ask(gateway, "sk-new")).status)
        self.assertEqual(401, (await self.ask(gateway, KEY)).status)

    def setup(self, gateway: LiveGateway) -> object:
        """Return the setup in force."""
        return front(gateway)._setup()
