"""
What the fake of Code Assist is told to answer: answers with their framing, and refusals.

Each refusal is a row of what Google's own client tells apart. Import them from
`aiclient2api.testing`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from aiclient2api.testing.scripts import (
    STREAM_HEAD,
    Chunk,
    EndChunks,
    Reset,
    Script,
    Step,
    Wait,
    json_reply,
    raw_reply,
)
from aiclient2api.values import Headers

CLOUD_CODE = "cloudcode-pa.googleapis.com"
SIGNATURE = "c2lnbmVkIGJ5IHRoZSBmYWtl"
"""What the fake signs thoughts and calls with, unless a test says otherwise."""

_TYPE = "type.googleapis.com/google.rpc."
_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    412: "FAILED_PRECONDITION",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}


def google_error(
    code: int, message: str, *details: Mapping[str, Any], status: str | None = None
) -> dict[str, Any]:
    """Return the body of an error as Google writes it; ``details`` are left out if empty."""
    told: dict[str, Any] = {"code": code, "message": message}
    told["status"] = status or _STATUS.get(code, "UNKNOWN")
    if details:
        told["details"] = list(details)
    return {"error": told}


def error_info(reason: str, domain: str = CLOUD_CODE, **metadata: str) -> dict[str, Any]:
    """Return an ``ErrorInfo``."""
    return {"@type": f"{_TYPE}ErrorInfo", "reason": reason, "domain": domain, "metadata": metadata}


def retry_info(delay: str) -> dict[str, Any]:
    """Return a ``RetryInfo`` such as for ``34.07s``."""
    return {"@type": f"{_TYPE}RetryInfo", "retryDelay": delay}


def quota_failure(quota: str) -> dict[str, Any]:
    """Return a ``QuotaFailure`` of one violation."""
    return {"@type": f"{_TYPE}QuotaFailure", "violations": [{"quotaId": quota}]}


def help_link(url: str) -> dict[str, Any]:
    """Return a ``Help`` of one link."""
    return {"@type": f"{_TYPE}Help", "links": [{"description": "Verify", "url": url}]}


@attrs.frozen
class Refusal:
    """
    An answer with an error status.

    :ivar in_array: Wrapped in a one-element array, as streams do it.
    :ivar text: Sent instead of JSON.
    """

    status: int
    body: Any = None
    headers: Headers = ()
    in_array: bool = False
    text: bytes | None = None

    def script(self, *, streaming: bool) -> Script:
        """Return what is sent."""
        if self.text is not None:
            return raw_reply(self.status, self.text, content_type=b"text/html; charset=UTF-8")
        body = [self.body] if self.in_array else self.body
        return json_reply(self.status, body, headers=self.headers)


@attrs.frozen
class CodeAssistAnswer:
    """
    An answer to a generateContent, whole or as a stream of one part a record.

    :ivar parts: Gemini parts.
    :ivar finish: The last ``finishReason``; None: it is never told.
    :ivar line_end: What ends a line of the stream.
    :ivar lines: Over how many ``data`` lines each record is spread.
    :ivar last_blank: False: no blank line follows the last record.
    :ivar reset: The connection breaks after this many records.
    :ivar error: An error record that follows the parts, in a stream that began as a 200.
    :ivar fields: More fields beside ``response``.
    """

    parts: tuple[Mapping[str, Any], ...] = ({"text": "Hello."},)
    finish: str | None = "STOP"
    model: str = "gemini-2.5-pro"
    usage: Mapping[str, int] = {
        "promptTokenCount": 7,
        "candidatesTokenCount": 5,
        "thoughtsTokenCount": 3,
        "totalTokenCount": 15,
    }
    line_end: bytes = b"\r\n"
    lines: int = 1
    last_blank: bool = True
    reset: int | None = None
    error: Mapping[str, Any] | None = None
    fields: Mapping[str, Any] = {"traceId": "7d1f00000000cafe"}

    def response(self, parts: Sequence[Mapping[str, Any]], *, last: bool) -> dict[str, Any]:
        """Return what stands in the envelope: Gemini's own response."""
        candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}}
        if last and self.finish is not None:
            candidate["finishReason"] = self.finish
        return {
            "candidates": [candidate],
            **({"usageMetadata": dict(self.usage)} if last else {}),
            "modelVersion": self.model,
            "createTime": "2026-11-22T10:00:00.123456Z",
            "responseId": "fAke-0001",
        }

    def responses(self) -> list[dict[str, Any]]:
        """Return the responses of a stream, without their envelopes."""
        count = len(self.parts)
        return [
            self.response([part], last=number == count - 1)
            for number, part in enumerate(self.parts)
        ]

    def records(self) -> list[bytes]:
        """Return the server-sent events."""
        told: list[Any] = [{"response": each, **self.fields} for each in self.responses()]
        if self.error is not None:
            told.append(self.error)
        records = [self._record(each) for each in told]
        if not self.last_blank:
            records[-1] = records[-1].removesuffix(self.line_end)
        return records

    def _record(self, told: Any) -> bytes:
        text = json.dumps(told, indent=1 if self.lines > 1 else None).encode()
        pieces = text.split(b"\n", self.lines - 1) if self.lines > 1 else [text]
        lines = [b"data: " + line for piece in pieces for line in piece.split(b"\n")]
        return self.line_end.join(lines) + self.line_end * 2

    def script(self, *, streaming: bool) -> Script:
        """Return what is sent."""
        if not streaming:
            whole = {"response": self.response(self.parts, last=True), **self.fields}
            return json_reply(200, self.error if self.error is not None else whole)
        records = self.records()
        if self.reset is not None:
            records = records[: self.reset]
        steps: list[Step] = [STREAM_HEAD, *map(Chunk, records)]
        # What was sent has to arrive before the connection breaks.
        steps += [EndChunks()] if self.reset is None else [Wait(0.1), Reset()]
        return steps


