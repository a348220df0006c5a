"""
The error tree: everything that can go wrong, each with its HTTP face.

An error here is a sentence with a subject and a remedy. It knows its status and
a neutral `kind`; it never knows a dialect: each dialect maps `kind` and `status`
to its own body in its own file.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

import attrs


class GatewayError(Exception):
    """
    Something the caller is told about.

    :param message: One sentence (or two) for a person: what is wrong and what to
        do instead. Never contains a key, a token or a prompt.
    :param code: A machine-readable word such as ``model_not_found``, or None.
    :param param: The JSON path of the field at fault, such as ``messages[0]``.
    :param retry_after: Seconds after which trying again makes sense, or None.
    """

    status = 500
    kind = "internal"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.param = param
        self.retry_after = retry_after


class InvalidRequest(GatewayError):
    """The request cannot be answered as it stands; sending it again won't help."""

    status = 400
    kind = "invalid_request"


class Unauthorized(GatewayError):
    """No key, or a wrong one."""

    status = 401
    kind = "authentication"


class Forbidden(GatewayError):
    """Who asks may not, whatever they send."""

    status = 403
    kind = "permission"


class UnknownModel(GatewayError):
    """No configured provider serves that model."""

    status = 404
    kind = "not_found"


class UnknownRoute(GatewayError):
    """Nothing lives at that path."""

    status = 404
    kind = "not_found"


class MethodNotAllowed(GatewayError):
    """The path exists, the method does not."""

    status = 405
    kind = "invalid_request"

    def __init__(self, message: str, *, allowed: Sequence[str]) -> None:
        super().__init__(message, code="method_not_allowed")
        self.allowed = tuple(allowed)


class UploadTimeout(GatewayError):
    """The client did not send its whole request in time."""

    status = 408
    kind = "timeout"


class RequestTooLarge(GatewayError):
    """The body is over the configured limit."""

    status = 413
    kind = "too_large"


class UnsupportedEncoding(GatewayError):
    """The body is compressed, and nobody here opens it."""

    status = 415
    kind = "invalid_request"


class TooManyRequests(GatewayError):
    """One key has more under way than it may."""

    status = 429
    kind = "rate_limit"


class Overloaded(GatewayError):
    """The gateway as a whole has more under way than it may."""

    status = 503
    kind = "overloaded"


class ProviderUnavailable(GatewayError):
    """The provider is known but cannot answer now (not built, no usable account)."""

    status = 503
    kind = "overloaded"


class NoAccount(ProviderUnavailable):
    """
    Every account of a provider rests, is busy or was tried in vain.

    :param limited: True if what keeps them is a limit of the upstream: then it is a 429.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        limited: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, code=code, retry_after=retry_after)
        if limited:
            self.status = 429
            self.kind = "rate_limit"


class Fault(enum.Enum):
    """Whose fault an upstream error is; the provider classifies, the exchange decides."""

    RATE_LIMIT = "rate_limit"
    QUOTA = "quota"
    CAPACITY = "capacity"
    CREDENTIAL = "credential"
    PERMISSION = "permission"
    NOT_FOUND = "not_found"
    CALLER = "caller"
    POLICY = "policy"
    CONTEXT = "context_length"
    SERVER = "server"
    UNREACHABLE = "unreachable"
    RESET = "reset"
    TIMEOUT = "timeout"
    TRUNCATED = "truncated"


_KINDS = {
    Fault.RATE_LIMIT: "rate_limit",
    Fault.QUOTA: "rate_limit",
    Fault.CAPACITY: "overloaded",
    Fault.CREDENTIAL: "authentication",
    Fault.PERMISSION: "permission",
    Fault.NOT_FOUND: "not_found",
    Fault.CALLER: "invalid_request",
    Fault.POLICY: "invalid_request",
    Fault.CONTEXT: "invalid_request",
    Fault.SERVER: "upstream",
    Fault.UNREACHABLE: "upstream",
    Fault.RESET: "upstream",
    Fault.TIMEOUT: "timeout",
    Fault.TRUNCATED: "upstream",
}


@attrs.frozen
class RawReply:
    """
    An upstream's own answer, kept to be passed on unchanged where dialects match.

    :ivar headers: Lower-case names; only those that may reach a client.
    """

    status: int
    headers: tuple[tuple[bytes, bytes], ...] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)


class UpstreamError(GatewayError):
    """
    An upstream refused, failed, stalled or broke off.

    :param fault: Whose fault it is (see `Fault`).
    :param status: The status the caller gets, 400-599.
    :param reply: The upstream's own error answer, when there was one. It is sent
        verbatim to a caller of the same dialect.
    :param of_model: True if only the model is concerned, and not all of the account; None
        if nobody said so: then the fault decides.
    """

    def __init__(
        self,
        message: str,
        *,
        fault: Fault,
        status: int,
        reply: RawReply | None = None,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        of_model: bool | None = None,
    ) -> None:
        super().__init__(message, code=code, param=param, retry_after=retry_after)
        self.fault = fault
        self.status = status
        self.kind = _KINDS[fault]
        self.reply = reply
        self.of_model = of_model


def stopping() -> UpstreamError:
    """
    Return what a caller is told whose answer was not done when the gateway had to stop.

    It has the form of an upstream's error, because where an answer has begun it is told in
    the place of one.
    """
    return UpstreamError(
        "The gateway was stopped before this answer was complete; send the request again.",
        fault=Fault.CAPACITY,
        status=503,
        code="gateway_stopping",
        retry_after=STOPPING_RETRY,
    )


STOPPING_RETRY = 5.0
"""Seconds after which a gateway that was stopped may be there again."""


class ConfigurationError(Exception):
    """
    The configuration cannot be used.

    :ivar faults: One sentence per fault: key path, what is wrong, what to write.
    :ivar warnings: What else was noticed; a misspelt key may explain a fault.
    """

    def __init__(self, faults: Sequence[str], *, warnings: Sequence[str] = ()) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)
        self.warnings = tuple(warnings)
