"""
Which providers are configured, and with which accounts.

Reads the providers' part of ``config.json`` and the whole of ``provider_pools.json``.
It knows no provider by name, and it makes none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import attrs

from aiclient2api.config import keys
from aiclient2api.config.accounts import Draft, Inheritance, Kind, base_of, keys_of
from aiclient2api.config.files import Document, Findings, Reading
from aiclient2api.config.key import Key, by_fold, is_comment, nearest
from aiclient2api.config.values import Place, name_shown, show
from aiclient2api.values import Account

T = TypeVar("T")

_FOR_ONE = (keys.REQUEST_MAX_RETRIES, keys.REQUEST_BASE_DELAY, keys.TIMEOUTS)
"""Keys of ``config.json`` that an account may have for itself alone."""

_OWN_CLOCKS = frozenset({"response_headers", "first_event", "idle"})
"""Clocks that run for one account; the others run for a connection, a client, an exchange."""

_CLOCKS = by_fold(keys.TIMEOUT_KEYS)


@attrs.frozen
class ProviderConfig:
    """
    One configured provider.

    :ivar name: Its configured name, such as ``openai-custom-b``.
    :ivar base: The kind of provider it is, such as ``openai-custom``.
    :ivar accounts: In the order of the file, with those that are disabled.
    :ivar reason: Why it cannot be used, or None. Safe to show to a caller.
    :ivar unusable: How many accounts of the file are not in *accounts*.
    """

    name: str
    base: str
    accounts: tuple[Account, ...] = attrs.field(repr=False)
    reason: str | None
    unusable: int = 0


@attrs.define
class ProviderReader:
    """
    Works out the providers of one configuration.

    :ivar shared: ``config.json`` and the flags: what every account inherits.
    """

    kinds: Sequence[Kind]
    shared: Reading
    findings: Findings

    def read(
        self, *, pools: Mapping[str, Any], label: str, place: Place, named: Sequence[str]
    ) -> dict[str, ProviderConfig]:
        """
        Return every configured provider by name, in the order of `kinds`.

        :param pools: What ``provider_pools.json`` holds.
        :param label: That file's name.
        :param place: Where its relative paths begin.
        :param named: The names in ``model_provider`` that can be used.
        """
        for key in keys_of(self.kinds):
            self.shared.take(key)
        entries: dict[str, list[Document]] = {}
        for name, listed in pools.items():
            if is_comment(name) or not self.can_be(name, label):
                continue
            entries[name] = self._entries(f"{label}: {name}", listed, place)
        names = dict.fromkeys((*entries, *named))
        found: dict[str, ProviderConfig] = {}
        for kind in self.kinds:
            ours = [name for name in names if base_of(name, self.kinds) is kind]
            if kind.name not in ours and self._configured(kind):
                ours.append(kind.name)
            for name in sorted(ours, key=lambda name: name != kind.name):
                found[name] = self._provider(kind, name, entries.get(name, []))
        return found

    def can_be(self, name: str, where: str) -> bool:
        """Say whether *name* can name a provider; the user is told why not."""
        if base_of(name, self.kinds) is None:
            self.findings.warn(f"{where}: {stranger(name, names_of_kinds(self.kinds))}")
            return False
        # The name stands in paths, in a header and before a model's name.
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,100}", name):
            self.findings.fault(
                f"{where}: {name_shown(name)} cannot be a provider's name;"
                " write letters, digits, dots and dashes"
            )
            return False
        return True

    def _entries(self, where: str, listed: Any, place: Place) -> list[Document]:
        if listed is None:
            return []
        if not isinstance(listed, list):
            self.findings.fault(f"{where}: is {show(listed)}; write a list of accounts in brackets")
            return []
        documents = []
        for at, entry in enumerate(listed):
            if isinstance(entry, dict):
                documents.append(Document(f"{where}[{at}].", place, entry))
            else:
                self.findings.fault(f"{where}[{at}]: is {show(entry)}; write an account in braces")
        return documents

    def _configured(self, kind: Kind) -> bool:
        """Say whether the shared keys alone make *kind* a configured provider."""
        draft = Inheritance.of(kind, kind.name, self.shared).draft(None)
        return kind.free or bool(draft.secrets or draft.files) or (kind.built and draft.local)

    def _provider(self, kind: Kind, name: str, entries: list[Document]) -> ProviderConfig:
        known = by_fold([*keys.ACCOUNT_KEYS, *_FOR_ONE, *(field.key for field in kind.fields)])
        pool = _Pool(
            kind=kind,
            name=name,
            inherited=Inheritance.of(kind, name, self.shared),
            known=known,
            every=by_fold([*keys.KEYS, *keys_of(self.kinds)]) | known,
            fields=frozenset(field.key.name for field in kind.fields),
            proxy=self._shared_proxy(kind, name),
            findings=self.findings,
        )
        if entries:
            for entry in entries:
                pool.add(entry)
        else:
            pool.imply()
        reason = pool.reason()
        if reason is not None:
            self.findings.warn(f"{name}: cannot be used: {reason}")
        return ProviderConfig(name, kind.name, tuple(pool.accounts.values()), reason, pool.unusable)

    def _shared_proxy(self, kind: Kind, name: str) -> str | None:
        only = self.shared.take(keys.PROXY_ENABLED_PROVIDERS)
        if only is not None and not {name, kind.name} & set(only):
            return None
        return self.shared.take(keys.PROXY_URL) or None


def stranger(name: str, known: Sequence[str]) -> str:
    """Return the end of a sentence about a provider nobody knows."""
    meant = nearest(name, known)
    hint = f'; did you mean "{meant}"?' if meant else ""
    return f"{name_shown(name)} is no known provider{hint}"


def names_of_kinds(kinds: Sequence[Kind]) -> list[str]:
    """Return the base names there are."""
    return [kind.name for kind in kinds]


@attrs.define
class _Pool:
    """
    The accounts of one provider while they are gathered.

    :ivar known: The keys an account may have.
    :ivar every: These, and those that only config.json or another provider may have.
    :ivar fields: The names of the provider's own settings.
    :ivar accounts: By id.
    :ivar firsts: Where the account of an id stands.
    :ivar unfit: Why accounts that are enabled cannot be used.
    """

    kind: Kind
    name: str
    inherited: Inheritance
    known: Mapping[str, Key[Any]]
    every: Mapping[str, Key[Any]]
    fields: frozenset[str]
    proxy: str | None = attrs.field(repr=False)
    findings: Findings
    accounts: dict[str, Account] = attrs.field(factory=dict)
    firsts: dict[str, str] = attrs.field(factory=dict)
    unfit: dict[str, None] = attrs.field(factory=dict)
    unusable: int = 0

    def imply(self) -> None:
        """Add the one account that the shared keys make."""
        draft = self.inherited.draft(None)
        self._tell(draft)
        reason = _unfit(draft)
        if reason is None:
            account = self._account(draft, {}, draft.identity)
            self.accounts[account.id] = account
        else:
            self.unfit[reason] = None

    def add(self, entry: Document) -> None:
        """Add an account of the pools file, if it can be used or is disabled."""
        told = self._read(entry)
        draft = self.inherited.draft(entry)
        where = entry.prefix.rstrip(".")
        if not told.get(keys.IS_DISABLED.name):
            self._tell(draft)
            reason = _unfit(draft)
            if reason is not None:
                self._leave_out(where, draft, reason)
                return
        if not self.kind.built:
            self.unusable += 1
            return
        named = told.get(keys.UUID.name, "").strip()
        identity = named or draft.identity
        first = self.firsts.setdefault(identity, where)
        if first != where:
            self.unusable += 1
            self.findings.warn(
                f"{where}.uuid: {first} has it already; this account is left out: give each its own"
                if named
                else f"{where}: is the same account as {first} and left out; give each its own"
                " uuid if it is not",
                f"{self.name}: twice",
            )
            return
        self.accounts[identity] = self._account(draft, told, identity)

    def reason(self) -> str | None:
        """Return why none of the accounts can be used, or None."""
        if any(not account.disabled for account in self.accounts.values()):
            return None
        reasons = list(self.unfit)
        if not reasons:
            return "all its accounts are disabled"
        return reasons[0] if len(reasons) == 1 else f"no account of it can be: {reasons[0]}"

    def _leave_out(self, where: str, draft: Draft, reason: str) -> None:
        self.unusable += 1
        self.unfit[reason] = None
        if self.kind.built and not draft.missing_told:
            self.findings.warn(
                f"{where}: cannot be used: {reason}; it is left out", f"{self.name}: unfit {reason}"
            )

    def _tell(self, draft: Draft) -> None:
        for oddity, sort in draft.oddities():
            self.findings.warn(oddity, sort)

    def _read(self, entry: Document) -> Mapping[str, Any]:
        """Return what an account says of itself by the keys' names, but for its provider's."""
        own = Reading((entry,), self.findings)
        told: dict[str, Any] = {}
        for key in entry.present(self.every, self.findings):
            if key.name in self.fields:
                continue
            if key is keys.TIMEOUTS:
                told[key.name] = self._clocks(own)
                continue
            if key.folds[0] in self.known:
                told[key.name] = own.take(key)
                continue
            given = own.given(key)
            if given is not None and self.kind.built:
                self.findings.warn(
                    f"{given.where}: has no effect in an account of {self.kind.name}"
                )
        return told

    def _clocks(self, own: Reading) -> Mapping[str, float]:
        """Return the clocks of an account; the user is told which of them are for all."""
        given = own.given(keys.TIMEOUTS)
        if given is None:
            return {}
        values = own.read(given, keys.TIMEOUTS, keys.TIMEOUTS.default)
        document = Document(f"{given.where}.", given.place, values)
        clocks = Reading((document,), self.findings)
        found: dict[str, float] = {}
        for key in document.present(_CLOCKS, self.findings):
            clock = clocks.given(key)
            if clock is None:
                continue
            if key.name in _OWN_CLOCKS:
                found[key.name] = clocks.read(clock, key, key.default)
            elif self.kind.built:
                self.findings.warn(
                    f"{clock.where}: has no effect in an account; write it in config.json, for all"
                )
        return found

    def _account(self, draft: Draft, told: Mapping[str, Any], identity: str) -> Account:
        def say(key: Key[T]) -> T:
            value: T = told.get(key.name, key.default)
            return value

        factory = self.kind.factory
        assert factory is not None, "an account of a provider that is not built"
        return Account(
            provider=self.name,
            id=identity,
            settings=factory.settings(**draft.values),
            name=say(keys.CUSTOM_NAME) or None,
            proxy=say(keys.PROXY_URL) or self.proxy,
            supported=say(keys.SUPPORTED_MODELS),
            unsupported=say(keys.NOT_SUPPORTED_MODELS),
            secrets=draft.secrets,
            priority=say(keys.PRIORITY),
            weight=say(keys.WEIGHT),
            concurrency=say(keys.CONCURRENCY_LIMIT),
            queue=say(keys.QUEUE_LIMIT),
            disabled=say(keys.IS_DISABLED),
            ill=not say(keys.IS_HEALTHY),
            check_health=say(keys.CHECK_HEALTH),
            check_model=say(keys.CHECK_MODEL_NAME) or None,
            patience=_patience(told),
        )


def _patience(told: Mapping[str, Any]) -> Mapping[str, float]:
    """Return what an account says of retries and clocks, as `Account.patience` names it."""
    found: dict[str, float] = dict(told.get(keys.TIMEOUTS.name, ()))
    if keys.REQUEST_MAX_RETRIES.name in told:
        found["max_retries"] = told[keys.REQUEST_MAX_RETRIES.name]
    if keys.REQUEST_BASE_DELAY.name in told:
        found["base_delay"] = told[keys.REQUEST_BASE_DELAY.name] / 1000
    return found


def _unfit(draft: Draft) -> str | None:
    """Return why an account cannot be used, or None."""
    kind = draft.kind
    if not kind.built:
        return "it is not built yet"
    if draft.missing is not None:
        return f"the file of {draft.missing} is missing"
    if kind.free or not kind.credentials or draft.secrets or draft.files or draft.local:
        return None
    return f"no {' or '.join(kind.credentials)}"
