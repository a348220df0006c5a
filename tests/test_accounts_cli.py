"""``aiclient2api accounts``: what is typed, what is asked, what is written."""

from __future__ import annotations

import contextlib
import getpass
import io
import json
import os
import shutil
import socket
import socketserver
import ssl
import sys
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from OpenSSL import crypto
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api import cli_gateway
from aiclient2api.accounts_cli import accounts
from aiclient2api.accounts_cli_table import short_ids, table
from aiclient2api.cli_gateway import RunningGateway
from aiclient2api.config import load
from aiclient2api.errors import ConfigurationError
from tests.raw_peers import Authority

SECRET = "sk-secret-0123456789"

HEALTH: dict[str, Any] = {
    "timestamp": "2026-01-01T00:00:00.000Z",
    "items": [
        {
            "uuid": "11111111-aaaa",
            "customName": "work",
            "provider": "openai-custom",
            "state": "cooling",
            "reason": "rate_limit",
            "until": "2026-01-01T05:00:00.000Z",
            "nextTry": "2026-01-01T00:05:00.000Z",
            "active": 0,
            "requests": 12,
            "failures": 3,
            "models": {},
        },
        {
            "uuid": "11111111-bbbb",
            "customName": None,
            "provider": "openai-custom",
            "state": "ready",
            "reason": "",
            "until": None,
            "nextTry": None,
            "active": 2,
            "requests": 40,
            "failures": 0,
            "models": {"gpt-4": {"state": "cooling"}},
        },
    ],
    "count": 2,
    "unhealthyCount": 1,
}


class FakeGateway(socketserver.ThreadingMixIn, HTTPServer):
    """What answers as a gateway does, on a port or a socket of its own."""

    daemon_threads = True

    def __init__(self, **options: Any) -> None:
        self.key: str | None = "k"
        self.answers: dict[str, tuple[int, Any]] = {
            "/health": (200, {"status": "healthy", "timestamp": "", "provider": "p"}),
            "/provider_health": (200, HEALTH),
            "/provider_health?provider=openai-custom": (200, HEALTH),
            "/provider_health/reset": (200, {"reset": ["11111111-aaaa"], "unknown": []}),
        }
        self.asked: list[tuple[str, str, str | None, Any]] = []
        super().__init__(**options)


class Answering(BaseHTTPRequestHandler):
    """One request to a `FakeGateway`."""

    server: FakeGateway

    def do_GET(self) -> None:
        """Answer as the server was told to."""
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        key = self.headers.get("Authorization")
        self.server.asked.append((self.command, self.path, key, body))
        status, told = self.server.answers.get(self.path, (404, {"error": {"message": "what?"}}))
        if self.path != "/health" and self.server.key and key != f"Bearer {self.server.key}":
            status, told = 401, {"error": {"message": "no"}}
        content = told if isinstance(told, bytes) else json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class UnixGateway(FakeGateway):
    """The same behind a Unix socket."""

    address_family = socket.AF_UNIX
    server_bind = socketserver.TCPServer.server_bind


class Terminal(io.StringIO):
    """Standard input with a person behind it."""

    def isatty(self) -> bool:
        """Say so."""
        return True


class CommandTestCase(SynchronousTestCase):
    """An empty folder in which the command is run, far from any real configuration."""

    def setUp(self) -> None:
        """Make it, and have no terminal."""
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.patch(os, "environ", {"HOME": str(self.folder)})
        self.stdin: type[io.StringIO] = io.StringIO
        self.path = self.folder / "provider_pools.json"
        with socket.create_server(("127.0.0.1", 0)) as found:
            self.free = found.getsockname()[1]

    def typed(self, *arguments: str, stdin: str = "", status: int = 0) -> str:
        """Run the command; return all that it printed. No secret may be in it."""
        self.out, self.err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdin", self.stdin(stdin))
        with (
            contextlib.chdir(self.folder),
            contextlib.redirect_stdout(self.out),
            contextlib.redirect_stderr(self.err),
        ):
            found = accounts(["--port", str(self.free), *arguments])
        said = self.out.getvalue() + self.err.getvalue()
        self.assertEqual(found, status, said)
        self.assertNotIn(SECRET, said)
        return said

    def pools(self) -> Any:
        """Return what the accounts' file holds."""
        return json.loads(self.path.read_text())

    def write(self, pools: Any) -> None:
        """Write the accounts' file."""
        self.path.write_text(json.dumps(pools))
        self.path.chmod(0o600)

    @contextlib.contextmanager
    def gateway(
        self, server_class: type[FakeGateway] = FakeGateway, server_address: Any = None
    ) -> Iterator[FakeGateway]:
        """Have a gateway run, on the port that the command is told of."""
        address = server_address or ("127.0.0.1", self.free)
        server = server_class(server_address=address, RequestHandlerClass=Answering)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(30)
            server.server_close()


