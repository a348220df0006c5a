"""
The routes: a Klein tree grown from the dialects' own lists of endpoints.

A route reads who is asking, lets the dialect parse and policy choose, and hands
over to an exchange. It must never name a provider or a dialect.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import cast

import attrs
from klein import Klein
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import IResource
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import MethodNotAllowed as NoSuchMethod

from aiclient2api.errors import (
    Forbidden,
    MethodNotAllowed,
    Unauthorized,
    UnknownModel,
    UnknownRoute,
    UpstreamError,
)
from aiclient2api.fallbacks import chain_of
from aiclient2api.interfaces import IDialect, IRemembering
from aiclient2api.policy import AUTO, Choice, choose_provider
from aiclient2api.values import Caller, Endpoint, ModelInfo, Route
from aiclient2api.web import health
from aiclient2api.web.answering import Answering, remembering_of
from aiclient2api.web.channel import GatewayRequest
from aiclient2api.web.front import (
    LONGEST_PATH,
    OPERATORS,
    caller_of,
    dialect_of,
    first_headers,
    nearest_path,
)
from aiclient2api.web.leaving import interruptible
from aiclient2api.web.model_lists import merged
from aiclient2api.web.replies import fail, prepare_error, send_json
from aiclient2api.web.setup import Seat, Setup
from aiclient2api.web.site import GatewaySite


class Api:
    """
    The routes of the gateway.

    :param setup: Returns the setup in force; asked once per request.
    :param dialects: All dialects, in the order in which they may claim a path.
    """

    _log = Logger()

    def __init__(self, setup: Callable[[], Setup], dialects: Sequence[IDialect]) -> None:
        self._setup = setup
        self._app = Klein()
        self._app.url_map.merge_slashes = False
        self._grow(dialects)

    def resource(self) -> IResource:
        """Return the resource that routes requests."""
        return self._app.resource()

    def _grow(self, dialects: Sequence[IDialect]) -> None:
        route = self._app.route
        route("/health", methods=["GET"])(self._health)
        route("/ready", methods=["GET"])(self._ready)
        route("/provider_health", methods=["GET"])(self._provider_health)
        route("/provider_health/reset", methods=["POST"])(self._reset)
        route("/", methods=["GET"])(self._root)
        shared: dict[tuple[str, str], list[tuple[IDialect, Endpoint]]] = {}
        for dialect in dialects:
            for endpoint in dialect.endpoints:
                key = (endpoint.method, endpoint.path)
                shared.setdefault(key, []).append((dialect, endpoint))
        for (method, path), speakers in shared.items():
            route(path, methods=[method], endpoint=f"{method} {path}")(self._speaking(speakers))
        # Klein calls it with the request class of the site, which its types don't know.
        self._app.handle_errors(HTTPException)(self._unrouted)  # type: ignore[arg-type]

    def _speaking(
        self, speakers: Sequence[tuple[IDialect, Endpoint]]
    ) -> Callable[..., Deferred[None]]:
        def answer(request: GatewayRequest, rest: str = "") -> Deferred[None]:
            headers = first_headers(request)
            claimed = [pair for pair in speakers if pair[0].claims(headers=headers)]
            dialect, endpoint = (claimed or speakers)[0 if claimed else -1]
            answering = Deferred.fromCoroutine(
                self._answer(request, dialect, endpoint, rest, headers)
            )
            interruptible(request, answering)
            return answering.addErrback(
                lambda failure: fail(request, failure, dialect, self._setup().scrubber)
            )

        return answer

    async def _answer(
        self,
        request: GatewayRequest,
        dialect: IDialect,
        endpoint: Endpoint,
        rest: str,
        headers: Mapping[bytes, bytes],
    ) -> None:
        setup = self._setup()
        caller = caller_of(request, setup)
        route = dialect.route(endpoint=endpoint, rest=rest, query=_query(request), headers=headers)
        if route.action == "models":
            models = await self._models(request, setup, headers)
            send_json(request, 200, dialect.render_models(models=models))
        elif route.action == "model":
            model = await self._model(request, setup, dialect, route.model or "", headers)
            send_json(request, 200, dialect.render_model(model=model))
        elif route.action in ("stored", "forget"):
            await self._kept(request, setup, caller, dialect, route, headers)
        else:
            await self._exchange(request, setup, caller, dialect, route, headers)

    async def _kept(
        self,
        request: GatewayRequest,
        setup: Setup,
        caller: Caller,
        dialect: IDialect,
        route: Route,
        headers: Mapping[bytes, bytes],
    ) -> None:
        """Answer from what is kept here, else let an upstream of the dialect answer."""
        remembering = remembering_of(setup, caller, dialect)
        id = route.model or ""
        look = remembering.found if route.action == "stored" else remembering.forgotten
        answer = await look(id)
        if answer is not None:
            send_json(request, 200, answer)
            return
        try:
            choice = self._choose(request, setup, dialect, "", headers)
        except UnknownModel:
            # No model is named, so nothing may decide who would be asked.
            raise IRemembering(dialect).unknown(id=id) from None
        if setup.seat(choice.provider).provider.dialect.name != dialect.name:
            raise IRemembering(dialect).unknown(id=id)
        keeper = await remembering.keeper(choice.provider, id)
        if keeper is None and not remembering.sole:
            # Whose it is nobody can say, and the upstream would not ask.
            raise IRemembering(dialect).unknown(id=id)
        wire = dialect.parse(body=b"", route=route)
        await Answering(request, setup, caller, dialect, wire, choice).relay_only(keeper)

    async def _exchange(
        self,
        request: GatewayRequest,
        setup: Setup,
        caller: Caller,
        dialect: IDialect,
        route: Route,
        headers: Mapping[bytes, bytes],
    ) -> None:
        wire = dialect.parse(body=request.body(), route=route)
        choice = self._choose(request, setup, dialect, wire.model, headers, strict=False)
        await Answering(request, setup, caller, dialect, wire, choice).run()

    async def _models(
        self, request: GatewayRequest, setup: Setup, headers: Mapping[bytes, bytes]
    ) -> Sequence[ModelInfo]:
        directory = setup.directory
        name = request.path_provider or _named(headers) or directory.default or AUTO
        custom = directory.custom
        if name != AUTO:
            listed = await _listed(setup, setup.seat(directory.named(name, where="model list")))
            return merged(listed, custom, name)
        asked = [self._missing_if_down(request, setup, each) for each in setup.seats.items()]
        # All at once: one that does not answer must not keep the others waiting.
        found = await gatherResults(map(Deferred.fromCoroutine, asked), consumeErrors=True)
        homeless = [each for each in custom if (each.owner or each.provider) not in setup.seats]
        rest = [_prefixed(model, model.owned_by) for model in merged([], homeless)]
        return [*(model for models in found for model in models), *rest]

    async def _missing_if_down(
        self, request: GatewayRequest, setup: Setup, named: tuple[str, Seat]
    ) -> Sequence[ModelInfo]:
        provider, seat = named
        try:
            models = await _listed(setup, seat)
        except UpstreamError as error:
            # One upstream that cannot be asked must not hide the others' models.
            self._log.warn(
                "{id}: the models of {provider} are missing from the list: {why}",
                id=request.exchange_id,
                provider=provider,
                why=error.message,
            )
            models = []
        models = merged(models, setup.directory.custom, provider)
        return [_prefixed(model, provider) for model in models]

    async def _model(
        self,
        request: GatewayRequest,
        setup: Setup,
        dialect: IDialect,
        asked: str,
        headers: Mapping[bytes, bytes],
    ) -> ModelInfo:
        """Find one model the way a request for it would be routed."""
        choice = self._choose(request, setup, dialect, asked, headers)
        if choice.custom is not None:
            (model,) = merged([], [choice.custom])
            return _named_as(model, asked, choice.provider)
        for model in await _listed(setup, setup.seat(choice.provider)):
            if model.id == choice.model:
                return _named_as(model, asked, choice.provider)
        raise UnknownModel(
            f"Provider {choice.provider} lists no model {choice.model!r}.",
            code="model_not_found",
            param="model",
        )

    def _choose(
        self,
        request: GatewayRequest,
        setup: Setup,
        dialect: IDialect,
        model: str,
        headers: Mapping[bytes, bytes],
        *,
        strict: bool = True,
    ) -> Choice:
        return choose_provider(
            model=model,
            directory=setup.directory,
            dialect=dialect.name,
            path=request.path_provider,
            header=_named(headers),
            strict=strict,
        )

    def _health(self, request: GatewayRequest) -> None:
        setup = self._setup()
        provider = setup.directory.default if _is_known(request, setup) else None
        body = health.liveness(provider=provider, seconds=time.time())
        send_json(request, 200, body)

    def _ready(self, request: GatewayRequest) -> None:
        setup, asked = self._setup(), _argument(request, "provider")
        status, body = health.readiness(
            # Where there is no default, what needs no account says nothing of those who do.
            pools=setup.pools if asked or setup.directory.defaults else setup.earnest_pools,
            defaults=setup.directory.defaults,
            chain=partial(chain_of, directory=setup.directory, fallbacks=setup.fallbacks),
            asked=asked,
            detail=_is_known(request, setup),
            draining=cast(GatewaySite, request.site).leaving,
            shedding=setup.load.shedding,
        )
        send_json(request, status, body)

    def _provider_health(self, request: GatewayRequest) -> Deferred[None]:
        return self._for_operators(
            request,
            lambda setup: (
                200,
                health.provider_health(
                    pools=setup.pools,
                    provider=_argument(request, "provider"),
                    name=_argument(request, "customName"),
                    threshold=_argument(request, "unhealthRatioThreshold"),
                    now=time.time(),
                ),
            ),
        )

    def _reset(self, request: GatewayRequest) -> Deferred[None]:
        return self._for_operators(
            request, lambda setup: health.reset(pools=setup.pools, body=request.body())
        )

    def _for_operators(
        self, request: GatewayRequest, answer: Callable[[Setup], tuple[int, bytes]]
    ) -> Deferred[None]:
        """Answer those who have a key; tell errors as those of no dialect are told."""
        setup = self._setup()

        async def answered() -> None:
            caller_of(request, setup)
            await setup.known()
            status, body = answer(setup)
            send_json(request, status, setup.scrubber.data(body))

        answering = Deferred.fromCoroutine(answered())
        interruptible(request, answering)
        return answering.addErrback(
            lambda failure: fail(request, failure, setup.dialects[-1], setup.scrubber)
        )

    def _root(self, request: GatewayRequest) -> None:
        setup = self._setup()
        paths = sorted({e.path for d in setup.dialects for e in d.endpoints})
        known = _is_known(request, setup)
        send_json(request, 200, health.greeting([*OPERATORS, *paths], detail=known))

    def _unrouted(self, request: GatewayRequest, failure: Failure) -> bytes:
        setup = self._setup()
        segments = [*(request.prepath or ()), *(request.postpath or ())]
        path = ("/" + b"/".join(segments).decode("utf-8", "replace"))[:LONGEST_PATH]
        method = request.method.decode("ascii", "replace")
        error: MethodNotAllowed | UnknownRoute
        refusal = failure.value
        if isinstance(refusal, NoSuchMethod):
            allowed = sorted(refusal.valid_methods or ())
            error = MethodNotAllowed(
                f"{path} does not take {method}; use {' or '.join(allowed)}.", allowed=allowed
            )
        else:
            near, _ = nearest_path(path, setup)
            error = UnknownRoute(
                f"There is nothing at {method} {path}. The nearest route is {near}.",
                code="unknown_route",
            )
        dialect = dialect_of(path, setup)
        # Klein finishes a request that came to no route itself.
        return prepare_error(request, error, dialect, setup.scrubber)


def _is_known(request: GatewayRequest, setup: Setup) -> bool:
    """Say whether whoever sent *request* may be told more than that somebody is here."""
    try:
        caller_of(request, setup)
    except (Unauthorized, Forbidden):
        return False
    return True


async def _listed(setup: Setup, seat: Seat) -> Sequence[ModelInfo]:
    """Return what the accounts serve that can be used now; all, if none can be."""
    accounts = seat.pool.snapshot()
    usable = [r.account for r in seat.pool.report() if r.standing.usable]
    return await setup.lists.listed(seat.provider, usable or accounts)


def _prefixed(model: ModelInfo, provider: str) -> ModelInfo:
    return _named_as(model, f"{provider}:{model.id}", provider)


def _named_as(model: ModelInfo, name: str, provider: str) -> ModelInfo:
    return attrs.evolve(model, id=name, owned_by=model.owned_by or provider)


def _query(request: GatewayRequest) -> list[tuple[str, str]]:
    return [
        (name.decode("utf-8", "replace"), value.decode("utf-8", "replace"))
        for name, values in request.args.items()
        for value in values
    ]


def _argument(request: GatewayRequest, name: str) -> str | None:
    values = request.args.get(name.encode(), ())
    return values[0].decode("utf-8", "replace") if values else None


def _named(headers: Mapping[bytes, bytes]) -> str | None:
    return headers.get(b"model-provider", b"").decode("utf-8", "replace").strip() or None
