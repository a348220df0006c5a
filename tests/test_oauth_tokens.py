"""Tokens that are kept good: what a provider gets, whoever else renews, logs in or fails."""

from __future__ import annotations

import errno
import json
import operator
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.oauth.credential_file import CredentialFile, digest, identity
from aiclient2api.oauth.tokens import Source, TokenBook, TokenKeeper
from aiclient2api.testing import HeldThreads

NOW = 1_700_000_000.0
HINT = "Run aiclient2api login somewhere."


class ScriptedRenewal:
    """A `Renewal` that the test answers; each refresh token may be used once."""

    margin = 30.0
    login_hint = HINT

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers: list[Deferred[Mapping[str, Any]]] = []

    def expires(self, document: Mapping[str, Any]) -> float | None:
        """Return what the document says, milliseconds as Google and Qwen write them."""
        at = document.get("expiry_date")
        return None if at is None else at / 1000

    def renew(self, document: Mapping[str, Any]) -> Deferred[Mapping[str, Any]]:
        """Note who asks, and wait for the test."""
        self.asked.append(document["refresh_token"])
        answer: Deferred[Mapping[str, Any]] = Deferred()
        self.answers.append(answer)
        return answer


def failure(fault: Fault = Fault.SERVER, **more: Any) -> UpstreamError:
    """Return what a token endpoint's refusal or failure becomes."""
    status = 401 if fault is Fault.CREDENTIAL else 503
    return UpstreamError("The token endpoint failed.", fault=fault, status=status, **more)


class TokensTestCase(SynchronousTestCase):
    """A credential file and its keeper, on a virtual clock."""

    def setUp(self) -> None:
        """Have a token that is good for an hour."""
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.path = self.folder / "oauth_creds.json"
        self.name = f"{self.folder.name}/oauth_creds.json"
        self.clock = Clock()
        self.renewal = ScriptedRenewal()
        self.write(1)
        self.book = self.new_book()
        self.keeper = self.keep()

    def new_book(self, **options: Any) -> TokenBook:
        """Return the book of another process."""
        settings = {
            "clock": self.clock,
            "now": lambda: NOW + self.clock.seconds(),
            "jitter": lambda: 0.0,
            "in_thread": maybeDeferred,
            **options,
        }
        return TokenBook(**settings)

    def keep(self, book: TokenBook | None = None, **options: Any) -> TokenKeeper:
        """Return whoever keeps the file."""
        book = self.book if book is None else book
        source = Source(path=self.path, **options)
        return book.keeper(source=source, renewal=self.renewal)

    def tokens(self, number: int, lifetime: float = 3600.0) -> dict[str, Any]:
        """Return the tokens of a login's n-th renewal."""
        expires = NOW + self.clock.seconds() + lifetime
        return {
            "access_token": f"access-{number}",
            "refresh_token": f"refresh-{number}",
            "expiry_date": round(expires * 1000),
        }

    def write(self, number: int, lifetime: float = 3600.0, **more: Any) -> None:
        """Do as another program that renews the file, or logs in."""
        scratch = self.folder / "scratch"
        scratch.write_text(json.dumps({**self.tokens(number, lifetime), **more}, indent=2))
        scratch.replace(self.path)

    def on_disk(self) -> str:
        """Return the access token that the file holds."""
        token: str = json.loads(self.path.read_bytes())["access_token"]
        return token

    def answer(self, number: int, lifetime: float = 3600.0) -> None:
        """Let the token endpoint answer the last renewal."""
        self.renewal.answers[-1].callback(self.tokens(number, lifetime))

    def refuse(self, error: UpstreamError | None = None) -> None:
        """Let the token endpoint refuse the last renewal."""
        self.renewal.answers[-1].errback(error or failure(Fault.CREDENTIAL))

    def given(self, waiting: Deferred[Mapping[str, Any]]) -> str:
        """Return the access token that somebody got."""
        token: str = self.successResultOf(waiting)["access_token"]
        return token

    def error(self, waiting: Deferred[Any]) -> UpstreamError:
        """Return the error that somebody got."""
        error = self.failureResultOf(waiting, UpstreamError).value
        assert isinstance(error, UpstreamError)
        return error

    def use(self, refused: str | None = None) -> str:
        """Get a token that needs no renewal."""
        return self.given(self.keeper.current(refused=refused))


