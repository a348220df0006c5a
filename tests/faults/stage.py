"""
One gateway before the fake provider, on which all cells are played at once.

No cell shares an account with another one, so that none judges another; accounts rest as
in earnest. It knows what was asked and what came, and not what should have.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults
from twisted.trial.unittest import TestCase

from aiclient2api.observe import traces, usage
from aiclient2api.observe.traces import Trace
from aiclient2api.observe.usage import Row
from aiclient2api.values import AccountReport
from tests.faults.answers import SPEAKERS
from tests.faults.fake import WIDER, Attempt, FaultyProvider, key
from tests.faults.table import ACCOUNTS, Cell
from tests.live.gateway import PROVIDERS, LiveGateway, Reply
from tests.live.measure import now, pause

BASE_DELAY = 0.02
"""Seconds before the first retry."""

AT_ONCE = 24
"""How many cells are played together; of those that mostly wait, twice as many."""

_TURN = [{"role": "user", "content": "hi"}]
_PATHS = {
    "chat": "/v1/chat/completions",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
    "gemini": "/v1beta/models/{}:",
}
_PATIENCE = 10.0


@attrs.frozen
class Played:
    """
    What came of one request.

    :ivar attempts: What reached the fake.
    :ivar trace: What the gateway noted.
    :ivar booked: What it booked.
    :ivar seconds: How long it took.
    """

    reply: Reply
    attempts: Sequence[Attempt]
    trace: Trace
    booked: Row
    seconds: float

    @property
    def asked(self) -> str:
        """Return the accounts that were asked, a letter for each attempt."""
        return "".join(attempt.who for attempt in self.attempts)

    def header(self, name: str) -> str | None:
        """Return one of the gateway's own headers."""
        value = self.reply.header(f"x-aiclient2api-{name}".encode())
        return None if value is None else value.decode()


async def booked(gateway: LiveGateway, id: str, trace: Trace) -> Row:
    """
    Return what was booked for one exchange.

    The one place that knows where it is booked.
    """
    value = await gateway.world._store.get(namespace=usage.NAMESPACE, owner=trace.caller, key=id)
    row = None if value is None else usage.read(value)
    assert row is not None, f"nothing was booked for request {id}"
    return row


class Stage:
    """
    A gateway with the accounts of some cells.

    :ivar fake: Whom all of them lead to.
    """

    def __init__(self, test: TestCase, cells: Sequence[Cell], **config: object) -> None:
        self.fake = FaultyProvider()
        self.fake.know(cells)
        self._cells = cells
        models = Path(test.mktemp()).absolute()
        models.write_text(json.dumps(list(_windows(cells))))
        settings = {
            "request_base_delay": round(BASE_DELAY * 1000),
            "wait_for_account": 0,
            "affinity": False,
            "rate_limit_cooldown_ms": 30_000,
            "retry_budget": {"share": 1.0, "floor": 100_000},
            "custom_models_file_path": str(models),
            "modelFallbackMapping": _stand_ins(cells),
            **_on_cut(cells),
            **config,
        }
        self.gateway = LiveGateway(test, config=settings, accounts=self._accounts(), resting=True)
        for speaker, sdk in SPEAKERS.items():
            self.gateway.answers[sdk.provider] = self.fake.speaking(speaker)

    def _accounts(self) -> Mapping[str, object]:
        wanted: dict[str, list[tuple[Cell, str]]] = defaultdict(list)
        for cell in self._cells:
            for who in cell.scene.plays:
                wanted[provider(cell, who)].append((cell, who))

        def entries(name: str) -> Any:
            return lambda gateway: [_entry(gateway, name, *each) for each in wanted[name]]

        return {name: entries(name) for name in wanted}

    async def play(self, cell: Cell) -> list[Played]:
        """Send the requests of one cell, one after the other."""
        found = []
        for ask in cell.asks:
            if ask.after:
                await pause(ask.after)
            found.append(await self.ask(cell))
        return found

    async def play_all(self) -> list[tuple[Cell, list[Played] | Exception]]:
        """Play all cells, many at once; return what came of each."""
        quick = [cell for cell in self._cells if not cell.waits]
        slow = [cell for cell in self._cells if cell.waits]
        return [*await self._play(quick, AT_ONCE), *await self._play(slow, 2 * AT_ONCE)]

    async def _play(
        self, cells: Sequence[Cell], at_once: int
    ) -> list[tuple[Cell, list[Played] | Exception]]:
        tokens = DeferredSemaphore(at_once)

        async def one(cell: Cell) -> tuple[Cell, list[Played] | Exception]:
            await tokens.acquire()
            try:
                return cell, await self.play(cell)
            except Exception as error:
                return cell, error
            finally:
                tokens.release()

        return await gatherResults([Deferred.fromCoroutine(one(cell)) for cell in cells])

    async def ask(self, cell: Cell) -> Played:
        """Send one request."""
        gateway, log = self.gateway, self.fake.attempts[cell.model]
        before, began = len(log), now()
        target, body = request(cell)
        headers = (*gateway.bearer, ("model-provider", provider(cell, "a")))
        reply = await gateway.request("POST", target, headers, body)
        seconds = now() - began
        id = (reply.header(b"x-aiclient2api-request-id") or b"").decode()
        trace = await self.trace(id)
        return Played(reply, log[before:], trace, await booked(gateway, id, trace), seconds)

    async def trace(self, id: str) -> Trace:
        """Return the trace of an exchange, as soon as there is one."""
        last = now() + _PATIENCE
        while True:
            value = await self.gateway.world._store.get(
                namespace=traces.NAMESPACE, owner=traces.OWNER, key=id
            )
            found = None if value is None else traces.read(value)
            if found is not None:
                return found
            assert now() < last, f"request {id!r} has left no trace"
            await pause(0.005)

    def reports(self) -> Mapping[str, AccountReport]:
        """Return how every account fares, by id."""
        pools = self.gateway.world.pools()
        return {report.account.id: report for pool in pools.values() for report in pool.report()}


