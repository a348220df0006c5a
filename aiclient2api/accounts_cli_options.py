"""
What may be typed after ``aiclient2api accounts``: commands, options and their help.

Only the form is judged. The options of ``aiclient2api run`` that say where the
configuration is stand anywhere, and a key that was typed by mistake is not repeated.
"""

from __future__ import annotations

import argparse
import sys
from argparse import SUPPRESS, ArgumentParser, Namespace
from collections.abc import Sequence
from typing import Any, NoReturn

from aiclient2api.config import FLAGS
from aiclient2api.config.values import name_shown, show

_SHOWN = ("config", "state_dir", "provider_pools_file_path")
_FLAG = "flag "

_ABOUT = """\
See how accounts fare, and add, change or remove one.

WHICH account is told by its uuid or the first characters of it, by its customName,
or by its place in the file, from 0. What is written goes into provider_pools.json
and is checked first; a running gateway follows within a second.
"""
_ADDING = """\
A key on the command line can be seen by everybody on the machine (ps). Better:

  aiclient2api accounts add openai-custom --key -          typed, or piped in
  aiclient2api accounts add openai-custom --key-file FILE

Without --key and --key-file it is asked for. KEY=VALUE sets any other key, such as
GEMINI_OAUTH_CREDS_FILE_PATH=./creds.json.
"""
_SETTING = """\
VALUE is JSON, else a text; null takes the key away, - reads a text from standard
input, for what nobody is to see.

  aiclient2api accounts set openai-custom work priority=5 supportedModels='["m"]'
"""


class _Usage(Exception):
    """What was typed makes no command; the message says why."""


class _Parser(ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _Usage(message)


def parse(arguments: Sequence[str]) -> tuple[Namespace | int, dict[str, object]]:
    """
    Read the command.

    :return: The command and its options, or the exit status where there is nothing to
        do; and the flags that `config.load` is to be given.
    """
    parser = _parser()
    try:
        options, rest = parser.parse_known_args(list(arguments))
        _take_settings(options, rest)
    except _Usage as error:
        print(
            f"aiclient2api accounts: {_safe(str(error), arguments)}; "
            "see aiclient2api accounts --help",
            file=sys.stderr,
        )
        return 2, {}
    except SystemExit as done:
        return int(done.code or 0), {}
    flags = {
        name.removeprefix(_FLAG): value
        for name, value in vars(options).items()
        if name.startswith(_FLAG)
    }
    return options, flags


def _take_settings(options: Namespace, rest: list[str]) -> None:
    """Take what argparse leaves over: ``KEY=VALUE`` behind an option."""
    options.command = options.command or "list"
    options.json = getattr(options, "json", False)
    if rest and (not hasattr(options, "settings") or any(each.startswith("-") for each in rest)):
        raise _Usage(f"{show(rest[0])} is too much")
    if options.command not in ("add", "set"):
        return
    options.settings = [*options.settings, *rest]
    for setting in options.settings:
        if not setting.partition("=")[0].strip() or "=" not in setting:
            raise _Usage(f"{show(setting)} is no KEY=VALUE; write one, such as priority=5")
    if options.command == "set" and not options.settings:
        raise _Usage("there is nothing to set; write KEY=VALUE")


def _parser() -> ArgumentParser:
    form: dict[str, Any] = {
        "formatter_class": argparse.RawDescriptionHelpFormatter,
        "allow_abbrev": False,
    }
    parser = _Parser(prog="aiclient2api accounts", description=_ABOUT, **form)
    _where(parser)
    parser.add_argument("--json", action="store_true", default=SUPPRESS, help="list them as JSON")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")

    def command(name: str, help: str, *more: str, epilog: str = "") -> ArgumentParser:
        made = commands.add_parser(name, help=help, description=f"{help}.", epilog=epilog, **form)
        _where(made)
        for each in more:
            made.add_argument(each.lower(), metavar=each)
        return made

    made = command("list", "Tell how each account fares, or what the files say of it (the default)")
    made.add_argument("--json", action="store_true", default=SUPPRESS, help="as JSON")

    made = command("add", "Add an account", "PROVIDER", epilog=_ADDING)
    made.add_argument("settings", metavar="KEY=VALUE", nargs="*", default=[])
    made.add_argument("--name", metavar="NAME", help="what people call it (customName)")
    key = made.add_mutually_exclusive_group()
    key.add_argument("--key", metavar="KEY", help="its key; - reads it from standard input")
    key.add_argument("--key-file", metavar="FILE", help="a file that holds its key")
    made.add_argument("--base-url", metavar="URL", help="where its server is")
    made.add_argument(
        "--model", dest="models", metavar="MODEL", action="append", help="serve only these models"
    )
    for option, help in (
        ("--priority", "accounts of the highest number go first"),
        ("--weight", "its share, where selection is weighted"),
        ("--concurrency", "requests at work at once"),
        ("--queue", "requests that may wait for it"),
    ):
        made.add_argument(option, metavar="N", type=_whole, help=help)

    made = command("set", "Set or remove keys of an account", "PROVIDER", "WHICH", epilog=_SETTING)
    made.add_argument("settings", metavar="KEY=VALUE", nargs="*", default=[])
    command("enable", "Use an account again", "PROVIDER", "WHICH")
    command("disable", "Leave an account out, and keep it in the file", "PROVIDER", "WHICH")
    command("remove", "Take an account out of the file", "PROVIDER", "WHICH")

    made = command("reset", "Have the running gateway forget why accounts rest")
    made.add_argument("provider", metavar="PROVIDER", nargs="?")
    made.add_argument("which", metavar="WHICH", nargs="?")
    return parser


def _where(parser: ArgumentParser) -> None:
    """Take the flags of ``run``; those that find the configuration are shown in the help."""
    group = parser.add_argument_group(
        "which configuration", "These and all other options of `aiclient2api run` are taken."
    )
    for flag in FLAGS:
        group.add_argument(
            flag.name,
            dest=f"{_FLAG}{flag.key}",
            metavar=flag.metavar,
            default=SUPPRESS,
            action="append" if flag.repeatable else "store",
            help=flag.help if flag.key in _SHOWN else SUPPRESS,
        )


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{show(text)} is no whole number") from None


def _safe(message: str, arguments: Sequence[str]) -> str:
    """Return argparse's words without anything in them that could be a key."""
    for argument in arguments:
        for word in (argument, argument.partition("=")[2]):
            if word and not show(word).startswith('"'):
                message = message.replace(word, name_shown(word)[:5].strip('"') + "...")
    return message
