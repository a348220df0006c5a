"""
The file that state is kept in: how it is opened, its tables, what is written and read.

Everything here blocks and belongs into a thread. It has what ``adbapi`` asks of a DB-API
module, so that a connection is only ever opened in the way that `connect` opens it. It
must never know a reactor.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from aiclient2api.state.shelf import Entry, Name

apilevel = sqlite3.apilevel
threadsafety = sqlite3.threadsafety
paramstyle = sqlite3.paramstyle

COMPRESS_OVER = 1024
"""Bytes from which on a value is worth compressing."""
LARGEST = 512 * 1024 * 1024
"""Bytes of one value that SQLite takes for certain: it is built to hold 1 GB, with all else."""

_COMPANIONS = ("-wal", "-shm", "-journal")
_WAL_BYTES = 16 * 1024 * 1024
"""What the write-ahead log may keep of the disk once its content has moved on."""

_VERSIONS: tuple[tuple[str, ...], ...] = (
    (
        # An id is larger than all before, so it tells the age. Names are blobs, because a
        # client may send what is no text to SQLite.
        "CREATE TABLE entry ("
        " id INTEGER PRIMARY KEY, namespace BLOB NOT NULL, owner BLOB NOT NULL,"
        " key BLOB NOT NULL, expires REAL, weight INTEGER NOT NULL, packed INTEGER NOT NULL,"
        " value BLOB NOT NULL, UNIQUE (namespace, owner, key))",
        "CREATE INDEX entry_age ON entry (namespace, id, weight)",
        "CREATE INDEX entry_expiry ON entry (expires) WHERE expires IS NOT NULL",
    ),
)
"""What makes each version of the tables out of the one before."""


class NotOurs(Exception):
    """The file is not ours to use; the message says why."""


class _Connection(sqlite3.Connection):
    """
    A connection that remembers what each namespace weighs.

    To add it up takes longer than to write: it is done where another has written, only.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.weights: dict[str, int] = {}
        self.version = -1


def connect(path: Path, patience: float) -> sqlite3.Connection:
    """
    Open the file, made with mode 0600 in a folder of mode 0700 if it is not there.

    :param patience: Seconds to wait for another process to let go of it.
    :raise NotOurs: if it is someone else's, or of a newer version.
    :raise OSError: if it cannot be had.
    :raise sqlite3.Error: if it is damaged or cannot be written.
    """
    _make_private(path)
    # The file is there by now; SQLite would make it with other rights. Its connection is
    # used in one thread at a time, but not always in the one that opened it.
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode=rw",
        uri=True,
        timeout=patience,
        isolation_level=None,
        check_same_thread=False,
        factory=_Connection,
    )
    try:
        _set_up(connection, patience)
    except BaseException:
        connection.close()
        raise
    return connection


