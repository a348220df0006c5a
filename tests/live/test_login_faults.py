"""
Logins in trouble, over sockets: wrong clocks, refusals, other people's logins, and no client knows.

A gateway of its own stands before a fake vendor for each provider and each way to be
answered, whole and streamed. That a token endpoint is asked no more often than is needed is
part of every promise. Nothing here knows how tokens are kept.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from aiclient2api import renewals
from aiclient2api.accounts.account import PACES, Pace
from aiclient2api.accounts.account import Kind as Event
from aiclient2api.oauth import keeper
from aiclient2api.providers import _gemini_cli_login, openai_qwen_oauth
from aiclient2api.providers._qwen_token import QwenRenewal
from tests.live.login_cells import (
    BROKEN,
    DEAD,
    HOUR,
    KINDS,
    PATIENCE,
    RESET,
    SILENT,
    Cell,
    Hasty,
    Vendor,
    eventually,
    milliseconds,
)
from tests.live.measure import pause, until

Case = Callable[[Cell], Coroutine[Deferred[Any], Any, None]]


class FaultsTestCase(TestCase):
    """A gateway for each provider, whole and streamed, all at a time."""

    timeout = 120

    def setUp(self) -> None:
        """Let what takes seconds in earnest take less."""
        self.patch(keeper, "_FIRST_PAUSE", 0.05)
        self.patch(keeper, "_LONGEST_PAUSE", 0.1)
        self.vendors: list[Vendor] = []
        for module in (openai_qwen_oauth, _gemini_cli_login):
            self.patch(module, "Asker", partial(Hasty, self.vendors))

    async def everywhere(
        self,
        case: Case,
        *,
        left: Sequence[float] = (HOUR,),
        config: Mapping[str, object] | None = None,
    ) -> None:
        """Play *case* in all cells."""

        async def play(cell: Cell) -> None:
            await cell.start(left, config or {})
            await case(cell)

        cells = [Cell(self, kind, streamed=way) for kind in KINDS for way in (False, True)]
        self.vendors += [cell.vendor for cell in cells]
        # All of them to their ends, so that none goes on in the next test.
        playing = [Deferred.fromCoroutine(play(cell)) for cell in cells]
        for _, outcome in await DeferredList(playing, consumeErrors=True):
            if isinstance(outcome, Failure):
                outcome.raiseException()


class SkewTests(FaultsTestCase):
    """Two clocks that do not agree, or one that talks nonsense."""

    async def test_expired_on_the_upstreams_clock(self) -> None:
        """A token that should be good for an hour is refused: renewed once, and served."""

        async def case(cell: Cell) -> None:
            cell.spoil(cell.first[0])
            token = await cell.served()
            self.assertEqual(token, await cell.served())
            self.assertEqual(token, cell.kept()["access_token"])
            self.assertEqual([cell.first[0]["refresh_token"]], cell.vendor.used)

        await self.everywhere(case)

    async def test_expired_on_ours(self) -> None:
        """A token that should have expired long ago is renewed once, before it is used."""

        async def case(cell: Cell) -> None:
            for _ in range(3):
                self.assertEqual(await cell.served(), cell.kept()["access_token"])
            self.assertEqual((1, 0), (len(cell.vendor.used), cell.vendor.refused))

        await self.everywhere(case, left=(-HOUR,))

    async def test_nonsense_about_the_lifetime(self) -> None:
        """Tokens that last for no time, less than that, or for ever: no endless renewing."""
        # Nor is that for want of time: what is told is not believed.
        self.patch(keeper, "LEAST", 0.0)
        self.patch(renewals, "EACH", 0.05)

        async def case(cell: Cell) -> None:
            for count, lasts in enumerate((0, -3600, 1e308, 10**400, None)):
                cell.vendor.told = {"expires_in": lasts}
                cell.spoil(cell.kept())
                for _ in range(3):
                    await cell.served()
                await pause(0.15)
                self.assertEqual(count + 1, len(cell.vendor.used), f"{cell.kind.name}: {lasts!r}")

        await self.everywhere(case, config={"cron_refresh_token": True, "cron_near_minutes": 1})

    async def test_nonsense_about_the_expiry(self) -> None:
        """The same in a file that somebody else wrote: at most it is renewed."""

        async def case(cell: Cell) -> None:
            for told in (0, -1, -1e300, 1e300):
                cell.put({**cell.login(), "expiry_date": told})
                used = len(cell.vendor.used)
                for _ in range(2):
                    await cell.served()
                self.assertLessEqual(len(cell.vendor.used) - used, 1, f"{cell.kind.name}: {told}")

        await self.everywhere(case)


class StreamTests(FaultsTestCase):
    """Tokens that expire while they are in use."""

    async def test_the_answer_goes_on(self) -> None:
        """What has begun is finished; the next request has the token renewed."""

        async def case(cell: Cell) -> None:
            cell.vendor.holds = "answers"
            asking = Deferred.fromCoroutine(cell.ask())
            await until(lambda: cell.vendor.asked, PATIENCE, "a request")
            cell.spoil(cell.first[0])
            await pause(0.05)
            cell.vendor.release()
            cell.check(await asking)
            self.assertEqual((0, 0), (len(cell.vendor.used), cell.vendor.refused))
            await cell.served()
            self.assertEqual(1, len(cell.vendor.used))

        await self.everywhere(case)

    async def test_by_our_own_clock(self) -> None:
        """That the token ran out meanwhile is known, and the upstream is not asked in vain."""

        async def case(cell: Cell) -> None:
            margin = {"openai-qwen-oauth": 30.0, "gemini-cli-oauth": 300.0}[cell.kind.name]
            cell.put(cell.login(margin + 1.0))
            cell.vendor.holds = "answers"
            asking = Deferred.fromCoroutine(cell.ask())
            await until(lambda: cell.vendor.asked, PATIENCE, "a request")
            await pause(1.1)
            cell.vendor.release()
            cell.check(await asking)
            await cell.served()
            self.assertEqual((1, 0), (len(cell.vendor.used), cell.vendor.refused))

        await self.everywhere(case)


class PassingTests(FaultsTestCase):
    """A token endpoint that fails five times."""

    async def test_another_account_serves(self) -> None:
        """Nobody is told; the first account rests, and is back once its token is renewed."""
        paces: Any = PACES
        rests = PACES[Event.UPSTREAM_FAULT]
        self.addCleanup(paces.update, {Event.UPSTREAM_FAULT: rests})
        paces.update({Event.UPSTREAM_FAULT: Pace(first=0.1, longest=0.2, hinted=1.0)})

        async def case(cell: Cell) -> None:
            refresh = cell.first[0]["refresh_token"]
            cell.put({**cell.first[0], "expiry_date": milliseconds(-HOUR)})
            cell.spoil(cell.first[0])
            cell.vendor.troubles[refresh].extend((BROKEN, RESET, SILENT, BROKEN, RESET))

            async def renewed() -> bool:
                await cell.served()
                return cell.vendor.renewed > 0

            await eventually(renewed, "renewed after five failures")
            self.assertEqual([refresh] * 6, cell.vendor.used)
            tokens = {await cell.served() for _ in range(4)}
            self.assertEqual({cell.kept(n)["access_token"] for n in (0, 1)}, tokens)

        await self.everywhere(case, left=(HOUR, HOUR))

    async def test_a_token_that_is_still_good_serves(self) -> None:
        """With one account only, nobody waits for a renewal that may as well come later."""
        # Its own half a minute would be over too soon on a busy machine.
        self.patch(openai_qwen_oauth, "QwenRenewal", partial(QwenRenewal, margin=300.0))

        async def case(cell: Cell) -> None:
            refresh, old = cell.first[0]["refresh_token"], cell.first[0]["access_token"]
            cell.vendor.troubles[refresh].extend((BROKEN, RESET, SILENT, BROKEN, RESET))
            tokens: list[str] = []

            async def renewed() -> bool:
                tokens.append(await cell.served())
                return cell.vendor.renewed > 0

            await eventually(renewed, "renewed after five failures")
            self.assertEqual({old}, set(tokens[:-1]))
            self.assertEqual(cell.kept()["access_token"], tokens[-1])
            self.assertEqual(([refresh] * 6, 0), (cell.vendor.used, cell.vendor.refused))

        await self.everywhere(case, left=(200.0,))

    async def test_a_request_lasts_through_it(self) -> None:
        """With one account whose token has expired, retries serve the very first request."""

        async def case(cell: Cell) -> None:
            refresh = cell.first[0]["refresh_token"]
            cell.spoil(cell.first[0])
            cell.vendor.troubles[refresh].extend((BROKEN, RESET, BROKEN, RESET, BROKEN))
            self.assertEqual(await cell.served(), cell.kept()["access_token"])
            self.assertEqual([refresh] * 6, cell.vendor.used)

        await self.everywhere(case, left=(-HOUR,), config={"request_max_retries": 8})

    async def test_clients_that_come_again(self) -> None:
        """Without retries of ours an error says to come again, and who does so is served."""

        async def case(cell: Cell) -> None:
            refresh = cell.first[0]["refresh_token"]
            cell.spoil(cell.first[0])
            cell.vendor.troubles[refresh].extend((BROKEN, RESET, BROKEN, RESET, BROKEN))

            async def served() -> bool:
                reply = await cell.ask()
                if reply.status != 200:
                    self.assertIn(reply.status, (502, 503), reply.body)
                    self.assertEqual(0, cell.vendor.renewed)
                    return False
                cell.check(reply)
                return True

            await eventually(served, "served after five failures")
            self.assertEqual([refresh] * 6, cell.vendor.used)
            await cell.served()
            self.assertEqual("ready", (await cell.account())["state"])

        config = {"request_max_retries": 0, "max_error_count": 0}
        await self.everywhere(case, left=(-HOUR,), config=config)


class ReplacedTests(FaultsTestCase):
    """Somebody else logs in to the same file."""

    async def test_under_load(self) -> None:
        """By a rename or half by half: requests go on, the new login is used at once."""

        async def case(cell: Cell) -> None:
            going = True

            async def client() -> None:
                while going:
                    await cell.served()

            clients = [Deferred.fromCoroutine(client()) for _ in range(3)]
            await until(lambda: len(cell.vendor.asked) > 5, PATIENCE, "requests")
            second = cell.put(cell.login())
            self.assertEqual(second["access_token"], await cell.served())
            third = cell.login()
            text = json.dumps(third, indent=2)
            with cell.files[0].open("w") as file:
                file.write(text[:100])
                file.flush()
                asked = len(cell.vendor.asked)
                await until(lambda: len(cell.vendor.asked) > asked + 5, PATIENCE, "requests")
                file.write(text[100:])
            self.assertEqual(third["access_token"], await cell.served())
            cell.spoil(third)
            token = await cell.served()
            going = False
            await gatherResults(clients)
            self.assertEqual([third["refresh_token"]], cell.vendor.used)
            self.assertEqual(cell.kept()["access_token"], token)

        await self.everywhere(case)

    async def test_while_a_renewal_runs(self) -> None:
        """What it brings is for the old login: the new one is used, and stays in the file."""

        async def case(cell: Cell) -> None:
            cell.spoil(cell.first[0])
            cell.vendor.holds = "renewals"
            asking = Deferred.fromCoroutine(cell.ask())
            await until(lambda: cell.vendor.used, PATIENCE, "a renewal")
            second = cell.put(cell.login(), in_place=cell.streamed)
            cell.vendor.release()
            cell.check(await asking)
            self.assertEqual(second["access_token"], await cell.served())
            self.assertEqual(second, cell.kept())
            self.assertEqual([cell.first[0]["refresh_token"]], cell.vendor.used)

        await self.everywhere(case)


class DeadTests(FaultsTestCase):
    """A login that is accepted no longer."""

    async def test_others_serve_until_somebody_logs_in(self) -> None:
        """The account rests and says what to do; a login brings it back, and no reset."""

        async def case(cell: Cell) -> None:
            file, refresh = cell.files[0], cell.first[0]["refresh_token"]
            cell.spoil(cell.first[0])
            cell.vendor.troubles[refresh].extend([DEAD] * 9)
            before = file.read_bytes(), os.stat(file)
            for _ in range(4):
                await cell.served()
            told = await cell.account()
            self.assertEqual("rejected", told["state"], told)
            self.assertIn(f"aiclient2api login {cell.kind.name}", told["message"])
            self.assertNotIn(refresh, json.dumps(told))
            self.assertEqual([refresh], cell.vendor.used)
            self.assertEqual(before[0], file.read_bytes())
            self.assertEqual(before[1].st_ino, os.stat(file).st_ino)
            self.assertEqual(before[1].st_mtime_ns, os.stat(file).st_mtime_ns)
            token = cell.put(cell.login(), in_place=cell.streamed)["access_token"]

            async def back() -> bool:
                return bool((await cell.account())["state"] == "ready")

            await eventually(back, "back after a login")
            self.assertIn(token, [await cell.served() for _ in range(3)])
            self.assertEqual([refresh], cell.vendor.used)

        await self.everywhere(case, left=(HOUR, HOUR))

    async def test_the_only_one(self) -> None:
        """Clients are told what the operator has to do, and are served after a login."""
        self.patch(renewals, "WATCH", 0.1)

        async def case(cell: Cell) -> None:
            refresh = cell.first[0]["refresh_token"]
            cell.vendor.troubles[refresh].extend([DEAD] * 9)
            reply = await cell.ask()
            self.assertIn(reply.status, (401, 503), reply.body)
            self.assertIn(f"aiclient2api login {cell.kind.name}".encode(), reply.body)
            self.assertNotIn(refresh.encode(), reply.body)
            token = cell.put(cell.login(), in_place=cell.streamed)["access_token"]

            async def back() -> bool:
                return bool((await cell.account())["state"] == "ready")

            await eventually(back, "back after a login")
            self.assertEqual(token, await cell.served())
            self.assertEqual([refresh], cell.vendor.used)

        await self.everywhere(case, left=(-HOUR,))


class CrowdTests(FaultsTestCase):
    """Many clients, and one that leaves."""

    async def test_one_renewal_for_all(self) -> None:
        """Twenty at a time: a token that has expired, then one that is refused to them all."""

        async def case(cell: Cell) -> None:
            for count in (1, 2):
                cell.vendor.holds = "renewals"
                asking = [Deferred.fromCoroutine(cell.ask()) for _ in range(20)]
                await until(lambda: cell.gateway.connections == 20, PATIENCE, "20 clients")
                await until(lambda: len(cell.vendor.used) == count, PATIENCE, "a renewal")  # noqa: B023
                await pause(0.05)
                cell.vendor.release()
                for reply in await gatherResults(asking):
                    cell.check(reply)
                self.assertEqual(count, len(cell.vendor.used))
                await until(lambda: cell.gateway.connections == 0, PATIENCE, "no client")
                cell.spoil(cell.kept())

        await self.everywhere(case, left=(-HOUR,))

    async def test_a_client_that_leaves(self) -> None:
        """The renewal that its request began goes on, and the next one needs none."""

        async def case(cell: Cell) -> None:
            cell.vendor.holds = "renewals"
            wire = await cell.gateway.connect()
            target = cell.kind.targets[cell.streamed]
            asking = wire.request("POST", target, cell.gateway.bearer, cell.prompt())
            asking.addErrback(lambda _: None)
            await until(lambda: cell.vendor.used, PATIENCE, "a renewal")
            wire.abort()
            await until(lambda: cell.gateway.connections == 0, PATIENCE, "no client")
            await pause(0.05)
            cell.vendor.release()
            await until(lambda: cell.kept() != cell.first[0], PATIENCE, "a renewed file")
            self.assertEqual(cell.kept()["access_token"], await cell.served())
            self.assertEqual(1, len(cell.vendor.used))

        await self.everywhere(case, left=(-HOUR,))


class TimerTests(FaultsTestCase):
    """Renewals without any request."""

    def setUp(self) -> None:
        """Look often."""
        super().setUp()
        self.patch(renewals, "EACH", 0.1)

    async def test_ahead_of_expiry(self) -> None:
        """What expires within a quarter of an hour is renewed, once; nothing else is."""

        async def case(cell: Cell) -> None:
            await until(lambda: cell.kept() != cell.first[0], PATIENCE, "a renewed file")
            await pause(0.5)
            self.assertEqual([cell.first[0]["refresh_token"]], cell.vendor.used)
            self.assertEqual([], cell.vendor.asked)
            tokens = {await cell.served() for _ in range(4)}
            self.assertEqual({cell.kept()["access_token"], cell.first[1]["access_token"]}, tokens)
            self.assertEqual((1, 0), (len(cell.vendor.used), cell.vendor.refused))

        await self.everywhere(case, left=(600.0, 2 * HOUR), config={"cron_refresh_token": True})

    async def test_after_five_failures(self) -> None:
        """The timer does not give up, and no request was needed."""

        async def case(cell: Cell) -> None:
            fresh = cell.login(600.0)
            refresh = fresh["refresh_token"]
            cell.vendor.troubles[refresh].extend((BROKEN, RESET, BROKEN, RESET, BROKEN))
            cell.put(fresh)
            await until(lambda: cell.vendor.renewed, PATIENCE, "a renewal")
            await until(lambda: cell.kept() != fresh, PATIENCE, "a renewed file")
            self.assertEqual([refresh] * 6, cell.vendor.used)
            self.assertEqual(cell.kept()["access_token"], await cell.served())

        await self.everywhere(case, config={"cron_refresh_token": True})
