"""
Let a gateway run for half an hour under mixed traffic, and see whether it loses anything.

    bench/run soak --minutes 30

The real daemon, several accounts a provider, all dialects both ways, whole and streamed,
with tools; a share of faults, clients that leave, clients that read slowly, reloads. Every
ten seconds its memory, file descriptors, sockets and objects are noted, each minute a line
is printed. In the end it is left alone, and must hold what it held after its first minute;
memory must not climb. The exit code says whether it did.

Memory is compared at rest: a dozen times the traffic stops for some seconds, garbage is
collected, and what the allocator holds in vain is given back. Under load it goes up and down
with what is at work, by more than any leak would show.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import re
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import processes
from rig import HERE, KEY, free_port, healthy

PROVIDERS = {
    # provider: its key's and its base URL's settings, and the base path
    "openai-custom": ("openai_api_key", "openai_base_url", "/v1"),
    "openaiResponses-custom": ("openai_api_key", "openai_base_url", "/v1"),
    "claude-custom": ("claude_api_key", "claude_base_url", ""),
    "gemini-custom": ("gemini_api_key", "gemini_api_base_url", ""),
}
FAULTY = "-faulty"
"""What the names of those end with whose answers are faults: the others must never fail."""

FAULT_KINDS = 64
ACCOUNTS = 3
DIALECTS = ("chat", "responses", "messages", "gemini")
SAMPLE_SECONDS = 10.0
QUIET_SECONDS = 12.0
RESTS = 12
SHORTEST_STRETCH = 20.0
"""Seconds of traffic between two rests, at least."""
SLOWLY = 64 * 1024
"""Bytes that a slow reader reads slowly."""
CUT = 0.2
"""The part of the rests, from the first, that is no part of the slope."""

LIMITS = {
    "memory, KiB a minute": 256.0,
    "blocks a minute": 400.0,
    "file descriptors": 8,
    "Deferred": 40,
    "DelayedCall": 20,
    "delayed calls": 10,
    "coroutine": 8,
    "Relay": 0,
    "Exchange": 0,
    "Asking": 0,
    "Meter": 0,
    "Watcher": 0,
    "Translation": 0,
    "GatewayChannel": 4,
    "GatewayRequest": 4,
    "Failure": 8,
}
"""What may be more at the end than at the start."""

OF_A_CONNECTION = frozenset(("file descriptors", "Deferred", "DelayedCall", "delayed calls"))
"""Of these every idle connection to an upstream, kept for a minute, has one."""

SHORTEST_SLOPE = 5.0
"""Minutes below which memory has no slope that means anything."""

_BAD_WORDS = (
    "Unhandled",
    "was never awaited",
    "ResourceWarning",
    "Traceback",
    "This is a bug",
    "failed while it relayed",
    "The relay of an answer failed",
    "The observer",
)


# --- who asks ---------------------------------------------------------------------


class Client:
    """
    Asks, one request at a time, each on a connection of its own.

    :ivar told: What came of all requests, by kind.
    """

    def __init__(self, port: int, rng: random.Random) -> None:
        self.port = port
        self.rng = rng
        self.told: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.key = KEY

    async def one(self) -> None:
        """Ask for something, in some way."""
        rng = self.rng
        faulty = rng.random() < 0.2
        provider = rng.choice(list(PROVIDERS)) + (FAULTY if faulty else "")
        what = f"fault-{rng.randrange(FAULT_KINDS)}" if faulty else f"good-{rng.randint(2, 60)}"
        streamed = rng.random() < 0.7
        request = self.request(rng.choice(DIALECTS), f"{provider}:{what}", streamed)
        manner = rng.choices(("reads", "leaves", "slow"), (75, 20, 5))[0]
        try:
            async with asyncio.timeout(60):
                status, whole = await self.ask(request, manner)
        except TimeoutError:
            status, whole = 0, False
            self.wrong.append(f"{what} by {provider}: no end within a minute")
        except OSError as error:
            status, whole = -1, False
            if manner == "reads" and not faulty:
                self.wrong.append(f"{what} by {provider}: {error}")
        kind = "faults" if faulty else "good"
        self.told[f"{kind}, {manner}"] += 1
        if not faulty and manner != "leaves" and not (status == 200 and whole):
            self.told["good that failed"] += 1
            self.wrong.append(f"{what} by {provider}, {manner}: {status}, whole: {whole}")

    async def ask(self, request: bytes, manner: str) -> tuple[int, bool]:
        """Send one request; return the status, and whether the answer had its end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=65536)
        try:
            writer.write(request)
            await writer.drain()
            if manner == "leaves":
                await asyncio.sleep(self.rng.random() ** 2)
                if self.rng.random() < 0.5:
                    writer.transport.abort()
                return 0, False
            head = await reader.readuntil(b"\r\n\r\n")
            status = int(head.split(b" ", 2)[1])
            body = bytearray()
            while piece := await reader.read(
                256 if manner == "slow" and len(body) < SLOWLY else 65536
            ):
                body += piece
                # Of some faults there are megabytes, which would take it longer than we wait.
                if manner == "slow" and len(body) < SLOWLY:
                    await asyncio.sleep(0.05)
            length = re.search(rb"(?i)content-length: (\d+)", head)
            if length is not None:
                return status, len(body) == int(length[1])
            return status, body.endswith(b"0\r\n\r\n")
        except asyncio.IncompleteReadError:
            return 0, False
        finally:
            writer.close()

    def request(self, dialect: str, model: str, streamed: bool) -> bytes:
        """Return a request in *dialect*, for *model*."""
        said = "What passes by the house? " * self.rng.randint(1, 40)
        tool = {"type": "object", "properties": {"where": {"type": "string"}}}
        body: dict[str, Any] = {"model": model, "stream": streamed}
        path = "/v1/chat/completions"
        if dialect == "chat":
            body["messages"] = [{"role": "user", "content": said}]
            body["tools"] = [{"type": "function", "function": {"name": "look", "parameters": tool}}]
            if self.rng.random() < 0.5:
                body["stream_options"] = {"include_usage": True}
                if not streamed:
                    del body["stream_options"]
        elif dialect == "responses":
            path = "/v1/responses"
            body["input"] = said
            body["tools"] = [{"type": "function", "name": "look", "parameters": tool}]
        elif dialect == "messages":
            path = "/v1/messages"
            body.update(max_tokens=999, messages=[{"role": "user", "content": said}])
            body["tools"] = [{"name": "look", "input_schema": tool}]
        else:
            verb = "streamGenerateContent?alt=sse" if streamed else "generateContent"
            path = f"/v1beta/models/{model}:{verb}"
            declared = [{"name": "look", "parameters": tool}]
            body = {
                "contents": [{"role": "user", "parts": [{"text": said}]}],
                "tools": [{"functionDeclarations": declared}],
            }
        return self.post(path, body)

    def post(self, path: str, body: object) -> bytes:
        """Return a request that ends its connection."""
        data = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {self.key}\r\n"
            f"connection: close\r\ncontent-length: {len(data)}\r\n\r\n"
        )
        return head.encode() + data

    async def run(self, seconds: float, rate: float) -> None:
        """Ask at a steady *rate* for so long; wait for the last answers."""
        asking: set[asyncio.Task[None]] = set()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            await asyncio.sleep(self.rng.expovariate(rate))
            if len(asking) < 200:
                task = asyncio.create_task(self.one())
                asking.add(task)
                task.add_done_callback(asking.discard)
        if asking:
            await asyncio.wait(asking, timeout=90)

    async def reset(self) -> None:
        """Let all accounts be ready again, for faults make them rest."""
        await self.ask(self.post("/provider_health/reset", {}), "reads")


