"""
What monitors are told: that the process lives, whether it can answer, how accounts fare.

Pure: pools in, a status and a body out. It must never know HTTP, a route or a provider.
What everybody may read holds no name; what names accounts is for those with a key.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from aiclient2api import __version__
from aiclient2api.errors import InvalidRequest
from aiclient2api.interfaces import IAccountPool
from aiclient2api.observe.moments import moment
from aiclient2api.policy import AUTO
from aiclient2api.values import AccountReport, Standing, Tally
from aiclient2api.web.replies import to_json

THRESHOLD = 0.0001
"""The share of accounts that may be unhealthy before the summary says so."""

_RESET_FIELDS = ("accounts", "provider")
_SHOWN = 200
"""Characters of a caller's own words that an error repeats."""

Pools = Mapping[str, IAccountPool]
"""Configured provider name to its accounts."""


def liveness(*, provider: str | None, seconds: float) -> bytes:
    """
    Return the body of ``GET /health``.

    :param provider: The default provider's name; None for those without a key, too.
    :param seconds: Unix time.
    """
    return to_json({"status": "healthy", "timestamp": moment(seconds), "provider": provider})


def greeting(paths: Sequence[str], *, detail: bool) -> bytes:
    """
    Return the body of ``GET /``.

    :param detail: True if the caller has a key, and may be told the version.
    """
    version = {"version": __version__} if detail else {}
    return to_json({"name": "aiclient2api", **version, "endpoints": list(paths)})


def readiness(
    *,
    pools: Pools,
    defaults: Sequence[str],
    chain: Callable[[str], Sequence[str]],
    asked: str | None,
    detail: bool,
    draining: bool = False,
    shedding: bool = False,
) -> tuple[int, bytes]:
    """
    Answer ``GET /ready``: 200 if a request could be answered now, else 503.

    Without a question for one provider that is: if a default provider, or one that it
    falls back to, has a usable account; where there is no default, if any has. With one
    it is that provider's own accounts that count, whatever it falls back to.

    :param defaults: Empty in ``auto`` mode.
    :param chain: Returns the providers that a provider falls back to.
    :param asked: ``?provider=``; None or ``""`` if nobody asked for one.
    :param detail: True if the caller has a key, and may be told names.
    :param draining: True if the gateway is about to stop, whatever else holds.
    :param shedding: True if memory is short, so that nothing new is begun.
    :return: 404 if there is no such provider as *asked*.
    """
    if draining:
        return 503, to_json({"ready": False, "reason": "draining"})
    if asked and asked != AUTO and asked not in pools:
        told = f"There is no provider {asked[:_SHOWN]!r} here; {_configured(pools)}"
        return _ready(404, detail, told, {})
    names = [asked] if asked and asked != AUTO else _route(pools, defaults, chain, asked)
    usable = {name: name in pools and bool(pools[name].usable()) for name in names}
    if shedding:
        told = (
            "Memory is short (limits.memory_bytes): nothing new is begun until some of what is"
            " under way has ended."
        )
        return _ready(503, detail, told, usable)
    if any(usable.values()):
        return _ready(200, detail, None, usable)
    told = (
        f"No account of {', '.join(names) or 'any provider'} can be used now; "
        "GET /provider_health tells why, and until when."
    )
    return _ready(503, detail, told, usable)


def provider_health(
    *,
    pools: Pools,
    provider: str | None,
    name: str | None,
    threshold: str | None,
    now: float,
) -> bytes:
    """
    Return the body of ``GET /provider_health``: each account's state, reason and next change.

    Accounts that are disabled are listed, and not counted. Where nothing is left to
    count the summary is not a healthy one: nobody could answer.

    :param provider: ``?provider=``: list the accounts of this one only.
    :param name: ``?customName=``: list the accounts of this name only.
    :param threshold: ``?unhealthRatioThreshold=``, as it was sent.
    :param now: Unix time.
    :raise InvalidRequest: if there is no such provider, or the threshold is no number.
    """
    bearable = _share(threshold)
    chosen = _chosen(pools, provider)
    reports = [
        report
        for pool in chosen.values()
        for report in pool.report()
        if not name or report.account.name == name
    ]
    counted = [report for report in reports if not report.account.disabled]
    unhealthy = [report for report in counted if not report.standing.usable]
    ratio = len(unhealthy) / len(counted) if counted else 0.0
    return to_json(
        {
            "timestamp": moment(now),
            "items": [_item(report) for report in reports],
            "count": len(counted),
            "unhealthyCount": len(unhealthy),
            "unhealthyRatio": round(ratio, 2),
            "unhealthySummeryMessage": "\n".join(map(_identify, unhealthy)) or None,
            "summaryHealth": bool(counted) and ratio <= bearable,
        }
    )