class AddTests(CommandTestCase):
    """``accounts add``."""

    def test_the_first_account(self) -> None:
        """The file is made, the gateway's reader takes it, and the key is not shown."""
        said = self.typed(
            *("add", "openai-custom", "--key", "-", "--name", "work", "--model", "a"),
            *("--model", "b", "--priority", "5", "--weight", "2", "--concurrency", "3"),
            *("--queue", "4", "--base-url", "https://example.com/v1"),
            stdin=f"{SECRET}\n",
        )
        (entry,) = self.pools()["openai-custom"]
        self.assertEqual(
            list(entry.items())[1:],
            [
                ("OPENAI_API_KEY", SECRET),
                ("OPENAI_BASE_URL", "https://example.com/v1"),
                ("customName", "work"),
                ("supportedModels", ["a", "b"]),
                ("priority", 5),
                ("weight", 2),
                ("concurrencyLimit", 3),
                ("queueLimit", 4),
            ],
        )
        self.assertIn(f"Account {entry['uuid'][:8]} (work) of openai-custom was added", said)
        self.assertIn("within a second", said)
        self.assertIn("work", self.typed())

    def test_beside_the_configuration(self) -> None:
        """Where it is named, else in the configuration's own folder."""
        (self.folder / "etc").mkdir()
        config = self.folder / "etc" / "my.json"
        config.write_text("{}")
        self.typed("--config", "etc/my.json", "add", "openai-custom", "--key", SECRET)
        self.assertTrue((self.folder / "etc" / "provider_pools.json").is_file())
        config.write_text('{"PROVIDER_POOLS_FILE_PATH": "mine.json"}')
        self.typed("add", "openai-custom", "--key", SECRET, "--config", "etc/my.json")
        self.assertTrue((self.folder / "etc" / "mine.json").is_file())
        self.typed("add", "openai-custom", "--key", SECRET, "--provider-pools-file", "flag.json")
        self.assertTrue((self.folder / "flag.json").is_file())

    def test_a_key_from_a_file(self) -> None:
        """Without the line feed behind it."""
        (self.folder / "key").write_text(f"{SECRET}\n")
        self.typed("add", "openai-custom-mine", "--key-file", "key")
        self.assertEqual(self.pools()["openai-custom-mine"][0]["OPENAI_API_KEY"], SECRET)

    def test_a_key_that_is_typed(self) -> None:
        """At a terminal it is asked for, and not shown."""
        asked: list[str] = []

        def ask(prompt: str) -> str:
            asked.append(prompt)
            return SECRET

        self.patch(getpass, "getpass", ask)
        self.stdin = Terminal
        self.typed("add", "claude-custom")
        self.typed("add", "claude-custom", "--key", "-")
        self.assertEqual(
            [each["CLAUDE_API_KEY"] for each in self.pools()["claude-custom"]], [SECRET] * 2
        )
        self.assertIn("CLAUDE_API_KEY", asked[0])

    def test_the_same_key_twice(self) -> None:
        """It is done, and warned of."""
        first = self.typed("add", "openai-custom", "--key", SECRET)
        self.assertNotIn("this very key", first)
        again = self.typed("add", "openai-custom", "--key", SECRET)
        self.assertIn("of this very key already", again)
        self.assertIn(self.pools()["openai-custom"][0]["uuid"][:8], again)

    def test_no_key(self) -> None:
        """It is refused, unless the server is one's own; nothing is written."""
        for arguments in ((), ("--key", "-"), ("--key", " "), ("--key", "a b")):
            said = self.typed("add", "openai-custom", *arguments, status=1)
            self.assertIn("nothing was changed", said)
        self.assertFalse(self.path.exists())
        self.typed("add", "openai-custom", "--base-url", "http://127.0.0.1:11434/v1")
        self.assertNotIn("OPENAI_API_KEY", self.pools()["openai-custom"][0])

    def test_a_credential_in_a_file(self) -> None:
        """Whatever a provider's accounts have is written as KEY=VALUE, also behind options."""
        said = self.typed(
            *("add", "gemini-cli-oauth", "--name", "g"),
            "gemini_oauth_creds_file_path=./creds.json",
            "PROJECT_ID=007",
        )
        (entry,) = self.pools()["gemini-cli-oauth"]
        self.assertEqual(entry["GEMINI_OAUTH_CREDS_FILE_PATH"], "./creds.json")
        self.assertEqual(entry["PROJECT_ID"], "007")
        self.assertIn("(warning)", said)

    def test_a_provider_there_is_not(self) -> None:
        """It is told which one was meant."""
        said = self.typed("add", "openai-costum", "--key", SECRET, status=1)
        self.assertIn("openai-custom", said)
        self.assertFalse(self.path.exists())

    def test_what_the_configuration_would_refuse(self) -> None:
        """The fault is told under the file's own name, and the file stays as it was."""
        self.write({"openai-custom": []})
        before = self.path.read_bytes()
        said = self.typed("add", "openai-custom", "--key", "k", "--weight", "-1", status=1)
        self.assertIn("provider_pools.json: openai-custom[0].weight", said)
        self.assertIn("nothing was changed", said)
        self.assertEqual(self.path.read_bytes(), before)
        self.assertEqual(os.listdir(self.folder), ["provider_pools.json"])

    def test_behind_a_link(self) -> None:
        """Relative paths count from where the link is: nothing is warned of in vain."""
        (self.folder / "real").mkdir()
        (self.folder / "real" / "pools").write_text("{}")
        self.path.symlink_to("real/pools")
        self.typed("add", "openai-custom", "--key", SECRET)
        self.assertTrue(self.path.is_symlink())
        self.assertEqual(len(self.pools()["openai-custom"]), 1)
        self.assertEqual(os.listdir(self.folder / "real"), ["pools"])


