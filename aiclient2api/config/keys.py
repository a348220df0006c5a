"""
The table of configuration keys: each with its spellings, its default and its meaning.

``docs/configuration.md`` says the same for people, and a test holds the two together.
What a provider is configured with is not listed here: its own settings class says so.
The exception are providers that are known but not built yet (`UNBUILT`).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import attrs

from aiclient2api.config import values as read
from aiclient2api.config.listen import endpoint
from aiclient2api.config.values import YEAR, Given, Reader

T = TypeVar("T")


@attrs.frozen
class Key(Generic[T]):
    """
    One configuration key.

    :ivar name: Its name in snake_case.
    :ivar reader: Turns what the user wrote into a value, or raises `Wrong`.
    :ivar default: The value if the user wrote nothing.
    :ivar help: One line for people.
    :ivar also: Other names; the first is the Node version's where that is not simply
        the name in capitals.
    :ivar later: True if it is understood but has no effect yet.
    """

    name: str
    reader: Reader[T]
    default: T
    help: str
    also: tuple[str, ...] = ()
    later: bool = False

    @property
    def node(self) -> str:
        """Return the spelling of the Node version."""
        return self.also[0] if self.also else self.name.upper()


def folded(spelling: str) -> str:
    """Return what snake_case, UPPER_CASE and camelCase of one name have in common."""
    return spelling.replace("_", "").lower()


def is_comment(spelling: str) -> bool:
    """Say whether a JSON key is a remark, such as ``_comment`` or ``$schema``."""
    return spelling.startswith(("_", "$", "//", "#"))


def nearest(spelling: str, known: Iterable[str]) -> str | None:
    """Return the known name a user most likely meant, in the user's style, or None."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", spelling[:80]).lower()
    lowered = {name.lower(): name for name in sorted(known)}
    for found in difflib.get_close_matches(snake, lowered, n=1):
        return found.upper() if spelling.isupper() else lowered[found]
    return None


def _seconds(what: str = "a number of seconds", example: float = 10.0) -> Reader[float]:
    return read.number(high=YEAR, what=what, example=example)


def _count(high: int = 1_000_000, example: int = 3) -> Reader[int]:
    return read.whole(low=0, high=high, what="a whole number", example=example)


def _milliseconds(example: int = 1000) -> Reader[int]:
    what = "a whole number of milliseconds"
    return read.whole(low=0, high=366 * 86_400_000, what=what, example=example)


def _anything(given: Given) -> object:
    return given.value


def _later(name: str, reader: Reader[Any], help: str, *also: str) -> Key[Any]:
    return Key(name, reader, None, help, also, later=True)


_PORT = read.whole(low=0, high=65535, what="a port", example=3000)
_BYTES = read.whole(low=1, high=2**40, what="a whole number of bytes", example=64 * 1024 * 1024)

# --- what has an effect -------------------------------------------------------

