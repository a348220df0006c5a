"""
A thousand canaries: secrets in every place for one, and nothing of them where they do not belong.

Each request has canaries of its own, and each account; upstreams quote the keys they are asked
with. Afterwards everything that was told is searched in all the forms a secret may have, at the
log level debug. `ALLOWED` says which kind may be found where; what it does not name may not.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import quote

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.logger import FileLogObserver, LogEvent, LogLevel, eventAsText, globalLogPublisher
from twisted.trial.unittest import TestCase

import aiclient2api
from aiclient2api import logfile
from aiclient2api.cli import main
from aiclient2api.observe.scrubber import secrets_in
from aiclient2api.testing import Received, Script, ScriptedUpstream, json_reply, raw_reply
from tests.canaries import Aviary, Search, values_in
from tests.installed import free_port
from tests.live.faults import ROWS, Row
from tests.live.gateway import PROVIDERS, HeaderLines, LiveGateway, Reply, raw_exchange
from tests.live.indiscreet import STYLES, Style, key_of
from tests.live.login_upstreams import CodeAssistUpstream, KiroUpstream, LoginUpstream, QwenUpstream
from tests.live.measure import until

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
        observers: tuple[Any, ...] = (FileLogObserver(self.log, logfile.line), self.heard)
        for observer in observers:
            globalLogPublisher.addObserver(observer)
            self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.addCleanup(self.flushLoggedErrors)
        # A gateway sets it for the whole process.
        self.addCleanup(logfile.levels.setLogLevelForNamespace, "", LogLevel.info)

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
        return len(STYLES) if os.environ.get("AICLIENT2API_LONG") else 3

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

        config: dict[str, Any] = {
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
                    body: Any = None
                    if path != "/v1/models":
                        body = {"model": "m-1", "messages": self.canaries.new(PROMPT)}
                    if path == "/v1/messages":
                        # What the parser says of it must not repeat it.
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


class LoginTests(CanariesTestCase):
    """Tokens: those of a file, and those that were renewed while the gateway ran."""

    folder: Path

    async def test_tokens_are_told_to_nobody(self) -> None:
        """Services quote the tokens they are asked with, and their logins the refresh tokens."""
        self.folder = Path(self.mktemp()).absolute()
        upstreams: list[LoginUpstream] = [CodeAssistUpstream(), QwenUpstream(), KiroUpstream()]
        upstreams[0].fake.client_secret = self.canaries.new(CLIENT)  # type: ignore[attr-defined]
        accounts: dict[str, list[Mapping[str, object]]] = {}
        for number, upstream in enumerate(upstreams):
            await upstream.listen(reactor)
            self.addCleanup(upstream.stop)
            self.disturb(upstream)
            for each in range(2):
                place = self.folder / f"{number}-{each}"
                place.mkdir(parents=True)
                accounts.setdefault(upstream.provider, []).append(upstream.account(place))
        config = {
            "log_level": "debug",
            "request_max_retries": 0,
            "wait_for_account": 0,
            "probe": {"mode": "passive", "interval": 10},
        }
        gateway = LiveGateway(
            self, default="openai-qwen-oauth", config=config, accounts=accounts, resting=True
        )
        await gateway.start()
        statuses: Counter[int] = Counter()
        for _ in range(4):
            for upstream in upstreams:
                for row in ROWS[:2] + ROWS[4:6]:
                    self.learn()
                    body = self.body(row, self.canaries.new(PROMPT))
                    if "model" in body:
                        body["model"] = upstream.model
                    path = row.path.replace("m-1", upstream.model)
                    path = f"/{upstream.provider}{path}"
                    statuses[(await self.ask(gateway, path, gateway.bearer, body)).status] += 1
            reset = await gateway.request("POST", "/provider_health/reset", gateway.bearer, b"{}")
            self.assertEqual(200, reset.status)
            reply = await self.ask(gateway, "/provider_health", gateway.bearer, None)
            self.keep(HEALTH, reply.body)
        await gateway.stop()
        self.learn()
        self.keep_state(gateway.folder / "state")
        self.assertTrue(all(upstream.renewals for upstream in upstreams))
        self.assertGreater(statuses[200], 3, statuses)
        self.assertGreater(statuses.total() - statuses[200], 8, statuses)
        self.assertGreater(Counter(self.canaries.kinds.values())[TOKEN], 12)
        self.assertIn(b"[secret]", b"".join(self.told[ANSWERS]))
        self.check()

    def learn(self) -> None:
        """Take whatever tokens there are for canaries."""
        for path in self.folder.rglob("*.json"):
            self.canaries.add(TOKEN, *secrets_in(json.loads(path.read_bytes())))

    def disturb(self, upstream: LoginUpstream) -> None:
        """Have every third answer quote all that came with the request."""
        fake: Any = upstream.fake  # type: ignore[attr-defined]
        server = fake.server if hasattr(fake, "server") else fake._server
        choose, count = server._choose, cycle(range(3))

        def answer(request: Received) -> Script:
            good: Script = choose(request)
            if next(count):
                return good
            key = key_of(request)
            # Prompts in a body may well be told to those who asked; its tokens may not.
            quoted = (key or request.body.decode()).encode()
            forms = (quoted, b64encode(b"x" + quoted), quoted.hex().encode())
            said = b" ".join(forms).decode()
            told: dict[str, object] = {"error": {"message": said, "code": key or "odd"}}
            if not key:
                told = {"error": "invalid_request", "error_description": said}
            headers = ((b"x-request-id", key.encode()),)
            return json_reply(500 if key else 400, told, headers=headers)

        server._choose = answer


class DaemonTests(CanariesTestCase):
    """The daemon as twistd runs it, its log, its webhook, and all commands beside it."""

    folder: Path
    key: str
    hook: ScriptedUpstream
    daemon: subprocess.Popen[bytes]

    async def test_a_daemon_and_its_commands(self) -> None:
        """Requests, faults, proxies, reloads and commands, in processes of their own."""
        await self.start()
        bearer = (("authorization", f"Bearer {self.key}"),)
        for number, style in enumerate(STYLES):
            self.style, self.row = style, ROWS[number % 2]
            body = self.body(self.row, self.canaries.new(PROMPT))
            for provider in ("openai-custom", "openai-custom-far"):
                await self.request(f"/{provider}/v1/chat/completions", bearer, body)
        await self.request("/v1/models", bearer, None)
        reply = await self.request("/provider_health", bearer, None)
        self.keep(HEALTH, reply)
        await self.hook.when_requests(1).addTimeout(PATIENCE, reactor)
        for text in (b'{"required_api_key": "' + self.canaries.plain(ODD).encode(), None):
            self.reload(text)
        await until(lambda: b"was reloaded" in self.logged(), what="the reload")
        for arguments in (
            ("accounts",),
            ("accounts", "list", "--json"),
            ("explain", "--last", "50", "--json"),
            ("check",),
        ):
            ended = await self.command(*arguments)
            self.keep(SHOWN, ended.stdout, ended.stderr)
            self.assertEqual(0, ended.returncode, (arguments, ended.stderr))
        self.daemon.send_signal(signal.SIGTERM)
        out, err = await deferToThread(self.daemon.communicate, timeout=60)
        self.keep(SHOWN, out, err)
        self.keep(HOOK, *(request.body for request in self.hook.requests))
        self.keep_state(self.folder / "state")
        log = self.logged()
        self.keep(SHOWN, log)
        for words in (b"not reloaded", b"was reloaded", b"The webhook", b"[secret]"):
            self.assertIn(words, log + b"".join(self.told[SHOWN]))
        self.check()

    async def start(self) -> None:
        """Start the upstreams, and the daemon with canaries in all of its configuration."""
        make = self.canaries.new
        self.style, self.row = _good, ROWS[0]
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.key = make(CALLER)
        upstream = ScriptedUpstream(lambda request: self.style(self.row, key_of(request)))
        proxy = ScriptedUpstream(self.proxied)
        self.hook = ScriptedUpstream(lambda request: raw_reply(500, request.target.encode()))
        for each in (upstream, proxy, self.hook):
            await each.listen(reactor)
            self.addCleanup(each.stop)
        password = quote(make(PROXY), safe="")
        pools = {
            "openai-custom": [
                {"OPENAI_API_KEY": make(ACCOUNT), "OPENAI_BASE_URL": f"{upstream.url}/v1"}
            ],
            "openai-custom-far": [
                {
                    "OPENAI_API_KEY": make(ACCOUNT),
                    "OPENAI_BASE_URL": "http://127.0.0.2:9/v1",
                    "proxy_url": f"http://me:{password}@{proxy.url.removeprefix('http://')}",
                }
            ],
        }
        self.config = {
            "listen": f"tcp:{free_port()}:interface=127.0.0.1",
            "required_api_key": [self.key, make(CALLER)],
            "model_provider": "openai-custom",
            "provider_pools_file_path": "provider_pools.json",
            "state_dir": "state",
            "log_level": "debug",
            "request_max_retries": 0,
            "wait_for_account": 0,
            "health_alert_webhook_url": f"{self.hook.url}/{self.canaries.plain(WEBHOOK)}",
        }
        (self.folder / "provider_pools.json").write_text(json.dumps(pools))
        (self.folder / "config.json").write_text(json.dumps(self.config))
        self.port = int(str(self.config["listen"]).split(":")[1])
        self.daemon = subprocess.Popen(
            [
                *self.python("twisted.scripts.twistd:run"),
                *("-n", "--pidfile=", "-l", "gateway.log"),
                *("aiclient2api", "--config", "config.json"),
            ],
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.addCleanup(self.daemon.wait, 60)
        self.addCleanup(self.daemon.kill)
        await until(lambda: b"listens on" in self.logged(), what="the daemon", seconds=PATIENCE)

    def proxied(self, request: Received) -> Script:
        """Refuse as a proxy does, and quote its password."""
        said = (request.header(b"proxy-authorization") or b"").decode()
        return raw_reply(407, f"Not with {said}".encode(), content_type=b"text/html")

    @property
    def environ(self) -> Mapping[str, str]:
        """Return the environment of all processes."""
        return {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self.folder),
            "PYTHONPATH": str(PACKAGE),
        }

    def python(self, entry: str) -> Sequence[str]:
        """Return the command for an entry point of a script."""
        module, _, function = entry.partition(":")
        return (sys.executable, "-c", f"from {module} import {function}; {function}()")

    def logged(self) -> bytes:
        """Return what the daemon's log holds."""
        path = self.folder / "gateway.log"
        return path.read_bytes() if path.exists() else b""

    async def request(self, target: str, headers: HeaderLines, body: Any) -> bytes:
        """Send a request to the daemon; keep and return what came."""
        sent = b"" if body is None else json.dumps(body).encode()
        cookie = ("cookie", self.canaries.new(HEADER))
        lines = "".join(f"{name}: {value}\r\n" for name, value in (*headers, cookie))
        head = f"{'GET' if body is None else 'POST'} {target} HTTP/1.1\r\nhost: x\r\n{lines}"
        head += f"connection: close\r\ncontent-length: {len(sent)}\r\n\r\n"
        reply = await raw_exchange(self.port, head.encode() + sent)
        self.keep(ANSWERS, reply)
        return reply

    def reload(self, text: bytes | None) -> None:
        """Write another configuration, or the old one again, and send SIGHUP."""
        path = self.folder / "config.json"
        path.write_bytes(json.dumps(self.config).encode() if text is None else text)
        before = self.logged().count(b"eloaded")
        self.daemon.send_signal(signal.SIGHUP)
        last = time.monotonic() + PATIENCE
        while self.logged().count(b"eloaded") == before and time.monotonic() < last:
            time.sleep(0.02)

    def command(self, *arguments: str) -> Deferred[subprocess.CompletedProcess[bytes]]:
        """Run ``aiclient2api`` beside the daemon."""
        return deferToThread(
            subprocess.run,
            [sys.executable, "-m", "aiclient2api", *arguments, "--config", "config.json"],
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
        )


