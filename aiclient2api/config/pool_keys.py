"""
The keys of ``config.json`` about several accounts at once, and of the custom models' file.

How the next account is chosen, how long one rests, who answers in another's place. What
a single account says of itself is in `keys`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiclient2api.config import values as read
from aiclient2api.config.key import Key, count, milliseconds, seconds
from aiclient2api.config.values import Given
from aiclient2api.cut_routes import WORDS

STRATEGIES = ("round_robin", "least_recently_used", "least_busy", "fill_first", "weighted")
"""The ways to choose the next account; the first is the default."""

_COOLDOWN = "rate_limit_cooldown"
_strategies = read.choice(*STRATEGIES)


def _strategy(given: Given) -> str:
    """Read a strategy's name, also as other programs write it: ``weighted-round-robin``."""
    name = given.value
    if isinstance(name, str):
        name = name.strip().lower().replace("-", "_")
        if name == "weighted_round_robin":
            return "weighted"
        if name in STRATEGIES:
            return name
    return _strategies(given)


def _mode(given: Given) -> str:
    """Read how accounts are probed; false is off."""
    return "off" if given.value is False else _modes(given)


_modes = read.choice("off", "passive", "scheduled")

STRATEGY = Key("strategy", _strategy, STRATEGIES[0], "How the next account is chosen.")
SELECTION: Key[Mapping[str, Any] | str] = Key(
    "selection",
    read.object_or(_strategy, f"one of {', '.join(STRATEGIES)}"),
    STRATEGIES[0],
    "How the next account is chosen: a strategy, or an object of providers and strategies.",
)
AFFINITY: Key[Mapping[str, Any] | bool] = Key(
    "affinity",
    read.object_or(read.yes_no, "false to switch it off"),
    True,
    "How long a conversation stays with its account; false switches it off.",
)
AFFINITY_KEYS: tuple[Key[Any], ...] = (
    Key("ttl", seconds(example=3600), 3600.0, "Seconds since its last turn; 0 is off."),
    Key(
        "size",
        read.whole(low=1, high=10_000_000, what="a whole number", example=10_000),
        10_000,
        "How many conversations are remembered.",
    ),
)
WAIT_FOR_ACCOUNT = Key(
    "wait_for_account", seconds(), 10.0, "Seconds to wait for an account that rests; 0: never."
)
MAX_ERROR_COUNT = Key(
    "max_error_count", count(), 3, "Upstream faults in a row before an account rests; 0: never."
)
CREDENTIAL_SWITCH_MAX_RETRIES = Key(
    "credential_switch_max_retries",
    count(1000, 5),
    5,
    "How many other accounts are tried for one request; 0: none.",
)
CRON_NEAR_MINUTES = Key(
    "cron_near_minutes",
    count(525_600, 15),
    15,
    "Minutes before its expiry that a login's token is renewed; 0: only when it has expired.",
)
CRON_REFRESH_TOKEN = Key(
    "cron_refresh_token", read.yes_no, True, "false renews tokens only when a request needs one."
)
COOLDOWN_ENABLED: Key[bool | None] = Key(
    f"{_COOLDOWN}_enabled", read.yes_no, None, "true: rests after a 429 as the Node version has."
)
COOLDOWN_MS: Key[int | None] = Key(
    f"{_COOLDOWN}_ms",
    milliseconds(100, 30_000),
    None,
    "Milliseconds of the first rest after a 429 that names none.",
)
COOLDOWN_JITTER_MS: Key[int | None] = Key(
    f"{_COOLDOWN}_jitter_ms", milliseconds(), None, "Up to so many are added, at random."
)
COOLDOWN_MAX_MS: Key[int | None] = Key(
    f"{_COOLDOWN}_max_ms", milliseconds(100, 300_000), None, "The longest such rest."
)
RETRY_BUDGET: Key[Mapping[str, Any] | bool] = Key(
    "retry_budget",
    read.object_or(read.yes_no, "false for no limit"),
    True,
    "Which share of the calls may be retries; false: no limit.",
)
BUDGET_KEYS: tuple[Key[Any], ...] = (
    Key(
        "share",
        read.number(high=1.0, what="a number", example=0.2),
        0.2,
        "Retries for each call.",
    ),
    Key("floor", count(example=10), 10, "So many are always allowed."),
)
PROBE: Key[Mapping[str, Any] | str] = Key(
    "probe",
    read.object_or(_mode, "off, passive or scheduled"),
    "off",
    "Whether accounts are tried with a small request: a mode, or an object.",
)
PROBE_MODE = Key("mode", _mode, "off", "off, passive (only those that rest) or scheduled (all).")
PROBE_MODEL: Key[str | None] = Key("model", read.text, None, "The model to ask.")
PROBE_INTERVAL = Key(
    "interval",
    read.number(low=10.0, high=read.YEAR, what="a number of seconds", example=600),
    600.0,
    "Seconds between two probes of one account.",
)
PROBE_JITTER: Key[float | None] = Key(
    "jitter", seconds(example=60), None, "Up to so many are added, at random."
)
PROBE_KEYS: tuple[Key[Any], ...] = (PROBE_MODE, PROBE_MODEL, PROBE_INTERVAL, PROBE_JITTER)
SCHEDULED: Key[Mapping[str, Any]] = Key(
    "scheduled_health_check", read.mapping, {}, "The Node version's way to say probe."
)
SCHEDULED_ENABLED: Key[bool | None] = Key(
    "scheduled_health_check_enabled", read.yes_no, None, "Its key enabled, for the command line."
)
SCHEDULED_INTERVAL: Key[int | None] = Key(
    "scheduled_health_check_interval",
    milliseconds(example=600_000),
    None,
    "Its key interval, for the command line.",
)
CHECK_ENABLED = Key("enabled", read.yes_no, False, "Whether accounts are probed.")
CHECK_INTERVAL = Key("interval", milliseconds(example=600_000), 600_000, "Milliseconds.")
CHECK_STARTUP_RUN = Key("startup_run", read.yes_no, False, "Also at the start.", ("startupRun",))
CHECK_PROVIDER_TYPES: Key[tuple[str, ...]] = Key(
    "provider_types", read.names, (), "The only providers that are probed.", ("providerTypes",)
)
SCHEDULED_KEYS: tuple[Key[Any], ...] = (
    CHECK_ENABLED,
    CHECK_INTERVAL,
    CHECK_STARTUP_RUN,
    CHECK_PROVIDER_TYPES,
)
HEALTH_ALERT_WEBHOOK_URL: Key[str | None] = Key(
    "health_alert_webhook_url", read.webhook, None, "Whom to tell of an account's change."
)
PROVIDER_FALLBACK_CHAIN: Key[Mapping[str, Any]] = Key(
    "provider_fallback_chain",
    read.mapping,
    {},
    "Which providers answer in a provider's place.",
    ("providerFallbackChain",),
)
CHAIN: Key[tuple[str, ...]] = Key("chain", read.names, (), "The providers of one chain.")
MODEL_FALLBACK_MAPPING: Key[Mapping[str, Any]] = Key(
    "model_fallback_mapping",
    read.mapping,
    {},
    "Which models answer in a model's place.",
    ("modelFallbackMapping",),
)
TARGET_PROVIDER: Key[str | None] = Key(
    "target_provider_type",
    read.text,
    None,
    "Who answers; left out, the same provider.",
    ("targetProviderType",),
)
TARGET_MODEL = Key("target_model", read.text, "", "What it calls the model.", ("targetModel",))
TARGET_KEYS: tuple[Key[Any], ...] = (TARGET_PROVIDER, TARGET_MODEL)
_word = read.choice(*WORDS)
CUT_WORD = Key("word", _word, WORDS[0], "What to do with a stream that broke off.")
ON_CUT: Key[Mapping[str, Any] | str] = Key(
    "on_cut",
    read.object_or(_word, f"one of {', '.join(WORDS)}"),
    WORDS[0],
    "What to do with a stream that broke off: error or resume, or an object of routes.",
)
CUSTOM_MODELS_FILE_PATH: Key[Path | None] = Key(
    "custom_models_file_path", read.path, None, "The file that lists models of your own naming."
)

