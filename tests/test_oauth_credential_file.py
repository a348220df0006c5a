"""A credential file that others use as well: nothing of theirs is lost, whatever happens."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.oauth.credential_file import (
    LONGEST,
    CredentialFile,
    Found,
    NoCredential,
    NotWritable,
    access_token,
    identity,
    refresh_token,
)

GOOGLE = (
    '{\n  "access_token": "a-1",\n  "refresh_token": "r-1",\n  "scope": "b c",\n'
    '  "note": "Grüße 🙂",\n  "list": [],\n  "nested": {\n    "x": [\n      1,\n      null\n    ]\n'
    '  },\n  "expiry_date": 1730000000000\n}'
)
"""As Google's own client writes it."""


class Killed(BaseException):
    """Stands for the end of the process."""


class FileTestCase(SynchronousTestCase):
    """A credential file in a folder of its own."""

    def setUp(self) -> None:
        """Have the file."""
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.path = self.folder / "oauth_creds.json"
        self.path.write_text(GOOGLE, encoding="utf-8")
        self.file = CredentialFile(self.path)

    def names(self) -> list[str]:
        """Return what the folder holds."""
        return sorted(each.name for each in self.folder.iterdir())

    def instead_of(self, name: str, function: Callable[..., Any]) -> None:
        """Have a call to the operating system do something else."""
        self.patch(os, name, function)

    def fail(self, number: int) -> Callable[..., Any]:  # type: ignore[override]
        """Return a call that fails."""

        def failing(*args: object, **options: object) -> Any:
            raise OSError(number, os.strerror(number))

        return failing

    def die(self, *args: object) -> Any:
        """Be killed."""
        raise Killed


class ReadTests(FileTestCase):
    """`CredentialFile.read` and what is found."""

    def test_tokens_in_every_spelling(self) -> None:
        """Google's, Kiro's and one within another object; what is no text is none."""
        for document in (
            {"access_token": "a", "refresh_token": "r"},
            {"accessToken": "a", "refreshToken": "r"},
            {"token": {"access_token": "a", "refresh_token": "r"}},
            {"access_token": "", "tokens": {"access_token": "a", "refresh_token": "r"}},
        ):
            self.assertEqual((access_token(document), refresh_token(document)), ("a", "r"))
        self.assertIsNone(access_token({"access_token": 1, "token": "a"}))
        self.assertIsNone(refresh_token({}))

    def test_what_is_no_credential(self) -> None:
        """Torn, empty, a list, too long, too deep or no text at all: said without quoting it."""
        for data in (
            b"",
            GOOGLE.encode()[:-9],
            b'{"access_token": "a-1"} x',
            b'["a-1"]',
            b'{"a": NaN}',
            b'{"a": 1e999}',
            b'{"a": "\xff"}',
            b"[" * 100_000,
            b'{"a": "' + b"x" * LONGEST + b'"}',
        ):
            self.path.write_bytes(data)
            error = self.assertRaises(NoCredential, self.file.read)
            self.assertNotIn("a-1", str(error))

    def test_a_byte_order_mark_is_no_fault(self) -> None:
        """Some editors leave one."""
        self.path.write_bytes(b"\xef\xbb\xbf" + GOOGLE.encode())
        self.assertEqual(access_token(self.file.read().document), "a-1")

    def test_a_pipe_does_not_hold_us(self) -> None:
        """What is no regular file is refused at once."""
        self.path.unlink()
        os.mkfifo(self.path)
        self.assertRaises(NoCredential, self.file.read)

    def test_a_missing_file(self) -> None:
        """Is the operating system's error, and has no stamp."""
        self.path.unlink()
        self.assertRaises(FileNotFoundError, self.file.read)
        self.assertIsNone(self.file.stamp())

    def test_the_stamp_changes_with_the_file(self) -> None:
        """And only then; reading does not change it."""
        found = self.file.read()
        self.assertEqual(found.stamp, self.file.stamp())
        written = self.file.merge({"project": "p"})
        self.assertNotEqual(written.stamp, found.stamp)
        self.assertEqual(written.stamp, self.file.stamp())

    def test_nothing_is_shown(self) -> None:
        """What was found may be printed."""
        self.assertNotIn("a-1", repr(self.file.read()))
        self.assertNotIn("a-1", identity(self.file.read().document))