def provider(cell: Cell, who: str) -> str:
    """Return the configured provider of an account."""
    return SPEAKERS[cell.stand_in if who == "w" else cell.upstream].provider


def model(cell: Cell, who: str) -> str:
    """Return the model that an account is asked for."""
    return cell.model + WIDER if who == "w" else cell.model


def account(cell: Cell, who: str) -> str:
    """Return the id of an account."""
    return f"{cell.model}-{who}"


def request(cell: Cell) -> tuple[str, bytes]:
    """Return the target and the body of a request of the cell's client."""
    client, streamed = cell.client, cell.streamed
    target = _PATHS[client].format(cell.model)
    body: dict[str, Any] = {"model": cell.model}
    if client == "gemini":
        target += "streamGenerateContent?alt=sse" if streamed else "generateContent"
        return target, json.dumps(
            {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
        ).encode()
    if streamed:
        body["stream"] = True
    if client == "responses":
        return target, json.dumps({**body, "input": "hi"}).encode()
    if client == "messages":
        body["max_tokens"] = 100
    elif streamed:
        body["stream_options"] = {"include_usage": True}
    return target, json.dumps({**body, "messages": _TURN}).encode()


def _entry(gateway: LiveGateway, name: str, cell: Cell, who: str) -> dict[str, object]:
    fields: dict[str, object] = {
        PROVIDERS[name][1]: key(cell, who),
        "uuid": account(cell, who),
        "priority": 9 - ACCOUNTS.index(who),
        "supportedModels": [model(cell, who)],
    }
    return gateway.entry(name, **fields, **(cell.scene.settings if who == "a" else {}))


def _stand_ins(cells: Sequence[Cell]) -> dict[str, object]:
    return {
        cell.model: {"targetProviderType": provider(cell, "w"), "targetModel": model(cell, "w")}
        for cell in cells
        if "w" in cell.scene.plays
    }


def _on_cut(cells: Sequence[Cell]) -> dict[str, object]:
    """Return the key that says which streams are gone on with, if any are."""
    routes = {cell.model: cell.scene.on_cut for cell in cells if cell.scene.on_cut}
    return {"on_cut": routes} if routes else {}


def _windows(cells: Sequence[Cell]) -> list[dict[str, object]]:
    return [
        {"id": model(cell, who), "provider": provider(cell, who), "contextLength": tokens}
        for cell in cells
        if cell.scene.windows is not None
        for who, tokens in zip("aw", cell.scene.windows, strict=True)
    ]
