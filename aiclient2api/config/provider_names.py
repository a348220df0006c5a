"""
Names of providers as they stand in rules: told apart from slips, and from patterns.

What a rule is about, a strategy or a fallback, is not known here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import attrs

from aiclient2api.config.accounts import Kind, base_of
from aiclient2api.config.files import Findings
from aiclient2api.config.pools import ProviderConfig, names_of_kinds, stranger


def is_pattern(name: str) -> bool:
    """Say whether *name* stands for several, such as ``openai-*``."""
    return "*" in name


def fits(pattern: str, name: str) -> bool:
    """Say whether *name* is one that *pattern* stands for; ``*`` is any text."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name, re.S) is not None


@attrs.frozen
class ProviderNames:
    """What the names in the rules of one configuration may be."""

    kinds: Sequence[Kind]
    providers: Mapping[str, ProviderConfig]
    findings: Findings

    def is_configured(self, name: str, where: str) -> bool:
        """Say whether there is a provider *name*; the user is told why not."""
        if name in self.providers:
            return True
        self._tell(name, where)
        return False

    def is_kind(self, name: str) -> bool:
        """Say whether *name* is a provider's or a kind's, configured or not."""
        return name in self.providers or base_of(name, self.kinds) is not None

    def check(self, name: str, where: str) -> None:
        """Tell the user if *name*, a kind of providers or a pattern, is no provider's."""
        if not is_pattern(name) and not self.all_of(name):
            self._tell(name, where)

    def known(self, names: Iterable[str], where: str) -> tuple[str, ...]:
        """Return the configured providers that *names*, of providers or kinds, stand for."""
        found: dict[str, None] = {}
        for name in names:
            self.check(name, where)
            found |= dict.fromkeys(self.all_of(name))
        return tuple(found)

    def all_of(self, name: str) -> list[str]:
        """Return the configured providers of that name, of that kind, or that it fits."""
        return [
            each.name
            for each in self.providers.values()
            if name in (each.name, each.base) or (is_pattern(name) and fits(name, each.name))
        ]

    def _tell(self, name: str, where: str) -> None:
        if base_of(name, self.kinds) is None:
            known = [*self.providers, *names_of_kinds(self.kinds)]
            self.findings.warn(f"{where}: {stranger(name, known)}")
        else:
            self.findings.warn(
                f"{where}: {name} is not configured, so that nothing comes of it;"
                " give it an account, or take it out here"
            )
