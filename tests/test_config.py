"""
The configuration as a whole: what is found, what wins, and what is told at once.

Every fault is met before anything starts, in a sentence with the key and the remedy.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiclient2api.config import (
    FLAGS,
    FetchImages,
    Limits,
    StoredResponses,
    Timeouts,
    load,
    report,
)
from aiclient2api.config.accounts import keys_of, kinds_of
from aiclient2api.config.keys import (
    ACCOUNT_KEYS,
    FETCH_KEYS,
    KEYS,
    LIMIT_KEYS,
    STORED_KEYS,
    TIMEOUT_KEYS,
)
from aiclient2api.config.later_keys import UNBUILT
from aiclient2api.errors import ConfigurationError
from aiclient2api.options import provider_factories
from tests.config_fakes import FACTORIES, SANDBOX, ConfigTestCase

SEED = Path(__file__).resolve().parent / "fixtures" / "seed"


class DefaultTests(ConfigTestCase):
    """What holds when nobody configured anything."""

    def test_nothing_configured_starts(self) -> None:
        """Without any file the gateway listens on loopback and answers from the sandbox."""
        found = self.load()
        self.assertIsNone(found.source)
        self.assertEqual(found.listen, ("tcp:3000:interface=127.0.0.1",))
        self.assertIsNone(found.keys)
        self.assertEqual(found.default_providers, ("sandbox",))
        self.assertEqual(list(found.providers), ["sandbox"])
        self.assertEqual(found.warnings, ())
        self.assertEqual(found.max_retries, 3)
        self.assertEqual(found.base_delay, 1.0)
        self.assertEqual(found.timeouts, Timeouts())
        self.assertEqual(found.limits, Limits())
        self.assertEqual(found.fetch_images, FetchImages(False, 20 * 1024 * 1024, 15))
        week, kept, item = 7 * 86400.0, 256 * 1024 * 1024, 16 * 1024 * 1024
        self.assertEqual(found.stored_responses, StoredResponses(week, kept, item))
        self.assertEqual(found.prompt_log_mode, "none")
        self.assertEqual(found.prompt_log_base_name, self.cwd / "prompt_log")
        self.assertEqual(found.cors_origins, ())
        self.assertIsNone(found.system_prompt)
        self.assertIsNone(found.fetch_system_prompt)
        self.assertIsNone(found.proxy_url)
        self.assertEqual(found.log_level, "info")

    def test_table_and_values_agree(self) -> None:
        """The defaults in the table of keys are those that are used."""
        self.assertEqual(Timeouts(), Timeouts(**{key.name: key.default for key in TIMEOUT_KEYS}))
        self.assertEqual(Limits(), Limits(**{key.name: key.default for key in LIMIT_KEYS}))
        fetched = FetchImages(**{key.name: key.default for key in FETCH_KEYS})
        self.assertEqual(FetchImages(), fetched)
        stored = StoredResponses(**{key.name: key.default for key in STORED_KEYS})
        self.assertEqual(StoredResponses(), stored)

    def test_an_empty_file_is_the_same(self) -> None:
        """A file with nothing in it changes nothing but the source."""
        found = self.load({})
        self.assertEqual(found.source, self.cwd / "config.json")
        self.assertEqual(found.listen, ("tcp:3000:interface=127.0.0.1",))

    def test_every_known_name_is_known(self) -> None:
        """Providers that are built and those that are not are both known by name."""
        known = self.load().known_providers
        self.assertEqual(known[:4], tuple(factory.name for factory in FACTORIES))
        self.assertIn("gemini-antigravity", known)
        self.assertEqual(len(known), len(set(known)))

    def test_nothing_is_written(self) -> None:
        """Reading the configuration leaves no trace."""
        self.load({"state_dir": "state", "prompt_log_mode": "file", "fetch_system_prompt": True})
        self.assertEqual({path.name for path in self.cwd.iterdir()}, {"config.json", "home"})


class SeedTests(ConfigTestCase):
    """The example files that users already have."""

    def test_the_seed_starts(self) -> None:
        """The seed's own two files, as they are, start the gateway."""
        for name in ("config.json", "provider_pools.json"):
            shutil.copy(SEED / name, self.cwd / name)
        found = self.load(factories=provider_factories())
        self.assertEqual(found.listen, ("tcp:3000:interface=127.0.0.1",))
        self.assertEqual(found.keys, ("your-secret-key",))
        self.assertEqual(found.default_providers, ("gemini-cli-oauth",))
        reason = found.providers["gemini-cli-oauth"].reason
        assert reason is not None
        self.assertIn("gemini_oauth_creds_file_path", reason)
        self.assertEqual(found.providers["openai-custom"].accounts[0].id, "uuid-3")
        self.assertEqual(found.max_retries, 3)
        self.assertEqual(found.base_delay, 1.0)
        self.assertEqual(found.prompt_log_mode, "file")
        self.assertIsNone(found.system_prompt)
        self.assertWarned(found, "required_api_key", "published")
        self.assertWarned(found, "system_prompt_file_path", "there is no file")
        self.assertWarned(found, "gemini-cli-oauth[0].GEMINI_OAUTH_CREDS_FILE_PATH", "creds1.json")
        self.assertWarned(found, "gemini-cli-oauth[1].GEMINI_OAUTH_CREDS_FILE_PATH", "creds2.json")
        self.assertEqual(found.renew_early, 900.0)

    def test_node_spelling_means_the_same(self) -> None:
        """The same configuration in the Node version's capitals gives the same settings."""
        body = json.loads((SEED / "config.json").read_text())
        pools = json.loads((SEED / "provider_pools.json").read_text())
        factories = provider_factories()
        snake = self.load(body, pools=pools, factories=factories)
        capitals = {key.upper(): value for key, value in body.items()}
        capitals["SERVER_PORT"] = capitals.pop("PORT")
        node = self.load(capitals, pools=pools, factories=factories)
        for name in ("listen", "keys", "default_providers", "providers", "max_retries"):
            self.assertEqual(getattr(node, name), getattr(snake, name), name)
        self.assertEqual(len(node.warnings), len(snake.warnings))

    def test_camel_case_means_the_same(self) -> None:
        """A key may be written in camelCase as well."""
        found = self.load({"requiredApiKey": "sk-test", "serverPort": 3001, "logLevel": "debug"})
        self.assertEqual(found.keys, ("sk-test",))
        self.assertEqual(found.listen, ("tcp:3001:interface=127.0.0.1",))
        self.assertEqual(found.log_level, "debug")
        self.assertEqual(found.warnings, ())


