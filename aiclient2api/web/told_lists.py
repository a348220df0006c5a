"""
What the accounts of one provider told of their models, and what follows for all of them.

Nothing is asked here: it is told, and says what that makes of a pool where most accounts
have never told anything. It must never know a clock or a store, only times and bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any

import attrs
import msgspec

from aiclient2api.values import Account, ModelInfo

Upstream = Hashable
"""Where an account's requests go, whatever its credential."""

_WINDOW_KEYS = ("context_length", "context_window", "max_model_len", "max_context_length")
"""What upstreams of OpenAI's dialect call it; OpenAI itself does not tell."""


class _Record(msgspec.Struct, frozen=True, array_like=True, tag="1"):
    """A list as it is kept. The tag is the form's version."""

    at: float
    upstream: str
    models: list[ModelInfo]


_encode: Callable[[_Record], bytes] = msgspec.msgpack.encode
_decode = msgspec.msgpack.Decoder(_Record).decode


@attrs.frozen
class Told:
    """
    What one account told.

    :ivar settings: Those it was asked with; None if they are not known any more.
    :ivar at: Clock seconds.
    """

    id: str
    upstream: Upstream
    settings: Any
    models: Sequence[ModelInfo]
    at: float


class ToldLists:
    """
    The last good list of each account that told one.

    :param margin: Seconds by which a word may be older than what others tell of the same
        upstream. One that is older still counts for nothing: nobody asked for it again.
    """

    def __init__(self, margin: float) -> None:
        self._margin = margin
        self._told: dict[str, Told] = {}

    def tell(self, account: Account, models: Sequence[ModelInfo], at: float) -> None:
        """Note what *account* told."""
        self._told[account.id] = Told(
            account.id, upstream_of(account), account.settings, tuple(models), at
        )

    def own(self, account: Account) -> Told | None:
        """Return what *account* told as it is configured now."""
        told = self._told.get(account.id)
        return told if told is not None and same(told.settings, account.settings) else None

    def newest(self) -> Mapping[Upstream, Told]:
        """Return what was told last of each upstream."""
        newest: dict[Upstream, Told] = {}
        for told in self._told.values():
            before = newest.get(told.upstream)
            if before is None or before.at < told.at:
                newest[told.upstream] = told
        return newest

    def union(
        self, accounts: Iterable[Account], known: Sequence[ModelInfo], *, besides: bool
    ) -> dict[str, ModelInfo]:
        """
        Return what *accounts* serve, by model id, in their order.

        One that told nothing, or nothing lately, serves what others tell of its upstream.

        :param known: What there is without asking: where nothing was told of an upstream,
            or in any case, if *besides*.
        """
        newest = self.newest()
        union: dict[str, ModelInfo] = {}
        # Thousands of accounts say the same: each thing is added once.
        alike: set[tuple[Upstream, tuple[str, ...]]] = set()
        said: set[tuple[int, tuple[str, ...]]] = set()

        def add(models: Sequence[ModelInfo], without: tuple[str, ...]) -> None:
            if (id(models), without) not in said:
                said.add((id(models), without))
                for model in models:
                    if model.id not in without:
                        union.setdefault(model.id, model)

        for account in accounts:
            if account.supported:
                if (0, account.supported) not in said:
                    said.add((0, account.supported))
                    for model in account.supported:
                        union.setdefault(model, ModelInfo(id=model, owned_by=account.provider))
                continue
            upstream, told = upstream_of(account), self.own(account)
            if told is None:
                if (upstream, account.unsupported) in alike:
                    continue
                alike.add((upstream, account.unsupported))
            last = newest.get(upstream)
            if told is None or (last is not None and last.at - told.at > self._margin):
                told = last
            if told is None or besides:
                add(known, account.unsupported)
            if told is not None:
                add(told.models, account.unsupported)
        return union

    def window(self, model: str) -> int | None:
        """Return what was told last of the tokens that the context of *model* may have."""
        for told in sorted(self._told.values(), key=lambda told: told.at, reverse=True):
            for listed in told.models:
                if listed.id == model and (size := _window(listed)) is not None:
                    return size
        return None

    def keep(self, accounts: Sequence[Account]) -> None:
        """Forget what was told of upstreams that none of *accounts* has."""
        own = {told.id: told for told in map(self.own, accounts) if told is not None}
        spoken_for = {told.upstream for told in own.values()}
        there = {upstream_of(account) for account in accounts}
        for upstream, told in self.newest().items():
            # Whoever told it is gone, and others at the same place have not been asked.
            if upstream in there and upstream not in spoken_for:
                own[told.id] = told
        self._told = own

    def restore(
        self, found: Mapping[str, bytes], accounts: Sequence[Account], *, at: float, now: float
    ) -> None:
        """
        Take back what was `packed`, of upstreams that are still there.

        What was told in the meantime counts more.

        :param found: By account id.
        :param at: What the clock shows *now*, which is in Unix seconds.
        """
        by_id = {account.id: account for account in accounts}
        upstreams = {_digest(upstream): upstream for upstream in map(upstream_of, accounts)}
        for id, value in found.items():
            record = _read(value)
            upstream = None if record is None else upstreams.get(record.upstream)
            if record is None or upstream is None or id in self._told:
                continue
            account = by_id.get(id)
            mine = account is not None and upstream_of(account) == upstream
            settings = account.settings if account is not None and mine else None
            age = max(0.0, now - record.at)
            self._told[id] = Told(id, upstream, settings, record.models, at - age)


def upstream_of(account: Account) -> Upstream:
    """Return what is alike of accounts that are served by the same upstream."""
    settings = account.settings
    return _address_of(settings.__class__)(settings)


def same(one: Any, other: Any) -> bool:
    """Say whether two settings are equal; soon, if they are one."""
    return one is other or bool(one == other)


def packed(account: Account, models: Sequence[ModelInfo], at: float) -> bytes | None:
    """
    Return what is to be kept of a list; None if it has no such form.

    :param at: When it was told, in Unix seconds.
    """
    try:
        return _encode(_Record(at, _digest(upstream_of(account)), list(models)))
    except (TypeError, ValueError, OverflowError, RecursionError):
        # JSON may hold what msgpack cannot, such as numbers of any length.
        return None


def _read(value: bytes) -> _Record | None:
    try:
        return _decode(value)
    except msgspec.DecodeError:
        return None


def _digest(upstream: Upstream) -> str:
    # A URL may hold a password, and what is kept must not.
    return hashlib.sha256(repr(upstream).encode("utf-8", "replace")).hexdigest()[:16]


@lru_cache(maxsize=64)
def _address_of(kind: type) -> Callable[[Any], Upstream]:
    fields = attrs.fields(kind) if attrs.has(kind) else ()
    names = [each.name for each in fields if each.metadata.get("kind") == "url"]
    return attrgetter(*names) if names else _nowhere


def _nowhere(settings: Any) -> Upstream:
    return ()


def _window(model: ModelInfo) -> int | None:
    raw = model.raw or {}
    for size in (model.input_limit, *(raw.get(key) for key in _WINDOW_KEYS)):
        if isinstance(size, int) and not isinstance(size, bool) and size > 0:
            return size
    return None
