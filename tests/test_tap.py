"""The composition root: options, faults before the fork, and the world they build."""

from __future__ import annotations

import contextlib
import io
import json
import os
from pathlib import Path

from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.python import usage
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.config import FLAGS
from aiclient2api.errors import ConfigurationError, Unauthorized
from aiclient2api.logfile import PREFIX_VARIABLE, VARIABLE
from aiclient2api.options import Options
from aiclient2api.tap import World


class OptionsTests(SynchronousTestCase):
    """What ``twistd aiclient2api`` takes, and when it says no."""

    def setUp(self) -> None:
        """Use an empty directory and environment."""
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.patch(os, "environ", {})

    def options(self, *arguments: str) -> Options:
        """Parse *arguments*."""
        options = Options(environ={"HOME": str(self.folder)}, cwd=self.folder)
        options.parent = usage.Options()
        options.parent.update({"logger": None, "logfile": None, "umask": None, "nodaemon": False})
        options.parseOptions(list(arguments))
        return options

    def test_every_flag_is_an_option(self) -> None:
        """The table of flags is the only place that lists them."""
        shown = str(Options(environ={}, cwd=self.folder))
        for flag in FLAGS:
            self.assertIn(flag.name, shown)

    def test_flags_beat_the_file(self) -> None:
        """And several listeners may be named."""
        (self.folder / "config.json").write_text(json.dumps({"port": 4000}))
        settings = self.options("--port", "5000").settings
        assert settings is not None
        self.assertIn("tcp:5000:interface=127.0.0.1", settings.listen)
        settings = self.options("--listen", "tcp:1", "--listen", "unix:/x").settings
        assert settings is not None
        self.assertEqual(settings.listen, ("tcp:1", "unix:/x"))

    def test_faults_end_the_start_before_anything_forks(self) -> None:
        """They are printed, one a line, without the usage."""
        (self.folder / "config.json").write_text('{"port": "abc", "host": []}')
        err = io.StringIO()
        with contextlib.redirect_stderr(err):
            ended = self.assertRaises(SystemExit, self.options)
        self.assertEqual(ended.code, 2)
        self.assertIn("port", err.getvalue())
        self.assertIn("host", err.getvalue())
        self.assertNotIn("Usage", err.getvalue())

    def test_the_systems_log(self) -> None:
        """syslog gets what the log file would, without secrets, under twistd's prefix."""
        options = Options(environ={"HOME": str(self.folder)}, cwd=self.folder)
        options.parent = usage.Options()
        options.parent.update({"logger": None, "syslog": True, "prefix": "llm", "nodaemon": False})
        options.parseOptions([])
        self.assertEqual(options.parent["logger"], "aiclient2api.logfile.syslog")
        self.assertEqual(os.environ[PREFIX_VARIABLE], "llm")
        options.parent.update({"logger": "mine.observer"})
        options.parseOptions([])
        self.assertEqual(options.parent["logger"], "mine.observer")

    def test_a_console_log_in_a_daemon_is_warned_of(self) -> None:
        """It would be lost without a word."""
        (self.folder / "config.json").write_text('{"prompt_log_mode": "console"}')
        err = io.StringIO()
        with contextlib.redirect_stderr(err):
            self.options()
        self.assertIn("prompt_log_mode is console", err.getvalue())

    def test_a_daemon_logs_to_a_private_file_that_is_not_rotated(self) -> None:
        """Unless the user chose a logger or a file."""
        twistd = self.options().parent
        assert twistd is not None
        self.assertEqual(twistd["logger"], "aiclient2api.logfile.observer")
        self.assertEqual(twistd["umask"], 0o077)
        self.assertEqual(os.environ[VARIABLE], str(self.folder / "twistd.log"))


