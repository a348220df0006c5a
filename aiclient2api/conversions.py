"""
What an exchange needs to ask one provider: the request in its dialect, and the way back.

Here a conversion meets what it needs of the world: seals that were kept for the caller,
images that have to be fetched, ids, the time. It must never know which dialects there are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

import attrs
from twisted.internet.defer import Deferred

from aiclient2api.conversation import families
from aiclient2api.conversation.counting import estimate
from aiclient2api.conversation.events import Finished, Started, UsageReported
from aiclient2api.conversation.request import (
    Conversation,
    File,
    Image,
    Inline,
    Part,
    Remote,
    Result,
    Text,
    Turn,
)
from aiclient2api.conversation.thinking import is_on
from aiclient2api.conversation.vault import Recollection, SealVault
from aiclient2api.dialects.convert import (
    Converted,
    composed,
    conversation_of,
    relayed,
    translated,
    verbatim,
    written,
)
from aiclient2api.dialects.rescuing import Rescue
from aiclient2api.errors import InvalidRequest
from aiclient2api.interfaces import IDialect, IProvider, IWireRequest
from aiclient2api.values import Usage

_BRINGING = frozenset({"n", "field:audio", "field:modalities", "field:mcp_servers"})
"""What is asked for that brings something into an answer for which the hub has no words."""


class MediaFetcher(Protocol):
    """Fetches what a request names by address."""

    def fetch_all(self, urls: Sequence[str]) -> Deferred[dict[str, Inline]]:
        """Return the media at each of *urls*. Cancelling gives up."""


@attrs.frozen
class Conversions:
    """
    Converts requests, and says how their answers are read.

    :ivar vault: Where seals are kept that clients cannot carry.
    :ivar media: Fetches media by address; None if that is switched off.
    :ivar make_id: Returns hexadecimal digits, new each time.
    :ivar now: Returns Unix seconds.
    """

    vault: SealVault
    make_id: Callable[[], str]
    media: MediaFetcher | None = None
    now: Callable[[], float] = time.time

    async def converted(
        self,
        request: IWireRequest,
        *,
        source: IDialect,
        provider: IProvider,
        model: str,
        caller: str,
        keep: Callable[[bytes], None] = lambda _: None,
        rescue: Rescue | None = None,
    ) -> Converted:
        """
        Return *request* as *provider* is to be asked. Cancelling stops what is fetched.

        :param source: The dialect the caller speaks.
        :param model: The model's name as the client asked for it.
        :param keep: Given a converted answer once it is whole, before the client has it all,
            if the client's dialect has requests that may refer to it.
        :param rescue: The client's answer, if it is to be gone on with after a cut. Then it
            is converted even where the dialects are one, for nothing can be added to bytes
            that are relayed as they come; the request still goes out as it is.
        :raise InvalidRequest: if the provider's dialect can express no such thing.
        """
        target = provider.dialect
        own = verbatim(request, target)
        traits = provider.traits(model=request.model)
        if own is not None:
            if own is not request and traits.words_only:
                own = request
            if rescue is None:
                return relayed(own, source=source)
            request = own
        conversation = attrs.evolve(conversation_of(request), traits=traits)
        issuer = families.issuer(target.name, traits.family)
        conversation = self.vault.restored(caller, conversation, issuer)
        conversation = families.returning(conversation, target.name, traits.family)
        if self.media is not None and own is None:
            urls = remote_media(conversation, lambda media: target.needs_bytes(media=media))
            if urls:
                found = await self.media.fetch_all(urls)
                conversation = with_media(conversation, found)

        def remember(recollection: Recollection, final: bytes | None) -> None:
            self.vault.keep(caller, recollection)
            if final is not None:
                keep(final)

        theirs = own or written(request, conversation, target)
        prefilled = None if rescue is None else _prefilled(conversation, theirs, target, rescue)
        return translated(
            prefilled or theirs,
            asked=request,
            conversation=conversation,
            source=source,
            target=target,
            model=model,
            make_id=self.make_id,
            now=self.now,
            remember=remember,
            rescue=rescue,
            continues=prefilled is not None,
        )

    def counted(self, request: IWireRequest, *, source: IDialect, model: str) -> bytes:
        """
        Return the answer to a question how many tokens *request* is, estimated here.

        :raise InvalidRequest: if the request cannot be understood.
        """
        conversation = conversation_of(request)
        encoder = source.encoder(
            request=request,
            conversation=conversation,
            model=model,
            make_id=self.make_id,
            now=self.now,
        )
        count = UsageReported(Usage(input=estimate(conversation)))
        return encoder.reply(events=(Started(), count, Finished("end")))


def mendable(request: IWireRequest) -> bool:
    """
    Say whether the answer to *request* may go through the hub whatever dialect it is in.

    What only a verbatim relay carries stays with it: several alternatives, probabilities, and
    what comes of tools that the vendor runs.
    """
    try:
        conversation = conversation_of(request)
    except InvalidRequest:
        return False
    return (
        conversation.sampling.logprobs is None
        and all(tool.kind != "web_search" for tool in conversation.tools)
        and not any(code in _BRINGING or code.startswith("tool:") for code in conversation.dropped)
    )


def _prefilled(
    conversation: Conversation, theirs: IWireRequest, target: IDialect, rescue: Rescue
) -> IWireRequest | None:
    """
    Return *theirs* with the answer so far at its end, None if it cannot be gone on with.

    :param theirs: The request without it: no more than there may be lost.
    """
    prefix = rescue.prefix
    choice, turns = conversation.tool_choice, conversation.turns
    if (
        prefix is None
        or not conversation.traits.prefill
        or is_on(conversation.thinking)
        or conversation.output is not None
        or (choice is not None and choice.mode not in ("auto", "none"))
        or (turns and turns[-1].role == "assistant")
    ):
        return None
    longer = attrs.evolve(conversation, turns=(*turns, Turn("assistant", (Text(prefix),))))
    try:
        prefilled = composed(longer, target)
    except InvalidRequest:
        return None
    if prefilled is None or not set(prefilled.losses) <= set(theirs.losses):
        return None
    return prefilled


def remote_media(conversation: Conversation, wanted: Callable[[Remote], bool]) -> Sequence[str]:
    """Return the addresses of media in *conversation* for which *wanted* holds, each once."""
    found: dict[str, None] = {}
    for turn in conversation.turns:
        for part in _media_in(turn.parts):
            if isinstance(part.media, Remote) and wanted(part.media):
                found[part.media.url] = None
    return tuple(found)


def with_media(conversation: Conversation, found: dict[str, Inline]) -> Conversation:
    """Return *conversation* with the bytes in place of the addresses that were fetched."""

    def filled(part: Part) -> Part:
        if isinstance(part, Result):
            parts = tuple(filled(each) for each in part.parts)
            return attrs.evolve(part, parts=parts)  # type: ignore[arg-type]  # of the same kinds
        if isinstance(part, Image | File) and isinstance(part.media, Remote):
            return attrs.evolve(part, media=found.get(part.media.url, part.media))
        return part

    turns = tuple(Turn(turn.role, tuple(map(filled, turn.parts))) for turn in conversation.turns)
    return attrs.evolve(conversation, turns=turns)


def _media_in(parts: Sequence[Part]) -> list[Image | File]:
    found: list[Image | File] = []
    for part in parts:
        if isinstance(part, Result):
            found += _media_in(part.parts)
        elif isinstance(part, Image | File):
            found.append(part)
    return found
