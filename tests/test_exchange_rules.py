"""The exchange's rules: when it tries again, and what it never shows."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.errors import Fault, RawReply, UpstreamError
from aiclient2api.exchange import Patience, retry_delay, without_secrets

PATIENCE = Patience(max_retries=3, base_delay=1.0)


def delay(
    fault: Fault,
    *,
    status: int = 502,
    tries: int = 0,
    plain: int = 0,
    retry_after: float | None = None,
    code: str | None = None,
    left: float | None = None,
    jitter: float = 0.0,
    patience: Patience = PATIENCE,
) -> float | None:
    """Ask for the delay after one error."""
    error = UpstreamError(
        "it failed", fault=fault, status=status, retry_after=retry_after, code=code
    )
    return retry_delay(error, tries=tries, plain=plain, patience=patience, left=left, jitter=jitter)


class RetryTests(SynchronousTestCase):
    """Trying again is for what may pass by itself, and only so often."""

    def test_broken_connections_are_tried_again(self) -> None:
        """Refused, reset and cut off before the first byte: up to request_max_retries."""
        for fault in (Fault.UNREACHABLE, Fault.RESET, Fault.TRUNCATED, Fault.CAPACITY):
            self.assertEqual([delay(fault, tries=n) for n in range(4)], [1.0, 2.0, 4.0, None])

    def test_a_plain_500_is_tried_once_more(self) -> None:
        """A bug upstream rarely heals; 502 and 504 come from proxies and do."""
        self.assertEqual([delay(Fault.SERVER, status=500, plain=n) for n in (1, 2)], [1.0, None])
        self.assertEqual(delay(Fault.SERVER, status=500, tries=1, plain=1), 2.0)
        self.assertEqual(delay(Fault.SERVER, status=502, tries=1), 2.0)

    def test_what_the_caller_or_the_credential_is_at_fault_for_is_final(self) -> None:
        """Asking again would cost money and give the same answer."""
        for fault in (
            Fault.CALLER,
            Fault.POLICY,
            Fault.CONTEXT,
            Fault.CREDENTIAL,
            Fault.PERMISSION,
            Fault.NOT_FOUND,
            Fault.QUOTA,
            Fault.TIMEOUT,
        ):
            self.assertIsNone(delay(fault, retry_after=1))

    def test_a_rate_limit_is_waited_for_only_with_a_short_hint(self) -> None:
        """Without a hint, or with a long one, it is the caller's to wait."""
        self.assertIsNone(delay(Fault.RATE_LIMIT, status=429))
        self.assertEqual(delay(Fault.RATE_LIMIT, status=429, retry_after=7), 7)
        self.assertEqual(delay(Fault.RATE_LIMIT, status=429, retry_after=0), 0)
        self.assertIsNone(delay(Fault.RATE_LIMIT, status=429, retry_after=31))

    def test_a_hint_is_honoured_on_any_repeatable_error(self) -> None:
        """A 503 that says when to come back is believed, within bounds."""
        self.assertEqual(delay(Fault.CAPACITY, status=503, retry_after=12), 12)
        self.assertIsNone(delay(Fault.CAPACITY, status=503, retry_after=3600))

    def test_no_wait_is_longer_than_the_time_left(self) -> None:
        """A wait that ends after the deadline is pointless."""
        self.assertIsNone(delay(Fault.RESET, left=0.5))
        self.assertEqual(delay(Fault.RESET, left=1.5), 1.0)

    def test_zero_retries_means_none(self) -> None:
        """request_max_retries 0 is 0, not the default."""
        self.assertIsNone(delay(Fault.RESET, patience=Patience(max_retries=0)))

    def test_jitter_spreads_over_half_the_delay(self) -> None:
        """Clients that failed together do not come back together."""
        self.assertEqual(delay(Fault.RESET, tries=2, jitter=0.5), 3.0)

    def test_no_delay_of_ours_is_longer_than_half_a_minute(self) -> None:
        """Doubling stops there, however many retries are allowed."""
        patience = Patience(max_retries=5000, base_delay=1.0)
        self.assertEqual(
            [delay(Fault.RESET, tries=n, patience=patience) for n in (4, 5, 60, 4000)],
            [16.0, 30.0, 30.0, 30.0],
        )
        self.assertEqual(delay(Fault.RESET, tries=60, patience=patience, jitter=0.5), 22.5)

    def test_what_cannot_pass_by_itself_is_not_tried_again(self) -> None:
        """An answer that is none, and a bug of ours, come back the same."""
        self.assertEqual(delay(Fault.SERVER, code="bad_gateway"), 1.0)
        for code in ("no_answer", "redirected", "gateway_bug"):
            self.assertIsNone(delay(Fault.SERVER, code=code))
            self.assertIsNone(delay(Fault.RATE_LIMIT, code=code, retry_after=1))


class SecretTests(SynchronousTestCase):
    """A credential never reaches a client, whoever echoes it."""

    def test_an_echoed_credential_is_cut_out(self) -> None:
        """Out of the message, the verbatim body and its headers."""
        error = UpstreamError(
            "Incorrect API key provided: sk-test-1",
            fault=Fault.CREDENTIAL,
            status=401,
            reply=RawReply(
                401, ((b"x-request-id", b"for sk-test-1"),), b'{"error":"key sk-test-1 is bad"}'
            ),
        )
        clean = without_secrets(error, ["sk-test-1"])
        self.assertEqual(clean.message, "Incorrect API key provided: [secret]")
        assert clean.reply is not None
        self.assertEqual(clean.reply.body, b'{"error":"key [secret] is bad"}')
        self.assertEqual(clean.reply.headers, ((b"x-request-id", b"for [secret]"),))
        self.assertEqual((clean.fault, clean.status), (Fault.CREDENTIAL, 401))

    def test_no_field_is_forgotten(self) -> None:
        """Code and param are shown, too; what is not a text stays as it is."""
        error = UpstreamError(
            "it failed",
            fault=Fault.CALLER,
            status=400,
            code="sk-testlong",
            param="sk-testlong",
            retry_after=3,
        )
        clean = without_secrets(error, ["sk-test", "sk-testlong"])
        self.assertEqual((clean.code, clean.param, clean.retry_after), ("[secret]", "[secret]", 3))

    def test_the_longer_of_two_credentials_goes_whole(self) -> None:
        """One that begins with another leaves nothing behind."""
        reply = RawReply(400, (), b"sk-testlong")
        error = UpstreamError("sk-testlong", fault=Fault.CALLER, status=400, reply=reply)
        clean = without_secrets(error, ["sk-test", "sk-testlong"])
        assert clean.reply is not None
        self.assertEqual((clean.message, clean.reply.body), ("[secret]", b"[secret]"))

    def test_an_escaped_credential_is_cut_out(self) -> None:
        """JSON may write a slash in two ways."""
        reply = RawReply(401, (), b'{"error":"a\\/b+c-key"}')
        error = UpstreamError("no", fault=Fault.CREDENTIAL, status=401, reply=reply)
        clean = without_secrets(error, ["a/b+c-key"])
        assert clean.reply is not None
        self.assertEqual(clean.reply.body, b'{"error":"[secret]"}')

    def test_an_account_without_credential_changes_nothing(self) -> None:
        """An empty secret must not be replaced everywhere."""
        error = UpstreamError("it failed", fault=Fault.SERVER, status=500)
        self.assertIs(without_secrets(error, ["", "ab"]), error)
