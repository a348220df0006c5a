"""
The settings of one run, complete and absolute: all that the rest of the program is told.

Nothing here knows where they come from; `load` makes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs

from aiclient2api.config.fallbacks import Chains, Targets
from aiclient2api.config.pool_keys import STRATEGIES
from aiclient2api.config.pool_rules import AffinityLimits, Probe, Rest, RetryBudget
from aiclient2api.config.pools import ProviderConfig
from aiclient2api.config.provider_names import fits, is_pattern
from aiclient2api.cut_routes import OnCut
from aiclient2api.values import CustomModel, SystemEdit


@attrs.frozen
class Timeouts:
    """The clocks, in seconds; 0 is off."""

    connect: float = 10.0
    response_headers: float = 600.0
    first_event: float = 300.0
    idle: float = 300.0
    total: float = 0.0
    upload: float = 60.0
    head: float = 20.0
    queue: float = 60.0


@attrs.frozen
class Limits:
    """
    How much is taken and held; where a key may be 0, that is off.

    :ivar body_bytes: The largest request body.
    :ivar held_bytes: The most that is held of one whole answer or record.
    :ivar connections: Clients' connections at once.
    :ivar in_flight: Requests under way at once.
    :ivar per_key: The same, for one key.
    :ivar total_bytes: Bytes of all request bodies at once.
    :ivar key_bytes: The same, for one key.
    :ivar memory_bytes: Resident memory from which on nothing new is begun. None: a share
        of what there is.
    """

    body_bytes: int = 64 * 1024 * 1024
    held_bytes: int = 64 * 1024 * 1024
    connections: int = 4096
    in_flight: int = 1024
    per_key: int = 512
    total_bytes: int = 512 * 1024 * 1024
    key_bytes: int = 256 * 1024 * 1024
    memory_bytes: int | None = None


@attrs.frozen
class FetchImages:
    """
    Whether what a request names by URL is fetched, and within which bounds.

    :ivar bytes: The largest image or file.
    :ivar seconds: For one, from looking up its host to its last byte.
    """

    enabled: bool = False
    bytes: int = 20 * 1024 * 1024
    seconds: int = 15


@attrs.frozen
class StoredResponses:
    """
    How answers are kept that later requests go on from.

    :ivar ttl: Seconds; 0 keeps none.
    :ivar bytes: The most that all of them may have.
    :ivar item_bytes: The most that one may have, with its conversation.
    """

    ttl: float = 604_800.0
    bytes: int = 256 * 1024 * 1024
    item_bytes: int = 16 * 1024 * 1024


@attrs.frozen
class Stop:
    """
    How long what is under way is waited for; seconds.

    :ivar grace: When the gateway stops.
    :ivar delay: How much of that it goes on listening, if it has clients.
    :ivar hand_over: When a new process has taken over its listeners.
    """

    grace: float = 10.0
    delay: float = 3.0
    hand_over: float = 900.0


@attrs.frozen
class Settings:
    """
    Everything the gateway is told before it starts.

    :ivar source: The configuration file read, absolute, or None.
    :ivar config_text: What stood in it, or None.
    :ivar pools_path: The accounts' file read, absolute, or None.
    :ivar listen: Twisted endpoint strings.
    :ivar keys: The keys of callers. None: none configured, one is to be made;
        ``()``: open to everybody, on purpose.
    :ivar default_providers: Names from ``model_provider``; the first is the default.
    :ivar auto: True if ``auto`` was among them.
    :ivar providers: Every configured provider by its configured name.
    :ivar known_providers: Every base name there is, built or not.
    :ivar base_delay: Seconds before the first retry.
    :ivar proxy_url: Already in each `Account.proxy` that it is for.
    :ivar selection: Strategies by provider, kind or pattern; see `strategy_for`.
    :ivar wait_for_account: Seconds a request waits for an account that rests.
    :ivar max_error_count: Upstream faults in a row before an account rests; 0: never.
    :ivar credential_switch_max_retries: Other accounts that are tried in one exchange.
    :ivar renew_early: Seconds before its expiry that a token is renewed; None: only when a
        request needs one.
    :ivar rest: After a 429 that says nothing of when.
    :ivar retry_budget: None: no limit.
    :ivar fallback_chains: ``(provider, kind or pattern, (provider, ...))``.
    :ivar model_fallbacks: ``(model or pattern, ((provider or None, model), ...))``.
    :ivar on_cut: Which streams are gone on with after they broke off.
    :ivar warnings: Sentences for the operator.
    """

    source: Path | None
    config_text: bytes | None = attrs.field(repr=False)
    pools_path: Path | None
    listen: tuple[str, ...]
    keys: tuple[str, ...] | None = attrs.field(repr=False)
    default_providers: tuple[str, ...]
    auto: bool
    providers: Mapping[str, ProviderConfig] = attrs.field(repr=False)
    known_providers: tuple[str, ...]
    system_prompt: SystemEdit | None = attrs.field(repr=False)
    prompt_log_mode: str
    prompt_log_base_name: Path
    fetch_system_prompt: Path | None
    max_retries: int
    base_delay: float
    timeouts: Timeouts
    limits: Limits
    fetch_images: FetchImages
    stored_responses: StoredResponses
    state_dir: Path
    stop: Stop
    log_level: str
    proxy_url: str | None = attrs.field(repr=False)
    cors_origins: tuple[str, ...]
    selection: Mapping[str, str]
    affinity: AffinityLimits
    wait_for_account: float
    max_error_count: int
    credential_switch_max_retries: int
    renew_early: float | None
    rest: Rest
    retry_budget: RetryBudget | None
    probe: Probe
    health_alert_webhook_url: str | None = attrs.field(repr=False)
    fallback_chains: Chains
    model_fallbacks: Targets
    on_cut: OnCut
    custom_models: tuple[CustomModel, ...]
    warnings: tuple[str, ...]

    def strategy_for(self, name: str) -> str:
        """Return how the provider *name* chooses: by name, kind, pattern, else ``*``."""
        configured = self.providers.get(name)
        for exact in (name, configured.base if configured else name):
            if exact in self.selection:
                return self.selection[exact]
        for pattern, strategy in self.selection.items():
            if pattern != "*" and is_pattern(pattern) and fits(pattern, name):
                return strategy
        return self.selection.get("*", STRATEGIES[0])
