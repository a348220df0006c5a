"""
Which conversation a request is a turn of, by its names or by how it begins.

A client that names its conversation is believed; of any other, the prompt and what the
user said before the first answer are digested: no later turn changes them. It must never
know what is done with a name, and never raises, whatever stands in a request.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from aiclient2api.dialects.wire_request import Fields, entry, kind_at, text_in
from aiclient2api.framing.json_text import JSONText, read
from aiclient2api.values import Affinity

# Those of one client first (Claude Code, opencode, Codex, Amp, LiteLLM's, Open WebUI, Kilo
# Code), then what anybody may call it. An agent's own threads come last: it may have several
# in one session.
_HEADERS = (
    b"x-claude-code-session-id",
    b"x-opencode-session",
    b"x-session-affinity",
    b"session-id",
    b"session_id",
    b"x-session-id",
    b"x-amp-thread-id",
    b"x-litellm-session-id",
    b"x-openwebui-chat-id",
    b"x-kilocode-taskid",
    b"x-conversation-id",
    b"conversation-id",
    b"conversation_id",
    b"x-thread-id",
    b"thread-id",
)
_FIELDS = (
    "session_id",
    "sessionId",
    "litellm_session_id",
    "conversation_id",
    "conversationId",
    "thread_id",
    "threadId",
    "chat_id",
    "chatId",
)
_CACHES = ("prompt_cache_key", "cachedContent", "cached_content")
_HOLDERS = ("metadata", "client_metadata", "litellm_metadata")

_SYSTEM_ROLES = ("system", "developer")
_ANSWERING = ("assistant", "model", "tool", "function")
# Clients write these anew in every turn, or in another way than the turn before.
_FLEETING = frozenset(("cache_control", "prompt_cache_breakpoint", "id", "status", "role", "type"))
# Claude Code's first system block: it differs from one request to the next.
_BILLING = "x-anthropic-billing-header"
# Qwen Code, and Gemini CLI before it, put this into the model's mouth behind a description
# of the folder; what the user wants comes after it.
_CANNED = "Got it. Thanks for the context!"
_CANNED_SIZE = 256
_LARGE = 1 << 16


class _Turn(msgspec.Struct):
    role: Any = None
    type: Any = None
    content: msgspec.Raw = msgspec.Raw()
    parts: msgspec.Raw = msgspec.Raw()


_TURN = msgspec.json.Decoder(_Turn)
_TURNS = msgspec.json.Decoder(list[_Turn])


def session_of(headers: Mapping[bytes, bytes]) -> str | None:
    """
    Return what the client calls its conversation in its headers, or None.

    :param headers: Lower-case names to values.
    """
    for name in _HEADERS:
        value = headers.get(name, b"").strip()
        if value:
            return value.decode("utf-8", "replace")
    return None


def affinity(
    body: Fields,
    *,
    session: str | None,
    system: Sequence[str],
    turns: str,
    personal: bool = False,
    stored: bool = False,
    conversation: str | None = None,
) -> Affinity:
    """
    Return under which names the conversation of a request is found and remembered.

    :param session: What the client's headers call it.
    :param system: Keys under which the system prompt may stand.
    :param turns: The key under which the turns stand.
    :param personal: True if ``metadata.user_id`` counts: Claude Code puts its session there.
    :param stored: True if it goes on from an answer that the upstream keeps.
    :param conversation: The id of the conversation that the upstream keeps.
    """
    members = {member.key: (member.start, member.end) for member in body.members}
    if conversation is not None:
        name: str | None = f"conversation:{conversation}"
    elif session is not None:
        name = f"session:{session}"
    else:
        name = _named(body.text, members, personal=personal)
    if name is not None:
        return Affinity((name,), (name,))
    if stored:
        # Such a request holds the newest turn only: it begins nothing.
        return Affinity()
    prompt = [_value(body.text, members[key]) for key in system if key in members]
    beginning, answered = _begun(prompt, _turns(body.text, members.get(turns)))
    names = () if beginning is None else (f"begin:{beginning}",)
    return Affinity(names if answered else (), names)


def plain(value: Any) -> str | None:
    """Return *value* if it can be a name, a number's digits too; else None."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63:
        return str(value)
    if not isinstance(value, str) or not value.strip():
        return None
    # A lone surrogate has no bytes, and names are digested.
    return value.strip().encode("utf-8", "replace").decode()


