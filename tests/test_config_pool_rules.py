"""
The rules that all accounts follow: selection, affinity, rests, budgets, probes, alerts.
"""

from __future__ import annotations

from typing import Any

from aiclient2api.config import AffinityLimits, Probe, Rest, RetryBudget, Timeouts, report
from aiclient2api.config.pool_keys import (
    AFFINITY_KEYS,
    BUDGET_KEYS,
    PROBE_INTERVAL,
    PROBE_MODE,
    STRATEGIES,
)
from tests.config_fakes import ConfigTestCase

KEY = {"openai_api_key": "sk-a"}


class DefaultTests(ConfigTestCase):
    """What holds when nobody said anything."""

    def test_nothing_said(self) -> None:
        """Round robin, an hour's affinity, three faults, five others, no probes, no alerts."""
        found = self.load()
        self.assertEqual(found.selection, {"*": "round_robin"})
        self.assertEqual(found.affinity, AffinityLimits(3600.0, 10_000))
        self.assertEqual(found.wait_for_account, 10.0)
        self.assertEqual(found.timeouts.queue, 60.0)
        self.assertEqual(found.max_error_count, 3)
        self.assertEqual(found.credential_switch_max_retries, 5)
        self.assertEqual(found.rest, Rest(5.0, 0.0, 300.0))
        self.assertEqual(found.retry_budget, RetryBudget(0.2, 10))
        self.assertEqual(found.probe, Probe("off", None, 600.0, 60.0, None, False))
        self.assertIsNone(found.health_alert_webhook_url)
        self.assertEqual(found.warnings, ())

    def test_table_and_values_agree(self) -> None:
        """The defaults in the table of keys are those that are used."""
        given = AffinityLimits(**{key.name: key.default for key in AFFINITY_KEYS})
        self.assertEqual(given, AffinityLimits())
        budget = RetryBudget(**{key.name: key.default for key in BUDGET_KEYS})
        self.assertEqual(budget, RetryBudget())
        self.assertEqual(Probe(PROBE_MODE.default, interval=PROBE_INTERVAL.default), Probe())

    def test_node_spellings(self) -> None:
        """Each key is known in capitals and in camelCase, too."""
        found = self.load(
            {
                "MAX_ERROR_COUNT": 10,
                "CREDENTIAL_SWITCH_MAX_RETRIES": "0",
                "waitForAccount": 2.5,
                "RETRY_BUDGET": {"SHARE": 0.5},
                "TIMEOUTS": {"QUEUE": 5},
            }
        )
        self.assertEqual((found.max_error_count, found.credential_switch_max_retries), (10, 0))
        self.assertEqual(found.wait_for_account, 2.5)
        self.assertEqual(found.retry_budget, RetryBudget(share=0.5))
        self.assertEqual(found.timeouts, Timeouts(queue=5.0))
        self.assertEqual(found.warnings, ())

    def test_flags(self) -> None:
        """The flags beat the file."""
        flags = {
            "max_error_count": "7",
            "rate_limit_cooldown_enabled": "true",
            "rate_limit_cooldown_max_ms": "60000",
        }
        found = self.load({"max_error_count": 1}, flags=flags)
        self.assertEqual(found.max_error_count, 7)
        self.assertEqual(found.rest, Rest(30.0, 5.0, 60.0))
        self.assertFault({}, "--max-error-count: ", flags={"max_error_count": "x"})

    def test_all_faults_at_once(self) -> None:
        """Each wrong value is told with its key and what to write."""
        body = {
            "selection": "best",
            "affinity": {"ttl": -1, "size": 0},
            "wait_for_account": "long",
            "max_error_count": -1,
            "credential_switch_max_retries": 1.5,
            "rate_limit_cooldown_enabled": "perhaps",
            "rate_limit_cooldown_ms": 5,
            "rate_limit_cooldown_jitter_ms": -5,
            "rate_limit_cooldown_max_ms": "x",
            "retry_budget": {"share": 1.5, "floor": -1},
            "probe": {"mode": "often", "model": [], "interval": 5, "jitter": -1},
            "scheduled_health_check": {"enabled": 3, "interval": "x", "providerTypes": 5},
            "health_alert_webhook_url": "nowhere",
            "timeouts": {"queue": -1},
        }
        found = self.faults(body)
        self.assertEqual(
            sorted(fault.split(": ")[1] for fault in found),
            [
                "affinity.size",
                "affinity.ttl",
                "credential_switch_max_retries",
                "health_alert_webhook_url",
                "max_error_count",
                "probe.interval",
                "probe.jitter",
                "probe.mode",
                "probe.model",
                "rate_limit_cooldown_enabled",
                "rate_limit_cooldown_jitter_ms",
                "rate_limit_cooldown_max_ms",
                "rate_limit_cooldown_ms",
                "retry_budget.floor",
                "retry_budget.share",
                "scheduled_health_check.enabled",
                "scheduled_health_check.interval",
                "scheduled_health_check.providerTypes",
                "selection",
                "timeouts.queue",
                "wait_for_account",
            ],
        )
        self.assertIn("from 10 to", "".join(found))

    def test_wrong_shapes(self) -> None:
        """What is neither an object nor the word that may stand for it is a fault."""
        self.assertFault({"affinity": 5}, "affinity: is 5; write an object", "or false")
        self.assertFault({"retry_budget": []}, "retry_budget: is a list; write an object")
        self.assertFault({"probe": True}, "probe: is true; write an object", "passive")
        self.assertFault({"selection": 5}, "selection: is 5; write an object", "fill_first")
        self.assertFault({"scheduled_health_check": True}, "scheduled_health_check: is true")

    def test_strange_keys(self) -> None:
        """A slip within an object is told with the key that was meant."""
        found = self.load({"affinity": {"tll": 5}, "probe": {"mode": "off", "modle": "m"}})
        self.assertWarned(found, 'affinity."tll"', '"ttl"')
        self.assertWarned(found, 'probe."modle"')


