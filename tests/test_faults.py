"""
What upstreams' error answers mean, in the shapes in which vendors really send them.
"""

from __future__ import annotations

import json
from time import process_time
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.upstream.faults import MESSAGE_LIMIT, upstream_error
from aiclient2api.upstream.hints import MOST_WAIT, duration
from aiclient2api.values import Headers


def read(status: int, document: Any = None, headers: Headers = (), **kw: Any) -> UpstreamError:
    """Classify a JSON *document*, or the bytes of *body*."""
    body = kw.get("body", json.dumps(document).encode())
    return upstream_error(
        provider="vendor-b", status=status, headers=headers, body=body, base_key="vendor_base_url"
    )


def google(status: int, message: str, *details: Any, name: str = "RESOURCE_EXHAUSTED") -> Any:
    """Return a Google error body."""
    error = {"code": status, "message": message, "status": name, "details": list(details)}
    return {"error": error}


def retry_info(delay: str) -> dict[str, str]:
    """Return Google's hint on when to try again."""
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}


def quota_failure(quota: str) -> dict[str, Any]:
    """Return Google's word on which quota was used up."""
    return {
        "@type": "type.googleapis.com/google.rpc.QuotaFailure",
        "violations": [{"quotaId": quota}],
    }


def reason(word: str, **metadata: str) -> dict[str, Any]:
    """Return Google's machine-readable reason."""
    kind = "type.googleapis.com/google.rpc.ErrorInfo"
    return {"@type": kind, "reason": word, "metadata": metadata}


class StatusTests(SynchronousTestCase):
    """Where only the status speaks."""

    def test_faults(self) -> None:
        """Each status has its fault and reaches the caller as it is."""
        for status, fault in (
            (400, Fault.CALLER),
            (401, Fault.CREDENTIAL),
            (402, Fault.QUOTA),
            (403, Fault.PERMISSION),
            (404, Fault.NOT_FOUND),
            (405, Fault.CALLER),
            (408, Fault.TIMEOUT),
            (413, Fault.CALLER),
            (415, Fault.CALLER),
            (422, Fault.CALLER),
            (429, Fault.RATE_LIMIT),
            (500, Fault.SERVER),
            (502, Fault.SERVER),
            (503, Fault.CAPACITY),
            (504, Fault.SERVER),
            (529, Fault.CAPACITY),
        ):
            error = read(status, {"error": {"message": "x"}})
            self.assertEqual((error.fault, error.status), (fault, status))

    def test_redirect(self) -> None:
        """A redirect is not followed but explained, its query left out."""
        headers = ((b"location", b"https://b.test/v2/x?key=sk-test"),)
        error = read(308, {"error": {"message": "moved"}}, headers)
        self.assertEqual((error.fault, error.status, error.reply), (Fault.SERVER, 502, None))
        self.assertIn("vendor_base_url", error.message)
        self.assertIn("https://b.test/v2/x,", error.message)
        self.assertNotIn("sk-test", error.message)

    def test_redirect_with_credentials(self) -> None:
        """Neither a name and password nor a fragment are shown."""
        for place in (
            b"https://me:sk-test@b.test:8443/v2#sk-test",
            b"//sk-test@b.test:8443/v2?sk-test",
        ):
            error = read(302, None, ((b"location", place),))
            self.assertIn("b.test:8443/v2,", error.message)
            self.assertNotIn("sk-test", error.message)

    def test_redirect_to_nowhere(self) -> None:
        """A redirect with a useless location is explained as well."""
        for location in (b"", b"/v2", b"https://[b/", b"\xff"):
            error = read(301, None, ((b"location", location),))
            self.assertIn("vendor_base_url", error.message)

    def test_odd_status(self) -> None:
        """An error where there should be none is the upstream's fault: 502, not verbatim."""
        error = read(200, {"error": {"message": "x"}})
        self.assertEqual((error.fault, error.status, error.reply), (Fault.SERVER, 502, None))


