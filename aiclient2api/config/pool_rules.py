"""
The rules that the accounts of all providers follow, read from ``config.json``.

How one is chosen, how long it rests, how it is probed. It reads and checks them; what
they mean while running is for the pools to know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from aiclient2api.config import pool_keys as keys
from aiclient2api.config.files import Reading
from aiclient2api.config.key import Key, is_comment
from aiclient2api.config.provider_names import ProviderNames
from aiclient2api.config.values import Given, name_shown


@attrs.frozen
class AffinityLimits:
    """
    How long turns of one conversation stay on one account.

    :ivar ttl: Seconds since its last turn; 0 is off.
    :ivar size: Conversations remembered.
    """

    ttl: float = 3600.0
    size: int = 10_000


@attrs.frozen
class Rest:
    """
    How long an account rests after a 429 that does not say it, in seconds.

    :ivar first: The first time; it grows from there.
    :ivar jitter: Up to so many are added, at random.
    :ivar longest: Where it stops growing.
    """

    first: float = 5.0
    jitter: float = 0.0
    longest: float = 300.0


@attrs.frozen
class RetryBudget:
    """
    How many calls may be retries.

    :ivar share: Of all calls, 0 to 1.
    :ivar floor: So many are always allowed.
    """

    share: float = 0.2
    floor: int = 10


@attrs.frozen
class Probe:
    """
    Whether accounts are tried with a small request.

    :ivar mode: ``off``; ``passive``, only those that rest; or ``scheduled``, all.
    :ivar model: The model to ask, or None: whatever suits the provider.
    :ivar interval: Seconds from one scheduled probe of an account to its next.
    :ivar jitter: Up to so many are added, at random.
    :ivar providers: The configured names of those probed on schedule; None: all.
    :ivar at_start: True if a round is due as soon as the gateway runs.
    """

    mode: str = "off"
    model: str | None = None
    interval: float = 600.0
    jitter: float = 60.0
    providers: tuple[str, ...] | None = None
    at_start: bool = False


def selection(reading: Reading, names: ProviderNames) -> Mapping[str, str]:
    """Return strategies by provider, kind or pattern, in the order of the file."""
    given = reading.given(keys.SELECTION)
    read = reading.take(keys.SELECTION)
    if given is None or not isinstance(read, Mapping):
        return {"*": str(read)}
    found = {}
    for name, value in read.items():
        if is_comment(name) or value is None:
            continue
        item = Given(f"{given.where}.{name_shown(name)}", value, given.place)
        names.check(name, item.where)
        found[name] = reading.read(item, keys.STRATEGY, keys.STRATEGY.default)
    return found


def affinity(reading: Reading) -> AffinityLimits:
    """Return how long conversations stay."""
    part = _part(reading, keys.AFFINITY, keys.AFFINITY_KEYS)
    if part is None:
        return AffinityLimits() if reading.take(keys.AFFINITY) else AffinityLimits(ttl=0.0)
    return AffinityLimits(**{key.name: part.take(key) for key in keys.AFFINITY_KEYS})


def retry_budget(reading: Reading) -> RetryBudget | None:
    """Return the budget, None if retries are not limited."""
    part = _part(reading, keys.RETRY_BUDGET, keys.BUDGET_KEYS)
    if part is None:
        return RetryBudget() if reading.take(keys.RETRY_BUDGET) else None
    return RetryBudget(**{key.name: part.take(key) for key in keys.BUDGET_KEYS})


def renew_early(reading: Reading) -> float | None:
    """Return how many seconds before its expiry a token is renewed, None if by no timer."""
    minutes = reading.take(keys.CRON_NEAR_MINUTES)
    return minutes * 60.0 if reading.take(keys.CRON_REFRESH_TOKEN) else None


def rest(reading: Reading) -> Rest:
    """Return how long a limited account rests; the Node version's switch changes how long."""
    enabled = reading.take(keys.COOLDOWN_ENABLED)
    usual = Rest(first=30.0, jitter=5.0, longest=300.0) if enabled else Rest()
    first = _seconds(reading, keys.COOLDOWN_MS, usual.first)
    jitter = _seconds(reading, keys.COOLDOWN_JITTER_MS, usual.jitter)
    longest = _seconds(reading, keys.COOLDOWN_MAX_MS, usual.longest)
    if enabled is False:
        given = reading.given(keys.COOLDOWN_ENABLED)
        reading.findings.warn(
            f"{given.where if given else ''}: is false, but an account always rests after a 429,"
            f" at first for {usual.first:g} s; write true to set how long"
        )
        return usual
    if first > longest:
        given = reading.given(keys.COOLDOWN_MS) or reading.given(keys.COOLDOWN_MAX_MS)
        reading.findings.warn(
            f"{given.where if given else ''}: the first rest of {first:g} s is longer than the"
            f" longest; {longest:g} s it is"
        )
        first = longest
    return Rest(first, jitter, longest)


