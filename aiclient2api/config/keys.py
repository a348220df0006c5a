"""
The table of configuration keys: each with its spellings, its default and its meaning.

``docs/configuration.md`` says the same for people, and a test holds the two together.
What a provider is configured with is not listed here: its own settings class says so.
What is for several accounts at once stands in `pool_keys`, what does nothing yet in
`later_keys`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiclient2api.config import values as read
from aiclient2api.config.key import Key, count, milliseconds, seconds
from aiclient2api.config.key import folded as folded
from aiclient2api.config.later_keys import ACCOUNT_STATE, LATER
from aiclient2api.config.later_keys import UNBUILT as UNBUILT
from aiclient2api.config.listen import endpoint
from aiclient2api.config.pool_keys import POOL_KEYS

_PORT = read.whole(low=0, high=65535, what="a port", example=3000)
_BYTES = read.whole(low=1, high=2**40, what="a whole number of bytes", example=64 * 1024 * 1024)
_BYTES_OR_NONE = read.whole(
    low=0, high=2**50, what="a whole number of bytes", example=512 * 1024 * 1024
)

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
    "request_max_retries", count(100), 3, "How often a failed call is tried again."
)
REQUEST_BASE_DELAY = Key(
    "request_base_delay", milliseconds(), 1000, "Milliseconds before the first retry; doubles."
)
TIMEOUTS: Key[Mapping[str, Any]] = Key(
    "timeouts", read.mapping, {}, "An object of clocks, in seconds; 0 is off."
)
LIMITS: Key[Mapping[str, Any]] = Key("limits", read.mapping, {}, "An object of sizes and counts.")
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
GRACE = Key("grace", seconds(example=30), 10.0, "Seconds a stop waits for requests at work.")
DRAIN_DELAY = Key(
    "drain_delay", seconds(example=5), 3.0, "Seconds a stop goes on listening, if it has clients."
)
HAND_OVER_GRACE = Key(
    "hand_over_grace",
    seconds(example=900),
    900.0,
    "Seconds that requests at work get of which a new process took over the listeners.",
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
    Key("connect", seconds(), 10.0, "To reach the upstream."),
    Key("response_headers", seconds(example=600), 600.0, "Until the upstream's headers."),
    Key("first_event", seconds(example=300), 300.0, "Until a stream's first real event."),
    Key("idle", seconds(example=300), 300.0, "Between two reads of an answer."),
    Key("total", seconds(example=900), 0.0, "For the whole exchange."),
    Key("upload", seconds(example=60), 60.0, "For the client to send its request."),
    Key("head", seconds(example=20), 20.0, "For the client to send its request's headers."),
    Key("queue", seconds(example=60), 60.0, "For a request to wait until an account is free."),
)
LIMIT_KEYS: tuple[Key[Any], ...] = (
    Key("body_bytes", _BYTES, 64 * 1024 * 1024, "The largest request body taken."),
    Key("held_bytes", _BYTES, 64 * 1024 * 1024, "The most that is held of one whole answer."),
    Key("connections", count(example=4096), 4096, "Connections from clients at once."),
    Key("in_flight", count(example=1024), 1024, "Requests under way at once."),
    Key("per_key", count(example=512), 512, "Requests under way at once for one key."),
    Key("total_bytes", _BYTES_OR_NONE, 512 * 1024 * 1024, "Bytes of all request bodies at once."),
    Key("key_bytes", _BYTES_OR_NONE, 256 * 1024 * 1024, "The same, for one key."),
    Key("memory_bytes", _BYTES_OR_NONE, None, "Memory from which on nothing new is begun."),
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
    Key("ttl", seconds(example=86400), 604_800.0, "How long an answer is kept; 0 keeps none."),
    Key("bytes", _BYTES, 256 * 1024 * 1024, "The most that all of them may have."),
    Key(
        "item_bytes",
        read.whole(low=1, high=2**29, what="a whole number of bytes", example=16 * 1024 * 1024),
        16 * 1024 * 1024,
        "The most that one may have, with its conversation.",
    ),
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
    GRACE,
    DRAIN_DELAY,
    HAND_OVER_GRACE,
    LOG_LEVEL,
    PROXY_URL,
    PROXY_ENABLED_PROVIDERS,
    CORS_ORIGINS,
    *POOL_KEYS,
    *LATER,
)
"""Every key of ``config.json`` that belongs to no provider."""

# --- accounts -----------------------------------------------------------------

UUID = Key("uuid", read.text, "", "The account's name for good; derived from its key if absent.")
CUSTOM_NAME = Key("custom_name", read.text, "", "A name for people.", ("customName",))
IS_DISABLED = Key(
    "is_disabled", read.yes_no, False, "true leaves the account out.", ("isDisabled",)
)
SUPPORTED_MODELS: Key[tuple[str, ...]] = Key(
    "supported_models", read.names, (), "If not empty, only these models.", ("supportedModels",)
)
NOT_SUPPORTED_MODELS: Key[tuple[str, ...]] = Key(
    "not_supported_models", read.names, (), "Not these models.", ("notSupportedModels",)
)
PRIORITY = Key(
    "priority",
    read.whole(low=-1000, high=1000, what="a whole number", example=10),
    0,
    "Accounts of the highest number go first.",
)
WEIGHT = Key(
    "weight",
    read.whole(low=1, high=1000, what="a whole number", example=2),
    1,
    "Its share of the requests, where selection is weighted.",
)
CONCURRENCY_LIMIT = Key(
    "concurrency_limit", count(), 0, "Requests at work at once; 0: no limit.", ("concurrencyLimit",)
)
QUEUE_LIMIT = Key(
    "queue_limit", count(), 0, "Requests that may wait for it; 0: none.", ("queueLimit",)
)
IS_HEALTHY = Key(
    "is_healthy", read.yes_no, True, "false: rests when it is first seen.", ("isHealthy",)
)
CHECK_HEALTH: Key[bool | None] = Key(
    "check_health",
    read.yes_no,
    None,
    "true: probed on schedule; false: never.",
    ("checkHealth",),
)
CHECK_MODEL_NAME: Key[str | None] = Key(
    "check_model_name", read.text, None, "The model to probe it with.", ("checkModelName",)
)
ACCOUNT_KEYS: tuple[Key[Any], ...] = (
    UUID,
    CUSTOM_NAME,
    IS_DISABLED,
    SUPPORTED_MODELS,
    NOT_SUPPORTED_MODELS,
    PROXY_URL,
    PRIORITY,
    WEIGHT,
    CONCURRENCY_LIMIT,
    QUEUE_LIMIT,
    IS_HEALTHY,
    CHECK_HEALTH,
    CHECK_MODEL_NAME,
    *ACCOUNT_STATE,
)
"""Every key of an account in ``provider_pools.json`` that belongs to no provider."""
