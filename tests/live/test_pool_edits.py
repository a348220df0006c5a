"""
Edits of the accounts' file while requests run: whatever is done to it, nobody notices.

The file is changed well and badly, by rename and in place, many times a second; clients go
on asking for streams and for whole answers. The upstream knows only keys that once stood
in a good file, so that a request with any other would fail.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import LogEvent, eventAsText, globalLogPublisher
from twisted.trial.unittest import TestCase

from aiclient2api.config import Settings
from aiclient2api.testing import Received, Script, json_reply
from tests.live.gateway import LiveGateway, Reply, good_answer
from tests.live.measure import now, pause, until

POOL = "openai-custom"
CLIENTS = 8
SECONDS = 4.0
"""How long the file is edited at random."""

EACH = 0.05
"""Seconds between two looks of the gateway, so that it sees most of the edits."""

TOLD = 20.0
"""Seconds to wait for a line in the log; it comes at the next look."""

WELL = "was edited; what it says of accounts is in force now"
BADLY = "the old accounts stay in force"
LIMITED: Script = json_reply(
    429,
    {"error": {"message": "Slow down.", "code": "rate_limit_exceeded"}},
    headers=((b"retry-after", b"3600"),),
)


class EditsTestCase(TestCase):
    """A gateway, a file of accounts, and everything that was logged."""

    timeout = 120

    def setUp(self) -> None:
        """Listen to the log."""
        self.events: list[LogEvent] = []
        observe: Any = self.events.append
        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        self.known: set[str] = set()

    async def begin(self, *names: str) -> None:
        """Start a gateway that follows a file with accounts of these names."""
        accounts = {POOL: lambda gateway: [self.account(gateway, name) for name in names]}
        self.gateway = LiveGateway(self, accounts=accounts, resting=True, following=EACH)
        self.gateway.answers[POOL] = self.answer
        await self.gateway.start()
        self.path = self.gateway.folder / "provider_pools.json"
        followed = self.gateway.world._followed
        await until(lambda: followed._in_force, seconds=TOLD, what="the first look at the file")

    def account(
        self, gateway: LiveGateway, name: str, key: str | None = None, **fields: object
    ) -> dict[str, object]:
        """Return an entry of the file, whose key the upstream knows from now on."""
        key = key or f"sk-test-{name}"
        self.known.add(key)
        names = {"uuid": f"id-of-{name}", "customName": name}
        return gateway.entry(POOL, **names, **fields, openai_api_key=key)

    def answer(self, request: Received) -> Script:
        """Answer well whoever has a key that is known; one account rests for an hour."""
        key = self.key(request)
        if key == "sk-test-limited":
            return LIMITED
        if key not in self.known:
            return json_reply(401, {"error": {"message": "!", "code": "invalid_api_key"}})
        return good_answer(request)

    def key(self, request: Received) -> str:
        """Return the key that a request came with."""
        return (request.header(b"authorization") or b"").decode().removeprefix("Bearer ")

    def calls(self) -> Counter[str]:
        """Return how often each key came."""
        return Counter(self.key(each) for each in self.gateway.upstreams[POOL].requests)

    def lines(self) -> list[str]:
        """Return what was logged of the file."""
        told = [eventAsText(event, includeTimestamp=False) for event in self.events]
        return [line for line in told if "provider_pools.json" in line]

    def refusals(self, why: str = "") -> int:
        """Return how often it was logged that a content was refused, and *why*."""
        return sum(BADLY in line and why in line for line in self.lines())

    async def health(self) -> dict[str, dict[str, Any]]:
        """Return what ``/provider_health`` tells of the pool, by account."""
        reply = await self.gateway.request(
            "GET", f"/provider_health?provider={POOL}", self.gateway.bearer
        )
        self.assertEqual(200, reply.status, reply.body)
        return {item["customName"]: item for item in reply.json()["items"]}

    async def ask(self, text: str, *, streaming: bool, messages: bool = False) -> Reply:
        """Ask something in one of two dialects."""
        path = "/v1/messages" if messages else "/v1/chat/completions"
        body = {
            "model": f"{POOL}:m-1",
            "max_tokens": 99,
            "messages": [{"role": "user", "content": text}],
            "stream": streaming,
        }
        headers = (*self.gateway.bearer, ("content-type", "application/json"))
        return await self.gateway.request("POST", path, headers, json.dumps(body).encode())


class EditsUnderLoadTests(EditsTestCase):
    """Eight clients, and somebody who edits."""

    async def test_no_request_fails(self) -> None:
        """Through good edits and bad ones; then the last good file is what counts."""
        await self.begin("anchor", "limited", "spare")
        self.stopped = False
        self.served = 0
        self.failed: list[tuple[int, bool, bytes]] = []
        clients = [Deferred.fromCoroutine(self.client(number)) for number in range(CLIENTS)]
        clients_done = gatherResults(clients, consumeErrors=True)
        await until(lambda: self.calls()["sk-test-limited"], seconds=TOLD, what="the rest")
        resting = (await self.health())["limited"]
        self.assertEqual(("cooling", "rate_limit"), (resting["state"], resting["reason"]))

        edits = _Edits(self, random.Random(4))
        for why, edit in edits.bad.items():
            await self.refused_for(why, edit)
            await self.accepted(edits.good)
        await self.told_gone(edits)
        last = now() + SECONDS
        every = [*edits.bad.values(), *[edits.good] * len(edits.bad), edits.delete, edits.lock]
        while now() < last:
            edits.random.choice(every)()
            await pause(edits.random.uniform(0.05, 0.2))
        edits.clear()

        # Such that no good edit before was the same.
        final = [*edits.entries(), self.account(self.gateway, "last", priority=-1)]
        self.gateway.pools({POOL: final})
        names = [str(entry["customName"]) for entry in final]
        last = now() + TOLD
        while list(health := await self.health()) != names:
            self.assertLess(now(), last, "the last good file is not in force")
            await pause(0.05)
        served = self.served
        await until(lambda: self.served > served + CLIENTS, seconds=TOLD, what="requests")
        self.stopped = True
        await clients_done

        self.assertEqual([], self.failed)
        self.assertGreater(self.served, 10 * CLIENTS)
        health = await self.health()
        self.assert_kept(resting, health)
        self.assertEqual(
            [bool(entry.get("isDisabled")) for entry in final],
            [health[name]["isDisabled"] for name in names],
        )
        self.assert_no_key_told()

    async def client(self, number: int) -> None:
        """Ask until it is enough: for a stream, for a whole answer, in another dialect."""
        count = 0
        while not self.stopped:
            count += 1
            streaming, messages = count % 2 == 0, count % 5 == 0
            reply = await self.ask(f"{number}-{count}", streaming=streaming, messages=messages)
            whole = reply.complete and "and so on." in reply.body.decode()
            if streaming:
                whole = whole and (b"[DONE]" in reply.body or b"message_stop" in reply.body)
            if reply.status == 200 and whole:
                self.served += 1
            else:
                self.failed.append((reply.status, reply.complete, reply.body[:300]))
            await pause(0.01)

    async def refused_for(self, why: str, edit: Callable[[], None]) -> None:
        """Edit badly, and wait until the log says why that is not taken."""
        before = self.refusals(why)
        edit()
        await until(lambda: self.refusals(why) > before, seconds=TOLD, what=why)

    async def accepted(self, edit: Callable[[], None]) -> None:
        """Edit well, and wait until the log says that it is in force."""
        before = sum(WELL in line for line in self.lines())
        edit()
        await until(
            lambda: sum(WELL in line for line in self.lines()) > before,
            seconds=TOLD,
            what="a good edit",
        )

    async def told_gone(self, edits: _Edits) -> None:
        """Take the file away, and wait until the log says so; put another one there."""
        edits.delete()
        await until(
            lambda: any("is gone, and the accounts" in line for line in self.lines()),
            seconds=TOLD,
            what="that the file is gone",
        )
        await self.accepted(edits.good)

    def assert_kept(self, resting: dict[str, Any], health: dict[str, dict[str, Any]]) -> None:
        """Check that accounts that were there all the time have lost nothing."""
        limited, anchor = health["limited"], health["anchor"]
        for told in ("state", "reason", "message", "since", "until", "nextTry"):
            self.assertEqual(resting[told], limited[told], told)
        calls = self.calls()
        # Those who came at the very beginning could not know of each other.
        self.assertLessEqual(calls["sk-test-limited"], CLIENTS)
        self.assertEqual(calls["sk-test-limited"], limited["requests"])
        self.assertEqual(calls["sk-test-anchor"], anchor["requests"])
        self.assertEqual(0, anchor["failures"])
        self.assertLessEqual(set(calls), self.known)

    def assert_no_key_told(self) -> None:
        """Check that neither a good file's keys nor a bad one's are in the log."""
        logged = "\n".join(eventAsText(event) for event in self.events)
        self.assertIn("POST /v1/chat/completions 200", logged)
        self.assertNotIn("sk-test", logged)


class RaceTests(EditsTestCase):
    """What happens to the file in the very moment in which it is read."""

    async def test_it_vanishes(self) -> None:
        """After it was seen to have changed, and before its content is taken."""
        await self.begin("anchor", "spare")
        before = await self.health()
        load, vanished = self.gateway.world.load, []

        def late(*args: Any, **kwargs: Any) -> Settings:
            self.path.unlink(missing_ok=True)
            vanished.append(True)
            return load(*args, **kwargs)

        self.gateway.world.load = late
        self.gateway.pools({POOL: [self.account(self.gateway, "another")]})
        await until(lambda: vanished, seconds=TOLD, what="the reload")
        await until(
            lambda: any("is gone, and the accounts" in line for line in self.lines()),
            seconds=TOLD,
            what="that the file is gone",
        )
        reply = await self.ask("Still there?", streaming=False)
        self.assertEqual(200, reply.status, reply.body)
        self.assertEqual(list(before), list(await self.health()))
        self.gateway.world.load = load
        self.gateway.pools({POOL: [self.account(self.gateway, "another")]})
        last = now() + TOLD
        while list(await self.health()) != ["another"]:
            self.assertLess(now(), last, "the file that was put back is not in force")
            await pause(0.05)


class _Edits:
    """
    What may be done to the file, at any time and in any order.

    Two accounts are always in a good one; others come and go, and so do their keys.

    :ivar bad: What the log says of it, and what is done.
    """

    def __init__(self, test: EditsTestCase, chance: random.Random) -> None:
        self.random = chance
        self.bad: dict[str, Callable[[], None]] = {
            "is not JSON there": self.truncate,
            "is not JSON there (Expecting value": self.empty,
            "is not JSON there (Expecting ',' delimiter": self.garble,
            "is no JSON object": self.list,
            "write a list of accounts in brackets": self.misplace,
            "write an account in braces": self.flatten,
            "is written twice": self.repeat,
            "is not UTF-8": self.encode,
            "priority": self.mistype,
            "it is no regular file": self.obstruct,
        }
        self._test = test
        self._path: Path = test.path
        self._others = ["spare"]
        self._made = 0

    # --- good ones ----------------------------------------------------------------

    def good(self) -> None:
        """Write another good file, mostly by a rename, sometimes in place."""
        self.clear()
        while len(self._others) > 4 or (self._others and self.random.random() < 0.4):
            self._others.remove(self.random.choice(self._others))
        self._made += 1
        self._others.append(f"more-{self._made}")
        content = {POOL: self.entries()}
        if self.random.random() < 0.7:
            self._test.gateway.pools(content)
        else:
            self._path.write_text(json.dumps(content, indent=self.random.randrange(3)))

    def entries(self) -> list[dict[str, object]]:
        """Return the accounts, in any order, some disabled and some with another key."""
        account, gateway = self._test.account, self._test.gateway
        found = [account(gateway, "anchor"), account(gateway, "limited")]
        for name in self._others:
            more: dict[str, object] = {"isDisabled": True} if self.random.random() < 0.3 else {}
            if self.random.random() < 0.3:
                more["concurrencyLimit"] = self.random.randrange(1, 3)
            key = f"sk-test-{name}-{self.random.randrange(3)}"
            found.append(account(gateway, name, key, weight=self.random.randrange(1, 9), **more))
        self.random.shuffle(found)
        return found

    # --- bad ones -----------------------------------------------------------------

    def truncate(self) -> None:
        """Cut it off in place, somewhere."""
        text = self._bad_text()
        self._put(text[: self.random.randrange(1, len(text) - 1)])

    def empty(self) -> None:
        """Leave nothing of it."""
        self._put("")

    def garble(self) -> None:
        """Forget a comma."""
        self._put(self._bad_text().replace(",", "", 1))

    def list(self) -> None:
        """Leave out the provider."""
        self._put(json.dumps(self._bad()[POOL]))

    def misplace(self) -> None:
        """Write an object where a list belongs."""
        self._put(json.dumps({POOL: self._bad()[POOL][0]}))

    def flatten(self) -> None:
        """Write keys where accounts belong."""
        self._put(json.dumps({POOL: [*self._bad()[POOL], "sk-test-never"]}))

    def repeat(self) -> None:
        """Write a key twice."""
        self._put(self._bad_text().replace('{"uuid"', '{"priority": 1, "priority": 2, "uuid"', 1))

    def encode(self) -> None:
        """Save it in another encoding."""
        self.clear()
        self._path.write_bytes(self._bad_text().replace("never", "n\u00e9ver").encode("latin-1"))

    def mistype(self) -> None:
        """Write a word where a number belongs."""
        entries = self._bad()
        entries[POOL][0]["priority"] = "sk-test-never"
        self._put(json.dumps(entries))

    def obstruct(self) -> None:
        """Put a folder in its place."""
        self.clear()
        self._path.unlink(missing_ok=True)
        self._path.mkdir()

    def delete(self) -> None:
        """Take it away."""
        self.clear()
        self._path.unlink(missing_ok=True)

    def lock(self) -> None:
        """Let nobody read it; root does anyway."""
        if self._path.is_file():
            self._path.chmod(0)

    def clear(self) -> None:
        """Undo what keeps the file from being written."""
        if self._path.is_dir():
            self._path.rmdir()
        elif self._path.exists():
            self._path.chmod(0o600)

    def _bad(self) -> dict[str, Any]:
        """Return accounts that nobody may ever call with."""
        keys = {"openai_api_key": "sk-test-never", "openai_base_url": "http://127.0.0.1:9/never"}
        self._made += 1
        return {POOL: [{"uuid": f"id-of-never-{self._made}", **keys}, dict(keys)]}

    def _bad_text(self) -> str:
        return json.dumps(self._bad())

    def _put(self, text: str) -> None:
        self.clear()
        self._path.write_text(text)