class LookupTests(ConfigTestCase):
    """Which file is read."""

    def test_order(self) -> None:
        """--config, CONFIG_FILE, ./config.json, ./configs/config.json, then the system's."""
        self.write("system/config.json", {"port": 1})
        self.assertEqual(self.load().source, self.cwd / "system/config.json")
        self.write("configs/config.json", {"port": 2})
        self.assertEqual(self.load().source, self.cwd / "configs/config.json")
        self.write("config.json", {"port": 3})
        self.assertEqual(self.load().source, self.cwd / "config.json")
        self.write("env.json", {"port": 4})
        environ = {"CONFIG_FILE": "env.json"}
        self.assertEqual(self.load(environ=environ).source, self.cwd / "env.json")
        self.write("flag.json", {"port": 5})
        found = self.load(flags={"config": "flag.json"}, environ=environ)
        self.assertEqual(found.source, self.cwd / "flag.json")
        self.assertEqual(found.listen, ("tcp:5:interface=127.0.0.1",))

    def test_a_named_file_must_exist(self) -> None:
        """A file named by hand and missing is a fault, with its whole path."""
        self.assertFault({}, "--config:", str(self.cwd / "a.json"), flags={"config": "a.json"})
        self.assertFault({}, "CONFIG_FILE:", "b.json", environ={"CONFIG_FILE": "b.json"})

    def test_home_is_expanded(self) -> None:
        """~ is the home folder of whoever runs it."""
        self.write("home/mine.json", {})
        found = self.load(flags={"config": "~/mine.json"})
        self.assertEqual(found.source, self.home / "mine.json")

    def test_empty_environment_variable_is_none(self) -> None:
        """An empty CONFIG_FILE names no file."""
        self.assertIsNone(self.load(environ={"CONFIG_FILE": ""}).source)


