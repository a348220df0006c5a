"""
The plain values that cross the seams of the house.

Data without behaviour, each field with its unit. They know nothing of ours but how to be
discreet, not even the errors; what is done with them is said in `interfaces`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from aiclient2api.discreet import place

Headers = tuple[tuple[bytes, bytes], ...]
"""Header lines in order, names in lower case."""

HELD_LIMIT = 64 * 1024 * 1024
"""Bytes of one answer that are held at a time, unless the configuration says otherwise."""


@attrs.frozen
class Endpoint:
    """
    One path a dialect answers on.

    :ivar method: ``GET``, ``POST`` or ``DELETE``.
    :ivar path: A path with at most one ``<path:rest>``, such as ``/v1/messages``.
    :ivar action: ``generate``, ``count_tokens``, ``models`` or ``model``; ``stored`` to get
        an answer that was kept, ``forget`` to delete it.
        A dialect's `route` may refine it from *rest*.
    """

    method: str
    path: str
    action: str


@attrs.frozen
class Route:
    """
    What the URL and the headers say about one request, before its body is read.

    :ivar action: As in `Endpoint`.
    :ivar model: The model named in the path (Gemini, ``GET /v1/models/{id}``), the id of an
        answer that was kept, or None.
    :ivar streaming: True or False where the path decides (Gemini), else None.
    :ivar framing: ``sse`` or ``json_array`` where the path decides, else None.
    :ivar headers: The client's headers that its dialect passes on upstream.
    :ivar query: The client's query arguments that its dialect passes on upstream.
    :ivar session: What the client's headers call its conversation, or None. Not passed on.
    """

    action: str
    model: str | None = None
    streaming: bool | None = None
    framing: str | None = None
    headers: Headers = attrs.field(default=(), repr=False)
    query: tuple[tuple[str, str], ...] = attrs.field(default=(), repr=False)
    session: str | None = attrs.field(default=None, repr=False)


@attrs.frozen
class SystemEdit:
    """
    What to do with a request's system prompt.

    :ivar mode: ``overwrite`` or ``append``; meaningless without *text*.
    :ivar text: The operator's system prompt, or None: only replace.
    :ivar replacements: ``(old, new)`` pairs applied literally, in order, to the
        system text that results.
    """

    mode: str = "append"
    text: str | None = attrs.field(default=None, repr=False)
    replacements: tuple[tuple[str, str], ...] = attrs.field(default=(), repr=False)


@attrs.frozen
class Usage:
    """
    Token counts of one reply; None is "not told", 0 is zero.

    :ivar input: All prompt tokens, cached ones included.
    :ivar output: All generated tokens, reasoning included.
    :ivar cached: Prompt tokens read from a cache.
    :ivar cache_write: Prompt tokens written to a cache.
    :ivar reasoning: Generated tokens spent on reasoning.
    """

    input: int | None = None
    output: int | None = None
    cached: int | None = None
    cache_write: int | None = None
    reasoning: int | None = None


@attrs.frozen
class Traits:
    """
    What one upstream wants or cannot take, beyond what its dialect says.

    :ivar thinking: Chat Completions: where the wish to think stands: ``effort``
        (``reasoning_effort``), ``switch`` (``thinking: {type}``), ``enable``
        (``enable_thinking``) or ``none``.
    :ivar reasoning_with_calls: Every assistant message with calls must bring a
        ``reasoning_content`` that is not empty (Moonshot).
    :ivar replays_reasoning: Thoughts of earlier turns go back as ``reasoning_content``.
    :ivar words_only: Thoughts go to it as words, whoever sealed them, and seals do not.
    :ivar completion_tokens: The limit is called ``max_completion_tokens``.
    :ivar auto_tools_only: No other tool choice than ``auto`` is taken (Zhipu).
    :ivar media_in_results: A tool's answer may hold images.
    :ivar stream_usage: ``stream_options.include_usage`` is understood.
    :ivar prefill: A last turn that is the model's is gone on with: what comes back begins
        where it ends. True only where that is certain.
    :ivar family: Whose models these are, such as ``kimi``; empty for those of whoever made
        the dialect. What one family sealed no other is sent.
    """

    thinking: str = "effort"
    reasoning_with_calls: bool = False
    replays_reasoning: bool = False
    words_only: bool = False
    completion_tokens: bool = False
    auto_tools_only: bool = False
    media_in_results: bool = False
    stream_usage: bool = True
    prefill: bool = False
    family: str = ""


@attrs.frozen
class ModelInfo:
    """
    One model as listed to clients.

    :ivar id: The model's name as a client asks for it.
    :ivar created: Unix seconds, 0 if not known.
    :ivar raw: The upstream's own list item and the dialect it is written in, so
        that a list of the same dialect loses nothing.
    """

    id: str
    owned_by: str = ""
    created: int = 0
    display_name: str | None = None
    input_limit: int | None = None
    output_limit: int | None = None
    raw_dialect: str | None = None
    raw: Mapping[str, Any] | None = None


@attrs.frozen
class KeptAnswer:
    """
    An answer that a later request may refer to.

    :ivar response: The answer itself, as JSON.
    :ivar items: The whole conversation with the answer at its end: a JSON array, to be put
        in front of what a later request says.
    """

    id: str
    response: bytes = attrs.field(repr=False)
    items: bytes = attrs.field(repr=False)


@attrs.frozen
class Caller:
    """Who is asking: a stable name for the key, never the key itself."""

    id: str


@attrs.frozen
class Credential:
    """
    What an account whose credential is renewed is asked with just now.

    :ivar token: The access token.
    :ivar details: What else belongs to it, such as a project or the address to ask.
    :ivar secrets: Everything in it that must be shown to nobody.
    """

    token: str = attrs.field(repr=False)
    details: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    secrets: tuple[str, ...] = attrs.field(default=(), repr=False)


@attrs.frozen
class Account:
    """
    One credential of one provider.

    :ivar provider: The provider's configured name, such as ``openai-custom-b``.
    :ivar id: A stable id (the user's ``uuid``, or derived from the credential).
    :ivar settings: An instance of the provider factory's `settings` class.
    :ivar proxy: A proxy URL for this account, or None: environment, else direct.
    :ivar supported: If not empty, only these models are served.
    :ivar unsupported: These models are not served.
    :ivar secrets: The credential strings; cut out of everything shown.
    :ivar priority: Accounts of the highest number go first.
    :ivar weight: Its share of the requests, where selection is ``weighted``.
    :ivar concurrency: Requests that may be at work at once; 0 for no limit.
    :ivar queue: Requests that may wait for it once that many are; 0 for none.
    :ivar disabled: Never used, and listed only.
    :ivar ill: Another program's file says that it failed. It counts when the account is
        seen for the first time only.
    :ivar check_health: Whether it is probed; None: as its provider is.
    :ivar check_model: The model it is probed with, or None.
    :ivar patience: What the gateway's patience is for this account, where that differs; by
        the names of `exchange.Patience`: retries, and seconds.
    :ivar credential: What it is asked with just now, where that is renewed while running.
    """

    provider: str
    id: str
    settings: Any
    name: str | None = None
    proxy: str | None = attrs.field(default=None, repr=False)
    supported: tuple[str, ...] = ()
    unsupported: tuple[str, ...] = ()
    secrets: tuple[str, ...] = attrs.field(default=(), repr=False)
    priority: int = 0
    weight: int = 1
    concurrency: int = 0
    queue: int = 0
    disabled: bool = False
    ill: bool = False
    check_health: bool | None = None
    check_model: str | None = None
    patience: Mapping[str, float] = attrs.field(factory=dict)
    credential: Credential | None = attrs.field(default=None, repr=False)


@attrs.frozen
class Affinity:
    """
    Which conversation a request belongs to, as far as the request shows it.

    The names are as secret as the texts they were made of: only digests are kept.

    :ivar find: Names under which an earlier turn may be remembered, the surest first.
    :ivar bind: Names under which this turn is to be remembered.
    :ivar keepers: Ids of accounts that keep what the request goes on from: where one of
        them is, no other will do.
    """

    find: tuple[str, ...] = attrs.field(default=(), repr=False)
    bind: tuple[str, ...] = attrs.field(default=(), repr=False)
    keepers: tuple[str, ...] = ()


@attrs.frozen
class Sampling:
    """Sampling values of an operator; they win over the caller's. None leaves his alone."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None


@attrs.frozen
class CustomModel:
    """
    A model of the operator's own naming, for one that a provider has.

    :ivar id: What clients ask for; so is *alias*, if there is one.
    :ivar provider: The configured provider that answers.
    :ivar model: What it calls the model.
    :ivar owner: Under which provider the model is listed.
    :ivar context: Tokens of its context window, or None.
    """

    id: str
    provider: str
    model: str
    alias: str | None = None
    owner: str | None = None
    name: str | None = None
    description: str | None = None
    context: int | None = None
    sampling: Sampling = Sampling()


@attrs.define
class Tally:
    """
    What an account has done since it is known. Never goes down.

    :ivar requests: Leases that ended, well or not.
    :ivar failures: Those that ended in a fault of the account or its upstream.
    :ivar input: Prompt tokens, cached ones included; so the others as in `Usage`.
    :ivar last_used: Unix seconds, 0 for never.
    """

    requests: int = 0
    failures: int = 0
    input: int = 0
    output: int = 0
    cached: int = 0
    cache_write: int = 0
    reasoning: int = 0
    last_used: float = 0.0


@attrs.frozen
class Standing:
    """
    How one account fares, or one model of it. No secret is in it.

    :ivar state: Its state's name, such as ``cooling``.
    :ivar usable: True if a request would be given to it, now or within this second.
    :ivar reason: Why it is in that state, such as ``rate_limit``; ``""`` if all is well.
    :ivar message: What the upstream said, or ``""``.
    :ivar since: Unix seconds of the last change.
    :ivar until: When the upstream said it would be back, in Unix seconds, or None.
    :ivar next_try: When it is tried again whatever the upstream said, or None.
    """

    state: str
    usable: bool
    reason: str = ""
    message: str = ""
    since: float = 0.0
    until: float | None = None
    next_try: float | None = None


@attrs.frozen
class AccountReport:
    """
    All there is to tell of one account. No secret is in it.

    :ivar models: How single models fare that are worse off than the account.
    :ivar active: Requests at work.
    """

    account: Account
    standing: Standing
    models: Mapping[str, Standing]
    active: int
    tally: Tally


@attrs.frozen
class Step:
    """
    One decision in an exchange, or what came of one.

    :ivar at: Seconds since the exchange began.
    :ivar what: ``target``, ``skipped``, ``chosen``, ``attempt``, ``retry``, ``waiting``,
        ``cut``, ``resumed``, ``not resumed``, ``refused`` or ``ended``.
    :ivar account: The account's id, where it is about one.
    :ivar why: A few words, never a prompt or a key.
    :ivar status: What the upstream answered with, if it did.
    """

    at: float
    what: str
    provider: str = ""
    model: str = ""
    account: str = ""
    why: str = ""
    status: int | None = None


@attrs.frozen
class UpstreamRequest:
    """
    One request as it goes on the wire outwards.

    :ivar url: Absolute, ASCII, ready to send.
    :ivar headers: Complete but for Host, Content-Length and Accept-Encoding.
    :ivar account: Id of the account: cookies are never shared between two.
    :ivar proxy: ``http://``, ``https://`` or ``socks5://`` URL; None: environment.
    :ivar once: It must never reach the upstream twice, such as a token that is used up.
    """

    method: str
    url: str = attrs.field(repr=place)
    headers: Headers = attrs.field(repr=False)
    body: bytes | None = attrs.field(default=None, repr=False)
    account: str = ""
    proxy: str | None = attrs.field(default=None, repr=False)
    once: bool = False


@attrs.frozen
class Runtime:
    """
    What a provider factory is given of the world.

    :ivar clock: An ``IReactorTime``.
    :ivar upstream: The shared `IUpstream` over the network.
    :ivar tokens: The credentials that are renewed while running (`oauth.tokens.TokenBook`),
        shared by all providers and kept over reloads; None where there are none.
    """

    clock: Any
    upstream: Any
    tokens: Any = None


def setting(*, kind: str, help: str, default: Any = None, choices: tuple[str, ...] = ()) -> Any:
    """
    Declare one field of a provider's settings class.

    The field's name is the configuration key, in snake_case: config reads it from
    ``config.json`` and, per account, from ``provider_pools.json``, in any spelling.

    :param kind: ``secret``, ``url``, ``path``, ``text`` or ``choice``. A ``secret``
        that is non-empty makes the provider configured.
    :param help: One line for ``docs/configuration.md`` and ``check``.
    """
    return attrs.field(
        default=default,
        # A text may be a client's secret, and a URL hold a password.
        repr=kind in ("path", "choice"),
        metadata={"kind": kind, "help": help, "choices": choices},
    )


@attrs.define
class ExchangeRecord:
    """
    What is known of one exchange while it runs.

    :ivar id: The request id, also sent as ``x-aiclient2api-request-id``.
    :ivar provider: Who answers; who was asked last, until somebody does. So for *model* and
        *account*.
    :ivar began: Clock seconds.
    :ivar steps: What was decided, and what came of it, in order.
    """

    id: str
    caller: str
    request: Any
    provider: str
    model: str
    began: float
    account: str = ""
    attempts: int = 0
    steps: list[Step] = attrs.field(factory=list)


@attrs.frozen
class Spent:
    """
    What an exchange took, as far as anybody can know.

    :ivar usage: The tokens of the answer that the client got, or would have got: all of
        them 0 if nobody began to answer.
    :ivar estimated: True if the upstream did not tell all of them.
    :ivar lost: What upstreams told of answers that failed, and of which the client saw
        nothing; None if none told.
    """

    usage: Usage
    estimated: bool = False
    lost: Usage | None = None


@attrs.frozen
class Outcome:
    """
    How an exchange ended.

    :ivar how: ``complete``, ``failed``, ``truncated`` or ``cancelled``.
    :ivar seconds: From the request's parse to its end.
    :ivar usage: What the upstream told, and nothing else; of an answer that broke off and was
        gone on with, what all of its runs told together.
    :ivar text: The answer's text, if an observer asked for it.
    :ivar spent: The same with all that it did not tell, to be booked.
    """

    how: str
    seconds: float
    usage: Usage | None = None
    error: Any = None
    text: str = attrs.field(default="", repr=False)
    spent: Spent | None = None


Clock = Any
"""An ``IReactorTime``."""


Event = Any
"""One of `conversation.events`."""


Media = Any
"""One of the media of `conversation.request`."""


Jitter = Callable[[], float]
"""Returns a number in [0, 1)."""
