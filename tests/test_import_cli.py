"""``aiclient2api import``: what is found, what is offered, what becomes an account."""

from __future__ import annotations

import io
import os
from typing import Any

from aiclient2api import import_cli
from tests.login_fixture import GOOGLE, KINDS, KIRO, QWEN, LoginCase, Terminal


class ImportCase(LoginCase):
    """The command, with kinds of provider that can be logged in to."""

    def setUp(self) -> None:
        """Have them."""
        super().setUp()
        self.patch(import_cli, "provider_factories", lambda: KINDS)

    def imported(self, *arguments: str, **more: Any) -> str:
        """Run the command."""
        return self.typed(import_cli.import_, *arguments, **more)

    def entry(self, provider: str) -> dict[str, Any]:
        """Return the one account that a provider has, without its id."""
        (entry,) = self.pools()[provider]
        return {key: value for key, value in entry.items() if key != "uuid"}


class InstalledTests(ImportCase):
    """The logins of the vendors' own clients."""

    def test_all_three(self) -> None:
        """Each becomes an account that refers to the file where it is."""
        gemini = self.write("home/.gemini/oauth_creds.json", GOOGLE)
        qwen = self.write("home/.qwen/oauth_creds.json", QWEN)
        kiro = self.write("home/.aws/sso/cache/kiro-auth-token.json", KIRO)
        said = self.imported("--yes")
        self.assertEqual(
            [self.entry(name) for name in self.pools()],
            [
                {"GEMINI_OAUTH_CREDS_FILE_PATH": str(gemini)},
                {"QWEN_OAUTH_CREDS_FILE_PATH": str(qwen)},
                {"KIRO_OAUTH_CREDS_FILE_PATH": str(kiro)},
            ],
        )
        self.assertIn("3 found", said)
        self.assertIn("stay where they are", said)
        self.assertIn("Its vendor forbids it.", said)
        self.assertIn("follows within a second", said)

    def test_none(self) -> None:
        """That is no fault; it is said what else can be done."""
        self.assertIn("aiclient2api login", self.imported())
        self.assertEqual(self.pools(), {})

    def test_a_second_time(self) -> None:
        """What is an account already is not offered."""
        self.write("home/.qwen/oauth_creds.json", QWEN)
        self.imported("--yes")
        self.assertIn("No login was found", self.imported("--yes"))
        self.assertEqual(len(self.pools()["openai-qwen-oauth"]), 1)

    def test_a_link_to_one_that_is_an_account(self) -> None:
        """Nor under another name."""
        real = self.write("creds.json", QWEN)
        self.write(
            "provider_pools.json",
            {"openai-qwen-oauth": [{"QWEN_OAUTH_CREDS_FILE_PATH": str(real)}]},
        )
        (self.home / ".qwen").mkdir()
        os.symlink(real, self.home / ".qwen/oauth_creds.json")
        self.assertIn("No login was found", self.imported("--yes"))

    def test_a_folder_that_an_account_names(self) -> None:
        """The file in it is that account's."""
        self.write("home/.aws/sso/cache/kiro-auth-token.json", KIRO)
        folder = self.home / ".aws/sso/cache"
        self.write(
            "provider_pools.json",
            {"claude-kiro-oauth": [{"KIRO_OAUTH_CREDS_DIR_PATH": str(folder)}]},
        )
        self.assertIn("No login was found", self.imported("--yes"))

    def test_a_copy_of_one_that_is_an_account(self) -> None:
        """The same login in two files would lose its refresh token; it is said."""
        real = self.write("creds.json", QWEN)
        self.write(
            "provider_pools.json",
            {"openai-qwen-oauth": [{"QWEN_OAUTH_CREDS_FILE_PATH": str(real)}]},
        )
        self.write("home/.qwen/oauth_creds.json", QWEN)
        said = self.imported("--yes")
        self.assertIn("is the same login as", said)
        self.assertEqual(len(self.pools()["openai-qwen-oauth"]), 1)

    def test_a_name_proves_nothing(self) -> None:
        """What does not have the shape is left alone, whatever it is called."""
        self.write("home/.gemini/oauth_creds.json", QWEN)
        self.write("home/.qwen/oauth_creds.json", {"hello": 1})
        file = self.write("home/.aws/sso/cache/kiro-auth-token.json", {})
        file.write_text("{")
        self.assertIn("No login was found", self.imported("--yes"))

    def test_one_that_cannot_be_written(self) -> None:
        """Renewed tokens would be lost, and the person is told before."""
        self.write("home/.qwen/oauth_creds.json", QWEN)
        self.patch(os, "access", lambda path, mode: False)
        self.assertIn("cannot write to it", self.imported(stdin=io.StringIO("n\n")))


