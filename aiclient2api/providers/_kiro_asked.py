"""
What Kiro's answer has to do with its request, looked for only where it may be said.

Reading a long conversation again costs more than finding that a word is not in it. It must
never know how an answer comes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property

import attrs

from aiclient2api.conversation.request import Conversation
from aiclient2api.dialects.convert import conversation_of
from aiclient2api.interfaces import IWireRequest
from aiclient2api.providers._kiro_answer import Asked
from aiclient2api.providers._kiro_request import thinking_words
from aiclient2api.providers._kiro_tools import sent_names


def asked_of(request: IWireRequest, *, provider: str, now: Callable[[], float]) -> Asked:
    """Return what is to be known of *request* while it is answered."""
    told, body = _Told(request), request.to_bytes()
    return Asked(
        provider=provider,
        thinks=b'"thinking"' in body and bool(thinking_words(request, told.conversation)),
        stop=told.conversation.sampling.stop if b'"stop_sequences"' in body else (),
        names=told.names,
        now=now,
    )


@attrs.frozen(slots=False)
class _Told:
    request: IWireRequest

    @cached_property
    def conversation(self) -> Conversation:
        """What the request says."""
        return conversation_of(self.request)

    def names(self) -> Mapping[str, str]:
        """Return the names of tools as the client has them, by those sent."""
        return {sent: name for name, sent in sent_names(self.conversation).items()}
