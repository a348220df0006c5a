"""
Measure how fast the gateway is, against a fast fake provider, and print tables.

    python3 bench/bench.py                          this checkout, the usual scenarios
    python3 bench/bench.py -s ns16,fast16 -r 5
    python3 bench/bench.py --no-ours --upstream-port 9001 other=http://127.0.0.1:8080,KEY

Every round runs each scenario once on each target in turn, so that what else happens on
the machine falls on all of them; medians over the rounds are printed. ``direct`` is the
provider without any gateway. Another gateway must send its OpenAI traffic to
http://127.0.0.1:PORT/v1, PORT being ``--upstream-port``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import processes
from rig import KEY, Rig, healthy, measured
from scenarios import SCENARIOS, USUAL, Scenario

Results = dict[str, dict[str, list[dict[str, Any]]]]
"""Scenario to target to one dict of figures per round."""


@dataclasses.dataclass(frozen=True)
class Target:
    """Something that answers: ``direct``, ``ours``, or a gateway that already runs."""

    name: str
    port: int
    key: str


def run(rig: Rig, target: Target, scenario: Scenario, seconds: int) -> dict[str, Any]:
    """Put *target* under one load; return the generator's figures and what it cost."""
    pids = processes.tree(processes.listeners(target.port))
    peak = [0.0]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.3):
            peak[0] = max(peak[0], processes.resident_mb(pids))

    watching = threading.Thread(target=watch)
    watching.start()
    before, cpu_before, machine_before = (
        time.monotonic(),
        processes.cpu_seconds(pids),
        processes.machine_seconds(),
    )
    try:
        options = scenario.options(key=target.key, seconds=seconds)
        figures = rig.load(*options, port=target.port, seconds=seconds + 60)
    finally:
        over.set()
        watching.join()
    cpu = processes.cpu_seconds(pids) - cpu_before
    wall = time.monotonic() - before
    count = figures["events"] if scenario.events else figures["ok"]
    way = "transit" if scenario.events else "lat"
    return {
        "rate": figures["eps" if scenario.events else "rps"],
        "p50": figures[f"{way}_p50"],
        "p99": figures[f"{way}_p99"],
        "cpu_us": 1e6 * cpu / count if count else float("nan"),
        "peak_mb": peak[0],
        "cores": cpu / wall,
        "machine": (processes.machine_seconds() - machine_before) / wall,
        "failed": sum(figures[name] for name in ("bad", "err", "short", "unsent")),
        "raw": figures,
    }


def median(rounds: Sequence[Mapping[str, Any]], name: str) -> float:
    """Return the median of one figure over the rounds."""
    return float(statistics.median(each[name] for each in rounds))


def table(name: str, results: Results) -> str:
    """Return one scenario's table, with ratios to ``direct`` and to ``/health``."""
    scenario, targets = SCENARIOS[name], results[name]
    unit = scenario.unit
    passing = "event's way" if scenario.events else "latency"
    head = (
        f"| target | {unit}s/s | {passing} p50 ms | p99 ms | p50 over direct ms | CPU us/{unit} "
        f"| CPU x /health | {unit}s/s x direct | cores | machine | peak MB | failed |"
    )
    lines = [f"### {name}: {scenario.title}", "", head, "|---" * 12 + "|"]
    direct = targets.get("direct")
    for target, rounds in targets.items():
        health = results.get("health", {}).get(target)
        cpu = median(rounds, "cpu_us")
        added = median(rounds, "p50") - median(direct, "p50") if direct else float("nan")
        share = median(rounds, "rate") / median(direct, "rate") if direct else float("nan")
        to_health = cpu / median(health, "cpu_us") if health and target != "direct" else None
        lines.append(
            f"| {target} | {median(rounds, 'rate'):.0f} | {median(rounds, 'p50'):.2f} "
            f"| {median(rounds, 'p99'):.2f} | {added:.2f} | {cpu:.1f} "
            f"| {'-' if to_health is None else format(to_health, '.2f')} | {share:.3f} "
            f"| {median(rounds, 'cores'):.2f} | {median(rounds, 'machine'):.2f} "
            f"| {median(rounds, 'peak_mb'):.0f} | {sum(each['failed'] for each in rounds)} |"
        )
    return "\n".join(lines)


def target_of(text: str) -> Target:
    """Read ``NAME=http://127.0.0.1:PORT[,KEY]``."""
    name, _, rest = text.partition("=")
    url, _, key = rest.partition(",")
    parts = urlsplit(url)
    if not name or parts.hostname != "127.0.0.1" or parts.port is None:
        raise argparse.ArgumentTypeError(f"{text}: write NAME=http://127.0.0.1:PORT,KEY")
    return Target(name, parts.port, key)


def scenarios_of(text: str) -> list[str]:
    """Read a comma-separated list of scenarios."""
    names = text.split(",")
    if unknown := [name for name in names if name not in SCENARIOS]:
        raise argparse.ArgumentTypeError(
            f"no scenario {unknown[0]}; there are {', '.join(SCENARIOS)}"
        )
    return names


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("targets", nargs="*", type=target_of, help="other gateways: NAME=http://127.0.0.1:PORT,KEY")
    add("-s", "--scenarios", type=scenarios_of, default=USUAL.split(","), help=f"default: {USUAL}")
    add("-r", "--rounds", type=int, default=3)
    add("-d", "--seconds", type=int, default=4, help="of each unpaced run")
    add("--no-ours", action="store_true", help="leave out the gateway of this checkout")
    add("--upstream-port", type=int, default=0, help="of the fake provider; default: a free one")
    add("--json", type=Path, help="write all figures of all rounds to this file")
    return parser


def main() -> None:
    """Measure, and print."""
    arguments = parser().parse_args()
    results: Results = {}
    with Rig(arguments.upstream_port) as rig:
        targets = [Target("direct", rig.upstream_port, ""), *arguments.targets]
        if not arguments.no_ours:
            targets.append(Target("ours", rig.gateway()[1], KEY))
        for target in targets:
            if not healthy(target.port) and not processes.listeners(target.port):
                raise SystemExit(f"bench: nothing listens at 127.0.0.1:{target.port}.")
            run(rig, target, SCENARIOS["ns16"], 1)
        for number in range(arguments.rounds):
            for name in arguments.scenarios:
                for target in targets:
                    figures = run(rig, target, SCENARIOS[name], arguments.seconds)
                    results.setdefault(name, {}).setdefault(target.name, []).append(figures)
                    told = {key: value for key, value in figures.items() if key != "raw"}
                    shown = " ".join(f"{key}={value:.4g}" for key, value in told.items())
                    print(f"round {number} {name} {target.name}: {shown}", file=sys.stderr)
    if arguments.json:
        arguments.json.write_text(json.dumps(results))
    print(f"{measured()}; {arguments.rounds} rounds, medians\n")
    print("\n\n".join(table(name, results) for name in results))


if __name__ == "__main__":
    main()