class SelectionTests(ConfigTestCase):
    """How the next account is chosen."""

    def test_one_for_all(self) -> None:
        """A strategy alone is for every provider; dashes and capitals do no harm."""
        for strategy in STRATEGIES:
            found = self.load({**KEY, "selection": strategy.replace("_", "-").upper()})
            self.assertEqual(found.strategy_for("openai-custom"), strategy)
            self.assertEqual(found.strategy_for("nobody"), strategy)
        found = self.load({"selection": "weighted-round-robin"})
        self.assertEqual(found.strategy_for("sandbox"), "weighted")

    def test_by_provider(self) -> None:
        """The exact name counts first, then the kind, then patterns in order, then ``*``."""
        rules = {
            "*": "weighted",
            "openai-custom-*": "least_busy",
            "open*": "fill_first",
            "openai-custom": "least-recently-used",
            "openai-custom-b": "round_robin",
        }
        pools: dict[str, Any] = {name: [{}] for name in ("openai-custom-b", "openai-custom-c")}
        found = self.load({**KEY, "selection": rules}, pools=pools)
        for name, strategy in (
            ("openai-custom-b", "round_robin"),
            ("openai-custom-c", "least_recently_used"),
            ("openai-custom", "least_recently_used"),
            ("openaiResponses-custom", "fill_first"),
            ("sandbox", "weighted"),
        ):
            self.assertEqual(found.strategy_for(name), strategy, name)
        self.assertEqual(found.warnings, ())

    def test_without_a_rest(self) -> None:
        """Who is not named and fits no pattern goes round robin."""
        found = self.load({**KEY, "selection": {"openai-custom": "fill_first"}})
        self.assertEqual(found.strategy_for("sandbox"), "round_robin")

    def test_pattern_before_the_rest(self) -> None:
        """A pattern beats ``*`` wherever it stands, and its other characters are plain."""
        found = self.load({**KEY, "selection": {"*": "weighted", "sand*": "least_busy"}})
        self.assertEqual(found.strategy_for("sandbox"), "least_busy")
        found = self.load({**KEY, "selection": {"sa.db*": "least_busy"}})
        self.assertEqual(found.strategy_for("sandbox"), "round_robin")

    def test_unknown_names(self) -> None:
        """A provider nobody knows, or that is not configured, is warned of."""
        rules = {
            "openai-costum": "weighted",
            "sample-oauth": "weighted",
            "_comment": "x",
            "*": None,
        }
        found = self.load({**KEY, "selection": rules})
        self.assertWarned(found, 'selection."openai-costum"', 'did you mean "openai-custom"?')
        self.assertWarned(found, 'selection."sample-oauth"', "is not configured")
        self.assertEqual(len(found.warnings), 2)

    def test_unknown_strategies(self) -> None:
        """A strategy nobody knows is a fault that names those there are."""
        self.assertFault(
            {"selection": {"sandbox": "best"}}, 'selection."sandbox": is "best"', "round_robin"
        )


