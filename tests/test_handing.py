"""Hand-over: what two processes say to one another, and what becomes of it if one says no more."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from aiclient2api import handing
from aiclient2api.errors import ConfigurationError
from aiclient2api.handing import NAME, PATIENCE, HandingOver, TakingOver, reachable
from tests.live.measure import until


class Running:
    """A gateway that runs, as far as hand-over is concerned."""

    def __init__(self, listeners: Sequence[tuple[str, int]]) -> None:
        self.listeners = listeners
        self.steps: list[object] = []
        self.before: Sequence[int] = ()
        self.written: Deferred[None] = succeed(None)

    def shared(self) -> Sequence[tuple[str, int]]:
        """Give them."""
        self.steps.append("shared")
        return self.listeners

    def elders(self) -> Sequence[int]:
        """Give none."""
        return self.before

    def hold(self) -> Deferred[Any]:
        """Wait for the test."""
        self.steps.append("hold")
        return self.written

    def resume(self) -> None:
        """Note it."""
        self.steps.append("resume")

    def let_go(self, taken: Sequence[str]) -> None:
        """Note what is left to the other."""
        self.steps.append(("let go", tuple(taken)))

    def hurry(self) -> None:
        """Note it."""
        self.steps.append("hurry")


class HandOverTests(TestCase):
    """`HandingOver` and `TakingOver` on a real socket, the latter in a thread."""

    timeout = 60

    def setUp(self) -> None:
        """Have a process that runs."""
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.socket.close)
        self.clock = Clock()
        self.running, self.old = self.run_one()

    def run_one(self) -> tuple[Running, HandingOver]:
        """Start a process that can be taken over from."""
        running = Running([("tcp:0", self.socket.fileno())])
        old = HandingOver(reactor=reactor, clock=self.clock, directory=self.folder)
        old.start(running)
        self.addCleanup(old.stop)
        return running, old

    def taking(self) -> TakingOver:
        """Return one that takes over."""
        taking = TakingOver(self.folder, patience=20)
        self.addCleanup(taking.close)
        return taking

    def in_thread(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        """Call what blocks."""
        return deferToThread(function, *args)

    async def taken(self, taking: TakingOver) -> list[socket.socket]:
        """Take, and return the sockets."""
        given = await self.in_thread(taking.take)
        self.assertEqual([name for name, _ in given], ["tcp:0"])
        sockets = [socket.socket(fileno=descriptor) for _, descriptor in given]
        for each in sockets:
            self.addCleanup(each.close)
        return sockets

    async def refused(self, function: Callable[..., Any], *args: Any) -> str:
        """Return why it was refused."""
        try:
            await self.in_thread(function, *args)
        except ConfigurationError as error:
            return error.faults[0]
        raise AssertionError("it was not refused")

    def made(self, path: Path) -> Path:
        """Return *path*, made with all that it stands in."""
        path.mkdir(parents=True)
        return path

    async def test_from_the_first_word_to_the_last(self) -> None:
        """The sockets are those of the old one, which lets go at the very end and not before."""
        taking = self.taking()
        (found,) = await self.taken(taking)
        self.assertEqual(found.getsockname(), self.socket.getsockname())
        self.assertFalse(os.get_inheritable(found.fileno()))
        self.running.written = Deferred()
        getting_ready = self.in_thread(taking.ready, ["tcp:0"])
        await until(lambda: "hold" in self.running.steps, what="the hold")
        self.assertNoResult(getting_ready)
        self.running.written.callback(None)
        await getting_ready
        self.assertEqual(self.running.steps, ["shared", "hold"])
        taking.accepting()
        await until(lambda: len(self.running.steps) > 2, what="the last word")
        self.old.stop()
        # Its name is the new one's to replace, who may have done so a moment ago.
        self.assertEqual([path.name for path in self.folder.iterdir()], [NAME])
        taking.stopping()
        await until(lambda: len(self.running.steps) > 3, what="the stop")
        taking.close()
        await until(lambda: self.old.taker is None, what="the end")
        self.assertEqual(self.running.steps, ["shared", "hold", ("let go", ("tcp:0",)), "hurry"])

    async def test_a_stop_is_told_to_all_who_are_left(self) -> None:
        """Also to those that the process did not take over from itself."""
        first = self.taking()
        await self.taken(first)
        await self.in_thread(first.ready, ["tcp:0"])
        first.accepting()
        await until(lambda: len(self.running.steps) > 2, what="the last word")
        self.old.stop()
        between, gone = self.run_one()
        between.before = first.elders()
        self.assertEqual(len(between.before), 1)
        second = self.taking()
        await self.taken(second)
        await self.in_thread(second.ready, ["tcp:0"])
        second.accepting()
        self.assertEqual(len(second.elders()), 2)
        # The one in the middle is over sooner.
        first.close()
        gone.stop()
        await until(lambda: len(second.elders()) == 1, what="its end")
        self.assertNotIn("hurry", self.running.steps)
        second.stopping()
        await until(lambda: "hurry" in self.running.steps, what="the stop")

    async def test_silence_before_that(self) -> None:
        """Whoever goes away with the sockets in hand has taken nothing, and another may."""
        taking = self.taking()
        await self.taken(taking)
        taking.close()
        await until(lambda: self.old.taker is None, what="the end")
        self.assertEqual(self.running.steps, ["shared"])
        again = self.taking()
        await self.taken(again)
        await self.in_thread(again.ready, ["tcp:0"])
        again.close()
        await until(lambda: self.old.taker is None, what="the end")
        self.assertEqual(self.running.steps[1:], ["shared", "hold", "resume"])

    async def test_one_that_hangs(self) -> None:
        """It is given up after a while, for nobody else could take over meanwhile."""
        taking = self.taking()
        await self.taken(taking)
        self.assertIn("already", await self.refused(self.taking().take))
        self.clock.advance(PATIENCE + 1)
        await until(lambda: self.old.taker is None, what="the end")
        await self.taken(self.taking())

    async def test_nobody_there(self) -> None:
        """Then there is nothing to take over, which is no fault."""
        self.old.stop()
        for folder in (self.folder, self.folder / "nowhere"):
            taking = TakingOver(folder)
            self.assertEqual(await self.in_thread(taking.take), [] or ())
            taking.ready([])
            taking.accepting()
            taking.stopping()
            taking.close()
        # One that was killed leaves its socket behind.
        with socket.socket(socket.AF_UNIX) as dead, reachable(self.folder) as short:
            dead.bind(str(short / NAME))
        self.assertEqual(await self.in_thread(self.taking().take), ())

    async def test_it_is_for_nobody_else(self) -> None:
        """The socket is the owner's alone, and whoever is of another user is turned away."""
        found = (self.folder / NAME).lstat()
        self.assertEqual(stat.S_IMODE(found.st_mode), 0o600)
        self.assertTrue(stat.S_ISSOCK(found.st_mode))
        self.patch(handing, "peer", lambda connection: (1, os.geteuid() + 1))
        self.assertIn("another user", await self.refused(self.taking().take))
        # And on the other side one that does not look.
        self.assertEqual(await self.in_thread(self.said, b'{"take": 1}\n'), b"")
        self.assertEqual(self.running.steps, [])

    async def test_what_is_not_understood(self) -> None:
        """Another version, words out of order, or none at all: nothing is given."""
        wrong: list[object] = [{"take": 99}, {"ready": []}, {"accepting": True}, {"x": 1}, [], 7]
        for said in wrong:
            answer = await self.in_thread(self.said, json.dumps(said).encode() + b"\n")
            self.assertIn(b"refused", answer, said)
        self.assertEqual(await self.in_thread(self.said, b"\xff\n"), answer)
        self.assertEqual(await self.in_thread(self.said, b"x" * 100_000), b"")
        self.assertEqual(await self.in_thread(self.said, b'{"stop": true}\n', 0.2), b"")
        self.assertEqual(self.running.steps, [])

    def said(self, line: bytes, seconds: float = 20.0) -> bytes:
        """Say something; return all that is answered."""
        with socket.socket(socket.AF_UNIX) as wire:
            wire.settimeout(seconds)
            with reachable(self.folder) as short:
                wire.connect(str(short / NAME))
            answer = b""
            try:
                wire.sendall(line)
                while piece := wire.recv(4096):
                    answer += piece
            except OSError:
                pass
            return answer

    async def test_the_next_one_is_reached_by_the_same_name(self) -> None:
        """And the end of the one before does not take it away."""
        running, _ = self.run_one()
        self.old.stop()
        await self.taken(self.taking())
        self.assertEqual((running.steps, self.running.steps), (["shared"], []))
        self.assertEqual([path.name for path in self.folder.iterdir()], [NAME])

    async def test_a_folder_with_a_long_name(self) -> None:
        """A socket's name may have but a hundred bytes; a folder's may have more."""
        self.folder = self.made(self.folder / ("n" * 120))
        running, _ = self.run_one()
        await self.taken(self.taking())
        self.assertEqual(running.steps, ["shared"])

    async def test_a_folder_that_cannot_be_used(self) -> None:
        """The gateway runs all the same."""
        nowhere = HandingOver(reactor=reactor, clock=self.clock, directory=self.folder / "no")
        nowhere.start(self.running)
        nowhere.stop()
