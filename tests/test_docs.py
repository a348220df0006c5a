"""
What the documentation says, held against the program.

Links lead somewhere, examples parse and start the gateway, commands name paths and
options that exist, and both READMEs say the same. Prose is for people to judge.
"""

from __future__ import annotations

import ast
import json
import re
import shlex
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.etree import ElementTree

import attrs
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.accounts.account import LONGEST_REST, PACES, Event, Kind, Law, Phase, State
from aiclient2api.accounts.budget import RetryBudget
from aiclient2api.accounts.lines import STRATEGIES
from aiclient2api.accounts.pools import Pools
from aiclient2api.accounts_cli_options import parse as parse_accounts
from aiclient2api.assembly import build_setup
from aiclient2api.banner import Door, banner
from aiclient2api.config import FLAGS, Settings, load
from aiclient2api.config import keys as config_keys
from aiclient2api.conversation.vault import SealVault
from aiclient2api.conversions import Conversions
from aiclient2api.dialects.all import DIALECTS
from aiclient2api.errors import GatewayError
from aiclient2api.exchange import Patience
from aiclient2api.explain import explain
from aiclient2api.interfaces import IDialect, ILogins
from aiclient2api.login_cli_options import parse_import, parse_login
from aiclient2api.observe import webhook
from aiclient2api.observe.observers import Observers
from aiclient2api.options import Options, provider_factories
from aiclient2api.probes import MOST as MOST_PROBES
from aiclient2api.probes import PATIENCE as PROBE_SECONDS
from aiclient2api.providers._sandbox_answer import MODELS
from aiclient2api.upstream.answers import passed_headers
from aiclient2api.values import Endpoint, Runtime
from aiclient2api.vendors import VENDORS
from aiclient2api.web.answering import ACCOUNT, MODEL, PROVIDER
from aiclient2api.web.front import OPERATORS
from aiclient2api.web.model_lists import ModelLists

ROOT = Path(__file__).resolve().parent.parent
README, README_ZH = ROOT / "README.md", ROOT / "README.zh.md"
ACCOUNTS = ROOT / "docs/accounts.md"
PAGES = [
    README,
    README_ZH,
    *sorted((ROOT / "docs").glob("*.md")),
    *(
        page
        for page in (ROOT / "bench/README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md")
        if page.exists()
    ),
]

HERE = ("127.0.0.1", "localhost")
COMMANDS = ("aiclient2api", "bin/aiclient2api")
OTHERS = (["accounts"], ["explain"], ["login"], ["import"])
"""Commands with options of their own."""
EVERYWHERE = ("--help", "--version")
"""Options that the command has besides those of the table."""

