"""
Decide which provider answers a request, and under which model name.

Pure: names in, a choice out. It must never know what a provider is, only what it
is called and which models it is known to serve.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import attrs

from aiclient2api.errors import InvalidRequest, ProviderUnavailable, UnknownModel
from aiclient2api.values import CustomModel

AUTO = "auto"
"""The pseudo provider that stands for "whichever serves the model"."""


@attrs.frozen
class Choice:
    """
    Where a request goes.

    :ivar provider: A configured provider's name.
    :ivar model: What that provider calls the model.
    :ivar reason: ``custom model``, ``model prefix``, ``path``, ``header``, ``model`` or
        ``default``.
    :ivar custom: The custom model that was asked for, if it was one: its sampling values
        are still to be applied.
    """

    provider: str
    model: str
    reason: str
    custom: CustomModel | None = None


@attrs.frozen
class Directory:
    """
    The providers there are.

    :ivar served: Configured name to the models it is known to serve (may be empty).
    :ivar unavailable: Configured or known name to why it cannot be used.
    :ivar speaks: Configured name to the name of its dialect.
    :ivar known: Every provider name this program has heard of.
    :ivar defaults: The default providers, the first one first; none where only
        prefixes decide.
    :ivar custom: The operator's own models; of two of one name the first one counts.
    """

    served: Mapping[str, Collection[str]]
    speaks: Mapping[str, str]
    unavailable: Mapping[str, str]
    known: Sequence[str]
    defaults: Sequence[str]
    custom: Sequence[CustomModel] = ()
    _called: Mapping[str, Sequence[CustomModel]] = attrs.field(init=False, repr=False, eq=False)

    @_called.default
    def _by_name(self) -> Mapping[str, Sequence[CustomModel]]:
        called: dict[str, list[CustomModel]] = {}
        for custom in self.custom:
            for name in dict.fromkeys((custom.id, custom.alias or custom.id)):
                called.setdefault(name, []).append(custom)
        return called

    @property
    def default(self) -> str | None:
        """The first default provider, or None."""
        return self.defaults[0] if self.defaults else None

    def speaking(self, dialect: str | None, names: Sequence[str]) -> Sequence[str]:
        """Return those of *names* that speak *dialect*."""
        return [name for name in names if self.speaks.get(name) == dialect]

    def is_provider(self, name: str) -> bool:
        """Say whether *name* can stand as a path prefix."""
        return name == AUTO or name in self.served or name in self.known

    def custom_model(self, model: str, *, named: str | None = None) -> CustomModel | None:
        """
        Return the custom model that *model* is the id or the alias of, or None.

        Either may stand behind a prefix that names the provider the custom model is
        listed under or the one that answers; a prefix counts more than *named*.

        :param named: The provider named elsewhere, if any. If it is neither of the two,
            then its own model of that name is meant.
        """
        for custom in self._called.get(model, ()):
            if named is None or named in (custom.owner, custom.provider):
                return custom
        prefix, colon, rest = model.partition(":")
        for custom in self._called.get(rest, ()) if colon else ():
            if prefix in (custom.owner, custom.provider):
                return custom
        return None

    def named(self, name: str, *, where: str) -> str:
        """
        Return *name* if it can be used.

        :param where: How the caller named it, for the message.
        :raise ProviderUnavailable: if it is known but cannot answer now.
        :raise InvalidRequest: if there is no such provider here.
        """
        if name in self.unavailable:
            raise ProviderUnavailable(
                f"Provider {name} ({where}) is not available: {self.unavailable[name]}",
                code="provider_unavailable",
            )
        if name in self.served:
            return name
        configured = ", ".join(sorted(self.served)) or "none"
        if name in self.known:
            detail = "has no credential in the configuration"
        else:
            detail = "does not exist"
        raise InvalidRequest(
            f"Provider {name!r} ({where}) {detail}. Configured: {configured}.",
            code="provider_not_available",
        )


def split_prefix(model: str, names: Mapping[str, object]) -> tuple[str | None, str]:
    """
    Split ``provider:model``; the prefix counts only if it is one of *names*.

    ``qwen2.5:7b`` survives unless a provider is called ``qwen2.5``.
    """
    prefix, colon, rest = model.partition(":")
    if colon and rest and prefix in names:
        return prefix, rest
    return None, model


def matches(pattern: str, name: str) -> bool:
    """Say whether *pattern* fits all of *name*; a name has no say in what that costs."""
    first, *rest = pattern.split("*")
    if not rest:
        return pattern == name
    if not name.startswith(first):
        return False
    at = len(first)
    *middle, last = rest
    for part in middle:
        found = name.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return len(name) - at >= len(last) and name.endswith(last)


def choose_provider(
    *,
    model: str,
    directory: Directory,
    dialect: str | None = None,
    path: str | None = None,
    header: str | None = None,
    strict: bool = True,
) -> Choice:
    """
    Choose by custom model, else model prefix, else path, else header, else the model's
    only provider, else the default.

    Where several providers serve the model, or several are the default, one that
    speaks the caller's own dialect is preferred: nothing need be converted then.

    :param dialect: The name of the dialect the caller speaks.
    :param path: The provider named as first path segment, if any.
    :param header: The value of the ``Model-Provider`` header, if any.
    :param strict: False to return a provider as well that cannot answer now: another one may
        stand in for it.
    :raise InvalidRequest: if a provider was named that is not there.
    :raise ProviderUnavailable: if the chosen one cannot answer now.
    :raise UnknownModel: if nothing decides.
    """

    def usable(name: str, *, where: str) -> str:
        if not strict and name in directory.unavailable:
            return name
        return directory.named(name, where=where)

    named = path if path is not None else header
    custom = directory.custom_model(model, named=None if named in (AUTO, "") else named)
    if custom is not None:
        provider = usable(custom.provider, where=f"custom model {custom.id}")
        return Choice(provider, custom.model, "custom model", custom)
    names = {**dict.fromkeys(directory.unavailable), **dict.fromkeys(directory.served)}
    prefix, bare = split_prefix(model, names)
    if prefix is not None:
        return Choice(usable(prefix, where="model prefix"), bare, "model prefix")
    if path is not None and path != AUTO:
        return Choice(usable(path, where="path"), model, "path")
    if header and header != AUTO and path is None:
        return Choice(usable(header, where="Model-Provider header"), model, "header")
    serving = [name for name, models in directory.served.items() if model in models]
    for candidates in (serving, directory.speaking(dialect, serving)):
        if len(candidates) == 1:
            return Choice(candidates[0], model, "model")
    if directory.default is None or AUTO in (path, header):
        raise UnknownModel(_undecided(model, serving), code="model_not_found", param="model")
    default = next(iter(directory.speaking(dialect, directory.defaults)), directory.default)
    return Choice(usable(default, where="default provider"), model, "default")


def _undecided(model: str, serving: Sequence[str]) -> str:
    if serving:
        some = f"{', '.join(serving)} all serve it; write one as a prefix, "
        return f"Model {model!r} is not unique: {some}such as {serving[0]}:{model}."
    return (
        f"Model {model!r} is served by no provider that is known to serve it; write "
        "the provider as a prefix, such as openai-custom:gpt-4o."
    )
