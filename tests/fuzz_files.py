"""
What the fuzzer throws at the readers of files: configuration, accounts, models, credentials.

The law: a configuration is read or refused with sentences, whatever stands in the files, no
sentence repeats a key, and an edit of the accounts' file leaves a file that can be read. A
credential is read or is none. It must never know what a key of a file means.
"""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiclient2api.config import keys, load, pool_keys
from aiclient2api.config.accounts import keys_of, kinds_of
from aiclient2api.config.pools_text import PoolsText
from aiclient2api.errors import ConfigurationError, InvalidRequest
from aiclient2api.oauth.credential_file import CredentialFile, NoCredential, identity
from aiclient2api.options import provider_factories
from aiclient2api.providers import _google_token, _kiro_token, _qwen_token
from tests.mutations import broken_json, encoded
from tests.tape import Tape, text, value

CANARY = "sk-canary-0123456789abcdef"
"""Stands where keys stand, and must come back in no sentence."""

_SEED = Path(__file__).resolve().parent / "fixtures" / "seed"
_CONFIG: dict[str, Any] = json.loads((_SEED / "config.json").read_text()) | {
    "required_api_key": CANARY,
    "openai_api_key": CANARY,
    "gemini_api_key": CANARY,
    "listen": ["tcp:8080:interface=127.0.0.1", "unix:/run/x.sock:mode=600"],
    "timeouts": {"upload": 5, "first_event": 10, "idle": 2.5},
    "limits": {"body_bytes": 1000},
    "fetch_images": {"enabled": False, "bytes": 10},
    "stored_responses": {"ttl": 0},
    "retry_budget": {"share": 0.2, "floor": 3},
    "probe": {"mode": "off", "interval": 60},
    "affinity": {"ttl": 3600, "size": 10},
    "providerFallbackChain": {"gemini-custom": ["openai-custom"]},
    "modelFallbackMapping": {"m": {"targetProviderType": "openai-custom", "targetModel": "n"}},
    "system_prompt_replacements": [{"old": "a", "new": "b"}],
    "proxy_url": f"http://user:{CANARY}@127.0.0.1:1",
}
_POOLS: dict[str, Any] = json.loads((_SEED / "provider_pools.json").read_text()) | {
    "claude-kiro-oauth": [{"uuid": "k", "KIRO_OAUTH_CREDS_FILE_PATH": "./creds1.json"}],
    "openai-qwen-oauth": [{"QWEN_OAUTH_CREDS_FILE_PATH": "./creds2.json", "isDisabled": True}],
    "claude-custom": [{"CLAUDE_API_KEY": CANARY, "CLAUDE_BASE_URL": "https://a.invalid"}],
    "gemini-custom": [{"GEMINI_API_KEY": CANARY, "supportedModels": ["m"], "weight": 2}],
}
_MODELS: list[Any] = [{"id": "m", "alias": "n", "provider": "openai-custom", "maxTokens": 9}]
_CREDENTIALS: tuple[dict[str, Any], ...] = (
    {
        "access_token": CANARY,
        "refresh_token": CANARY,
        "expiry_date": 1_800_000_000_000,
        "token_type": "Bearer",
        "resource_url": "portal.qwen.ai",
    },
    {"token": CANARY, "refresh_token": CANARY, "expiry": "2026-01-01T00:00:00.000000Z"},
    {"installed": {"client_id": "c", "client_secret": CANARY}, "access_token": CANARY},
    {
        "accessToken": CANARY,
        "refreshToken": CANARY,
        "expiresAt": "2026-01-01T00:00:00.123456789Z",
        "authMethod": "social",
        "profileArn": "arn:aws:codewhisperer:us-east-1:1:profile/x",
    },
    {"accessToken": CANARY, "clientIdHash": "ab" * 20, "region": "eu-west-1", "expiresAt": 1e12},
)


@functools.cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    (folder / "creds1.json").write_bytes(encoded(_CREDENTIALS[3]))
    (folder / "creds2.json").write_bytes(encoded(_CREDENTIALS[0]))
    return folder


@functools.cache
def _names() -> tuple[str, ...]:
    known = [*keys.KEYS, *keys_of(kinds_of(provider_factories())), *keys.ACCOUNT_KEYS]
    grouped = (pool_keys.PROBE_KEYS, pool_keys.AFFINITY_KEYS, pool_keys.BUDGET_KEYS)
    return tuple(key.name for key in [*known, *(key for group in grouped for key in group)])