def reset(*, pools: Pools, body: bytes) -> tuple[int, bytes]:
    """
    Do what ``POST /provider_health/reset`` asks for: let accounts be ready at once.

    :param body: ``{"provider": name, "accounts": [ids]}``, either of them optional:
        without ids, all accounts that are not disabled.
    :raise InvalidRequest: if it is no such thing; then nothing was reset.
    """
    provider, ids = _wanted(body)
    chosen = _chosen(pools, provider)
    found: dict[str, None] = {}
    for pool in chosen.values():
        mine = [account.id for account in pool.snapshot()] if ids is None else ids
        found.update(dict.fromkeys(pool.reset(ids=mine)))
    unknown = [id for id in dict.fromkeys(ids or ()) if id not in found]
    return 200, to_json({"reset": list(found), "unknown": unknown})


# --- readiness ----------------------------------------------------------------------


def _route(
    pools: Pools,
    defaults: Sequence[str],
    chain: Callable[[str], Sequence[str]],
    asked: str | None,
) -> Collection[str]:
    if asked == AUTO or not defaults:
        return list(pools)
    return dict.fromkeys(name for each in defaults for name in (each, *chain(each)))


def _ready(
    status: int, detail: bool, message: str | None, usable: Mapping[str, bool]
) -> tuple[int, bytes]:
    told: dict[str, Any] = {"ready": status == 200}
    if detail:
        if message is not None:
            told["message"] = message
        told["providers"] = dict(usable)
        told["empty"] = [name for name, good in usable.items() if not good]
    return status, to_json(told)


# --- accounts -----------------------------------------------------------------------


def _item(report: AccountReport) -> dict[str, Any]:
    account, standing = report.account, report.standing
    ill = bool(standing.reason)
    return {
        "uuid": account.id,
        "customName": account.name,
        "isHealthy": standing.usable and not account.disabled,
        "isDisabled": account.disabled,
        "lastErrorTime": moment(standing.since) if ill else None,
        "lastErrorMessage": (standing.message or standing.reason) if ill else None,
        "needsRefresh": standing.state == "refreshing",
        "identify": _identify(report),
        "provider": account.provider,
        **_standing(standing),
        "active": report.active,
        **_tally(report.tally),
        "models": {model: _standing(each) for model, each in report.models.items()},
    }


def _standing(standing: Standing) -> dict[str, Any]:
    return {
        "state": standing.state,
        "reason": standing.reason,
        "message": standing.message,
        "since": moment(standing.since),
        "until": moment(standing.until),
        "nextTry": moment(standing.next_try),
    }


def _tally(tally: Tally) -> dict[str, Any]:
    return {
        "requests": tally.requests,
        "failures": tally.failures,
        "tokens": {
            "input": tally.input,
            "output": tally.output,
            "cached": tally.cached,
            "cacheWrite": tally.cache_write,
            "reasoning": tally.reasoning,
        },
        "lastUsed": moment(tally.last_used),
    }


def _identify(report: AccountReport) -> str:
    account = report.account
    return f"{account.name or account.id}::{account.provider}"


# --- questions ----------------------------------------------------------------------


def _chosen(pools: Pools, provider: str | None) -> Pools:
    if not provider:
        return pools
    if provider not in pools:
        raise InvalidRequest(
            f"There is no provider {provider[:_SHOWN]!r} here; {_configured(pools)}",
            code="provider_not_available",
            param="provider",
        )
    return {provider: pools[provider]}


def _configured(names: Iterable[str]) -> str:
    return f"there are: {', '.join(sorted(names)) or 'none'}."


def _share(text: str | None) -> float:
    if not text:
        return THRESHOLD
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 <= share < math.inf:
        raise InvalidRequest(
            f"unhealthRatioThreshold is {text[:_SHOWN]!r}; write a share of the accounts from"
            " 0 to 1, such as 0.5.",
            code="invalid_value",
            param="unhealthRatioThreshold",
        )
    return share


def _wanted(body: bytes) -> tuple[str | None, Sequence[str] | None]:
    """Return the provider and the ids that are named, None each for all."""
    try:
        asked = json.loads(body) if body.strip() else {}
    except (ValueError, RecursionError):
        raise InvalidRequest(
            'The body is no JSON; send an object such as {"accounts": ["an account\'s uuid"]}.',
            code="invalid_json",
        ) from None
    if not isinstance(asked, dict):
        raise _no("The body", "an object", None)
    for field in asked:
        # A field that is misspelt must not mean that all accounts are reset.
        if field not in _RESET_FIELDS:
            raise InvalidRequest(
                f"{field[:_SHOWN]!r} is no field of this request; it has"
                f" {' and '.join(_RESET_FIELDS)}.",
                code="unknown_field",
                param=field[:_SHOWN],
            )
    provider, ids = asked.get("provider"), asked.get("accounts")
    if not (provider is None or isinstance(provider, str)):
        raise _no("provider", "the name of a provider", "provider")
    if ids is not None and not (isinstance(ids, list) and all(isinstance(x, str) for x in ids)):
        raise _no("accounts", "an array of uuids, as GET /provider_health tells them", "accounts")
    return provider, ids


def _no(what: str, right: str, param: str | None) -> InvalidRequest:
    return InvalidRequest(
        f"{what} is of the wrong type; send {right}.", code="invalid_type", param=param
    )
