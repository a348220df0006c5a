"""
The command line of ``twistd aiclient2api`` and of ``aiclient2api run``.

It finds every fault of the configuration before the process forks. It must never build
anything: that is `tap`'s.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.plugin import getPlugins
from twisted.python import usage

import aiclient2api.providers
from aiclient2api.config import FLAGS, Settings, load
from aiclient2api.errors import ConfigurationError
from aiclient2api.interfaces import IProviderFactory
from aiclient2api.logfile import PREFIX_VARIABLE as SYSLOG_PREFIX
from aiclient2api.logfile import VARIABLE as LOGFILE
from aiclient2api.pidfile import PidFile
from aiclient2api.scrubbing import IN_FORCE, secrets_of


def provider_factories() -> Sequence[IProviderFactory]:
    """Return every installed kind of provider, in a stable order."""
    found = getPlugins(IProviderFactory, aiclient2api.providers)
    return sorted(found, key=lambda factory: (factory.name == "sandbox", factory.name))


class Options(usage.Options):
    """The options of ``twistd aiclient2api`` and of ``aiclient2api run``."""

    synopsis = "[options]"
    longdesc = (
        "A local gateway that puts your LLM accounts behind one endpoint speaking OpenAI "
        "Chat Completions, OpenAI Responses, Anthropic Messages and Gemini. Without any "
        "configuration it listens on 127.0.0.1:3000, makes a key and answers from a "
        "built-in sandbox. Options beat the configuration file."
    )
    optParameters = [
        [flag.name.removeprefix("--"), None, None, flag.help]
        for flag in FLAGS
        if not flag.repeatable
    ]

    optFlags = [
        [
            "take-over",
            None,
            "Take the listeners over from the gateway that runs with the same --state-dir, if "
            "there is one; it finishes what it has begun.",
        ]
    ]

    def __init__(self, environ: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
        # It is untyped.
        super().__init__()  # type: ignore[no-untyped-call]
        self.environ = dict(os.environ if environ is None else environ)
        self.cwd = Path.cwd() if cwd is None else cwd
        self.repeated: dict[str, list[str]] = {}
        self.settings: Settings | None = None
        self.pid_file = PidFile({})
        self.factories = provider_factories()

    def opt_listen(self, description: str) -> None:
        """Listen on this Twisted endpoint, e.g. tcp:3000:interface=127.0.0.1. Repeatable."""
        self.repeated.setdefault("listen", []).append(description)

    def load(
        self,
        *,
        listen: Sequence[str] | None = None,
        config_text: bytes | None = None,
        source: Path | None = None,
        starting: bool = False,
    ) -> Settings:
        """
        Read and check the configuration these options point at.

        :param listen: Endpoints that stand for those configured, at a reload.
        :param config_text: What stands for the configuration file's content, where only
            the accounts are to be read anew.
        :param source: Where that is from.
        :param starting: Judge also whether all that is private is so.
        :raise ConfigurationError: with all faults at once.
        """
        flags: dict[str, object] = {}
        for flag in FLAGS:
            name = flag.name.removeprefix("--")
            value = self.repeated.get(name) if flag.repeatable else self.get(name)
            if value is not None:
                flags[flag.key] = value
        if listen is not None:
            flags = {key: flags[key] for key in flags if key not in ("host", "port")}
            flags["listen"] = list(listen)
        settings = load(
            flags=flags,
            environ=self.environ,
            cwd=self.cwd,
            factories=self.factories,
            config_text=config_text,
            source=source,
            starting=starting,
        )
        IN_FORCE.learn(secrets_of(settings))
        return settings

    def postOptions(self) -> None:
        """Find every fault now, before the process forks."""
        try:
            self.settings = self.load(starting=True)
        except ConfigurationError as error:
            print_faults(error)
            raise SystemExit(2) from None
        if self.parent is not None:
            self.pid_file = PidFile(self.parent)
            self._teach(self.parent)

    def _teach(self, twistd: Any) -> None:
        if self["take-over"]:
            # twistd would not start beside a process whose pid file this is.
            self.pid_file.stand_by()
        # Only where the user said nothing: twistd's own log file would be readable by
        # everyone and turn itself over at 1 MB.
        if twistd.get("umask") is None:
            twistd["umask"] = 0o077
        if twistd.get("logger") is None and twistd.get("syslog"):
            twistd["logger"] = "aiclient2api.logfile.syslog"
            os.environ.setdefault(SYSLOG_PREFIX, twistd.get("prefix") or "")
        elif twistd.get("logger") is None:
            twistd["logger"] = "aiclient2api.logfile.observer"
            name = twistd.get("logfile") or ("" if twistd.get("nodaemon") else "twistd.log")
            if name:
                os.environ.setdefault(LOGFILE, name if name == "-" else str(self.cwd / name))
        settings = self.settings
        if settings and settings.prompt_log_mode == "console" and not twistd.get("nodaemon"):
            print(
                "aiclient2api: warning: prompt_log_mode is console, and a daemon has none; "
                'nothing will be logged. Write "file" instead.',
                file=sys.stderr,
            )


def print_faults(error: ConfigurationError) -> None:
    """Tell of configuration faults on standard error, one a line."""
    count = len(error.faults)
    print(f"aiclient2api: {count} fault{'s' * (count != 1)} in the configuration:", file=sys.stderr)
    for fault in error.faults:
        print(f"  {fault}", file=sys.stderr)
    for warning in error.warnings:
        print(f"  (warning) {warning}", file=sys.stderr)
