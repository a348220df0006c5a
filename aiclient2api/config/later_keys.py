"""
Keys that are understood but do nothing yet, and providers that are known but not built.

They are here so that a file from elsewhere starts; whoever builds one moves it to `keys`
or to the provider's own settings class.
"""

from __future__ import annotations

from typing import Any

from aiclient2api.config import values as read
from aiclient2api.config.key import Key, anything, count, later, milliseconds, seconds

_bool, _list, _text, _file = read.yes_no, read.names, read.text, read.path
_port = count(65535, 9090)

LATER: tuple[Key[Any], ...] = (
    later("admin_listen", anything, "Where the admin pages listen."),
    later("login_expiry", seconds(example=3600), "Seconds an admin login lasts."),
    later("login_max_attempts", count(), "Wrong passwords before a lock-out."),
    later("login_lockout_duration", seconds(example=1800), "Seconds a lock-out lasts."),
    later("login_min_interval", milliseconds(), "Milliseconds between two logins."),
    later("trust_proxy", _bool, "Whether X-Forwarded-For is believed."),
    later("trusted_proxy_ips", _list, "From whom it is believed."),
    *(
        later(f"use_system_proxy_{of}", _bool, "No longer needed: the environment is honoured.")
        for of in ("gemini", "openai", "claude", "qwen", "kiro", "forward")
    ),
    later("refresh_concurrency_global", count(), "Tokens renewed at once."),
    later("refresh_concurrency_per_provider", count(), "The same, for one provider."),
    later("refresh_buffer_delay", milliseconds(), "How long renewals are gathered."),
    later("refresh_task_timeout_ms", milliseconds(), "How long a renewal may take."),
    later("warmup_target", count(), "Accounts made ready at start."),
    later("log_enabled", _bool, "The log is always on."),
    later("log_output_mode", _text, "The log goes where twistd is told."),
    later("log_dir", _file, "The same."),
    later("log_include_request_id", _bool, "It always does."),
    later("log_include_timestamp", _bool, "It always does."),
    later("log_max_file_size", count(2**40), "logrotate does this."),
    later("log_max_files", count(), "logrotate does this."),
    later("tls_sidecar_enabled", _bool, "There is no side car."),
    later("tls_sidecar_enabled_providers", _list, "The same."),
    later("tls_sidecar_port", _port, "The same."),
    later("tls_sidecar_binary_path", _file, "The same."),
    later("tls_sidecar_proxy_url", read.proxy, "The same."),
    later("ui_enabled", _bool, "Whether there are admin pages."),
)

ACCOUNT_STATE: tuple[Key[Any], ...] = (
    later("error_count", count(), "What another program knew of it.", "errorCount"),
    later("usage_count", anything, "The same.", "usageCount"),
    later("refresh_count", anything, "The same.", "refreshCount"),
    later("last_used", anything, "The same.", "lastUsed"),
    later("last_error_time", anything, "The same.", "lastErrorTime"),
    later("last_error_message", anything, "The same.", "lastErrorMessage"),
    later("last_health_check_time", anything, "The same.", "lastHealthCheckTime"),
    later("last_health_check_model", anything, "The same.", "lastHealthCheckModel"),
    later("last_refresh_time", anything, "The same.", "lastRefreshTime"),
    later("needs_refresh", anything, "The same.", "needsRefresh"),
    later("scheduled_recovery_time", anything, "The same.", "scheduledRecoveryTime"),
)
"""What other programs note in an account; left alone."""

UNBUILT: dict[str, tuple[tuple[str, str], ...]] = {
    "gemini-antigravity": (
        ("antigravity_oauth_creds_file_path", "path"),
        ("antigravity_oauth_creds_base64", "secret"),
        ("antigravity_base_url_daily", "url"),
        ("antigravity_base_url_autopush", "url"),
        ("project_id", "text"),
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