class Still(Clock):
    """A reactor that never runs: what is put into a thread stays there."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = ThreadPool(0, 1)

    def callWhenRunning(self, call: object, *args: object) -> None:
        """Never call."""

    def getThreadPool(self) -> ThreadPool:
        """Return a pool that was not started."""
        return self.pool


class WorldTests(SynchronousTestCase):
    """The parts, wired together."""

    def world(self, **config: object) -> World:
        """Build a world that is not started."""
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        # What is stored is written in a thread, which a clock does not run.
        config = {"stored_responses": {"ttl": 0}, **config}
        (self.folder / "config.json").write_text(json.dumps(config))
        options = Options(environ={"HOME": str(self.folder)}, cwd=self.folder)
        options["state-dir"] = str(self.folder / "state")
        return World(
            reactor=Still(),
            settings=options.load(),
            load=options.load,
            environ=options.environ,
            factories=options.factories,
        )

    def test_without_a_key_one_is_made_and_shown_once(self) -> None:
        """The next start says where it is, and shows a curl that reads it."""
        world = self.world()
        world.open()
        key = (self.folder / "state" / "api_key").read_text().strip()
        self.assertEqual(world.setup().keyring.who(presented=[key]).id, world_caller(world, key))
        first, second = io.StringIO(), io.StringIO()
        address = IPv4Address("TCP", "127.0.0.1", 3000)
        world.announce([address], out=first)
        self.assertIn(key, first.getvalue())
        again = World(
            reactor=Still(),
            settings=world.settings(),
            load=world.load,
            environ={},
            factories=world.factories,
        )
        again.open()
        again.announce([address], out=second)
        self.assertNotIn(key, second.getvalue())
        self.assertIn(f"$(cat {self.folder}/state/api_key)", second.getvalue())
        self.assertIn("curl http://127.0.0.1:3000/v1/chat/completions", second.getvalue())

    def test_before_the_key_is_made_nobody_is_let_in(self) -> None:
        """A missing key must never mean an open server."""
        setup = self.world().setup()
        for guess in ("", "None", "123456"):
            self.assertRaises(Unauthorized, setup.keyring.who, presented=[guess])

    def test_whose_an_id_is_stays_known(self) -> None:
        """What upstreams gave out is remembered in the store, and over a reload."""
        world = self.world(required_api_key=["one-key", "another-key"])
        given = world.setup().given
        assert given is not None
        given.give("o", "p", ["resp_1"], "a")
        world.use(world.settings())
        self.assertIs(world.setup().given, given)
        self.assertEqual(self.successResultOf(given.keeper("o", "p", "resp_1")), "a")

    def test_a_configured_key_is_never_shown(self) -> None:
        """The examples name a variable instead."""
        world = self.world(required_api_key="caller-secret")
        world.open()
        out = io.StringIO()
        world.announce([IPv4Address("TCP", "127.0.0.1", 3000)], out=out)
        self.assertNotIn("caller-secret", out.getvalue())
        self.assertIn("$AICLIENT2API_KEY", out.getvalue())

    def test_every_dialect_gets_an_example(self) -> None:
        """One curl for each, with a model that goes where it should."""
        world = self.world(
            required_api_key="k", claude_api_key="sk-test", model_provider="claude-custom"
        )
        out = io.StringIO()
        world.announce([IPv4Address("TCP", "0.0.0.0", 3000)], out=out)
        self.assertIn("curl http://127.0.0.1:3000/v1/messages", out.getvalue())
        self.assertIn("sandbox:sandbox", out.getvalue())
        self.assertIn("/v1beta/models/sandbox:sandbox:generateContent", out.getvalue())
        self.assertIn('{"model":"MODEL","max_tokens":256', out.getvalue())

    def test_a_reload_keeps_the_key_that_was_made(self) -> None:
        """The callers' key does not change under them."""
        world = self.world()
        world.open()
        key = (self.folder / "state" / "api_key").read_text().strip()
        world.use(world.load())
        world.setup().keyring.who(presented=[key])

    def test_a_reload_cannot_open_a_public_listener(self) -> None:
        """The keys are judged by the sockets that are bound."""
        world = self.world(host="0.0.0.0", required_api_key="caller-secret")
        bound = world.settings().listen
        (self.folder / "config.json").write_text('{"required_api_key": ""}')
        world.load()
        self.assertRaises(ConfigurationError, world.load, listen=bound)
        (self.folder / "config.json").write_text('{"required_api_key": "123456"}')
        self.assertRaises(ConfigurationError, world.load, listen=bound)

    def test_a_reload_without_a_key_makes_one(self) -> None:
        """Nobody is locked out, and nobody is let in without."""
        world = self.world(required_api_key="caller-secret")
        world.open()
        self.assertFalse((self.folder / "state" / "api_key").exists())
        (self.folder / "config.json").write_text('{"stored_responses": {"ttl": 0}}')
        world.use(world.load())
        key = (self.folder / "state" / "api_key").read_text().strip()
        world.setup().keyring.who(presented=[key])
        self.assertRaises(Unauthorized, world.setup().keyring.who, presented=["caller-secret"])

    def test_a_state_dir_that_cannot_be_made_is_a_configuration_fault(self) -> None:
        """With the flag that mends it."""
        world = self.world()
        (self.folder / "state").write_text("in the way")
        error = self.assertRaises(ConfigurationError, world.open)
        self.assertIn("--state-dir", error.faults[0])


def world_caller(world: World, key: str) -> str:
    """Return the caller's id for *key*."""
    return world.setup().keyring.who(presented=[key]).id
