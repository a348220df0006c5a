"""The accounts' file: one account is added, changed or taken out, and nothing else."""

from __future__ import annotations

import fcntl
import json
import os
import stat
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from aiclient2api.config import pools_file
from aiclient2api.config.pools_file import (
    Edited,
    add_account,
    change_account,
    disable_account,
    enable_account,
    remove_account,
)
from aiclient2api.errors import ConfigurationError, InvalidRequest

SEED = """\
{
  "_comment": "my accounts",
  "gemini-cli-oauth": [
    {
      "uuid": "uuid-1",
      "GEMINI_OAUTH_CREDS_FILE_PATH": "./creds1.json",
      "isHealthy": true,
      "errorCount": 0
    },
    {
      "uuid": "uuid-2",
      "GEMINI_OAUTH_CREDS_FILE_PATH": "./creds2.json",
      "isHealthy": true,
      "errorCount": 0
    }
  ],
  "openai-custom": [
    {
      "uuid": "uuid-3",
      "OPENAI_API_KEY": "sk-...",
      "isHealthy": true,
      "errorCount": 0
    }
  ]
}
"""
"""As users have it."""


class PoolsFileTestCase(SynchronousTestCase):
    """A folder with an accounts' file in it."""

    def setUp(self) -> None:
        """Have an empty folder."""
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)
        self.path = self.folder / "provider_pools.json"

    def write(self, text: str | bytes, mode: int = 0o600) -> None:
        """Write the file."""
        self.path.write_bytes(text.encode() if isinstance(text, str) else text)
        self.path.chmod(mode)

    def read(self) -> str:
        """Return what the file holds now."""
        return self.path.read_bytes().decode()

    def mode(self) -> int:
        """Return the file's permissions."""
        return stat.S_IMODE(self.path.stat().st_mode)

    def add(self, provider: str, entry: Mapping[str, Any], **options: Any) -> Edited:
        """Add an account; its uuid is ``new``."""
        return add_account(self.path, provider, entry, new_id=lambda: "new", **options)

    def assertFault(self, call: Callable[[], object], *parts: str) -> None:
        """Check that *call* is refused with these words, and that the file stays."""
        before = self.path.read_bytes() if self.path.is_file() else None
        error = self.assertRaises((ConfigurationError, InvalidRequest), call)
        for part in parts:
            self.assertIn(part, str(error))
        self.assertEqual(self.path.read_bytes() if self.path.is_file() else None, before)
        self.assertEqual([n for n in os.listdir(self.folder) if n.startswith(".")], [])