def _limit(message: str, *details: Mapping[str, Any], status: int = 429) -> Refusal:
    return Refusal(status, google_error(status, message, *details))


VALIDATION_LINK = "https://accounts.google.com/signin/continue?fake=1"

CODE_ASSIST_FAULTS: Mapping[str, Refusal] = {
    "not found": _limit("Requested entity was not found.", status=404),
    "validation": _limit(
        "Verify your account to continue.",
        error_info("VALIDATION_REQUIRED", validation_link="https://accounts.google.com/other"),
        help_link(VALIDATION_LINK),
        status=403,
    ),
    "validation, bare": _limit(
        "Verify your account to continue.",
        error_info("VALIDATION_REQUIRED", validation_link=VALIDATION_LINK),
        status=403,
    ),
    "limit 0": _limit("Quota exceeded for metric: x, limit: 0, model: gemini-3-pro"),
    "limit 0, 499": _limit("Quota exceeded, limit: 0", status=499),
    "limit 0, 503": _limit("Quota exceeded, limit: 0", status=503),
    "prose": _limit("You exceeded your quota. Please retry in 12.5s"),
    "prose, ms": _limit("You exceeded your quota. Please retry in 900ms"),
    "prose, long": _limit("You exceeded your quota. Please retry in 301s"),
    "prose, capacity": _limit("You have exhausted your capacity on this model."),
    "prose, capacity, until": _limit(
        "You have exhausted your capacity on this model. Your quota will reset after 12h3m4s."
    ),
    "bare 429": _limit("Resource has been exhausted (e.g. check quota)."),
    "bare 499": _limit("The operation was cancelled.", status=499),
    "bare 503": _limit("The service is currently unavailable.", status=503),
    "per day": _limit("Quota exceeded.", quota_failure("GenerateRequestsPerDay-FreeTier")),
    "daily": _limit("Quota exceeded.", quota_failure("DailyRequests"), retry_info("9s")),
    "model capacity": _limit(
        "No capacity available for model gemini-3-pro-preview on the server",
        error_info("MODEL_CAPACITY_EXHAUSTED", model="gemini-3-pro-preview"),
    ),
    "model capacity, 503": _limit(
        "No capacity available.", error_info("MODEL_CAPACITY_EXCEEDED"), status=503
    ),
    "credits": _limit("No credits.", error_info("INSUFFICIENT_G1_CREDITS_BALANCE")),
    "rate": _limit("Slow down.", error_info("RATE_LIMIT_EXCEEDED"), retry_info("34.07s")),
    "rate, reset": _limit(
        "Slow down.", error_info("RATE_LIMIT_EXCEEDED", quotaResetDelay="1m2s", model="m")
    ),
    "rate, long": _limit("Slow down.", error_info("RATE_LIMIT_EXCEEDED"), retry_info("301s")),
    "rate, endless": _limit("Slow down.", error_info("RATE_LIMIT_EXCEEDED")),
    "quota": _limit(
        "You have exhausted your capacity on this model. Your quota will reset after 2h0m0s.",
        error_info(
            "QUOTA_EXHAUSTED",
            model="gemini-2.5-pro",
            quotaResetDelay="2h0m0s",
            quotaResetTimeStamp="2026-11-22T12:00:00Z",
        ),
    ),
    "quota, stamp": Refusal(
        429,
        google_error(
            429,
            "Quota exhausted.",
            error_info("QUOTA_EXHAUSTED", quotaResetTimeStamp="2026-11-22T12:00:00Z"),
        ),
        headers=((b"date", b"Sun, 22 Nov 2026 10:00:00 GMT"),),
    ),
    "retry info": _limit("Wait.", retry_info("900ms")),
    "retry info, long": _limit("Wait.", retry_info("400s")),
    "per minute": _limit("Wait.", quota_failure("GenerateRequestsPerMinute-FreeTier")),
    "per minute, limit": _limit(
        "Wait.", error_info("OTHER", "x.googleapis.com", quota_limit="RequestsPerMinute")
    ),
    "other": _limit("Wait.", error_info("OTHER", "x.googleapis.com")),
    "in an array": attrs.evolve(
        _limit("Wait.", retry_info("7s")),
        in_array=True,
    ),
    "default project": _limit("Permission denied on resource project default.", status=403),
    "private API": _limit(
        "Cloud Code Private API has not been used in project 12 before or it is disabled.",
        error_info("SERVICE_DISABLED", "googleapis.com"),
        status=403,
    ),
    "no permission": _limit("The caller does not have permission", status=403),
    "banned": _limit(
        "This service has been disabled in this account for violation of Terms of Service.",
        status=403,
    ),
    "unauthenticated": _limit("Request had invalid authentication credentials.", status=401),
    "internal": _limit("Internal error encountered.", status=500),
    "html": Refusal(502, text=b"<!DOCTYPE html><title>Error 502 (Server Error)!!1</title>"),
}
"""Every kind of error the real client tells apart, and some it meets."""
