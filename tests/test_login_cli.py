"""``aiclient2api login``: what is shown, what is typed, what is left behind."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface import implementer

from aiclient2api import login_cli
from aiclient2api.errors import Fault, InvalidRequest, UpstreamError
from aiclient2api.interfaces import ILoginFlow
from aiclient2api.login_cli import Session, Terminal, can_browse, log_in
from aiclient2api.login_cli_accounts import Place, login_of, write_credential
from aiclient2api.values import Runtime
from tests.login_fixture import KINDS, QWEN, LoginCase


class Shown(io.StringIO):
    """A terminal to look at."""

    def isatty(self) -> bool:
        """Say so."""
        return True


@implementer(ILoginFlow)
class Flow:
    """A login that goes as the test says."""

    url = "https://v.example/login"
    hint = "Log in there."

    def __init__(self, code: str | None = None) -> None:
        self.code = code
        self.expires = 1090.0
        self.starting: Deferred[None] = Deferred()
        self.ending: Deferred[Mapping[str, Any]] = Deferred()
        self.pasted: list[str] = []

    def start(self) -> Deferred[None]:
        """Begin."""
        return self.starting

    def finish(self) -> Deferred[Mapping[str, Any]]:
        """Wait."""
        return self.ending

    def paste(self, url: str) -> None:
        """Take what has a code in it."""
        if "code=" not in url:
            raise InvalidRequest("That has no code.")
        self.pasted.append(url)


class LogInCase(LoginCase):
    """A session on a terminal, without a network."""

    def begun(self, flow: Flow, *, name: str | None = None, terminal: bool = True) -> Any:
        """Log in; return the Deferred of the exit status."""
        place = Place({"state_dir": str(self.state)}, {"HOME": str(self.home)}, self.folder, KINDS)
        logins = login_of(KINDS[1])
        assert logins is not None
        self.session = Session(
            provider="openai-qwen-oauth",
            kind="openai-qwen-oauth",
            terms="",
            name=name,
            browser=True,
            choices={},
            logins=logins,
            place=place,
            settings=place.settings(),
            own={},
        )
        self.patch(Session, "flow", lambda session, runtime: flow)
        self.clock = Clock()
        self.out = Shown() if terminal else io.StringIO()
        self.opened: list[str] = []
        self.tell: Any = None

        def lines(tell: Any) -> None:
            self.tell = tell

        shown = Terminal(self.out, self.clock, lines, self.opened.append, lambda: 1000.0)
        runtime = Runtime(clock=self.clock, upstream=None)
        asking = Deferred.fromCoroutine(log_in(self.session, shown, runtime))
        return asking

    @contextlib.contextmanager
    def said(self) -> Iterator[io.StringIO]:
        """Keep what is printed besides; no secret may be in it."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            yield out
        self.assertNotIn("-secret", out.getvalue() + self.out.getvalue())


