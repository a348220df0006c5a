"""Chat Completions: seals of other dialects' models, taken out of a request that is relayed."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.conversation.request import Inline, Remote
from aiclient2api.conversation.seals import Seal, carried
from aiclient2api.dialects.openai_chat import OPENAI_CHAT
from aiclient2api.dialects.openai_chat.request import NAME
from aiclient2api.errors import InvalidRequest
from tests.dialects.openai_chat.judge import parsed

_FOREIGN = carried(Seal("gemini", "AAAA"), NAME)


def _body(*calls: str) -> bytes:
    """Return a request, oddly spaced, with *calls* in its history."""
    told = " , ".join(calls)
    return (
        '{ "model":"m", "messages":[ {"role":"user","content":"h\\u0069"},'
        '{"role":"assistant","tool_calls":[ ' + told + " ]} ] , "
        '"x":1e400}'
    ).encode()


def _call(rest: str) -> str:
    return '{"id":"c1","type":"function","function":{"name":"f","arguments":"{}"}' + rest + "}"


def _extra(signature: str, more: str = "") -> str:
    told = json.dumps(signature)
    return ', "extra_content": {"google" : {' + more + '"thought_signature": ' + told + "}}"


class ForeignSealTests(SynchronousTestCase):
    """Bytes."""

    def test_without_any(self) -> None:
        """The very request comes back."""
        for body in (_body(_call("")), _body(_call(_extra("AAAA")))):
            request = parsed(body)
            self.assertIs(request.without_foreign_seals(), request)

    def test_a_parcel_elsewhere(self) -> None:
        """What merely looks like one is the user's own affair."""
        request = parsed(_body(_call(f',"note":"{_FOREIGN}"')))
        self.assertIs(request.without_foreign_seals(), request)

    def test_a_foreign_one(self) -> None:
        """It goes, with what held nothing else; every other byte stays, the loss is named."""
        request = parsed(_body(_call(_extra(_FOREIGN)), _call("")))
        told = request.without_foreign_seals()
        self.assertEqual(told.raw, _body(_call(""), _call("")))
        self.assertEqual(told.losses, ("reasoning",))
        self.assertEqual((told.model, told.headers), (request.model, request.headers))

    def test_beside_something_else(self) -> None:
        """What stands beside it stays."""
        request = parsed(_body(_call(_extra(_FOREIGN, '"a":1 , '))))
        wanted = _body(_call(', "extra_content": {"google" : {"a":1}}'))
        self.assertEqual(request.without_foreign_seals().raw, wanted)

    def test_one_of_our_own(self) -> None:
        """A parcel of this very dialect is unpacked."""
        own = carried(Seal(NAME, "BBBB", id="x"), NAME)
        told = parsed(_body(_call(_extra(own)))).without_foreign_seals()
        self.assertEqual(told.raw, _body(_call(_extra("BBBB"))))
        self.assertEqual(told.losses, ())

    def test_a_broken_one(self) -> None:
        """Nobody could use it."""
        told = parsed(_body(_call(_extra(_FOREIGN[:-9])))).without_foreign_seals()
        self.assertEqual(told.raw, _body(_call("")))

    def test_odd_forms(self) -> None:
        """They are left to the upstream; what is given twice is refused."""
        for rest in (
            f',"extra_content":"{_FOREIGN}"',
            f',"extra_content":{{"google":"{_FOREIGN}"}}',
            f',"extra_content":{{"google":{{"thought_signature":["{_FOREIGN}"]}}}}',
        ):
            request = parsed(_body(_call(rest)))
            self.assertIs(request.without_foreign_seals(), request)
        twice = _extra(_FOREIGN) + _extra(_FOREIGN)
        request = parsed(_body(_call(twice)))
        self.assertRaises(InvalidRequest, request.without_foreign_seals)


class MediaTests(SynchronousTestCase):
    """What an upstream fetches by itself."""

    def test_needs_bytes(self) -> None:
        """Pictures have addresses here, files have none."""
        for media, needed in (
            (Remote("https://a/b.png"), False),
            (Remote("https://a/b"), False),
            (Remote("https://a/b.pdf"), True),
            (Remote("HTTP://a/b.PDF?x=1"), True),
            (Remote("https://a/b", "application/pdf"), True),
            (Remote("https://a/b.pdf", "image/png"), False),
            (Remote("gs://a/b.pdf"), False),
            (Remote("https://[a/b.pdf"), False),
            (Inline("application/pdf", "aGk="), False),
        ):
            self.assertIs(OPENAI_CHAT.needs_bytes(media), needed, media)