class AddTests(PoolsFileTestCase):
    """`add_account`."""

    def test_it_is_set_as_its_neighbours_are(self) -> None:
        """Last of its provider, with the file's indentation; all else stays."""
        self.write(SEED)
        done = self.add("gemini-cli-oauth", {"GEMINI_OAUTH_CREDS_FILE_PATH": "./creds3.json"})
        old, new = SEED.splitlines(), self.read().splitlines()
        self.assertEqual(
            new,
            [
                *old[:14],
                "    },",
                "    {",
                '      "uuid": "new",',
                '      "GEMINI_OAUTH_CREDS_FILE_PATH": "./creds3.json"',
                *old[14:],
            ],
        )
        self.assertEqual((done.account.index, done.account.id, done.written), (2, "new", True))

    def test_a_provider_that_is_new(self) -> None:
        """It goes to the end, set as the others are."""
        self.write(SEED)
        self.add("claude-custom", {"CLAUDE_API_KEY": "k"})
        self.assertEqual(
            self.read(),
            SEED[: -len("\n}\n")]
            + ',\n  "claude-custom": [\n    {\n      "uuid": "new",\n'
            + '      "CLAUDE_API_KEY": "k"\n    }\n  ]\n}\n',
        )

    def test_a_file_that_is_new(self) -> None:
        """It is made, for its owner only, whatever the umask."""
        old = os.umask(0)
        self.addCleanup(os.umask, old)
        self.add("openai-custom", {"OPENAI_API_KEY": "k", "supportedModels": ["a", "b"]})
        self.assertEqual(self.mode(), 0o600)
        self.assertEqual(
            self.read(),
            '{\n  "openai-custom": [\n    {\n      "uuid": "new",\n      "OPENAI_API_KEY": "k",\n'
            '      "supportedModels": ["a", "b"]\n    }\n  ]\n}\n',
        )

    def test_other_layouts(self) -> None:
        """Tabs, CRLF, one line, no spaces at all: each is gone on with."""
        for before, after in (
            ('{\n\t"p": []\n}', '{\n\t"p": [\n\t\t{\n\t\t\t"uuid": "new"\n\t\t}\n\t]\n}'),
            (
                '{\r\n    "p": null\r\n}',
                '{\r\n    "p": [\r\n        {\r\n            "uuid": "new"\r\n        }\r\n'
                "    ]\r\n}",
            ),
            ('{"p": [{"a": 1}]}', '{"p": [{"a": 1}, {"uuid": "new"}]}'),
            ('{"q":[{"a":1,"b":2}]}', '{"q":[{"a":1,"b":2}],"p":[{"uuid":"new"}]}'),
            ("{}", '{\n  "p": [\n    {\n      "uuid": "new"\n    }\n  ]\n}'),
            ('{ "p" : [ { "a" : 1 } ] }', '{ "p" : [ { "a" : 1 }, { "uuid" : "new" } ] }'),
        ):
            self.write(before)
            self.add("p", {})
            self.assertEqual(self.read(), after)

    def test_it_is_spelled_like_the_others(self) -> None:
        """As the neighbours spell a key; else in camelCase, or as the file does it."""
        entry = {"OPENAI_API_KEY": "k", "custom_name": "n", "concurrency_limit": 2}
        self.write('{"openai-custom": []}')
        self.add("openai-custom", entry)
        self.assertEqual(
            list(json.loads(self.read())["openai-custom"][0]),
            ["uuid", "OPENAI_API_KEY", "customName", "concurrencyLimit"],
        )
        self.write('{"openai-custom": [{"openai_api_key": "a", "Custom_Name": "b"}]}')
        self.add("openai-custom", entry)
        self.assertEqual(
            list(json.loads(self.read())["openai-custom"][1]),
            ["uuid", "openai_api_key", "Custom_Name", "concurrency_limit"],
        )

    def test_a_uuid_that_is_given_is_kept(self) -> None:
        """And two accounts of a provider never share one."""
        self.write(SEED)
        self.add("openai-custom", {"uuid": "mine"})
        self.assertEqual(json.loads(self.read())["openai-custom"][1], {"uuid": "mine"})
        self.assertFault(lambda: self.add("openai-custom", {"uuid": "mine"}), '"mine" already')

    def test_what_json_cannot_hold(self) -> None:
        """It is refused, and nothing written."""
        self.write(SEED)
        for value in (float("nan"), {1, 2}):
            with self.subTest(str(type(value))):
                self.assertFault(partial(self.add, "p", {"a": value}), "JSON cannot")


