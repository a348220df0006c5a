"""
Streams as upstreams send them, one folder a dialect, and the ways to cut them up.

A golden test says what a watcher must have seen at the end of a stream; these
functions then prove it for every way the bytes can arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import attrs

from aiclient2api.errors import Fault
from aiclient2api.interfaces import IWatcher
from aiclient2api.values import Usage

MakeWatcher = Callable[[], IWatcher]


@attrs.frozen
class Verdict:
    """What a watcher says at the end of a stream, and how many bytes it let through."""

    shown: int
    events: int
    started: bool = True
    complete: bool = True
    fault: Fault | None = None
    status: int | None = None
    message: str | None = None
    usage: Usage | None = None
    text: str = ""


def stream(dialect: str, name: str) -> bytes:
    """Return the bytes of one stream."""
    return (Path(__file__).parent / dialect / name).read_bytes()


def verdict(watcher: IWatcher, pieces: Iterable[bytes]) -> tuple[Verdict, bytes]:
    """Feed all *pieces*, end, and return the verdict and the bytes let through."""
    shown = b"".join([*map(watcher.feed, pieces), watcher.end()])
    failure = watcher.failure
    # A blank line of CRs and LFs may be complete before its last byte: after a failure
    # that byte, if it comes in a read of its own, is not let through.
    told = shown.rstrip(b"\r\n") if failure else shown
    return Verdict(
        shown=len(told),
        events=watcher.events,
        started=watcher.started,
        complete=watcher.complete,
        fault=failure.fault if failure else None,
        status=failure.status if failure else None,
        message=failure.message if failure else None,
        usage=watcher.usage,
        text=watcher.text,
    ), shown


def splits(data: bytes) -> Iterator[list[bytes]]:
    """Yield *data* in one piece, in two at every place, and in pieces of 1 to 7 bytes."""
    yield [data]
    for at in range(len(data)):
        yield [data[:at], data[at:]]
    for size in range(1, 8):
        yield [data[at : at + size] for at in range(0, len(data), size)]


def complete_from(make: MakeWatcher, data: bytes) -> int | None:
    """
    Return after how many bytes a clean end first counts as complete, None if never.

    :raise AssertionError: if a longer piece of the same stream is not complete.
    """
    first = None
    for length in range(len(data) + 1):
        watcher = make()
        watcher.feed(data[:length])
        watcher.end()
        if watcher.complete and first is None:
            first = length
        assert first is None or watcher.complete or watcher.failure, length
    return first
