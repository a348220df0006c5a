"""
Which files others may read: the start is refused for the gateway's own, the rest is told of.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.cli import main
from aiclient2api.config import Settings, load
from aiclient2api.errors import ConfigurationError
from aiclient2api.options import provider_factories
from aiclient2api.statedir import own_key

LOGIN = {"access_token": "a", "refresh_token": "r", "expiry_date": 1}


class PrivacyTests(SynchronousTestCase):
    """`load`, when the gateway starts."""

    def setUp(self) -> None:
        """Have a folder that everybody may look into, as trial's own may not be."""
        self.patch(os, "umask", os.umask)
        old = os.umask(0o022)
        self.addCleanup(os.umask, old)
        self.folder = Path(self.mktemp()).absolute()
        self.state = self.folder / "state"
        (self.state / "credentials").mkdir(parents=True, mode=0o700)
        # Whoever runs the tests may have put them where nobody else gets to.
        self.patch(
            __import__("aiclient2api.config.privacy", fromlist=["x"]), "_reached", lambda path: True
        )

    def load(self, starting: bool = True, **config: object) -> Settings:
        """Read a configuration with *config* in it, for a start or for something else."""
        self.write("config.json", json.dumps({"state_dir": str(self.state), **config}))
        return load(
            flags={"config": str(self.folder / "config.json")},
            environ={"HOME": str(self.folder)},
            cwd=self.folder,
            factories=provider_factories(),
            starting=starting,
        )

    def write(self, name: str, text: str = "x", mode: int = 0o600) -> Path:
        """Write a file."""
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def faults(self, **config: object) -> list[str]:
        """Return what keeps a start from happening."""
        try:
            self.load(True, **config)
        except ConfigurationError as error:
            return list(error.faults)
        return []

    def test_private_files_are_no_matter(self) -> None:
        """0600, and a state directory of 0700 or 0755, are as they should be."""
        for name in ("api_key", "state.sqlite3", "state.sqlite3-wal", "credentials/one.json"):
            self.write(f"state/{name}")
        self.assertEqual(self.faults(), [])
        self.state.chmod(0o755)
        self.assertEqual(self.faults(), [])

    def test_every_file_of_ours_that_others_may_read_or_write_is_a_fault(self) -> None:
        """All at once, each with the command that mends it."""
        names = (
            "state/api_key",
            "state/state.sqlite3",
            "state/state.sqlite3-wal",
            "state/state.sqlite3-shm",
            "state/credentials/one.json",
            "logs/prompts-20260101-120000.log",
        )
        for mode in (0o644, 0o640, 0o620, 0o604):
            paths = [self.write(name, mode=mode) for name in names]
            faults = self.faults(
                prompt_log_mode="file", prompt_log_base_name=str(self.folder / "logs" / "prompts")
            )
            self.assertEqual(len(faults), len(names), faults)
            for path, fault in zip(paths, faults, strict=True):
                self.assertIn(f"chmod 600 {path}", fault)

    def test_a_state_directory_that_others_may_write_to_is_a_fault(self) -> None:
        """They could put a key of theirs in the place of the gateway's."""
        for folder in (self.state, self.state / "credentials"):
            for mode in (0o770, 0o777, 0o1777, 0o702):
                folder.chmod(mode)
                (fault,) = self.faults()
                self.assertIn(f"chmod 700 {folder}", fault)
            folder.chmod(0o700)

    def test_only_a_start_is_refused(self) -> None:
        """A reload, and a command that wants to know what is configured, go on."""
        self.write("state/api_key", mode=0o644)
        self.load(starting=False)

    def test_check_tells_the_same(self) -> None:
        """``aiclient2api check`` finds it before a start does."""
        self.write("state/api_key", mode=0o644)
        self.assertEqual(len(self.faults()), 1)
        self.assertEqual(main(["check", "--config", str(self.folder / "config.json")]), 1)

    def test_files_of_others_are_warned_of(self) -> None:
        """What holds keys or logins works on with 0644, as it is; a warning says how to mend it."""
        login = self.write("oauth_creds.json", json.dumps(LOGIN), 0o644)
        pools = self.write(
            "pools.json",
            json.dumps(
                {
                    "openai-custom": [{"OPENAI_API_KEY": "sk-of-the-pool"}],
                    "openai-qwen-oauth": [{"QWEN_OAUTH_CREDS_FILE_PATH": str(login)}],
                }
            ),
            0o644,
        )
        settings = self.load(required_api_key="mine-alone", provider_pools_file_path=str(pools))
        told = "\n".join(settings.warnings)
        for path in (pools, login):
            self.assertIn(f"chmod 600 {path}", told)
        config = self.folder / "config.json"
        self.assertNotIn(f"chmod 600 {config}", told)
        config.chmod(0o644)
        self.patch(Path, "chmod", lambda *_: None)
        settings = self.load(required_api_key="mine-alone", provider_pools_file_path=str(pools))
        self.assertIn(f"chmod 600 {config}", "\n".join(settings.warnings))

    def test_a_configuration_without_secrets_may_be_read(self) -> None:
        """Nothing is said of what anybody may know, nor of a file that a group shares."""
        self.patch(Path, "chmod", lambda *_: None)
        self.assertEqual([w for w in self.load(port=3001).warnings if "chmod" in w], [])
        os.chmod(self.folder / "config.json", 0o640)
        settings = self.load(required_api_key="mine-alone")
        self.assertEqual([w for w in settings.warnings if "chmod" in w], [])

    def test_a_configuration_that_everybody_may_write_is_warned_of(self) -> None:
        """Whoever writes it says where keys and prompts go, whether or not it holds one."""
        self.patch(Path, "chmod", lambda *_: None)
        self.load(port=3001)
        os.chmod(self.folder / "config.json", 0o666)
        (told,) = (w for w in self.load(port=3001).warnings if "chmod" in w)
        self.assertIn("chmod o-w", told)

    def test_the_key_is_not_taken_from_a_file_that_others_read(self) -> None:
        """Not even where nobody looked before."""
        self.write("state/api_key", "ak-0123456789", 0o640)
        error = self.assertRaises(ValueError, own_key, self.state)
        self.assertIn(f"chmod 600 {self.state / 'api_key'}", str(error))
