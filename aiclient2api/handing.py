"""
How one gateway process hands its listeners over to the next, over a socket in the state folder.

Both sides are here, since they speak to one another: `HandingOver` is the process that runs,
`TakingOver` the one that starts. The latter waits in plain blocking calls, for its reactor
does not run yet. It must never know what a gateway serves.

What is said, a JSON object a line: ``take`` by the new one; ``listen`` with the descriptors by
the old one; ``ready`` once the new one could serve; ``yours`` once the old one has written what
it knows; ``accepting`` by the new one, and only now the old one lets go. If the new one falls
silent before that, all is as it was. Later, ``stop``: the newest one is stopping as well. That
is said to all who still finish what they began: ``listen`` passes on the connections to them.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Factory, connectionDone
from twisted.logger import Logger
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from aiclient2api.errors import ConfigurationError
from aiclient2api.values import Clock

NAME = "hand-over"
"""The socket in the state folder."""

FORM = 1
"""Changes when what is said does, so that two versions never misunderstand one another."""

PATIENCE = 30.0
"""Seconds that one process waits for a word of the other."""

MOST = 64
"""Listeners that may be handed over."""

_LONGEST = 90
"""Bytes that the name of a socket may surely have."""

_CREDENTIALS = struct.Struct("iII")


class Giver(Protocol):
    """The gateway that runs, as far as it has a part in this."""

    def shared(self) -> Sequence[tuple[str, int]]:
        """Return each listener and its descriptor, which another process holds from now on."""

    def elders(self) -> Sequence[int]:
        """Return the connections to those before it that finish what they have begun."""

    def hold(self) -> Deferred[Any]:
        """Write what is known of the accounts; then write of them no more."""

    def resume(self) -> None:
        """Go on as if nothing had been: nobody took over."""

    def let_go(self, taken: Sequence[str]) -> None:
        """Leave *taken* to the process that has them, finish what is under way, and exit."""

    def hurry(self) -> None:
        """Take no more time than a plain stop does."""


class HandingOver:
    """
    Wait for a process that wants to take over.

    :param directory: The state folder; it exists by the time this starts.
    """

    _log = Logger()

    def __init__(self, *, reactor: Any, clock: Clock, directory: Path) -> None:
        self._reactor = reactor
        self.clock = clock
        self._directory = directory
        self._port: Any = None
        self._made: os.stat_result | None = None
        self.taker: _Taker | None = None
        self._connected: set[_Taker] = set()

    def start(self, giver: Giver) -> None:
        """Be reachable, instead of whoever was before."""
        factory = Factory.forProtocol(lambda: _Taker(self, giver))
        factory.noisy = False
        place = self._directory / NAME
        try:
            with reachable(self._directory) as short:
                # Made under another name, so that there is always one that answers.
                fresh = short / f".{NAME}.{os.getpid()}"
                fresh.unlink(missing_ok=True)
                old = os.umask(0o077)
                try:
                    self._port = self._reactor.listenUNIX(str(fresh), factory, mode=0o600)
                finally:
                    os.umask(old)
                fresh.rename(short / NAME)
                # It has another name now, and is another's to delete once he has taken it.
                self._port._bindPath = b"\0hand-over"
            self._made = place.lstat()
            self._log.info("Process {pid} can be taken over from.", pid=os.getpid())
        except Exception as error:
            self._log.warn(
                "Nobody can take over from this process: {path} cannot be made ({error}). "
                "An upgrade will be a restart.",
                path=place,
                error=error,
            )

    def stop(self) -> None:
        """Be reachable no more, and break off what is going on; but keep him who took over."""
        port, self._port = self._port, None
        if port is None:
            return
        port.stopListening()
        # Whoever has taken over puts his own in its place, perhaps this very moment.
        if self.taker is None or not self.taker.through:
            place = self._directory / NAME
            with suppress(OSError):
                if self._made is not None and os.path.samestat(place.lstat(), self._made):
                    place.unlink()
        for taker in tuple(self._connected):
            taker.forget()

    def came(self, taker: _Taker) -> None:
        """Note a connection."""
        self._connected.add(taker)

    def went(self, taker: _Taker) -> None:
        """Note that one is closed."""
        self._connected.discard(taker)
        if self.taker is taker:
            self.taker = None


class _Taker(LineOnlyReceiver):
    """The connection of one process that takes over."""

    delimiter = b"\n"
    MAX_LENGTH = 65536
    _log = Logger()

    def __init__(self, owner: HandingOver, giver: Giver) -> None:
        self._owner = owner
        self._giver = giver
        self._taken: Sequence[str] = ()
        self._pid = 0
        self._held = self._gone = False
        self.through = False
        self._waiting: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Let in nobody but ourselves."""
        self._owner.came(self)
        raw: Any = self.transport
        self._pid, uid = peer(raw.socket)
        if uid != os.geteuid():
            self._log.warn("A process of user {uid} wanted to take over; refused.", uid=uid)
            raw.abortConnection()
            return
        self._wait()

    def lineReceived(self, line: bytes) -> None:
        """Do what is asked for, in its order."""
        try:
            said = json.loads(line)
            what = next(iter(said))
        except (ValueError, TypeError, StopIteration):
            what, said = "", {}
        act = {
            "take": self._take,
            "ready": self._ready,
            "accepting": self._accepting,
            "stop": self._stop,
        }.get(what)
        if act is None:
            self._refuse("that is not understood here")
        else:
            act(said[what])

    def _take(self, form: object) -> None:
        if form != FORM:
            self._refuse(f"this process hands over in form {FORM} only; use a restart")
        elif self._owner.taker is not None:
            self._refuse("another process is taking over already")
        else:
            self._owner.taker = self
            self._log.info("Process {pid} starts to take over.", pid=self._pid)
            given = self._giver.shared()
            raw: Any = self.transport
            elders = list(self._giver.elders())
            told = _line(listen=[description for description, _ in given], elders=len(elders))
            descriptors = [descriptor for _, descriptor in given]
            socket.send_fds(raw.socket, [told], [*descriptors, *elders])
            self._wait()

    def _ready(self, taken: Any) -> None:
        if self._owner.taker is not self:
            self._refuse("nothing was taken")
            return
        self._taken = [str(each) for each in taken]
        self._held = True
        self._wait()
        self._giver.hold().addBoth(self._is_held)

    def _is_held(self, result: object) -> None:
        if isinstance(result, Failure):
            self._log.failure("What is known of the accounts could not be written", result)
        if not self._gone:
            self._say(yours=True)

    def _accepting(self, _: object) -> None:
        if not self._held:
            self._refuse("nothing was taken")
            return
        self.through = True
        self._stop_waiting()
        self._log.info("Process {pid} has taken over.", pid=self._pid)
        self._giver.let_go(self._taken)

    def _stop(self, _: object) -> None:
        if self.through:
            self._giver.hurry()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Whoever falls silent before he accepts has taken nothing."""
        self._gone = True
        self._stop_waiting()
        if self._owner.taker is self and not self.through:
            self._log.warn(
                "Process {pid} did not take over; this one goes on. Its own log, or its "
                "standard error, tells why.",
                pid=self._pid,
            )
            if self._held:
                self._giver.resume()
        self._owner.went(self)

    def forget(self) -> None:
        """Break off, unless he has taken over."""
        if not self.through:
            raw: Any = self.transport
            raw.abortConnection()

    def _refuse(self, why: str) -> None:
        self._say(refused=why)
        assert self.transport is not None
        self.transport.loseConnection()

    def _say(self, **what: object) -> None:
        assert self.transport is not None
        self.transport.write(_line(**what))

    def _wait(self) -> None:
        self._stop_waiting()
        self._waiting = self._owner.clock.callLater(PATIENCE, self._tired)

    def _tired(self) -> None:
        self._waiting = None
        self.forget()

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None


class TakingOver:
    """
    Take over from the process that runs with the same state folder, if there is one.

    :param directory: The state folder.
    :param patience: Seconds to wait for each of its words.
    """

    _log = Logger()

    def __init__(self, directory: Path, patience: float = PATIENCE) -> None:
        self._directory = directory
        self._patience = patience
        self._socket: socket.socket | None = None
        self._elders: list[socket.socket] = []
        self._unread = b""

    def take(self) -> Sequence[tuple[str, int]]:
        """
        Return its listeners: endpoint strings, and descriptors that are ours now.

        There are none if no such process runs.

        :raise ConfigurationError: if it does not give them.
        """
        found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        found.settimeout(self._patience)
        try:
            with reachable(self._directory) as short:
                found.connect(str(short / NAME))
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            found.close()
            return ()
        except OSError as error:
            found.close()
            raise _failed(f"{self._directory / NAME} cannot be used: {error}") from error
        self._socket = found
        if peer(found)[1] != os.geteuid():
            raise _failed("it belongs to another user")
        self._say(take=FORM)
        try:
            data, descriptors, _, _ = socket.recv_fds(found, 65536, MOST)
        except OSError as error:
            raise _failed(str(error)) from error
        self._unread = data
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        said = self._hear()
        listen, elders = said.get("listen"), said.get("elders")
        if not isinstance(listen, list) or not isinstance(elders, int):
            raise _failed("it named no listeners")
        if len(listen) + elders != len(descriptors):
            raise _failed("it gave other listeners than it named")
        self._elders = [socket.socket(fileno=each) for each in descriptors[len(listen) :]]
        return list(zip(map(str, listen), descriptors[: len(listen)], strict=True))

    def ready(self, taken: Sequence[str]) -> None:
        """
        Say that this process could serve; return when the other one has written all it knows.

        :raise ConfigurationError: if it does not.
        """
        if self._socket is not None:
            self._say(ready=list(taken))
            self._hear()

    def accepting(self) -> None:
        """Say that this process serves: the other one lets go."""
        if self._socket is None:
            return
        self._socket.setblocking(False)
        try:
            self._socket.send(_line(accepting=True))
        except OSError as error:
            self._log.warn("The process before this one is gone already: {error}", error=error)

    def elders(self) -> Sequence[int]:
        """
        Return the connections to all who still finish what they began, for the next one.

        To be called once this one is `accepting`.
        """
        for each in tuple(self._elders):
            if _is_closed(each):
                each.close()
                self._elders.remove(each)
        own = [] if self._socket is None or _is_closed(self._socket) else [self._socket]
        return [each.fileno() for each in (*self._elders, *own)[-MOST // 2 :]]

    def stopping(self) -> None:
        """Say that this process stops: those before it should be quick as well."""
        own = [] if self._socket is None else [self._socket]
        for each in (*self._elders, *own):
            with suppress(OSError):
                each.send(_line(stop=True), socket.MSG_DONTWAIT)

    def close(self) -> None:
        """Have nothing more to say."""
        own = [] if self._socket is None else [self._socket]
        for each in (*self._elders, *own):
            each.close()
        self._socket, self._elders = None, []

    def _say(self, **what: object) -> None:
        assert self._socket is not None
        try:
            self._socket.sendall(_line(**what))
        except OSError as error:
            raise _failed(str(error)) from error

    def _hear(self) -> Mapping[str, Any]:
        assert self._socket is not None
        while b"\n" not in self._unread:
            try:
                data = self._socket.recv(65536)
            except OSError as error:
                raise _failed(str(error) or type(error).__name__) from error
            if not data:
                raise _failed("it broke off")
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        said: Mapping[str, Any] = json.loads(line)
        if "refused" in said:
            raise _failed(str(said["refused"]))
        return said


def _is_closed(connection: socket.socket) -> bool:
    try:
        return not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _line(**what: object) -> bytes:
    return json.dumps(what).encode() + b"\n"


def _failed(why: str) -> ConfigurationError:
    return ConfigurationError(
        [f"--take-over: the process that runs did not hand over ({why}); it goes on as it was"]
    )


def peer(connection: socket.socket) -> tuple[int, int]:
    """
    Return the process and the user at the other end.

    Where the system does not tell, the folder's rights are what keeps others out.
    """
    if not hasattr(socket, "SO_PEERCRED"):
        return 0, os.geteuid()
    told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(told)
    return pid, uid


@contextmanager
def reachable(directory: Path) -> Iterator[Path]:
    """Name *directory* in as few bytes as a socket's name may have."""
    if len(os.fsencode(directory)) + len(NAME) + 12 <= _LONGEST:
        yield directory
        return
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
