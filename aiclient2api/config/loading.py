"""
Read the configuration: find the files, read and check them, make plain settings of them.

`load` reads flags, environment and files and either returns `Settings`, complete and
absolute, or raises `ConfigurationError` with every fault there is. It writes nothing,
asks no network, and no sentence of it repeats a key.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from aiclient2api.config import keys, pool_keys, pool_rules, privacy
from aiclient2api.config.access import any_page, caller_keys, exposure, listeners, origins
from aiclient2api.config.accounts import Kind, keys_of, kinds_of
from aiclient2api.config.custom_models import custom_models
from aiclient2api.config.cut_rules import on_cut
from aiclient2api.config.fallbacks import model_targets, provider_chains
from aiclient2api.config.files import (
    Document,
    Findings,
    Reading,
    command_line,
    parse_list,
    parse_object,
    read_bytes,
)
from aiclient2api.config.key import Key
from aiclient2api.config.later_keys import LATER
from aiclient2api.config.pools import ProviderConfig, ProviderReader
from aiclient2api.config.provider_names import ProviderNames
from aiclient2api.config.settings import (
    FetchImages,
    Limits,
    Settings,
    Stop,
    StoredResponses,
    Timeouts,
)
from aiclient2api.config.values import Given, Place, Wrong, level
from aiclient2api.errors import ConfigurationError
from aiclient2api.interfaces import IProviderFactory
from aiclient2api.values import CustomModel, SystemEdit

SYSTEM_CONFIG = Path("/etc/aiclient2api/config.json")


def load(
    *,
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    cwd: Path,
    factories: Sequence[IProviderFactory],
    system_config: Path = SYSTEM_CONFIG,
    uid: int | None = None,
    config_text: bytes | None = None,
    source: Path | None = None,
    starting: bool = False,
) -> Settings:
    """
    Read the configuration.

    :param flags: By `Flag.key`; None or an empty list means not given.
    :param cwd: The folder the program was started in.
    :param factories: The providers there are, in order of preference.
    :param system_config: The last file that is looked for.
    :param uid: Who runs this; the real user if None.
    :param config_text: What to take for the configuration file's content, instead of
        reading it: as it was when only another file has changed.
    :param source: Where *config_text* is from; looked for as ever if None.
    :param starting: Judge also whether all that is private is so.
    :raise ConfigurationError: with every fault of both files.
    """
    return _Load(
        flags=flags,
        environ=environ,
        cwd=Path(os.path.abspath(cwd)),
        kinds=kinds_of(factories),
        system_config=system_config,
        uid=os.getuid() if uid is None else uid,
        text=config_text,
        source=source,
        starting=starting,
    ).run()


@attrs.define
class _Load:
    """One run of `load`."""

    flags: Mapping[str, object] = attrs.field(repr=False)
    environ: Mapping[str, str] = attrs.field(repr=False)
    cwd: Path
    kinds: tuple[Kind, ...]
    system_config: Path
    uid: int
    text: bytes | None = attrs.field(repr=False)
    source: Path | None
    starting: bool = False
    findings: Findings = attrs.field(factory=Findings)

    def run(self) -> Settings:
        here = self._place(self.cwd)
        source = self.source or self._source(here)
        sound = not self.findings.faults
        text = self.text
        if text is None and source:
            text = read_bytes(source, self.findings)
        body: dict[str, object] | None = None if source else {}
        if text is not None:
            body = parse_object(source or self.cwd / "config.json", text, self.findings)
        folder = self._place(source.parent if source else self.cwd)
        defaults = folder if sound and body is not None else None
        document = Document(f"{source.name if source else 'config.json'}: ", folder, body or {})
        document.strangers([*keys.KEYS, *keys_of(self.kinds)], self.findings)
        reading = Reading((command_line(self.flags, here), document), self.findings)
        reading.check_later(LATER)

        listen = listeners(reading)
        caller = caller_keys(reading, self.environ, here)
        exposure(listen, caller, self.findings)
        cors_origins = origins(reading)
        any_page(caller, cors_origins, self.findings)
        reader = ProviderReader(self.kinds, reading, self.findings)
        named, auto = self._named(reading, reader)
        pools_path, providers = self._providers(reader, named, defaults)
        names = ProviderNames(self.kinds, providers, self.findings)
        settings = Settings(
            source=source,
            config_text=text,
            pools_path=pools_path,
            listen=listen,
            keys=caller.keys,
            default_providers=named or self._first(providers),
            auto=auto,
            providers=providers,
            known_providers=tuple(kind.name for kind in self.kinds),
            system_prompt=self._system_prompt(reading, folder),
            prompt_log_mode=reading.take(keys.PROMPT_LOG_MODE),
            prompt_log_base_name=reading.take(keys.PROMPT_LOG_BASE_NAME) or self.cwd / "prompt_log",
            fetch_system_prompt=reading.take(keys.FETCH_SYSTEM_PROMPT),
            max_retries=reading.take(keys.REQUEST_MAX_RETRIES),
            base_delay=reading.take(keys.REQUEST_BASE_DELAY) / 1000,
            timeouts=self._timeouts(reading),
            limits=self._limits(reading),
            fetch_images=self._fetch_images(reading),
            stored_responses=self._stored_responses(reading),
            state_dir=self._state_dir(reading),
            stop=Stop(
                grace=reading.take(keys.GRACE),
                delay=reading.take(keys.DRAIN_DELAY),
                hand_over=reading.take(keys.HAND_OVER_GRACE),
            ),
            log_level=self._log_level(reading),
            proxy_url=reading.take(keys.PROXY_URL) or None,
            cors_origins=cors_origins,
            selection=pool_rules.selection(reading, names),
            affinity=pool_rules.affinity(reading),
            wait_for_account=reading.take(pool_keys.WAIT_FOR_ACCOUNT),
            max_error_count=reading.take(pool_keys.MAX_ERROR_COUNT),
            credential_switch_max_retries=reading.take(pool_keys.CREDENTIAL_SWITCH_MAX_RETRIES),
            renew_early=pool_rules.renew_early(reading),
            rest=pool_rules.rest(reading),
            retry_budget=pool_rules.retry_budget(reading),
            probe=pool_rules.probe(reading, names),
            health_alert_webhook_url=reading.take(pool_keys.HEALTH_ALERT_WEBHOOK_URL),
            fallback_chains=provider_chains(reading, names),
            model_fallbacks=model_targets(reading, names),
            on_cut=on_cut(reading, names),
            custom_models=self._custom_models(reading, names, defaults),
            warnings=(),
        )
        reading.take(keys.PROXY_ENABLED_PROVIDERS)
        logs = settings.prompt_log_base_name.parent
        if settings.prompt_log_mode == "file" and not os.path.isdir(logs):
            self.findings.fault(f"prompt_log_base_name: there is no folder {logs}; make it")
        if self.starting:
            privacy.judge(settings, self.findings)
        if self.findings.faults:
            raise ConfigurationError(
                tuple(self.findings.faults), warnings=tuple(self.findings.warnings)
            )
        if self.findings.idle:
            self.findings.warn(
                f"understood, but without effect yet: {', '.join(self.findings.idle)}"
            )
        return attrs.evolve(settings, warnings=tuple(self.findings.warnings))

    # --- files ------------------------------------------------------------

    def _place(self, folder: Path) -> Place:
        home = self.environ.get("HOME") or os.path.expanduser("~")
        return Place(folder, self.cwd, Path(home) if os.path.isabs(home) else None)

    def _source(self, here: Place) -> Path | None:
        """Return the configuration file to read: a named one must exist, others may."""
        for where, named in (
            ("--config", self.flags.get("config")),
            ("CONFIG_FILE", self.environ.get("CONFIG_FILE")),
        ):
            if named:
                return self._named_file(where, named, here)
        for path in (
            self.cwd / "config.json",
            self.cwd / "configs" / "config.json",
            self.system_config,
        ):
            if os.path.lexists(path):
                return path
        return None

    def _named_file(self, where: str, named: object, here: Place) -> Path | None:
        try:
            path = here.resolve(str(named))
        except Wrong as wrong:
            self.findings.fault(f"{where}: {wrong}")
            return None
        if self.text is None and not os.path.exists(path):
            self.findings.fault(f"{where}: there is no file {path}; name one that exists")
            return None
        return path

    def _optional(self, folder: Place, *names: str) -> Path | None:
        """Return the first of some default files that exists."""
        return next((path for path in map(folder.resolve, names) if os.path.isfile(path)), None)

    # --- providers --------------------------------------------------------

    def _named(self, reading: Reading, reader: ProviderReader) -> tuple[tuple[str, ...], bool]:
        """Return the known names in ``model_provider``, and whether ``auto`` is there."""
        given = reading.given(keys.MODEL_PROVIDER)
        listed = reading.take(keys.MODEL_PROVIDER)
        where = given.where if given else ""
        before = len(self.findings.faults)
        known = [name for name in listed if name != "auto" and reader.can_be(name, where)]
        auto = "auto" in listed
        if listed and not known and not auto and len(self.findings.faults) == before:
            # Another provider than the one that was meant would be a surprise.
            self.findings.fault(
                f"{where}: names no provider there is; write one of"
                f" {', '.join(kind.name for kind in self.kinds)}"
            )
        return tuple(known), auto

    def _providers(
        self, reader: ProviderReader, named: Sequence[str], folder: Place | None
    ) -> tuple[Path | None, dict[str, ProviderConfig]]:
        """
        Read the accounts' file, if there is one, and work out the providers.

        :param folder: Where default files are looked for; None: the configuration
            could not be read, so nobody knows which file is meant.
        :return: That file, and the providers.
        """
        names = ("provider_pools.json", "configs/provider_pools.json")
        key = keys.PROVIDER_POOLS_FILE_PATH
        path, text = self._listed(reader.shared, key, folder, names, "no accounts from it")
        pools = parse_object(path, text, self.findings) if path and text is not None else None
        return path, reader.read(
            pools=pools or {},
            label=path.name if path else "",
            place=self._place(path.parent if path else self.cwd),
            named=named,
        )

    def _custom_models(
        self, reading: Reading, names: ProviderNames, folder: Place | None
    ) -> tuple[CustomModel, ...]:
        files = ("custom_models.json", "configs/custom_models.json")
        key = pool_keys.CUSTOM_MODELS_FILE_PATH
        path, text = self._listed(reading, key, folder, files, "no models from it")
        listed = parse_list(path, text, self.findings) if path and text is not None else None
        if path is None or listed is None:
            return ()
        place = self._place(path.parent)
        return custom_models(listed, label=path.name, place=place, reading=reading, names=names)

    def _listed(
        self,
        reading: Reading,
        key: Key[Path | None],
        folder: Place | None,
        defaults: Sequence[str],
        without: str,
    ) -> tuple[Path | None, bytes | None]:
        """
        Read a file beside the configuration that may be missing, also while it is read.

        :param without: What that means, for the warning if it was named.
        :return: Its path if there is one, and what stands in it if it could be read.
        """
        path, given = reading.take(key), reading.given(key)
        gone = ""
        if given is not None:
            gone = f"{given.where}: there is no file {path}; {without}"
        elif folder is not None:
            path = self._optional(folder, *defaults)
        if path is None:
            return None, None
        if gone and not os.path.exists(path):
            self.findings.warn(gone)
            return None, None
        text = read_bytes(path, self.findings, gone=gone)
        return (None if text is None else path), text

    def _first(self, providers: Mapping[str, ProviderConfig]) -> tuple[str, ...]:
        """Return the first usable provider, one with a credential if there is any."""
        free = {kind.name for kind in self.kinds if kind.free}
        usable = [one for one in providers.values() if one.reason is None]
        usable.sort(key=lambda one: one.base in free)
        return tuple(one.name for one in usable[:1])

    # --- single settings --------------------------------------------------

    def _system_prompt(self, reading: Reading, folder: Place) -> SystemEdit | None:
        given = reading.given(keys.SYSTEM_PROMPT_FILE_PATH)
        path = reading.take(keys.SYSTEM_PROMPT_FILE_PATH)
        if given is None:
            names = ("input_system_prompt.txt", "configs/input_system_prompt.txt")
            path = self._optional(folder, *names)
        where = given.where if given else "system_prompt_file_path"
        text = self._text(where, path) if path else None
        replacements = tuple(self._replacements(reading))
        mode = reading.take(keys.SYSTEM_PROMPT_MODE)
        if text is None and not replacements:
            return None
        return SystemEdit(mode=mode, text=text, replacements=replacements)

    def _text(self, where: str, path: Path) -> str | None:
        try:
            text = path.read_bytes().decode("utf-8-sig")
        except FileNotFoundError:
            self.findings.warn(f"{where}: there is no file {path}; no system prompt from it")
        except OSError as error:
            self.findings.warn(f"{where}: {path} cannot be read ({error.strerror})")
        except UnicodeDecodeError as error:
            self.findings.fault(
                f"{where}: {path} is not UTF-8 at byte {error.start}; save it as UTF-8"
            )
        else:
            return text if text.strip() else None
        return None

    def _replacements(self, reading: Reading) -> Iterator[tuple[str, str]]:
        given = reading.given(keys.SYSTEM_PROMPT_REPLACEMENTS)
        if given is None or not isinstance(given.value, list):
            reading.take(keys.SYSTEM_PROMPT_REPLACEMENTS)
            return
        for item in given.items():
            part = reading.part(item, (keys.REPLACEMENT_OLD, keys.REPLACEMENT_NEW))
            old, new = part.take(keys.REPLACEMENT_OLD), part.take(keys.REPLACEMENT_NEW)
            if old:
                yield old, new
            elif isinstance(item.value, dict):
                self.findings.fault(f"{item.where}.old: is empty; write the text to replace")

    def _timeouts(self, reading: Reading) -> Timeouts:
        given = reading.given(keys.TIMEOUTS)
        if given is None:
            return Timeouts()
        part = reading.part(given, keys.TIMEOUT_KEYS)
        return Timeouts(**{key.name: part.take(key) for key in keys.TIMEOUT_KEYS})

    def _limits(self, reading: Reading) -> Limits:
        given = reading.given(keys.LIMITS)
        if given is None:
            return Limits()
        part = reading.part(given, keys.LIMIT_KEYS)
        limits = Limits(**{key.name: part.take(key) for key in keys.LIMIT_KEYS})
        if limits.connections and not 0 < limits.in_flight < limits.connections:
            self.findings.warn(
                f"{given.where}: connections ({limits.connections}) is not more than in_flight"
                f" ({limits.in_flight or 'any number'}); once every connection is at work nobody"
                " gets in, not even a monitor that asks for /health"
            )
        return limits

    def _fetch_images(self, reading: Reading) -> FetchImages:
        """Read ``true`` or ``false`` alone, or an object that says more."""
        given = reading.given(keys.FETCH_IMAGES)
        if given is None or not isinstance(given.value, dict):
            return FetchImages(enabled=bool(reading.take(keys.FETCH_IMAGES)))
        part = reading.part(given, keys.FETCH_KEYS)
        if part.given(keys.FETCH_ENABLED) is None:
            self.findings.warn(
                f'{given.where}: does not say "enabled": true, so that nothing is fetched'
            )
        return FetchImages(**{key.name: part.take(key) for key in keys.FETCH_KEYS})

    def _stored_responses(self, reading: Reading) -> StoredResponses:
        given = reading.given(keys.STORED_RESPONSES)
        if given is None:
            return StoredResponses()
        part = reading.part(given, keys.STORED_KEYS)
        return StoredResponses(**{key.name: part.take(key) for key in keys.STORED_KEYS})

    def _state_dir(self, reading: Reading) -> Path:
        """Return the configured folder, else the one systemd or the system has for us."""
        configured = reading.take(keys.STATE_DIR)
        if configured is not None:
            return configured
        given = self.environ.get("STATE_DIRECTORY", "").split(":")[0]
        if given:
            return self.cwd / given
        if self.uid == 0:
            return Path("/var/lib/aiclient2api")
        state = self.environ.get("XDG_STATE_HOME", "")
        if os.path.isabs(state):
            return Path(state) / "aiclient2api"
        home = self._place(self.cwd).home
        if home is None:
            self.findings.fault("state_dir: there is no home folder to put it in; write a path")
            return self.cwd
        return home / ".local" / "state" / "aiclient2api"

    def _log_level(self, reading: Reading) -> str:
        """Return the level: flag, ``AICLIENT2API_LOG``, ``RUST_LOG``, then the file."""
        from_file = reading.take(keys.LOG_LEVEL)
        if reading.documents[0].given(keys.LOG_LEVEL, self.findings):
            return from_file
        place = self._place(self.cwd)
        ours = self.environ.get("AICLIENT2API_LOG", "").strip()
        if ours:
            return reading.read(Given("AICLIENT2API_LOG", ours, place), keys.LOG_LEVEL, "info")
        return self._rust_log(place) or from_file

    def _rust_log(self, place: Place) -> str | None:
        """Read ``RUST_LOG``: what it says of us wins over what it says of everything."""
        ours = overall = None
        for directive in self.environ.get("RUST_LOG", "").split(","):
            module, equals, name = directive.strip().rpartition("=")
            if not name or (equals and not re.match(r"aiclient2api(_rust)?(::|$)", module)):
                continue
            try:
                found = level(Given("RUST_LOG", name, place))
            except Wrong as wrong:
                self.findings.warn(f"RUST_LOG: {wrong}")
                continue
            if equals:
                ours = found
            else:
                overall = found
        return ours or overall