POOL_KEYS: tuple[Key[Any], ...] = (
    SELECTION,
    AFFINITY,
    WAIT_FOR_ACCOUNT,
    MAX_ERROR_COUNT,
    CREDENTIAL_SWITCH_MAX_RETRIES,
    CRON_NEAR_MINUTES,
    CRON_REFRESH_TOKEN,
    COOLDOWN_ENABLED,
    COOLDOWN_MS,
    COOLDOWN_JITTER_MS,
    COOLDOWN_MAX_MS,
    RETRY_BUDGET,
    PROBE,
    SCHEDULED,
    SCHEDULED_ENABLED,
    SCHEDULED_INTERVAL,
    HEALTH_ALERT_WEBHOOK_URL,
    PROVIDER_FALLBACK_CHAIN,
    MODEL_FALLBACK_MAPPING,
    ON_CUT,
    CUSTOM_MODELS_FILE_PATH,
)
"""Every key of ``config.json`` about several accounts at once."""

MODEL_ID = Key("id", read.text, "", "What clients ask for.")
MODEL_ALIAS = Key("alias", read.text, "", "Another name for it.")
MODEL_NAME: Key[str | None] = Key("name", read.text, None, "A name for people.")
MODEL_DESCRIPTION: Key[str | None] = Key("description", read.text, None, "A text for people.")
MODEL_OWNER = Key("provider", read.text, "", "Under which provider it is listed.")
ACTUAL_PROVIDER = Key("actual_provider", read.text, "", "Who answers.", ("actualProvider",))
ACTUAL_MODEL = Key("actual_model", read.text, "", "What it calls the model.", ("actualModel",))
_tokens = read.whole(low=1, high=2**40, what="a whole number of tokens", example=8192)
CONTEXT_LENGTH: Key[int | None] = Key(
    "context_length", _tokens, None, "Tokens of its context window.", ("contextLength",)
)
MAX_TOKENS: Key[int | None] = Key(
    "max_tokens", _tokens, None, "The longest answer, whatever the caller says.", ("maxTokens",)
)
TEMPERATURE: Key[float | None] = Key(
    "temperature",
    read.number(high=2.0, what="a number", example=0.7),
    None,
    "The temperature, whatever the caller says.",
)
TOP_P: Key[float | None] = Key(
    "top_p",
    read.number(high=1.0, what="a number", example=0.95),
    None,
    "The same for top_p.",
    ("topP",),
)
MODEL_KEYS: tuple[Key[Any], ...] = (
    MODEL_ID,
    MODEL_ALIAS,
    MODEL_NAME,
    MODEL_DESCRIPTION,
    MODEL_OWNER,
    ACTUAL_PROVIDER,
    ACTUAL_MODEL,
    CONTEXT_LENGTH,
    MAX_TOKENS,
    TEMPERATURE,
    TOP_P,
)
"""Every key of a model in ``custom_models.json``."""
