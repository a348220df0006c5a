"""
What may be typed after ``aiclient2api login`` and ``aiclient2api import``, and their help.

Only the form is judged here. Which choices a login has say the providers themselves.
"""

from __future__ import annotations

import argparse
import sys
from argparse import SUPPRESS, ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from aiclient2api.config import FLAGS
from aiclient2api.interfaces import ILogins, LoginOption

_SHOWN = ("config", "state_dir", "provider_pools_file_path", "proxy_url")
_FLAG = "flag "
_CHOICE = "choice "

_LOGIN = """\
Log in with a browser, and add the account to provider_pools.json.

What the vendor's terms say of it is printed first: read that line. A running gateway
has the account within a second. On a machine without a browser, open the address
elsewhere; if the browser then ends up at an address that it cannot open, paste that
address here.
"""
_IMPORT = """\
Find the logins of installed clients, and of AIClient-2-API's configs folder, and offer
to add each as an account.

A FOLDER is one of AIClient-2-API: its configs folder, or the one that is in. Without
any, ./configs is looked into. The accounts refer to the files where they are, and
nothing is copied: tokens are renewed in the file, and of two copies one would stop
working.
"""


class _Usage(Exception):
    """What was typed makes no command; the message says why."""


class _Parser(ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _Usage(message)


def parse_login(
    arguments: Sequence[str], logins: Mapping[str, ILogins]
) -> tuple[Namespace | int, dict[str, str], dict[str, object]]:
    """
    Read a ``login`` command.

    :param logins: What can be logged in to, by the names of the kinds of provider.
    :return: The options, or the exit status where there is nothing to do; the choices for
        `ILogins.login`; and the flags that `config.load` is to be given.
    """
    options: dict[str, list[tuple[str, LoginOption]]] = {}
    for name, each in logins.items():
        for option in each.options:
            options.setdefault(option.name, []).append((name, option))
    parser = _parser("login", _LOGIN, taken={f"--{name}" for name in options})
    parser.add_argument(
        "provider", metavar="PROVIDER", help=f"one of {', '.join(logins) or 'none: none is built'}"
    )
    parser.add_argument("--name", metavar="NAME", help="what people call the account (customName)")
    parser.add_argument(
        "--no-browser", action="store_true", help="open none; NO_BROWSER=1 says the same"
    )
    ways = parser.add_mutually_exclusive_group()
    for name, found in options.items():
        option = found[0][1]
        form: dict[str, Any] = {"dest": f"{_CHOICE}{name}", "help": _help(found)}
        if not option.arguments:
            form |= {"action": "store_const", "const": ""}
        elif len(option.arguments) == 1:
            form |= {"metavar": option.arguments[0], "choices": option.choices or None}
        else:
            form |= {"metavar": option.arguments, "nargs": len(option.arguments)}
        (ways if option.way else parser).add_argument(f"--{name}", default=SUPPRESS, **form)
    parsed = _parsed("login", parser, arguments)
    if isinstance(parsed, int):
        return parsed, {}, {}
    choices = {
        name: value if isinstance(value, str) else " ".join(value)
        for name, value in _those(parsed, _CHOICE).items()
        if value is not None
    }
    return parsed, choices, _those(parsed, _FLAG)


def parse_import(arguments: Sequence[str]) -> tuple[Namespace | int, dict[str, object]]:
    """Read an ``import`` command; otherwise as `parse_login`, without choices."""
    parser = _parser("import", _IMPORT, taken=set())
    parser.add_argument("folders", metavar="FOLDER", nargs="*")
    parser.add_argument("--yes", "-y", action="store_true", help="add all that is found")
    parsed = _parsed("import", parser, arguments)
    if isinstance(parsed, int):
        return parsed, {}
    return parsed, _those(parsed, _FLAG)


def _help(found: Sequence[tuple[str, LoginOption]]) -> str:
    """Return what an option means, for each provider that means something else by it."""
    told: dict[str, list[str]] = {}
    for provider, option in found:
        told.setdefault(option.help, []).append(provider)
    return "; ".join(f"{', '.join(providers)}: {help}" for help, providers in told.items())


def _those(parsed: Namespace, prefix: str) -> dict[str, Any]:
    return {
        name.removeprefix(prefix): value
        for name, value in vars(parsed).items()
        if name.startswith(prefix)
    }


def _parser(command: str, about: str, *, taken: set[str]) -> ArgumentParser:
    parser = _Parser(
        prog=f"aiclient2api {command}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    group = parser.add_argument_group(
        "which configuration", "These and all other options of `aiclient2api run` are taken."
    )
    for flag in FLAGS:
        if flag.name not in taken:
            group.add_argument(
                flag.name,
                dest=f"{_FLAG}{flag.key}",
                metavar=flag.metavar,
                default=SUPPRESS,
                action="append" if flag.repeatable else "store",
                help=flag.help if flag.key in _SHOWN else SUPPRESS,
            )
    return parser


def _parsed(command: str, parser: ArgumentParser, arguments: Sequence[str]) -> Namespace | int:
    try:
        return parser.parse_intermixed_args(list(arguments))
    except _Usage as error:
        print(
            f"aiclient2api {command}: {error}; see aiclient2api {command} --help", file=sys.stderr
        )
        return 2
    except SystemExit as done:
        return int(done.code or 0)
