"""
A gateway in front of a fake vendor whose token endpoint can be disturbed, for tests of logins.

A `Cell` is one provider that one logs in to and one way to be answered, with real credential
files; its `Vendor` notes which tokens were used for what. Nothing here knows what a test is
about, nor how tokens are kept.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from aiclient2api.oauth.requests import Answer, Asker
from aiclient2api.testing import (
    Connection,
    FakeCodeAssist,
    FakeQwen,
    Head,
    Hold,
    Received,
    Reset,
    Script,
    json_reply,
)
from tests.live.gateway import LiveGateway, Reply
from tests.live.measure import pause

PATIENCE = 30.0
HOUR = 3600.0
SILENCE = 0.3
"""Seconds after which a token endpoint is given up here, where it is to be silent."""

BROKEN: Script = json_reply(503, {"error": "unavailable"})
DEAD: Script = json_reply(400, {"error": "invalid_grant", "error_description": "It is revoked."})
RESET: Script = (Reset(),)
SILENT: Script = (Hold(),)

Document = dict[str, Any]


@attrs.frozen
class Kind:
    """
    A provider, and how its fake is handled.

    :ivar targets: Where one asks for a whole answer, and for a stream.
    :ivar renewing: The path of the token endpoint.
    :ivar spoil: Has the fake refuse an access token from now on.
    :ivar entry: Returns an account's settings but its credential file, for a fake.
    """

    name: str
    targets: tuple[str, str]
    renewing: str
    answering: tuple[str, ...]
    file_key: str
    fake: Callable[[], Any]
    login: Callable[[Any], Document]
    spoil: Callable[[Any, str], None]
    entry: Callable[[Any], Document]

    def body(self, text: str, *, streamed: bool) -> bytes:
        """Return a request that says *text*."""
        if self.name == "openai-qwen-oauth":
            turns = [{"role": "user", "content": text}]
            body: Document = {"model": "coder-model", "messages": turns, "stream": streamed}
        else:
            body = {"contents": [{"role": "user", "parts": [{"text": text}]}]}
        return json.dumps(body).encode()


KINDS = (
    Kind(
        name="openai-qwen-oauth",
        targets=("/v1/chat/completions",) * 2,
        renewing="/api/v1/oauth2/token",
        answering=("/v1/chat/completions",),
        file_key="qwen_oauth_creds_file_path",
        fake=lambda: FakeQwen(seconds=time.time),
        login=lambda fake: fake.log_in(),
        spoil=lambda fake, token: fake.revoke(token),
        entry=lambda fake: {"qwen_oauth_base_url": fake.url},
    ),
    Kind(
        name="gemini-cli-oauth",
        targets=(
            "/v1beta/models/gemini-2.5-pro:generateContent",
            "/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse",
        ),
        renewing="/token",
        answering=("/v1internal:generateContent", "/v1internal:streamGenerateContent"),
        file_key="gemini_oauth_creds_file_path",
        fake=lambda: FakeCodeAssist(rotates=True),
        login=lambda fake: fake.login(),
        spoil=lambda fake, token: fake.expire(token),
        entry=lambda fake: {
            "gemini_base_url": fake.url,
            "gemini_oauth_token_url": fake.token_url,
            "gemini_oauth_client_id": fake.client_id,
            "gemini_oauth_client_secret": fake.client_secret,
        },
    ),
)


class Vendor:
    """
    A fake vendor whose token endpoint can be disturbed.

    :ivar used: The refresh tokens that came, in order.
    :ivar renewed: How often new tokens were given for one.
    :ivar troubles: By refresh token: what the next renewals with it are answered instead.
    :ivar told: What else stands in new tokens.
    :ivar holds: What is held back until `release`: ``"renewals"``, ``"answers"``, or nothing.
    :ivar asked: The body and the access token of each request for an answer.
    :ivar refused: How many of those were refused.
    """

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.fake = kind.fake()
        self.used: list[str] = []
        self.renewed = 0
        self.troubles: dict[str, deque[Script]] = defaultdict(deque)
        self.told: Document = {}
        self.holds = ""
        self.asked: list[tuple[bytes, str]] = []
        self.refused = 0
        self._kept: set[Connection] = set()
        self._server = self.fake._server
        self._choose = self._server._choose
        self._server._choose = self._answer

    def release(self) -> None:
        """Hold nothing back any more."""
        self.holds = ""
        self._server.release()

    def silent(self, refresh: str) -> bool:
        """Say whether the next renewal with this token gets no answer."""
        return refresh in self.troubles and SILENT in [*self.troubles[refresh]][:1]

    def _answer(self, request: Received) -> Script:
        path = request.target.partition("?")[0]
        script = self._renew(request) if path == self.kind.renewing else self._choose(request)
        self._kept.add(request.connection)
        if path in self.kind.answering:
            token = (request.header(b"authorization") or b"").decode().removeprefix("Bearer ")
            self.asked.append((request.body, token))
            good = _status(script) == 200
            self.refused += not good
            if good and self.holds == "answers":
                # After the first bytes of it.
                return (*script[:2], Hold(), *script[2:])
        return script

    def _renew(self, request: Received) -> Script:
        token = parse_qs(request.body.decode())["refresh_token"][0]
        troubles = self.troubles[token]
        if request.connection in self._kept and troubles and troubles[0] is RESET:
            # A kept connection may have been closed already: it is asked once more at once.
            return RESET
        self.used.append(token)
        if troubles:
            return troubles.popleft()
        script: Script = self._choose(request)
        if _status(script) == 200:
            self.renewed += 1
            if self.told:
                body: Any = script[1]
                script = json_reply(200, {**json.loads(body.data), **self.told})
        return (Hold(), *script) if self.holds == "renewals" else script


class Hasty:
    """Waits for a token endpoint as ever, but only for a moment where it is to be silent."""

    def __init__(self, vendors: Sequence[Vendor], **way: Any) -> None:
        self._vendors = vendors
        self._way = way

    def form(self, url: str, fields: Mapping[str, str]) -> Deferred[Answer]:
        """See `Asker`."""
        (asked,) = (each for each in self._vendors if url.startswith(f"{each.fake.url}/"))
        silent = asked.silent(fields["refresh_token"])
        return Asker(**self._way, seconds=SILENCE if silent else PATIENCE).form(url, fields)


class Cell:
    """
    One provider, one way to be answered: a vendor, and a gateway with some accounts.

    :ivar files: The accounts' credential files.
    :ivar first: What they held at first.
    """

    def __init__(self, test: TestCase, kind: Kind, *, streamed: bool) -> None:
        self.test = test
        self.kind = kind
        self.streamed = streamed
        self.vendor = Vendor(kind)
        self.files: list[Path] = []
        self.first: list[Document] = []
        self._count = 0

    async def start(self, left: Sequence[float], config: Mapping[str, object]) -> None:
        """Log in for accounts with so many seconds *left*; start a gateway with them."""
        fake = self.vendor.fake
        await fake.listen(reactor)
        self.test.addCleanup(fake.stop)
        folder = Path(self.test.mktemp()).absolute()
        entries = []
        for number, seconds in enumerate(left):
            # By the name that Qwen Code has for it: its lock has another one, too.
            file = folder / str(number) / "oauth_creds.json"
            file.parent.mkdir(parents=True)
            self.files.append(file)
            self.first.append(self.put(self.login(seconds), number))
            entry = {"uuid": f"account-{number}", self.kind.file_key: str(file)}
            entries.append({**entry, **self.kind.entry(fake)})
        self.gateway = LiveGateway(
            self.test,
            default=self.kind.name,
            config={"cron_refresh_token": False, "request_base_delay": 20, **config},
            accounts={self.kind.name: entries},
            resting=True,
        )
        await self.gateway.start()

    # --- the login --------------------------------------------------------------

    def login(self, left: float = HOUR) -> Document:
        """Log in; return the document, which says that its token expires in *left* seconds."""
        return {**self.kind.login(self.vendor.fake), "expiry_date": milliseconds(left)}

    def put(self, document: Document, number: int = 0, *, in_place: bool = False) -> Document:
        """Write a credential file as other programs do; return the document."""
        file = self.files[number]
        target = file if in_place else file.with_name("oauth_creds.json.theirs")
        target.write_text(json.dumps(document, indent=2))
        if not in_place:
            target.rename(file)
        return document

    def kept(self, number: int = 0) -> Document:
        """Return what a credential file holds."""
        found: Document = json.loads(self.files[number].read_text())
        return found

    def spoil(self, document: Document) -> None:
        """Have the vendor refuse the document's access token from now on."""
        self.kind.spoil(self.vendor.fake, document["access_token"])

    # --- a client -----------------------------------------------------------------

    def prompt(self) -> bytes:
        """Return the body of a request that is like no other."""
        self._count += 1
        return self.kind.body(f"No. {self._count}.", streamed=self.streamed)

    async def ask(self) -> Reply:
        """Ask for an answer."""
        target = self.kind.targets[self.streamed]
        return await self.gateway.request("POST", target, self.gateway.bearer, self.prompt())

    async def served(self) -> str:
        """Ask for an answer and get one; return the access token it was asked with."""
        number = self._count + 1
        self.check(await self.ask())
        mark = b"No. %d." % number
        return [token for body, token in self.vendor.asked if mark in body][-1]

    def check(self, reply: Reply) -> None:
        """See that it is an answer, and all of it."""
        shown = (self.kind.name, self.streamed, reply.status, reply.body[:500])
        self.test.assertEqual((200, True), (reply.status, reply.complete), shown)
        self.test.assertIn(b"Hello", reply.body, shown)
        if self.streamed:
            self.test.assertRegex(reply.body, rb"\[DONE\]|STOP", str(shown))

    async def account(self, number: int = 0) -> Document:
        """Return what ``/provider_health`` says of an account."""
        reply = await self.gateway.request("GET", "/provider_health", self.gateway.bearer)
        items = reply.json()["items"]
        found: Document = next(each for each in items if each["uuid"] == f"account-{number}")
        return found


def milliseconds(left: float) -> int:
    """Return a moment so many seconds from now as credential files have it."""
    return int((time.time() + left) * 1000)


def _status(script: Script) -> int:
    return next((step.status for step in script if isinstance(step, Head)), 0)


async def eventually(holds: Callable[[], Awaitable[object]], what: str) -> None:
    """Wait until *holds* says yes; fail after a long time."""
    last = time.monotonic() + PATIENCE
    while not await holds():
        if time.monotonic() > last:
            raise AssertionError(f"Not within {PATIENCE:g} s: {what}")
        await pause(0.05)
