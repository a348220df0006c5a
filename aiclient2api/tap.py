"""
The composition root: the one place that builds the world.

Nothing else in the package imports the reactor or constructs its collaborators.
"""

from __future__ import annotations

import os
import random
import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger, LogLevel

from aiclient2api import __version__, coredumps, probe_request, statedir
from aiclient2api.accounts.budget import RetryBudget
from aiclient2api.accounts.pools import Pools
from aiclient2api.accounts.store import AccountStore
from aiclient2api.assembly import build_setup
from aiclient2api.banner import Door, banner
from aiclient2api.config import Settings
from aiclient2api.config.pools_file import FILE as POOLS_FILE
from aiclient2api.config.pools_file import pools_place
from aiclient2api.conversation.vault import SealVault
from aiclient2api.conversions import Conversions
from aiclient2api.dialects.all import DIALECTS
from aiclient2api.errors import ConfigurationError
from aiclient2api.following import FollowedFile
from aiclient2api.handing import HandingOver, TakingOver
from aiclient2api.headroom import Headroom
from aiclient2api.interfaces import IExchangeObserver, IProviderFactory
from aiclient2api.logfile import levels
from aiclient2api.notify import notify
from aiclient2api.oauth.tokens import TokenBook
from aiclient2api.observe.fetched_prompt import FetchedPrompt
from aiclient2api.observe.observers import Observers
from aiclient2api.observe.prompt_log import PromptLog
from aiclient2api.observe.scrubber import Scrubber
from aiclient2api.observe.traces import Traces
from aiclient2api.observe.usage import UsageBook
from aiclient2api.observe.webhook import Webhook
from aiclient2api.options import Options as Options
from aiclient2api.probes import Probes
from aiclient2api.renewals import Renewals
from aiclient2api.scrubbing import IN_FORCE, passwords_in, secrets_of
from aiclient2api.service import Gateway
from aiclient2api.state.given import GivenIds
from aiclient2api.state.responses import StoredResponses
from aiclient2api.state.sqlite import FILE as STORE_FILE
from aiclient2api.state.sqlite import SQLiteStore
from aiclient2api.upstream.client import Upstream
from aiclient2api.upstream.fetching import ImageFetcher
from aiclient2api.upstream.proxy import ProxySettings
from aiclient2api.values import Runtime
from aiclient2api.web.admission import Admission
from aiclient2api.web.api import Api
from aiclient2api.web.front import Front
from aiclient2api.web.leaving import Clients
from aiclient2api.web.load import Load
from aiclient2api.web.model_lists import ModelLists
from aiclient2api.web.setup import Setup
from aiclient2api.web.site import GatewaySite

JUST_NOW = 5.0
"""Seconds: what was edited while the gateway started is read once it runs."""