HOST: Key[str | None] = Key(
    "host", read.text, None, "The address to listen on; localhost is 127.0.0.1."
)
PORT = Key("port", _PORT, 3000, "The port to listen on; 0 takes a free one.", ("SERVER_PORT",))
LISTEN: Key[str | None] = Key(
    "listen", endpoint, None, "Twisted endpoint strings, instead of host and port."
)
REQUIRED_API_KEY: Key[str | None] = Key(
    "required_api_key",
    read.secret,
    None,
    'The key or keys a caller must present; "" lets everybody in; absent makes a random one.',
)
MODEL_PROVIDER: Key[tuple[str, ...]] = Key(
    "model_provider",
    read.names,
    (),
    "The provider, or several with commas or as a list; the first is the default.",
)
PROVIDER_POOLS_FILE_PATH: Key[Path | None] = Key(
    "provider_pools_file_path", read.path, None, "The file that lists the accounts."
)
SYSTEM_PROMPT_FILE_PATH: Key[Path | None] = Key(
    "system_prompt_file_path", read.path, None, "A file with a system prompt of yours."
)
SYSTEM_PROMPT_MODE = Key(
    "system_prompt_mode",
    read.choice("overwrite", "append"),
    "append",
    "overwrite replaces the caller's system prompt, append adds yours to it.",
)
SYSTEM_PROMPT_REPLACEMENTS: Key[list[Any]] = Key(
    "system_prompt_replacements",
    read.listing,
    [],
    'A list of {"old": ..., "new": ...}, applied literally to the system prompt.',
)
REPLACEMENT_OLD: Key[str | None] = Key("old", read.text, None, "The text to replace.")
REPLACEMENT_NEW = Key("new", read.text, "", "What to put in its place.")
PROMPT_LOG_MODE = Key(
    "prompt_log_mode",
    read.choice("none", "console", "file"),
    "none",
    "Where prompts and answers are logged: none, console or file.",
)
PROMPT_LOG_BASE_NAME: Key[Path | None] = Key(
    "prompt_log_base_name", read.path, None, "How the prompt log's file names begin."
)
FETCH_SYSTEM_PROMPT: Key[Path | None] = Key(
    "fetch_system_prompt",
    read.path_or_no,
    None,
    "A file to keep the last caller's system prompt in; true takes fetch_system_prompt.txt.",
)
REQUEST_MAX_RETRIES = Key(
    "request_max_retries", _count(100), 3, "How often a failed call is tried again."
)
REQUEST_BASE_DELAY = Key(
    "request_base_delay", _milliseconds(), 1000, "Milliseconds before the first retry; doubles."
)
TIMEOUTS: Key[Mapping[str, Any]] = Key(
    "timeouts", read.mapping, {}, "An object of clocks, in seconds; 0 is off."
)
LIMITS: Key[Mapping[str, Any]] = Key("limits", read.mapping, {}, "An object of sizes.")
FETCH_IMAGES: Key[bool | None] = Key(
    "fetch_images",
    read.yes_no,
    None,
    "Whether images by URL are fetched for models that want the bytes; or an object, see there.",
)
STORED_RESPONSES: Key[Mapping[str, Any]] = Key(
    "stored_responses", read.mapping, {}, "An object: how long and how much answers are kept."
)
STATE_DIR: Key[Path | None] = Key(
    "state_dir", read.path, None, "The folder for the generated key and other state."
)
LOG_LEVEL = Key(
    "log_level", read.level, "info", "How much is logged: debug, info, warn, error, critical."
)
PROXY_URL: Key[str] = Key(
    "proxy_url", read.proxy, "", "An http, https or socks5 proxy for calls to upstreams."
)
PROXY_ENABLED_PROVIDERS: Key[tuple[str, ...] | None] = Key(
    "proxy_enabled_providers",
    read.names,
    None,
    "The only providers proxy_url is for; absent means all, [] none.",
)
CORS_ORIGINS = Key(
    "cors_origins", read.origin, "", "Web origins whose pages may call; none by default."
)

TIMEOUT_KEYS: tuple[Key[float], ...] = (
    Key("connect", _seconds(), 10.0, "To reach the upstream."),
    Key("response_headers", _seconds(example=600), 600.0, "Until the upstream's headers."),
    Key("first_event", _seconds(example=300), 300.0, "Until a stream's first real event."),
    Key("idle", _seconds(example=300), 300.0, "Between two reads of an answer."),
    Key("total", _seconds(example=900), 0.0, "For the whole exchange."),
    Key("upload", _seconds(example=60), 60.0, "For the client to send its request."),
)
LIMIT_KEYS: tuple[Key[int], ...] = (
    Key("body_bytes", _BYTES, 64 * 1024 * 1024, "The largest request body taken."),
    Key("held_bytes", _BYTES, 64 * 1024 * 1024, "The most that is held of one whole answer."),
)
FETCH_ENABLED = Key("enabled", read.yes_no, False, "Whether images by URL are fetched.")
FETCH_KEYS: tuple[Key[Any], ...] = (
    FETCH_ENABLED,
    Key("bytes", _BYTES, 20 * 1024 * 1024, "The largest image or file that is fetched."),
    Key(
        "seconds",
        read.whole(low=1, high=3600, what="a whole number of seconds", example=15),
        15,
        "To fetch one, from looking up its host to its last byte.",
    ),
)
STORED_KEYS: tuple[Key[Any], ...] = (
    Key("ttl", _seconds(example=86400), 604_800.0, "How long an answer is kept; 0 keeps none."),
    Key("bytes", _BYTES, 256 * 1024 * 1024, "The most that all of them may have."),
    Key(
        "item_bytes",
        read.whole(low=1, high=2**29, what="a whole number of bytes", example=16 * 1024 * 1024),
        16 * 1024 * 1024,
        "The most that one may have, with its conversation.",
    ),
)
LATER_LIMIT_KEYS: tuple[Key[Any], ...] = (
    _later("connections", _count(), "Connections from clients at once."),
    _later("in_flight", _count(), "Requests at work at once."),
    _later("per_key", _count(), "Requests at work at once for one key."),
)

# --- what is understood, without effect yet -----------------------------------

_bool, _list, _map, _text, _file = read.yes_no, read.names, read.mapping, read.text, read.path

