"""
The ``aiclient2api`` command: ``run`` (the default), and what else one may want to do.

``run`` is ``twistd`` in the foreground, so that there is one way the daemon starts.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from aiclient2api import __version__

if TYPE_CHECKING:
    from twisted.internet.error import CannotListenError

    from aiclient2api.options import Options

USAGE = """\
Usage: aiclient2api [run] [options]      run the gateway in the foreground
       aiclient2api check [options]      check the configuration, start nothing
       aiclient2api accounts [...]       see, add, change and reset accounts
       aiclient2api login PROVIDER       add an account by logging in with a browser
       aiclient2api import [FOLDER ...]  add the logins that this machine has already
       aiclient2api explain REQUEST-ID   tell which accounts a request was given, and why
       aiclient2api --version
       aiclient2api run --help           all options

With no configuration it listens on 127.0.0.1:3000, makes a key and answers from a
built-in sandbox: try a client against it before you give it an account. The
configuration is the file named by --config or $CONFIG_FILE, else ./config.json, else
./configs/config.json, else /etc/aiclient2api/config.json; options beat the file.

  aiclient2api                            start with what is found
  aiclient2api --config my.json           start with this file
  aiclient2api check --config my.json     list every fault in it; exit 1 if there are any
  aiclient2api accounts                   list the accounts, and how they fare
  aiclient2api accounts add openai-custom --key -
                                          add one; its key is typed or piped in
  twistd aiclient2api                     start as a daemon (twistd --help)
"""


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the command.

    :param argv: Arguments without the program's name; None: those of the process.
    :return: The exit status: 0 well, 1 a faulty configuration or a port that is taken,
        2 bad usage.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = arguments.pop(0) if arguments and not arguments[0].startswith("-") else None
    if command is None and arguments[:1] in (["-V"], ["--version"]):
        print(f"aiclient2api {__version__}")
        return 0
    if command is None and arguments[:1] in (["-h"], ["--help"]):
        print(USAGE)
        return 0
    if command in (None, "run"):
        return run(arguments)
    from aiclient2api.scrubbing import discreet

    with discreet():
        return _told(command, arguments)


def _told(command: str | None, arguments: Sequence[str]) -> int:
    """Do what is no ``run``."""
    if command == "check":
        return check(arguments)
    if command == "accounts":
        from aiclient2api.accounts_cli import accounts

        return accounts(arguments)
    if command == "login":
        from aiclient2api.login_cli import login

        return login(arguments)
    if command == "import":
        from aiclient2api.import_cli import import_

        return import_(arguments)
    if command == "explain":
        from aiclient2api.explain import explain

        return explain(arguments)
    print(f"aiclient2api: there is no command {command!r}\n\n{USAGE}", file=sys.stderr)
    return 2


def run(arguments: Sequence[str]) -> int:
    """Run the gateway in the foreground until it is told to stop."""
    from twisted.internet.error import CannotListenError
    from twisted.scripts import twistd

    from aiclient2api.errors import ConfigurationError
    from aiclient2api.options import print_faults
    from aiclient2api.scrubbing import discreet

    # Once here, so that what is wrong is said in our words and not in twistd's.
    stderr = sys.stderr
    try:
        with discreet():
            options = _parsed("run", arguments)
            if isinstance(options, int):
                return options
            options.load(starting=True)
        sys.argv = ["aiclient2api", "--nodaemon", "--pidfile=", "aiclient2api", *arguments]
        try:
            twistd.run()
        finally:
            # twistd has turned it into its log.
            sys.stderr = stderr
    except ConfigurationError as error:
        print_faults(error)
        return 1
    except CannotListenError as error:
        print(f"aiclient2api: {_unlistened(error)}", file=sys.stderr)
        return 1
    return 0


def check(arguments: Sequence[str]) -> int:
    """Check the configuration offline and say what it comes to."""
    from aiclient2api.config import report
    from aiclient2api.errors import ConfigurationError
    from aiclient2api.options import print_faults

    options = _parsed("check", arguments)
    if isinstance(options, int):
        return options
    try:
        print(report(options.load(starting=True)))
    except ConfigurationError as error:
        print_faults(error)
        return 1
    return 0


def _parsed(command: str, arguments: Sequence[str]) -> Options | int:
    """Return the parsed options, or the exit status where there is nothing to do."""
    from twisted.python.usage import UsageError

    from aiclient2api.options import Options

    options = Options()
    options.synopsis = f"Usage: aiclient2api {command} [options]"
    if "-h" in arguments or "--help" in arguments:
        print(options)
        return 0
    if "--version" in arguments:
        print(f"aiclient2api {__version__}")
        return 0
    options.postOptions = lambda: None  # type: ignore[method-assign]
    try:
        options.parseOptions(list(arguments))
    except UsageError as error:
        print(
            f"aiclient2api {command}: {error}; see aiclient2api {command} --help", file=sys.stderr
        )
        return 2
    return options


def _unlistened(error: CannotListenError) -> str:
    where = f"{error.interface or '*'}:{error.port}"
    reason = error.socketError
    if isinstance(reason, OSError) and reason.errno == errno.EADDRINUSE:
        return f"{where} is in use; stop the other program there, or choose another --port."
    return f"cannot listen on {where}: {reason}"
