"""
Providers and their accounts, as they come out of the two files.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twisted.plugin import getPlugins

import aiclient2api.providers
from aiclient2api.config import Settings
from aiclient2api.interfaces import IProviderFactory
from aiclient2api.values import Account
from tests.config_fakes import FACTORIES, ConfigTestCase, FakeFactory, NoSettings

ROOT = Path(__file__).resolve().parent.parent


def only(settings: Settings, name: str = "openai-custom") -> Account:
    """Return the one account of a provider."""
    (account,) = settings.providers[name].accounts
    return account


class ConfiguredTests(ConfigTestCase):
    """Which providers there are."""

    def test_by_key(self) -> None:
        """A key makes every provider that uses it configured, in the order of preference."""
        found = self.load({"openai_api_key": "sk-a"})
        self.assertEqual(
            list(found.providers), ["openai-custom", "openaiResponses-custom", "sandbox"]
        )
        account = only(found)
        self.assertEqual(account.settings.openai_api_key, "sk-a")
        self.assertEqual(account.settings.openai_base_url, "https://api.openai.com/v1")
        self.assertEqual(account.settings.openai_flavour, "plain")
        self.assertEqual(account.secrets, ("sk-a",))
        self.assertEqual(account.provider, "openai-custom")

    def test_local_server_without_a_key(self) -> None:
        """A URL of one's own is enough, key or no key; the vendor's is not."""
        found = self.load({"openai_base_url": "http://127.0.0.1:8080/v1"})
        self.assertIsNone(found.providers["openai-custom"].reason)
        self.assertEqual(found.default_providers, ("openai-custom",))
        self.assertEqual(only(found).secrets, ())
        self.assertEqual(found.warnings, ())
        found = self.load({"openai_base_url": "https://api.openai.com/v1/"})
        self.assertNotIn("openai-custom", found.providers)

    def test_by_file(self) -> None:
        """A credential file makes its provider configured; a missing one is warned of."""
        body = {"sample_creds_file_path": "c.json", "sample_project": 42}
        found = self.load(body)
        self.assertEqual(
            found.providers["sample-oauth"].reason, "the file of sample_creds_file_path is missing"
        )
        self.assertWarned(found, "config.json: sample_creds_file_path", str(self.cwd / "c.json"))
        self.write("c.json", {})
        account = only(self.load(body), "sample-oauth")
        self.assertEqual(account.settings.sample_creds_file_path, self.cwd / "c.json")
        self.assertEqual(account.settings.sample_project, "42")

    def test_blank_is_absent(self) -> None:
        """Empty texts, as the Node version writes them, configure nothing."""
        blank = {"OPENAI_API_KEY": "", "OPENAI_BASE_URL": "", "SAMPLE_CREDS_FILE_PATH": ""}
        self.assertEqual(list(self.load(blank).providers), ["sandbox"])

    def test_plain_http(self) -> None:
        """Keys over plain http are warned of, but not on this machine."""
        found = self.load({"openai_base_url": "http://gpu.example:8080/v1"})
        self.assertWarned(found, "openai_base_url", "unencrypted")

    def test_placeholder(self) -> None:
        """The placeholder of an example file is recognised."""
        self.assertWarned(self.load({"openai_api_key": "sk-..."}), "openai_api_key", "placeholder")

    def test_choice(self) -> None:
        """A setting with few values is checked."""
        body = {"openai_api_key": "sk-a", "openai_flavour": "FANCY"}
        self.assertEqual(only(self.load(body)).settings.openai_flavour, "Fancy")
        self.assertFault({"openai_flavour": "x"}, "openai_flavour", "plain, Fancy")


class AccountTests(ConfigTestCase):
    """Accounts in provider_pools.json."""

    def test_entry_over_global(self) -> None:
        """An account's own keys come first, config.json fills the rest."""
        body = {"openai_api_key": "sk-all", "openai_base_url": "https://a.example/v1"}
        entry = {
            "OPENAI_API_KEY": "sk-own",
            "customName": "Mine",
            "supportedModels": ["m1"],
            "not_supported_models": "m2, m3",
        }
        account = only(self.load(body, pools={"openai-custom": [entry]}))
        self.assertEqual(account.settings.openai_api_key, "sk-own")
        self.assertEqual(account.settings.openai_base_url, "https://a.example/v1")
        self.assertEqual(account.name, "Mine")
        self.assertEqual((account.supported, account.unsupported), (("m1",), ("m2", "m3")))

    def test_empty_key_is_no_key(self) -> None:
        """An account with an empty key does not get the global one."""
        entry = {"OPENAI_API_KEY": "", "OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}
        found = self.load({"openai_api_key": "sk-all"}, pools={"openai-custom": [entry]})
        self.assertEqual(only(found).secrets, ())
        self.assertIsNone(only(found).settings.openai_api_key)

    def test_all_of_them(self) -> None:
        """Every account is there, in the order of the file, those that are disabled too."""
        entries = [
            {"uuid": "c", "OPENAI_API_KEY": "sk-a", "isDisabled": True},
            {"uuid": "b", "OPENAI_API_KEY": "sk-b", "isDisabled": "false"},
            {"uuid": "a", "OPENAI_API_KEY": "sk-c"},
        ]
        found = self.load({"openai_api_key": "sk-all"}, pools={"openai-custom": entries})
        accounts = found.providers["openai-custom"].accounts
        self.assertEqual([one.id for one in accounts], ["c", "b", "a"])
        self.assertEqual([one.disabled for one in accounts], [True, False, False])
        self.assertEqual([one.secrets[0] for one in accounts], ["sk-a", "sk-b", "sk-c"])
        self.assertEqual(found.warnings, ())

    def test_all_disabled(self) -> None:
        """If all are disabled, nothing is used, not even the global key."""
        found = self.load(
            {"openai_api_key": "sk-all"}, pools={"openai-custom": [{"isDisabled": True}]}
        )
        provider = found.providers["openai-custom"]
        self.assertEqual(provider.reason, "all its accounts are disabled")
        self.assertEqual([one.disabled for one in provider.accounts], [True])
        self.assertWarned(found, "openai-custom: cannot be used")

    def test_what_an_account_says_of_itself(self) -> None:
        """Priority, weight, limits, health and probes, in either spelling; none is odd."""
        node = {
            "OPENAI_API_KEY": "sk-a",
            "priority": -5,
            "weight": 7,
            "concurrencyLimit": 3,
            "queueLimit": "2",
            "isHealthy": False,
            "errorCount": 9,
            "checkHealth": False,
            "checkModelName": "m1",
        }
        snake = {
            "openai_api_key": "sk-b",
            "PRIORITY": 1,
            "concurrency_limit": 0,
            "is_healthy": True,
            "error_count": 9,
            "check_health": True,
            "check_model_name": "",
        }
        found = self.load(pools={"openai-custom": [node, snake, {"OPENAI_API_KEY": "sk-c"}]})
        one, two, plain = found.providers["openai-custom"].accounts
        self.assertEqual((one.priority, one.weight), (-5, 7))
        self.assertEqual((one.concurrency, one.queue), (3, 2))
        self.assertEqual((one.ill, one.check_health, one.check_model), (True, False, "m1"))
        self.assertEqual((two.priority, two.weight, two.concurrency), (1, 1, 0))
        self.assertEqual((two.ill, two.check_health, two.check_model), (False, True, None))
        self.assertEqual((plain.priority, plain.weight), (0, 1))
        self.assertEqual((plain.concurrency, plain.queue), (0, 0))
        self.assertEqual((plain.ill, plain.check_health, plain.disabled), (False, None, False))
        self.assertEqual(found.warnings, ())

    def test_bounds(self) -> None:
        """Numbers out of their bounds are faults, each with its place."""
        entry = {
            "OPENAI_API_KEY": "sk-a",
            "priority": 1001,
            "weight": 0,
            "concurrencyLimit": -1,
            "queueLimit": 1.5,
            "checkHealth": "perhaps",
            "checkModelName": [],
        }
        found = self.faults(pools={"openai-custom": [entry]})
        self.assertEqual(
            {fault.split(": ")[1].rpartition(".")[2] for fault in found},
            set(entry) - {"OPENAI_API_KEY"},
        )
        self.assertIn("from -1000 to 1000", "".join(found))
        self.assertIn("from 1 to 1000", "".join(found))

    def test_one_that_cannot_be_used(self) -> None:
        """An account without a key or without its file is left out; the others are used."""
        found = self.load(pools={"openai-custom": [{}, {"OPENAI_API_KEY": "sk-b"}, {}]})
        provider = found.providers["openai-custom"]
        self.assertEqual([one.secrets for one in provider.accounts], [("sk-b",)])
        self.assertEqual((provider.reason, provider.unusable), (None, 2))
        self.assertWarned(found, "provider_pools.json: openai-custom[0]:", "no openai_api_key")
        self.assertWarned(found, "provider_pools.json: openai-custom[2]:", "left out")
        self.write("b.json", {})
        entries = [{"SAMPLE_CREDS_FILE_PATH": "a.json"}, {"SAMPLE_CREDS_FILE_PATH": "b.json"}]
        found = self.load(pools={"sample-oauth": entries})
        self.assertEqual(only(found, "sample-oauth").settings.sample_creds_file_path.name, "b.json")
        self.assertWarned(found, "sample-oauth[0].SAMPLE_CREDS_FILE_PATH", "a.json")
        self.assertEqual(len(found.warnings), 1)

    def test_none_that_can_be_used(self) -> None:
        """If none is left the provider says why; those that are disabled are still listed."""
        entries = [{}, {"OPENAI_API_KEY": "sk-b", "isDisabled": True}]
        provider = self.load(pools={"openai-custom": entries}).providers["openai-custom"]
        self.assertEqual(provider.reason, "no openai_api_key")
        self.assertEqual([one.disabled for one in provider.accounts], [True])
        entries = [{}, {"SAMPLE_CREDS_FILE_PATH": "a.json"}]
        provider = self.load(pools={"sample-oauth": entries}).providers["sample-oauth"]
        self.assertIn("no sample_creds_file_path", provider.reason or "")
        self.assertEqual((provider.accounts, provider.unusable), ((), 2))

    def test_only_those_of_the_pool(self) -> None:
        """A provider that the file lists has these accounts and not the global key's."""
        body = {"openai_api_key": "sk-all"}
        own = {"OPENAI_API_KEY": "sk-own"}
        self.assertEqual(only(self.load(body, pools={"openai-custom": [own]})).secrets, ("sk-own",))
        for nobody in (list[Any](), None):
            found = self.load(body, pools={"openai-custom": nobody})
            self.assertEqual(only(found).secrets, ("sk-all",))

    def test_ids(self) -> None:
        """Without a uuid the id hangs on provider and credential, and on nothing else."""

        def id_of(key: str, provider: str = "openai-custom", **more: object) -> str:
            pools = {provider: [{"OPENAI_API_KEY": key, **more}]}
            return only(self.load(pools=pools), provider).id

        one = id_of("sk-a")
        self.assertEqual(one, id_of("sk-a", customName="x"))
        self.assertEqual(one, only(self.load({"openai_api_key": "sk-a"}, pools={})).id)
        self.assertNotEqual(one, id_of("sk-b"))
        self.assertNotEqual(one, id_of("sk-a", "openai-custom-b"))
        self.assertNotIn("sk-a", one)
        self.assertEqual(id_of("sk-a", uuid="mine"), "mine")

    def test_ids_of_files(self) -> None:
        """A credential file's account is known by the file's path."""
        self.write("c.json", {})
        ids = {
            only(self.load({"sample_creds_file_path": path}), "sample-oauth").id
            for path in ("c.json", "./c.json", str(self.cwd / "home/../c.json"))
        }
        self.assertEqual(len(ids), 1)

    def test_same_uuid_twice(self) -> None:
        """Of two accounts with one uuid the first is used; the other is told of."""
        entries = [{"uuid": "a", "OPENAI_API_KEY": f"sk-{name}"} for name in "ab"]
        found = self.load(pools={"openai-custom": entries})
        self.assertEqual(only(found).secrets, ("sk-a",))
        self.assertEqual(found.providers["openai-custom"].unusable, 1)
        self.assertWarned(found, "openai-custom[1].uuid: ", "openai-custom[0]", "give each its own")

    def test_same_key_twice(self) -> None:
        """Two accounts with one key and no uuid are one; a uuid of its own makes another."""
        entries = [{"OPENAI_API_KEY": "sk-a"}, {"OPENAI_API_KEY": "sk-a", "customName": "again"}]
        found = self.load(pools={"openai-custom": entries})
        self.assertIsNone(only(found).name)
        self.assertWarned(found, "openai-custom[1]: is the same account as", "openai-custom[0]")
        self.assertNotIn("sk-a", "".join(found.warnings))
        entries[1]["uuid"] = "b"
        found = self.load(pools={"openai-custom": entries})
        self.assertEqual(len(found.providers["openai-custom"].accounts), 2)
        self.assertEqual(found.warnings, ())

    def test_the_first_that_can_be_used_has_the_id(self) -> None:
        """An account that is left out anyway takes nobody's uuid."""
        entries = [{"uuid": "a"}, {"uuid": "a", "OPENAI_API_KEY": "sk-b"}]
        found = self.load(pools={"openai-custom": entries})
        self.assertEqual(only(found).secrets, ("sk-b",))

    def test_paths_start_at_the_pools_file(self) -> None:
        """A relative credential path in the pools file begins in that file's folder."""
        self.write("pools/p.json", {"sample-oauth": [{"SAMPLE_CREDS_FILE_PATH": "c.json"}]})
        self.write("pools/c.json", {})
        account = only(self.load({"provider_pools_file_path": "pools/p.json"}), "sample-oauth")
        self.assertEqual(account.settings.sample_creds_file_path, self.cwd / "pools/c.json")

    def test_strange_keys(self) -> None:
        """Unknown keys and keys without effect are told of; bookkeeping is left alone."""
        entry = {
            "OPENAI_API_KEY": "sk-a",
            "OPENAI_API_KYE": "x",
            "SAMPLE_PROJECT": "p",
            "isHealthy": False,
            "errorCount": 3,
            "lastUsed": None,
            "_lastSelectionSeq": 9,
        }
        found = self.load(pools={"openai-custom": [entry]})
        self.assertWarned(found, "openai-custom[0].", "OPENAI_API_KYE", '"OPENAI_API_KEY"?')
        self.assertWarned(found, "SAMPLE_PROJECT", "no effect in an account of openai-custom")
        self.assertEqual(len(found.warnings), 2)


class PoolsFileTests(ConfigTestCase):
    """The file itself."""

    def test_default_names(self) -> None:
        """Without the key, provider_pools.json and configs/provider_pools.json are looked for."""
        self.write("configs/provider_pools.json", {"openai-custom": [{"OPENAI_API_KEY": "sk-a"}]})
        self.assertEqual(only(self.load()).secrets, ("sk-a",))
        self.write("provider_pools.json", {"openai-custom": [{"OPENAI_API_KEY": "sk-b"}]})
        self.assertEqual(only(self.load()).secrets, ("sk-b",))

    def test_missing(self) -> None:
        """A missing file that was named is a warning."""
        found = self.load({"PROVIDER_POOLS_FILE_PATH": "p.json"})
        self.assertWarned(found, "PROVIDER_POOLS_FILE_PATH", str(self.cwd / "p.json"))

    def test_malformed(self) -> None:
        """A malformed one is a fault, beside those of config.json."""
        found = self.faults({"port": "x"}, pools="{")
        self.assertEqual(len(found), 2)
        self.assertIn("provider_pools.json: line 1, column 2", "\n".join(found))

    def test_shapes(self) -> None:
        """Every provider has a list of accounts in braces."""
        self.assertFault({}, "openai-custom: is an object", pools={"openai-custom": {}})
        self.assertFault({}, 'openai-custom[0]: is "x"', pools={"openai-custom": ["x"]})
        found = self.load(pools={"openai-custom": None})
        self.assertEqual(found.providers["openai-custom"].reason, "no openai_api_key")

    def test_unknown_providers(self) -> None:
        """A provider nobody knows is warned of and ignored."""
        found = self.load(pools={"openai-costum": [{}], "_comment": "x"})
        self.assertWarned(found, "openai-costum", 'did you mean "openai-custom"?')
        self.assertEqual(list(found.providers), ["sandbox"])

    def test_unbuilt_providers(self) -> None:
        """One that is not built yet is kept with its reason, its keys checked."""
        pools = {"forward-api-x": [{"FORWARD_API_KEY": "sk-a"}]}
        provider = self.load(pools=pools).providers["forward-api-x"]
        self.assertEqual((provider.base, provider.accounts), ("forward-api", ()))
        self.assertEqual(provider.reason, "it is not built yet")
        pools = {"forward-api": [{"FORWARD_BASE_URL": "nowhere"}]}
        self.assertFault({}, "forward-api[0].FORWARD_BASE_URL", pools=pools)


class GroupedTests(ConfigTestCase):
    """Names such as openai-custom-b."""

    def test_inherits(self) -> None:
        """A grouped provider is its base with what it sets itself."""
        found = self.load(
            {"openai_api_key": "sk-all", "openai_base_url": "https://a.example/v1"},
            pools={"openai-custom-b": [{"openai_flavour": "fancy"}]},
        )
        self.assertEqual(found.providers["openai-custom-b"].base, "openai-custom")
        account = only(found, "openai-custom-b")
        self.assertEqual(account.provider, "openai-custom-b")
        self.assertEqual(account.settings.openai_base_url, "https://a.example/v1")
        self.assertEqual(account.settings.openai_flavour, "Fancy")
        self.assertEqual(found.warnings, ())

    def test_named_only(self) -> None:
        """It may be named in model_provider alone."""
        found = self.load({"model_provider": "openai-custom-b", "openai_api_key": "sk-a"})
        self.assertEqual(found.default_providers, ("openai-custom-b",))
        self.assertEqual(only(found, "openai-custom-b").secrets, ("sk-a",))

    def test_longest_base(self) -> None:
        """The longest fitting base counts."""
        longer = FakeFactory("openai-custom-x", NoSettings, needs_credential=False)
        found = self.load({"model_provider": "openai-custom-x-1"}, factories=(*FACTORIES, longer))
        self.assertEqual(found.providers["openai-custom-x-1"].base, "openai-custom-x")

    def test_preset(self) -> None:
        """A preset's URL comes with the name; only the account's own beats it."""
        body = {"openai_base_url": "https://a.example/v1"}
        name = "openai-custom-kimi"
        found = self.load(body, pools={name: [{"OPENAI_API_KEY": "sk-k"}]})
        self.assertEqual(only(found, name).settings.openai_base_url, "https://api.kimi.example/v1")
        entry = {"OPENAI_API_KEY": "sk-k", "OPENAI_BASE_URL": "https://b.example/v1"}
        found = self.load(body, pools={name: [entry]})
        self.assertEqual(only(found, name).settings.openai_base_url, "https://b.example/v1")
        found = self.load({}, pools={name: [{}]})
        self.assertEqual(found.providers[name].reason, "no openai_api_key")

    def test_key_for_another_host(self) -> None:
        """A global key that would go to another host than its own is warned of."""
        found = self.load({"openai_api_key": "sk-all", "model_provider": "openai-custom-kimi"})
        self.assertWarned(found, "openai-custom-kimi: sends the key", "api.kimi.example")
        found = self.load({"openai_api_key": "sk-all"}, pools={"openai-custom": [{}]})
        self.assertEqual(found.warnings, ())

    def test_bad_names(self) -> None:
        """A name that could not stand in a path or before a model is a fault."""
        self.assertFault({"model_provider": "openai-custom-a/b"}, "model_provider: ")
        self.assertFault({}, "cannot be a provider's name", pools={"openai-custom-a:b": [{}]})


class ProxyTests(ConfigTestCase):
    """proxy_url."""

    def test_global_and_own(self) -> None:
        """The global proxy is for all, an account's own beats it."""
        body = {"proxy_url": "socks5://127.0.0.1:1", "openai_api_key": "sk-a"}
        found = self.load(body, pools={"openai-custom": [{"PROXY_URL": "http://127.0.0.1:2"}]})
        self.assertEqual(only(found).proxy, "http://127.0.0.1:2")
        self.assertEqual(only(found, "openaiResponses-custom").proxy, "socks5://127.0.0.1:1")
        self.assertEqual(found.proxy_url, "socks5://127.0.0.1:1")

    def test_only_for_some(self) -> None:
        """proxy_enabled_providers narrows it, by name or by kind."""
        body = {"PROXY_URL": "http://h:1", "openai_api_key": "sk-a"}
        found = self.load({**body, "PROXY_ENABLED_PROVIDERS": ["openai-custom"]})
        self.assertEqual(only(found).proxy, "http://h:1")
        self.assertIsNone(only(found, "openaiResponses-custom").proxy)
        found = self.load({**body, "PROXY_ENABLED_PROVIDERS": []})
        self.assertIsNone(only(found).proxy)


class ExampleTests(ConfigTestCase):
    """The example files that are shipped."""

    def test_they_are_accepted(self) -> None:
        """The shipped examples have no fault and no key that is unknown to the real providers."""
        folder = ROOT / "etc" / "aiclient2api"
        self.write("custom_models.json", (folder / "custom_models.json.example").read_text())
        found = self.load(
            json.loads((folder / "config.json.example").read_text()),
            pools=json.loads((folder / "provider_pools.json.example").read_text()),
            factories=list(getPlugins(IProviderFactory, aiclient2api.providers)),
        )
        self.assertEqual(found.warnings, ())
        self.assertIsNone(found.keys)
        self.assertEqual(len(found.providers["openai-custom"].accounts), 2)
        self.assertEqual([one.id for one in found.custom_models], ["quick"])
        for name in ("openai-custom-local", "openai-custom-kimi", "gemini-custom"):
            self.assertIsNone(found.providers[name].reason, name)
