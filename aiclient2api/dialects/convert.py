"""
Turn a request into the dialect an upstream speaks, and its answer back.

zope.interface does the choosing: a request that already provides the target's interface
comes back as it is; else a direct adapter makes one, if somebody registered such a thing;
else it is read into a `Conversation`, and written anew. This file must never know which
dialects there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import attrs

from aiclient2api.conversation.request import Conversation
from aiclient2api.conversation.tool_names import originals
from aiclient2api.dialects.rescuing import Rescue
from aiclient2api.dialects.translating import Remember, Translation
from aiclient2api.errors import InvalidRequest
from aiclient2api.interfaces import (
    IConversation,
    IDialect,
    IEventEncoder,
    IWatcher,
    IWireRequest,
)

Watch = Callable[[bytes, bool, int], IWatcher]
"""Makes the reader of one answer: its content type, whether to collect text, the limit."""


@attrs.frozen
class Converted:
    """
    A request as the upstream is to be asked, and how its answer is read.

    :ivar verbatim: True if bytes are relayed as they come.
    :ivar watch: To be called once an attempt.
    :ivar native: True if the upstream speaks the client's dialect: its errors can be shown.
    :ivar rescue: What goes on with the answer if it breaks off; None if nothing does.
    :ivar continues: True if the model is given the answer so far, to go on with it.
    """

    request: IWireRequest
    verbatim: bool
    watch: Watch
    rescue: Rescue | None = None
    continues: bool = False
    native: bool = attrs.field()

    @native.default
    def _native(self) -> bool:
        return self.verbatim


def verbatim(request: IWireRequest, target: IDialect) -> IWireRequest | None:
    """Return *request* as *target* may have it byte for byte, None if it speaks another."""
    if not target.request_interface.providedBy(request):
        return None
    return request.without_foreign_seals()


def conversation_of(request: IWireRequest) -> Conversation:
    """
    Return what *request* says.

    :raise InvalidRequest: if it cannot be understood, or no way leads from its dialect.
    """
    conversation = IConversation(request, None)
    if conversation is None:
        raise InvalidRequest(
            f"There is no conversion from {request.dialect} to another dialect; ask a provider "
            "that speaks it.",
            code="dialect_mismatch",
        )
    return cast(Conversation, conversation)


def written(request: IWireRequest, conversation: Conversation, target: IDialect) -> IWireRequest:
    """
    Return *request* in the dialect *target*.

    :param conversation: What was read of it, completed for the upstream.
    :raise InvalidRequest: if the target can express no such thing.
    """
    theirs = target.request_interface(request, None)
    if theirs is None:
        theirs = composed(conversation, target)
    if theirs is None:
        raise InvalidRequest(
            f"There is no conversion to {target.title}; ask a provider that speaks "
            f"{request.dialect}.",
            code="dialect_mismatch",
        )
    return cast(IWireRequest, theirs)


def composed(conversation: Conversation, target: IDialect) -> IWireRequest | None:
    """
    Return *conversation* in the dialect *target*, None if no way leads there.

    :raise InvalidRequest: if the target can express no such thing.
    """
    return cast("IWireRequest | None", target.request_interface(conversation, None))


def relayed(request: IWireRequest, *, source: IDialect) -> Converted:
    """Return how a request of the upstream's own dialect is asked, and its answer relayed."""

    def watch(content_type: bytes, want_text: bool, limit: int) -> IWatcher:
        return source.watcher(
            request=request, content_type=content_type, want_text=want_text, limit=limit
        )

    return Converted(request, True, watch)


def translated(
    theirs: IWireRequest,
    *,
    asked: IWireRequest,
    conversation: Conversation,
    source: IDialect,
    target: IDialect,
    model: str,
    make_id: Callable[[], str],
    now: Callable[[], float],
    remember: Remember,
    rescue: Rescue | None = None,
    continues: bool = False,
) -> Converted:
    """
    Return how *theirs* is asked, and how its answer becomes one to *asked*.

    :param model: The model's name as the client asked for it.
    :param rescue: The client's answer, if it is to be gone on with after a cut.
    :param continues: Whether *theirs* ends with the answer so far.
    """
    same = theirs is asked
    names: Mapping[str, str] = {} if same else originals(conversation, target.name_rule)
    # A seal that stays within its dialect is not told whose it is.
    native = source.name == target.name
    family = "" if native else conversation.traits.family

    def encoder() -> IEventEncoder:
        return source.encoder(
            request=asked, conversation=conversation, model=model, make_id=make_id, now=now
        )

    def watch(content_type: bytes, want_text: bool, limit: int) -> IWatcher:
        def translation(writer: IEventEncoder) -> Translation:
            return Translation(
                decoder=target.decoder(request=theirs),
                encoder=writer,
                theirs=theirs,
                framing=asked.framing,
                content_type=content_type,
                want_text=want_text,
                limit=limit,
                names=names,
                remember=remember,
                family=family,
            )

        if rescue is None:
            return translation(encoder())
        return rescue.run(translation, encoder, continuing=continues, want_text=want_text)

    return Converted(theirs, False, watch, rescue, continues, native)