# --- what is seen -----------------------------------------------------------------


class Seen:
    """The samples of one process."""

    def __init__(self, pid: int, port: int, teller: Path) -> None:
        self.pid = pid
        self.port = port
        self.teller = teller
        self.began = time.monotonic()
        self.samples: list[dict[str, float]] = []
        self.rests: list[dict[str, float]] = []

    async def take(self, *, quiet: bool = False) -> dict[str, float]:
        """Note what the process holds now."""
        sample: dict[str, float] = {"at": time.monotonic() - self.began}
        sample["KiB"] = processes.resident_mb([self.pid]) * 1024
        sample["cpu"] = processes.cpu_seconds([self.pid])
        sample.update(self._descriptors())
        reader, writer = await asyncio.open_unix_connection(str(self.teller), limit=1 << 20)
        writer.write(b"quiet\n" if quiet else b"tell\n")
        sample.update(json.loads(await reader.readline()))
        writer.close()
        (self.rests if quiet else self.samples).append(sample)
        return sample

    def _descriptors(self) -> Mapping[str, int]:
        """Count file descriptors, and sockets by what they are for."""
        kinds: Counter[str] = Counter()
        states = {}
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            column = line.split()
            states[column[9]] = (int(column[1].rpartition(":")[2], 16), column[3])
        for link in Path(f"/proc/{self.pid}/fd").iterdir():
            kinds["file descriptors"] += 1
            try:
                found = re.match(r"socket:\[(\d+)\]", os.readlink(link))
            except OSError:
                continue
            if found is None:
                continue
            port, state = states.get(found[1], (0, ""))
            if state == "0A":
                kinds["sockets, listening"] += 1
            elif port == self.port:
                kinds["sockets, of clients"] += 1
            elif port:
                kinds["sockets, to upstreams"] += 1
            if state == "08":
                kinds["sockets in CLOSE_WAIT"] += 1
        return {
            name: kinds[name]
            for name in (
                "file descriptors",
                "sockets, listening",
                "sockets, of clients",
                "sockets, to upstreams",
                "sockets in CLOSE_WAIT",
            )
        }

    def slope(self, name: str = "KiB") -> float:
        """Return by how much a minute *name* has grown from rest to rest, without the first."""
        kept = self.rests[round(len(self.rests) * CUT) :]
        if len(kept) < 3:
            return 0.0
        # The median of all pairs: one rest at which something large was still there is no slope.
        return statistics.median(
            (late[name] - early[name]) / (late["at"] - early["at"]) * 60
            for early, late in itertools.combinations(kept, 2)
        )

    def line(self, told: Counter[str]) -> str:
        """Return one line of what there is now."""
        last = self.samples[-1]
        asked = sum(count for name, count in told.items() if "," in name)
        names = ("file descriptors", "Deferred", "Relay", "coroutine", "delayed calls", "objects")
        return (
            f"{last['at'] / 60:5.1f} min  {last['KiB'] / 1024:6.1f} MiB  "
            f"at rest {self.rests[-1]['KiB'] / 1024:6.1f}  cpu {last['cpu'] / last['at']:.2f}  "
            + "  ".join(f"{name} {last[name]:.0f}" for name in names)
            + f"  asked {asked}, good that failed {told['good that failed']}"
        )