class ChangeTests(CommandTestCase):
    """``accounts set``, ``enable``, ``disable`` and ``remove``."""

    def setUp(self) -> None:
        """Have three accounts, one of them without a uuid."""
        super().setUp()
        self.write(
            {
                "openai-custom": [
                    {"uuid": "uuid-1", "customName": "work", "OPENAI_API_KEY": SECRET},
                    {"uuid": "uuid-2", "OPENAI_API_KEY": "two"},
                    {"OPENAI_API_KEY": "three", "customName": "home"},
                ]
            }
        )

    def entry(self, at: int) -> Any:
        """Return an account as it is now."""
        return self.pools()["openai-custom"][at]

    def test_set(self) -> None:
        """JSON, texts, and null for a key that is to go; a provider's own keys are texts."""
        self.typed(
            *("set", "openai-custom", "work", "priority=5", 'supportedModels=["a"]'),
            *("customName=null", "openai_api_key=123456", "note=it is mine"),
        )
        self.assertEqual(
            self.entry(0),
            {
                "uuid": "uuid-1",
                "OPENAI_API_KEY": "123456",
                "priority": 5,
                "supportedModels": ["a"],
                "note": "it is mine",
            },
        )

    def test_a_value_nobody_is_to_see(self) -> None:
        """It is read from standard input."""
        self.typed("set", "openai-custom", "uuid-2", "OPENAI_API_KEY=-", stdin=f"{SECRET}\n")
        self.assertEqual(self.entry(1)["OPENAI_API_KEY"], SECRET)

    def test_a_slip_is_warned_of(self) -> None:
        """As at the start, but only what is new."""
        said = self.typed("set", "openai-custom", "0", "prioritty=5")
        self.assertIn("(warning)", said)
        self.assertIn("priority", said)
        self.assertNotIn("(warning)", self.typed("disable", "openai-custom", "0"))

    def test_disable_enable_remove(self) -> None:
        """One of them, and again is no error."""
        self.assertIn("was disabled", self.typed("disable", "openai-custom", "uuid-2"))
        self.assertIn("so already", self.typed("disable", "openai-custom", "uuid-2"))
        self.assertTrue(self.entry(1)["isDisabled"])
        self.assertIn("disabled", self.typed())
        self.assertIn("was enabled", self.typed("enable", "openai-custom", "uuid-2"))
        self.assertFalse(self.entry(1)["isDisabled"])
        self.assertIn("was removed", self.typed("remove", "openai-custom", "uuid-2"))
        self.assertEqual(
            [each.get("uuid") for each in self.pools()["openai-custom"]], ["uuid-1", None]
        )

    def test_one_by_the_id_that_is_derived(self) -> None:
        """As the list shows it."""
        lines = self.typed().splitlines()
        (id,) = [line.split()[1] for line in lines if "home" in line]
        self.typed("disable", "openai-custom", id)
        self.assertTrue(self.entry(2)["isDisabled"])
        self.assertEqual(sorted(os.listdir(self.folder)), ["provider_pools.json"])

    def test_none_or_several(self) -> None:
        """It is refused."""
        before = self.path.read_bytes()
        for which in ("uuid", "none", "7"):
            self.assertIn(
                "nothing was changed", self.typed("remove", "openai-custom", which, status=1)
            )
        self.assertEqual(self.path.read_bytes(), before)

    def test_a_file_that_is_broken(self) -> None:
        """It is for its user to mend."""
        self.path.write_text('{"openai-custom": [')
        self.assertIn("line 1", self.typed("remove", "openai-custom", "0", status=1))
        self.assertEqual(self.path.read_text(), '{"openai-custom": [')

    def test_others_could_read_it(self) -> None:
        """That they no longer can is said."""
        self.path.chmod(0o644)
        self.assertIn("0600, it was 0644", self.typed("disable", "openai-custom", "0"))


