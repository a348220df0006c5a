"""The error tree: every error has a face that HTTP and four dialects can show."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api import errors
from aiclient2api.dialects.all import DIALECTS
from aiclient2api.errors import ConfigurationError, Fault, GatewayError, UpstreamError


class TreeTests(SynchronousTestCase):
    """What callers of the tree rely on."""

    def test_every_error_has_a_status_and_a_kind(self) -> None:
        """A status of 400 and above; a kind in words, not the base class's."""
        kinds = [
            each
            for each in vars(errors).values()
            if isinstance(each, type) and issubclass(each, GatewayError)
        ]
        self.assertGreater(len(kinds), 8)
        for kind in kinds:
            if kind is not UpstreamError:
                self.assertTrue(400 <= kind.status < 600, kind)
                self.assertEqual(kind.kind == "internal", kind is GatewayError, kind)

    def test_every_fault_of_an_upstream_can_be_told(self) -> None:
        """In every dialect, with the status it was given; a full context is the caller's 400."""
        for fault in Fault:
            error = UpstreamError("it failed", fault=fault, status=502)
            for dialect in DIALECTS:
                status, body = dialect.render_error(error=error)
                self.assertEqual(status, 400 if fault is Fault.CONTEXT else 502)
                self.assertIn(b"it failed", body)

    def test_googles_clients_find_when_to_try_again_in_the_body(self) -> None:
        """In whole seconds, never too early; nothing where nothing is known."""
        gemini = next(each for each in DIALECTS if each.name == "gemini")
        error = UpstreamError("slow down", fault=Fault.RATE_LIMIT, status=429, retry_after=46.2)
        told = json.loads(gemini.render_error(error=error)[1])["error"]["details"]
        self.assertEqual(
            told, [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "47s"}]
        )
        error.retry_after = None
        self.assertEqual(json.loads(gemini.render_error(error=error)[1])["error"]["details"], [])

    def test_a_message_is_what_the_error_says(self) -> None:
        """In a log as in an answer."""
        error = GatewayError("it failed", code="c", param="p", retry_after=1.5)
        self.assertEqual(str(error), "it failed")
        self.assertEqual((error.code, error.param, error.retry_after), ("c", "p", 1.5))

    def test_a_faulty_configuration_tells_all_its_faults(self) -> None:
        """One a line, with what else was noticed kept apart."""
        error = ConfigurationError(["a: is wrong", "b: is wrong"], warnings=["c is unknown"])
        self.assertEqual(str(error), "a: is wrong\nb: is wrong")
        self.assertEqual(error.warnings, ("c is unknown",))
