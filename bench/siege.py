"""
Measure what honest clients notice while the gateway is besieged.

    bench/run siege
    bench/run siege --heads 2000 --readers 500 --flood 300

At once: heads that arrive a byte a second, readers that take a byte a second of an endless
stream, and a flood of requests far beyond what one key may have under way. Meanwhile honest
requests go on as before, at a steady pace, whether the earlier ones were answered or not.
Reported are how many of those were answered, their latency as a ratio to that of the quiet
time before in the same run, and the gateway's memory: fresh, then before (the crowd has been
there once already), during and after.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

import processes
from rig import HERE, KEY, Rig, measured
from scenarios import SCENARIOS

READERS, FLOOD = "sk-readers", "sk-flood"
_LONE = SCENARIOS["ns16"]


def honest(rig: Rig, port: int, rate: float, seconds: int) -> dict[str, Any]:
    """Send honest requests at a steady pace; return what came of them."""
    options = _LONE.options(key=KEY, seconds=seconds)
    return rig.load(*options, "-c", "64", "-r", str(rate), port=port, seconds=seconds + 60)


def quiet_again(pid: int, seconds: float = 60) -> None:
    """Wait until a process takes no more memory in three seconds, or so many seconds."""
    had, end = 0.0, time.monotonic() + seconds
    while time.monotonic() < end:
        now = processes.resident_mb([pid])
        if now < 1.005 * had:
            return
        had = now
        time.sleep(3)


def settled(pid: int, at: float, seconds: float) -> float:
    """Return the resident memory in MiB once it is near *at*, or after so many seconds."""
    end = time.monotonic() + seconds
    while (now := processes.resident_mb([pid])) > 1.02 * at and time.monotonic() < end:
        time.sleep(0.5)
    return now


@contextlib.contextmanager
def crowd(rig: Rig, port: int, arguments: argparse.Namespace, seconds: int) -> Iterator[Any]:
    """Have them all come; they are there in here, and stay for so long at most."""
    command = [sys.executable, str(HERE / "crowd.py"), "--port", str(port)]
    for name in ("heads", "readers", "flood"):
        command += [f"--{name}", str(getattr(arguments, name))]
    command += ["--seconds", str(seconds), "--reader-key", READERS, "--flood-key", FLOOD]
    log = rig.folder / f"crowd-{time.monotonic_ns()}.log"
    child = processes.Child(command, log=log, cores=rig.tool_cores)
    try:
        while "ready" not in child.last_words():
            if not child.alive:
                raise SystemExit(f"bench: the crowd is gone:\n{child.last_words()}")
            time.sleep(0.1)
        yield child
        while child.alive:
            time.sleep(0.1)
    finally:
        child.stop()


def run(rig: Rig, arguments: argparse.Namespace) -> dict[str, Any]:
    """Besiege one gateway; return the figures."""
    config = {
        "required_api_key": [KEY, READERS, FLOOD],
        "limits": {
            "connections": arguments.connections,
            "in_flight": 1300,
            "per_key": 600,
        },
    }
    child, port, _ = rig.gateway(config=config)
    pid = child.pid
    honest(rig, port, arguments.rate, 3)
    fresh = processes.resident_mb([pid])
    # A heap that was large once keeps some pieces; whether it grows is what matters.
    with crowd(rig, port, arguments, 1):
        quiet_again(pid)
    settled(pid, fresh, 20)
    quiet = honest(rig, port, arguments.rate, arguments.seconds)
    before = processes.resident_mb([pid])
    with crowd(rig, port, arguments, arguments.seconds + 20) as besiegers:
        # What an endless stream brings before its reader is found to be slow is no siege.
        quiet_again(pid)
        cpu, began = processes.cpu_seconds([pid]), time.monotonic()
        besieged = honest(rig, port, arguments.rate, arguments.seconds)
        cores = (processes.cpu_seconds([pid]) - cpu) / (time.monotonic() - began)
        during = processes.resident_mb([pid])
    after = settled(pid, before, 20)
    again = honest(rig, port, arguments.rate, arguments.seconds)
    child.stop()
    return {
        "quiet": quiet,
        "besieged": besieged,
        "again": again,
        "cores": cores,
        "memory": (fresh, before, during, after),
        "crowd": json.loads(besiegers.last_words().splitlines()[-1]),
    }


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--heads", type=int, default=2000, help="a byte a second each (default: 2000)")
    add("--readers", type=int, default=500, help="the same (default: 500)")
    add("--flood", type=float, default=300, help="requests a second (default: 300)")
    add("--connections", type=int, default=4096, help="limits.connections (default: 4096)")
    add("--rate", type=float, default=50, help="honest requests a second (default: 50)")
    add("--seconds", type=int, default=15, help="of each of the three times (default: 15)")
    add("-r", "--rounds", type=int, default=3, help="each with a gateway of its own (default: 3)")
    arguments = parser.parse_args()
    rounds = []
    print(f"{measured()}\n")
    head = (
        "| round | honest answered | p50 ms quiet, besieged, after | p99 ms quiet, besieged, after"
        " | p50 ratio | p99 ratio | RSS MB fresh, before, during, after"
        " | after/before | cores |"
    )
    print(f"{head}\n{'|---' * 9}|")
    with Rig() as rig:
        for number in range(arguments.rounds):
            found = run(rig, arguments)
            rounds.append(found)
            times = [found[name] for name in ("quiet", "besieged", "again")]
            failed = sum(times[1][name] for name in ("bad", "err", "short", "unsent"))
            answered = times[1]["ok"] / (times[1]["ok"] + failed)
            p50, p99 = ([each[f"lat_p{n}"] for each in times] for n in (50, 99))
            print(
                f"| {number} | {answered:.2%} of {times[1]['ok'] + failed} "
                f"| {', '.join(f'{x:.1f}' for x in p50)} | {', '.join(f'{x:.1f}' for x in p99)} "
                f"| {p50[1] / p50[0]:.2f} | {p99[1] / p99[0]:.2f} "
                f"| {', '.join(f'{x:.1f}' for x in found['memory'])} "
                f"| {found['memory'][3] / found['memory'][1]:.2f} | {found['cores']:.2f} |",
                flush=True,
            )
            print(json.dumps(found["crowd"]), file=sys.stderr)
    ratios = [each["besieged"]["lat_p99"] / each["quiet"]["lat_p99"] for each in rounds]
    print(f"\nmedian of the p99 ratios: {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
