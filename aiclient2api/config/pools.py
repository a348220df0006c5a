"""
Which providers are configured, and with which accounts.

Reads the providers' part of ``config.json`` and the whole of ``provider_pools.json``.
It knows no provider by name, and it makes none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from aiclient2api.config import keys
from aiclient2api.config.accounts import Draft, Kind, base_of, keys_of
from aiclient2api.config.files import Document, Findings, Reading
from aiclient2api.config.keys import nearest
from aiclient2api.config.values import Place, name_shown, show
from aiclient2api.values import Account


@attrs.frozen
class ProviderConfig:
    """
    One configured provider.

    :ivar name: Its configured name, such as ``openai-custom-b``.
    :ivar base: The kind of provider it is, such as ``openai-custom``.
    :ivar accounts: Empty if it cannot be used.
    :ivar reason: Why it cannot be used, or None. Safe to show to a caller.
    """

    name: str
    base: str
    accounts: tuple[Account, ...] = attrs.field(repr=False)
    reason: str | None


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
            if keys.is_comment(name) or not self.can_be(name, label):
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
            meant = nearest(name, [kind.name for kind in self.kinds])
            hint = f'; did you mean "{meant}"?' if meant else ""
            self.findings.warn(f"{where}: {name_shown(name)} is no known provider{hint}")
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
        draft = Draft.of(kind, kind.name, None, self.shared)
        return kind.free or bool(draft.secrets or draft.files) or (kind.built and draft.local)

    def _provider(self, kind: Kind, name: str, entries: list[Document]) -> ProviderConfig:
        entry = self._choose(kind, name, entries)
        draft = Draft.of(kind, name, entry, self.shared)
        if entries and entry is None:
            reason: str | None = "all its accounts are disabled"
        else:
            for oddity in draft.oddities():
                self.findings.warn(oddity)
            reason = _unfit(draft)
        if reason is not None:
            self.findings.warn(f"{name}: cannot be used: {reason}")
            return ProviderConfig(name, kind.name, (), reason)
        return ProviderConfig(name, kind.name, (self._account(draft, entry),), None)

    def _choose(self, kind: Kind, name: str, entries: list[Document]) -> Document | None:
        """Check every account and return the first that is enabled."""
        enabled = []
        uuids: set[str] = set()
        for document in entries:
            entry = Reading((document,), self.findings)
            self._check(kind, document, entry)
            if not entry.take(keys.IS_DISABLED):
                enabled.append(document)
            uuid = entry.take(keys.UUID)
            if uuid and uuid in uuids:
                self.findings.warn(
                    f"{document.prefix}uuid: another account of {name} has it; give each its own"
                )
            uuids.add(uuid)
        if len(enabled) > 1:
            self.findings.warn(
                f"{name}: has {len(enabled)} enabled accounts, but only the first is used yet"
            )
        return enabled[0] if enabled else None

    def _check(self, kind: Kind, document: Document, entry: Reading) -> None:
        """Note everything wrong with one account of the pools file."""
        known = [*keys.ACCOUNT_KEYS, *(field.key for field in kind.fields)]
        names = set(keys.names_of(known))
        elsewhere = [key for key in (*keys.KEYS, *keys_of(self.kinds)) if key.name not in names]
        document.strangers([*known, *elsewhere], self.findings)
        for key in known:
            entry.take(key)
        entry.check_later(keys.ACCOUNT_LATER)
        for key in elsewhere if kind.built else ():
            given = entry.given(key)
            if given is not None:
                self.findings.warn(f"{given.where}: has no effect in an account of {kind.name}")

    def _account(self, draft: Draft, entry: Document | None) -> Account:
        own = Reading((entry,) if entry else (), self.findings)
        factory = draft.kind.factory
        assert factory is not None, "an account of a provider that is not built"
        return Account(
            provider=draft.name,
            id=own.take(keys.UUID).strip() or draft.identity,
            settings=factory.settings(**draft.values),
            name=own.take(keys.CUSTOM_NAME) or None,
            proxy=own.take(keys.PROXY_URL) or self._shared_proxy(draft),
            supported=own.take(keys.SUPPORTED_MODELS),
            unsupported=own.take(keys.NOT_SUPPORTED_MODELS),
            secrets=draft.secrets,
        )

    def _shared_proxy(self, draft: Draft) -> str | None:
        only = self.shared.take(keys.PROXY_ENABLED_PROVIDERS)
        if only is not None and not {draft.name, draft.kind.name} & set(only):
            return None
        return self.shared.take(keys.PROXY_URL) or None


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
