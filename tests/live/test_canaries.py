"""
A thousand canaries: secrets in every place for one, and nothing of them where they do not belong.

Each request has canaries of its own, and each account; upstreams quote the keys they are asked
with. Afterwards everything that was told is searched in all the forms a secret may have, at the
log level debug. `ALLOWED` says which kind may be found where; what it does not name may not.
"""

from __future__ import annotations

import io
import json
import os
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import quote

from twisted.internet import reactor
from twisted.logger import FileLogObserver, LogEvent, eventAsText, globalLogPublisher
from twisted.trial.unittest import TestCase

import aiclient2api
from aiclient2api import logfile
from aiclient2api.testing import Received, Script, raw_reply
from tests.canaries import Aviary, Search, values_in
from tests.live.faults import ROWS, Row
from tests.live.gateway import PROVIDERS, HeaderLines, LiveGateway, Reply, raw_exchange
from tests.live.indiscreet import STYLES, Style, key_of

CALLER, ACCOUNT, TOKEN = "a caller's key", "an account's key", "a token"
WRONG, HEADER, QUERY = "a wrong key", "a header", "a query"
PROMPT, KEPT, SAID = "a prompt", "a prompt of an answer that is kept", "an answer"
PROXY, WEBHOOK, CLIENT = "a proxy's password", "a webhook's path", "a client's secret"
ODD = "a value in the wrong place"

LOG, EVENTS, ANSWERS, HEALTH = "the log", "events before they are written", "answers", "health"
STATE, PROMPTS, HOOK, SHOWN = "the state", "the prompt log", "what the webhook got", "commands"

ALLOWED: Mapping[str, frozenset[str]] = {
    CALLER: frozenset(),
    ACCOUNT: frozenset(),
    TOKEN: frozenset(),
    WRONG: frozenset(),
    HEADER: frozenset(),
    QUERY: frozenset(),
    PROXY: frozenset(),
    WEBHOOK: frozenset(),
    CLIENT: frozenset(),
    ODD: frozenset(),
    # The prompt log is for prompts and answers, and turned on here.
    PROMPT: frozenset({PROMPTS}),
    KEPT: frozenset({PROMPTS, STATE}),
    SAID: frozenset({ANSWERS, PROMPTS, STATE}),
}
"""Where each kind may be found. Files that the user or a login wrote are not searched."""

PATIENCE = 60.0
PACKAGE = Path(aiclient2api.__file__).parent.parent
PER_PROVIDER = 40
CALLERS = 60