class LogInTests(LogInCase):
    """One login."""

    def test_a_login(self) -> None:
        """Address, code and countdown are shown; file and account are there in the end."""
        flow = Flow(code="AB-CD")
        with self.said() as told:
            asking = self.begun(flow, name="mine")
            self.assertEqual(self.out.getvalue(), "")
            flow.starting.callback(None)
            self.clock.advance(1)
            flow.ending.callback(QWEN)
        self.assertEqual(self.successResultOf(asking), 0)
        self.assertEqual(self.opened, [flow.url])
        shown = self.out.getvalue()
        for part in (flow.hint, flow.url, "AB-CD", "1:30 left"):
            self.assertIn(part, shown)
        self.assertEqual(shown.count("\r"), 2)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        (entry,) = self.pools()["openai-qwen-oauth"]
        self.assertEqual(entry["customName"], "mine")
        path = Path(entry["QWEN_OAUTH_CREDS_FILE_PATH"])
        self.assertEqual(json.loads(path.read_text()), QWEN)
        self.assertEqual(path.parent, self.state / "credentials/qwen")
        self.assertTrue(path.name.endswith("_oauth_creds.json"))
        for each, mode in ((path, 0o600), (path.parent, 0o700), (path.parent.parent, 0o700)):
            self.assertEqual(stat.S_IMODE(each.stat().st_mode), mode)
        self.assertIn("A running gateway follows within a second", told.getvalue())
        self.assertIn(str(path), told.getvalue())

    def test_pasting(self) -> None:
        """What is typed goes to the flow; what it cannot use is answered at once."""
        flow = Flow()
        asking = self.begun(flow)
        flow.starting.callback(None)
        self.tell("hello")
        self.tell("  ")
        self.tell(" x?code=1 ")
        self.assertEqual(flow.pasted, ["x?code=1"])
        self.assertEqual(self.out.getvalue().count("That has no code."), 1)
        with self.said():
            asking.cancel()

    def test_no_countdown_into_a_file(self) -> None:
        """Where nobody looks, there is nothing to rewrite."""
        flow = Flow(code="AB-CD")
        asking = self.begun(flow, terminal=False)
        flow.starting.callback(None)
        self.assertNotIn("\r", self.out.getvalue())
        self.assertEqual(self.clock.getDelayedCalls(), [])
        with self.said():
            asking.cancel()

    def test_only_web_pages_are_opened(self) -> None:
        """Whatever a vendor says."""
        flow = Flow()
        flow.url = "file:///etc/passwd"
        asking = self.begun(flow)
        flow.starting.callback(None)
        self.assertEqual(self.opened, [])
        with self.said():
            asking.cancel()

    def test_giving_up(self) -> None:
        """While it begins and while it waits: nothing is left behind."""
        for begun in (False, True):
            flow = Flow()
            with self.said() as told:
                asking = self.begun(flow)
                if begun:
                    flow.starting.callback(None)
                asking.cancel()
                self.assertEqual(self.successResultOf(asking), 130)
            self.assertIn("nothing was changed", told.getvalue())
            self.assertEqual(self.clock.getDelayedCalls(), [])
            self.assertEqual(list(self.folder.iterdir()), [self.home])

    def test_refused(self) -> None:
        """The vendor's no is told, in a sentence."""
        flow = Flow()
        with self.said() as told:
            asking = self.begun(flow)
            flow.starting.callback(None)
            flow.ending.errback(UpstreamError("No.", fault=Fault.CREDENTIAL, status=401))
        self.assertEqual(self.successResultOf(asking), 1)
        self.assertIn("aiclient2api login: No.", told.getvalue())
        self.assertEqual(self.pools(), {})

    def test_an_account_that_cannot_be_added(self) -> None:
        """The credential is not thrown away: it is said where it is, and how to go on."""
        flow = Flow()
        with self.said() as told:
            asking = self.begun(flow)
            flow.starting.callback(None)
            self.path.write_text("{")
            flow.ending.callback(QWEN)
        self.assertEqual(self.successResultOf(asking), 1)
        (path,) = (self.state / "credentials/qwen").iterdir()
        self.assertIn(
            f"accounts add openai-qwen-oauth QWEN_OAUTH_CREDS_FILE_PATH={path}", told.getvalue()
        )


class FileTests(LoginCase):
    """The credential file."""

    def test_no_file_is_ever_replaced(self) -> None:
        """Two logins of one moment are two files."""
        logins = login_of(KINDS[1])
        assert logins is not None
        paths = [write_credential(self.state, logins, {"n": n}, now=1.0) for n in range(3)]
        self.assertEqual(
            [json.loads(path.read_text()) for path in paths], [{"n": 0}, {"n": 1}, {"n": 2}]
        )
        self.assertEqual(paths[0].name, "1000_oauth_creds.json")
        self.assertEqual(len(list(paths[0].parent.iterdir())), 3)