class UsageTests(CommandTestCase):
    """What is typed wrong."""

    def test_it_is_told_without_secrets(self) -> None:
        """With status 2, and where help is."""
        for arguments in (
            ("chekc",),
            ("add",),
            ("add", "openai-custom", SECRET),
            ("add", "openai-custom", "--priority", SECRET),
            ("add", "openai-custom", "--keey", SECRET),
            ("add", "openai-custom", f"--keey={SECRET}"),
            ("add", "openai-custom", "--key", "a", "--key-file", "b"),
            (SECRET,),
            ("set", "openai-custom", "0"),
            ("remove", "openai-custom", "0", "x=1"),
            ("--prot", "1"),
        ):
            with self.subTest(arguments):
                said = self.typed(*arguments, status=2)
                self.assertIn("--help", said)
                self.assertNotIn("secret", said)

    def test_help(self) -> None:
        """It says how to keep a key to oneself."""
        self.assertIn("commands", self.typed("--help"))
        said = self.typed("add", "--help")
        self.assertIn("--key-file", said)
        self.assertIn("ps", said)


class ListTests(CommandTestCase):
    """``accounts`` and ``accounts list``."""

    def test_what_the_running_gateway_says(self) -> None:
        """A line each: who, how, why, until when, how much."""
        with self.gateway() as gateway:
            said = self.typed("--api-key", "k")
        self.assertEqual(
            [each[:3] for each in gateway.asked],
            [
                ("GET", "/health", None),
                ("GET", "/provider_health", "Bearer k"),
            ],
        )
        rows = [line.split() for line in said.splitlines()]
        self.assertEqual(
            rows[1][:5], ["openai-custom", "11111111-a", "work", "cooling", "rate_limit"]
        )
        self.assertEqual(rows[1][5:], ["in", "5", "min", "0", "12/3"])
        self.assertEqual(rows[2][:4], ["openai-custom", "11111111-b", "-", "ready"])
        self.assertIn("1 model worse off", said)
        self.assertEqual(len(rows), 3)

    def test_as_json(self) -> None:
        """All that was said, and whether a gateway said it."""
        with self.gateway():
            self.typed("list", "--json", "--api-key", "k")
        self.assertEqual(json.loads(self.out.getvalue()), {"running": True, **HEALTH})
        self.write({"openai-custom": [{"uuid": "u", "OPENAI_API_KEY": SECRET}]})
        self.typed("--json")
        told = json.loads(self.out.getvalue())
        self.assertEqual((told["running"], told["items"][0]["uuid"]), (False, "u"))

    def test_what_the_files_say(self) -> None:
        """Where no gateway answers; and it is said that it is that."""
        self.write({"openai-custom": [{"uuid": "u", "OPENAI_API_KEY": SECRET, "isDisabled": True}]})
        said = self.typed()
        self.assertIn(f"no gateway answers at http://127.0.0.1:{self.free}", said)
        self.assertIn("disabled", said)

    def test_a_gateway_that_has_no_such_page(self) -> None:
        """An older one: the files are shown."""
        with self.gateway() as gateway:
            gateway.answers["/provider_health"] = (404, {})
            self.assertIn("status 404", self.typed("--api-key", "k"))

    def test_something_else_has_the_port(self) -> None:
        """It is not shown the key."""
        with self.gateway() as gateway:
            answers: tuple[Any, ...] = ({"status": "ok"}, [], b"<html>")
            for told in answers:
                gateway.answers["/health"] = (200, told)
                self.assertIn("is no gateway", self.typed("--api-key", "k"))
        self.assertEqual({each[2] for each in gateway.asked}, {None})

    def test_another_key(self) -> None:
        """It is told how to name the right one."""
        with self.gateway():
            self.assertIn("--state-dir", self.typed("--api-key", "other"))

    def test_the_key_that_the_gateway_made(self) -> None:
        """It is taken from the state directory, and none is made."""
        with self.gateway() as gateway:
            self.assertIn("does not accept", self.typed("--state-dir", "state"))
            (self.folder / "state").mkdir()
            (self.folder / "state" / "api_key").write_text("k\n")
            self.assertIn("cooling", self.typed("--state-dir", "state"))
            (self.folder / "state" / "api_key").unlink()
            (self.folder / "state" / "api_key").mkdir()
            self.assertIn("cannot be read", self.typed("--state-dir", "state"))
        self.assertEqual(gateway.asked[-1][1], "/health")