class ChangeTests(PoolsFileTestCase):
    """`change_account` and those that are made of it."""

    def test_one_value_and_no_other_byte(self) -> None:
        """Numbers, spacing, duplicates and comments elsewhere stay as they were written."""
        self.write('{"_": 1e400,\n "p":[ {"uuid":"u" ,"w": 1.10,"x" :  1E2}, {"a":1,"a":2} ]}')
        change_account(self.path, "p", "u", {"x": [1, "ü"]})
        self.assertEqual(
            self.read(),
            '{"_": 1e400,\n "p":[ {"uuid":"u" ,"w": 1.10,"x" :  [1, "ü"]}, {"a":1,"a":2} ]}',
        )

    def test_a_key_is_added_and_taken_away(self) -> None:
        """With the commas and the indentation of the account."""
        self.write(SEED)
        change_account(self.path, "openai-custom", "uuid-3", {"custom_name": "c", "priority": 5})
        self.assertIn('"errorCount": 0,\n      "customName": "c",\n      "priority"', self.read())
        for key in ("custom_name", "priority", "none_of_that"):
            change_account(self.path, "openai-custom", "uuid-3", {key: None})
        self.assertEqual(self.read(), SEED)

    def test_all_keys_taken_away(self) -> None:
        """First, last and only ones."""
        self.write('{"p": [{"uuid": "u", "b": 1, "c": 2, "d": 3}]}')
        change_account(self.path, "p", "0", {"c": None, "uuid": None, "d": None, "b": None})
        self.assertEqual(self.read(), '{"p": [{}]}')
        change_account(self.path, "p", "0", {"b": 1})
        self.assertEqual(json.loads(self.read()), {"p": [{"b": 1}]})

    def test_a_spelling_that_is_there_is_kept(self) -> None:
        """Whatever name the change goes by."""
        self.write('{"p": [{"uuid": "u", "is_disabled": false, "OPENAI_API_KEY": "a"}]}')
        change_account(self.path, "p", "u", {"isDisabled": True, "openai_api_key": "b"})
        self.assertEqual(
            self.read(), '{"p": [{"uuid": "u", "is_disabled": true, "OPENAI_API_KEY": "b"}]}'
        )

    def test_what_is_so_already_is_left_alone(self) -> None:
        """Not even written again; but true is not 1."""
        self.write('{"p": [{"uuid": "u", "n": 1.0, "t": 1}]}')
        before = self.path.stat()
        done = change_account(self.path, "p", "u", {"n": 1.0, "x": None})
        self.assertFalse(done.written)
        self.assertEqual(self.path.stat(), before)
        self.assertTrue(change_account(self.path, "p", "u", {"t": True}).written)

    def test_disabled_and_enabled(self) -> None:
        """The switch is added where there is none, and kept once it is there."""
        self.write('{"p": [{"uuid": "u"}]}')
        self.assertFalse(enable_account(self.path, "p", "u").written)
        self.assertTrue(disable_account(self.path, "p", "u").written)
        self.assertEqual(self.read(), '{"p": [{"uuid": "u", "isDisabled": true}]}')
        enable_account(self.path, "p", "u")
        self.assertEqual(self.read(), '{"p": [{"uuid": "u", "isDisabled": false}]}')

    def test_removed(self) -> None:
        """The first, one in the middle, the last, and the only one."""
        self.write(
            '{"p": [{"uuid": "aaaa"}, {"uuid": "bbbb"},{"uuid": "cccc"} , {"uuid": "dddd"}]}'
        )
        for which, left in (
            ("bbbb", '{"p": [{"uuid": "aaaa"},{"uuid": "cccc"} , {"uuid": "dddd"}]}'),
            ("aaaa", '{"p": [{"uuid": "cccc"} , {"uuid": "dddd"}]}'),
            ("dddd", '{"p": [{"uuid": "cccc"}]}'),
            ("cccc", '{"p": []}'),
        ):
            remove_account(self.path, "p", which)
            self.assertEqual(self.read(), left)

    def test_a_byte_order_mark_stays(self) -> None:
        """Some editors need it."""
        self.write(b'\xef\xbb\xbf{"p": [{"uuid": "u"}]}')
        disable_account(self.path, "p", "u")
        self.assertEqual(
            self.path.read_bytes(), b'\xef\xbb\xbf{"p": [{"uuid": "u", "isDisabled": true}]}'
        )

    def test_a_key_that_is_written_twice(self) -> None:
        """Nobody knows which one counts."""
        self.write('{"p": [{"uuid": "u", "isDisabled": true, "is_disabled": true}]}')
        self.assertFault(lambda: enable_account(self.path, "p", "u"), "twice", "is_disabled")

    def test_what_is_no_account(self) -> None:
        """It can be taken out, but not changed."""
        self.write('{"p": ["a remark"]}')
        self.assertFault(lambda: disable_account(self.path, "p", "0"), "p[0] is no account")
        remove_account(self.path, "p", "0")
        self.assertEqual(self.read(), '{"p": []}')

    def test_one_without_a_uuid(self) -> None:
        """It goes by the id that is derived, of which only the caller knows how."""
        self.write('{"p": [{"uuid": "u"}, {"k": 1}, {"k": 2}]}')
        asked: list[object] = []

        def identify(provider: str, pools: Mapping[str, Any]) -> Mapping[int, str]:
            asked.append((provider, pools))
            return {1: "abcd-1", 2: "abcd-2"}

        done = disable_account(self.path, "p", "abcd-2", identify=identify)
        self.assertEqual((done.account.index, done.account.id), (2, "abcd-2"))
        self.assertEqual(asked, [("p", {"p": [{"uuid": "u"}, {"k": 1}, {"k": 2}]})])
        self.assertFault(
            lambda: disable_account(self.path, "p", "abcd", identify=identify), "2 accounts"
        )