_FENCE = re.compile(r"^( *)```(\S*)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)


class Block(NamedTuple):
    """One fenced block."""

    page: Path
    language: str
    text: str


def blocks(*pages: Path, language: str | None = None) -> list[Block]:
    """Return the fenced blocks of *pages*, or those of one language."""
    found = []
    for page in pages:
        for match in _FENCE.finditer(page.read_text("utf-8")):
            text = re.sub(f"^{match[1]}", "", match[3], flags=re.MULTILINE)
            found.append(Block(page, match[2], text))
    return [block for block in found if language in (None, block.language)]


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return _FENCE.sub("", page.read_text("utf-8"))


def spans(page: Path) -> list[str]:
    """Return what stands between backticks in a page's prose."""
    return _CODE.findall(prose(page))


def links(page: Path) -> list[str]:
    """Return the targets of a page's links, pictures included."""
    return _LINK.findall(_CODE.sub("", prose(page)))


def headings(page: Path) -> list[tuple[int, str]]:
    """Return level and anchor of a page's headings, as GitHub makes them."""
    return [
        (len(marks), re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-"))
        for marks, text in _HEADING.findall(prose(page))
    ]


def commands(*pages: Path) -> Iterator[list[str]]:
    """Yield the words of every command line in the shell blocks of *pages*."""
    for block in blocks(*pages):
        if block.language in ("sh", "text"):
            for line in block.text.replace("\\\n", " ").splitlines():
                if line.strip() and (block.language == "sh" or "curl " in line):
                    yield shlex.split(line, comments=True)


class Call(NamedTuple):
    """One ``curl`` against the gateway."""

    method: str
    url: str
    body: str | None


def calls(*pages: Path) -> list[Call]:
    """Return every ``curl`` of *pages* that goes to this machine's gateway."""
    found = []
    for words in commands(*pages):
        if "curl" not in words[:2]:
            continue
        url = next(word for word in words if word.startswith("http"))
        if urlsplit(url).hostname not in HERE:
            continue
        body = next((words[at + 1] for at, word in enumerate(words) if word == "-d"), None)
        method = "POST" if body is not None else "HEAD" if "-I" in words else "GET"
        found.append(Call(method, url, body))
    return found


def is_provider(name: str, known: tuple[str, ...]) -> bool:
    """Say whether *name* is a provider's, suffix and all."""
    return any(name == kind or name.startswith(f"{kind}-") for kind in known)


def served(method: str, path: str, known: tuple[str, ...]) -> tuple[IDialect, Endpoint, str] | None:
    """Return who answers at *path*: dialect, endpoint and the rest of the path."""
    segments = path.strip("/").split("/")
    if len(segments) > 1 and (segments[0] == "auto" or is_provider(segments[0], known)):
        segments = segments[1:]
    plain = unquote("/" + "/".join(segments))
    for dialect in DIALECTS:
        for endpoint in dialect.endpoints:
            pattern = re.escape(endpoint.path).replace("<path:rest>", "(.+)")
            match = re.fullmatch(pattern, plain)
            if match and endpoint.method == ("GET" if method == "HEAD" else method):
                return dialect, endpoint, match[1] if match.groups() else ""
    return None


class DocsCase(SynchronousTestCase):
    """What the tests below share: a directory, and the gateway's own reading of it."""

    def load(self, **files: Mapping[str, Any]) -> Settings:
        """Return what the gateway makes of these files (``config`` and ``provider_pools``)."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        for name, content in files.items():
            (folder / f"{name}.json").write_text(json.dumps(content), "utf-8")
        return load(
            flags={},
            environ={"HOME": str(folder)},
            cwd=folder,
            factories=provider_factories(),
            system_config=folder / "none.json",
            uid=1000,
        )


class LinkTests(SynchronousTestCase):
    """Links between pages and into the sources."""

    def test_every_link_leads_somewhere(self) -> None:
        """A reader who follows a link finds a file, and the heading it names."""
        broken = []
        for page in PAGES:
            for link in links(page):
                name, _, anchor = link.partition("#")
                if urlsplit(link).scheme:
                    continue
                target = (page.parent / unquote(name)).resolve() if name else page
                known = [anchor for _, anchor in headings(target)] if target.suffix == ".md" else []
                if not target.exists() or (anchor and unquote(anchor) not in known):
                    broken.append(f"{page.name}: {link}")
        self.assertEqual(broken, [])

    def test_links_stay_inside(self) -> None:
        """No link leads out of the checkout, to a place only its author has."""
        out = [
            f"{page.name}: {link}"
            for page in PAGES
            for link in links(page)
            if not urlsplit(link).scheme
            and not (page.parent / link.partition("#")[0]).resolve().is_relative_to(ROOT)
        ]
        self.assertEqual(out, [])

    def test_a_broken_link_would_be_found(self) -> None:
        """The reading of links and headings is not blind."""
        page = Path(self.mktemp())
        page.write_text("# One thing, `two`!\n\n[a](b.md#c) `[x](y)` ![p](q.svg)\n", "utf-8")
        self.assertEqual(links(page), ["b.md#c", "q.svg"])
        self.assertEqual(headings(page), [(1, "one-thing-two")])

    def test_the_picture_can_be_drawn(self) -> None:
        """The sequence picture is well-formed, and its text form names the same parties."""
        tree = ElementTree.parse(ROOT / "docs/images/one-request.svg")
        titles = [
            each.text or ""
            for each in tree.iter()
            if each.tag.endswith("text") and each.get("class") == "t"
        ]
        text = (ROOT / "docs/images/one-request.mmd").read_text("utf-8")
        self.assertGreater(len(titles), 4)
        self.assertEqual([title for title in titles if f" as {title}" not in text], [])


class ExampleTests(DocsCase):
    """Blocks that a reader copies."""

    def test_every_configuration_loads(self) -> None:
        """An example copied into config.json or provider_pools.json has no fault in it."""
        seen: Counter[str] = Counter()
        for block in blocks(*PAGES, language="json"):
            example = json.loads(block.text)
            kind = self._kind(example)
            seen[f"{block.page.name} {kind}"] += 1
            with self.subTest(page=block.page.name, example=block.text):
                self.assertNotEqual(kind, "unknown")
                if kind in ("config", "provider_pools"):
                    settings = self.load(**{kind: example})
                    odd = [said for said in settings.warnings if "known" in said]
                    self.assertEqual(odd, [])
        for page in (README, README_ZH):
            self.assertEqual(seen[f"{page.name} config"], 2)
            self.assertEqual(seen[f"{page.name} provider_pools"], 1)

    def test_the_readme_configures_what_it_says(self) -> None:
        """Each provider of the README's examples is ready to answer."""
        ready: set[str] = set()
        for block in blocks(README, language="json"):
            example = json.loads(block.text)
            providers = self.load(**{self._kind(example): example}).providers
            ready |= {name for name, each in providers.items() if each.reason is None}
        wanted = {"openai-custom", "claude-custom", "gemini-custom", "openai-custom-kimi"}
        self.assertLessEqual(wanted | {"claude-custom-glm", "openai-custom-office"}, ready)

    def test_the_pools_file_of_the_manual_is_whole(self) -> None:
        """Each of its accounts is there, whichever version's spelling it is written in."""
        block = next(each for each in blocks(ACCOUNTS, language="json"))
        providers = self.load(provider_pools=json.loads(block.text)).providers
        found = [account for each in providers.values() for account in each.accounts]
        named = {account.name: account for account in found if account.provider != "sandbox"}
        self.assertEqual(set(named), {"team", "mine", None, "spare"})
        self.assertTrue(named["spare"].disabled)
        self.assertEqual((named["team"].priority, named["team"].concurrency), (1, 4))

    def test_a_faulty_example_would_be_found(self) -> None:
        """A key that is mistyped is no configuration, and is not taken for one."""
        self.assertEqual(self._kind({"opnai_api_key": "x"}), "unknown")
        self.assertEqual(self._kind({"openai-custum": []}), "unknown")
        warnings = self.load(config={"port": 3000, "prot": 3000}).warnings
        self.assertTrue([said for said in warnings if "known" in said])

    def test_code_parses(self) -> None:
        """Python and TOML examples have no slip in them."""
        for block in blocks(*PAGES, language="python"):
            ast.parse(block.text)
        tables = [tomllib.loads(block.text) for block in blocks(*PAGES, language="toml")]
        codex = next(table for table in tables if "model_providers" in table)
        provider = codex["model_providers"][codex["model_provider"]]
        self.assertEqual(provider["wire_api"], "responses")
        self.assertEqual(provider["base_url"], "http://127.0.0.1:3000/v1")

    def test_the_first_start_prints_what_the_readme_shows(self) -> None:
        """What a newcomer sees is what was announced, but for the key."""
        clock = Clock()
        lists = ModelLists(clock)
        setup = build_setup(
            self.load(),
            keys=("k",),
            factories=provider_factories(),
            dialects=DIALECTS,
            runtime=Runtime(clock=clock, upstream=None),
            lists=lists,
            conversions=Conversions(vault=SealVault(clock.seconds), make_id=lambda: "0" * 48),
            answers=None,
            pools=Pools(clock=clock, now=clock.seconds, jitter=lambda: 0.0),
            budget=RetryBudget(),
            observers=Observers(),
            saw=lambda request: None,
            clock=clock,
            jitter=lambda: 0.0,
        )
        key_file = Path("/home/you/.local/state/aiclient2api/api_key")
        door = Door("http://127.0.0.1:3000", "http://127.0.0.1:3000")
        shown = banner(door, setup, key_file=key_file, made_key="ak-…", is_open=False)
        for page in (README, README_ZH):
            (block,) = blocks(page, language="text")
            self.assertEqual(block.text.strip(), shown.strip())

    def _kind(self, example: Any) -> str:
        """Return which file *example* is for."""
        if not isinstance(example, dict) or "$schema" in example:
            return "not ours"
        known = self.load().known_providers
        if example and all(is_provider(name, known) for name in example):
            return "provider_pools"
        names = {name for key in config_keys.KEYS for name in (key.name, *key.also)}
        for factory in provider_factories():
            names |= {field.name for field in attrs.fields(factory.settings)}
        folded = {config_keys.folded(name) for name in names}
        is_config = any(config_keys.folded(name) in folded for name in example)
        return "config" if is_config else "unknown"


class CommandTests(DocsCase):
    """Command lines that a reader types."""

    def test_every_curl_goes_to_a_route(self) -> None:
        """Each ``curl`` of the documentation reaches a path that the gateway answers."""
        known = self.load().known_providers
        found = calls(*PAGES)
        lost = []
        for call in found:
            path = urlsplit(call.url).path
            if path not in (*OPERATORS, "/", "") and served(call.method, path, known) is None:
                lost.append(f"{call.method} {path}")
        self.assertEqual(lost, [])
        self.assertGreater(len(calls(README)), 1)

    def test_every_curl_sends_a_request_of_its_dialect(self) -> None:
        """The body of each ``curl`` is one that its path takes."""
        known = self.load().known_providers
        for call in calls(*PAGES):
            url = urlsplit(call.url)
            answering = served(call.method, url.path, known)
            if call.body is None or answering is None:
                continue
            dialect, endpoint, rest = answering
            query = [(name, value) for name, value in parse_qsl(url.query) if name != "key"]
            route = dialect.route(endpoint=endpoint, rest=rest, query=query, headers={})
            try:
                dialect.parse(body=call.body.encode(), route=route)
            except GatewayError as error:
                self.fail(f"{call.url}: {error.message}")

    def test_a_lost_curl_would_be_found(self) -> None:
        """The search for routes knows a wrong path and a wrong method."""
        known = self.load().known_providers
        self.assertIsNone(served("POST", "/v1/chat/completion", known))
        self.assertIsNone(served("GET", "/v1/messages", known))
        self.assertIsNone(served("POST", "/nobody/v1/messages", known))
        self.assertIsNotNone(served("POST", "/claude-custom-glm/v1/messages", known))

    def test_every_option_exists(self) -> None:
        """An option named for this program is one that it has."""
        table = {flag.name for flag in FLAGS} | set(EVERYWHERE)
        table |= {f"--{name}" for name, *_ in Options.optFlags}
        used = [
            (words[0], word.partition("=")[0])
            for words in commands(*PAGES)
            if words and words[0] in COMMANDS and words[1:2] not in OTHERS
            for word in words
            if word.startswith("--")
        ]
        for page in (README, README_ZH, ROOT / "docs/security.md", ROOT / "docs/configuration.md"):
            for span in spans(page):
                words = span.split()
                if span.startswith("--") or words[0] in COMMANDS:
                    used += [(page.name, word) for word in words if word.startswith("--")]
        self.assertGreater(len(used), 5)
        self.assertEqual([each for each in used if each[1] not in table], [])

    def test_every_command_about_accounts_is_understood(self) -> None:
        """Each ``accounts`` command of the documentation is one that the program takes."""
        typed = [words[2:] for words in commands(*PAGES) if words[1:2] == ["accounts"]]
        refused = [words for words in typed if isinstance(parse_accounts(words)[0], int)]
        self.assertEqual(refused, [])
        self.assertGreater(len(typed), 5)

    def test_every_question_why_is_understood(self) -> None:
        """Each ``explain`` command of the documentation is one that the program takes."""
        state = self.mktemp()
        typed = [words[2:] for words in commands(*PAGES) if words[1:2] == ["explain"]]
        for words in typed:
            # There is nothing to tell of there, which is another matter than bad usage.
            with redirect_stderr(StringIO()):
                self.assertEqual(explain([*words, f"--state-dir={state}"]), 1, words)
        self.assertGreater(len(typed), 1)

    def test_every_login_is_understood(self) -> None:
        """Each ``login`` and ``import`` of the documentation is one that the program takes."""
        typed = [words[1:] for words in commands(*PAGES) if words[1:2] in (["login"], ["import"])]
        logins = {each.name: ILogins(each, None) for each in provider_factories()}
        known = {name: each for name, each in logins.items() if each is not None}
        for command, *words in typed:
            if command == "import":
                self.assertFalse(isinstance(parse_import(words)[0], int), words)
                continue
            options, choices, _ = parse_login(words, known)
            assert not isinstance(options, int), words
            mine = {option.name for option in known[options.provider].options}
            self.assertLessEqual(set(choices), mine)
        self.assertGreater(len(typed), 5)

    def test_every_variable_of_ours_is_read_somewhere(self) -> None:
        """An environment variable that is documented has an effect."""
        places = [
            *(ROOT / "aiclient2api").rglob("*.py"),
            *(each for folder in ("bin", "etc") for each in (ROOT / folder).rglob("*")),
        ]
        source = "".join(each.read_text("utf-8") for each in places if each.is_file())
        # Whoever works on the gateway may tell the tests something, too.
        lent = "".join(each.read_text("utf-8") for each in (ROOT / "tests").rglob("*.py"))
        for page in PAGES:
            read = source + lent if page.name == "CONTRIBUTING.md" else source
            for name in set(re.findall(r"AICLIENT2API_[A-Z_]+", page.read_text("utf-8"))):
                self.assertIn(name, read, page.name)


class ClaimTests(DocsCase):
    """Lists and tables that repeat what the program knows."""

    def test_the_sandbox_models_are_those_there_are(self) -> None:
        """Every model of the sandbox is in the README, and no other."""
        for page in (README, README_ZH):
            named = {span for span in spans(page) if re.fullmatch(r"sandbox(-[a-z0-9-]+)?", span)}
            self.assertEqual(named, set(MODELS))

    def test_every_provider_is_named(self) -> None:
        """Providers that answer and providers that do not yet are told apart."""
        built = {factory.name for factory in provider_factories()}
        self.assertEqual(built & set(config_keys.UNBUILT), set())
        for page in (README, README_ZH):
            named = set(spans(page))
            self.assertEqual((built | set(config_keys.UNBUILT) | set(VENDORS)) - named, set())

    def test_every_route_is_named(self) -> None:
        """The README has every path that a dialect answers on."""
        paths = [endpoint.path for dialect in DIALECTS for endpoint in dialect.endpoints]
        for page in (README, README_ZH):
            # Gemini's routes are said to be there under /v1 as well, and not listed twice.
            text = " ".join(spans(page)) + " /v1/models/{model}"
            for path in paths:
                self.assertIn(path.removesuffix("<path:rest>"), text)
            for path in OPERATORS:
                self.assertIn(path, text)

    def test_the_clocks_are_those_there_are(self) -> None:
        """The table of clocks has every clock with its default."""
        text = (ROOT / "docs/architecture.md").read_text("utf-8")
        for key in config_keys.TIMEOUT_KEYS:
            self.assertIn(f"| `{key.name}` | {key.default:g} |", text)

    def test_the_headers_that_pass_do(self) -> None:
        """Each header that is said to reach a client does, and a cookie does not."""
        page = (ROOT / "docs/security.md").read_text("utf-8")
        (row,) = re.findall(r"^\| Headers \|(.+)\|$", page, re.MULTILINE)
        for name in _CODE.findall(row):
            line = ((name + "x" if name.endswith("-") else name).encode(), b"1")
            self.assertEqual(passed_headers((line,)), (line,))
        self.assertEqual(passed_headers(((b"set-cookie", b"1"),)), ())


class AccountsTests(DocsCase):
    """docs/accounts.md, and what else says how several accounts behave."""

    def setUp(self) -> None:
        """Read the page."""
        self.text = ACCOUNTS.read_text("utf-8")
        self.flat = _flat(self.text)

    def test_the_rests_are_those_there_are(self) -> None:
        """The table has every reason, the state it leads to and its seconds."""
        # No provider that is built renews anything.
        told = {kind for kind in PACES if kind is not Kind.REFRESH_FAILED}
        for kind in told:
            pace, state = PACES[kind], State()
            while state.phase is Phase.READY:
                state = Law().next(state, Event(kind), now=1.0)
            row = f"| `{kind.value}` | `{state.phase.value}` "
            row += f"| {pace.first:g} | {pace.longest:g} | {pace.hinted:g} |"
            self.assertIn(row, self.text)
        rows = re.findall(r"^\| `(\w+)` \| `\w+` \| \d+ \| \d+ \| \d+ \|$", self.text, re.M)
        self.assertEqual(sorted(rows), sorted(kind.value for kind in told))
        self.assertEqual(LONGEST_REST, 3600)

    def test_the_strategies_are_those_there_are(self) -> None:
        """Both pages have every strategy, and no other."""
        rows = re.findall(r"^\| `(\w+)` \| [^|]*\|$", self._part("Who is next"), re.M)
        self.assertEqual(rows, ["selection", *STRATEGIES])
        page = (ROOT / "docs/configuration.md").read_text("utf-8")
        for name in STRATEGIES:
            self.assertIn(f"\n| {name} | ", page)

    def test_the_states_are_those_there_are(self) -> None:
        """Every state that an account may be in is named."""
        for phase in Phase:
            self.assertIn(f"`{phase.value}`", self.text)
        page = (ROOT / "docs/architecture.md").read_text("utf-8")
        self.assertIn(
            f"each of {len(Kind)} events does in each of {len(Phase)} states", _flat(page)
        )

    def test_the_numbers_are_those_in_force(self) -> None:
        """What is said to be so without any configuration is so."""
        settings = self.load()
        size, budget = f"{settings.affinity.size:,}", settings.retry_budget
        assert budget is not None
        for said in (
            f"for {settings.timeouts.queue:g} seconds at most (`timeouts.queue`)",
            f"rests after {settings.max_error_count} such requests in a row (`max_error_count`)",
            f"at most `request_max_retries` times ({settings.max_retries})",
            f"at most `credential_switch_max_retries` times "
            f"({settings.credential_switch_max_retries})",
            f"within {settings.wait_for_account:g} seconds (`wait_for_account`)",
            f"for an hour after the last turn and {size} at most (`affinity`)",
            f"each `probe.interval` ({settings.probe.interval:g} s)",
            f"| `{settings.probe.mode}` | nothing, the default",
            f"may take {webhook.PATIENCE:g} seconds",
            f"once more after {webhook.RETRY_DELAY:g} seconds",
            f"It may take {PROBE_SECONDS:g} seconds",
        ):
            self.assertIn(said, self.flat)
        self.assertEqual(settings.strategy_for("openai-custom"), "round_robin")
        self.assertIn("| `round_robin` | everyone in turn; the default |", self.text)
        self.assertEqual((settings.affinity.ttl, MOST_PROBES), (3600, 4))
        self.assertEqual((budget.share, budget.floor), (0.2, 10))
        self.assertIn("a fifth, and always ten,", self.flat)
        defaults = Patience()
        self.assertEqual(
            (defaults.max_retries, defaults.max_switches, defaults.wait),
            (
                settings.max_retries,
                settings.credential_switch_max_retries,
                settings.wait_for_account,
            ),
        )

    def test_the_headers_and_paths_are_named(self) -> None:
        """Whoever looks for a header or a path of ours finds what it means."""
        for name in (PROVIDER, MODEL, ACCOUNT):
            self.assertIn(f"`{name.decode()}`", self.text)
        for path in OPERATORS:
            self.assertRegex(self.text, rf"\| `(GET|POST) {path}` \|")

    def _part(self, heading: str) -> str:
        return self.text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def _flat(text: str) -> str:
    """Return the sentences of *text*, however their lines are broken."""
    return " ".join(text.split())


class TwinTests(SynchronousTestCase):
    """README.md and README.zh.md, which must not drift apart."""

    def test_same_headings(self) -> None:
        """Both have the same sections in the same order."""
        levels = [[level for level, _ in headings(page)] for page in (README, README_ZH)]
        self.assertEqual(levels[0], levels[1])
        self.assertGreater(len(levels[0]), 10)

    def test_same_links(self) -> None:
        """Both lead to the same places."""
        english, chinese = (
            Counter("#" if link.startswith("#") else link for link in links(page))
            for page in (README, README_ZH)
        )
        self.assertEqual(english - chinese, Counter({"README.zh.md": 1}))
        self.assertEqual(chinese - english, Counter({"README.md": 1}))

    def test_same_examples(self) -> None:
        """Both have the same blocks, but for remarks."""
        english, chinese = (
            [(each.language, re.sub(r" +# .*", "", each.text)) for each in blocks(page)]
            for page in (README, README_ZH)
        )
        self.assertEqual(english, chinese)

    def test_same_names(self) -> None:
        """What stands between backticks is the same in both."""
        english, chinese = (set(spans(page)) for page in (README, README_ZH))
        self.assertEqual(english ^ chinese, set())

    def test_same_tables(self) -> None:
        """Both have tables of the same shape."""
        english, chinese = (
            [line.count("|") for line in prose(page).splitlines() if line.startswith("|")]
            for page in (README, README_ZH)
        )
        self.assertEqual(english, chinese)