class CurrentTests(TokensTestCase):
    """`TokenKeeper.current`, as long as all is well."""

    def test_a_good_token_is_given_at_once(self) -> None:
        """With the whole document, which nobody can change; nobody is asked."""
        document = self.successResultOf(self.keeper.current())
        self.assertEqual(document, self.tokens(1))
        self.assertRaises(TypeError, operator.setitem, document, "access_token", "mine")
        self.assertEqual(self.renewal.asked, [])

    def test_an_expired_one_is_renewed(self) -> None:
        """From its margin on; it is on the disk before anybody gets it."""
        self.clock.advance(3569)
        self.assertEqual(self.use(), "access-1")
        self.clock.advance(1)
        waiting = self.keeper.current()
        self.assertNoResult(waiting)
        self.assertEqual((self.renewal.asked, self.on_disk()), (["refresh-1"], "access-1"))
        waiting.addCallback(lambda document: (document["access_token"], self.on_disk()))
        self.answer(2)
        self.assertEqual(self.successResultOf(waiting), ("access-2", "access-2"))
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)
        self.assertEqual([each.name for each in self.folder.iterdir()], ["oauth_creds.json"])

    def test_without_an_expiry_it_is_used_until_it_is_refused(self) -> None:
        """However old it is."""
        self.path.write_text('{"access_token": "old", "refresh_token": "r"}')
        self.clock.advance(1e7)
        self.assertEqual(self.use(), "old")
        self.keeper.current(refused="old")
        self.assertEqual(self.renewal.asked, ["r"])

    def test_a_refused_one_is_renewed(self) -> None:
        """Also if it should be good; nobody else is given it meanwhile."""
        refusing, other = self.keeper.current(refused="access-1"), self.keeper.current()
        self.assertNoResult(other)
        self.answer(2)
        self.assertEqual((self.given(refusing), self.given(other)), ("access-2", "access-2"))
        self.assertEqual(len(self.renewal.asked), 1)

    def test_one_that_was_replaced_since(self) -> None:
        """Whoever comes back with an old token gets the one there is, without a renewal."""
        self.assertEqual(self.use(), "access-1")
        self.write(2)
        self.assertEqual(self.use(refused="access-1"), "access-2")
        self.assertEqual(self.renewal.asked, [])

    def test_everybody_waits_for_the_same_renewal(self) -> None:
        """Each with a Deferred of their own; who leaves takes nothing from the others."""
        self.clock.advance(4000)
        waiting = [self.keeper.current() for _ in range(5)]
        self.assertEqual(len(self.renewal.asked), 1)
        waiting[0].cancel()
        waiting[3].cancel()
        for each in (0, 3):
            self.failureResultOf(waiting[each], CancelledError)
        self.answer(2)
        for each in (1, 2, 4):
            self.assertEqual(self.given(waiting[each]), "access-2")

    def test_a_renewal_goes_on_without_anybody(self) -> None:
        """All who waited have left: what was received is written all the same."""
        self.clock.advance(4000)
        waiting = self.keeper.current()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.answer(2)
        self.assertEqual(self.on_disk(), "access-2")

    def test_one_who_leaves_because_another_was_served(self) -> None:
        """Cancelled by somebody who was served just before: the rest is served still."""
        self.clock.advance(4000)
        waiting = [self.keeper.current() for _ in range(3)]
        waiting[0].addCallback(lambda document: waiting[1].cancel())
        self.answer(2)
        self.successResultOf(waiting[0])
        self.failureResultOf(waiting[1], CancelledError)
        self.assertEqual(self.given(waiting[2]), "access-2")

    def test_the_token_that_came_out_is_the_refused_one(self) -> None:
        """Somebody else's file brought it meanwhile: it is renewed once more."""
        self.clock.advance(4000)
        first, second = self.keeper.current(), self.keeper.current(refused="access-2")
        self.answer(2)
        self.assertEqual(self.given(first), "access-2")
        self.assertEqual(self.renewal.asked, ["refresh-1", "refresh-2"])
        self.answer(3)
        self.assertEqual(self.given(second), "access-3")

    def test_no_access_token_yet(self) -> None:
        """A refresh token alone is a login, too."""
        self.path.write_text('{"refresh_token": "r"}')
        waiting = self.keeper.current()
        self.answer(2)
        self.assertEqual(self.given(waiting), "access-2")

    def test_no_refresh_token(self) -> None:
        """The token is used as long as it is valid, then the operator is told what to do."""
        self.path.write_text(json.dumps({**self.tokens(1), "refresh_token": None}))
        self.clock.advance(3590)
        self.assertEqual(self.use(), "access-1")
        self.clock.advance(10)
        error = self.error(self.keeper.current())
        self.assertEqual((error.fault, error.status), (Fault.CREDENTIAL, 401))
        self.assertIn("oauth_creds.json", error.message)
        self.assertIn(HINT, error.message)

    def test_a_clock_that_is_wrong(self) -> None:
        """A token that seems to have expired long ago is renewed once in 30 s at most."""
        self.clock.advance(4000)
        waiting = self.keeper.current()
        self.answer(2, lifetime=-9999)
        self.assertEqual(self.given(waiting), "access-2")
        for _ in range(29):
            self.clock.advance(1)
            self.assertEqual(self.use(), "access-2")
        self.assertIsNone(self.successResultOf(self.keeper.early(60)))
        self.assertEqual(len(self.renewal.asked), 1)
        refused = self.keeper.current(refused="access-2")
        self.answer(3, lifetime=-9999)
        self.assertEqual(self.given(refused), "access-3")
        self.clock.advance(30)
        self.keeper.current()
        self.assertEqual(len(self.renewal.asked), 3)

    def test_what_was_renewed_is_told_without_the_token(self) -> None:
        """One line in the log; nothing shows a token."""
        self.clock.advance(4000)
        with capturedLogs() as events:
            self.keeper.current()
            self.answer(2)
        self.assertEqual(
            [formatEvent(event) for event in events],
            [
                f"The token in the credential file {self.name} was renewed; it is good for "
                "60 minutes."
            ],
        )
        source = Source(inline={"access_token": "secret-1"})
        shown = repr([self.keeper, vars(self.keeper)["renewal"], source, self.book, events])
        self.assertNotIn("secret-1", shown)
        self.assertNotIn("access-2", shown)