class MergeTests(FileTestCase):
    """`CredentialFile.merge`."""

    def test_what_is_unknown_stays_as_it_was(self) -> None:
        """Byte for byte, in its order; what is new comes last."""
        found = self.file.merge({"access_token": "a-2", "project": "p"})
        text = GOOGLE.replace("a-1", "a-2").replace(
            "1730000000000\n", '1730000000000,\n  "project": "p"\n'
        )
        self.assertEqual(self.path.read_text(encoding="utf-8"), text)
        self.assertEqual(found.document, json.loads(text))
        self.assertTrue(found.written)
        self.assertEqual(self.names(), ["oauth_creds.json"])

    def test_half_a_surrogate_pair_survives(self) -> None:
        """It cannot be written as UTF-8, so it is written as it came."""
        self.path.write_text('{"a": "\\ud83d"}')
        self.file.merge({"b": 1})
        self.assertEqual(self.file.read().document, {"a": "\ud83d", "b": 1})

    def test_what_changes_nothing_is_not_written(self) -> None:
        """The file stays the very same."""
        before = self.file.stamp()
        self.assertEqual(self.file.merge({"scope": "b c"}).stamp, before)
        self.assertEqual(self.file.stamp(), before)

    def test_only_the_owner_may_read_it(self) -> None:
        """Whatever it was before, and whatever the umask; the owner stays."""
        self.path.chmod(0o644)
        if os.geteuid() == 0:
            os.chown(self.path, 12345, 12346)
        before = self.path.stat()
        self.addCleanup(os.umask, os.umask(0))
        self.file.merge({"a": 1})
        after = self.path.stat()
        self.assertEqual(stat.S_IMODE(after.st_mode), 0o600)
        self.assertEqual((after.st_uid, after.st_gid), (before.st_uid, before.st_gid))

    def test_a_file_of_another_user_is_not_taken_from_them(self) -> None:
        """Replacing it would lock its owner out: it is refused, and nothing changes."""
        owner = self.path.stat().st_uid
        self.instead_of("geteuid", lambda: owner + 1)
        for call in (self.file.check_writable, lambda: self.file.merge({"a": 1})):
            error = self.assertRaises(NotWritable, call)
            self.assertIn("belongs to another user", str(error))
        self.assertEqual(self.path.read_text(encoding="utf-8"), GOOGLE)
        self.assertEqual(self.names(), ["oauth_creds.json"])

    def test_another_login_is_not_overwritten(self) -> None:
        """If the file holds another refresh token by now, it stays and is returned."""
        self.path.write_text('{"access_token": "a-9", "refresh_token": "r-9"}')
        found = self.file.merge({"access_token": "a-2", "refresh_token": "r-2"}, used="r-1")
        self.assertFalse(found.written)
        self.assertEqual(access_token(found.document), "a-9")
        self.assertEqual(self.file.read().document, found.document)

    def test_a_file_that_is_gone_or_torn_by_now(self) -> None:
        """What was renewed is written all the same, on top of what was there before."""
        before = self.file.read().document
        for spoil in (self.path.unlink, lambda: self.path.write_text("{")):
            spoil()
            found = self.file.merge({"access_token": "a-2"}, used="r-1", instead=before)
            self.assertEqual(self.file.read().document, {**before, "access_token": "a-2"})
            self.assertTrue(found.written)

    def test_nothing_to_merge_into(self) -> None:
        """Without a document to go on from it is an error, and no file appears."""
        self.path.unlink()
        self.assertRaises(FileNotFoundError, self.file.merge, {"a": 1})
        self.assertEqual(self.names(), [])

    def test_it_is_on_the_disk_before_it_is_in_place(self) -> None:
        """The file is synced, renamed, and then its folder is synced; in that order."""
        done: list[str] = []
        fsync, rename = os.fsync, os.rename

        def synced(descriptor: int) -> None:
            kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
            done.append(f"fsync {kind}")
            fsync(descriptor)

        def renamed(source: Path, target: Path) -> None:
            done.append("rename")
            rename(source, target)

        self.instead_of("fsync", synced)
        self.instead_of("rename", renamed)
        self.file.merge({"a": 1})
        self.assertEqual(done, ["fsync file", "rename", "fsync folder"])

    def test_a_folder_that_cannot_be_written(self) -> None:
        """It is said in a sentence, with the file's name and what to do, before and after."""
        self.instead_of("open", self.fail(errno.EACCES))
        error = self.assertRaises(NotWritable, self.file.check_writable)
        self.assertEqual(
            str(error),
            f"The credential file {self.folder.name}/oauth_creds.json cannot be written "
            "(Permission denied). Let the gateway's user write to its folder, or give it a copy "
            "of the file in a folder of its own.",
        )

    def test_a_disk_that_is_full(self) -> None:
        """It is noticed before a refresh token is used up; nothing is left behind."""
        for name in ("posix_fallocate", "fsync"):
            self.instead_of(name, self.fail(errno.ENOSPC))
        for call in (self.file.check_writable, lambda: self.file.merge({"a": 1})):
            self.assertIn("Make room on its disk.", str(self.assertRaises(NotWritable, call)))
        self.assertEqual(self.names(), ["oauth_creds.json"])
        self.assertEqual(self.path.read_text(encoding="utf-8"), GOOGLE)

    def test_a_file_system_that_reserves_nothing(self) -> None:
        """It can be written all the same."""
        self.instead_of("posix_fallocate", self.fail(errno.EOPNOTSUPP))
        self.file.check_writable()
        self.assertEqual(self.names(), ["oauth_creds.json"])


