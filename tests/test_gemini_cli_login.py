"""
The login of Gemini CLI: what its credential says, which OAuth client renews it, and renewing.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.oauth.tokens import TokenBook
from aiclient2api.providers._gemini_cli_client import client_in, installed_client
from aiclient2api.providers._gemini_cli_login import Login, login_client
from aiclient2api.providers._google_token import client_of, expiry, secrets_in
from aiclient2api.providers.gemini_cli_oauth import GeminiCLISettings
from aiclient2api.testing import MemoryResponse, MemoryUpstream, one_account

ID = "12345678-fakefakefakefakefake.apps.googleusercontent.com"
SECRET = "fake-client-secret"
TEXT = f"""
var OTHER_ID = "764-other.apps.googleusercontent.com";
var OAUTH_CLIENT_ID = "{ID}";
var OAUTH_CLIENT_SECRET = "{SECRET}";
"""
DOCUMENT = {
    "access_token": "ya29.one",
    "refresh_token": "1//one",
    "id_token": "an.id.token",
    "expiry_date": 1000,
}


class DocumentTests(SynchronousTestCase):
    """What stands in a credential, whoever wrote it."""

    def test_expiry(self) -> None:
        """Milliseconds, seconds and dates are read; without a token it is over."""
        for document, expected in (
            ({"access_token": "a", "expiry_date": 1730000000000}, 1730000000),
            ({"access_token": "a", "expiry_date": 1730000000}, 1730000000),
            ({"access_token": "a", "expiry": "2024-10-27T03:33:20Z"}, 1730000000),
            ({"access_token": "a", "expiry": "2024-10-27T03:33:20"}, 1730000000),
            ({"token": {"access_token": "a", "expiry": "2024-10-27T03:33:20Z"}}, 1730000000),
            ({"token": {"access_token": "a"}, "expiry": "2024-10-27T03:33:20Z"}, 1730000000),
            ({"access_token": "a"}, None),
            ({"access_token": "a", "expiry_date": "soon", "expiry": 3}, None),
            ({"access_token": "a", "expiry_date": True}, None),
            ({"access_token": "a", "expiry_date": 10**400}, None),
            ({"refresh_token": "r", "expiry_date": 1730000000000}, 0.0),
        ):
            self.assertEqual(expiry(document), expected, document)

    def test_client(self) -> None:
        """What gcloud writes names its client; half of one is none."""
        document = {"type": "authorized_user", "client_id": ID, "client_secret": SECRET}
        self.assertEqual(client_of(document), (ID, SECRET))
        self.assertEqual(client_of({"token": document}), (ID, SECRET))
        self.assertIsNone(client_of({"client_id": ID, "client_secret": ""}))

    def test_secrets(self) -> None:
        """Every secret is known, wherever it stands, each once."""
        document = {**DOCUMENT, "token": {"access_token": "ya29.one", "client_secret": "s"}}
        self.assertEqual(secrets_in(document), ("ya29.one", "1//one", "an.id.token", "s"))


class InstalledTests(SynchronousTestCase):
    """The OAuth client of the Gemini CLI on this machine."""

    def setUp(self) -> None:
        self.home = Path(self.mktemp()).absolute()
        self.home.mkdir()

    def install(self, root: str, file: str, text: str = TEXT) -> Path:
        """Install a Gemini CLI whose *file* holds *text*; return it."""
        path = self.home / root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def find(self, *roots: str, search: str = "") -> tuple[str, str] | None:
        """Look for it in the home folder only."""
        return installed_client(search=search or str(self.home), roots=roots, home=self.home)

    def test_places(self) -> None:
        """It is found where npm and its like put it, in one piece or in parts."""
        for number, (root, file) in enumerate(
            (
                ("lib", "@google/gemini-cli/bundle/chunk-ABC.js"),
                ("lib", "@google/gemini-cli-core/dist/src/code_assist/oauth2.js"),
                (
                    "lib",
                    "@google/gemini-cli/node_modules/@google/gemini-cli-core/dist/src/"
                    "code_assist/oauth2.js",
                ),
                (".nvm/versions/node/v22/lib/node_modules", "@google/gemini-cli/bundle/x.js"),
            )
        ):
            self.home = self.home.parent / f"{self.home.name}-{number}"
            self.install(root, file)
            self.assertEqual(self.find(str(self.home / "lib")), (ID, SECRET), file)
            self.assertEqual(self.find("~/lib"), (ID, SECRET), file)

    def test_on_the_path(self) -> None:
        """It is found by the program on the user's path, through its link."""
        program = self.install("lib", "@google/gemini-cli/bundle/gemini.js")
        program.chmod(0o755)
        (self.home / "bin").mkdir()
        (self.home / "bin" / "gemini").symlink_to(program)
        self.assertEqual(self.find(search=str(self.home / "bin")), (ID, SECRET))

    def test_nowhere(self) -> None:
        """Where there is none, or one in another form, there is no client."""
        self.assertIsNone(self.find("~/lib"))
        for text in ("", TEXT.replace("OAUTH_CLIENT_SECRET", "X"), TEXT.replace(ID, "x" * 30)):
            self.install("lib", "@google/gemini-cli/bundle/x.js", text)
            self.assertIsNone(self.find("~/lib"))
        self.assertIsNone(client_in(self.home))

    def test_login_client(self) -> None:
        """Settings come before what is installed."""
        settings = {"gemini_oauth_client_id": ID, "gemini_oauth_client_secret": SECRET}
        self.assertEqual(login_client(settings), (ID, SECRET))


