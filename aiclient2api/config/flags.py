"""
The command line's flags: each stands for a key of the file and beats it.

Only a table: ``tap.py`` makes the options of it, `config.load` reads what was given.
"""

from __future__ import annotations

import attrs


@attrs.frozen
class Flag:
    """
    One command line flag; it beats the key of the same meaning in the file.

    :ivar name: As typed, such as ``--host``.
    :ivar key: Under which name `config.load` looks for it in its *flags*.
    :ivar repeatable: True if it may be given several times.
    """

    name: str
    key: str
    metavar: str
    help: str
    repeatable: bool = False


FLAGS: tuple[Flag, ...] = (
    Flag("--config", "config", "FILE", "read this configuration file"),
    Flag("--host", "host", "ADDRESS", "listen on this address"),
    Flag("--port", "port", "PORT", "listen on this port"),
    Flag("--listen", "listen", "ENDPOINT", "listen here; may be given several times", True),
    Flag("--api-key", "required_api_key", "KEY", "the key callers must present"),
    Flag("--model-provider", "model_provider", "NAMES", "the provider, or several with commas"),
    Flag("--openai-api-key", "openai_api_key", "KEY", "key for openai-custom"),
    Flag("--openai-base-url", "openai_base_url", "URL", "where openai-custom is"),
    Flag("--claude-api-key", "claude_api_key", "KEY", "key for claude-custom"),
    Flag("--claude-base-url", "claude_base_url", "URL", "where claude-custom is"),
    Flag(
        "--gemini-oauth-creds-base64",
        "gemini_oauth_creds_base64",
        "TEXT",
        "Gemini CLI credentials as base64",
    ),
    Flag(
        "--gemini-oauth-creds-file",
        "gemini_oauth_creds_file_path",
        "FILE",
        "Gemini CLI credentials",
    ),
    Flag(
        "--kiro-oauth-creds-base64", "kiro_oauth_creds_base64", "TEXT", "Kiro credentials as base64"
    ),
    Flag("--kiro-oauth-creds-file", "kiro_oauth_creds_file_path", "FILE", "Kiro credentials"),
    Flag("--qwen-oauth-creds-file", "qwen_oauth_creds_file_path", "FILE", "Qwen credentials"),
    Flag("--project-id", "project_id", "ID", "the Google Cloud project"),
    Flag("--system-prompt-file", "system_prompt_file_path", "FILE", "a system prompt of yours"),
    Flag(
        "--system-prompt-mode",
        "system_prompt_mode",
        "MODE",
        "overwrite the caller's system prompt, or append",
    ),
    Flag("--log-prompts", "prompt_log_mode", "MODE", "log prompts: none, console or file"),
    Flag("--prompt-log-base-name", "prompt_log_base_name", "NAME", "how the log's files are named"),
    Flag(
        "--request-max-retries",
        "request_max_retries",
        "N",
        "how often a failed call is tried again",
    ),
    Flag("--request-base-delay", "request_base_delay", "MS", "milliseconds before the first retry"),
    Flag("--cron-near-minutes", "cron_near_minutes", "N", "renew tokens so many minutes early"),
    Flag("--cron-refresh-token", "cron_refresh_token", "true|false", "whether to renew tokens"),
    Flag(
        "--provider-pools-file",
        "provider_pools_file_path",
        "FILE",
        "the file that lists the accounts",
    ),
    Flag("--max-error-count", "max_error_count", "N", "faults in a row before an account rests"),
    Flag(
        "--rate-limit-cooldown-enabled",
        "rate_limit_cooldown_enabled",
        "true|false",
        "rest after a 429 as the Node version has it",
    ),
    Flag(
        "--rate-limit-cooldown-ms",
        "rate_limit_cooldown_ms",
        "MS",
        "the first rest after a 429 that names none",
    ),
    Flag(
        "--rate-limit-cooldown-jitter-ms",
        "rate_limit_cooldown_jitter_ms",
        "MS",
        "up to so many are added, at random",
    ),
    Flag(
        "--rate-limit-cooldown-max-ms",
        "rate_limit_cooldown_max_ms",
        "MS",
        "the longest such rest",
    ),
    Flag(
        "--scheduled-health-check-enabled",
        "scheduled_health_check_enabled",
        "true|false",
        "whether accounts are probed",
    ),
    Flag(
        "--scheduled-health-check-interval",
        "scheduled_health_check_interval",
        "MS",
        "milliseconds between two probes",
    ),
    Flag(
        "--custom-models-file",
        "custom_models_file_path",
        "FILE",
        "the file that lists models of your own naming",
    ),
    Flag("--state-dir", "state_dir", "FOLDER", "where state is kept"),
    Flag("--log-level", "log_level", "LEVEL", "debug, info, warn, error or critical"),
    Flag("--proxy-url", "proxy_url", "URL", "proxy for calls to upstreams"),
)