class FollowingTests(TokensTestCase):
    """What other programs do with the file."""

    def test_a_new_login_is_used_at_once(self) -> None:
        """The file is looked at each time; its version shows that it changed."""
        self.assertEqual(self.use(), "access-1")
        version = self.keeper.version
        self.assertEqual(self.keeper.version, version)
        self.write(7)
        self.assertNotEqual(self.keeper.version, version)
        self.assertEqual(self.use(), "access-7")

    def test_it_is_read_only_when_it_changed(self) -> None:
        """A look costs a stat, but for one more read when the file system's tick is over."""
        reads: list[object] = []

        def in_thread(function: Any, *args: Any) -> Deferred[Any]:
            reads.append(function)
            return maybeDeferred(function, *args)

        self.keeper = self.keep(self.new_book(in_thread=in_thread))
        for _ in range(10):
            self.clock.advance(1)
            self.use()
        self.assertEqual(len(reads), 2)

    def test_an_edit_that_shows_in_nothing_but_the_content(self) -> None:
        """Within the tick of the last look: it is seen two seconds later."""
        self.use()
        stays = self.path.stat()
        self.patch(os, "stat", lambda path: stays)
        self.patch(os, "fstat", lambda descriptor: stays)
        self.write(2)
        self.clock.advance(2)
        self.assertEqual(self.use(), "access-2")

    def test_a_file_that_is_being_written_in_place(self) -> None:
        """It is read again within half a second, until it is whole."""
        self.use()
        whole = json.dumps(self.tokens(2))
        self.path.write_text(whole[:20])
        waiting = self.keeper.current()
        self.clock.advance(0.06)
        self.assertNoResult(waiting)
        self.path.write_text(whole)
        self.clock.advance(0.15)
        self.assertEqual(self.given(waiting), "access-2")

    def test_a_file_that_stays_broken(self) -> None:
        """What it held before serves as long as it is valid; it is told once."""
        self.use()
        self.path.write_text("{")
        with capturedLogs() as events:
            waiting = self.keeper.current()
            self.clock.pump([0.1] * 7)
            self.assertEqual(self.given(waiting), "access-1")
            self.assertEqual(self.use(), "access-1")
            self.path.unlink()
            self.assertEqual(self.use(), "access-1")
        self.assertEqual(
            [formatEvent(event) for event in events],
            [
                f"The credential file {self.name} holds no valid JSON. What it held before is "
                "used for as long as it is valid."
            ],
        )
        self.clock.advance(3600)
        error = self.error(self.keeper.current())
        self.assertEqual((error.fault, error.status), (Fault.CREDENTIAL, 401))
        self.assertEqual(self.renewal.asked, [])
        self.write(2)
        self.assertEqual(self.use(), "access-2")

    def test_a_file_that_is_not_there(self) -> None:
        """The operator is told which, and how to log in; the version says that it is absent."""
        self.path.unlink()
        error = self.error(self.keeper.current())
        self.assertEqual(error.message, f"The credential file {self.name} is not there. {HINT}")
        self.assertEqual(self.keeper.version, "absent")
        self.write(2)
        self.assertEqual(self.use(), "access-2")

    def test_a_file_that_vanishes_during_a_renewal(self) -> None:
        """What was received is written all the same: it is all that is left of the account."""
        self.write(1, project="p")
        self.clock.advance(4000)
        waiting = self.keeper.current()
        self.path.unlink()
        self.answer(2)
        self.assertEqual(self.given(waiting), "access-2")
        self.assertEqual(json.loads(self.path.read_bytes())["project"], "p")

    def test_a_link_is_followed(self) -> None:
        """What it leads to is renewed, it stays a link, and both names have one keeper."""
        link = self.folder / "link.json"
        link.symlink_to(self.path)
        keeper = self.book.keeper(source=Source(path=link), renewal=self.renewal)
        self.assertIs(keeper, self.keeper)
        self.clock.advance(4000)
        keeper.current()
        self.answer(2)
        self.assertTrue(link.is_symlink())
        self.assertEqual(self.on_disk(), "access-2")