class FaultsTests(CanariesTestCase):
    """Configurations that are wrong."""

    def test_no_fault_repeats_a_value(self) -> None:
        """A secret of a wrong type, in a wrong place or in broken JSON is not in the sentence."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        make = self.canaries.new
        configs: tuple[dict[str, Any], ...] = (
            {"required_api_key": {"a": make(ODD)}},
            {"required_api_key": [[make(ODD)]]},
            {"openai_api_key": [make(ODD)]},
            {"openai_base_url": f"http://me:{make(ODD)}@x"},
            {"openai_base_url": f"{make(ODD)}"},
            {"proxy_url": f"ftp://me:{make(ODD)}@x"},
            {"proxy_url": f"http://me:{make(ODD)}@:x"},
            {"health_alert_webhook_url": f"ftp://x/{make(ODD)}"},
            {"health_alert_webhook_url": f"http://me:{make(ODD)}@x/"},
            {"api_keys": make(ODD), "opnai_api_key": make(ODD)},
            {"gemini_oauth_creds_base64": make(ODD)},
            {"qwen_oauth_creds_base64": b64encode(make(ODD).encode()).decode()},
            {"listen": f"tcp:{make(ODD)}"},
            {"host": "0.0.0.0", "required_api_key": [make(CALLER), ""]},
        )
        for config in configs:
            self.judged(folder, json.dumps(config))
            if "openai_api_key" in config or "openai_base_url" in config:
                self.judged(folder, "{}", json.dumps({"openai-custom": [config]}))
        whole = json.dumps({"required_api_key": make(CALLER), "openai_api_key": make(ACCOUNT)})
        for cut in range(3, len(whole), 9):
            self.judged(folder, whole[:cut])
            self.judged(folder, "{}", whole[:cut])
        self.check()
        self.assertGreater(len(b"".join(self.told[SHOWN])), 2000)

    def judged(self, folder: Path, config: str, pools: str = "{}") -> None:
        """Have ``check`` judge a configuration; keep all that it says."""
        (folder / "config.json").write_text(config)
        (folder / "pools.json").write_text(pools)
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main(
                [
                    *("check", "--config", str(folder / "config.json")),
                    *("--state-dir", str(folder / "state")),
                    *("--provider-pools-file", str(folder / "pools.json")),
                ]
            )
        self.keep(SHOWN, out.getvalue(), err.getvalue())