class RefusalTests(PoolsFileTestCase):
    """Files that cannot be edited; they stay as they are."""

    def test_what_is_no_json_object(self) -> None:
        """Each is told what is wrong, and where."""
        for content, word in (
            (b"", "line 1, column 1"),
            (b'{"p": [\n', "line 2"),
            (b"[]", "no JSON object"),
            (b'{"p": NaN}', "plain JSON"),
            (b'{"p": "\xff"}', "not UTF-8"),
            (b'{"p": [' + b"[" * 100_000, "JSON"),
            (b'{"p": {}}', "p: is an object"),
            (b'{"p": "sk-secret-secret-secret"}', "a list"),
            (b'{"p": [], "p": []}', "twice"),
        ):
            with self.subTest(content[:20]):
                self.write(content)
                self.assertFault(lambda: self.add("p", {}), "provider_pools.json", word)

    def test_no_secret_in_it(self) -> None:
        """What stands where no key belongs is not repeated."""
        self.write('{"p": "sk-secret-secret-secret"}')
        error = self.assertRaises(ConfigurationError, self.add, "p", {})
        self.assertNotIn("secret", str(error))

    def test_no_file(self) -> None:
        """Only an account that is added makes one."""
        self.assertFault(lambda: remove_account(self.path, "p", "u"), "no file")
        self.path.mkdir()
        self.assertFault(lambda: self.add("p", {}), "no regular file")
        self.path.rmdir()
        os.mkfifo(self.path)
        self.assertFault(lambda: self.add("p", {}), "no regular file")

    def test_whoever_checks_may_refuse(self) -> None:
        """He sees the whole file as it would be, beside the real one, and private."""
        self.write(SEED)
        seen: list[Any] = []

        def check(path: Path) -> None:
            seen.append((path.parent, stat.S_IMODE(path.stat().st_mode)))
            seen.append(len(json.loads(path.read_text())["openai-custom"]))
            raise ConfigurationError(["I do not like it"])

        self.assertFault(lambda: self.add("openai-custom", {}, check=check), "do not like")
        self.assertEqual(seen, [(self.folder, 0o600), 2])