class CanariesTestCase(TestCase):
    """What is told, kept by the place that it was told in."""

    timeout = 240

    def setUp(self) -> None:
        """Listen to the log as the daemon writes it, and to what it is made of."""
        self.canaries = Aviary()
        self.told: dict[str, list[bytes]] = {place: [] for place in (LOG, EVENTS, ANSWERS, HEALTH)}
        self.told |= {place: [] for place in (STATE, PROMPTS, HOOK, SHOWN)}
        self.log = io.StringIO()
        for observer in (FileLogObserver(self.log, logfile.line), self.heard):
            globalLogPublisher.addObserver(observer)  # type: ignore[arg-type]
            self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.addCleanup(self.flushLoggedErrors)

    def heard(self, event: LogEvent) -> None:
        """Keep an event in words, and its fields as somebody else might show them."""
        text = eventAsText(event, includeTraceback=True)
        fields = {key: value for key, value in event.items() if not key.startswith("log_")}
        self.told[EVENTS].append(f"{text} {fields!r}".encode("utf-8", "replace"))

    def keep(self, place: str, *told: object) -> None:
        """Note that something was told there."""
        self.told[place] += [
            each if isinstance(each, bytes) else str(each).encode("utf-8", "replace")
            for each in told
        ]

    def keep_state(self, folder: Path) -> None:
        """Note all that stands in a state directory but keys and logins, unpacked as well."""
        for path in folder.rglob("*"):
            if path.is_file() and path.name != "api_key" and path.parent.name != "credentials":
                self.keep(STATE, path.read_bytes())
                if path.name == "state.sqlite3":
                    self.keep(STATE, *values_in(path))

    def check(self) -> None:
        """Search everything; what was found where it must not be is told in full."""
        self.told[LOG] = [self.log.getvalue().encode("utf-8", "replace")]
        wrong = []
        for place, told in self.told.items():
            kinds = self.canaries.kinds
            search = Search(each for each in kinds if place not in ALLOWED[kinds[each]])
            data = b"\n".join(told)
            wrong += [
                f"{kinds[hit.canary]} in {place}, {hit.form}: ...{hit.around}..."
                for hit in search.hits(data, place)
            ]
        first = {told.partition(":")[0]: told for told in reversed(wrong)}
        if wrong:
            self.fail(f"{len(wrong)} hits, such as\n" + "\n".join(first.values()))

    async def ask(
        self, gateway: LiveGateway, target: str, headers: HeaderLines, body: Any
    ) -> Reply:
        """Send a request, with canaries in whatever else it brings; keep all that came back."""
        extra = (
            ("cookie", f"session={self.canaries.new(HEADER)}"),
            ("x-secret", self.canaries.new(HEADER)),
        )
        mark = "&" if "?" in target else "?"
        target += f"{mark}trace={quote(self.canaries.new(QUERY))}"
        method = "GET" if body is None else "POST"
        sent = b"" if body is None else json.dumps(body).encode()
        wire = await gateway.connect()
        try:
            reply = await wire.request(method, target, (*headers, *extra), sent).addTimeout(
                PATIENCE, reactor
            )
        finally:
            self.keep(ANSWERS, bytes(wire.received))
            wire.abort()
        return reply

    def keys(self, key: str) -> Iterator[tuple[str, HeaderLines]]:
        """Yield every way to present a key: what goes behind the path, and headers."""
        yield f"?key={quote(key, safe='')}", ()
        for name, value in (
            ("authorization", f"Bearer {key}"),
            ("x-api-key", key),
            ("x-goog-api-key", key),
        ):
            yield "", ((name, value),)

    def body(self, row: Row, prompt: str) -> dict[str, Any]:
        """Return a request of a row's dialect that says *prompt*."""
        body = {
            key: value for key, value in row.request.items() if key not in ("messages", "input")
        }
        if row.dialect == "openai-responses":
            return {**body, "input": prompt}
        if row.dialect == "gemini":
            return {**body, "contents": [{"role": "user", "parts": [{"text": prompt}]}]}
        return {**body, "messages": [{"role": "user", "content": prompt}]}