class ShapeTests(SynchronousTestCase):
    """Bodies of many vendors."""

    def test_openai(self) -> None:
        """OpenAI's codes are more precise than its statuses."""
        for status, code, fault in (
            (429, "insufficient_quota", Fault.QUOTA),
            (429, "rate_limit_exceeded", Fault.RATE_LIMIT),
            (400, "context_length_exceeded", Fault.CONTEXT),
            (400, "content_filter", Fault.POLICY),
            (400, "content_policy_violation", Fault.POLICY),
            (404, "model_not_found", Fault.NOT_FOUND),
            (400, "model_not_found", Fault.NOT_FOUND),
            (401, "invalid_api_key", Fault.CREDENTIAL),
            (400, "unsupported_parameter", Fault.CALLER),
        ):
            body = {
                "error": {
                    "message": "x",
                    "type": "invalid_request_error",
                    "param": "p",
                    "code": code,
                }
            }
            error = read(status, body)
            self.assertEqual((error.fault, error.code, error.param), (fault, code, "p"))

    def test_anthropic(self) -> None:
        """Anthropic's types say what is wrong, but for a few told in prose."""
        for status, kind, message, fault in (
            (400, "invalid_request_error", "x", Fault.CALLER),
            (400, "invalid_request_error", "prompt is too long: 9 > 8", Fault.CONTEXT),
            (400, "invalid_request_error", "Your credit balance is too low to", Fault.QUOTA),
            (401, "authentication_error", "x", Fault.CREDENTIAL),
            (402, "billing_error", "x", Fault.QUOTA),
            (403, "permission_error", "x", Fault.PERMISSION),
            (404, "not_found_error", "x", Fault.NOT_FOUND),
            (413, "request_too_large", "x", Fault.CALLER),
            (429, "rate_limit_error", "x", Fault.RATE_LIMIT),
            (500, "api_error", "x", Fault.SERVER),
            (504, "timeout_error", "x", Fault.TIMEOUT),
            (529, "overloaded_error", "x", Fault.CAPACITY),
        ):
            error = read(status, {"type": "error", "error": {"type": kind, "message": message}})
            self.assertIs(error.fault, fault, (status, kind))

    def test_zhipu(self) -> None:
        """Zhipu's numbers mean what they mean, as a string or not."""
        for number, fault in (
            ("1302", Fault.RATE_LIMIT),
            (1303, Fault.RATE_LIMIT),
            ("1113", Fault.QUOTA),
            ("1308", Fault.QUOTA),
            ("1301", Fault.POLICY),
        ):
            self.assertIs(read(429, {"error": {"code": number, "message": "x"}}).fault, fault)

    def test_prose(self) -> None:
        """A prompt too long is recognised in the words of several servers."""
        for message in (
            "This model's maximum context length is 8192 tokens.",
            "The input token count (9) exceeds the maximum number of tokens allowed (8).",
            "Your input exceeds the context window of this model.",
            "the request exceeds the available context size",
        ):
            self.assertIs(read(400, {"error": {"message": message}}).fault, Fault.CONTEXT)
        self.assertIs(read(500, {"error": {"message": "context window"}}).fault, Fault.SERVER)

    def test_messages(self) -> None:
        """The upstream's own sentence is repeated, wherever it stands."""
        for document in (
            {"error": {"message": "why"}},
            [{"error": {"message": "why"}}],
            {"error": "why"},
            {"detail": "why"},
            {"message": "why"},
            {"code": 500, "msg": "why", "success": False},
        ):
            error = read(400, document)
            self.assertEqual(error.message, "vendor-b answered 400: why")
            assert error.reply is not None
            self.assertEqual(error.reply.body, json.dumps(document).encode())

    def test_message_is_bounded(self) -> None:
        """A very long message is cut, and broken Unicode in it is made whole."""
        error = read(400, {"error": {"message": "\ud83d" + "x" * 9000}})
        self.assertLess(len(error.message), MESSAGE_LIMIT + 50)
        error.message.encode("utf-8")

    def test_broken_unicode_in_code_and_param(self) -> None:
        """Whatever is repeated can be sent."""
        error = read(400, {"error": {"message": "x", "code": "\ud83d", "param": "\ud83d"}})
        self.assertEqual((error.code, error.param), ("?", "?"))

    def test_odd_json(self) -> None:
        """Fields of wrong types are passed over."""
        documents: tuple[Any, ...] = (
            {},
            {"error": None},
            {"error": []},
            {"error": {"message": 3, "code": [], "param": {}, "details": 4}},
            {"error": {"details": [1, {"violations": [2], "metadata": 3, "retryDelay": 4}]}},
            {"error": {"details": [{"violations": 7}]}},
        )
        for document in documents:
            error = read(429, document)
            self.assertIs(error.fault, Fault.RATE_LIMIT)
            self.assertIsNone(error.retry_after)

    def test_no_json(self) -> None:
        """What is no JSON object is described, never passed on, and points to the base URL."""
        for body, said in (
            (b"", "an empty body"),
            (b"  \r\n", "an empty body"),
            (b"<!doctype html><html>", "HTML"),
            (b"404 page\nnot found", "(404 page not found)"),
            (b"\xff\xfe", "without JSON"),
            (b"[1,2]", "without JSON"),
            (b"[" * 100_000, "without JSON"),
        ):
            error = read(404, body=body)
            self.assertIsNone(error.reply)
            self.assertIs(error.fault, Fault.NOT_FOUND)
            self.assertIn(said, error.message)
            self.assertIn("vendor_base_url is likely to be wrong", error.message)
        self.assertNotIn("likely", read(502, body=b"<html>").message)

    def test_reply_headers(self) -> None:
        """The answer kept for verbatim use has only the headers a client may see."""
        headers = ((b"set-cookie", b"a"), (b"request-id", b"r"), (b"retry-after", b"2"))
        reply = read(429, {"error": {}}, headers).reply
        assert reply is not None
        self.assertEqual(reply.headers, headers[1:])


