"""
Ask an account the smallest thing there is, to see whether it works.

The question is written by the hub, so that a provider of any dialect is asked as a real
request would ask it, and its answer is judged as a real one. It must never know a
dialect, a pool, or when somebody is to be asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import cast

import attrs
from twisted.internet.defer import Deferred

from aiclient2api.conversation.request import Conversation, Sampling, Text, Turn
from aiclient2api.errors import Fault, InvalidRequest, UpstreamError
from aiclient2api.interfaces import IEnveloping, IProvider, IRenewing, IWireRequest
from aiclient2api.observe.redaction import without, without_bytes
from aiclient2api.upstream.answers import collect, refusal
from aiclient2api.values import Account, Clock, Headers, Usage

QUESTION = "Hi"
MOST_TOKENS = 1
"""Tokens the answer may have; a dialect whose vendor wants more to be allowed writes more."""

ANSWER_LIMIT = 1024 * 1024
"""Bytes of the answer that are read."""

# Whoever finds fault with what was asked has let us in.
_ANSWERED = frozenset({Fault.CALLER, Fault.POLICY, Fault.CONTEXT})
_ABOUT_US = frozenset({*_ANSWERED, Fault.NOT_FOUND})


def ask(
    provider: IProvider, account: Account, model: str, *, clock: Clock
) -> Deferred[Usage | None]:
    """
    Ask *account* something tiny; fire if it works. Cancelling closes the connection.

    :param clock: Limits how long the body of an error answer may take.
    :return: The tokens it took, None if that is not known.
    :raise UpstreamError: if the account or its upstream does not work; free of secrets.
    :raise InvalidRequest: if the provider cannot be asked such a thing.
    """
    return Deferred.fromCoroutine(_asked(provider, account, model, clock))


def question(provider: IProvider, model: str) -> IWireRequest:
    """
    Return the tiny request in the dialect of *provider*.

    :raise InvalidRequest: if that dialect cannot be written.
    """
    conversation = Conversation(
        model=model,
        streaming=False,
        turns=(Turn("user", (Text(QUESTION),)),),
        sampling=Sampling(max_tokens=MOST_TOKENS),
        traits=provider.traits(model=model),
    )
    request = provider.dialect.request_interface(conversation, None)
    if request is None:
        raise InvalidRequest(
            f"{provider.name} cannot be probed: nothing is converted to"
            f" {provider.dialect.title}. Switch its probes off.",
            code="dialect_mismatch",
        )
    return cast(IWireRequest, request)


async def _asked(provider: IProvider, account: Account, model: str, clock: Clock) -> Usage | None:
    request = question(provider, model)
    renewing = IRenewing(provider, None)
    if renewing is not None:
        credential = await renewing.credential(account=account)
        secrets = (*account.secrets, *credential.secrets)
        account = attrs.evolve(account, credential=credential, secrets=secrets)
    outgoing = provider.prepare(request=request, account=account)
    clean = partial(without_bytes, secrets=account.secrets)
    try:
        response = await provider.upstream.send(request=outgoing)
        if not 200 <= response.status < 300:
            error = await refusal(provider=provider, response=response, clean=clean, clock=clock)
            # A page of HTML is no API that refused: it says nothing for the account.
            raise _no_api(error) if error.reply is None else error
        body = clean(await collect(response, ANSWER_LIMIT))
        return _answer(provider, request, response.headers, body)
    except UpstreamError as error:
        if error.fault in _ANSWERED:
            return None
        raise _told(error, account.secrets) from None


def _answer(
    provider: IProvider, request: IWireRequest, headers: Headers, body: bytes
) -> Usage | None:
    content_type = next((value for name, value in headers if name == b"content-type"), b"")
    enveloping = IEnveloping(provider, None)
    envelope = None if enveloping is None else enveloping.envelope(request=request)
    if envelope is not None:
        content_type = envelope.content_type
        body = envelope.open(data=body) + envelope.end()
    watcher = provider.dialect.watcher(
        request=request, content_type=content_type, want_text=False, limit=ANSWER_LIMIT
    )
    watcher.feed(data=body)
    watcher.end()
    if watcher.failure is not None:
        raise watcher.failure
    if not watcher.complete:
        raise UpstreamError(
            f"{provider.name} answered a probe with something else than an answer: see whether "
            "its base URL is right.",
            fault=Fault.SERVER,
            status=502,
            code="no_answer",
        )
    return cast("Usage | None", watcher.usage)


def _no_api(error: UpstreamError) -> UpstreamError:
    if error.fault not in _ABOUT_US:
        return error
    return UpstreamError(error.message, fault=Fault.SERVER, status=502, code="no_answer")


def _told(error: UpstreamError, secrets: Sequence[str]) -> UpstreamError:
    """Return *error* as it may be shown, without the answer that nobody is to be sent."""
    return UpstreamError(
        without(error.message, secrets),
        fault=error.fault,
        status=error.status,
        code=None if error.code is None else without(error.code, secrets),
        retry_after=error.retry_after,
        of_model=error.of_model,
    )