class TrafficTests(CanariesTestCase):
    """All dialects, all upstreams, and all the ways to quote a key."""

    style: Style
    row: Row

    async def test_a_thousand_canaries(self) -> None:
        """Whoever says what to whom: no log, answer, trace or state holds a secret."""
        gateway = await self.start()
        styles = cycle(STYLES)
        presented = cycle(
            way
            for key in self.callers
            for way in self.keys(key)  # each key in each form
        )
        for row in ROWS:
            for provider in PROVIDERS:
                for _ in range(self.each):
                    self.style = next(styles)
                    await self.exchange(gateway, row, provider, *next(presented))
        self.style = _good
        for row in ROWS:
            await self.exchange(gateway, row, row.provider, *next(presented))
        await self.strangers(gateway)
        await self.lists(gateway)
        await gateway.stop()
        self.keep_state(gateway.folder / "state")
        for path in gateway.folder.glob("prompts-*.log"):
            self.keep(PROMPTS, path.read_bytes())
        self.check()
        kinds = Counter(self.canaries.kinds.values())
        self.assertGreater(len(self.canaries), 1000, kinds)
        self.assertGreater(self.quoted, len(ROWS) * len(PROVIDERS))
        self.assertIn(b"[secret]", b"".join(self.told[ANSWERS]))
        self.assertIn(b"[INPUT]", b"".join(self.told[PROMPTS]))
        self.assertTrue(self.told[STATE])
        print(f"\ncanaries: {len(self.canaries)}, quoted {self.quoted} times: {dict(kinds)}")

    @property
    def each(self) -> int:
        """Return how many of the ways to quote a key are tried with each pair of dialects."""
        return len(STYLES) if os.environ.get("AICLIENT2API_LONG") else 4

    async def start(self) -> LiveGateway:
        """Start a gateway with many callers and many accounts."""
        make = self.canaries.new
        self.quoted = 0
        self.style = _good
        self.callers = [make(CALLER) for _ in range(CALLERS)]

        def accounts(provider: str) -> Any:
            key_name = PROVIDERS[provider][1]
            return lambda it: [
                it.entry(provider, **{key_name: make(ACCOUNT)}) for _ in range(PER_PROVIDER)
            ]

        config = {
            "log_level": "debug",
            "required_api_key": self.callers,
            "request_max_retries": 0,
            "credential_switch_max_retries": 0,
            "wait_for_account": 0,
            "prompt_log_mode": "file",
            "prompt_log_base_name": "prompts",
            "timeouts": {"idle": 5, "first_event": 5},
        }
        listed = {provider: accounts(provider) for provider in PROVIDERS}
        gateway = LiveGateway(self, config=config, accounts=listed, answer=self.answer)
        return await gateway.start()

    def answer(self, request: Received) -> Script:
        """Quote the key of an account."""
        self.quoted += 1
        return self.style(self.row, key_of(request))

    async def exchange(
        self, gateway: LiveGateway, row: Row, provider: str, tail: str, headers: HeaderLines
    ) -> None:
        """Ask one provider in one dialect; the upstream's row is that of its own dialect."""
        own = PROVIDERS[provider][0]
        framing = (
            row.framing if own == row.dialect else ("sse" if row.framing != "whole" else "whole")
        )
        self.row = next(each for each in ROWS if each.dialect == own and each.framing == framing)
        kept = row.dialect == "openai-responses" and own != row.dialect
        prompt = self.canaries.new(KEPT if kept else PROMPT)
        if "?" in row.path and tail:
            tail = "&" + tail[1:]
        await self.ask(gateway, f"/{provider}{row.path}{tail}", headers, self.body(row, prompt))

    async def strangers(self, gateway: LiveGateway) -> None:
        """Knock with wrong keys, in every form and at every kind of door."""
        for path in ("/v1/chat/completions", "/v1/messages", "/nowhere", "/v1/models", "/%ff"):
            for _ in range(4):
                for tail, headers in self.keys(self.canaries.new(WRONG)):
                    body = None if path == "/v1/models" else {"model": self.canaries.new(PROMPT)}
                    if path == "/v1/messages":
                        # Not even JSON: what the parser says of it must not repeat it.
                        body = {"m": [self.canaries.new(PROMPT)], "stream": "?"}
                    await self.ask(gateway, path + tail, headers, body)
        basic = b64encode(b"me:" + self.canaries.new(WRONG).encode()).decode()
        await self.ask(gateway, "/v1/models", (("authorization", f"Basic {basic}"),), None)
        for line in (
            "GET http://me:{}@x/health HTTP/1.1\r\nconnection: close",
            "GET /health?key={} HTTP/9.9\r\nconnection: close",
            "GET /health?key={}",
            "GET /health HTTP/1.1\r\nx-api-key {}",
            "GET /health HTTP/1.1\r\nx-api-key: x\r\n {}",
            "POST /v1/messages?key={} HTTP/1.1\r\ncontent-length: x",
        ):
            raw = line.format(self.canaries.plain(WRONG)) + "\r\n\r\n"
            self.keep(ANSWERS, await raw_exchange(gateway.port, raw.encode()))

    async def lists(self, gateway: LiveGateway) -> None:
        """Look at lists of models, also where upstreams refuse to give one, and at health."""
        bearer = (("authorization", f"Bearer {self.callers[0]}"),)
        for style in STYLES:
            self.style, self.row = style, ROWS[0]
            for path in ("/v1/models", "/v1beta/models", "/openai-custom/v1/models/m-1"):
                await self.ask(gateway, path, bearer, None)
        for path in ("/provider_health", "/ready", "/health", "/"):
            reply = await self.ask(gateway, path, bearer, None)
            self.keep(HEALTH, reply.body)


def _good(row: Row, key: str) -> Script:
    return raw_reply(200, row.body, content_type=row.content_type)
