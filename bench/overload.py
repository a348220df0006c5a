"""
Measure how soon what is too much is refused, beside a ``GET /health`` of the same run.

    bench/run overload

One client asks, one request after the other, each on a connection of its own, in turn for
``/health`` and for what is refused; so whatever else the machine does falls on both. The rest
of the load stands still: as many slow streams as may be under way. Latency is from the
first byte sent to the last one read, connecting left out.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import time
from collections.abc import Mapping, Sequence

import processes
from rig import KEY, Rig, measured

_MODEL = "fake-c1000-d500-s16-l0"
"""A stream of an event each half a second."""
_BODY = json.dumps(
    {"model": _MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": True}
).encode()


def request(line: str, *headers: str, body: bytes = b"") -> bytes:
    """Return a request that closes its connection."""
    lines = [line, "host: x", f"authorization: Bearer {KEY}", "connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


HEALTH = request("GET /health HTTP/1.1")
CHAT = request("POST /v1/chat/completions HTTP/1.1", f"content-length: {len(_BODY)}", body=_BODY)
LARGE = request("POST /v1/messages HTTP/1.1", "content-length: 30000000")
"""The head of one whose body is large: what is measured is that nobody waits for it."""


def ask(port: int, data: bytes) -> tuple[float, int]:
    """Send one request; return milliseconds and status."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as wire:
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began = time.perf_counter()
        wire.sendall(data)
        answer = b""
        while piece := wire.recv(65536):
            answer += piece
        return (time.perf_counter() - began) * 1000, int(answer[9:12])


def busy(port: int, count: int) -> list[socket.socket]:
    """Have so many streams under way; return their connections."""
    wires = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(count)]
    for wire in wires:
        wire.sendall(CHAT)
    for wire in wires:
        if b" 200 " not in wire.recv(100):
            raise SystemExit("bench: a stream was not begun.")
    return wires


def compare(
    rig: Rig, limits: Mapping[str, int], streams: int, data: bytes, status: int, times: int
) -> str:
    """Return a row of the table: what is refused by these limits, beside ``/health``."""
    child, port, _ = rig.gateway(config={"limits": limits})
    wires = busy(port, streams)
    found: dict[str, list[float]] = {"health": [], "refused": []}
    spent = {"health": 0.0, "refused": 0.0}
    for _ in range(times // 50):
        for name, sent, expected in (("health", HEALTH, 200), ("refused", data, status)):
            cpu = processes.cpu_seconds([child.pid])
            for _ in range(50):
                took, told = ask(port, sent)
                if told != expected:
                    raise SystemExit(f"bench: {name} was answered with a {told}.")
                found[name].append(took)
            spent[name] += processes.cpu_seconds([child.pid]) - cpu
    for wire in wires:
        wire.close()
    child.stop()
    told_limits = ", ".join(f"{name} {value}" for name, value in limits.items())
    return row(f"{status} ({told_limits})", found, spent)


def row(name: str, found: Mapping[str, Sequence[float]], spent: Mapping[str, float]) -> str:
    """Return one line of the table."""
    cells = [name]
    for which in (0.5, 0.99):
        health, refused = (sorted(found[each]) for each in ("health", "refused"))
        a, b = (each[int(which * (len(each) - 1))] for each in (health, refused))
        cells += [f"{b:.2f}", f"{a:.2f}", f"{b / a:.2f}"]
    ratio = spent["refused"] / spent["health"] if spent["health"] else float("nan")
    cells += [f"{1e6 * spent['refused'] / len(found['refused']):.0f}", f"{ratio:.2f}"]
    cells.append(f"{statistics.fmean(x < 5 for x in found['refused']):.1%}")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=1000, help="of each (default: 1000)")
    parser.add_argument("--streams", type=int, default=50, help="under way (default: 50)")
    arguments = parser.parse_args()
    times, streams = arguments.times, arguments.streams
    print(f"{measured()}\n")
    print(
        "| refused | p50 ms | /health | ratio | p99 ms | /health | ratio | CPU us | x /health "
        "| within 5 ms |"
    )
    print("|---" * 10 + "|")
    with Rig() as rig:
        for limits, data, status in (
            ({"per_key": streams}, CHAT, 429),
            ({"in_flight": streams}, CHAT, 503),
            ({"in_flight": streams}, LARGE, 503),
            ({"total_bytes": 1000, "key_bytes": 0}, LARGE, 503),
            ({"memory_bytes": 1}, CHAT, 503),
        ):
            under_way = 1 if "memory_bytes" in limits else streams
            if "total_bytes" in limits:
                limits["total_bytes"] = streams * len(_BODY)
            print(compare(rig, limits, under_way, data, status, times), flush=True)


if __name__ == "__main__":
    main()
