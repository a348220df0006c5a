"""
``aiclient2api accounts``: see how accounts fare, and add, change or remove one.

How they fare only the running gateway knows, and it is asked. What is written goes into
the user's accounts' file, after the whole configuration was checked as it would be; the
gateway follows. No key is ever printed.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import attrs

from aiclient2api.accounts_cli_options import parse
from aiclient2api.accounts_cli_table import from_settings, short_ids, table
from aiclient2api.cli_gateway import Answer, RunningGateway
from aiclient2api.config import Settings, load
from aiclient2api.config.accounts import Kind, base_of, kinds_of
from aiclient2api.config.key import folded, is_comment
from aiclient2api.config.keys import (
    CONCURRENCY_LIMIT,
    CUSTOM_NAME,
    PRIORITY,
    QUEUE_LIMIT,
    SUPPORTED_MODELS,
    UUID,
    WEIGHT,
)
from aiclient2api.config.pools import names_of_kinds, stranger
from aiclient2api.config.pools_file import (
    Edited,
    add_account,
    change_account,
    disable_account,
    draft,
    enable_account,
    pools_place,
    remove_account,
)
from aiclient2api.config.pools_text import chosen
from aiclient2api.errors import ConfigurationError, InvalidRequest
from aiclient2api.options import provider_factories
from aiclient2api.scrubbing import IN_FORCE, secrets_of


def accounts(arguments: Sequence[str]) -> int:
    """
    Run the command.

    :return: The exit status: 0 well, 1 it could not be done, 2 bad usage.
    """
    options, flags = parse(arguments)
    if isinstance(options, int):
        return options
    here = _Here(flags, dict(os.environ), Path.cwd())
    try:
        return _COMMANDS[options.command](here, options)
    except ConfigurationError as error:
        told = error.faults
    except InvalidRequest as error:
        told = (error.message,)
    except BrokenPipeError:
        # Whoever was to read it has seen enough. What is left must not fail once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        told = (f"{error.filename or 'a file'}: {error.strerror or type(error).__name__}",)
    except (KeyboardInterrupt, EOFError):
        told = ("given up",)
    for sentence in told:
        print(f"aiclient2api accounts: {sentence}", file=sys.stderr)
    if options.command not in ("list", "reset"):
        print("aiclient2api accounts: nothing was changed", file=sys.stderr)
    return 1


@attrs.frozen
class _Here:
    """The configuration that the command is about."""

    flags: Mapping[str, object] = attrs.field(repr=False)
    environ: Mapping[str, str] = attrs.field(repr=False)
    cwd: Path
    kinds: tuple[Kind, ...] = attrs.field(init=False, factory=lambda: kinds_of(_factories()))

    def settings(self, pools: Path | None = None) -> Settings:
        """Return what is configured, or would be with another accounts' file."""
        flags = dict(self.flags)
        if pools is not None:
            flags["provider_pools_file_path"] = str(pools)
        settings = load(flags=flags, environ=self.environ, cwd=self.cwd, factories=_factories())
        IN_FORCE.learn(secrets_of(settings))
        return settings

    def kind(self, provider: str) -> Kind:
        """
        Return the kind that a provider's name is of.

        :raise InvalidRequest: if there is none.
        """
        kind = base_of(provider, self.kinds)
        if kind is None:
            known = names_of_kinds(self.kinds)
            raise InvalidRequest(
                f"{stranger(provider, known)} There are: {', '.join(known)}; or one of them with "
                "a dash and a word of yours behind it."
            )
        return kind

    def edit(self, options: Namespace, done: str, write: Callable[..., Edited], *args: Any) -> int:
        """Change the accounts' file with *write*, and say so."""
        before = self.settings()
        named = self.flags.get("provider_pools_file_path")
        path = pools_place(before, named=named, cwd=self.cwd)
        warnings: list[str] = []

        def check(fresh: Path) -> None:
            # Relative paths are taken from where the file is named, not from behind a link.
            same = fresh.parent == path.parent
            with nullcontext(fresh) if same else draft(path, fresh.read_bytes()) as file:
                try:
                    after = self.settings(file)
                except ConfigurationError as error:
                    faults = [fault.replace(file.name, path.name) for fault in error.faults]
                    raise ConfigurationError(faults) from None
            told = [warning.replace(file.name, path.name) for warning in after.warnings]
            known = set(map(_unnumbered, before.warnings))
            warnings.extend(warning for warning in told if _unnumbered(warning) not in known)
            warnings.extend(_twins(before, after, options.provider))

        extra = {} if write is add_account else {"identify": self._identify(path)}
        edited = write(path, options.provider, *args, check=check, **extra)
        for warning in dict.fromkeys(warnings):
            print(f"aiclient2api accounts: (warning) {warning}", file=sys.stderr)
        _tell(edited, done)
        return 0

    def _identify(self, path: Path) -> Callable[[str, Mapping[str, Any]], Mapping[int, str]]:
        def identify(provider: str, pools: Mapping[str, Any]) -> Mapping[int, str]:
            # Only the configuration's own reader knows which ids it derives: each account
            # is given a name that tells its place, and read.
            tag, listed = f"{uuid4()}#", []
            for at, entry in enumerate(pools[provider]):
                told = entry if isinstance(entry, dict) else {}
                if not _has(told, UUID.name):
                    told = {key: told[key] for key in told if not _has([key], CUSTOM_NAME.name)}
                    told[CUSTOM_NAME.node] = f"{tag}{at}"
                listed.append(told)
            try:
                with draft(path, json.dumps({provider: listed}).encode()) as file:
                    configured = self.settings(file).providers.get(provider)
            except ConfigurationError:
                return {}
            found = configured.accounts if configured else ()
            return {
                int(account.name.removeprefix(tag)): account.id
                for account in found
                if account.name and account.name.startswith(tag)
            }

        return identify


