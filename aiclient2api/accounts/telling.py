"""
What a pool says of itself: why an account was passed by, and why there is none.

Pure. Sentences and words for people; no secret, and nothing that a caller sent but the
model's name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from aiclient2api.accounts.account import Kind
from aiclient2api.accounts.lines import Member, serves
from aiclient2api.accounts.waiting import Wish
from aiclient2api.errors import NoAccount, ProviderUnavailable, UnknownModel
from aiclient2api.values import Standing

Counts = Mapping[tuple[str, str], int]
"""How many accounts are in which state, for which reason."""

TOLD = 16
"""Accounts that are told of one by one; of more it is said how many are in which state."""

_LIMITS = frozenset({Kind.RATE_LIMITED.value, Kind.OUT_OF_QUOTA.value})


def passed_by(members: Iterable[Member], counts: Counts, wish: Wish, now: float) -> None:
    """Note for *wish* which accounts it cannot have, and why."""
    if wish.note is None:
        return
    if sum(counts.values()) > TOLD:
        for (state, reason), count in sorted(counts.items()):
            if reason and count:
                wish.note("skipped", "", f"{count} accounts are {state} ({reason})")
        return
    for member in members:
        why = _why_not(member, wish, now)
        if why is not None:
            wish.note("skipped", member.account.id, why)


def _why_not(member: Member, wish: Wish, now: float) -> str | None:
    if not serves(member.account, wish.model):
        return "does not serve the model"
    if member.account.id in wish.exclude:
        return "was asked already"
    opens = member.opens_at(wish.model)
    if opens is not None and opens <= now:
        return f"has {member.active} requests at work" if member.busy else None
    for state, what in ((member.state, ""), (member.models.get(wish.model), "for the model ")):
        if state is None:
            continue
        opens = state.opens_at
        if opens is None or opens > now:
            return what + _told(state.standing(now), now)
    return None


def _told(standing: Standing, now: float) -> str:
    back = "" if standing.next_try is None else f", tried again in {standing.next_try - now:.0f} s"
    return f"{standing.state} ({standing.reason or 'by configuration'}){back}"


def none_free(name: str, counts: Counts, *, busy: bool, soonest: float | None) -> NoAccount:
    """
    Return the error for a request that nobody can take.

    :param counts: Those of the model that was asked for among them.
    :param busy: True if some have as much to do as they may.
    :param soonest: In how many seconds somebody returns, None if nobody knows.
    """
    resting = {key: count for key, count in counts.items() if count and key[1]}
    told = [f"{count} {state} ({reason})" for (state, reason), count in sorted(resting.items())]
    if busy:
        told.append("others have as much to do as they may")
    if soonest is not None or busy:
        # 0 means that it is being found out: nobody knows how long that takes.
        soonest = max(soonest or 0.0, 1.0)
    back = "" if soonest is None else f" The first may be back in {soonest:.0f} s."
    reasons = {reason for _, reason in resting}
    return NoAccount(
        f"No account of {name} can take this request now: "
        f"{', '.join(told) or 'each was asked already'}.{back}",
        code="no_account",
        limited=busy or (bool(reasons) and reasons <= _LIMITS),
        retry_after=soonest,
    )


def none_serves(
    name: str, model: str, served: Sequence[str] | None
) -> ProviderUnavailable | UnknownModel:
    """
    Return the error for a model that no account serves.

    :param served: The models that accounts say they serve; None if there is no account.
    """
    if served is None:
        return ProviderUnavailable(
            f"Provider {name} has no account; add one, or enable one.", code="no_account"
        )
    some = f"; it serves {', '.join(served[:20])}." if served else "."
    return UnknownModel(
        f"Provider {name} does not serve model {model!r}{some}",
        code="model_not_found",
        param="model",
    )