class RecoverTests(FileTestCase):
    """`CredentialFile.recover`, after a process was killed."""

    def killed_before(self, call: str, changes: dict[str, Any]) -> None:
        """Be killed while writing, just before a call to the operating system."""
        unlink, real = os.unlink, getattr(os, call)
        self.instead_of("unlink", lambda path: None)
        self.instead_of(call, self.die)
        self.assertRaises(Killed, self.file.merge, changes)
        self.instead_of(call, real)
        self.instead_of("unlink", unlink)

    def test_what_was_finished_is_put_in_place(self) -> None:
        """Killed between fsync and rename: the new tokens are all there is, and are kept."""
        changes = {"access_token": "a-2", "refresh_token": "r-2"}
        self.killed_before("rename", changes)
        self.assertEqual(len(self.names()), 2)
        self.assertEqual(access_token(self.file.read().document), "a-1")
        found = self.file.recover(now=0.0)
        assert isinstance(found, Found)
        self.assertEqual(found.document, {**json.loads(GOOGLE), **changes})
        self.assertEqual(found.document, self.file.read().document)
        self.assertEqual(self.names(), ["oauth_creds.json"])
        self.assertIsNone(self.file.recover(now=0.0))

    def test_what_belongs_to_an_older_login_is_not(self) -> None:
        """The file was written since; what was left behind goes once it is old."""
        self.killed_before("rename", {"access_token": "a-2", "refresh_token": "r-2"})
        self.file.merge({"access_token": "a-3", "refresh_token": "r-3"})
        self.assertIsNone(self.file.recover(now=0.0))
        self.assertEqual(access_token(self.file.read().document), "a-3")
        [left] = [name for name in self.names() if name.endswith(".new")]
        changed = (self.folder / left).stat().st_mtime
        self.assertIsNone(self.file.recover(now=changed + 59))
        self.assertEqual(len(self.names()), 2)
        self.assertIsNone(self.file.recover(now=changed + 61))
        self.assertEqual(self.names(), ["oauth_creds.json"])

    def test_what_is_half_written_is_not(self) -> None:
        """Killed before anything was written, or in the middle."""
        self.killed_before("write", {"access_token": "a-2", "refresh_token": "r-2"})
        self.assertIsNone(self.file.recover(now=0.0))
        [left] = [name for name in self.names() if name.endswith(".new")]
        whole = json.dumps({"access_token": "a-2", "refresh_token": "r-2"})
        for length in range(len(whole)):
            (self.folder / left).write_text(whole[:length])
            self.assertIsNone(self.file.recover(now=0.0))
        (self.folder / left).write_text(whole)
        self.assertIsNotNone(self.file.recover(now=0.0))

    def test_other_keys_alone_are_not_worth_it(self) -> None:
        """A project that was being written is found again; no token depends on it."""
        self.killed_before("rename", {"project": "p"})
        self.assertIsNone(self.file.recover(now=0.0))

    def test_somebody_else_put_ours_in_place(self) -> None:
        """Held up for so long that we were taken for dead: theirs counts, nothing is torn."""
        rename = os.rename

        def renamed(source: Path, target: Path) -> None:
            self.instead_of("rename", rename)
            CredentialFile(self.path).recover(now=0.0)
            rename(source, target)

        self.instead_of("rename", renamed)
        found = self.file.merge({"access_token": "a-2", "refresh_token": "r-2"}, used="r-1")
        self.assertEqual(access_token(found.document), "a-2")
        self.assertFalse(found.written)
        self.assertEqual(found.document, self.file.read().document)

    def test_a_name_that_a_pattern_would_misread(self) -> None:
        """A file may be called anything."""
        self.path = self.path.rename(self.folder / "[a]*?.json")
        self.file = CredentialFile(self.path)
        self.killed_before("rename", {"access_token": "a-2"})
        self.assertIsNotNone(self.file.recover(now=0.0))