def _named(text: JSONText, members: Mapping[str, tuple[int, int]], *, personal: bool) -> str | None:
    """Return what the body calls the conversation."""
    for kind, keys in (("session", _FIELDS), ("cache", _CACHES)):
        for key in keys:
            if key in members and (name := plain(_value(text, members[key]))):
                return f"{kind}:{name}"
    told = {key: _value(text, members[key]) for key in _HOLDERS if key in members}
    for holder in told.values():
        for key in _FIELDS:
            if name := plain(entry(holder, key)):
                return f"session:{name}"
    if personal and (name := plain(entry(told.get("metadata"), "user_id"))):
        return f"user:{name}"
    return None


def _begun(prompt: Iterable[Any], turns: Iterable[_Turn]) -> tuple[str | None, bool]:
    """
    Digest how a conversation begins.

    :return: The digest, None if no user said anything; and whether there was an answer.
    """
    digest = hashlib.sha256()
    for value in prompt:
        _take(digest, b"system", value)
    asked = answered = False
    for turn in turns:
        said = turn.content if bytes(turn.content) else turn.parts
        if _answers(turn):
            # What stands before the user's first word is a greeting.
            answered = asked and not _canned(said)
            if answered:
                break
            continue
        system = turn.role in _SYSTEM_ROLES
        asked = asked or not system
        _take(digest, b"system" if system else b"user", read(bytes(said)) if bytes(said) else None)
    return (digest.hexdigest() if asked else None), answered


def _take(digest: hashlib._Hash, speaker: bytes, value: Any) -> None:
    for text in _leaves(value):
        if text.startswith(_BILLING):
            text = text.partition("\n")[2]
        if text:
            size = len(text)
            if size > 2 * _LARGE:
                # A picture is known by its ends; whole ones would take milliseconds.
                text = text[:_LARGE] + text[-_LARGE:]
            digest.update(b"%s %d " % (speaker, size))
            digest.update(text.encode("utf-8", "surrogatepass"))


def _leaves(value: Any) -> Iterator[str]:
    """Yield the texts and other ends of *value*, however they are wrapped and spelt."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from _leaves(each)
    elif isinstance(value, dict):
        for key in sorted(value, key=_spelt):
            if key not in _FLEETING:
                yield from _leaves(value[key])
    elif value is not None:
        yield repr(value)


def _spelt(key: str) -> str:
    return key.replace("_", "").lower()


def _answers(turn: _Turn) -> bool:
    """Say whether *turn* is not the user's nor the operator's."""
    if isinstance(turn.role, str):
        return turn.role in _ANSWERING
    return isinstance(turn.type, str) and turn.type != "message"


def _canned(said: msgspec.Raw) -> bool:
    raw = bytes(said)
    return len(raw) < _CANNED_SIZE and text_in(read(raw)) == _CANNED


def _turns(text: JSONText, place: tuple[int, int] | None) -> list[_Turn]:
    """Return the turns that stand at *place*: a list, one alone, or only what was said."""
    if place is None:
        return []
    raw = memoryview(text.readable)[place[0] : place[1]]
    kind = kind_at(text, place[0])
    try:
        if kind == "array":
            return _TURNS.decode(raw)
        if kind == "object":
            return [_TURN.decode(raw)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []
    return [_Turn(role="user", content=msgspec.Raw(raw))] if kind == "string" else []


def _value(text: JSONText, place: tuple[int, int]) -> Any:
    return read(text.readable[place[0] : place[1]])