class CommandTests(LoginCase):
    """What is typed."""

    def setUp(self) -> None:
        """Have kinds of provider, and note what would be begun."""
        super().setUp()
        self.begun: list[Session] = []
        self.patch(login_cli, "provider_factories", lambda: KINDS)

        def react(run: Any, arguments: Any) -> None:
            session, ended = arguments
            self.begun.append(session)
            ended.append(0)
            raise SystemExit(0)

        self.patch(login_cli, "react", react)

    def test_the_terms_come_first(self) -> None:
        """In one line, before anything else happens."""
        said = self.typed(login_cli.login, "openai-qwen-oauth")
        self.assertEqual(said.splitlines()[0], "openai-qwen-oauth - Its vendor forbids it.")
        self.assertEqual(len(self.begun), 1)

    def test_choices(self) -> None:
        """Each provider's own, as the flow is given them."""
        for typed, choices in (
            ((), {}),
            (("--social", "github"), {"social": "github"}),
            (("--builder-id",), {"builder-id": ""}),
            (
                ("--idc", "https://a.example/start", "eu-west-1"),
                {"idc": "https://a.example/start eu-west-1"},
            ),
            (("--port", "19876"), {"port": "19876"}),
        ):
            self.typed(login_cli.login, "claude-kiro-oauth", *typed)
            self.assertEqual(self.begun[-1].choices, choices)
        self.typed(login_cli.login, "--name", "x", "gemini-cli-oauth-b", "--no-browser")
        session = self.begun[-1]
        self.assertEqual(
            (session.provider, session.kind), ("gemini-cli-oauth-b", "gemini-cli-oauth")
        )
        self.assertEqual((session.name, session.browser), ("x", False))

    def test_settings_reach_the_flow(self) -> None:
        """Those of config.json, and the proxy."""
        self.write(
            "config.json",
            {"qwen_oauth_base_url": "http://127.0.0.1:1", "proxy_url": "http://127.0.0.1:2"},
        )
        self.typed(login_cli.login, "openai-qwen-oauth")
        own = self.begun[0].own
        self.assertEqual(
            (own["qwen_oauth_base_url"], own["proxy_url"]),
            ("http://127.0.0.1:1", "http://127.0.0.1:2"),
        )

    def test_bad_usage(self) -> None:
        """Each mistake is named, with where the help is or what to do."""
        for typed, said in (
            ((), "PROVIDER"),
            (("nobody",), "nobody"),
            (("openai-custom",), "accounts add openai-custom"),
            (("gemini-antigravity",), "not built"),
            (("openai-qwen-oauth", "--port", "1"), "has no --port"),
            (("claude-kiro-oauth", "--social", "facebook"), "facebook"),
            (("claude-kiro-oauth", "--social", "google", "--builder-id"), "not allowed with"),
            (("claude-kiro-oauth", "--idc", "https://a.example"), "--idc"),
            (("openai-qwen-oauth", "--prot", "1"), "--prot"),
        ):
            self.assertIn(said, self.typed(login_cli.login, *typed, status=2))
        self.assertEqual(self.begun, [])

    def test_a_faulty_configuration(self) -> None:
        """It is told before anybody logs in."""
        self.write("config.json", {"request_max_retries": -1})
        self.assertIn(
            "request_max_retries", self.typed(login_cli.login, "openai-qwen-oauth", status=1)
        )
        self.assertEqual(self.begun, [])

    def test_help(self) -> None:
        """It has every choice, and whose it is."""
        said = self.typed(login_cli.login, "--help")
        for part in (
            "--social google|github",
            "--builder-id",
            "--idc URL REGION",
            "--port N",
            "--no-browser",
            "--name NAME",
            "--config FILE",
            "claude-kiro-oauth",
        ):
            self.assertIn(part, said)

    def test_where_a_browser_may_be_opened(self) -> None:
        """Where there is a display and nobody has said no."""
        self.patch(sys, "platform", "linux")
        self.assertFalse(can_browse({}))
        self.assertTrue(can_browse({"DISPLAY": ":0"}))
        self.assertTrue(can_browse({"WAYLAND_DISPLAY": "wayland-0"}))
        self.assertFalse(can_browse({"DISPLAY": ":0", "NO_BROWSER": "1"}))


