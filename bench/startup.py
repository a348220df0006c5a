"""
Measure how long the gateway takes to start, and how much memory it holds.

    python3 bench/startup.py
    python3 bench/startup.py --streams 4000

*Cold* is the first start with no compiled bytecode of anything, as after an installation
that compiled nothing; *warm* the median of the next ones. Both are counted from the
process's creation to the first answered ``/health``. Files are in the system's cache
both times. Where other work shares the machine, go by the processor time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

import processes
from rig import KEY, Rig, measured
from scenarios import Scenario

_BATCH = Scenario("chat", 16, events=100, each=25)
"""Short streams at full speed: 400 at a time."""


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--starts", type=int, default=5, help="warm starts (default: 5)")
    parser.add_argument(
        "--streams", type=int, default=2000, help="how many pass through it (default: 2000)"
    )
    arguments = parser.parse_args()
    with Rig() as rig:
        pycache = rig.folder / "pycache"
        print(f"{measured()}, load {os.getloadavg()[0]:.1f}\n")
        print("| start to the first answered /health | s | CPU s |\n|---|---|---|")
        child, port, seconds = rig.gateway(pycache=pycache)
        print(f"| cold, no bytecode | {seconds:.2f} | {processes.cpu_seconds([child.pid]):.2f} |")
        warm = []
        for _ in range(arguments.starts):
            child.stop()
            child, port, seconds = rig.gateway(pycache=pycache)
            warm.append((seconds, processes.cpu_seconds([child.pid])))
        walls, cpus = zip(*warm, strict=True)
        print(
            f"| warm, median of {len(warm)} | {statistics.median(walls):.2f} "
            f"| {statistics.median(cpus):.2f} |"
        )
        print(f"| warm, best | {min(walls):.2f} | {min(cpus):.2f} |\n")
        grow(rig, child, port, arguments.streams)


def grow(rig: Rig, child: processes.Child, port: int, streams: int) -> None:
    """Print the resident memory after start-up and after batches of streams."""

    def resident() -> float:
        time.sleep(1)
        return processes.resident_mb([child.pid])

    size = _BATCH.clients * _BATCH.each
    print(f"| after streams of {_BATCH.events} events | RSS MB | failed |\n|---|---|---|")
    print(f"| 0 | {resident():.1f} | - |")
    for done in range(size, streams + size, size):
        options = _BATCH.options(key=KEY, seconds=60)
        figures = rig.load(*options, port=port, seconds=120)
        failed = sum(figures[name] for name in ("bad", "err", "short"))
        print(f"| {done} | {resident():.1f} | {failed} |", flush=True)


if __name__ == "__main__":
    main()