def _odd(tape: Tape, told: Any) -> bytes:
    """Return *told* as a file's content, with something wrong."""
    kind = tape.number(8)
    if kind < 4:
        content = encoded(broken_json(tape, told))
    elif kind == 4:
        if isinstance(told, dict):
            told = {**told, **{tape.pick(_names()): value(tape, 4) for _ in range(3)}}
        content = encoded(told)
    elif kind == 5:
        content = encoded(value(tape, 5))
    elif kind == 6:
        depth = tape.pick((10, 65, 1000, 100_000))
        content = b'{"a":' * depth + b"1" + b"}" * depth
    else:
        content = b"".join(tape.several(lambda: text(tape).encode("utf-8", "surrogatepass"), 9))
    if tape.one_in(3):
        raw = bytearray(content)
        for _ in range(1 + tape.number(3)):
            at = tape.number(len(raw) + 1)
            new = tape.pick(
                (b"", b"\xff", b'"', b"\\", b"}", b"null", b"//", b"\xef\xbb\xbf", b"\0")
            )
            raw[at : at + tape.number(3)] = new
        content = bytes(raw)
    return content


def configurations(tape: Tape) -> None:
    """A configuration with its accounts and models, any of the three odd."""
    folder, which = _folder(), tape.number(4)
    contents = {
        "config.json": _CONFIG,
        "provider_pools.json": _POOLS,
        "custom_models.json": _MODELS,
    }
    for at, (name, told) in enumerate(contents.items()):
        odd = which in (at, 3)
        (folder / name).write_bytes(_odd(tape, told) if odd else encoded(told))
    try:
        settings = load(
            flags={"config": "config.json"},
            environ={"HOME": str(folder)},
            cwd=folder,
            factories=provider_factories(),
            uid=1000,
        )
        told = settings.warnings
    except ConfigurationError as error:
        assert error.faults, "It was refused without a word."
        told = (*error.faults, *error.warnings)
    for sentence in told:
        assert isinstance(sentence, str) and sentence.strip(), repr(sentence)
        assert CANARY not in sentence, sentence


def pool_edits(tape: Tape) -> None:
    """Accounts added, changed and removed in a file that is odd, or not."""
    content = _odd(tape, _POOLS) if tape.one_in(2) else json.dumps(_POOLS, indent=2).encode()
    provider = tape.pick((*_POOLS, "openai-custom", "new"))
    try:
        before = PoolsText.of(content, "provider_pools.json")
        values = before.values()
        after = before
        for _ in range(1 + tape.number(3)):
            after = _edited(tape, after, provider)
        if b"\\ud" not in after.content and _sound(after.content):
            # Half a surrogate pair stays in the file, and is read as something else.
            assert json.loads(after.content.decode("utf-8-sig")) == after.values()
        others = {name: told for name, told in after.values().items() if name != provider}
        assert others == {name: told for name, told in values.items() if name != provider}
    except ConfigurationError as error:
        assert error.faults, "It was refused without a word."
        assert not any(CANARY in each for each in error.faults), error.faults
    except InvalidRequest as error:
        assert CANARY not in error.message, error.message


def _sound(content: bytes) -> bool:
    try:
        json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return False
    return True


def _edited(tape: Tape, told: PoolsText, provider: str) -> PoolsText:
    kind = tape.number(3)
    if kind == 0:
        return told.added(provider, {"uuid": text(tape), "OPENAI_API_KEY": CANARY})
    which = tape.pick(("0", "uuid-3", "1", text(tape)))
    found = told.find(provider, which, None)
    if kind == 1:
        return told.removed(provider, found.index)
    name = tape.pick(("isDisabled", "customName", "uuid", text(tape)))
    return told.changed(provider, found.index, {name: tape.maybe(lambda: value(tape))})


def credentials(tape: Tape) -> None:
    """Credential files of every vendor, odd or not."""
    path = _folder() / "credential.json"
    path.write_bytes(_odd(tape, tape.pick(_CREDENTIALS)))
    try:
        document = CredentialFile(path).read().document
    except NoCredential as error:
        assert CANARY not in str(error), error
        return
    identity(document)
    _read_google(document)
    _read_kiro(document)
    _kiro_token.unpacked(text(tape))
    _qwen_token.expiry(document)
    if not _qwen_token.lacking(document):
        _qwen_token.credential_of(document)
    CredentialFile(path).merge({"access_token": text(tape), "expiry_date": 5})
    json.loads(path.read_bytes())


def _read_google(document: Mapping[str, Any]) -> None:
    for each in (_google_token.expiry, _google_token.client_of, _google_token.secrets_in):
        each(document)


def _read_kiro(document: Mapping[str, Any]) -> None:
    for each in (_kiro_token.expiry, _kiro_token.oidc_region, _kiro_token.credential_of):
        each(document)