class GoogleTests(SynchronousTestCase):
    """Google's details: which limits pass by waiting."""

    def test_retry_info(self) -> None:
        """A short delay is a rate limit, with the time to wait."""
        error = read(429, [google(429, "x", retry_info("34.07s"))])
        self.assertEqual((error.fault, error.retry_after), (Fault.RATE_LIMIT, 34.07))
        error = read(429, google(429, "x", retry_info("900ms")))
        self.assertEqual(error.retry_after, 0.9)

    def test_long_delay(self) -> None:
        """A delay over five minutes is a quota."""
        error = read(429, google(429, "x", retry_info("301s")))
        self.assertEqual((error.fault, error.retry_after), (Fault.QUOTA, 301.0))
        error = read(429, google(429, "Please retry in 12h3m4.5s."))
        self.assertEqual((error.fault, error.retry_after), (Fault.QUOTA, 43384.5))

    def test_daily(self) -> None:
        """A daily quota is a quota, whatever delay is hinted at."""
        quota = quota_failure("GenerateRequestsPerDayPerProjectPerModel-FreeTier")
        error = read(429, google(429, "x", quota, retry_info("20s")))
        self.assertIs(error.fault, Fault.QUOTA)
        self.assertIs(read(429, google(429, "limit: 0, model: m")).fault, Fault.QUOTA)

    def test_per_minute(self) -> None:
        """A quota per minute passes within one."""
        error = read(429, google(429, "x", quota_failure("RequestsPerMinute")))
        self.assertEqual((error.fault, error.retry_after), (Fault.RATE_LIMIT, 60.0))
        error = read(429, google(429, "x", reason("X", quota_limit="RequestsPerMinute")))
        self.assertEqual((error.fault, error.retry_after), (Fault.RATE_LIMIT, 60.0))

    def test_reset_delay(self) -> None:
        """The delay may stand in the metadata or in the message."""
        error = read(429, google(429, "x", reason("X", quotaResetDelay="4m2s")))
        self.assertEqual(error.retry_after, 242.0)
        error = read(429, google(429, "Your quota will reset after 7s."))
        self.assertEqual((error.fault, error.retry_after), (Fault.RATE_LIMIT, 7.0))

    def test_capacity(self) -> None:
        """A model without capacity is not the account's fault."""
        error = read(429, google(429, "x", reason("MODEL_CAPACITY_EXHAUSTED")))
        self.assertIs(error.fault, Fault.CAPACITY)
        error = read(429, google(429, "You have exhausted your capacity on this model."))
        self.assertIs(error.fault, Fault.CAPACITY)
        self.assertIs(read(503, google(503, "x", name="UNAVAILABLE")).fault, Fault.CAPACITY)

    def test_credits_and_quota(self) -> None:
        """Spent credits and spent quotas do not come back by waiting a moment."""
        for word in ("INSUFFICIENT_G1_CREDITS_BALANCE", "QUOTA_EXHAUSTED"):
            self.assertIs(read(429, google(429, "x", reason(word))).fault, Fault.QUOTA)

    def test_wrong_key(self) -> None:
        """A wrong key comes as a 400 and is the credential's fault all the same."""
        body = google(400, "API key not valid.", reason("API_KEY_INVALID"), name="INVALID_ARGUMENT")
        error = read(400, body)
        self.assertEqual((error.fault, error.status), (Fault.CREDENTIAL, 400))