LATER: tuple[Key[Any], ...] = (
    _later("cron_near_minutes", _count(525_600, 15), "Minutes before expiry to renew tokens."),
    _later("cron_refresh_token", _bool, "Whether tokens are renewed in time."),
    _later("max_error_count", _count(), "Errors in a row before an account rests."),
    _later("credential_switch_max_retries", _count(), "How many other accounts to try."),
    _later("rate_limit_cooldown_enabled", _bool, "Whether a 429 rests the account."),
    _later("rate_limit_cooldown_ms", _milliseconds(), "How long it rests."),
    _later("rate_limit_cooldown_jitter_ms", _milliseconds(), "A random part of that."),
    _later("rate_limit_cooldown_max_ms", _milliseconds(), "The longest rest."),
    _later("custom_models_file_path", _file, "Aliases for models."),
    _later("provider_fallback_chain", _map, "Providers to fall back to.", "providerFallbackChain"),
    _later("model_fallback_mapping", _map, "Models to fall back to.", "modelFallbackMapping"),
    _later("scheduled_health_check", _map, "When accounts are probed."),
    _later("health_alert_webhook_url", read.url, "Whom to tell of an account's change."),
    _later("retry_budget", _map, "The share of calls that may be retries."),
    _later("selection", _anything, "How the next account is chosen."),
    _later("affinity", _map, "How long a conversation stays with its account."),
    _later("wait_for_account", _anything, "How long to wait for a free account."),
    _later("probe", _map, "How resting accounts are tried."),
    _later("grace", _seconds(example=30), "Seconds a stop waits for requests at work."),
    _later("on_cut", _text, "What to do with a stream that broke off."),
    _later("admin_listen", _anything, "Where the admin pages listen."),
    _later("login_expiry", _seconds(example=3600), "Seconds an admin login lasts."),
    _later("login_max_attempts", _count(), "Wrong passwords before a lock-out."),
    _later("login_lockout_duration", _seconds(example=1800), "Seconds a lock-out lasts."),
    _later("login_min_interval", _milliseconds(), "Milliseconds between two logins."),
    _later("trust_proxy", _bool, "Whether X-Forwarded-For is believed."),
    _later("trusted_proxy_ips", _list, "From whom it is believed."),
    *(
        _later(f"use_system_proxy_{of}", _bool, "No longer needed: the environment is honoured.")
        for of in ("gemini", "openai", "claude", "qwen", "kiro", "forward")
    ),
    _later("refresh_concurrency_global", _count(), "Tokens renewed at once."),
    _later("refresh_concurrency_per_provider", _count(), "The same, for one provider."),
    _later("refresh_buffer_delay", _milliseconds(), "How long renewals are gathered."),
    _later("refresh_task_timeout_ms", _milliseconds(), "How long a renewal may take."),
    _later("warmup_target", _count(), "Accounts made ready at start."),
    _later("log_enabled", _bool, "The log is always on."),
    _later("log_output_mode", _text, "The log goes where twistd is told."),
    _later("log_dir", _file, "The same."),
    _later("log_include_request_id", _bool, "It always does."),
    _later("log_include_timestamp", _bool, "It always does."),
    _later("log_max_file_size", _count(2**40), "logrotate does this."),
    _later("log_max_files", _count(), "logrotate does this."),
    _later("tls_sidecar_enabled", _bool, "There is no side car."),
    _later("tls_sidecar_enabled_providers", _list, "The same."),
    _later("tls_sidecar_port", _PORT, "The same."),
    _later("tls_sidecar_binary_path", _file, "The same."),
    _later("tls_sidecar_proxy_url", read.proxy, "The same."),
    _later("ui_enabled", _bool, "Whether there are admin pages."),
)

KEYS: tuple[Key[Any], ...] = (
    HOST,
    PORT,
    LISTEN,
    REQUIRED_API_KEY,
    MODEL_PROVIDER,
    PROVIDER_POOLS_FILE_PATH,
    SYSTEM_PROMPT_FILE_PATH,
    SYSTEM_PROMPT_MODE,
    SYSTEM_PROMPT_REPLACEMENTS,
    PROMPT_LOG_MODE,
    PROMPT_LOG_BASE_NAME,
    FETCH_SYSTEM_PROMPT,
    REQUEST_MAX_RETRIES,
    REQUEST_BASE_DELAY,
    TIMEOUTS,
    LIMITS,
    FETCH_IMAGES,
    STORED_RESPONSES,
    STATE_DIR,
    LOG_LEVEL,
    PROXY_URL,
    PROXY_ENABLED_PROVIDERS,
    CORS_ORIGINS,
    *LATER,
)
"""Every key of ``config.json`` that belongs to no provider."""

# --- accounts -----------------------------------------------------------------