class SwitchTests(ConfigTestCase):
    """Objects that false switches off."""

    def test_affinity(self) -> None:
        """false and a time of 0 are off; true is as ever."""
        self.assertEqual(self.load({"affinity": False}).affinity.ttl, 0.0)
        self.assertEqual(self.load({"affinity": {"ttl": 0}}).affinity, AffinityLimits(ttl=0.0))
        self.assertEqual(self.load({"affinity": True}).affinity, AffinityLimits())
        found = self.load({"affinity": {"ttl": "90", "size": 5}})
        self.assertEqual(found.affinity, AffinityLimits(90.0, 5))

    def test_retry_budget(self) -> None:
        """false is no limit at all, a share of 0 leaves the floor."""
        self.assertIsNone(self.load({"retry_budget": False}).retry_budget)
        self.assertEqual(self.load({"retry_budget": True}).retry_budget, RetryBudget())
        found = self.load({"retry_budget": {"share": 0, "floor": 3}})
        self.assertEqual(found.retry_budget, RetryBudget(0.0, 3))


class RestTests(ConfigTestCase):
    """Rests after a 429 without a hint."""

    def test_as_in_node(self) -> None:
        """Switched on, what is not said is as in the Node version."""
        found = self.load({"RATE_LIMIT_COOLDOWN_ENABLED": True})
        self.assertEqual(found.rest, Rest(30.0, 5.0, 300.0))
        found = self.load({"RATE_LIMIT_COOLDOWN_ENABLED": True, "RATE_LIMIT_COOLDOWN_MS": 1500})
        self.assertEqual(found.rest, Rest(1.5, 5.0, 300.0))
        self.assertEqual(found.warnings, ())

    def test_without_the_switch(self) -> None:
        """Numbers count without it, too."""
        body = {"rate_limit_cooldown_ms": 2000, "rate_limit_cooldown_jitter_ms": 500}
        self.assertEqual(self.load(body).rest, Rest(2.0, 0.5, 300.0))

    def test_switched_off(self) -> None:
        """There is no way without rests: false is told of, and the usual ones are taken."""
        body = {"RATE_LIMIT_COOLDOWN_ENABLED": False, "RATE_LIMIT_COOLDOWN_MS": 30_000}
        found = self.load(body)
        self.assertEqual(found.rest, Rest())
        self.assertWarned(found, "RATE_LIMIT_COOLDOWN_ENABLED: is false", "always rests")

    def test_longer_than_the_longest(self) -> None:
        """The longest rest bounds the first; that it does is told."""
        found = self.load({"rate_limit_cooldown_ms": 9000, "rate_limit_cooldown_max_ms": 4000})
        self.assertEqual(found.rest, Rest(4.0, 0.0, 4.0))
        self.assertWarned(found, "rate_limit_cooldown_ms", "longer than the longest")