class FileFaultTests(ConfigTestCase):
    """Files that cannot be read."""

    def test_malformed(self) -> None:
        """A slip in the JSON is told with file, line and column."""
        self.assertFault('{\n  "port": 3000,\n  "host" "x"\n}', "config.json: line 3, column 10")
        self.assertFault("", "config.json: line 1, column 1")

    def test_no_object(self) -> None:
        """A file that holds something else than an object is told so."""
        self.assertFault("[1]", "config.json: is no JSON object")
        self.assertFault("null", "config.json: is no JSON object")

    def test_repeated_keys(self) -> None:
        """A key written twice is a fault, wherever it stands."""
        self.assertFault('{"port": 1, "port": 1}', 'config.json: "port" is written twice')
        self.assertFault(
            '{"timeouts": {"idle": 1, "idle": 2}}', 'config.json: timeouts."idle" is written twice'
        )
        self.assertFault(
            {},
            'provider_pools.json: openai-custom[1]."uuid" is written twice',
            pools='{"openai-custom": [{}, {"uuid": "a", "uuid": "b"}]}',
        )

    def test_repeated_keys_hide_nothing(self) -> None:
        """The faults beside a repeated key, and those of the accounts file, are told too."""
        found = self.faults('{"port": 1, "port": 1, "host": 1.5}', pools="{")
        self.assertEqual(len(found), 3, found)

    def test_two_spellings_that_disagree(self) -> None:
        """One key in two spellings is a fault if they say different things."""
        self.assertFault({"port": 1, "SERVER_PORT": 2}, '"port" and "SERVER_PORT"', "keep one")
        self.assertEqual(self.load({"port": 1, "PORT": 1}).listen[0][:6], "tcp:1:")

    def test_encoding(self) -> None:
        """A file that is not UTF-8 is told so; a byte order mark does no harm."""
        self.assertFault(b'{"host": "\xff"}', "config.json: byte 10 is not UTF-8")
        self.assertEqual(self.load(b'\xef\xbb\xbf{"port": 1}').listen[0][:6], "tcp:1:")

    def test_a_folder_is_no_file(self) -> None:
        """A folder in the file's place is told of, not crashed upon."""
        (self.cwd / "config.json").mkdir()
        self.assertFault(None, "config.json: cannot be read")

    def test_strange_numbers_and_depth(self) -> None:
        """NaN, endless numbers and bottomless nesting are faults."""
        self.assertFault('{"port": NaN}', "NaN is no JSON number")
        self.assertFault('{"port": ' + "9" * 5000 + "}", "has a number that cannot be used")
        self.assertFault('{"x": ' + "[" * 100 + "]" * 100 + "}", "nested too deep")
        self.assertFault('{"x": ' + "[" * 9999 + "]" * 9999 + "}", "nested too deep")

    def test_a_broken_file_blames_nobody_else(self) -> None:
        """If config.json cannot be read, an accounts file it may not mean is not read."""
        self.assertFault("{", "config.json: line 1", pools="[")