class ResetTests(CommandTestCase):
    """``accounts reset``."""

    def test_all_of_a_provider_or_one(self) -> None:
        """The gateway is told whom; one is found by name or id."""
        wanted: list[Any] = []
        with self.gateway() as gateway:
            for arguments in (
                (),
                ("openai-custom",),
                ("openai-custom", "work"),
                ("openai-custom", "11111111-b"),
            ):
                said = self.typed("reset", *arguments, "--api-key", "k")
                self.assertIn("1 account is ready again: 11111111", said)
                wanted.append(gateway.asked[-1])
        self.assertEqual(
            {each[:3] for each in wanted}, {("POST", "/provider_health/reset", "Bearer k")}
        )
        self.assertEqual(
            [each[3] for each in wanted],
            [
                {},
                {"provider": "openai-custom"},
                {"provider": "openai-custom", "accounts": ["11111111-aaaa"]},
                {"provider": "openai-custom", "accounts": ["11111111-bbbb"]},
            ],
        )

    def test_it_cannot_be(self) -> None:
        """No gateway, no such account, or a gateway that refuses."""
        self.assertIn("start it", self.typed("reset", status=1))
        with self.gateway() as gateway:
            self.assertIn(
                "no account", self.typed("reset", "openai-custom", "x", "--api-key", "k", status=1)
            )
            gateway.answers["/provider_health/reset"] = (400, {"error": {"message": "Not so."}})
            self.assertIn("refuses: Not so.", self.typed("reset", "--api-key", "k", status=1))