class ProbeTests(ConfigTestCase):
    """Whether accounts are tried with a small request."""

    def test_an_object(self) -> None:
        """A jitter that is not said is a tenth of the interval."""
        found = self.load({"probe": {"mode": "Scheduled", "model": "m", "interval": 900}})
        self.assertEqual(found.probe, Probe("scheduled", "m", 900.0, 90.0, None, False))
        found = self.load({"probe": {"mode": "passive", "jitter": 0}})
        self.assertEqual(found.probe, Probe("passive", None, 600.0, 0.0))

    def test_a_word(self) -> None:
        """The mode may stand alone; false is off."""
        self.assertEqual(self.load({"probe": "passive"}).probe, Probe("passive"))
        self.assertEqual(self.load({"probe": False}).probe, Probe())

    def test_without_a_mode(self) -> None:
        """An object without a mode does nothing, and says so."""
        found = self.load({"probe": {"interval": 900}})
        self.assertEqual(found.probe.mode, "off")
        self.assertWarned(found, "probe: has no mode")

    def test_as_in_node(self) -> None:
        """The Node version's key is understood; kinds stand for all their providers."""
        check = {
            "enabled": True,
            "interval": 120_000,
            "startupRun": True,
            "providerTypes": ["openai-custom", "sandbox"],
        }
        found = self.load({**KEY, "SCHEDULED_HEALTH_CHECK": check}, pools={"openai-custom-b": [{}]})
        names = ("openai-custom-b", "sandbox")
        self.assertEqual(found.probe.providers, ("openai-custom", *names))
        self.assertEqual(found.probe.mode, "scheduled")
        self.assertEqual((found.probe.interval, found.probe.jitter), (120.0, 12.0))
        self.assertTrue(found.probe.at_start)
        self.assertEqual(found.warnings, ())
        self.assertEqual(
            self.load({"scheduledHealthCheck": {"enabled": False, "interval": 5}}).probe, Probe()
        )

    def test_without_provider_types(self) -> None:
        """As in the Node version nothing is checked then, and that is told."""
        found = self.load({"SCHEDULED_HEALTH_CHECK": {"enabled": True}})
        self.assertEqual(found.probe.providers, ())
        self.assertWarned(found, "SCHEDULED_HEALTH_CHECK: is enabled", "providerTypes")

    def test_unknown_provider_types(self) -> None:
        """A type that is none is told of with the one that was meant."""
        check = {"enabled": True, "providerTypes": ["sandbxo"]}
        found = self.load({"SCHEDULED_HEALTH_CHECK": check})
        self.assertWarned(found, "providerTypes", 'did you mean "sandbox"?')

    def test_too_often(self) -> None:
        """A shorter interval than ten seconds is lengthened, and that is told."""
        check = {"enabled": True, "interval": 1000, "providerTypes": ["sandbox"]}
        found = self.load({"SCHEDULED_HEALTH_CHECK": check})
        self.assertEqual(found.probe.interval, 10.0)
        self.assertWarned(found, "SCHEDULED_HEALTH_CHECK: its interval is 1 s")

    def test_flags(self) -> None:
        """The flags change parts of the Node version's key."""
        check = {"enabled": False, "providerTypes": ["sandbox"]}
        flags = {
            "scheduled_health_check_enabled": "true",
            "scheduled_health_check_interval": "60000",
        }
        found = self.load({"SCHEDULED_HEALTH_CHECK": check}, flags=flags)
        self.assertEqual(found.probe, Probe("scheduled", None, 60.0, 6.0, ("sandbox",)))
        flags["scheduled_health_check_enabled"] = "false"
        check["enabled"] = True
        found = self.load({"SCHEDULED_HEALTH_CHECK": check}, flags=flags)
        self.assertEqual(found.probe, Probe())

    def test_probe_comes_first(self) -> None:
        """Where both are set ``probe`` counts, and that is told."""
        check = {"enabled": True, "providerTypes": ["sandbox"]}
        found = self.load({"SCHEDULED_HEALTH_CHECK": check, "probe": "off"})
        self.assertEqual(found.probe, Probe())
        self.assertWarned(found, "scheduled_health_check: is not used", "probe is set")


class AlertTests(ConfigTestCase):
    """Whom to tell of an account's change."""

    def test_a_secret_in_the_url(self) -> None:
        """The URL may have a token in its query; it is shown nowhere."""
        url = "https://hooks.example/robot?token=hush-hush"
        found = self.load({"HEALTH_ALERT_WEBHOOK_URL": f" {url} "})
        self.assertEqual(found.health_alert_webhook_url, url)
        self.assertNotIn("hush", repr(found) + report(found))
        self.assertEqual(found.warnings, ())

    def test_empty(self) -> None:
        """An empty text is none, as the Node version writes it."""
        self.assertIsNone(self.load({"HEALTH_ALERT_WEBHOOK_URL": ""}).health_alert_webhook_url)

    def test_no_urls(self) -> None:
        """What is no URL is refused without being repeated."""
        for value in ("hush", "ftp://hush/", "https://hush@h/", "https://h/#hush", "https://", 5):
            found = self.faults({"health_alert_webhook_url": value})
            self.assertEqual(len(found), 1)
            self.assertNotIn("hush", found[0])