class OthersTests(TokensTestCase):
    """Other processes renew as well, with or without a lock."""

    def setUp(self) -> None:
        """Have two processes, and a token that expired."""
        super().setUp()
        self.other = self.keep(self.new_book())
        self.clock.advance(4000)

    def test_two_processes_renew_once(self) -> None:
        """The second waits for the lock, reads again, and uses what it finds."""
        first, second = self.keeper.current(), self.other.current()
        self.assertNoResult(second)
        self.answer(2)
        self.assertEqual(self.given(first), "access-2")
        self.clock.advance(0.1)
        self.assertEqual(self.given(second), "access-2")
        self.assertEqual(self.renewal.asked, ["refresh-1"])

    def test_two_processes_whose_token_was_refused(self) -> None:
        """One renewal serves both, although neither token had expired."""
        self.write(5)
        first = self.keeper.current(refused="access-5")
        second = self.other.current(refused="access-5")
        self.answer(6)
        self.clock.advance(0.1)
        self.assertEqual((self.given(first), self.given(second)), ("access-6", "access-6"))
        self.assertEqual(self.renewal.asked, ["refresh-5"])

    def test_the_real_clients_own_lock(self) -> None:
        """Its lock file is used where there is one, and removed at the end."""
        lock = self.folder / "oauth_creds.lock"
        lock.write_text("6f1c2c3e")
        keeper = self.keep(self.new_book(), lock=lock)
        waiting = keeper.current()
        self.assertEqual(self.renewal.asked, [])
        self.write(2)
        lock.unlink()
        self.clock.advance(0.1)
        self.assertEqual(self.given(waiting), "access-2")
        self.assertEqual(self.renewal.asked, [])
        self.assertFalse(lock.exists())

    def test_a_lock_that_is_never_released(self) -> None:
        """It is said after half a minute; the token serves if it is valid."""
        (self.folder / "oauth_creds.json.lock").write_text("held")
        path = self.folder / "oauth_creds.json.lock"
        waiting = self.keeper.current()
        for step in range(400):
            os.utime(path, (0, NOW + 4000 + step / 10))
            self.clock.advance(0.1)
        error = self.error(waiting)
        self.assertEqual((error.fault, error.status), (Fault.TIMEOUT, 504))
        self.assertIn("oauth_creds.json", error.message)

    def test_a_client_without_a_lock_was_quicker(self) -> None:
        """Our refresh token is refused, as it was just used: what it wrote is used."""
        waiting = self.keeper.current()
        self.write(2)
        self.refuse()
        self.assertEqual(self.given(waiting), "access-2")
        self.assertEqual((self.renewal.asked, self.on_disk()), (["refresh-1"], "access-2"))

    def test_a_client_with_the_same_refresh_token_was_quicker(self) -> None:
        """Where refresh tokens stay, only the access token shows it: it is used."""
        waiting = self.keeper.current()
        self.write(2, refresh_token="refresh-1")
        self.refuse()
        self.assertEqual(self.given(waiting), "access-2")
        self.assertEqual(len(self.renewal.asked), 1)

    def test_what_the_quicker_one_wrote_has_expired(self) -> None:
        """Then it is renewed from that."""
        waiting = self.keeper.current()
        self.write(2, lifetime=-5)
        self.refuse()
        self.assertEqual(self.renewal.asked, ["refresh-1", "refresh-2"])
        self.answer(3)
        self.assertEqual((self.given(waiting), self.on_disk()), ("access-3", "access-3"))

    def test_another_login_during_a_renewal(self) -> None:
        """It is not overwritten by what the old one was renewed to, and is used."""
        waiting = self.keeper.current()
        self.write(70)
        self.answer(2)
        self.assertEqual((self.given(waiting), self.on_disk()), ("access-70", "access-70"))
        self.assertEqual(self.use(), "access-70")

    def test_another_login_that_has_expired(self) -> None:
        """It is renewed from itself."""
        waiting = self.keeper.current()
        self.write(70, lifetime=-5)
        self.answer(2)
        self.assertEqual(self.renewal.asked, ["refresh-1", "refresh-70"])
        self.answer(71)
        self.assertEqual((self.given(waiting), self.on_disk()), ("access-71", "access-71"))

    def test_somebody_who_is_always_quicker(self) -> None:
        """We do not try for ever."""
        waiting = self.keeper.current()
        for number in range(2, 10):
            if waiting.called:
                break
            self.write(number, lifetime=-5)
            self.refuse()
        error = self.error(waiting)
        self.assertEqual(error.status, 503)
        self.assertLess(len(self.renewal.asked), 6)

    def test_what_a_killed_process_had_written(self) -> None:
        """It had its answer on the disk and not yet in place: nobody is asked again."""
        mark = identity(json.loads(self.path.read_bytes()))
        left = self.folder / f".oauth_creds.json.{mark}.00000000.new"
        left.write_text(json.dumps(self.tokens(2)))
        self.assertEqual(self.use(), "access-2")
        self.assertEqual((self.renewal.asked, self.on_disk()), ([], "access-2"))

    def test_keys_that_others_add_during_a_renewal(self) -> None:
        """They stay."""
        waiting = self.keeper.current()
        document = json.loads(self.path.read_bytes())
        self.path.write_text(json.dumps({"first": [1], **document}))
        self.answer(2)
        self.successResultOf(waiting)
        self.assertEqual(
            json.loads(self.path.read_bytes()), {"first": [1], **document, **self.tokens(2)}
        )


