"""
How the files are read: also when one of them is not there any more, or there are thousands.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.config import Settings, load
from aiclient2api.config.files import Findings, Sentences, parse_list, parse_object, read_bytes
from aiclient2api.errors import ConfigurationError
from tests.config_fakes import FACTORIES, ConfigTestCase

KEY = {"OPENAI_API_KEY": "sk-a"}


class KeptTextTests(ConfigTestCase):
    """Only the accounts' file is read anew."""

    def again(self, found: Settings, **arguments: Any) -> Settings:
        """Load with the configuration as it was."""
        return load(
            flags=arguments.pop("flags", {}),
            environ={"HOME": str(self.home)},
            cwd=self.cwd,
            factories=FACTORIES,
            system_config=self.cwd / "none.json",
            config_text=found.config_text,
            **arguments,
        )

    def test_what_was_read(self) -> None:
        """The settings have the exact bytes, and no repr shows them."""
        text = b'\xef\xbb\xbf{"port":  4000, "required_api_key": "hush"}'
        found = self.load(text, pools={})
        self.assertEqual(found.config_text, text)
        self.assertEqual(found.pools_path, self.cwd / "provider_pools.json")
        self.assertNotIn("hush", repr(found))
        self.assertNotIn("4000,", repr(found))

    def test_no_files(self) -> None:
        """Where there is no file there is neither path nor text."""
        found = self.load()
        self.assertIsNone(found.config_text)
        self.assertIsNone(found.pools_path)

    def test_the_file_on_disk_is_not_read(self) -> None:
        """A configuration that was spoilt meanwhile changes nothing; new accounts count."""
        found = self.load({"port": 4000})
        self.write("config.json", "{ spoilt")
        self.write("provider_pools.json", {"openai-custom": [KEY]})
        again = self.again(found)
        self.assertEqual(again.listen, found.listen)
        self.assertEqual(again.source, self.cwd / "config.json")
        self.assertEqual(again.config_text, found.config_text)
        self.assertEqual(len(again.providers["openai-custom"].accounts), 1)

    def test_the_file_may_be_gone(self) -> None:
        """A configuration named by hand need not be there any more, nor one that was found."""
        self.write("etc/mine.json", {"provider_pools_file_path": "p.json"})
        self.write("etc/p.json", {"openai-custom": [KEY]})
        flags = {"config": "etc/mine.json"}
        found = self.load(flags=flags)
        (self.cwd / "etc/mine.json").unlink()
        again = self.again(found, flags=flags)
        self.assertEqual(again.source, self.cwd / "etc/mine.json")
        self.assertEqual(again.pools_path, self.cwd / "etc/p.json")
        again = self.again(found, source=found.source)
        self.assertEqual(again.source, self.cwd / "etc/mine.json")
        self.assertEqual(again.pools_path, self.cwd / "etc/p.json")

    def test_faults_name_the_file(self) -> None:
        """What is wrong with the kept text is told as ever."""
        found = self.load({})
        error = self.assertRaises(
            ConfigurationError, self.again, _with(found, b'{"port": "x"}'), source=found.source
        )
        self.assertIn("config.json: port: ", error.faults[0])

    def test_a_named_pools_file(self) -> None:
        """The path of the accounts' file is absolute, and None if it is not there."""
        self.assertIsNone(self.load({"provider_pools_file_path": "p.json"}).pools_path)
        self.write("p.json", {})
        found = self.load({"provider_pools_file_path": "p.json"})
        self.assertEqual(found.pools_path, self.cwd / "p.json")


def _with(settings: Settings, text: bytes) -> Settings:
    return attrs.evolve(settings, config_text=text)


class ReadingTests(SynchronousTestCase):
    """One file."""

    def setUp(self) -> None:
        """Note what is found."""
        self.findings = Findings()
        self.gone = Path(self.mktemp()).absolute() / "p.json"

    def test_gone_between_two_looks(self) -> None:
        """A file that vanishes before it is read is as good as one that was never there."""
        self.assertIsNone(read_bytes(self.gone, self.findings, gone="p.json: is gone"))
        self.assertEqual(list(self.findings.warnings), ["p.json: is gone"])
        self.assertIsNone(read_bytes(self.gone, self.findings, gone=""))
        self.assertEqual(len(self.findings.warnings), 1)
        self.assertEqual(len(self.findings.faults), 0)

    def test_gone_where_it_must_be(self) -> None:
        """Where nothing is said of that, it is a fault."""
        self.assertIsNone(read_bytes(self.gone, self.findings))
        self.assertIn("p.json: cannot be read", "".join(self.findings.faults))

    def test_a_folder(self) -> None:
        """What is there and cannot be read is a fault in any case."""
        self.gone.mkdir(parents=True)
        self.assertIsNone(read_bytes(self.gone, self.findings, gone="x"))
        self.assertIn("p.json: cannot be read", "".join(self.findings.faults))

    def test_objects_and_lists(self) -> None:
        """Each is refused where the other is wanted, and an empty one is no fault."""
        path = Path("f.json")
        self.assertEqual(parse_object(path, b"{}", self.findings), {})
        self.assertEqual(parse_list(path, b"[]", self.findings), [])
        self.assertEqual(len(self.findings.faults), 0)
        self.assertIsNone(parse_object(path, b"[]", self.findings))
        self.assertIsNone(parse_list(path, b"{}", self.findings))
        self.assertEqual(len(self.findings.faults), 2)


