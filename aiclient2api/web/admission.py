"""
The rules of the door, as the door asks for them.

It must never know what a request is about, nor how one arrives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from aiclient2api.errors import GatewayError, RequestTooLarge
from aiclient2api.values import Headers

if TYPE_CHECKING:
    from aiclient2api.web.channel import GatewayRequest


@attrs.frozen
class Admission:
    """
    The rules of the door, asked anew for each request.

    :ivar body_limit: Returns how many bytes a body may have.
    :ivar upload_seconds: Returns how long a whole request may take to arrive; 0 is off.
    :ivar admit: Given a request of which only the head is here, returns why its body
        is not to be read, or None.
    :ivar render: Turns a refusal into status, headers and body, given the target.
    :ivar head_seconds: Returns how long a request's head may take to arrive; 0 is off.
    :ivar connections: Returns how many connections there may be at once; 0 is off.
    """

    body_limit: Callable[[], int]
    upload_seconds: Callable[[], float]
    admit: Callable[[GatewayRequest], GatewayError | None]
    render: Callable[[GatewayError, bytes, GatewayRequest], tuple[int, Headers, bytes]]
    head_seconds: Callable[[], float] = lambda: 0.0
    connections: Callable[[], int] = lambda: 0


def too_large(limit: int) -> RequestTooLarge:
    """Return the refusal of a body over *limit* bytes."""
    return RequestTooLarge(
        f"The request body is larger than {limit} bytes; send less or raise limits.body_bytes.",
        code="request_too_large",
    )
