"""Keys: who may call, told without telling anything of the keys."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from aiclient2api.errors import Unauthorized
from aiclient2api.interfaces import IKeyring
from aiclient2api.web.keys import ANYONE, Keyring


class KeyringTests(SynchronousTestCase):
    """One of several keys opens; nothing else does."""

    def test_it_keeps_its_contract(self) -> None:
        """It provides `IKeyring`."""
        self.assertTrue(verifyObject(IKeyring, Keyring(["k"])))

    def test_any_of_the_keys_opens(self) -> None:
        """Each key has a caller of its own, the same every time."""
        ring = Keyring(["first", "second"])
        first, second = ring.who(presented=["first"]), ring.who(presented=["second"])
        self.assertNotEqual(first, second)
        self.assertEqual(first, ring.who(presented=["wrong", "first"]))

    def test_nothing_and_anything_else_is_refused(self) -> None:
        """No key, an empty one, a part of one and one too long are all wrong."""
        ring = Keyring(["secret-key"])
        for presented in ([], [""], ["secret"], ["secret-key "], ["SECRET-KEY"], ["\udcff"]):
            self.assertRaises(Unauthorized, ring.who, presented=presented)

    def test_the_refusal_and_the_caller_hold_no_key(self) -> None:
        """Neither ours nor theirs is in a message, a name or a repr."""
        ring = Keyring(["secret-key"])
        error = self.assertRaises(Unauthorized, ring.who, presented=["guessed-key"])
        shown = error.message + repr(ring.who(presented=["secret-key"])) + repr(vars(ring))
        self.assertNotIn("secret-key", shown)
        self.assertNotIn("guessed-key", shown)

    def test_an_open_server_lets_anyone_in(self) -> None:
        """No keys at all is an explicit choice of the configuration."""
        self.assertEqual(Keyring([]).who(presented=[]), ANYONE)