def _factories() -> Sequence[Any]:
    return provider_factories()


def _has(keys: Any, name: str) -> bool:
    return any(folded(key) == folded(name) and not is_comment(key) for key in keys)


def _twins(before: Settings, after: Settings, provider: str) -> Iterator[str]:
    """Yield a sentence for each new account whose key another one has."""
    old, new = (
        settings.providers[provider].accounts if provider in settings.providers else ()
        for settings in (before, after)
    )
    ids = {account.id for account in old}
    for account in new:
        for other in old:
            if account.id not in ids and account.secrets and account.secrets == other.secrets:
                yield (
                    f"{provider} has an account of this very key already, {other.id[:8]}; "
                    "two of them are no more than one"
                )


def _unnumbered(sentence: str) -> str:
    return re.sub(r"[0-9]+", "#", sentence)


def _tell(edited: Edited, done: str) -> None:
    account = edited.account
    called = " ".join(
        filter(
            None, (account.id[:8] or f"[{account.index}]", f"({account.name})" * bool(account.name))
        )
    )
    if not edited.written:
        print(f"Account {called} of {edited.provider} is so already; {edited.path} stays as it is.")
        return
    print(
        f"Account {called} of {edited.provider} was {done} in {edited.path}. "
        "A running gateway follows within a second."
    )
    if edited.old_mode is not None:
        print(
            f"That file is private now (mode 0600, it was {edited.old_mode:04o}): if the gateway "
            "runs as another user, make it the file's owner.",
            file=sys.stderr,
        )


# --- commands that write ------------------------------------------------------------


def _add(here: _Here, options: Namespace) -> int:
    kind = here.kind(options.provider)
    entry: dict[str, Any] = {}
    if options.name is not None:
        entry[CUSTOM_NAME.name] = options.name
    for told, value in (
        (SUPPORTED_MODELS, options.models),
        (PRIORITY, options.priority),
        (WEIGHT, options.weight),
        (CONCURRENCY_LIMIT, options.concurrency),
        (QUEUE_LIMIT, options.queue),
    ):
        if value is not None:
            entry[told.name] = value
    if options.base_url is not None:
        entry = {_field(kind, "url", "base URL"): options.base_url, **entry}
    given = _assigned(kind, options.settings)
    key = _key(kind, options, {folded(name) for name in given})
    if key:
        entry = {_field(kind, "secret", "key"): key, **entry}
    entry = {**entry, **{name: value for name, value in given.items() if value is not None}}
    return here.edit(options, "added", add_account, entry)


def _set(here: _Here, options: Namespace) -> int:
    changes = _assigned(here.kind(options.provider), options.settings)
    return here.edit(options, "changed", change_account, options.which, changes)


def _enable(here: _Here, options: Namespace) -> int:
    return here.edit(options, "enabled", enable_account, options.which)


def _disable(here: _Here, options: Namespace) -> int:
    return here.edit(options, "disabled", disable_account, options.which)


def _remove(here: _Here, options: Namespace) -> int:
    return here.edit(options, "removed", remove_account, options.which)


def _field(kind: Kind, sort: str, what: str) -> str:
    """Return how the Node version calls the first setting of a sort."""
    for field in kind.fields:
        if field.kind == sort:
            return field.key.node
    names = ", ".join(field.key.node for field in kind.fields) or "nothing"
    raise InvalidRequest(
        f"An account of {kind.name} has no {what}; what it has is written as KEY=VALUE: {names}."
    )


def _key(kind: Kind, options: Namespace, given: set[str]) -> str | None:
    """Return the key of a new account: from where the options say, else from who types."""
    if options.key_file is not None:
        return _one_line(Path(options.key_file).read_text("utf-8"), options.key_file)
    if options.key == "-":
        return _typed(kind) if sys.stdin.isatty() else _one_line(sys.stdin.read(), "standard input")
    if options.key is not None:
        return _one_line(options.key, "--key")
    credentials = {folded(name) for name in kind.credentials}
    if kind.free or not credentials or credentials & given:
        return None
    # A server of one's own may ask for no key.
    needless = options.base_url is not None
    secret = any(field.kind == "secret" for field in kind.fields)
    if secret and sys.stdin.isatty():
        key = _typed(kind)
        if key or needless:
            return key or None
    elif needless:
        return None
    ways = "--key - and the key on standard input, or --key-file FILE" if secret else "KEY=VALUE"
    raise InvalidRequest(
        f"An account of {kind.name} needs {' or '.join(kind.credentials)}; give it with {ways}."
    )


