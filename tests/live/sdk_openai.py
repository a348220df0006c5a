"""
What the ``openai`` library has in common before both of its dialects.

Part of the tables of `test_sdk_openai_chat` and `test_sdk_openai_responses`; it knows
neither dialect's questions nor answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import openai

from tests.live.sdk import PATIENCE

CODES = {
    400: ("invalid_request_error", None),
    401: ("authentication_error", "invalid_api_key"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
    500: ("server_error", None),
    503: ("service_unavailable_error", "overloaded"),
}


class OpenAILibrary:
    """The library itself: its clients, its exceptions, its lists of models."""

    refusals: Mapping[int, type[Exception]] = {
        400: openai.BadRequestError,
        401: openai.AuthenticationError,
        404: openai.NotFoundError,
        429: openai.RateLimitError,
        500: openai.InternalServerError,
        502: openai.InternalServerError,
    }
    unreachable: tuple[type[Exception], ...] = (openai.APITimeoutError,)
    lacks: Mapping[str, str] = {"test_count_tokens": "OpenAI's API does not count tokens"}

    def client(
        self,
        url: str,
        key: str,
        *,
        retries: int = 0,
        timeout: float = PATIENCE,
        sent: Callable[[Any], None] | None = None,
    ) -> Any:
        """Return a client whose every request is shown to *sent*."""
        hooks: dict[str, list[Any]] = {"request": [] if sent is None else [sent]}
        http = openai.DefaultHttpxClient(trust_env=False, verify=False, event_hooks=hooks)
        return openai.OpenAI(
            api_key=key, base_url=url, max_retries=retries, timeout=timeout, http_client=http
        )

    def async_client(self, url: str, key: str) -> Any:
        """Return an asynchronous client."""
        http = openai.DefaultAsyncHttpxClient(trust_env=False, verify=False)
        return openai.AsyncOpenAI(
            api_key=key, base_url=url, max_retries=0, timeout=PATIENCE, http_client=http
        )

    def close(self, client: Any) -> None:
        """Close what `client` made."""
        client.close()

    def error(self, status: int, message: str) -> object:
        """Return an error answer's body."""
        kind, code = CODES[status]
        return {"error": {"message": message, "type": kind, "param": None, "code": code}}

    def status(self, error: Any) -> int:
        """Return the HTTP status that an exception tells of."""
        return int(error.status_code)

    def model_list(self, ids: Sequence[str]) -> object:
        """Return an upstream's model list."""
        items = [{"id": id, "object": "model", "created": 1, "owned_by": "me"} for id in ids]
        return {"object": "list", "data": items}

    def models(self, client: Any) -> list[str]:
        """List models."""
        return [model.id for model in client.models.list()]

    def model(self, client: Any, id: str) -> str:
        """Ask for one model; return its id."""
        return str(client.models.retrieve(id).id)

    def count(self, client: Any) -> int:
        """Count tokens: never called."""
        raise NotImplementedError