def probe(reading: Reading, names: ProviderNames) -> Probe:
    """Return how accounts are probed: as ``probe`` says, else as the Node version's key does."""
    scheduled = _scheduled(reading, names)
    given = reading.given(keys.PROBE)
    if given is None:
        return scheduled
    if scheduled.mode != "off":
        reading.findings.warn(f"scheduled_health_check: is not used, because {given.where} is set")
    part = _part(reading, keys.PROBE, keys.PROBE_KEYS)
    if part is None:
        return Probe(mode=str(reading.take(keys.PROBE)))
    if part.given(keys.PROBE_MODE) is None:
        reading.findings.warn(f"{given.where}: has no mode, so that nothing is probed; write one")
    interval, jitter = part.take(keys.PROBE_INTERVAL), part.take(keys.PROBE_JITTER)
    return Probe(
        mode=part.take(keys.PROBE_MODE),
        model=part.take(keys.PROBE_MODEL) or None,
        interval=interval,
        jitter=interval / 10 if jitter is None else jitter,
    )


def _scheduled(reading: Reading, names: ProviderNames) -> Probe:
    """Read ``SCHEDULED_HEALTH_CHECK`` and the two flags for parts of it."""
    given = reading.given(keys.SCHEDULED)
    reading.take(keys.SCHEDULED)
    values = given.value if given and isinstance(given.value, dict) else {}
    where = given.where if given else keys.SCHEDULED.name
    place = given.place if given else reading.documents[-1].place
    part = reading.part(Given(where, values, place), keys.SCHEDULED_KEYS)
    enabled, interval = part.take(keys.CHECK_ENABLED), part.take(keys.CHECK_INTERVAL)
    listed = part.take(keys.CHECK_PROVIDER_TYPES)
    types = names.known(listed, f"{where}.providerTypes")
    at_start = part.take(keys.CHECK_STARTUP_RUN)
    flag, every = reading.take(keys.SCHEDULED_ENABLED), reading.take(keys.SCHEDULED_INTERVAL)
    enabled = enabled if flag is None else flag
    seconds = (interval if every is None else every) / 1000
    if not enabled:
        return Probe()
    least = 10.0
    if seconds < least:
        reading.findings.warn(f"{where}: its interval is {seconds:g} s; {least:g} s it is")
        seconds = least
    if not types:
        reading.findings.warn(
            f"{where}: is enabled, but has no providerTypes that are configured, so that nothing"
            " is checked on schedule; list the providers to check"
        )
    return Probe("scheduled", None, seconds, seconds / 10, types, at_start)


def _seconds(reading: Reading, key: Key[int | None], default: float) -> float:
    value = reading.take(key)
    return default if value is None else value / 1000


def _part(reading: Reading, key: Key[Any], known: Sequence[Key[Any]]) -> Reading | None:
    """Return a reading of the object under *key*; None if there is none."""
    given = reading.given(key)
    if given is None or not isinstance(given.value, dict):
        return None
    return reading.part(given, known)