class RenewingTests(SynchronousTestCase):
    """Renewing the tokens of an account."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_000_000)
        self.looked = 0

    def login(
        self,
        *answers: MemoryResponse,
        installed: tuple[str, str] | None = None,
    ) -> Login:
        """Return a login where Google answers so."""
        self.upstream = MemoryUpstream(answers)

        def find() -> tuple[str, str] | None:
            self.looked += 1
            return installed

        def in_thread(function: Any, *args: Any) -> Deferred[Any]:
            return maybeDeferred(function, *args)

        book = TokenBook(
            clock=self.clock,
            now=self.clock.seconds,
            jitter=lambda: 0.5,
            in_thread=in_thread,
        )
        return Login("g", self.upstream, self.clock, book, in_thread, find)

    def renew(self, login: Login, document: Any = DOCUMENT, **settings: Any) -> Any:
        """Return what becomes of *document*, or the error."""
        packed = base64.b64encode(json.dumps(document).encode()).decode()
        told = GeminiCLISettings(gemini_oauth_creds_base64=packed, **settings)
        keeper = login.keeper(one_account("g", told))
        renewal: Any = keeper.renewal
        done: list[Any] = []
        renewal.renew(document).addBoth(done.append)
        if not done:
            return None
        return getattr(done[0], "value", done[0])

    def test_renewed(self) -> None:
        """A form goes to the token endpoint, and what it answers is kept."""
        told = b'{"access_token":"ya29.two","expires_in":3599,"scope":"s","token_type":"Bearer"}'
        login = self.login(MemoryResponse(200, (), [told]))
        changes = self.renew(
            login,
            gemini_oauth_client_id=ID,
            gemini_oauth_client_secret=SECRET,
            gemini_oauth_token_url="http://127.0.0.1:1/token",
        )
        self.assertEqual(
            changes,
            {
                "access_token": "ya29.two",
                "expiry_date": 1_003_599_000,
                "scope": "s",
                "token_type": "Bearer",
            },
        )
        (sent,) = self.upstream.sent
        self.assertEqual(sent.request.url, "http://127.0.0.1:1/token")
        self.assertEqual(
            sent.request.body,
            f"client_id={ID}&client_secret={SECRET}&refresh_token=1%2F%2Fone"
            "&grant_type=refresh_token".encode(),
        )

    def test_another_refresh_token(self) -> None:
        """A new refresh token is kept, should there be one."""
        told = b'{"access_token":"a","refresh_token":"1//two"}'
        login = self.login(MemoryResponse(200, (), [told]), installed=(ID, SECRET))
        self.assertEqual(self.renew(login)["refresh_token"], "1//two")

    def test_whose_client(self) -> None:
        """Settings come first, then the credential itself, then what is installed; kept."""
        good = b'{"access_token":"a"}'
        login = self.login(
            *(MemoryResponse(200, (), [good]) for _ in range(4)), installed=("i", "j")
        )
        own = {**DOCUMENT, "client_id": "d", "client_secret": "e"}
        self.renew(login, own, gemini_oauth_client_id="s", gemini_oauth_client_secret="t")
        self.renew(login, own)
        self.renew(login)
        self.renew(login, gemini_oauth_client_id="only half")
        bodies = [sent.request.body or b"" for sent in self.upstream.sent]
        self.assertEqual(
            [body.split(b"&")[0] for body in bodies],
            [b"client_id=s", b"client_id=d", b"client_id=i", b"client_id=i"],
        )
        self.assertEqual(self.looked, 1)

    def test_no_client(self) -> None:
        """Without any, the error says what to install or to write; it is looked for again."""
        login = self.login()
        for _ in range(2):
            error = self.renew(login)
            self.assertEqual((error.fault, error.code), (Fault.PERMISSION, "no_oauth_client"))
            self.assertIn("gemini_oauth_client_secret", error.message)
        self.assertEqual(self.looked, 2)

    def test_refusals(self) -> None:
        """Only a dead refresh token ends the login; the rest passes or is a setting's fault."""
        for status, told, fault, word in (
            (400, {"error": "invalid_grant"}, Fault.CREDENTIAL, "log in again"),
            (401, {"error": "invalid_client"}, Fault.PERMISSION, "gemini_oauth_client_id"),
            (401, {"error": "unauthorized_client"}, Fault.PERMISSION, "gemini_oauth_client_id"),
            (400, {"error": "invalid_request"}, Fault.SERVER, "later"),
            (429, {"error": "rate"}, Fault.RATE_LIMIT, "later"),
            (200, {}, Fault.SERVER, "later"),
            (503, {}, Fault.SERVER, "later"),
        ):
            later = ((b"retry-after", b"7"),)
            answer = MemoryResponse(status, later, [json.dumps(told).encode()])
            error = self.renew(self.login(answer, installed=(ID, SECRET)))
            assert isinstance(error, UpstreamError)
            self.assertEqual(error.fault, fault, status)
            self.assertEqual(error.retry_after, 7.0 if word == "later" else None)
            self.assertIn(word, error.message)
            for secret in (SECRET, "1//one", "ya29.one"):
                self.assertNotIn(secret, error.message)

    def test_what_cannot_be_renewed(self) -> None:
        """A service account, or a credential without a refresh token, needs a login."""
        for document in (
            {"type": "service_account", "refresh_token": "r"},
            {"access_token": "a"},
        ):
            error = self.renew(self.login(), document)
            self.assertIs(error.fault, Fault.CREDENTIAL)
            self.assertIn("aiclient2api login gemini-cli-oauth", error.message)

    def test_no_credential(self) -> None:
        """An account with nothing, or with nonsense, is told what to do."""
        login = self.login()
        for packed in (None, "", "%%%", base64.b64encode(b"[]").decode()):
            account = one_account("g", GeminiCLISettings(gemini_oauth_creds_base64=packed))
            error = self.assertRaises(UpstreamError, login.keeper, account)
            self.assertIs(error.fault, Fault.CREDENTIAL)
            self.assertIn("log in again", error.message)
        self.assertEqual(self.assertRaises(UpstreamError, login.token, {}).status, 401)

    def test_secrets_of_an_account(self) -> None:
        """The client's secret is among them, wherever it was found."""
        told = MemoryResponse(200, (), [b'{"access_token":"a"}'])
        login = self.login(told, installed=(ID, SECRET))
        account = one_account("g", GeminiCLISettings(gemini_oauth_client_secret="written"))
        self.assertEqual(login.secrets(account, {}), ("written",))
        self.renew(login)
        self.assertEqual(login.secrets(account, {"access_token": "a"}), ("a", "written", SECRET))
