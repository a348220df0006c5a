"""The state directory: the gateway's own key is made once, privately and whole."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.statedir import KEY_FILE, make_state_dir, own_key


class OwnKeyTests(SynchronousTestCase):
    """The key a gateway without one makes for itself."""

    def setUp(self) -> None:
        """Use a fresh state directory."""
        self.directory = Path(self.mktemp()) / "deep" / "state"
        make_state_dir(self.directory)

    def test_it_is_made_once(self) -> None:
        """The second start finds the first one's key."""
        key, made = own_key(self.directory)
        self.assertTrue(made)
        self.assertGreater(len(key), 32)
        self.assertEqual(own_key(self.directory), (key, False))

    def test_only_its_owner_can_read_it(self) -> None:
        """Mode 0600 in a directory of mode 0700, whatever the umask."""
        old = os.umask(0)
        self.addCleanup(os.umask, old)
        own_key(self.directory)
        self.assertEqual(stat.S_IMODE((self.directory / KEY_FILE).stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(self.directory.stat().st_mode), 0o700)

    def test_nothing_else_is_left_behind(self) -> None:
        """No scratch file survives."""
        own_key(self.directory)
        self.assertEqual([path.name for path in self.directory.iterdir()], [KEY_FILE])

    def test_an_empty_key_file_is_a_clear_error(self) -> None:
        """An empty file must never mean an empty key."""
        (self.directory / KEY_FILE).write_text("\n")
        error = self.assertRaises(ValueError, own_key, self.directory)
        self.assertIn("delete it", str(error))

    def test_a_state_dir_that_is_a_file_is_an_error(self) -> None:
        """It is said at start, not at the first write."""
        path = Path(self.mktemp())
        path.write_text("")
        self.assertRaises(OSError, make_state_dir, path)
