"""
Measure what a pool of many accounts costs: to choose one, to start with them, to edit them.

    bench/run pool
    bench/run pool --no-gateway

First without any network: microseconds of processor time to lease an account and to end the
lease, the best of some rounds, by the number of accounts. In brackets is the ratio to the
pool of 10, the median of those rounds: that it hardly grows is what this is for. Then a whole
gateway with a file of that many accounts, see `pool_gateway`.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import os
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from operator import truediv
from typing import Any

from rig import measured
from twisted.internet.task import Clock

from aiclient2api.accounts.affinity import Affinities
from aiclient2api.accounts.pool import AccountPool, Rules
from aiclient2api.accounts.selection import STRATEGIES
from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.interfaces import ILease
from aiclient2api.values import Account, Affinity, Usage

SIZES = (1, 10, 100, 1_000, 3_000, 30_000)
MODEL = "m"
CONVERSATIONS = 500
AT_WORK = 100
"""Leases that are held at a time, where it is not one."""
WAITING = 100
"""Requests that wait, where some do."""

_REFERENCE = 10
_CALLS = 200
_USAGE = Usage(input=1000, output=100)
_MODELS = tuple(f"model-{n}" for n in range(10))

Use = Callable[[], None]


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=10, help="rounds (default: 10)")
    parser.add_argument(
        "--accounts", type=int, default=3_000, help="of the gateway (default: 3000)"
    )
    parser.add_argument("--no-gateway", action="store_true", help="only without network")
    parser.add_argument("--no-pool", action="store_true", help="only the gateway")
    arguments = parser.parse_args()
    print(f"{measured()}, load {os.getloadavg()[0]:.1f}\n", flush=True)
    if not arguments.no_pool:
        by_size(arguments.rounds)
        by_strategy(arguments.accounts, arguments.rounds)
    if not arguments.no_gateway:
        # It needs a compiler; what is above does not.
        import pool_gateway

        pool_gateway.report(arguments.accounts)


def by_size(rounds: int) -> None:
    """Print a row for each situation, a column for each number of accounts."""
    print(f"| us to lease and to end it | {' | '.join(f'{size:,}' for size in SIZES)} |")
    print(f"|---|{'---|' * len(SIZES)}")
    for row in zip(*map(situations, SIZES), strict=True):
        found = microseconds([use for _, use in row], rounds)
        usual = found[SIZES.index(_REFERENCE)]
        cells = (
            f"{min(each):.1f} ({statistics.median(map(truediv, each, usual)):.2f})"
            for each in found
        )
        print(f"| {row[0][0]} | {' | '.join(cells)} |", flush=True)


def by_strategy(size: int, rounds: int) -> None:
    """Print a row for each strategy."""
    pools = {strategy: made(size, strategy=strategy) for strategy in STRATEGIES}
    alone = microseconds([partial(used, pool) for pool in pools.values()], rounds)
    crowd = microseconds([crowded(pool) for pool in pools.values()], rounds)
    print(f"\n| us, {size:,} accounts | one lease at a time | {AT_WORK} at work |\n|---|---|---|")
    for strategy, *found in zip(pools, alone, crowd, strict=True):
        print(f"| {strategy} | {' | '.join(f'{min(each):.1f}' for each in found)} |")
    print(flush=True)


# --- the situations -------------------------------------------------------------------


def situations(size: int) -> Iterator[tuple[str, Use]]:
    """
    Yield what is measured: its name, and one lease with its end.

    Each situation goes on from the one before, so that one pool serves most of them.
    """
    pool = made(size)
    yield "all are ready", partial(used, pool)
    yield "with a note of each decision", partial(used, pool, note=lambda *told: None)
    yield f"{AT_WORK} leases at work", crowded(pool)
    yield f"turns of {CONVERSATIONS} conversations", conversing(pool)
    yield "first turns of conversations", conversing(pool, fresh=True)
    yield "refusal of a model that nobody serves", partial(refused, made(size, supported=_MODELS))
    rested(pool, size // 3, of_model=True)
    yield "the model rests at a third of them", partial(used, pool)
    yield "another model than that", partial(used, pool, model="other")
    rested(pool, size * 2 // 3)
    yield "two thirds rest", partial(used, pool, model="other")
    rested(pool, size - 1 - size * 2 // 3)
    yield "all but one rest", partial(used, pool, model="other")
    rested(pool, 1)
    yield "nobody is free", partial(refused, pool)
    clock = Clock()
    limited = made(size, clock=clock, concurrency=1, queue=WAITING)
    held = deque(leased(limited) for _ in range(size - 1))
    yield "all but one are as busy as they may be", partial(used, limited)
    held.append(leased(limited))
    yield f"all are as busy as they may be, and {WAITING} wait", queueing(limited, clock, held)


class _Kept:
    """Where accounts are written down: nowhere, but it is noted that they are to be."""

    def __init__(self) -> None:
        self.marked: dict[str, Callable[[], bytes]] = {}

    def mark(self, provider: str, id: str, encode: Callable[[], bytes]) -> None:
        self.marked[id] = encode

    def now(self, provider: str, id: str, value: bytes) -> None:
        self.marked.pop(id, None)


def made(
    size: int, *, strategy: str = "round_robin", clock: Clock | None = None, **more: Any
) -> AccountPool:
    """Return a pool of so many accounts, all of them ready."""
    pool = AccountPool(
        "openai-custom",
        clock=Clock() if clock is None else clock,
        now=time.time,
        jitter=lambda: 0.0,
        affinities=Affinities(ttl=3600.0, size=10_000),
        keeper=_Kept(),
    )
    accounts = [Account("openai-custom", f"account-{n}", f"sk-{n}", **more) for n in range(size)]
    pool.adopt(accounts, Rules(strategy=strategy))
    return pool


def leased(pool: AccountPool, model: str = MODEL, **asked: object) -> ILease:
    """Return a lease, which must be there at once."""
    lease: ILease = pool.acquire(model=model, **asked).result  # type: ignore[arg-type]
    return lease


def used(pool: AccountPool, model: str = MODEL, **asked: object) -> None:
    """Lease an account, and end the lease well."""
    leased(pool, model, **asked).succeeded(usage=_USAGE)


def refused(pool: AccountPool) -> None:
    """Ask for an account when there is none."""
    refusals: list[object] = []
    pool.acquire(model=MODEL).addErrback(refusals.append)
    if not refusals:
        raise SystemExit("an account was leased that should not have been: nothing was measured")


def crowded(pool: AccountPool) -> Use:
    """Return a use of *pool* that ends the oldest of many leases."""
    leases = deque(leased(pool) for _ in range(AT_WORK))

    def use() -> None:
        leases.popleft().succeeded(usage=_USAGE)
        leases.append(leased(pool))

    return use


def conversing(pool: AccountPool, *, fresh: bool = False) -> Use:
    """Return a use of *pool* by one conversation after the other."""
    numbers = itertools.count()

    def use() -> None:
        number = next(numbers)
        names = (f"fresh {number}" if fresh else f"turn {number % CONVERSATIONS}",)
        used(pool, affinity=Affinity(find=names, bind=names))

    if not fresh:
        for _ in range(CONVERSATIONS):
            use()
    return use


def queueing(pool: AccountPool, clock: Clock, leases: deque[ILease]) -> Use:
    """Return a use in which a lease ends, the first who waits has it, and another one comes."""
    waiting = deque(pool.acquire(model=MODEL) for _ in range(WAITING))

    def use() -> None:
        leases.popleft().succeeded(usage=_USAGE)
        clock.advance(0)
        leases.append(waiting.popleft().result)  # type: ignore[arg-type]
        waiting.append(pool.acquire(model=MODEL))

    return use


def rested(pool: AccountPool, count: int, *, of_model: bool = False) -> None:
    """Let so many of the accounts that are ready rest; or only the model with them."""
    model = MODEL if of_model else "other"
    error = UpstreamError(
        "Slow down.", fault=Fault.RATE_LIMIT, status=429, retry_after=1800.0, of_model=of_model
    )
    for _ in range(count):
        leased(pool, model).failed(error=error)


def microseconds(uses: Sequence[Use], rounds: int) -> list[list[float]]:
    """
    Return the processor time of each use, in each of some rounds.

    In a round it is everybody's turn: a machine has slow moments, and a ratio of two
    figures from different moments says nothing.
    """
    found: list[list[float]] = [[] for _ in uses]
    gc.disable()
    for _ in range(rounds):
        for use, each in zip(uses, found, strict=True):
            began = time.process_time()
            for _ in range(_CALLS):
                use()
            each.append((time.process_time() - began) / _CALLS * 1e6)
    gc.enable()
    return found


if __name__ == "__main__":
    main()