class FailingTests(TokensTestCase):
    """Renewals that fail, for a while or for good."""

    def setUp(self) -> None:
        """Have a token that expired."""
        super().setUp()
        self.clock.advance(4000)

    def test_a_dead_refresh_token(self) -> None:
        """The operator is told once in the log, and every caller; it is not asked again."""
        before = self.path.read_bytes()
        with capturedLogs() as events:
            waiting = [self.keeper.current(), self.keeper.current()]
            self.refuse()
            errors = [self.error(each) for each in waiting]
            self.clock.advance(9999)
            errors.append(self.error(self.keeper.current()))
            errors.append(self.error(self.keeper.current(refused="access-1")))
            early = self.successResultOf(self.keeper.early(60))
            assert early is not None
            errors.append(early)
        for error in errors:
            self.assertEqual(
                error.message,
                f"The login in the credential file {self.name} is no longer accepted. {HINT}",
            )
            self.assertEqual((error.fault, error.status), (Fault.CREDENTIAL, 401))
            self.assertIsNone(error.retry_after)
        self.assertEqual(len({id(error) for error in errors}), len(errors))
        self.assertEqual([formatEvent(each) for each in events], [errors[0].message])
        self.assertEqual(self.renewal.asked, ["refresh-1"])
        self.assertEqual(self.path.read_bytes(), before)

    def test_a_new_login_after_that(self) -> None:
        """It is used at once; the dead one is still dead if it comes back."""
        waiting = self.keeper.current()
        self.refuse()
        self.error(waiting)
        self.write(7)
        self.assertEqual(self.use(), "access-7")
        self.write(1, lifetime=-5)
        self.error(self.keeper.current())
        self.assertEqual(self.renewal.asked, ["refresh-1"])

    def test_a_dead_refresh_token_with_a_token_that_is_valid(self) -> None:
        """The token serves until it expires."""
        self.write(1, lifetime=20)
        waiting = self.keeper.current()
        self.refuse()
        self.assertEqual((self.given(waiting), self.use()), ("access-1", "access-1"))
        self.clock.advance(20)
        self.assertIn(HINT, self.error(self.keeper.current()).message)

    def test_failing_five_times_then_succeeding(self) -> None:
        """It is tried after 1, 2, 4, 8, 16 s; whoever asks between is told how long to wait."""
        for pause in (1, 2, 4, 8, 16):
            waiting = self.keeper.current()
            self.refuse(failure())
            self.assertEqual(self.error(waiting).fault, Fault.SERVER)
            asked = len(self.renewal.asked)
            self.clock.advance(pause - 0.5)
            error = self.error(self.keeper.current())
            self.assertEqual((error.retry_after, len(self.renewal.asked)), (0.5, asked))
            self.clock.advance(0.5)
        waiting = self.keeper.current()
        self.answer(2)
        self.assertEqual(self.given(waiting), "access-2")
        self.assertEqual(self.renewal.asked, ["refresh-1"] * 6)
        self.clock.advance(4000)
        waiting = self.keeper.current()
        self.refuse(failure())
        self.error(waiting)
        self.clock.advance(1)
        self.keeper.current()
        self.assertEqual(len(self.renewal.asked), 8)

    def test_never_more_than_20_seconds(self) -> None:
        """
        What is back is soon in use. Spread by chance over half of that; what the endpoint
        wants counts more.
        """
        self.keeper = self.keep(self.new_book(jitter=lambda: 0.5))
        pauses = []
        for _ in range(10):
            waiting = self.keeper.current()
            self.refuse(failure())
            self.error(waiting)
            pauses.append(self.error(self.keeper.current()).retry_after)
            self.clock.advance(60)
        self.assertEqual(pauses, [0.75, 1.5, 3, 6, 12, 15, 15, 15, 15, 15])
        waiting = self.keeper.current()
        self.refuse(failure(retry_after=100.0))
        self.error(waiting)
        self.assertEqual(self.error(self.keeper.current()).retry_after, 100)

    def test_a_clock_that_is_set_back_ends_the_pause(self) -> None:
        """An hour back is not an hour more to wait."""
        self.write(1, lifetime=-7200)
        waiting = self.keeper.current()
        self.refuse(failure())
        self.error(waiting)
        self.clock.rightNow -= 3600
        waiting = self.keeper.current()
        self.answer(2)
        self.assertEqual(self.given(waiting), "access-2")

    def test_a_token_that_is_still_valid_serves(self) -> None:
        """Within its margin, while the endpoint fails; to whom it was refused, it does not."""
        self.write(1, lifetime=20)
        waiting, refusing = self.keeper.current(), self.keeper.current(refused="access-1")
        self.refuse(failure(Fault.UNREACHABLE))
        self.assertEqual(self.given(waiting), "access-1")
        self.assertEqual(self.error(refusing).fault, Fault.UNREACHABLE)
        self.assertEqual((self.use(), len(self.renewal.asked)), ("access-1", 1))
        self.clock.advance(20)
        waiting = self.keeper.current()
        self.refuse(failure())
        self.error(waiting)

    def test_another_login_ends_the_pause(self) -> None:
        """What failed before says nothing of it."""
        waiting = self.keeper.current()
        self.refuse(failure())
        self.error(waiting)
        self.write(7, lifetime=-5)
        self.keeper.current()
        self.assertEqual(self.renewal.asked, ["refresh-1", "refresh-7"])

    def test_a_bug_of_a_provider(self) -> None:
        """It is told as one, without its words, and the lock is released."""
        with capturedLogs() as events:
            waiting = self.keeper.current()
            self.renewal.answers[-1].errback(KeyError("refresh-1"))
            error = self.error(waiting)
        self.assertEqual(error.status, 502)
        told = " ".join(formatEvent(event) for event in events)
        self.assertIn("KeyError. This is a bug.", told)
        self.assertNotIn("refresh-1", told + error.message)
        self.assertEqual([each.name for each in self.folder.iterdir()], ["oauth_creds.json"])

    def test_a_folder_that_cannot_be_written(self) -> None:
        """No refresh token is used up: its successor could not be kept."""
        with_lock = self.keep(self.new_book(), lock=Path(self.mktemp()).absolute())
        self.patch(
            CredentialFile,
            "_scratch",
            lambda *_: (_ for _ in ()).throw(PermissionError(errno.EACCES, "Permission denied")),
        )
        error = self.error(with_lock.current())
        self.assertIn("cannot be written (Permission denied)", error.message)
        self.assertEqual((error.fault, error.status), (Fault.CREDENTIAL, 401))
        self.assertEqual(self.renewal.asked, [])

    def test_a_folder_in_which_no_lock_can_be_made(self) -> None:
        """Likewise; the message says what to do."""
        keeper = self.keep(self.new_book(), lock=self.folder / "absent" / "lock")
        error = self.error(keeper.current())
        self.assertIn(f"A lock for the credential file {self.name} cannot be", error.message)
        self.assertEqual((error.fault, self.renewal.asked), (Fault.CREDENTIAL, []))

    def test_a_disk_that_fills_up_during_a_renewal(self) -> None:
        """Nobody gets the new token until it is written; the old one is not used again."""
        fsync = os.fsync

        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        waiting = self.keeper.current()
        self.patch(os, "fsync", full)
        self.answer(2)
        self.assertIn("Make room on its disk.", self.error(waiting).message)
        self.clock.advance(1)
        self.assertIn("Make room on its disk.", self.error(self.keeper.current()).message)
        self.patch(os, "fsync", fsync)
        self.clock.advance(2)
        self.assertEqual((self.use(), self.on_disk()), ("access-2", "access-2"))
        self.assertEqual(self.renewal.asked, ["refresh-1"])

    def test_a_disk_that_has_room_again_at_the_end(self) -> None:
        """What could not be written is written before the gateway ends."""
        fsync = os.fsync

        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        waiting = self.keeper.current()
        self.patch(os, "fsync", full)
        self.answer(2)
        self.error(waiting)
        self.patch(os, "fsync", fsync)
        self.assertEqual(self.on_disk(), "access-1")
        self.successResultOf(self.book.close())
        self.assertEqual(self.on_disk(), "access-2")


