"""Whose an id of an upstream's is: on a store in memory, and on the file after a restart."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.state.given import NAMESPACE, GivenIds
from aiclient2api.state.memory import MemoryStore
from tests.state_files import FileStoreFixture


class GivenIdsTests(SynchronousTestCase):
    """`GivenIds`."""

    def setUp(self) -> None:
        """Have a store on a clock of our own."""
        self.clock = Clock()
        self.store = MemoryStore(clock=self.clock, now=self.clock.seconds)
        self.given = GivenIds(self.store, ttl=100)

    def keeper(self, owner: str = "o", provider: str = "p", id: str = "resp_1") -> str | None:
        """Return who keeps what an id stands for."""
        account: str | None = self.successResultOf(self.given.keeper(owner, provider, id))
        return account

    def test_what_was_given_is_its_owners(self) -> None:
        """And the account is known; nobody else's key, nor another provider, is told of it."""
        self.given.give("o", "p", ["resp_1", "msg_1"], "a")
        self.assertEqual([self.keeper(), self.keeper(id="msg_1")], ["a", "a"])
        self.assertIsNone(self.keeper(owner="other"))
        self.assertIsNone(self.keeper(provider="q"))
        self.assertIsNone(self.keeper(id="resp_2"))

    def test_each_of_two_who_were_given_one_has_it(self) -> None:
        """Two upstreams may call two things alike; neither caller loses the own one."""
        self.given.give("o", "p", ["x"], "a")
        self.given.give("other", "p", ["x"], "b")
        self.assertEqual((self.keeper(id="x"), self.keeper(owner="other", id="x")), ("a", "b"))

    def test_names_do_not_run_into_each_other(self) -> None:
        """Where a provider's name ends is no matter of what follows."""
        self.given.give("o", "p q", ["r"], "a")
        self.assertIsNone(self.keeper(provider="p", id="q r"))

    def test_it_has_its_time(self) -> None:
        """Upstreams do not keep things for ever, either."""
        self.given.give("o", "p", ["resp_1"], "a")
        self.clock.advance(99)
        self.assertEqual(self.keeper(), "a")
        self.clock.advance(1)
        self.assertIsNone(self.keeper())

    def test_ids_of_any_size_and_kind(self) -> None:
        """An upstream or a client may write what it likes; a record has its size."""
        for id in ("x" * 1_000_000, "\ud83d", "\0'; DROP TABLE entry; --", "%", "é" * 5000):
            self.given.give("o", "p", [id], "a")
            self.assertEqual(self.keeper(id=id), "a")
            self.assertIsNone(self.keeper(id=id + "x"))
        self.assertIsNone(self.keeper(id="_"))
        for key in self.successResultOf(self.store.scan(namespace=NAMESPACE, owner="o")):
            self.assertEqual(len(key), 64)

    def test_what_is_no_text_is_somebody_still(self) -> None:
        """Whatever became of the record: the id is its owner's, and no request fails."""
        self.given.give("o", "p", ["resp_1"], "a")
        (key,) = self.successResultOf(self.store.scan(namespace=NAMESPACE, owner="o"))
        self.store.put(namespace=NAMESPACE, owner="o", key=key, value=b"\xff", ttl=None)
        self.assertEqual(self.keeper(), "\ufffd")


class RestartTests(FileStoreFixture):
    """On the file."""

    async def test_it_outlives_the_gateway(self) -> None:
        """Owner and account are known to the next one, and the ids are not in the file."""
        GivenIds(self.store).give("o", "p", ["resp_secret"], "a")
        await self.store.close()
        self.assertNotIn(b"resp_secret", self.path.read_bytes())
        await self.restart()
        again = GivenIds(self.store)
        self.assertEqual(await again.keeper("o", "p", "resp_secret"), "a")
        self.assertIsNone(await again.keeper("other", "p", "resp_secret"))