class OnDiskTests(PoolsFileTestCase):
    """Whole, private, and nobody else's work lost."""

    def test_it_is_private_afterwards(self) -> None:
        """Others lose the right to read it, and that is told."""
        self.write(SEED, 0o644)
        self.assertEqual(disable_account(self.path, "openai-custom", "0").old_mode, 0o644)
        self.assertEqual(self.mode(), 0o600)
        self.assertIsNone(enable_account(self.path, "openai-custom", "0").old_mode)

    def test_a_group_that_may_read_it_on_purpose(self) -> None:
        """As where root owns the file and the gateway's group reads it."""
        self.write(SEED, 0o640)
        self.assertIsNone(disable_account(self.path, "openai-custom", "0").old_mode)
        self.assertEqual(self.mode(), 0o640)

    def test_the_owner_stays(self) -> None:
        """Also when root edits it; a new file belongs to whom its folder does."""
        if os.geteuid() != 0:
            raise SkipTest("only root may give files away")
        self.write(SEED)
        os.chown(self.path, 1234, 1235)
        disable_account(self.path, "openai-custom", "0")
        self.assertEqual((self.path.stat().st_uid, self.path.stat().st_gid), (1234, 1235))
        os.chown(self.folder, 1236, 1237)
        self.path.unlink()
        self.add("p", {})
        self.assertEqual((self.path.stat().st_uid, self.path.stat().st_gid), (1236, 1237))

    def test_a_link_is_followed(self) -> None:
        """What it points at changes, and it stays a link; one to nothing as well."""
        target = self.folder / "real" / "accounts.json"
        target.parent.mkdir()
        self.path.symlink_to("real/accounts.json")
        self.add("p", {})
        disable_account(self.path, "p", "new")
        self.assertTrue(self.path.is_symlink())
        self.assertTrue(json.loads(target.read_text())["p"][0]["isDisabled"])

    def test_no_litter(self) -> None:
        """Nothing but the file is left, nor what one of us left that was killed."""
        (self.folder / ".provider_pools.json.abcd.new").write_text("sk-old")
        (self.folder / ".provider_pools.json.mine").write_text("not ours")
        self.add("p", {})
        self.assertEqual(
            sorted(os.listdir(self.folder)), [".provider_pools.json.mine", "provider_pools.json"]
        )

    def test_another_program_changes_it_meanwhile(self) -> None:
        """Its change is kept, and ours is made on top of it."""
        self.write(SEED)
        others = ["[]", "[1]", '[{"uuid": "theirs"}]']

        def meddle(_: Path) -> None:
            if others:
                self.write(f'{{"p": {others.pop(0)}}}')

        self.add("p", {}, check=meddle)
        self.assertEqual(json.loads(self.read()), {"p": [{"uuid": "theirs"}, {"uuid": "new"}]})

    def test_another_program_that_never_rests(self) -> None:
        """After five times it is given up."""
        self.write(SEED)
        times: list[int] = []

        def meddle(_: Path) -> None:
            times.append(1)
            self.write(f'{{"p": [{len(times)}]}}')

        error = self.assertRaises(ConfigurationError, self.add, "p", {}, check=meddle)
        self.assertIn("keeps changing", str(error))
        self.assertEqual((len(times), self.read()), (5, '{"p": [5]}'))

    def test_the_link_is_switched_meanwhile(self) -> None:
        """As orchestrators do: the edit goes where the link points now."""
        for name in ("a", "b"):
            (self.folder / name).write_text(f'{{"q": "{name}"}}')
        self.path.symlink_to("a")

        def switch(_: Path) -> None:
            self.path.unlink()
            self.path.symlink_to("b")

        self.add("p", {}, check=switch)
        self.assertEqual((self.folder / "a").read_text(), '{"q": "a"}')
        self.assertIn("new", (self.folder / "b").read_text())

    def test_a_lock_that_is_held(self) -> None:
        """Another edit in the same folder is waited for, but not for ever."""
        self.patch(pools_file, "LOCK_SECONDS", 0)
        descriptor = os.open(self.folder, os.O_RDONLY)
        self.addCleanup(os.close, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        self.assertFault(lambda: self.add("p", {}), "locked by another program")
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        self.add("p", {})

    def test_many_at_once(self) -> None:
        """No account is lost when several are added at the same time."""
        self.write(SEED)

        def add(number: int) -> None:
            for each in range(5):
                add_account(self.path, "openai-custom", {"uuid": f"{number}-{each}"})

        threads = [threading.Thread(target=add, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        self.assertEqual(len(json.loads(self.read())["openai-custom"]), 21)

    def test_three_thousand_accounts(self) -> None:
        """One in the middle is changed, and no other byte."""
        pool = [{"uuid": f"account-{n}", "OPENAI_API_KEY": f"k{n}"} for n in range(3000)]
        before = json.dumps({"openai-custom": pool}, indent=2)
        self.write(before)
        disable_account(self.path, "openai-custom", "account-1500")
        after = before.replace('"k1500"', '"k1500",\n      "isDisabled": true')
        self.assertEqual(self.read(), after)