def connect_to_read(path: Path, patience: float) -> sqlite3.Connection:
    """
    Open a file that is there, also while a gateway uses it. Nothing is made or changed.

    :param patience: Seconds to wait for another process to let go of it.
    :raise NotOurs: if it is none of this version.
    :raise OSError: if it cannot be had.
    :raise sqlite3.Error: if it is damaged or cannot be read.
    """
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise NotOurs(f"{path.name} is no regular file")
    if not os.access(path, os.R_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    until = time.monotonic() + patience
    while True:
        # SQLite would make a log and its index, if there were none, and leave them. Where there
        # are none nobody has it open: it can be read as something that does not change.
        alone = _is_alone(path)
        try:
            return _opened_to_read(path, "immutable" if alone else "readonly_shm", patience)
        except sqlite3.OperationalError as error:
            # Somebody is about to make or to remove the two.
            passing = _is(error, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
            if alone or not passing or time.monotonic() >= until:
                raise
        time.sleep(0.02)


def _is_alone(path: Path) -> bool:
    """Say whether all there is stands in the file itself."""
    _, log, index, journal = _files(path)
    if os.path.lexists(index) or os.path.lexists(journal):
        return False
    try:
        # Even to read SQLite makes an empty one, if another has removed his just now.
        return os.lstat(log).st_size == 0
    except FileNotFoundError:
        return True


def _opened_to_read(path: Path, how: str, patience: float) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode=ro&{how}=1", uri=True, timeout=patience, isolation_level=None
    )
    try:
        version = _version(connection)
        if version != len(_VERSIONS):
            raise NotOurs("another version of aiclient2api made it" if version else "it is empty")
    except BaseException:
        connection.close()
        raise
    return connection


def _make_private(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
    # One that was there is not opened: closing it would end all locks that another
    # connection of this process has on it (https://sqlite.org/howtocorrupt.html).
    for file in _files(path):
        # SQLite removes the others as it likes.
        with suppress(FileNotFoundError):
            found = os.lstat(file)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
                raise NotOurs(f"{file.name} is no regular file of our own")
            os.chmod(file, 0o600)


def _files(path: Path) -> list[Path]:
    return [path, *(path.with_name(path.name + suffix) for suffix in _COMPANIONS)]


def _set_up(connection: sqlite3.Connection, patience: float) -> None:
    version = _version(connection)
    if version > len(_VERSIONS):
        raise NotOurs("a newer version of aiclient2api made it")
    if version == 0:
        # Only now: in a file with tables it would be a write each time it is opened.
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    _begin_log(connection, patience)
    connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
    # With a write-ahead log this loses the last writes in a power cut, and no more.
    connection.execute("PRAGMA synchronous = NORMAL")
    # What was deleted is gone; and no word of it stands in a temporary file.
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("PRAGMA temp_store = MEMORY")
    if version == len(_VERSIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    # Asked again: another process may have been here.
    for statements in _VERSIONS[_version(connection) :]:
        for statement in statements:
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {len(_VERSIONS)}")
    connection.execute("COMMIT")


def _begin_log(connection: sqlite3.Connection, patience: float) -> None:
    """Switch to a write-ahead log, where the file system allows for one."""
    until = time.monotonic() + patience
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            # Of two that do this to a new file, SQLite lets one fail without any patience.
            if not _is(error, sqlite3.SQLITE_BUSY) or time.monotonic() >= until:
                raise
        time.sleep(0.02)


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _is(error: BaseException, *codes: int) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in codes


def is_damage(error: BaseException) -> bool:
    """Say whether *error* means that the file itself is no good."""
    return _is(error, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def set_aside(path: Path, suffix: str, patience: float) -> str | None:
    """
    Rename a damaged file, and what belongs to it, so that a new one can be made.

    :return: The new name; None if the file is sound, as it is where another process was
        faster.
    :raise OSError: if it cannot be renamed.
    :raise NotOurs: as `connect` does.
    """
    try:
        connection = connect(path, patience)
        try:
            (told,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        finally:
            connection.close()
        if told == "ok":
            return None
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
    new = path.with_name(path.name + suffix)
    while os.path.lexists(new):
        new = new.with_name(new.name + "~")
    for file in _files(path):
        with suppress(FileNotFoundError):
            file.rename(new.with_name(new.name + file.name[len(path.name) :]))
    return new.name


# --- in a connection --------------------------------------------------------------

_OWNED = "namespace = ? AND owner = ?"
_NAMED = "namespace = ? AND owner = ? AND key = ?"
_ALIVE = "(expires IS NULL OR expires > ?)"


def _columns(name: Name) -> tuple[bytes, bytes, bytes]:
    return _blob(name.namespace), _blob(name.owner), _blob(name.key)


def _blob(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(blob: bytes) -> str:
    return blob.decode("utf-8", "surrogatepass")


def write(
    cursor: sqlite3.Cursor, entries: Sequence[Entry], totals: Mapping[str, int], now: float
) -> None:
    """
    Write entries, the oldest first, and make room for them.

    :param totals: Bytes that each namespace may have.
    """
    values = [(entry, entry.at(now)) for entry in entries]
    # Before the lock: another process may wait for it.
    rows = [(entry, *_packed(value)) for entry, value in values if value is not None]
    cursor.execute("BEGIN IMMEDIATE")
    weights = _weights(cursor, {entry.name.namespace for entry in entries})
    for entry, value in values:
        cursor.execute(f"SELECT weight FROM entry WHERE {_NAMED}", _columns(entry.name))
        for (weight,) in cursor.fetchall():
            weights[entry.name.namespace] -= weight
            if value is None:
                cursor.execute(f"DELETE FROM entry WHERE {_NAMED}", _columns(entry.name))
    for entry, packed, stored in rows:
        cursor.execute(
            "INSERT OR REPLACE INTO entry (namespace, owner, key, expires, weight, packed, value)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (*_columns(entry.name), entry.expires, entry.weight, packed, stored),
        )
        weights[entry.name.namespace] += entry.weight
    _trim(cursor, weights, totals)
    cursor.execute("COMMIT")
    _connection(cursor).weights.update(weights)


def _connection(cursor: sqlite3.Cursor) -> _Connection:
    return cast(_Connection, cursor.connection)


def _weights(cursor: sqlite3.Cursor, namespaces: Iterable[str]) -> dict[str, int]:
    """Return what namespaces weigh. What is remembered is for the caller to set, once it is so."""
    connection = _connection(cursor)
    # It moves with every change of the file that is not ours.
    cursor.execute("PRAGMA data_version")
    (version,) = cursor.fetchone()
    if version != connection.version:
        connection.version = version
        connection.weights.clear()
    return {each: _weight(cursor, each) for each in namespaces}


def _weight(cursor: sqlite3.Cursor, namespace: str) -> int:
    known = _connection(cursor).weights.get(namespace)
    if known is not None:
        return known
    cursor.execute(
        "SELECT COALESCE(SUM(weight), 0) FROM entry WHERE namespace = ?", (_blob(namespace),)
    )
    return int(cursor.fetchone()[0])


def _packed(value: bytes) -> tuple[bool, bytes]:
    if len(value) > COMPRESS_OVER:
        smaller = zlib.compress(value, 1)
        if len(smaller) < len(value):
            return True, smaller
    return False, value


def read(cursor: sqlite3.Cursor, name: Name, now: float) -> bytes | None:
    """Return a value, None if there is none at that time or if it was mutilated."""
    row = _row(cursor, "packed, value", name, now)
    if row is None:
        return None
    return _unpacked(*row)


def _unpacked(packed: bool, value: bytes) -> bytes | None:
    try:
        return zlib.decompress(value) if packed else value
    except zlib.error:
        return None


def scan(cursor: sqlite3.Cursor, namespace: str, owner: str, now: float) -> dict[str, bytes]:
    """Return all values of one owner at that time, by key, without those mutilated."""
    cursor.execute(
        f"SELECT key, packed, value FROM entry WHERE {_OWNED} AND {_ALIVE}",
        (_blob(namespace), _blob(owner), now),
    )
    found = ((key, _unpacked(packed, value)) for key, packed, value in cursor.fetchall())
    return {_text(key): value for key, value in found if value is not None}


def keys(
    cursor: sqlite3.Cursor, namespace: str, owner: str, beginning: str, most: int, now: float
) -> list[str]:
    """Return the keys of one owner that begin so, at most so many."""
    low = _blob(beginning)
    # No byte of a name is 255.
    cursor.execute(
        f"SELECT key FROM entry WHERE {_OWNED} AND key >= ? AND key < ? AND {_ALIVE} LIMIT ?",
        (_blob(namespace), _blob(owner), low, low + b"\xff", now, most),
    )
    return [_text(key) for (key,) in cursor.fetchall()]


def latest(
    cursor: sqlite3.Cursor, namespace: str, owner: str, most: int, now: float
) -> list[tuple[str, bytes]]:
    """Return the youngest values of one owner with their keys, in the order they were put."""
    cursor.execute(
        f"SELECT key, packed, value FROM entry WHERE {_OWNED} AND {_ALIVE}"
        " ORDER BY id DESC LIMIT ?",
        (_blob(namespace), _blob(owner), now, most),
    )
    found = [(_text(key), _unpacked(packed, value)) for key, packed, value in cursor.fetchall()]
    return [(key, value) for key, value in reversed(found) if value is not None]


def has(cursor: sqlite3.Cursor, name: Name, now: float) -> bool:
    """Say whether there is a value at that time."""
    return _row(cursor, "1", name, now) is not None


def _row(cursor: sqlite3.Cursor, what: str, name: Name, now: float) -> tuple[Any, ...] | None:
    cursor.execute(
        f"SELECT {what} FROM entry WHERE {_NAMED} AND {_ALIVE}",
        (*_columns(name), now),
    )
    row: tuple[Any, ...] | None = cursor.fetchone()
    return row


def purge(cursor: sqlite3.Cursor, totals: Mapping[str, int], now: float) -> None:
    """Delete what has expired or is too much, and give its place on the disk back."""
    cursor.execute("BEGIN IMMEDIATE")
    cursor.execute("DELETE FROM entry WHERE expires <= ?", (now,))
    _connection(cursor).weights.clear()
    weights = _weights(cursor, totals)
    _trim(cursor, weights, totals)
    cursor.execute("COMMIT")
    _connection(cursor).weights.update(weights)
    # It frees one page a step, and execute() takes one step where no rows are to come.
    cursor.executescript("PRAGMA incremental_vacuum")
    # Until then what was deleted can still be read in the log.
    cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _trim(cursor: sqlite3.Cursor, weights: dict[str, int], totals: Mapping[str, int]) -> None:
    """Delete the oldest of each namespace that has too much, and note what is left."""
    for namespace, weight in weights.items():
        if weight <= totals[namespace]:
            continue
        mine = _blob(namespace)
        cursor.execute("SELECT id, weight FROM entry WHERE namespace = ? ORDER BY id", (mine,))
        last = None
        while weight > totals[namespace]:
            last, less = cursor.fetchone()
            weight -= less
        cursor.execute("DELETE FROM entry WHERE namespace = ? AND id <= ?", (mine, last))
        weights[namespace] = weight