class FaultTests(ConfigTestCase):
    """Values of the wrong kind."""

    def test_all_at_once(self) -> None:
        """Every fault of both files and of the flags is told in one go."""
        found = self.faults(
            {
                "port": "abc",
                "timeouts": {"connect": "abc", "idle": -1},
                "openai_base_url": "api.example.com",
                "system_prompt_mode": "prepend",
                "cron_refresh_token": 3,
            },
            pools={"openai-custom": [{"isDisabled": "maybe"}, 7], "sample-oauth": {}},
            flags={"request_max_retries": "many"},
        )
        told = "\n".join(found)
        for where in (
            "config.json: port: ",
            "config.json: timeouts.connect: ",
            "config.json: timeouts.idle: ",
            "config.json: openai_base_url: ",
            "config.json: system_prompt_mode: ",
            "config.json: cron_refresh_token: ",
            "provider_pools.json: openai-custom[0].isDisabled: ",
            "provider_pools.json: openai-custom[1]: ",
            "provider_pools.json: sample-oauth: ",
            "--request-max-retries: ",
        ):
            self.assertIn(where, told)
        self.assertEqual(len(found), 10, told)

    def test_the_sentence(self) -> None:
        """A fault names file and key path, says what is wrong and what to write."""
        self.assertEqual(
            self.faults({"timeouts": {"connect": "abc"}}),
            ('config.json: timeouts.connect: is "abc"; write a number of seconds, such as 10',),
        )

    def test_objects(self) -> None:
        """timeouts and limits must be objects, and their keys are checked."""
        self.assertFault({"timeouts": 5}, "config.json: timeouts: is 5", "object")
        self.assertFault({"limits": [1]}, "config.json: limits: is a list")
        self.assertFault({"limits": {"body_bytes": 0}}, "limits.body_bytes: is 0", "from 1 to")
        self.assertWarned(self.load({"timeouts": {"idel": 5}}), 'timeouts."idel"', '"idle"')
        self.assertFault({"limits": {"in_flight": -1}}, "limits.in_flight: is -1", "from 0 to")
        self.assertWarned(
            self.load({"limits": {"connections": 5, "in_flight": 5}}), "not more than in_flight (5)"
        )
        self.assertWarned(self.load({"limits": {"in_flight": 0}}), "in_flight (any number)")
        for harmless in ({"connections": 0, "in_flight": 0}, {"in_flight": 4095}):
            self.assertEqual(self.load({"limits": harmless}).warnings, ())

    def test_values_arrive(self) -> None:
        """Numbers, also in quotes, reach the settings in their units."""
        found = self.load(
            {
                "timeouts": {"connect": "2.5", "total": 0, "firstEvent": 9, "head": 3},
                "limits": {"body_bytes": "1024", "perKey": 7, "memory_bytes": 0},
                "request_max_retries": "0",
                "request_base_delay": 250,
            }
        )
        self.assertEqual(found.timeouts, Timeouts(connect=2.5, total=0, first_event=9, head=3))
        self.assertEqual(found.limits, Limits(body_bytes=1024, per_key=7, memory_bytes=0))
        self.assertEqual((found.max_retries, found.base_delay), (0, 0.25))

    def test_null_is_absent(self) -> None:
        """null is as good as leaving the key out."""
        found = self.load({key.name: None for key in KEYS})
        self.assertEqual(found.warnings, ())
        self.assertIsNone(found.keys)

    def test_unknown_keys(self) -> None:
        """An unknown key is named with the one that was likely meant, and changes nothing."""
        found = self.load({"prot": 1, "REQUIRED_API_KYE": "x", "zzzzzz": 1, "_comment": "hi"})
        self.assertWarned(found, '"prot"', 'did you mean "port"?')
        self.assertWarned(found, '"REQUIRED_API_KYE"', 'did you mean "REQUIRED_API_KEY"?')
        self.assertWarned(found, '"zzzzzz" is no key that is known')
        self.assertEqual(len(found.warnings), 3)

    def test_secrets_stay_secret(self) -> None:
        """No key is in a fault, a warning, the settings' repr or the report."""
        secret = "sk-0123abcd"
        # A path or a host is told as it is: nobody could find the file otherwise.
        told = ("path", "_dir", "host", "prompt_log_base_name", "fetch_system_prompt")
        names = [key.name for key in KEYS]
        names += [name for factory in FACTORIES for name in factory.settings.__annotations__]
        for name in names:
            try:
                found = self.load({name: secret})
            except ConfigurationError as error:
                self.assertNotIn(secret, str(error), name)
                continue
            if not name.endswith(told):
                self.assertNotIn(secret, repr(found), name)
                self.assertNotIn(secret, report(found), name)
                self.assertNotIn(secret, repr(found.providers), name)

    def test_a_proxy_password_stays_secret(self) -> None:
        """The password in a proxy's URL is in no repr and no sentence."""
        found = self.load({"proxy_url": "http://me:hush@127.0.0.1:1"})
        self.assertEqual(found.proxy_url, "http://me:hush@127.0.0.1:1")
        self.assertNotIn("hush", repr(found) + report(found))
        self.assertNotIn("hush", str(self.faults({"proxy_url": "ftp://me:hush@h"})))
        self.assertNotIn("hush", str(self.faults({"openai_base_url": "http://me:hush@h/v1"})))