class World:
    """
    Every part of the gateway, wired together; see `service.World`.

    :param load: Reads and checks the configuration anew.
    :param cwd: The folder the program was started in.
    :param named_pools: The accounts' file as the options name it, if they do.
    :param scrubber: What takes secrets out of all that is told, but answers.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        reactor: Any,
        settings: Settings,
        load: Callable[..., Settings],
        environ: Mapping[str, str],
        factories: Sequence[IProviderFactory],
        cwd: Path | None = None,
        named_pools: object = None,
        scrubber: Scrubber | None = None,
    ) -> None:
        cwd = Path.cwd() if cwd is None else cwd
        self.reactor = self.clock = reactor
        self.load = load
        self.factories = factories
        self._settings = settings
        self._environ = environ
        self._own_key: str | None = None
        self._made_key = self._opened = False
        self._scrubber = Scrubber() if scrubber is None else scrubber
        self._upstream = Upstream(
            reactor=reactor, connect_timeout=settings.timeouts.connect, environ=environ
        )
        self._prompt_log = PromptLog(
            mode=settings.prompt_log_mode,
            base_name=settings.prompt_log_base_name,
            clock=reactor,
            now=datetime.now,
            in_thread=self._in_thread,
            clean=self._scrubber.text,
        )
        self._vault = SealVault(reactor.seconds)
        self._store = SQLiteStore(
            settings.state_dir / STORE_FILE, reactor=reactor, clock=reactor, now=time.time
        )
        self._fetched = FetchedPrompt(path=settings.fetch_system_prompt, in_thread=self._in_thread)
        self._lists = ModelLists(reactor, self._store, time.time, self._scrubber)
        self._traces = Traces(self._store, now=time.time, clean=self._scrubber.text)
        self._usage = UsageBook(self._store, now=time.time, clean=self._scrubber.text)
        self._given = GivenIds(self._store)
        self._webhook = Webhook(
            url=lambda: self._settings.health_alert_webhook_url,
            upstream=self._upstream,
            clock=reactor,
            now=time.time,
            clean=self._scrubber.text,
        )
        self._accounts = AccountStore(self._store, reactor)
        self._tokens = TokenBook(
            clock=reactor,
            now=time.time,
            jitter=random.random,
            in_thread=self._in_thread,
            met=self._scrubber.learn_document,
        )
        self._budget = RetryBudget()
        self._load = Load()
        self._pools = Pools(
            clock=reactor,
            now=time.time,
            jitter=random.random,
            cellar=self._accounts,
            changed=self._webhook.changed,
            clean=self._scrubber.text,
        )
        self._probes = Probes(
            clock=reactor,
            jitter=random.random,
            targets=lambda: self._setup.seats.values(),
            ask=partial(probe_request.ask, clock=reactor),
            rules=lambda: self._settings.probe,
        )
        self._renewals = Renewals(
            clock=reactor,
            targets=lambda: self._setup.seats.values(),
            early=lambda: self._settings.renew_early,
        )
        self._followed = FollowedFile(
            path=lambda: pools_place(self._settings, named=named_pools, cwd=cwd),
            reload=lambda: Deferred.fromCoroutine(self._reload_accounts()),
            clock=reactor,
            in_thread=self._in_thread,
            loaded=time.time() - JUST_NOW,
        )
        self._setup = self.use(settings)
        self.front = Front(Api(lambda: self._setup, DIALECTS).resource(), lambda: self._setup)
        self._headroom = Headroom(
            clock=reactor,
            load=self._load,
            limits=lambda: self._settings.limits,
            relieve=lambda: self.site.close_idle(),
        )
        self.site = GatewaySite(
            self.front,
            Admission(
                body_limit=lambda: self._setup.body_limit,
                upload_seconds=lambda: self._setup.upload_seconds,
                admit=self.front.admit,
                render=self.front.render_refusal,
                head_seconds=lambda: self._setup.head_seconds,
                connections=self._headroom.connections,
            ),
            reactor,
        )
        self.clients = Clients(self.front, self.site)

    def settings(self) -> Settings:
        """See `service.World`."""
        return self._settings

    def setup(self) -> Setup:
        """Return the setup in force."""
        return self._setup

    def use(self, settings: Settings) -> Setup:
        """See `service.World`."""
        keys = self._keys(settings)
        self._hold(settings, keys)
        setup = build_setup(
            settings,
            keys=keys,
            factories=self.factories,
            dialects=DIALECTS,
            runtime=Runtime(clock=self.reactor, upstream=self._upstream, tokens=self._tokens),
            lists=self._lists,
            conversions=Conversions(
                vault=self._vault,
                make_id=partial(secrets.token_hex, 24),
                media=self._media(settings),
            ),
            answers=self._answers(settings),
            given=self._given,
            pools=self._pools,
            budget=self._budget,
            load=self._load,
            observers=self.observers(),
            saw=self._fetched.saw,
            clock=self.reactor,
            jitter=random.random,
            scrubber=self._scrubber,
        )
        levels.setLogLevelForNamespace("", LogLevel.lookupByName(settings.log_level))
        self._upstream.connect_timeout = settings.timeouts.connect
        seats = setup.seats.values()
        self._lists.keep([account for seat in seats for account in seat.pool.snapshot()])
        self._settings, self._setup = settings, setup
        return setup

    def observers(self) -> IExchangeObserver:
        """Return whoever is told of every exchange."""
        return Observers(self._prompt_log, self._traces, self._usage)

    def pools(self) -> Pools:
        """Return the accounts of all providers."""
        return self._pools

    async def _reload_accounts(self) -> None:
        """Read the accounts' file anew, and nothing else; a bad one changes nothing."""
        while True:
            before = self._settings
            new = await self._in_thread(
                partial(self.load, listen=before.listen, config_text=before.config_text or b"{}")
            )
            # Somebody may have reloaded everything meanwhile.
            if self._settings is before:
                _not_gone(before, new)
                self.use(new)
                return

    def _media(self, settings: Settings) -> ImageFetcher | None:
        fetch = settings.fetch_images
        if not fetch.enabled:
            return None
        return ImageFetcher(reactor=self.reactor, limit=fetch.bytes, seconds=fetch.seconds)

    def _answers(self, settings: Settings) -> StoredResponses:
        stored = settings.stored_responses
        return StoredResponses(
            self._store, ttl=stored.ttl, total=stored.bytes, one=stored.item_bytes
        )

    def _keys(self, settings: Settings) -> Sequence[str]:
        if settings.keys is not None:
            return settings.keys
        if not self._opened:
            # One that nobody knows, until the state directory may be touched.
            return (secrets.token_hex(32),)
        if self._own_key is None:
            try:
                statedir.make_state_dir(settings.state_dir)
                self._own_key, self._made_key = statedir.own_key(settings.state_dir)
            except (OSError, ValueError) as error:
                raise ConfigurationError(
                    [
                        f"state_dir: no key can be kept in {settings.state_dir} ({error}); name "
                        "a directory that can be written with --state-dir"
                    ]
                ) from error
            self._log.info(
                "The key that clients must send is in {path}.",
                path=settings.state_dir / statedir.KEY_FILE,
            )
        return (self._own_key,)

    def open(self) -> None:
        """See `service.World`. Raises `ConfigurationError` if the state cannot be kept."""
        settings = self._settings
        self._opened = True
        setup = self.use(settings)
        with suppress(OSError):
            # Whoever cannot use it says so.
            statedir.make_state_dir(settings.state_dir)
        self._store.start()
        self._pools.open()
        for name, seat in setup.seats.items():
            self._lists.load(name, seat.pool.snapshot())
        self._probes.start()
        self._renewals.start()
        self._followed.start()
        self._prompt_log.start()
        self._fetched.start()
        self._headroom.start()
        proxies = ProxySettings.from_environ(self._environ)
        for warning in (*settings.warnings, *proxies.faults()):
            self._log.warn("{told}", told=warning)

    def settle(self) -> None:
        """See `service.World`."""
        self._followed.stop()
        self._probes.stop()
        self._renewals.stop()

    def hold(self) -> Deferred[Any]:
        """See `service.World`."""
        return self._accounts.hold()

    def resume(self) -> None:
        """See `service.World`."""
        self._accounts.release()

    def close(self) -> Deferred[Any]:
        """See `service.World`."""
        self._headroom.stop()
        self._followed.stop()
        self._probes.stop()
        self._renewals.stop()
        self._webhook.close()
        self._pools.close()
        self._accounts.close()
        return gatherResults(
            [
                # What was renewed has to be written, whatever else ends.
                self._tokens.close().addBoth(lambda _: self._upstream.close()),
                self._prompt_log.stop(),
                self._fetched.stop(),
                self._store.close(),
            ]
        )

    def announce(self, addresses: Sequence[object], *, out: TextIO | None) -> None:
        """
        Say what listens: in the log always, with examples on *out* if there is one.

        The key itself is only ever shown on *out*, and only when it was just made.

        :param addresses: What is bound, in the order of ``listen``.
        """
        settings = self._settings
        doors = [
            Door.of(address, secure=description.startswith(("ssl:", "tls:")))
            for address, description in zip(addresses, settings.listen, strict=False)
        ]
        self._log.info(
            "aiclient2api {version} listens on {doors}.",
            version=__version__,
            doors=", ".join(door.bound for door in doors),
        )
        if out is not None and doors:
            key_file = settings.state_dir / statedir.KEY_FILE if settings.keys is None else None
            shown = banner(
                doors[0],
                self._setup,
                key_file=key_file,
                made_key=self._own_key if self._made_key else None,
                is_open=settings.keys == (),
            )
            print(shown, file=out, flush=True)

    def _hold(self, settings: Settings, keys: Sequence[str]) -> None:
        """Let nothing that is secret in *settings*, or in the environment, be told."""
        proxies = (
            value for name, value in self._environ.items() if name.lower().endswith("_proxy")
        )
        self._scrubber.hold((*keys, *secrets_of(settings), *passwords_in(*proxies)))

    def _in_thread(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        pool = self.reactor.getThreadPool()
        return deferToThreadPool(self.reactor, pool, function, *args)


def _not_gone(before: Settings, new: Settings) -> None:
    """Raise if the accounts' file went away while it was to be read: that changes nothing."""
    old, found = before.pools_path, new.pools_path
    if found is None or (old is not None and old != found and not os.path.exists(old)):
        raise ConfigurationError([f"{(old or Path(POOLS_FILE)).name}: is gone; put it back"])


def makeService(options: Options) -> Gateway:
    """Build the service; called by ``twistd`` once the options are parsed."""
    from twisted.internet import reactor

    coredumps.forbid()
    if options.settings is None:
        options.settings = options.load(starting=True)
    world = World(
        reactor=reactor,
        settings=options.settings,
        load=options.load,
        environ=options.environ,
        factories=options.factories,
        cwd=options.cwd,
        named_pools=options["provider-pools-file"],
        scrubber=IN_FORCE,
    )
    foreground = bool(options.parent is not None and options.parent.get("nodaemon"))
    out = sys.__stdout__ if foreground else None
    if out is not None and "INVOCATION_ID" in options.environ and not out.isatty():
        # Under an init system standard output is a journal: no key goes there.
        out = None
    folder = options.settings.state_dir
    return Gateway(
        world,
        lambda addresses: world.announce(addresses, out=out),
        handing=HandingOver(reactor=reactor, clock=reactor, directory=folder),
        taking=TakingOver(folder) if options["take-over"] else None,
        pid_file=options.pid_file,
        tell=partial(notify, options.environ),
    )
