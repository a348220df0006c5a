"""
Decide where else a request may go when its first choice cannot answer.

Pure: the operator's chains and mappings in, one list of targets out. It must never know
how anybody fares: whoever tries the targets finds out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import TypeVar

import attrs

from aiclient2api.policy import AUTO, Choice, Directory, split_prefix
from aiclient2api.policy import matches as matches
from aiclient2api.values import CustomModel, Sampling

CHAIN = "providerFallbackChain"
"""Why a target is one: its provider stands in another's chain."""

MAPPING = "modelFallbackMapping"
"""Why a target is one: its model stands in for another."""

_T = TypeVar("_T")


@attrs.frozen
class Fallbacks:
    """
    What the operator wants tried in whose stead, as it stands in the configuration.

    A key may be a pattern: each ``*`` in it stands for any text, also for none.

    :ivar chains: A configured provider, a base name that its grouped providers share, or
        a pattern; and the providers to be asked for the same model.
    :ivar models: A model or a pattern; and the models to be asked for instead, each with
        its provider, or None for the one asked before; see `targets`.
    """

    chains: tuple[tuple[str, tuple[str, ...]], ...] = ()
    models: tuple[tuple[str, tuple[tuple[str | None, str], ...]], ...] = ()

    def chain(self, provider: str, *, bases: Collection[str]) -> Sequence[str]:
        """
        Return the chain of *provider*: its own, else that of its base, else by pattern.

        :param bases: The base names there are: ``openai-custom`` covers
            ``openai-custom-b``, yet ``openai-custom-b`` covers no ``openai-custom-b-c``.
        """
        exact = _first(self.chains, lambda key: key == provider)
        if exact is not None:
            return exact
        based = _longest(self.chains, lambda key: key in bases and provider.startswith(f"{key}-"))
        if based is not None:
            return based
        return _longest(self.chains, lambda key: matches(key, provider)) or ()

    def mapped(self, names: Sequence[str]) -> Sequence[tuple[str | None, str]]:
        """
        Return what may stand in for a model: by its name, else by the longest pattern.

        :param names: What the model is called, the name that counts most first.
        """
        for name in names:
            exact = _first(self.models, lambda key, name=name: key == name)  # type: ignore[misc]
            if exact is not None:
                return exact
        return _longest(self.models, lambda key: any(matches(key, name) for name in names)) or ()


@attrs.frozen
class Target:
    """
    One place where a request may go.

    :ivar model: What that provider calls the model.
    :ivar why: The reason of the choice, for the first target; else `CHAIN` or `MAPPING`.
    :ivar sampling: What an operator's own model overrides, if it overrides anything.
    :ivar context: The context window the operator says it has, in tokens, or None.
    :ivar mapped: True if a model stands in for the one asked for, whoever answers.
    """

    provider: str
    model: str
    why: str
    sampling: Sampling | None = None
    context: int | None = None
    mapped: bool = False


def targets(choice: Choice, directory: Directory, fallbacks: Fallbacks) -> tuple[Target, ...]:
    """
    Return where a request may go, in the order in which to try.

    First the choice itself; then its provider's chain, with the same model; then each
    model that may stand in for it, followed by the chain of that model's provider. A
    stand-in has no stand-ins, a provider in a chain has no chain, nothing comes twice,
    and what cannot be used is left out. A stand-in without a provider is asked of the one
    that was chosen, unless that is known not to have it, and another is known to.
    """
    custom = choice.custom
    first = _target(choice.provider, choice.model, choice.reason, custom)
    if not fallbacks.chains and not fallbacks.models:
        return (first,)
    found = [first, *_chained(first, directory, fallbacks)]
    names = [choice.model] if custom is None else [custom.id, custom.alias, custom.model]
    for provider, model in fallbacks.mapped([name for name in names if name]):
        stand_in = _stand_in(provider, model, choice, directory)
        if stand_in is not None:
            found += [stand_in, *_chained(stand_in, directory, fallbacks)]
    return _once(found)


def chain_of(provider: str, *, directory: Directory, fallbacks: Fallbacks) -> Sequence[str]:
    """Return the providers that *provider* falls back to, of those that can be used."""
    chain = fallbacks.chain(provider, bases=directory.known)
    return [name for name in chain if _seated(name, directory)]


def wider(
    targets: Sequence[Target], at: int, window: Callable[[str, str], int | None]
) -> tuple[Target, ...]:
    """
    Return the targets to try after ``targets[at]`` said that the context is too long.

    These are stand-ins further down that are known to take more. Where a window is not
    known, nobody is tried: an answer that costs a try and fails again helps no one.

    :param window: Given provider and model, returns the tokens that its context may have.
    """

    def room(target: Target) -> int | None:
        if target.context is not None:
            return target.context
        return window(target.provider, target.model)

    short = room(targets[at])
    if short is None:
        return ()
    later = (target for target in targets[at + 1 :] if target.mapped)
    return tuple(target for target in later if (room(target) or 0) > short)


def _first(table: Iterable[tuple[str, _T]], fits: Callable[[str], bool]) -> _T | None:
    return next((value for key, value in table if fits(key)), None)


def _longest(table: Iterable[tuple[str, _T]], fits: Callable[[str], bool]) -> _T | None:
    fitting = ((key, value) for key, value in table if fits(key))
    return max(fitting, key=lambda pair: len(pair[0]), default=("", None))[1]


def _target(
    provider: str, model: str, why: str, custom: CustomModel | None, mapped: bool = False
) -> Target:
    if custom is None:
        return Target(provider, model, why, mapped=mapped)
    sampling = None if custom.sampling == Sampling() else custom.sampling
    return Target(provider, model, why, sampling, custom.context, mapped)


def _chained(target: Target, directory: Directory, fallbacks: Fallbacks) -> Iterator[Target]:
    for name in fallbacks.chain(target.provider, bases=directory.known):
        if _may_serve(name, target.model, directory):
            yield attrs.evolve(target, provider=name, why=CHAIN)


def _stand_in(
    provider: str | None, model: str, choice: Choice, directory: Directory
) -> Target | None:
    provider = None if provider == AUTO else provider
    custom = directory.custom_model(model, named=provider)
    if custom is not None:
        provider, model = custom.provider, custom.model
    elif provider is None:
        names = {**dict.fromkeys(directory.unavailable), **dict.fromkeys(directory.served)}
        prefix, model = split_prefix(model, names)
        provider = prefix or _serving(model, choice.provider, directory)
    if not _seated(provider, directory):
        return None
    return _target(provider, model, MAPPING, custom, mapped=True)


def _serving(model: str, asked: str, directory: Directory) -> str:
    """Return who was *asked* before, unless he is known not to have *model*, and another has."""
    if _may_serve(asked, model, directory):
        return asked
    others = (
        name
        for name, models in directory.served.items()
        if model in models and _seated(name, directory)
    )
    return next(others, asked)


def _may_serve(provider: str, model: str, directory: Directory) -> bool:
    if not _seated(provider, directory):
        return False
    served = directory.served[provider]
    return not served or model in served


def _seated(provider: str, directory: Directory) -> bool:
    return provider in directory.served and provider not in directory.unavailable


def _once(found: Iterable[Target]) -> tuple[Target, ...]:
    once: dict[tuple[str, str], Target] = {}
    for target in found:
        before = once.setdefault((target.provider, target.model), target)
        if target.mapped and not before.mapped:
            once[before.provider, before.model] = attrs.evolve(before, mapped=True)
    return tuple(once.values())
