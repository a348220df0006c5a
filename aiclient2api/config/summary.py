"""
What the settings amount to, told to a person: what ``aiclient2api check`` prints.

No key and no credential is in it.
"""

from __future__ import annotations

from collections.abc import Iterator

from aiclient2api.config.pools import ProviderConfig
from aiclient2api.config.settings import Settings


def report(settings: Settings) -> str:
    """Return what `settings` amount to, for a person. No key is in it."""
    source = settings.source or "none found; the defaults are used"
    lines = [f"configuration     {source}"]
    lines += [f"listens on        {endpoint}" for endpoint in settings.listen]
    if settings.keys is None:
        lines.append("callers' key      none configured: a random one is made at the first start")
    elif not settings.keys:
        lines.append("callers' key      none asked: open to everybody who can connect")
    else:
        count = len(settings.keys)
        lines.append(f"callers' key      {count} configured")
    default = ", ".join(settings.default_providers) or "none"
    lines.append(f"default provider  {default}{' (auto)' if settings.auto else ''}")
    for provider in settings.providers.values():
        state = "ready" if provider.reason is None else f"cannot be used: {provider.reason}"
        lines.append(f"provider          {provider.name}: {state}{_accounts(provider)}")
    lines += _rules(settings)
    edit = settings.system_prompt
    if edit is None:
        lines.append("system prompt     the caller's own")
    else:
        said = f"{edit.mode}, {len(edit.text)} characters" if edit.text else "the caller's own"
        lines.append(f"system prompt     {said}, {len(edit.replacements)} replacements")
    fetch = settings.fetch_images
    if fetch.enabled:
        lines.append(f"images by URL     fetched, up to {fetch.bytes} bytes in {fetch.seconds} s")
    lines.append(f"prompt log        {settings.prompt_log_mode}")
    lines.append(f"state             {settings.state_dir}")
    stored = settings.stored_responses
    told = f"for {stored.ttl:g} s, up to {stored.bytes} bytes" if stored.ttl else "no"
    lines.append(f"answers kept      {told}")
    lines.append(f"log level         {settings.log_level}")
    lines += [f"warning           {warning}" for warning in settings.warnings]
    return "\n".join(lines)


def _accounts(provider: ProviderConfig) -> str:
    """Return how many accounts there are, where it is not simply one that is used."""
    disabled = sum(account.disabled for account in provider.accounts)
    total = len(provider.accounts) + provider.unusable
    if total < 1 or (total == 1 and provider.reason is None):
        return ""
    told = [f"{total} account{'s' * (total != 1)}"]
    told += [f"{disabled} disabled"] * bool(disabled)
    told += [f"{provider.unusable} unusable"] * bool(provider.unusable)
    return f" ({', '.join(told)})"


def _rules(settings: Settings) -> Iterator[str]:
    """Return what is to be told of the accounts' rules, and nothing of what is not set."""
    chosen = settings.selection
    told = chosen.get("*", "round_robin")
    told += "".join(f", {name}: {how}" for name, how in chosen.items() if name != "*")
    yield f"selection         {told}"
    for name, chain in settings.fallback_chains:
        yield f"fallback          {name} -> {', '.join(chain) or 'none'}"
    for model, targets in settings.model_fallbacks:
        shown = (f"{provider}:{name}" if provider else name for provider, name in targets)
        yield f"model fallback    {model} -> {', '.join(shown) or 'none'}"
    if settings.custom_models:
        shown = (each.id for each in settings.custom_models[:10])
        more = len(settings.custom_models) - 10
        yield f"custom models     {', '.join(shown)}{f' and {more} more' if more > 0 else ''}"
    probe = settings.probe
    if probe.mode != "off":
        of = "all providers" if probe.providers is None else ", ".join(probe.providers) or "none"
        yield f"probes            {probe.mode}, every {probe.interval:g} s, of {of}"
    if settings.health_alert_webhook_url is not None:
        yield "alerts            sent to a webhook"