class EarlyTests(TokensTestCase):
    """`TokenKeeper.early`."""

    def test_it_renews_what_expires_soon(self) -> None:
        """And nothing else; the token that there is serves meanwhile."""
        self.assertIsNone(self.successResultOf(self.keeper.early(600)))
        self.clock.advance(2999)
        self.assertIsNone(self.successResultOf(self.keeper.early(600)))
        self.clock.advance(1)
        early = self.keeper.early(600)
        self.assertEqual((self.renewal.asked, self.use()), (["refresh-1"], "access-1"))
        self.answer(2)
        self.assertIsNone(self.successResultOf(early))
        self.assertEqual(self.use(), "access-2")

    def test_not_all_at_the_same_time(self) -> None:
        """Chance takes up to a tenth off."""
        self.keeper = self.keep(self.new_book(jitter=lambda: 0.999))
        self.clock.advance(3050)
        self.keeper.early(600)
        self.assertEqual(self.renewal.asked, [])
        self.clock.advance(12)
        self.keeper.early(600)
        self.assertEqual(self.renewal.asked, ["refresh-1"])

    def test_it_never_fails(self) -> None:
        """What kept it from renewing is returned; so is what a broken file is."""
        self.clock.advance(3500)
        early = self.keeper.early(600)
        self.refuse(failure())
        error = self.successResultOf(early)
        assert error is not None
        self.assertEqual(error.fault, Fault.SERVER)
        self.assertIsNot(self.successResultOf(self.keeper.early(600)), error)
        self.path.unlink()
        self.clock.advance(100)
        error = self.successResultOf(self.keeper.early(600))
        assert error is not None
        self.assertIn("is not there", error.message)
        self.renewal.expires = lambda document: 1 / 0  # type: ignore[method-assign]
        self.write(2)
        self.assertIsNotNone(self.successResultOf(self.keeper.early(600)))

    def test_tokens_that_live_for_a_shorter_time(self) -> None:
        """They are renewed in the middle of their lives, not at every look."""
        self.clock.advance(3600)
        self.keeper.early(1200)
        self.answer(2, lifetime=600)
        self.clock.advance(299)
        self.keeper.early(1200)
        self.assertEqual(len(self.renewal.asked), 1)
        self.clock.advance(1)
        self.keeper.early(1200)
        self.assertEqual(len(self.renewal.asked), 2)

    def test_without_an_expiry(self) -> None:
        """Nothing is soon."""
        self.path.write_text('{"access_token": "a", "refresh_token": "r"}')
        self.assertIsNone(self.successResultOf(self.keeper.early(600)))

    def test_cancelling(self) -> None:
        """Gives up the wait, never the renewal."""
        self.clock.advance(3500)
        early = self.keeper.early(600)
        early.cancel()
        self.failureResultOf(early, CancelledError)
        self.answer(2)
        self.assertEqual(self.on_disk(), "access-2")