class SentenceTests(SynchronousTestCase):
    """What is told when there is much to tell."""

    def test_each_once_and_in_order(self) -> None:
        """A sentence is told once, however often it is noted."""
        told = Sentences()
        for sentence in ("b", "a", "b"):
            told.add(sentence)
        self.assertEqual((list(told), len(told)), (["b", "a"], 2))

    def test_many_of_one_sort(self) -> None:
        """Of thousands that differ by their place only, twenty are told, and how many more."""
        told = Sentences()
        told.add("first")
        for at in range(3000):
            told.add(f"p.json: x[{at}].y: is odd")
        told.add("last")
        found = list(told)
        self.assertEqual(len(found), 22)
        self.assertEqual((found[0], found[-1]), ("first", "last"))
        self.assertEqual(found[1], "p.json: x[0].y: is odd")
        self.assertEqual(found[20], "p.json: x[19].y: is odd (and 2980 more like it)")
        self.assertEqual(len(told), 3002)

    def test_sorts(self) -> None:
        """Sentences that differ in more may be said to be of one sort; twenty are no crowd."""
        told = Sentences()
        for at in range(20):
            told.add(f"there is no file {at}", "no file")
            told.add(f"other file {at}")
        self.assertEqual(len(list(told)), 40)
        self.assertNotIn("more like it", "".join(told))
        told.add("there is no file 20", "no file")
        self.assertIn("there is no file 19 (and 1 more like it)", list(told))
        self.assertEqual(len(list(told)), 40)


class ThousandsTests(ConfigTestCase):
    """A pool of three thousand accounts."""

    def test_each_costs_the_same(self) -> None:
        """What is done for an account does not grow with the pool."""
        few, more, many = (self._calls(count) for count in (20, 120, 1120))
        each = (more - few) / 100
        self.assertLess(abs((many - more) / 1000 - each), each / 10)

    def _calls(self, count: int) -> int:
        """Return how many functions are called to load so many accounts."""
        entries = [
            {
                "uuid": f"u{at}",
                "OPENAI_API_KEY": f"sk-{at:040}",
                "OPENAI_BASE_URL": "https://api.openai.com/v1",
                "customName": f"n{at}",
                "isHealthy": True,
                "lastUsed": None,
                "supportedModels": ["a", "b"],
                "concurrencyLimit": 3,
            }
            for at in range(count)
        ]
        self.write("provider_pools.json", {"openai-custom": entries})
        calls = 0

        def seen(frame: object, event: str, argument: object) -> None:
            nonlocal calls
            calls += event in ("call", "c_call")

        before = sys.getprofile()
        sys.setprofile(seen)
        try:
            found = self.load()
        finally:
            sys.setprofile(before)
        self.assertEqual(len(found.providers["openai-custom"].accounts), count)
        self.assertEqual(found.warnings, ())
        return calls

    def test_what_is_odd_with_all_of_them(self) -> None:
        """A slip in every account, its file missing, its key a placeholder: a few lines each."""
        entries = [
            {"uuid": f"u{at}", "OPENAI_API_KEY": f"sk-{at}...", "OPENAI_KYE": "x"}
            for at in range(3000)
        ]
        files = [{"SAMPLE_CREDS_FILE_PATH": f"c{at}.json"} for at in range(3000)]
        found = self.load(pools={"openai-custom": entries, "sample-oauth": files})
        self.assertWarned(found, "openai-custom[19].OPENAI_API_KEY", "(and 2980 more like it)")
        self.assertWarned(found, 'openai-custom[19]."OPENAI_KYE"', "(and 2980 more like it)")
        self.assertWarned(found, "sample-oauth[19].", "c19.json", "(and 2980 more like it)")
        self.assertLess(len(found.warnings), 70)

    def test_faults_of_all_of_them(self) -> None:
        """So are faults."""
        entries = [{"OPENAI_API_KEY": f"sk-{at}", "weight": 0} for at in range(50)]
        found = self.faults(pools={"openai-custom": entries})
        self.assertEqual(len(found), 20)
        self.assertIn("(and 30 more like it)", found[-1])
