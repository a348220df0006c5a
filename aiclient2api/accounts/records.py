"""
What is kept of an account between two runs, as bytes.

Pure. A record that cannot be read is no record: the account begins anew. Of its credential
there is a short digest in it, to see whether it is another one by now, and nothing else.
"""

from __future__ import annotations

import hashlib
from typing import Any

import attrs
import msgspec

from aiclient2api.accounts.account import Kind, Phase, State, at_start
from aiclient2api.values import Account, Tally


class _State(msgspec.Struct, frozen=True, array_like=True):
    phase: str
    reason: str | None
    message: str
    since: float
    until: float | None
    next_try: float | None
    strikes: int
    back: str | None
    generation: int


class _Record(msgspec.Struct, frozen=True, array_like=True, tag="1"):
    """The tag is the form's version."""

    credential: bytes
    state: _State
    models: dict[str, _State]
    tally: tuple[int, int, int, int, int, int, int, float]
    last_model: str


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Record).decode


@attrs.frozen
class Remembered:
    """
    What was known of an account when it was written down.

    :ivar same: False if the account has another credential or other settings now.
    """

    same: bool
    state: State
    models: dict[str, State]
    tally: Tally
    last_model: str


def credential_digest(account: Account) -> bytes:
    """Return what tells two credentials, or two addresses, apart and reveals neither."""
    settings: Any = account.settings
    told = attrs.astuple(settings, recurse=False) if attrs.has(type(settings)) else (settings,)
    return hashlib.blake2b(repr(told).encode("utf-8", "replace"), digest_size=8).digest()


def encoded(
    credential: bytes, state: State, models: dict[str, State], tally: Tally, last_model: str
) -> bytes:
    """Write down an account."""
    return _encode(
        _Record(
            credential,
            _written(state),
            {model: _written(each) for model, each in models.items()},
            attrs.astuple(tally),
            last_model,
        )
    )


def decoded(value: bytes, credential: bytes) -> Remembered | None:
    """Read what was written down; None if it is none of ours."""
    try:
        record = _decode(value)
        return Remembered(
            same=record.credential == credential,
            state=_read(record.state),
            models={model: _read(each) for model, each in record.models.items()},
            tally=Tally(*record.tally),
            last_model=record.last_model,
        )
    except (msgspec.MsgspecError, ValueError, UnicodeDecodeError):
        return None


def _written(state: State) -> _State:
    return _State(
        state.phase.value,
        state.reason.value if state.reason else None,
        state.message,
        state.since,
        state.until,
        state.next_try,
        state.strikes,
        state.back.value if state.back else None,
        state.generation,
    )


def _read(kept: _State) -> State:
    return at_start(
        State(
            phase=Phase(kept.phase),
            reason=None if kept.reason is None else Kind(kept.reason),
            message=kept.message,
            since=kept.since,
            until=kept.until,
            next_try=kept.next_try,
            strikes=kept.strikes,
            back=None if kept.back is None else Phase(kept.back),
            generation=kept.generation,
        )
    )