class PrecedenceTests(ConfigTestCase):
    """Flags beat the file; the environment has its place."""

    def test_flags_win(self) -> None:
        """What is said on the command line wins over the file."""
        found = self.load(
            {"port": 1, "required_api_key": "sk-file", "openai_api_key": "sk-a", "project_id": "a"},
            flags={
                "port": "2",
                "required_api_key": "sk-flag",
                "openai_api_key": "sk-b",
                "host": None,
                "listen": [],
            },
        )
        self.assertEqual(found.listen, ("tcp:2:interface=127.0.0.1",))
        self.assertEqual(found.keys, ("sk-flag",))
        self.assertEqual(found.providers["openai-custom"].accounts[0].secrets, ("sk-b",))

    def test_every_flag_is_taken(self) -> None:
        """Each flag stands for a key that is known."""
        known = {key.name for key in KEYS} | {"config", "openai_api_key", "openai_base_url"}
        known |= {"claude_api_key", "claude_base_url"}
        known |= {name for fields in UNBUILT.values() for name, _ in fields}
        known |= {key.name for key in keys_of(kinds_of(provider_factories()))}
        self.assertEqual({flag.key for flag in FLAGS} - known, set())
        self.assertEqual(len({flag.name for flag in FLAGS}), len(FLAGS))

    def test_relative_paths(self) -> None:
        """A relative path is taken from its file's folder if it is there, else from the start."""
        self.write("etc/config.json", {"system_prompt_file_path": "prompt.txt"})
        self.write("prompt.txt", "from the start")
        flags = {"config": "etc/config.json"}
        found = self.load(flags=flags).system_prompt
        self.assertEqual(found.text if found else None, "from the start")
        self.write("etc/prompt.txt", "from the folder")
        found = self.load(flags=flags).system_prompt
        self.assertEqual(found.text if found else None, "from the folder")
        found = self.load(flags={**flags, "system_prompt_file_path": "prompt.txt"}).system_prompt
        self.assertEqual(found.text if found else None, "from the start")

    def test_log_level(self) -> None:
        """--log-level, AICLIENT2API_LOG, RUST_LOG, then the file decide how much is logged."""
        file = {"LOG_LEVEL": "error"}
        rust = {"RUST_LOG": "info,aiclient2api_rust=debug,hyper=trace"}
        ours = {**rust, "AICLIENT2API_LOG": "Warning"}
        self.assertEqual(self.load(file).log_level, "error")
        self.assertEqual(self.load(file, environ=rust).log_level, "debug")
        self.assertEqual(self.load(file, environ={"RUST_LOG": "warn"}).log_level, "warn")
        self.assertEqual(self.load(file, environ={"RUST_LOG": "hyper=debug"}).log_level, "error")
        self.assertEqual(self.load(file, environ=ours).log_level, "warn")
        flags = {"log_level": "critical"}
        self.assertEqual(self.load(file, environ=ours, flags=flags).log_level, "critical")
        self.assertFault(file, "AICLIENT2API_LOG", environ={"AICLIENT2API_LOG": "loud"})
        self.assertFault(file, "--log-level", flags={"log_level": "loud"})
        self.assertWarned(self.load(file, environ={"RUST_LOG": "loud"}), "RUST_LOG")

    def test_state_dir(self) -> None:
        """State is kept where it was said, else where systemd, root or a user keep it."""
        xdg = {"XDG_STATE_HOME": "/xdg"}
        systemd = {**xdg, "STATE_DIRECTORY": "/run/ours:/run/other"}
        self.assertEqual(self.load().state_dir, self.home / ".local/state/aiclient2api")
        self.assertEqual(self.load(environ=xdg).state_dir, Path("/xdg/aiclient2api"))
        self.assertEqual(self.load(environ=xdg, uid=0).state_dir, Path("/var/lib/aiclient2api"))
        self.assertEqual(self.load(environ=systemd, uid=0).state_dir, Path("/run/ours"))
        self.assertEqual(self.load({"state_dir": "s"}, environ=systemd).state_dir, self.cwd / "s")
        found = self.load(flags={"state_dir": "~/f"}, environ=systemd)
        self.assertEqual(found.state_dir, self.home / "f")