class MergeTests(TokensTestCase):
    """`TokenKeeper.merge`."""

    def test_keys_are_written(self) -> None:
        """The next who asks sees them, here and elsewhere."""
        self.successResultOf(self.keeper.merge({"project": "p"}))
        for keeper in (self.keeper, self.keep(self.new_book())):
            document = self.successResultOf(keeper.current())
            self.assertEqual(document, {**self.tokens(1), "project": "p"})

    def test_it_waits_for_a_renewal(self) -> None:
        """Neither loses what the other writes."""
        self.clock.advance(4000)
        waiting, merging = self.keeper.current(), self.keeper.merge({"project": "p"})
        self.assertNoResult(merging)
        self.answer(2)
        self.successResultOf(merging)
        self.successResultOf(waiting)
        self.assertEqual(json.loads(self.path.read_bytes()), {**self.tokens(2), "project": "p"})

    def test_cancelling_leaves_nothing_half_done(self) -> None:
        """The lock is held until the thread that writes is done."""
        threads = HeldThreads()
        keeper = self.keep(self.new_book(in_thread=threads))
        merging = keeper.merge({"project": "p"})
        merging.cancel()
        self.failureResultOf(merging, CancelledError)
        threads.run()
        self.assertTrue((self.folder / "oauth_creds.json.lock").exists())
        threads.run()
        threads.run()
        self.assertFalse((self.folder / "oauth_creds.json.lock").exists())
        self.assertEqual(json.loads(self.path.read_bytes())["project"], "p")

    def test_a_file_that_is_gone(self) -> None:
        """Is not made anew, and the error says how to log in."""
        self.path.unlink()
        self.assertIn(HINT, self.error(self.keeper.merge({"project": "p"})).message)
        self.assertEqual(list(self.folder.iterdir()), [])


