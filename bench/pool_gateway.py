"""
Measure a whole gateway with a pools file of many accounts: its starts, its memory, an edit.

Beside it stands the same gateway with one account. A start is counted from the process's
creation to the first answered ``/health``, and to the first answered request. An edit
changes one account's key; how long it takes until the log says that it is in force is told,
and the longest answer to a ``GET /health`` meanwhile, of a client that asks for it every
10 ms: that long nobody was served.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import processes
from rig import KEY, Rig
from scenarios import Scenario

EVERY = 0.01
"""Seconds from one ``GET /health`` to the next."""

_EDITS = 3
_QUIET = 2
_IN_FORCE = "is in force now"
_CLIENTS = 32
_BODY = json.dumps(
    {"model": "fake-c1-d0-s16-l0", "messages": [{"role": "user", "content": "Hello."}]}
)


def report(size: int) -> None:
    """Measure, and print a table."""
    with Rig() as rig:
        # Compiles what has to be, which is another report's business.
        rig.gateway(pycache=rig.folder / "pycache")[0].stop()
        found = [figures(rig, accounts, requests=size) for accounts in (1, size)]
    print(f"| a gateway with | 1 account | {size:,} accounts |\n|---|---|---|")
    for name in found[1]:
        print(f"| {name} | {' | '.join(each[name] for each in found)} |")


def figures(rig: Rig, accounts: int, *, requests: int) -> dict[str, str]:
    """Return by name what one gateway takes."""
    found: dict[str, str] = {}

    def started(what: str, home: Path) -> tuple[processes.Child, int]:
        child, port, seconds = rig.gateway(
            pycache=rig.folder / "pycache",
            home=home,
            # So that each account gets its share of requests that are all alike.
            config={"provider_pools_file_path": "pools.json", "affinity": False},
        )
        answered = first_answer(port, child)
        found[f"{what}: s to /health"] = f"{seconds:.2f}"
        found[f"{what}: s to the first answer"] = f"{answered:.2f}"
        found[f"{what}: CPU s"] = f"{processes.cpu_seconds([child.pid]):.2f}"
        return child, port

    def resident(what: str, child: processes.Child) -> None:
        # What is kept is written every half second.
        time.sleep(1)
        found[f"RSS MB {what}"] = f"{processes.resident_mb([child.pid]):.1f}"

    home = written(rig.home(), accounts)
    child, port = started("first start", home)
    resident("at rest", child)
    options = Scenario("chat", _CLIENTS, each=-(-requests // _CLIENTS)).options(key=KEY, seconds=60)
    counted = rig.load(*options, port=port, seconds=120)
    failed = sum(counted[name] for name in ("bad", "err", "short"))
    if failed:
        raise SystemExit(f"bench: {failed} requests failed:\n{child.last_words()}")
    resident(f"after {counted['ok']:,} requests", child)
    found.update(edits(home, child, port, accounts))
    child.stop()
    started("second start", home)[0].stop()
    size = sum(each.stat().st_size for each in (home / "state").glob("*.sqlite*"))
    found["state file, KB"] = f"{size / 1024:.0f}"
    return found


def written(home: Path, accounts: int, *, edited: int = 0) -> Path:
    """Write a pools file into *home*; each edit gives the first account another key."""
    keys = [f"sk-upstream-{number:05}" for number in range(accounts)]
    keys[0] += f"-{edited}"
    entries = [
        {"openai_api_key": key, "uuid": f"account-{number}", "customName": f"Number {number}"}
        for number, key in enumerate(keys)
    ]
    (home / "pools.new").write_text(json.dumps({"openai-custom": entries}, indent=2))
    os.replace(home / "pools.new", home / "pools.json")
    return home


def first_answer(port: int, child: processes.Child) -> float:
    """Ask until a request is answered; return the seconds since the process's creation."""
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.request("POST", "/v1/chat/completions", _BODY, headers)
        response = connection.getresponse()
        response.read()
    if response.status != 200:
        raise SystemExit(f"bench: the first answer was a {response.status}:\n{child.last_words()}")
    return time.monotonic() - child.began


def edits(home: Path, child: processes.Child, port: int, accounts: int) -> dict[str, str]:
    """Edit the pools file a few times, and return what that took."""
    with asking(port) as quiet:
        time.sleep(_QUIET)
    seconds, cpu = [], []
    with asking(port) as meanwhile:
        for number in range(1, _EDITS + 1):
            told = in_force(child)
            used = processes.cpu_seconds([child.pid])
            written(home, accounts, edited=number)
            began = time.monotonic()
            while in_force(child) == told:
                if time.monotonic() - began > 20:
                    raise SystemExit(f"bench: the edit was not taken:\n{child.last_words()}")
                time.sleep(0.01)
            seconds.append(time.monotonic() - began)
            cpu.append(processes.cpu_seconds([child.pid]) - used)
    return {
        "an edit: s until it is in force, longest": f"{max(seconds):.2f}",
        "an edit: CPU s": f"{sum(cpu) / len(cpu):.2f}",
        "an edit: longest /health meanwhile, ms": f"{max(meanwhile) * 1e3:.0f}",
        f"no edit: longest /health in {_QUIET} s, ms": f"{max(quiet) * 1e3:.0f}",
    }


def in_force(child: processes.Child) -> int:
    """Return how often the log says that an edit is in force."""
    return child.log.read_text(errors="replace").count(_IN_FORCE)


@contextlib.contextmanager
def asking(port: int) -> Iterator[list[float]]:
    """Ask for ``/health`` again and again; what is yielded fills with seconds an answer."""
    seconds: list[float] = []
    over = threading.Event()

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        with contextlib.closing(connection):
            while not over.wait(EVERY):
                began = time.monotonic()
                connection.request("GET", "/health")
                connection.getresponse().read()
                seconds.append(time.monotonic() - began)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    try:
        yield seconds
    finally:
        over.set()
        thread.join(40)