PLUGIN = """\
import attrs
from pathlib import Path
from twisted.plugin import IPlugin
from twisted.python.components import registerAdapter
from zope.interface import implementer

from aiclient2api.interfaces import ILogins, IProviderFactory
from aiclient2api.oauth.qwen_login import QwenLogins
from aiclient2api.values import setting


@attrs.frozen(repr=False)
class Settings:
    lent_file_path: Path | None = setting(kind="path", help="File.")
    qwen_oauth_base_url: str | None = setting(kind="url", help="URL.")


@implementer(IPlugin, IProviderFactory)
class Lent:
    name, title, terms = "lent-oauth", "Lent", "Nobody knows."
    settings, needs_credential = Settings, True

    def provider(self, *, name, runtime):
        raise AssertionError

    def defaults(self, *, name):
        return {}


lent = Lent()
registerAdapter(lambda _: QwenLogins(file_key="LENT_FILE_PATH"), Lent, ILogins)
"""


class Vendor(BaseHTTPRequestHandler):
    """A login service; it grants once its server says so."""

    def do_POST(self) -> None:
        """Give a code, or a token."""
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.endswith("/device/code"):
            status, told = (
                200,
                {
                    "device_code": "d",
                    "user_code": "AB-CD",
                    "verification_uri": "https://v.example/",
                    "expires_in": 60,
                    "interval": 0.05,
                },
            )
        elif self.server.grants:  # type: ignore[attr-defined]
            status, told = 200, {**QWEN, "expires_in": 60}
        else:
            status, told = 400, {"error": "authorization_pending"}
        body = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class ProcessTests(LoginCase):
    """The command as a process, against a login service over loopback."""

    def setUp(self) -> None:
        """Have the service, and a third party's provider that uses it."""
        super().setUp()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Vendor)
        self.server.grants = False  # type: ignore[attr-defined]
        thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        self.addCleanup(thread.join, 30)
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        plugins = self.folder / "lib/aiclient2api/providers"
        plugins.mkdir(parents=True)
        (plugins / "lent.py").write_text(PLUGIN)
        port = self.server.server_address[1]
        self.write(
            "run/config.json",
            {"qwen_oauth_base_url": f"http://127.0.0.1:{port}", "state_dir": "state"},
        )

    def process(self) -> subprocess.Popen[str]:
        """Start the command, and wait until it shows its code."""
        environ = {key: os.environ[key] for key in ("PATH", "LANG") if key in os.environ}
        paths = [str(self.folder / "lib"), *filter(None, sys.path)]
        process = subprocess.Popen(
            [sys.executable, "-m", "aiclient2api", "login", "lent-oauth"],
            cwd=self.folder / "run",
            env={**environ, "HOME": str(self.home), "PYTHONPATH": os.pathsep.join(paths)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.wait, 30)
        self.addCleanup(process.kill)
        assert process.stdout is not None
        read = ""
        ends = time.monotonic() + 60
        while "AB-CD" not in read and time.monotonic() < ends:
            line = process.stdout.readline()
            if not line:
                self.fail(read + (process.stderr.read() if process.stderr else ""))
            read += line
        self.assertTrue(read.startswith("lent-oauth - Nobody knows.\n"), read)
        return process

    def test_a_login(self) -> None:
        """From the code to the account, and the process ends well."""
        process = self.process()
        self.server.grants = True  # type: ignore[attr-defined]
        out, err = process.communicate(timeout=60)
        self.assertEqual((process.returncode, err), (0, ""))
        self.assertIn("was added in", out)
        self.assertNotIn("-secret", out)
        pools = json.loads((self.folder / "run/provider_pools.json").read_text())
        path = Path(pools["lent-oauth"][0]["LENT_FILE_PATH"])
        self.assertEqual(path.parent, self.folder / "run/state/credentials/qwen")
        self.assertEqual(json.loads(path.read_text())["access_token"], QWEN["access_token"])

    def test_ctrl_c(self) -> None:
        """It ends at once, says so, and leaves nothing behind."""
        process = self.process()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130)
        self.assertEqual(err.strip(), "aiclient2api login: given up; nothing was changed")
        names = [each.name for each in (self.folder / "run").iterdir()]
        self.assertEqual(names, ["config.json"])
