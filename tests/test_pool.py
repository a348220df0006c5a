"""The pool of one account: what it leases, and what it refuses."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from aiclient2api.accounts.pool import SoleLease, SolePool
from aiclient2api.errors import ProviderUnavailable, UnknownModel
from aiclient2api.interfaces import IAccountPool, ILease
from aiclient2api.values import Account


class SolePoolTests(SynchronousTestCase):
    """One account answers, or it is said why not."""

    def test_it_keeps_its_contract(self) -> None:
        """Pool and lease provide their interfaces."""
        account = Account(provider="p", id="a", settings=None)
        self.assertTrue(verifyObject(IAccountPool, SolePool(account)))
        self.assertTrue(verifyObject(ILease, SoleLease(account)))

    def test_it_leases_its_account(self) -> None:
        """Any model is served where nothing restricts them."""
        account = Account(provider="p", id="a", settings=None)
        lease = self.successResultOf(SolePool(account).acquire(model="any"))
        self.assertIs(lease.account, account)

    def test_an_allow_list_beats_a_deny_list(self) -> None:
        """A model outside supportedModels is refused, with the list."""
        account = Account(
            provider="p", id="a", settings=None, supported=("m1", "m2"), unsupported=("m1",)
        )
        self.successResultOf(SolePool(account).acquire(model="m1"))
        error = self.failureResultOf(SolePool(account).acquire(model="m3"), UnknownModel).value
        self.assertIn("m1, m2", error.message)

    def test_a_denied_model_is_refused(self) -> None:
        """A model in notSupportedModels is refused."""
        account = Account(provider="p", id="a", settings=None, unsupported=("m1",))
        self.failureResultOf(SolePool(account).acquire(model="m1"), UnknownModel)

    def test_an_excluded_account_is_not_leased_twice(self) -> None:
        """One exchange never gets the same account again."""
        account = Account(provider="p", id="a", settings=None)
        waiting = SolePool(account).acquire(model="m", exclude=("a",))
        self.failureResultOf(waiting, ProviderUnavailable)

    def test_a_lease_ends_once(self) -> None:
        """A second end is a bug and says so."""
        lease = SoleLease(Account(provider="p", id="a", settings=None))
        lease.succeeded(None)
        self.assertRaises(RuntimeError, lease.abandoned)
