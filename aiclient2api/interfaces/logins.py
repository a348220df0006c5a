"""
The seam of logging in: how a person gives the gateway an account that has no key.

A flow is a plain object: a command line drives it as well as a web page would. It asks
nobody anything by itself, opens no browser and writes no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from zope.interface import Attribute, Interface

from aiclient2api.values import Runtime

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred


@attrs.frozen
class LoginOption:
    """
    One choice that a person has when logging in.

    :ivar name: As typed behind two dashes, such as ``social``.
    :ivar arguments: What stands behind it, by name; none: it is said or not said.
    :ivar choices: If not empty, its argument is one of these.
    :ivar way: True if it names a way to log in: of these one is given at most.
    """

    name: str
    help: str
    arguments: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    way: bool = False


class ILoginFlow(Interface):
    """
    One login of one person, from the first address to the credential.

    Whoever has called `start` calls `finish` as well, if only to cancel it.
    """

    url = Attribute("What is to be opened in a browser (str); known once `start` has fired.")
    code = Attribute("What is to be typed or compared there (str), or None.")
    expires = Attribute("Until when all of it must be done, in Unix seconds.")
    hint = Attribute("A sentence: what the person has to do there (str).")

    def start() -> Deferred[None]:
        """
        Get the code, or begin to listen for the browser. Called once.

        :raise InvalidRequest: if this machine cannot, as when a port is taken.
        :raise UpstreamError: if the vendor cannot be asked, or refuses.
        """

    def finish() -> Deferred[Mapping[str, Any]]:
        """
        Wait until the person has logged in; fire with the credential document.

        Called once. Cancelling stops the listening and the asking, at once and for good;
        so does the end, whichever it is.

        :raise UpstreamError: with what to do, if the vendor refuses or time is up.
        """

    def paste(url: str) -> None:
        """
        Take the address that the browser ended up at, where it cannot reach this machine.

        :raise InvalidRequest: if it is not that address, or none is waited for.
        """


class ILogins(Interface):
    """
    What a provider's factory is adapted to if its accounts come from a login.

    Register the adapter beside the factory.
    """

    options = Attribute("What may be chosen (sequence of `LoginOption`).")
    folder = Attribute(
        "The folder for its credential files, below ``credentials`` here and below ``configs`` "
        "in AIClient-2-API, such as ``gemini`` (str)."
    )
    file_name = Attribute("How such a file's name ends, such as ``oauth_creds.json`` (str).")
    usual_files = Attribute(
        "Where the vendor's own client keeps its credential, from the home folder "
        "(sequence of str)."
    )

    def login(
        *, options: Mapping[str, str], runtime: Runtime, settings: Mapping[str, Any]
    ) -> ILoginFlow:
        """
        Make a flow; nothing happens before its `start`.

        :param options: Those that were given, by name; several arguments of one with spaces
            between them.
        :param runtime: Its clock is asked to listen, too, where a flow has to.
        :param settings: The provider's settings by their keys, and ``proxy_url``.
        :raise InvalidRequest: if the options make no sense.
        """

    def entry(*, path: Path, document: Mapping[str, Any]) -> Mapping[str, Any]:
        """
        Return the account for ``provider_pools.json``, in the Node version's spelling.

        :param path: The credential file.
        :param document: What it holds.
        """

    def recognises(*, document: Mapping[str, Any]) -> bool:
        """Say by its shape whether *document* is a credential of this provider. Pure."""
