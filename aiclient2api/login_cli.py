"""
``aiclient2api login``: a person logs in with a browser, and the account is there.

It drives a provider's `ILoginFlow` on a terminal: says what to open, opens it where it can,
counts down, takes a pasted address. It knows no vendor; an end by Ctrl-C leaves nothing.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import webbrowser
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlsplit

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall, react
from twisted.python.failure import Failure

from aiclient2api.config import Settings
from aiclient2api.errors import ConfigurationError, GatewayError, InvalidRequest
from aiclient2api.interfaces import ILoginFlow, ILogins
from aiclient2api.login_cli_accounts import Place, login_of, write_credential
from aiclient2api.login_cli_options import parse_login
from aiclient2api.options import provider_factories
from aiclient2api.upstream.client import Upstream
from aiclient2api.values import Runtime

INTERRUPTED = 130
"""The exit status after Ctrl-C, as shells have it."""

LONGEST_LINE = 64 * 1024
"""Bytes of what is typed that are held until a line ends."""

Lines = Callable[[Callable[[str], None]], None]
"""Told whom to tell of each line that is typed."""


def login(arguments: Sequence[str]) -> int:
    """
    Run the command.

    :return: The exit status: 0 well, 1 there is no account, 2 bad usage, 130 given up.
    """
    factories = provider_factories()
    known = {factory.name: login_of(factory) for factory in factories}
    offered = {name: each for name, each in known.items() if each is not None}
    options, choices, flags = parse_login(arguments, offered)
    if isinstance(options, int):
        return options
    try:
        session = _session(options, choices, Place(flags, dict(os.environ), Path.cwd(), factories))
    except InvalidRequest as error:
        print(f"aiclient2api login: {error.message}", file=sys.stderr)
        return 2
    except ConfigurationError as error:
        for fault in error.faults:
            print(f"aiclient2api login: {fault}", file=sys.stderr)
        return 1
    except OSError as error:
        return _told_of(error)
    print(f"{session.kind} - {' '.join(session.terms.split())}\n", flush=True)
    ended: list[int] = []
    with suppress(SystemExit):
        react(_run, (session, ended))
    # Nothing is there if a signal came first.
    return ended[0] if ended else INTERRUPTED


def _session(options: Namespace, choices: Mapping[str, str], place: Place) -> Session:
    kind = place.kind(options.provider)
    logins = login_of(kind.factory)
    if kind.factory is None or logins is None:
        why = "is not built yet" if kind.factory is None else "has no login"
        raise InvalidRequest(
            f"{kind.name} {why}; an account with a key is added with aiclient2api accounts add "
            f"{options.provider}."
        )
    mine = {option.name for option in logins.options}
    strange = [name for name in choices if name not in mine]
    if strange:
        raise InvalidRequest(f"The login of {kind.name} has no --{strange[0]}; leave it out.")
    settings = place.settings()
    return Session(
        provider=options.provider,
        kind=kind.name,
        terms=kind.factory.terms,
        name=options.name,
        browser=not options.no_browser and can_browse(place.environ),
        choices=choices,
        logins=logins,
        place=place,
        settings=settings,
        own=place.provider_settings(options.provider, logins),
    )


@attrs.frozen
class Session:
    """One login, about to begin: what it is to, and where the account goes."""

    provider: str
    kind: str
    terms: str
    name: str | None
    browser: bool
    choices: Mapping[str, str] = attrs.field(repr=False)
    logins: ILogins
    place: Place
    settings: Settings
    own: Mapping[str, Any] = attrs.field(repr=False)

    def flow(self, runtime: Runtime) -> ILoginFlow:
        """
        Make the flow.

        :raise GatewayError: if it cannot be made.
        """
        return self.logins.login(options=self.choices, runtime=runtime, settings=self.own)

    def keep(self, document: Mapping[str, Any]) -> None:
        """
        Write the credential file and add the account.

        :raise OSError: if a file cannot be written.
        :raise ConfigurationError: if the account cannot be added; the file is kept then,
            and told of.
        """
        path = write_credential(self.settings.state_dir, self.logins, document)
        print(f"The credential is in {path}; only its owner can read it.")
        entry = dict(self.logins.entry(path=path, document=document))
        if self.name is not None:
            entry["customName"] = self.name
        try:
            self.place.add(self.provider, entry, command="login")
        except (ConfigurationError, GatewayError, OSError):
            told = " ".join(f"{key}={value}" for key, value in entry.items())
            print(
                "aiclient2api login: the account was not added; once what follows is mended: "
                f"aiclient2api accounts add {self.provider} {told}",
                file=sys.stderr,
            )
            raise


def _run(reactor: Any, session: Session, ended: list[int]) -> Deferred[None]:
    upstream = Upstream(
        reactor=reactor,
        connect_timeout=session.settings.timeouts.connect,
        environ=session.place.environ,
    )
    terminal = Terminal(
        out=sys.stdout,
        clock=reactor,
        lines=lambda tell: read_lines(lambda line: reactor.callFromThread(tell, line)),
        browse=open_browser if session.browser else None,
    )
    asking = Deferred.fromCoroutine(
        log_in(session, terminal, Runtime(clock=reactor, upstream=upstream))
    )

    def interrupted() -> Deferred[None]:
        asking.cancel()
        return done

    def note(status: int | Failure) -> None:
        if isinstance(status, Failure):
            status.printTraceback(file=sys.stderr)
            status = 1
        ended.append(status)

    done: Deferred[None] = Deferred()
    asking.addBoth(note)
    asking.addCallback(lambda _: done.callback(None))
    reactor.addSystemEventTrigger("before", "shutdown", interrupted)
    result: Deferred[None] = Deferred()
    done.addCallback(lambda _: upstream.close()).addBoth(lambda _: result.callback(None))
    return result


async def log_in(session: Session, terminal: Terminal, runtime: Runtime) -> int:
    """
    Have a person log in, and keep the account.

    :return: The exit status. Cancelling its Deferred gives up, and is one, too.
    """
    try:
        flow = session.flow(runtime)
        await flow.start()
        document = await terminal.drive(flow)
        session.keep(document)
    except CancelledError:
        print("\naiclient2api login: given up; nothing was changed", file=sys.stderr)
        return INTERRUPTED
    except GatewayError as error:
        print(f"aiclient2api login: {error.message}", file=sys.stderr)
        return 1
    except ConfigurationError as error:
        for fault in error.faults:
            print(f"aiclient2api login: {fault}", file=sys.stderr)
        return 1
    except OSError as error:
        return _told_of(error)
    return 0


@attrs.frozen
class Terminal:
    """
    Where a person looks and types.

    :ivar lines: Reads what is typed.
    :ivar browse: Opens an address, or None: only the person does.
    :ivar now: Returns Unix seconds.
    """

    out: TextIO
    clock: Any
    lines: Lines
    browse: Callable[[str], None] | None
    now: Callable[[], float] = time.time

    async def drive(self, flow: ILoginFlow) -> Mapping[str, Any]:
        """
        Show what is to be done until it is; return the credential document.

        :raise UpstreamError: as the flow's own.
        """
        # A line that is rewritten each second is in the way of who is to type on it.
        countdown = LoopingCall(self._count, flow)
        countdown.clock = self.clock
        finishing = flow.finish()
        try:
            print(f"{flow.hint}\n\n  {flow.url}\n", file=self.out)
            if flow.code:
                print(f"  The code is  {flow.code}\n", file=self.out)
            self.out.flush()
            if self.browse is not None and _may_be_opened(flow.url):
                self.browse(flow.url)
            self.lines(lambda line: self._typed(flow, line))
            if self.out.isatty():
                countdown.start(1.0 if flow.code else 10.0)
            return await finishing
        finally:
            if not finishing.called:
                finishing.addErrback(lambda _: None)
                finishing.cancel()
            if countdown.running:
                countdown.stop()
                print(file=self.out, flush=True)

    def _count(self, flow: ILoginFlow) -> None:
        left = max(0, int(flow.expires - self.now()))
        told = f"Waiting for the login; {left // 60}:{left % 60:02d} left. Ctrl-C gives up. "
        print(f"\r{told}", end="", file=self.out, flush=True)

    def _typed(self, flow: ILoginFlow, line: str) -> None:
        if not line.strip():
            return
        try:
            flow.paste(line.strip())
        except InvalidRequest as error:
            print(f"\n{error.message}", file=self.out, flush=True)


def can_browse(environ: Mapping[str, str]) -> bool:
    """Say whether a browser may be opened where this environment is."""
    if environ.get("NO_BROWSER"):
        return False
    return sys.platform in ("darwin", "win32") or bool(
        environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY")
    )


def open_browser(url: str) -> None:
    """Open a browser; in a thread, since some stay until they are closed."""
    threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()


def read_lines(tell: Callable[[str], None]) -> None:
    """Read standard input in a thread, which ends with it or with the process."""

    def read() -> None:
        held = b""
        try:
            # No file object: its lock would be held when the process ends.
            while data := os.read(0, 4096):
                *lines, held = (held + data).split(b"\n")
                held = held[-LONGEST_LINE:]
                for line in lines:
                    tell(line.decode("utf-8", "replace"))
            if held:
                tell(held.decode("utf-8", "replace"))
        except OSError:
            # There is none: then nothing is pasted.
            return

    threading.Thread(target=read, daemon=True).start()


def _may_be_opened(url: str) -> bool:
    return urlsplit(url).scheme in ("http", "https")


def _told_of(error: OSError) -> int:
    why = error.strerror or type(error).__name__
    print(f"aiclient2api login: {error.filename or 'a file'}: {why}", file=sys.stderr)
    return 1
