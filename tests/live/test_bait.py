"""
A listener that nobody configured, named in everything a client may send: nobody comes.

What a request names is text. With images by URL off, nothing that stands in one is fetched;
where an upstream would fetch it, that is the upstream's.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import TestCase

from tests.live.gateway import PROVIDERS, LiveGateway
from tests.raw_peers import Server, silent

HEADERS = (
    "x-portkey-custom-host",
    "x-api-base",
    "x-base-url",
    "x-target-url",
    "x-original-url",
    "x-forwarded-host",
    "x-goog-upload-url",
    "helicone-target-url",
    "referer",
    "origin",
)
FIELDS = ("api_base", "base_url", "url", "host", "proxy", "webhook", "callback_url", "metadata")


def bodies(url: str) -> dict[str, dict[str, Any]]:
    """Return a request of each dialect that names *url* wherever it can name one."""
    everywhere = dict.fromkeys(FIELDS, url)
    server = {"type": "mcp", "server_label": "s", "server_url": url}
    return {
        "/v1/chat/completions": {
            **everywhere,
            "model": "m-1",
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": url},
                        {"type": "image_url", "image_url": {"url": url}},
                        {"type": "file", "file": {"file_data": url, "filename": url}},
                    ],
                }
            ],
        },
        "/v1/responses": {
            **everywhere,
            "model": "m-1",
            "tools": [server],
            "input": [
                {
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": url},
                        {"type": "input_image", "image_url": url},
                        {"type": "input_file", "file_url": url},
                    ],
                }
            ],
        },
        "/v1/messages": {
            **everywhere,
            "model": "m-1",
            "max_tokens": 9,
            "mcp_servers": [{"type": "url", "url": url, "name": "s"}],
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": url},
                        {"type": "image", "source": {"type": "url", "url": url}},
                        {"type": "document", "source": {"type": "url", "url": url}},
                    ],
                }
            ],
        },
        "/v1beta/models/m-1:generateContent": {
            **everywhere,
            "contents": [
                {
                    "role": "user",
                    "parts": [
                        {"text": url},
                        {"fileData": {"fileUri": url, "mimeType": "image/png"}},
                    ],
                }
            ],
        },
    }


class BaitTests(TestCase):
    """Every dialect before every provider."""

    timeout = 60

    async def test_nobody_comes(self) -> None:
        """The bait sees no connection; only the configured upstreams are asked."""
        bait = Server(silent)
        self.addCleanup(bait.stop)
        url = bait.url("/v1/image.png")
        gateway = await LiveGateway(self, config={"request_max_retries": 0}).start()
        answered = 0
        for provider in PROVIDERS:
            for path, body in bodies(url).items():
                plain = {key: value for key, value in body.items() if key not in FIELDS}
                for sent in (body, plain, {**body, "model": url}):
                    headers = [*gateway.bearer, *((name, url) for name in HEADERS)]
                    target = f"{url.rpartition('/')[0]}/../{provider}{path}?url={url}"
                    for where in (f"/{provider}{path}?base_url={url}", target):
                        raw = json.dumps(sent).encode()
                        reply = await gateway.request("POST", where, headers, raw)
                        self.assertIn(reply.status // 100, (2, 4), reply.body)
                        answered += reply.status == 200
        self.assertGreater(answered, 12)
        asked = sum(len(upstream.requests) for upstream in gateway.upstreams.values())
        self.assertGreaterEqual(asked, answered)
        self.assertEqual(bait.peers, [])