# --- the whole --------------------------------------------------------------------


def configuration(port: int, upstream: str, home: Path) -> dict[str, object]:
    """Write the accounts; return what the gateway is configured with."""
    pools = {
        name + ending: [
            {key: f"sk-{name}{ending}-{at}", url: upstream + base} for at in range(ACCOUNTS)
        ]
        for name, (key, url, base) in PROVIDERS.items()
        for ending in ("", FAULTY)
    }
    (home / "pools.json").write_text(json.dumps(pools))
    return {
        "listen": [f"tcp:{port}:interface=127.0.0.1"],
        "required_api_key": KEY,
        "model_provider": "openai-custom",
        "provider_pools_file_path": str(home / "pools.json"),
        "state_dir": str(home / "state"),
        "request_max_retries": 1,
        "request_base_delay": 100,
        "wait_for_account": 1,
        "timeouts": {"response_headers": 3, "first_event": 3, "idle": 3},
        "log_level": "info",
    }


class Stage:
    """The gateway and its upstreams, as processes of their own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_port()
        environ = {
            name: value
            for name, value in os.environ.items()
            if not name.lower().endswith("_proxy") and not name.startswith("AICLIENT2API_")
        }
        environ.update(HOME=str(home), PYTHONPATH=str(HERE.parent), PYTHONUNBUFFERED="1")
        self.upstream_log = home / "upstream.log"
        self.upstream = processes.Child(
            [sys.executable, str(HERE / "soak_upstream.py")], log=self.upstream_log, env=environ
        )
        self.log = home / "gateway.log"
        self.config = configuration(self.port, self._upstream_url(), home)
        self._write()
        self.teller = home / "teller"
        self.gateway = processes.Child(
            [
                sys.executable,
                str(HERE / "soak_gateway.py"),
                str(self.teller),
                "--config",
                str(home / "config.json"),
            ],
            log=self.log,
            cwd=home,
            env=environ,
        )
        self._wait(lambda: healthy(self.port) and self.teller.exists(), self.gateway)

    def reload(self) -> None:
        """Change the configuration, and tell the gateway."""
        waits: Any = self.config["wait_for_account"]
        self.config["wait_for_account"] = 3 - waits
        self._write()
        os.kill(self.gateway.pid, signal.SIGHUP)

    def stop(self) -> None:
        """End both."""
        self.gateway.stop()
        self.upstream.stop()

    def bad_lines(self) -> list[str]:
        """Return the lines of the log that should not be there."""
        lines = self.log.read_text(errors="replace").splitlines()
        return [line for line in lines if any(word in line for word in _BAD_WORDS)]

    def _write(self) -> None:
        fresh = self.home / "config.json.new"
        fresh.write_text(json.dumps(self.config))
        fresh.chmod(0o600)
        fresh.rename(self.home / "config.json")
        (self.home / "pools.json").chmod(0o600)

    def _upstream_url(self) -> str:
        self._wait(lambda: b"http://" in self.upstream_log.read_bytes(), self.upstream)
        found = re.search(r"http://127\.0\.0\.1:\d+", self.upstream_log.read_text())
        assert found is not None
        return found[0]

    def _wait(self, ready: Any, child: processes.Child) -> None:
        until = time.monotonic() + 60
        while not ready():
            if not child.alive or time.monotonic() > until:
                raise SystemExit(f"soak: it did not start:\n{child.last_words()}")
            time.sleep(0.05)


async def soak(stage: Stage, minutes: float, rate: float, seed: int) -> tuple[Seen, Client]:
    """Run all of it; return what was seen, and what came of the requests."""
    client = Client(stage.port, random.Random(seed))
    seen = Seen(stage.gateway.pid, stage.port, stage.teller)
    warm = max(10.0, min(60.0, minutes * 60 * 0.1))
    print(f"warming up for {warm:.0f} s, then {minutes:g} minutes", flush=True)
    await client.run(warm, rate)
    await asyncio.sleep(QUIET_SECONDS)
    seen.began = time.monotonic()
    await seen.take(quiet=True)
    seconds = minutes * 60
    rests = max(1, min(RESTS, int(seconds / SHORTEST_STRETCH)))
    for _ in range(rests):
        asking = asyncio.create_task(client.run(seconds / rests, rate))
        while not asking.done():
            await asyncio.wait([asking], timeout=SAMPLE_SECONDS)
            if not stage.gateway.alive:
                raise SystemExit(f"soak: the gateway has ended:\n{stage.gateway.last_words()}")
            await seen.take()
            await client.reset()
            if len(seen.samples) % 6 == 0:
                print(seen.line(client.told), flush=True)
        await asking
        stage.reload()
        await asyncio.sleep(QUIET_SECONDS)
        await seen.take(quiet=True)
    return seen, client


def verdict(seen: Seen, *, bad: Sequence[str], minutes: float) -> list[str]:
    """Return what is wrong, in words; print the table."""
    wrong = []
    start, end = seen.rests[0], seen.rests[-1]
    print("\n| | start | end | more | may be |\n|---|---|---|---|---|")
    for name in sorted(set(end) - {"at", "cpu"}):
        more, limit = end[name] - start[name], LIMITS.get(name)
        shown = "" if limit is None else f"{limit:g}"
        print(f"| {name} | {start[name]:.0f} | {end[name]:.0f} | {more:+.0f} | {shown} |")
        if name in OF_A_CONNECTION:
            more -= end["sockets, to upstreams"] - start["sockets, to upstreams"]
        if limit is not None and more > limit:
            wrong.append(f"{name}: {more:.0f} more than at the start, {limit:g} may be")
    slope, limit = seen.slope(), LIMITS["memory, KiB a minute"]
    print("\nMiB at rest: " + ", ".join(f"{each['KiB'] / 1024:.1f}" for each in seen.rests))
    print(f"memory: {slope:+.1f} KiB a minute, {limit:g} may be")
    blocks, most = seen.slope("blocks"), LIMITS["blocks a minute"]
    print(f"blocks of Python's allocator: {blocks:+.0f} a minute, {most:g} may be")
    if minutes >= SHORTEST_SLOPE and slope > limit:
        wrong.append(f"memory grows by {slope:.0f} KiB a minute")
    if minutes >= SHORTEST_SLOPE and blocks > most:
        wrong.append(f"Python holds {blocks:.0f} more blocks each minute")
    if bad:
        wrong.append(f"{len(bad)} lines of the log should not be there, the first: {bad[0]}")
    return wrong


def main() -> int:
    """Run it, and say whether anything was lost."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=12.0, help="requests a second (default: 12)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write all samples to this file")
    parser.add_argument("--log", type=Path, help="keep the gateway's log here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aiclient2api-soak-") as folder:
        stage = Stage(Path(folder))
        try:
            seen, client = asyncio.run(
                soak(stage, arguments.minutes, arguments.rate, arguments.seed)
            )
        finally:
            stage.stop()
            if arguments.log:
                arguments.log.write_bytes(stage.log.read_bytes())
        bad = stage.bad_lines()
    wrong = verdict(seen, bad=bad, minutes=arguments.minutes)
    for name, count in sorted(client.told.items()):
        print(f"{name}: {count}")
    if client.wrong:
        wrong.append(f"{len(client.wrong)} answers were wrong, the first: {client.wrong[0]}")
    if arguments.json:
        told = {"rests": seen.rests, "samples": seen.samples, "told": dict(client.told)}
        arguments.json.write_text(json.dumps({**told, "wrong": wrong, "bad": bad}, indent=1))
    for each in wrong:
        print(f"WRONG: {each}")
    print("nothing was lost" if not wrong else f"{len(wrong)} things are wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