class RetryAfterTests(SynchronousTestCase):
    """When to try again."""

    def wait(self, *headers: tuple[bytes, bytes], message: str = "x") -> float | None:
        """Return the seconds read from these headers of a 429."""
        return read(429, {"error": {"message": message}}, headers).retry_after

    def test_seconds(self) -> None:
        """Seconds, whole or not."""
        self.assertEqual(self.wait((b"retry-after", b" 7 ")), 7.0)
        self.assertEqual(self.wait((b"retry-after", b"0.5")), 0.5)

    def test_milliseconds(self) -> None:
        """Milliseconds are more precise and win."""
        self.assertEqual(self.wait((b"retry-after", b"2"), (b"retry-after-ms", b"1500")), 1.5)

    def test_date(self) -> None:
        """A date is read relative to the answer's own, and ignored without one."""
        until = (b"retry-after", b"Wed, 21 Oct 2026 07:28:30 GMT")
        self.assertEqual(self.wait(until, (b"date", b"Wed, 21 Oct 2026 07:28:00 GMT")), 30.0)
        self.assertEqual(self.wait(until, (b"date", b"Wed, 21 Oct 2026 07:29:00 GMT")), 0.0)
        self.assertIsNone(self.wait(until))

    def test_nonsense(self) -> None:
        """What is no time is ignored."""
        for value in (b"", b"soon", b"-1", b"nan", b"inf", b"\xff"):
            self.assertIsNone(self.wait((b"retry-after", value), (b"date", b"today")))

    def test_message(self) -> None:
        """A time in the message counts where no header tells one."""
        self.assertEqual(self.wait(message="Please try again in 6ms."), 0.006)
        headers = ((b"retry-after", b"3"),)
        self.assertEqual(self.wait(*headers, message="Please try again in 6s."), 3.0)

    def test_other_statuses(self) -> None:
        """A 503 may tell a time as well."""
        error = read(503, {"error": {}}, ((b"retry-after", b"4"),))
        self.assertEqual(error.retry_after, 4.0)

    def test_duration(self) -> None:
        """Only a complete duration is one."""
        for text in ("", "5", "s", "5s later", "5d"):
            self.assertIsNone(duration(text), text)
        self.assertEqual(duration("1h1m1s"), 3661.0)

    def test_a_long_duration_is_none(self) -> None:
        """Digits without end are no time, and cost none."""
        for text in ("9" * 400 + "s", "1" * 200_000, "1s" * 21):
            began = process_time()
            self.assertIsNone(duration(text), text[:50])
            self.assertIsNone(self.wait(message=f"retry in {text}"), text[:50])
            self.assertLess(process_time() - began, 0.5)

    def test_a_wait_is_never_longer_than_a_year(self) -> None:
        """Absurd waits are cut down to what a header and a clock can hold."""
        self.assertEqual(self.wait((b"retry-after", b"1e300")), MOST_WAIT)
        self.assertEqual(duration("9" * 30 + "h"), MOST_WAIT)
        date = (b"date", b"Wed, 21 Oct 2026 07:28:00 GMT")
        self.assertEqual(
            self.wait((b"retry-after", b"Wed, 21 Oct 9999 07:28:00 GMT"), date), MOST_WAIT
        )

    def test_absurd_dates(self) -> None:
        """A year or a zone that no clock has is no time."""
        date = (b"date", b"Wed, 21 Oct 2026 07:28:00 GMT")
        for value in (
            b"Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
            b"Mon, 01 Jan 2024 00:00:00 +99999999999999999999",
            b"Mon, 01 Jan 2024 00:00:00",
        ):
            self.assertIsNone(self.wait((b"retry-after", value), date), value)
            self.assertIsNone(self.wait((b"retry-after", date[1]), (b"date", value)), value)


