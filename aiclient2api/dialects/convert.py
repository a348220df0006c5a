"""
Turn a request into the dialect an upstream speaks.

zope.interface does the choosing: a request that already provides the target
interface comes back as it is, byte for byte; otherwise a registered adapter makes
one. This file must never know which dialects there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from aiclient2api.errors import InvalidRequest
from aiclient2api.interfaces import IDialect, IWireRequest


def convert(
    request: IWireRequest,
    *,
    source: IDialect,
    target: IDialect,
    provider: str,
    others: Sequence[str] = (),
) -> IWireRequest:
    """
    Return *request* in the dialect *target*.

    :param source: The dialect the caller speaks.
    :param provider: The upstream's name, for the message.
    :param others: Configured providers that speak *source*, for the message.
    :raise InvalidRequest: if there is no way from the one dialect to the other.
    """
    theirs = target.request_interface(request, None)
    if theirs is None:
        raise InvalidRequest(
            f"This request is {source.title}, but provider {provider} speaks "
            f"{target.title}, and there is no conversion between the two. "
            + (
                f"Put a provider that speaks {source.title} before the path, such as "
                f"/{others[0]}{_paths(source)}, or before the model, such as "
                f"{others[0]}:MODEL."
                if others
                else f"Configure a provider that speaks {source.title}, or send "
                f"{target.title} to {_paths(target)}."
            ),
            code="dialect_mismatch",
        )
    return cast(IWireRequest, theirs)


def _paths(dialect: IDialect) -> str:
    return " or ".join(e.path for e in dialect.endpoints if e.action == "generate")
