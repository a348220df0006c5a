"""
Who answers in another's place: fallbacks of providers and of models, as configured.

It reads and checks them; when one is taken, and what must fit, is for the policy to know.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aiclient2api.config import pool_keys as keys
from aiclient2api.config.files import Reading
from aiclient2api.config.key import Key, is_comment
from aiclient2api.config.provider_names import ProviderNames
from aiclient2api.config.values import Given, name_shown

Chains = tuple[tuple[str, tuple[str, ...]], ...]
Targets = tuple[tuple[str, tuple[tuple[str | None, str], ...]], ...]


def provider_chains(reading: Reading, names: ProviderNames) -> Chains:
    """
    Return ``(provider, kind or pattern, (provider, ...))``, in the order of the file.

    A chain of which nothing can be used stays, and is empty: a wider pattern below it
    was not meant.
    """
    found = []
    for name, item in _items(reading, keys.PROVIDER_FALLBACK_CHAIN):
        names.check(name, item.where)
        chain = []
        for target in reading.read(item, keys.CHAIN, ()):
            if target == name:
                reading.findings.warn(f"{item.where}: falls back to itself; take it out there")
            elif names.is_configured(target, item.where):
                chain.append(target)
        found.append((name, tuple(chain)))
    return tuple(found)


def model_targets(reading: Reading, names: ProviderNames) -> Targets:
    """
    Return ``(model or pattern, ((provider or None, model), ...))``, in the order of the file.

    None is the provider that was asked.
    """
    found = []
    for model, item in _items(reading, keys.MODEL_FALLBACK_MAPPING):
        targets = tuple(
            target for one in item.items() for target in _target(model, one, reading, names)
        )
        found.append((model, targets))
    return tuple(found)


def _items(reading: Reading, key: Key[Any]) -> Iterator[tuple[str, Given]]:
    given = reading.given(key)
    reading.take(key)
    if given is None or not isinstance(given.value, dict):
        return
    for name, value in given.value.items():
        if not is_comment(name) and value is not None:
            yield name, Given(f"{given.where}.{name_shown(name)}", value, given.place)


def _target(
    model: str, given: Given, reading: Reading, names: ProviderNames
) -> Iterator[tuple[str | None, str]]:
    part = reading.part(given, keys.TARGET_KEYS)
    provider = part.take(keys.TARGET_PROVIDER)
    written, target = part.given(keys.TARGET_MODEL), part.take(keys.TARGET_MODEL).strip()
    if not target:
        if isinstance(given.value, dict) and (written is None or isinstance(written.value, str)):
            reading.findings.fault(
                f"{given.where}: has no targetModel; write which model answers in its place"
            )
        return
    if provider and not names.is_configured(provider, given.where):
        return
    if not provider and target == model:
        reading.findings.warn(f"{given.where}: falls back to itself; take it out there")
        return
    yield provider or None, target