class ProviderChoiceTests(ConfigTestCase):
    """model_provider."""

    def test_forms(self) -> None:
        """One name, names with commas and a list are all understood; auto is a word apart."""
        for given_names in ("openai-custom, sandbox,auto", ["openai-custom", "auto", "sandbox"]):
            found = self.load({"model_provider": given_names, "openai_api_key": "sk-test"})
            self.assertEqual(found.default_providers, ("openai-custom", "sandbox"))
            self.assertTrue(found.auto)
            self.assertEqual(found.warnings, ())

    def test_unknown_names(self) -> None:
        """An unknown name is warned of and ignored."""
        found = self.load({"model_provider": "opena-custom,sandbox"})
        self.assertEqual(found.default_providers, ("sandbox",))
        self.assertWarned(found, "model_provider", "opena-custom", 'did you mean "openai-custom"?')

    def test_absent(self) -> None:
        """Without the key the first provider with a credential is the default."""
        found = self.load({"openai_api_key": "sk-test"})
        self.assertEqual(found.default_providers, ("openai-custom",))
        self.write("creds.json", {})
        found = self.load({"sample_creds_file_path": "creds.json", "model_provider": "auto"})
        self.assertEqual(found.default_providers, ("sample-oauth",))
        self.assertTrue(found.auto)

    def test_known_but_not_built(self) -> None:
        """A provider that is not built yet is kept, with the reason, and told of."""
        found = self.load({"model_provider": "gemini-antigravity"})
        self.assertEqual(found.default_providers, ("gemini-antigravity",))
        provider = found.providers["gemini-antigravity"]
        self.assertEqual((provider.accounts, provider.reason), ((), "it is not built yet"))
        self.assertWarned(found, "gemini-antigravity", "not built yet")

    def test_named_without_a_key(self) -> None:
        """A provider that is named but has no key says which key it needs."""
        found = self.load({"model_provider": "openai-custom"})
        self.assertEqual(found.providers["openai-custom"].reason, "no openai_api_key")
        self.assertWarned(found, "openai-custom: cannot be used: no openai_api_key")


