"""Assembly: settings become seats and rules, without a byte sent or written."""

from __future__ import annotations

from tests.web_fixture import GatewayTestCase


class AssemblyTests(GatewayTestCase):
    """What a configuration amounts to."""

    def test_every_usable_provider_has_a_seat(self) -> None:
        """The sandbox always has one; nothing was sent to find that out."""
        self.build([])
        self.assertEqual(
            set(self.setup.seats),
            {
                "openai-custom",
                "openaiResponses-custom",
                "claude-custom",
                "gemini-custom",
                "sandbox",
            },
        )
        self.assertEqual(self.setup.directory.default, "openai-custom")
        self.assertEqual(self.upstream.sent, [])

    def test_a_provider_that_is_not_built_has_a_reason_instead(self) -> None:
        """It is the default all the same: another would be a surprise."""
        self.build([], model_provider="gemini-cli-oauth")
        self.assertNotIn("gemini-cli-oauth", self.setup.seats)
        self.assertIn("gemini-cli-oauth", self.setup.directory.unavailable)
        self.assertEqual(self.setup.directory.default, "gemini-cli-oauth")

    def test_auto_has_no_default(self) -> None:
        """Only a prefix or the model decides."""
        self.build([], model_provider="auto")
        self.assertIsNone(self.setup.directory.default)

    def test_what_is_served_is_looked_up_when_it_is_asked(self) -> None:
        """A list that was had since is known at once."""
        self.build([])
        served = self.setup.directory.served
        self.assertIn("sandbox-fast", served["sandbox"])
        self.assertIn("sandbox", served)
        self.assertNotIn("nobody", served)
        self.assertEqual(len(served), len(self.setup.seats))

    def test_clocks_and_limits_come_from_the_configuration(self) -> None:
        """An explicit 0 stays 0."""
        self.build(
            [],
            timeouts={"idle": 0, "first_event": 7, "upload": 9},
            limits={"body_bytes": 1234},
            request_max_retries=0,
            request_base_delay=250,
        )
        patience = self.setup.patience
        self.assertEqual((patience.idle, patience.first_event), (0, 7))
        self.assertEqual((patience.max_retries, patience.base_delay), (0, 0.25))
        self.assertEqual((self.setup.upload_seconds, self.setup.body_limit), (9, 1234))