class AskingTests(ImportCase):
    """Yes and no."""

    def setUp(self) -> None:
        """Have two logins."""
        super().setUp()
        self.write("home/.gemini/oauth_creds.json", GOOGLE)
        self.write("home/.qwen/oauth_creds.json", QWEN)

    def test_each_is_offered(self) -> None:
        """Only a yes adds."""
        said = self.imported(stdin=Terminal("n\nY\n"))
        self.assertEqual(said.count("[y/N]"), 2)
        self.assertEqual(list(self.pools()), ["openai-qwen-oauth"])

    def test_no(self) -> None:
        """Nothing is added, and that is said."""
        self.assertIn("Nothing was added", self.imported(stdin=Terminal("\n\n")))
        self.assertEqual(self.pools(), {})

    def test_nobody_to_ask(self) -> None:
        """Without a person, and without --yes, nothing is added."""
        self.assertIn("say --yes", self.imported(status=1))
        self.assertEqual(self.pools(), {})

    def test_a_faulty_configuration(self) -> None:
        """Its faults are told, and nothing is done."""
        self.write("config.json", {"port": "x"})
        self.assertIn("port", self.imported("--yes", status=1))

    def test_help_and_bad_usage(self) -> None:
        """The help says what is found where; an unknown option is named."""
        self.assertIn("configs folder", self.imported("--help"))
        said = self.imported("--yess", status=2)
        self.assertIn("aiclient2api import:", said)
        self.assertIn("--yess", said)


class FolderTests(ImportCase):
    """A folder of AIClient-2-API."""

    def test_what_lies_there(self) -> None:
        """Files of its three folders, however deep it puts them, by their shape."""
        kiro = self.write("old/configs/kiro/17_kiro-auth-token/17_kiro-auth-token.json", KIRO)
        qwen = self.write("old/configs/qwen/18_oauth_creds.json", QWEN)
        self.write("old/configs/gemini/19_oauth_creds.json", {"no": "credential"})
        self.write("old/configs/other/20_oauth_creds.json", GOOGLE)
        for folder in ("old", "old/configs"):
            self.path.unlink(missing_ok=True)
            self.imported("--yes", folder)
            self.assertEqual(
                [self.entry(name) for name in self.pools()],
                [
                    {"QWEN_OAUTH_CREDS_FILE_PATH": str(qwen)},
                    {"KIRO_OAUTH_CREDS_FILE_PATH": str(kiro)},
                ],
            )

    def test_not_too_deep(self) -> None:
        """A whole disk is not searched."""
        self.write("old/configs/kiro/1/2/3/4/5/6/token.json", KIRO)
        self.assertIn("No login was found", self.imported("--yes", "old"))

    def test_its_accounts_keep_what_they_were_called(self) -> None:
        """Name, models and addresses go along; counters and ids do not."""
        file = self.write("old/configs/gemini/1_oauth_creds.json", GOOGLE)
        entry = {
            "uuid": "u-1",
            "GEMINI_OAUTH_CREDS_FILE_PATH": "./configs/gemini/1_oauth_creds.json",
            "PROJECT_ID": "my-project",
            "customName": "work",
            "notSupportedModels": ["m"],
            "isHealthy": False,
            "errorCount": 7,
        }
        keyed = [{"OPENAI_API_KEY": "sk-other-secret"}]
        self.write(
            "old/configs/provider_pools.json",
            {"gemini-cli-oauth-b": [entry], "openai-custom": keyed},
        )
        said = self.imported("--yes", "old")
        self.assertEqual(
            self.entry("gemini-cli-oauth-b"),
            {
                "PROJECT_ID": "my-project",
                "customName": "work",
                "notSupportedModels": ["m"],
                "GEMINI_OAUTH_CREDS_FILE_PATH": str(file),
            },
        )
        self.assertEqual(list(self.pools()), ["gemini-cli-oauth-b"])
        self.assertIn("1 account with keys", said)
        self.assertIn("--provider-pools-file", said)

    def test_its_configuration(self) -> None:
        """The file that its config.json names is found where that program finds it."""
        file = self.write("old/mine/creds.json", QWEN)
        self.write("old/configs/config.json", {"QWEN_OAUTH_CREDS_FILE_PATH": "mine/creds.json"})
        self.imported("--yes", "old")
        self.assertEqual(self.entry("openai-qwen-oauth"), {"QWEN_OAUTH_CREDS_FILE_PATH": str(file)})

    def test_the_folder_beside_us(self) -> None:
        """Without a name, ./configs is looked into; its own pools file holds no surprise."""
        self.write("configs/qwen/1_oauth_creds.json", QWEN)
        self.write("configs/provider_pools.json", {})
        self.path = self.folder / "configs/provider_pools.json"
        self.imported("--yes")
        self.assertEqual(list(self.pools()), ["openai-qwen-oauth"])

    def test_hostile_folders(self) -> None:
        """Pipes, huge and broken files do not stop the search."""
        self.write("old/configs/qwen/9.json", QWEN)
        os.mkfifo(self.folder / "old/configs/qwen/1.json")
        (self.folder / "old/configs/qwen/2.json").write_text("[" * 100_000)
        (self.folder / "old/configs/qwen/3.json").write_text(" " * 300_000 + "{}")
        self.write("old/configs/provider_pools.json", {"openai-qwen-oauth": [1, {"a": 2}], "x": 3})
        self.assertIn("1 found", self.imported("--yes", "old"))

    def test_a_folder_that_is_not_there(self) -> None:
        """It is named."""
        self.assertIn("no folder none", self.imported("none", status=1))