def _typed(kind: Kind) -> str:
    return getpass.getpass(f"{_field(kind, 'secret', 'key')} (not shown): ").strip()


def _one_line(text: str, where: str) -> str:
    key = text.strip()
    if not key or len(key.split()) > 1:
        raise InvalidRequest(f"{where} holds {'more than one' if key else 'no'} key; give one.")
    return key


def _assigned(kind: Kind, settings: Sequence[str]) -> dict[str, Any]:
    """Read ``KEY=VALUE``; the provider's own keys are texts and spelled as in Node."""
    fields = {fold: field.key for field in kind.fields for fold in field.key.folds}
    found: dict[str, Any] = {}
    for setting in settings:
        key, _, text = setting.partition("=")
        key = key.strip()
        own = fields.get(folded(key)) if not is_comment(key) else None
        if text == "-":
            text = _typed_value(key) if sys.stdin.isatty() else sys.stdin.readline().strip()
            found[own.node if own else key] = text
            continue
        value = _json_or_text(text)
        if own is not None and value is not None and not isinstance(value, str):
            value = text
        found[own.node if own else key] = value
    return found


def _typed_value(key: str) -> str:
    return getpass.getpass(f"{key} (not shown): ").strip()


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return text


def _no_constant(name: str) -> Any:
    raise ValueError(name)


# --- commands that ask the running gateway ------------------------------------------


def _list(here: _Here, options: Namespace) -> int:
    settings = here.settings()
    gateway: RunningGateway | None = None
    answer: Answer | None = None
    why = ""
    try:
        gateway = RunningGateway.of(settings)
        answer = gateway.ask("GET", "/provider_health")
    except ConfigurationError as error:
        why = f"{error}"
    if answer is not None and answer.status == 200 and _items(answer) is not None:
        told: dict[str, Any] = {"running": True, **answer.body}
    else:
        if answer is not None:
            why = f"the gateway at {gateway.where if gateway else '?'} tells nothing of accounts"
            why = f"{why} (status {answer.status})"
        elif not why and gateway is not None:
            why = f"no gateway answers at {gateway.where}"
        print(f"aiclient2api accounts: {why}; this is what the files say", file=sys.stderr)
        items = from_settings(settings)
        told = {"running": False, "items": items, "count": len(items)}
    if options.json:
        print(json.dumps(told, indent=2), flush=True)
        return 0
    print(table(told["items"], told.get("timestamp")), flush=True)
    for provider in settings.providers.values():
        if provider.reason is not None:
            print(f"{provider.name} cannot be used: {provider.reason}", file=sys.stderr)
    return 0


def _reset(here: _Here, options: Namespace) -> int:
    gateway = RunningGateway.of(here.settings())
    wanted: dict[str, Any] = {}
    if options.provider is not None:
        wanted["provider"] = options.provider
    if options.which is not None:
        asked = f"/provider_health?provider={quote(options.provider, safe='')}"
        items = _items(_asked(gateway, "GET", asked)) or []
        mine = [item for item in items if item.get("provider") == options.provider]
        known = [(str(item.get("uuid") or ""), item.get("customName")) for item in mine]
        at = chosen(options.which, known, options.provider, numbered=False)
        wanted["accounts"] = [known[at][0]]
    answer = _asked(gateway, "POST", "/provider_health/reset", wanted)
    reset = answer.body.get("reset") if isinstance(answer.body, dict) else None
    ids = [str(id) for id in reset] if isinstance(reset, list) else wanted.get("accounts", [])
    if not ids:
        print("There was no account to reset: there is none that is not disabled.")
    else:
        names = ", ".join(short_ids(ids)[:10]) + (", ..." if len(ids) > 10 else "")
        print(f"{len(ids)} account{'s are' if len(ids) > 1 else ' is'} ready again: {names}.")
    return 0


def _asked(gateway: RunningGateway, method: str, path: str, body: object = None) -> Answer:
    answer = gateway.ask(method, path, body)
    if answer is None:
        raise ConfigurationError(
            [
                f"no gateway answers at {gateway.where}; start it, or name the configuration of "
                "the one that runs with --config, or its door with --host and --port"
            ]
        )
    if answer.status != 200:
        told = answer.message or f"status {answer.status}"
        raise ConfigurationError([f"the gateway at {gateway.where} refuses: {told}"])
    return answer


def _items(answer: Answer) -> list[dict[str, Any]] | None:
    items = answer.body.get("items") if isinstance(answer.body, dict) else None
    if not isinstance(items, list):
        return None
    return [item for item in items if isinstance(item, dict)]


_COMMANDS: Mapping[str, Callable[[_Here, Namespace], int]] = {
    "list": _list,
    "add": _add,
    "set": _set,
    "enable": _enable,
    "disable": _disable,
    "remove": _remove,
    "reset": _reset,
}
