"""Answers that are kept, on a store in memory."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.state.memory import MemoryStore
from aiclient2api.state.responses import NAMESPACE, StoredResponses
from aiclient2api.values import KeptAnswer

ANSWER = KeptAnswer("resp_1", b'{"id":"resp_1"}', b'[{"role":"user","content":"\xf0\x9f\x91\x8b"}]')


class StoredResponsesTests(SynchronousTestCase):
    """`StoredResponses`."""

    def setUp(self) -> None:
        """Have a store on a clock of our own."""
        self.clock = Clock()
        self.store = MemoryStore(clock=self.clock, now=self.clock.seconds)
        self.responses = self.made()

    def made(self, ttl: float = 100, total: int = 10_000, one: int = 1000) -> StoredResponses:
        """Return answers on the store."""
        return StoredResponses(self.store, ttl=ttl, total=total, one=one)

    def find(self, owner: str = "o", id: str = "resp_1") -> KeptAnswer | None:
        """Return an answer that is found at once."""
        found: KeptAnswer | None = self.successResultOf(self.responses.find(owner, id))
        return found

    def test_what_was_kept_is_found(self) -> None:
        """As it was, at once; what was not is not."""
        self.responses.keep("o", ANSWER)
        self.assertEqual(self.find(), ANSWER)
        self.assertIsNone(self.find(id="resp_2"))

    def test_it_is_bound_to_its_owner(self) -> None:
        """Whoever knows an id but has another key can neither read nor delete."""
        self.responses.keep("o", ANSWER)
        self.assertIsNone(self.find(owner="other"))
        self.assertFalse(self.successResultOf(self.responses.forget("other", "resp_1")))
        self.assertEqual(self.find(), ANSWER)

    def test_it_can_be_forgotten(self) -> None:
        """Once."""
        self.responses.keep("o", ANSWER)
        self.assertTrue(self.successResultOf(self.responses.forget("o", "resp_1")))
        self.assertIsNone(self.find())
        self.assertFalse(self.successResultOf(self.responses.forget("o", "resp_1")))

    def test_it_has_its_time(self) -> None:
        """Afterwards it is as if it had never been."""
        self.responses.keep("o", ANSWER)
        self.clock.advance(99)
        self.assertEqual(self.find(), ANSWER)
        self.clock.advance(1)
        self.assertIsNone(self.find())

    def test_off(self) -> None:
        """A time of 0 keeps nothing, tells nobody, and lets go of what was kept before."""
        self.responses.keep("o", ANSWER)
        self.responses = self.made(ttl=0)
        with capturedLogs() as events:
            self.responses.keep("o", ANSWER)
        self.assertEqual(events, [])
        self.assertIsNone(self.find())
        self.assertFalse(self.successResultOf(self.responses.forget("o", "resp_1")))
        self.responses = self.made()
        self.assertIsNone(self.find())

    def test_one_too_large(self) -> None:
        """It is left out, and the operator learns which and why, but no word of it."""
        small = KeptAnswer("small", b"{}", b"[" + b" " * 900 + b"]")
        large = KeptAnswer("large", b"{}", b"[" + b" " * 1000 + b"]")
        with capturedLogs() as events:
            self.responses.keep("o", small)
            self.responses.keep("o", large)
        self.assertEqual(self.find(id="small"), small)
        self.assertIsNone(self.find(id="large"))
        (event,) = events
        self.assertEqual(event["log_level"].name, "warn")
        self.assertEqual(
            formatEvent(event),
            "Answer large cannot be gone on from: with its conversation it has 1012 bytes, and "
            "stored_responses allows for 1000.",
        )

    def test_the_oldest_go_first(self) -> None:
        """All of them together have their limit."""
        self.responses = self.made(total=2000)
        for id in ("1", "2", "3"):
            self.responses.keep("o", KeptAnswer(id, b"x" * 900, b"[]"))
        found = [id for id in ("1", "2", "3") if self.find(id=id)]
        self.assertEqual(found, ["2", "3"])

    def test_what_cannot_be_read_is_missing(self) -> None:
        """Whatever is in the store: nobody's request fails over it."""
        for value in (
            b"",
            b"\xff",
            b"{}",
            b"\x93\xa12\xc4\x01a\xc4\x01b",
            b"\x92\xa11\xc4\x01a",
            b"\x93\xa11\xc4\x01a\x05",
            b"\x93\xa11\xc4\xffa",
        ):
            self.store.put(namespace=NAMESPACE, owner="o", key="resp_1", value=value, ttl=None)
            self.assertIsNone(self.find(), value)

    def test_the_form_is_for_good(self) -> None:
        """What an earlier run has kept can be read."""
        value = b"\x93\xa11\xc4\x02{}\xc4\x02[]"
        self.store.put(namespace=NAMESPACE, owner="o", key="resp_1", value=value, ttl=None)
        self.assertEqual(self.find(), KeptAnswer("resp_1", b"{}", b"[]"))