UUID = Key("uuid", _text, "", "The account's name for good; derived from its key if absent.")
CUSTOM_NAME = Key("custom_name", _text, "", "A name for people.", ("customName",))
IS_DISABLED = Key("is_disabled", _bool, False, "true leaves the account out.", ("isDisabled",))
SUPPORTED_MODELS: Key[tuple[str, ...]] = Key(
    "supported_models", _list, (), "If not empty, only these models.", ("supportedModels",)
)
NOT_SUPPORTED_MODELS: Key[tuple[str, ...]] = Key(
    "not_supported_models", _list, (), "Not these models.", ("notSupportedModels",)
)

ACCOUNT_LATER: tuple[Key[Any], ...] = (
    _later("concurrency_limit", _count(), "Requests at work at once.", "concurrencyLimit"),
    _later("queue_limit", _count(), "Requests that may wait.", "queueLimit"),
    _later("check_health", _bool, "Whether the account is probed.", "checkHealth"),
    _later("check_model_name", _text, "The model to probe it with.", "checkModelName"),
)
ACCOUNT_STATE: tuple[Key[Any], ...] = (
    _later("is_healthy", _bool, "What another program knew of it.", "isHealthy"),
    _later("error_count", _count(), "The same.", "errorCount"),
    _later("usage_count", _anything, "The same.", "usageCount"),
    _later("refresh_count", _anything, "The same.", "refreshCount"),
    _later("last_used", _anything, "The same.", "lastUsed"),
    _later("last_error_time", _anything, "The same.", "lastErrorTime"),
    _later("last_error_message", _anything, "The same.", "lastErrorMessage"),
    _later("last_health_check_time", _anything, "The same.", "lastHealthCheckTime"),
    _later("last_health_check_model", _anything, "The same.", "lastHealthCheckModel"),
    _later("last_refresh_time", _anything, "The same.", "lastRefreshTime"),
    _later("needs_refresh", _anything, "The same.", "needsRefresh"),
    _later("scheduled_recovery_time", _anything, "The same.", "scheduledRecoveryTime"),
)
ACCOUNT_KEYS: tuple[Key[Any], ...] = (
    UUID,
    CUSTOM_NAME,
    IS_DISABLED,
    SUPPORTED_MODELS,
    NOT_SUPPORTED_MODELS,
    PROXY_URL,
    *ACCOUNT_LATER,
    *ACCOUNT_STATE,
)
"""Every key of an account in ``provider_pools.json`` that belongs to no provider."""

# --- providers that are known but not built -----------------------------------

UNBUILT: dict[str, tuple[tuple[str, str], ...]] = {
    "gemini-cli-oauth": (
        ("gemini_oauth_creds_file_path", "path"),
        ("gemini_oauth_creds_base64", "secret"),
        ("project_id", "text"),
        ("gemini_base_url", "url"),
        ("gemini_oauth_client_id", "text"),
        ("gemini_oauth_client_secret", "text"),
        ("gemini_oauth_token_url", "url"),
    ),
    "gemini-antigravity": (
        ("antigravity_oauth_creds_file_path", "path"),
        ("antigravity_oauth_creds_base64", "secret"),
        ("antigravity_base_url_daily", "url"),
        ("antigravity_base_url_autopush", "url"),
        ("project_id", "text"),
    ),
    "claude-kiro-oauth": (
        ("kiro_oauth_creds_file_path", "path"),
        ("kiro_oauth_creds_base64", "secret"),
        ("kiro_oauth_creds_dir_path", "path"),
        # These three may hold "{{region}}", which no URL may.
        ("kiro_base_url", "text"),
        ("kiro_refresh_url", "text"),
        ("kiro_refresh_idc_url", "text"),
        ("kiro_request_min_interval_ms", "text"),
    ),
    "openai-qwen-oauth": (
        ("qwen_oauth_creds_file_path", "path"),
        ("qwen_base_url", "url"),
        ("qwen_oauth_base_url", "url"),
    ),
    "openai-codex-oauth": (
        ("codex_oauth_creds_file_path", "path"),
        ("codex_base_url", "url"),
        ("codex_email", "text"),
    ),
    "openai-iflow": (
        ("iflow_token_file_path", "path"),
        ("iflow_oauth_creds_file_path", "path"),
        ("iflow_base_url", "url"),
    ),
    "forward-api": (
        ("forward_api_key", "secret"),
        ("forward_base_url", "url"),
        ("forward_header_name", "text"),
        ("forward_header_value_prefix", "text"),
    ),
    "grok-web": (
        ("grok_cookie_token", "secret"),
        ("grok_cf_clearance", "text"),
        ("grok_user_agent", "text"),
        ("grok_base_url", "url"),
    ),
    "atlascloud": (("atlascloud_api_key", "secret"), ("atlascloud_base_url", "url")),
}
"""Providers whose names are taken, each with its keys and their kinds."""


def names_of(keys: Sequence[Key[Any]]) -> list[str]:
    """Return the snake_case names of *keys*."""
    return [key.name for key in keys]