class SystemPromptTests(ConfigTestCase):
    """The operator's system prompt."""

    def test_read_at_load(self) -> None:
        """The file's text and the mode are in the settings."""
        self.write("p.txt", "Be brief.\n")
        found = self.load({"system_prompt_file_path": "p.txt", "system_prompt_mode": "OVERWRITE"})
        assert found.system_prompt is not None
        self.assertEqual(found.system_prompt.text, "Be brief.\n")
        self.assertEqual(found.system_prompt.mode, "overwrite")
        self.assertNotIn("brief", repr(found))

    def test_default_name(self) -> None:
        """input_system_prompt.txt is taken if it is there; nobody is told if it is not."""
        self.assertEqual(self.load().warnings, ())
        self.write("input_system_prompt.txt", "Hi")
        found = self.load().system_prompt
        self.assertEqual((found.text, found.mode) if found else None, ("Hi", "append"))

    def test_blank_is_none(self) -> None:
        """A file with nothing but white space is no system prompt."""
        self.write("p.txt", " \n\t")
        self.assertIsNone(self.load({"system_prompt_file_path": "p.txt"}).system_prompt)

    def test_missing_and_unreadable(self) -> None:
        """A missing file is a warning, one that is not UTF-8 a fault."""
        found = self.load({"system_prompt_file_path": "p.txt"})
        self.assertWarned(found, "system_prompt_file_path", str(self.cwd / "p.txt"))
        self.write("p.txt", b"\xff")
        self.assertFault({"SYSTEM_PROMPT_FILE_PATH": "p.txt"}, "SYSTEM_PROMPT_FILE_PATH", "UTF-8")

    def test_replacements(self) -> None:
        """Replacements work with and without a prompt; each is checked."""
        rules = [{"old": "a", "new": "b"}, {"old": "c"}]
        found = self.load({"SYSTEM_PROMPT_REPLACEMENTS": rules}).system_prompt
        assert found is not None
        self.assertIsNone(found.text)
        self.assertEqual(found.replacements, (("a", "b"), ("c", "")))
        faults = self.faults({"system_prompt_replacements": [{"old": ""}, 3, {"old": []}]})
        self.assertEqual(len(faults), 4, faults)
        self.assertIn("config.json: system_prompt_replacements[1]: is 3", "\n".join(faults))
        self.assertFault({"system_prompt_replacements": {}}, "write a list")


NAMES = st.sampled_from([key.name for key in (*KEYS, *ACCOUNT_KEYS)]) | st.sampled_from(
    ["openai_api_key", "openai_base_url", "openai_flavour", "sample_creds_file_path", "project_id"]
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(
        ["3000", "::", "http://[", "tcp:1", "~", "a,b", "auto", "http://h:99999", ""]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(NAMES | st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
OBJECTS = st.dictionaries(NAMES | st.text(max_size=8), VALUES, max_size=6)


class AnythingTests(ConfigTestCase):
    """Whatever stands in the files, the answer is settings or faults."""

    @settings(
        max_examples=150,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(OBJECTS, OBJECTS, st.dictionaries(NAMES, st.text(max_size=8), max_size=3))
    def _check(self, body: object, pools: object, flags: dict[str, object]) -> None:
        (self.cwd / "config.json").write_text(json.dumps(body))
        (self.cwd / "provider_pools.json").write_text(json.dumps({"openai-custom": [pools]}))
        try:
            found = load(
                flags=flags,
                environ={"HOME": str(self.home)},
                cwd=self.cwd,
                factories=(*FACTORIES, SANDBOX),
                system_config=self.cwd / "none.json",
            )
        except ConfigurationError as error:
            self.assertTrue(error.faults)
            "\n".join(error.faults).encode()
        else:
            report(found).encode()

    def test_anything(self) -> None:
        """No JSON object makes reading the configuration fail in a way nobody foresaw."""
        self._check()


class StartTests(ConfigTestCase):
    """What would only be found out at the start, or after it."""

    def test_a_log_needs_its_folder(self) -> None:
        """Not found out at the first request."""
        log = {"prompt_log_mode": "file", "prompt_log_base_name": "/nowhere/at/all/log"}
        self.assertFault(log, "prompt_log_base_name: there is no folder /nowhere/at/all")

    def test_no_other_provider_than_the_one_that_was_meant(self) -> None:
        """A lone typo is a fault; one among several names is a warning."""
        self.assertFault({"model_provider": "openai-costum"}, "names no provider there is")
        self.write("config.json", {"model_provider": ["sandbox", "openai-costum"]})
        settings = self.load()
        self.assertIn("openai-custom", "".join(settings.warnings))