class RunningGatewayTests(CommandTestCase):
    """`RunningGateway`: every kind of door."""

    def of(self, *listen: str) -> RunningGateway:
        """Return the gateway that listens so."""
        flags = {"listen": list(listen), "required_api_key": "k"}
        return RunningGateway.of(
            load(flags=flags, environ={}, cwd=self.folder, factories=[], uid=0)
        )

    def test_where(self) -> None:
        """An address that means all of them is this machine."""
        for listen, where in (
            ("tcp:3000:interface=127.0.0.1", "http://127.0.0.1:3000"),
            ("tcp:3000", "http://127.0.0.1:3000"),
            ("tcp:port=3000:interface=0.0.0.0", "http://127.0.0.1:3000"),
            (r"tcp:3000:interface=\:\:", "http://[::1]:3000"),
            (r"tcp6:3000", "http://[::1]:3000"),
            ("unix:/run/a/socket:mode=660", "unix:/run/a/socket"),
            ("unix:address=/run/a\\:b", "unix:/run/a:b"),
        ):
            self.assertEqual(self.of(listen).where, where)

    def test_where_nobody_can_tell(self) -> None:
        """It is said how to name another door."""
        for listen in ("systemd:domain=INET:index=0", "tcp:0"):
            error = self.assertRaises(ConfigurationError, self.of, listen)
            self.assertIn("--port", str(error))

    def test_nobody_listens(self) -> None:
        """That is None, for a port and for a socket."""
        # A socket's path may not be long.
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        for listen in (f"tcp:{self.free}", f"unix:{folder}/socket"):
            self.assertIsNone(self.of(listen).ask("GET", "/provider_health"))

    def test_a_unix_socket(self) -> None:
        """It is asked like any other."""
        # A socket's path may not be long.
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        with self.gateway(server_class=UnixGateway, server_address=f"{folder}/s"):
            answer = self.of(f"unix:{folder}/s").ask("GET", "/provider_health")
        assert answer is not None
        self.assertEqual((answer.status, answer.body), (200, HEALTH))

    def test_tls(self) -> None:
        """The certificate that is configured is trusted, whatever its name; no other is."""
        issued = Authority.create().issue("somewhere.example")
        pem = self.folder / "server.pem"
        pem.write_bytes(issued.dumpPEM() + issued.privateKey.dump(crypto.FILETYPE_PEM))
        other = self.folder / "other.pem"
        other.write_bytes(Authority.create().issue("somewhere.example").dumpPEM())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        with self.gateway() as gateway:
            gateway.socket = context.wrap_socket(gateway.socket, server_side=True)
            door = self.of(f"ssl:{self.free}:privateKey={pem}:interface=127.0.0.1")
            answer = door.ask("GET", "/provider_health")
            assert answer is not None
            self.assertEqual((door.where[:5], answer.status), ("https", 200))
            door = self.of(f"ssl:{self.free}:privateKey={pem}:certKey={other}")
            error = self.assertRaises(ConfigurationError, door.ask, "GET", "/provider_health")
            self.assertIn("no gateway can be asked", str(error))

    def test_silence(self) -> None:
        """It is not waited for without end."""
        self.patch(cli_gateway, "SECONDS", 0.05)
        with socket.create_server(("127.0.0.1", self.free)):
            door = self.of(f"tcp:{self.free}")
            error = self.assertRaises(ConfigurationError, door.ask, "GET", "/provider_health")
        self.assertIn("nothing answers", str(error))


class TableTests(SynchronousTestCase):
    """What the list looks like."""

    def row(self, **item: Any) -> str:
        """Return the line of one account."""
        return table([item], "2026-01-01T00:00:00Z").splitlines()[1]

    def test_the_next_change(self) -> None:
        """The sooner of both times, in words; as it was told where there is no now."""
        for told, words in (
            ({"until": "2026-01-01T00:01:30.500Z"}, "in 90 s"),
            ({"until": "2026-01-01T03:00:00+01:00"}, "in 2 h"),
            ({"until": "2026-01-04T00:00:00Z", "nextTry": "2026-01-03T00:00:00Z"}, "in 2 d"),
            ({"nextTry": "2025-12-31T00:00:00Z"}, "now"),
            ({"nextTry": "tomorrow"}, ""),
            ({"nextTry": 5}, ""),
        ):
            self.assertIn(f"{words or '-'}  ", self.row(state="cooling", requests=0, **told))
        self.assertIn("2026-01-01T00:00:00Z", table([{"until": "2026-01-01T00:00:00Z"}]))

    def test_nothing_that_steers_a_terminal(self) -> None:
        """Names are shown on one line, and cut."""
        shown = self.row(customName="a\x1b[2J\nb" + "x" * 100, reason="\u202e")
        self.assertNotIn("\x1b", shown)
        self.assertNotIn("\u202e", shown)
        self.assertIn("a?[2J bxxx", shown)
        self.assertLess(len(shown), 150)

    def test_no_accounts(self) -> None:
        """How to add one."""
        self.assertIn("accounts add", table([]))

    def test_ids_are_as_short_as_can_be(self) -> None:
        """But eight letters at least, and told apart."""
        self.assertEqual(short_ids(["1234567890", "1234567891"]), ["1234567890", "1234567891"])
        self.assertEqual(
            short_ids(["abcdefghij", "bbcdefghij", "c"]), ["abcdefgh", "bbcdefgh", "c"]
        )
        self.assertEqual(short_ids([]), [])