class BookTests(TokensTestCase):
    """`TokenBook`."""

    def test_one_keeper_for_a_file(self) -> None:
        """Over reloads, and renewed as the newest settings say."""
        other = ScriptedRenewal()
        source = Source(path=self.folder / ".." / self.folder.name / self.path.name)
        self.assertIs(self.book.keeper(source=source, renewal=other), self.keeper)
        self.clock.advance(4000)
        self.keeper.current()
        self.assertEqual((self.renewal.asked, other.asked), ([], ["refresh-1"]))

    def test_a_source_of_nothing(self) -> None:
        """Is a mistake of whoever asks."""
        self.assertRaises(ValueError, self.book.keeper, source=Source(), renewal=self.renewal)

    def test_a_credential_in_the_configuration(self) -> None:
        """It is renewed in memory only, and kept over reloads."""
        inline = self.tokens(1)
        source = Source(inline=inline)
        keeper = self.book.keeper(source=source, renewal=self.renewal)
        version = keeper.version
        self.assertEqual(self.given(keeper.current()), "access-1")
        self.clock.advance(4000)
        waiting = keeper.current()
        self.answer(2)
        self.assertEqual(self.given(waiting), "access-2")
        self.assertNotEqual(keeper.version, version)
        self.successResultOf(keeper.merge({"project": "p"}))
        again = self.book.keeper(source=Source(inline=dict(inline)), renewal=self.renewal)
        self.assertEqual(self.successResultOf(again.current()), {**self.tokens(2), "project": "p"})
        self.assertEqual(inline["access_token"], "access-1")
        self.assertEqual([each.name for each in self.folder.iterdir()], ["oauth_creds.json"])
        another = Source(inline=self.tokens(9))
        self.assertIsNot(self.book.keeper(source=another, renewal=self.renewal), keeper)

    def test_a_dead_login_in_the_configuration(self) -> None:
        """It is told where it is."""
        source = Source(inline=self.tokens(1))
        self.clock.advance(4000)
        waiting = self.book.keeper(source=source, renewal=self.renewal).current()
        self.refuse()
        self.assertEqual(
            self.error(waiting).message,
            f"The login in the credential in the configuration is no longer accepted. {HINT}",
        )

    def test_closing_waits_for_a_renewal(self) -> None:
        """What is received within five seconds is written; nothing else is renewed."""
        self.clock.advance(4000)
        waiting = self.keeper.current()
        closing = self.book.close()
        self.clock.advance(4.9)
        self.assertNoResult(closing)
        self.answer(2)
        self.successResultOf(closing)
        self.assertEqual((self.given(waiting), self.on_disk()), ("access-2", "access-2"))
        self.clock.advance(4000)
        self.assertEqual(self.error(self.keeper.current()).status, 503)
        self.assertEqual(len(self.renewal.asked), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_closing_does_not_wait_for_ever(self) -> None:
        """The renewal is given up after five seconds, and its lock released."""
        self.clock.advance(4000)
        waiting = self.keeper.current()
        closing = self.book.close()
        self.clock.advance(5)
        self.successResultOf(closing)
        self.assertEqual(self.error(waiting).status, 503)
        self.assertEqual([each.name for each in self.folder.iterdir()], ["oauth_creds.json"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_closing_while_somebody_else_has_the_lock(self) -> None:
        """We do not wait for it any longer, nor take it."""
        lock = self.folder / "oauth_creds.json.lock"
        lock.write_text("held")
        self.clock.advance(4000)
        waiting = self.keeper.current()
        closing = self.book.close()
        self.clock.pump([0.1] * 60)
        self.successResultOf(closing)
        self.assertEqual(self.error(waiting).status, 503)
        self.assertEqual((lock.read_text(), self.clock.getDelayedCalls()), ("held", []))

    def test_closing_with_nothing_under_way(self) -> None:
        """Is done at once; what is good is still given."""
        self.successResultOf(self.book.close())
        self.assertEqual(self.use(), "access-1")

    def test_a_digest_shows_nothing(self) -> None:
        """It stands for tokens in names of files and in memory."""
        self.assertNotIn("access", digest("access-1"))
        self.assertNotEqual(digest("a", "b"), digest("ab", None))