class LimitTests(SynchronousTestCase):
    """Whose limit it is, and when it is over."""

    DATE = (b"date", b"Fri, 27 Nov 2026 20:00:00 GMT")

    def test_a_limit_of_one_model(self) -> None:
        """Google's dimensions, OpenAI's and Anthropic's prose say so."""
        per_model = quota_failure("GenerateRequestsPerMinutePerProjectPerModel")
        dimension = {
            "violations": [{"quotaId": "X", "quotaDimensions": {"model": "gemini-2.5-pro"}}]
        }
        prose = "Rate limit reached for gpt-4o in organization org-1 on tokens per min (TPM)."
        told = "This request would exceed your rate limit of 30,000 tokens (model: claude-x)."
        for error in (
            read(429, google(429, "Slow down.", per_model)),
            read(429, google(429, "Slow down.", dimension)),
            read(429, {"error": {"message": prose, "code": "rate_limit_exceeded"}}),
            read(429, {"error": {"message": told, "type": "rate_limit_error"}}),
        ):
            self.assertTrue(error.of_model, error.message)

    def test_a_limit_of_the_account(self) -> None:
        """Where nobody says otherwise it is the account's; and other faults are no limits."""
        plain = quota_failure("GenerateRequestsPerDayPerProject")
        for error in (
            read(429, google(429, "Slow down.", plain)),
            read(429, {"error": {"message": "Slow down.", "code": "rate_limit_exceeded"}}),
            read(400, {"error": {"message": "bad (model: claude-x)"}}),
        ):
            self.assertIsNone(error.of_model)

    def test_a_usage_limit_with_its_reset(self) -> None:
        """``resets_in_seconds``, or ``resets_at`` as seen from the answer's own clock."""
        limit = {"message": "Used up.", "type": "usage_limit_reached"}
        error = read(429, {"error": {**limit, "resets_in_seconds": 5000, "resets_at": 1}})
        self.assertEqual((error.fault, error.retry_after), (Fault.QUOTA, 5000.0))
        moment = 1795809600
        for told in (moment + 90, (moment + 90) * 1000):
            error = read(429, {"error": {**limit, "resets_at": told}}, (self.DATE,))
            self.assertEqual(error.retry_after, 90.0)
        error = read(429, {"error": {**limit, "resets_at": moment - 90}}, (self.DATE,))
        self.assertEqual(error.retry_after, 0.0)
        self.assertIsNone(read(429, {"error": {**limit, "resets_at": moment}}).retry_after)
        self.assertIsNone(read(429, {"error": {**limit, "resets_in_seconds": True}}).retry_after)

    def test_windows_that_are_used_up(self) -> None:
        """Of several the last to be over counts; one with something left counts for nothing."""
        headers = (
            (b"x-ratelimit-remaining-requests", b"0"),
            (b"x-ratelimit-reset-requests", b"8s"),
            (b"x-ratelimit-remaining-tokens", b"0"),
            (b"x-ratelimit-reset-tokens", b"6m0s"),
            (b"x-ratelimit-remaining-input-tokens", b"5"),
            (b"x-ratelimit-reset-input-tokens", b"9h"),
        )
        self.assertEqual(read(429, {"error": {}}, headers).retry_after, 360.0)
        anthropic = (
            self.DATE,
            (b"anthropic-ratelimit-output-tokens-remaining", b"0"),
            (b"anthropic-ratelimit-output-tokens-reset", b"2026-11-27T20:00:45Z"),
        )
        self.assertEqual(read(429, {"error": {}}, anthropic).retry_after, 45.0)
        hinted = (*anthropic, (b"retry-after", b"7"))
        self.assertEqual(read(429, {"error": {}}, hinted).retry_after, 7.0)
        broken = ((b"anthropic-ratelimit-tokens-remaining", b"0"), self.DATE)
        self.assertIsNone(read(429, {"error": {}}, broken).retry_after)

    def test_words(self) -> None:
        """``Please try again after 1 seconds`` is how Moonshot says it."""
        for text, seconds in (
            ("please try again after 1 seconds", 1.0),
            ("Try again in 2 minutes.", 120.0),
            ("Your limit will reset after 3 hours", 10800.0),
            ("try again after a while", None),
            ("try again after " + "9" * 400 + " seconds", None),
        ):
            error = read(429, {"error": {"message": text}})
            self.assertEqual(error.retry_after, seconds, text)
