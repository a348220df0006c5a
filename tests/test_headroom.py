"""Memory and files: what the machine allows, what the process takes, and what follows."""

from __future__ import annotations

import resource
from pathlib import Path

from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api import footprint
from aiclient2api.config.settings import Limits
from aiclient2api.headroom import SPARE_FILES, Headroom
from aiclient2api.watermark import CROWD, SECONDS, SETTLED, Watermark
from aiclient2api.web.load import Load, Place

MIB = 1 << 20


class FootprintTests(SynchronousTestCase):
    """What /proc and /sys tell."""

    def machine(self, **files: str) -> Path:
        """Return a root with these files; ``__`` stands for a slash."""
        root = Path(self.mktemp())
        for name, text in files.items():
            path = root / name.replace("__", "/").replace("DOT", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return root

    def test_what_this_process_has(self) -> None:
        """More than nothing, less than everything."""
        self.assertGreater(footprint.resident(), 10 * MIB)
        self.assertLess(footprint.resident(), 1 << 40)

    def test_half_of_a_machine(self) -> None:
        """Where no group is limited."""
        root = self.machine(proc__meminfo="MemFree: 1 kB\nMemTotal:        4096 kB\n")
        self.assertEqual(footprint.memory_allowed(root), 2 * MIB)

    def test_most_of_a_control_group(self) -> None:
        """The kernel kills at its limit; that of a group around it counts as well."""
        root = self.machine(
            proc__meminfo="MemTotal: 1048576 kB\n",
            proc__self__cgroup="0::/system.slice/a.service\n",
            sys__fs__cgroup__memoryDOTmax="max\n",
            sys__fs__cgroup__systemDOTslice__memoryDOTmax=f"{100 * MIB}\n",
            sys__fs__cgroup__systemDOTslice__aDOTservice__memoryDOTmax=f"{200 * MIB}\n",
        )
        self.assertEqual(footprint.memory_allowed(root), 80 * MIB)

    def test_in_a_container(self) -> None:
        """There the path may be the host's, and what is mounted is our own group."""
        root = self.machine(
            proc__meminfo="MemTotal: 1048576 kB\n",
            proc__self__cgroup="0::/../../kubepods/x\n",
            sys__fs__cgroup__memoryDOTmax=f"{50 * MIB}",
        )
        self.assertEqual(footprint.memory_allowed(root), 40 * MIB)

    def test_the_older_control_groups(self) -> None:
        """Their files have other names, and a number for no limit."""
        root = self.machine(
            proc__meminfo="MemTotal: 1048576 kB\n",
            proc__self__cgroup="5:cpu,cpuacct:/a\n4:memory:/a\n",
            sys__fs__cgroup__memory__memoryDOTlimit_in_bytes="9223372036854771712\n",
            sys__fs__cgroup__memory__a__memoryDOTlimit_in_bytes=f"{10 * MIB}\n",
        )
        self.assertEqual(footprint.memory_allowed(root), 8 * MIB)

    def test_where_nobody_tells(self) -> None:
        """There is no limit that we know."""
        self.assertEqual(footprint.memory_allowed(self.machine(x="")), 0)

    def test_files(self) -> None:
        """As many as the hard limit allows, and no more than anybody wants."""
        set_to: list[tuple[int, int]] = []
        self.patch(resource, "setrlimit", lambda _, limits: set_to.append(limits))
        infinite = resource.RLIM_INFINITY
        for now, files, then in (
            ((1024, 4096), 4096, [(4096, 4096)]),
            ((1024, infinite), 65536, [(65536, infinite)]),
            ((1024, 1048576), 65536, [(65536, 1048576)]),
            ((100000, 1048576), 100000, []),
            ((1024, 1024), 1024, []),
            ((infinite, infinite), 65536, []),
        ):
            set_to.clear()
            self.patch(resource, "getrlimit", lambda _, now=now: now)
            self.assertEqual((footprint.raise_file_limit(), set_to), (files, then), now)

    def test_giving_back(self) -> None:
        """It can always be tried."""
        footprint.collect()


class WatermarkTests(SynchronousTestCase):
    """Memory goes up and down."""

    def setUp(self) -> None:
        """Have a mark of 100 MiB, and memory as the test says."""
        self.clock, self.load = Clock(), Load()
        self.high = 100 * MIB
        self.resident = 50 * MIB
        self.done: list[str] = []
        self.watermark = Watermark(
            clock=self.clock,
            load=self.load,
            high=lambda: self.high,
            resident=lambda: self.resident,
            relieve=self.relieve,
            collect=lambda: self.done.append("collect"),
        )
        self.watermark.start()
        self.addCleanup(self.watermark.stop)

    def relieve(self) -> int:
        """Close three connections."""
        self.done.append("relieve")
        return 3

    def at(self, mib: int) -> list[str]:
        """Let memory be at so many MiB at the next look; return what was logged."""
        self.resident = mib * MIB
        with capturedLogs() as captured:
            self.clock.advance(SECONDS)
        return [formatEvent(event) for event in captured]

    def test_nothing_happens_below(self) -> None:
        """Nor at the mark itself; nothing is logged."""
        self.assertEqual([*self.at(99), *self.at(100)], [])
        self.assertEqual((self.load.shedding, self.done), (False, []))

    def test_above_and_below(self) -> None:
        """Said once each; between the two marks it stays as it is."""
        place = self.load.take("a", 0)
        assert isinstance(place, Place)
        (line,) = self.at(101)
        self.assertIn("limits.memory_bytes (100 MiB)", line)
        self.assertIn("1 requests under way", line)
        self.assertIn("3 idle connections", line)
        self.assertTrue(self.load.shedding)
        self.assertEqual(self.done, ["relieve", "collect"])
        self.assertEqual([*self.at(101), *self.at(95), *self.at(90)], [])
        self.assertTrue(self.load.shedding)
        (line,) = self.at(89)
        self.assertIn("taken again", line)
        self.assertFalse(self.load.shedding)
        self.assertEqual(self.at(95), [])

    def test_memory_is_given_back_while_it_is_short(self) -> None:
        """Or what ended meanwhile would never be seen to be free."""
        self.at(101)
        self.done.clear()
        self.at(101)
        self.assertEqual(self.done, ["collect"])

    def test_memory_is_given_back_behind_a_crowd(self) -> None:
        """Once, when most of it has gone; a few requests are no crowd."""
        for count, given in ((CROWD - 1, []), (CROWD, ["collect"]), (200, ["collect"])):
            self.done.clear()
            places = [self.load.take("a", 0) for _ in range(count)]
            self.at(60)
            for number, place in enumerate(places):
                assert isinstance(place, Place)
                place.leave()
                if number == count // 2:
                    self.at(60)
                    self.assertEqual(self.done, [])
            self.at(60)
            self.assertEqual(self.done, [])
            for _ in range(2 * SETTLED):
                self.at(60)
            self.assertEqual(self.done, given, count)

    def test_off(self) -> None:
        """Also while it holds: a reload lets everybody in again."""
        self.at(101)
        self.high = 0
        self.at(101)
        self.assertFalse(self.load.shedding)
        self.assertEqual(self.at(10**6), [])
        self.assertFalse(self.load.shedding)

    def test_stopped(self) -> None:
        """Nothing is looked at any more."""
        self.watermark.stop()
        self.watermark.stop()
        self.at(101)
        self.assertFalse(self.load.shedding)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class HeadroomTests(SynchronousTestCase):
    """What is configured, within what the machine allows."""

    def headroom(self, limits: Limits, *, files: int, share: int = 0) -> tuple[Headroom, list[str]]:
        """Start with these; return what was logged as well."""
        self.patch(footprint, "raise_file_limit", lambda: files)
        self.patch(footprint, "memory_allowed", lambda: share)
        made = Headroom(clock=Clock(), load=Load(), limits=lambda: limits, relieve=lambda: 0)
        self.assertEqual(made.connections(), limits.connections)
        with capturedLogs() as captured:
            made.start()
        self.addCleanup(made.stop)
        return made, [formatEvent(event) for event in captured]

    def test_files_for_all(self) -> None:
        """Then it is what was configured, and nothing to tell."""
        made, logged = self.headroom(Limits(connections=500, in_flight=100), files=1024)
        self.assertEqual((made.connections(), logged), (500, []))

    def test_files_for_some(self) -> None:
        """An upstream must be reached for each that is let in; the operator is told."""
        made, (line,) = self.headroom(Limits(connections=4096, in_flight=500), files=1024)
        self.assertEqual(made.connections(), 1024 - 500 - SPARE_FILES)
        self.assertIn("LimitNOFILE", line)

    def test_files_for_few(self) -> None:
        """Some are let in whatever in_flight says."""
        made, _ = self.headroom(Limits(connections=4096, in_flight=5000), files=1024)
        self.assertEqual(made.connections(), 256)

    def test_no_limit(self) -> None:
        """Files are one all the same; there is nothing to tell."""
        made, logged = self.headroom(Limits(connections=0, in_flight=100), files=1024)
        self.assertEqual((made.connections(), logged), (1024 - 100 - SPARE_FILES, []))

    def test_memory(self) -> None:
        """A share of what there is, unless the configuration says how much, or 0."""
        for marked, high in ((None, 7), (5, 5), (0, 0)):
            made, _ = self.headroom(Limits(memory_bytes=marked), files=65536, share=7)
            self.assertEqual(made.memory(), high)
