"""The client of a gallery in Milvus: requests with a time limit, errors in words, Milvus Lite."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
from pymilvus import MilvusClient
from pymilvus.exceptions import MilvusException

from imgret.errors import (
    ImgretError,
    MissingExtraError,
    StoreClosedError,
    StoreError,
    StoreForkedError,
    StoreLockedError,
    StoreNotFoundError,
    StoreReadOnlyError,
)
from imgret.support.locks import RLock

if TYPE_CHECKING:
    from pathlib import Path

    from imgret.galleries.milvus.address import Address

__all__ = ["MilvusConnection"]

_log = logging.getLogger(__name__)
# Whatever pymilvus reports there is raised as well, with a name and with what to do.
logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
# Seconds to wait for a server at first.
_FIRST = 10.0
# Seconds that loading a collection into the memory of a server may take.
LOADING = 600.0
# Seconds after a removal in which reads are Strong: with Session, a server may still show the rows.
_SETTLING = 2.0
_VERSION = re.compile(r"v?(\d+)\.(\d+)")


# Codes of servers and of gRPC, and words of pymilvus.
_UNKNOWN_USER = frozenset({grpc.StatusCode.UNAUTHENTICATED, 1400})
_FULL = frozenset({3, 7, 9})  # of memory, of disk, of a quota
_NO_ROOM = ("quota", "disk", "no space left")
_LOST = ("unavailable", "failed to connect", "fail connecting", "retry timeout", "connection")


class _Engine:
    """Milvus Lite as this process runs it for one file; several galleries may share it."""

    def __init__(self) -> None:
        self.users = 0
        self.writing = RLock()  # it orders neither writers nor those that open a collection


# When this process last removed or replaced rows of a gallery.
_removed: dict[str, float] = {}
_engines: dict[Path, _Engine] = {}
_engines_lock = RLock()


class MilvusConnection:
    """A connection to a server, or to Milvus Lite in this process.

    Parameters
    ----------
    address : Address

    Raises
    ------
    StoreError
        The server cannot be reached, or does not let us in.
    StoreLockedError
        Another process uses the file of Milvus Lite.
    """

    def __init__(self, address: Address) -> None:
        self.address, self.name, self.closed = address, address.name, False
        self._pid = os.getpid()
        self._fields: list[dict[str, Any]] | None = None
        self._engine = _entered(address) if address.file is not None else None
        try:
            with self._named():
                self._client = MilvusClient(
                    address.target,
                    token=address.token,
                    db_name=address.db,
                    timeout=min(_FIRST, address.timeout),
                    dedicated=True,
                    **address.options,
                )
                version = str(self._client.get_server_version(timeout=address.timeout))
        except BaseException:
            self._left()
            raise
        found = _VERSION.search(version)
        self.version = (int(found[1]), int(found[2])) if found else (0, 0)

    @property
    def is_lite(self) -> bool:
        """Whether this is Milvus Lite rather than a server."""
        return self._engine is not None

    @property
    def is_alone(self) -> bool:
        """Whether this is Milvus Lite, whose file nobody else has open."""
        return self._engine is not None and self._engine.users == 1

    @property
    def level(self) -> str:
        """Consistency level with which a read sees all changes of this process."""
        lately = time.monotonic() - _removed.get(self.name, -_SETTLING) < _SETTLING
        return "Strong" if lately else "Session"

    def removed(self) -> None:
        """Note that rows were removed or replaced."""
        _removed[self.name] = time.monotonic()

    def close(self) -> None:
        """Close the connection, and Milvus Lite with its last user; may be called twice."""
        if not self.closed:
            self.closed = True
            if self._pid == os.getpid():
                self._client.close()
                self._left()

    def _left(self) -> None:
        if self._engine is not None and self.address.file is not None:
            _leave(self.address.file, self._engine)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keep others of this process from changing or opening a file of Milvus Lite."""
        if self._engine is None:
            yield
        else:
            with self._engine.writing:
                yield

    def ask(self, method: str, *args: Any, timeout: float | None = None, **kwargs: Any) -> Any:
        """Call a method of the client.

        Requests that did not reach the server are repeated until the time is over. All that imgret
        sends can be repeated.
        """
        self._check_open()
        return self.guarded(
            getattr(self._client, method), *args, timeout=timeout or self.address.timeout, **kwargs
        )

    def upsert(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Write items, given by field; those with the same key are replaced.

        The client's own method takes rows, and spends three times as long on them.
        """
        self._check_open()
        client, collection = self._client, self.address.collection
        if self._fields is None:
            self._fields = self.ask("describe_collection", collection)["fields"]
        kinds = {field["name"]: field["type"] for field in self._fields}
        self.guarded(
            client._get_connection().upsert,  # noqa: SLF001  # what the client's own methods call
            collection,
            [
                {"name": name, "type": kinds[name], "values": values}
                for name, values in columns.items()
            ],
            schema={"fields": self._fields},
            context=client._generate_call_context(),  # noqa: SLF001  # as above
            timeout=self.address.timeout,
        )

    def _check_open(self) -> None:
        if self.closed:
            raise StoreClosedError(f"{self.name}: closed; open it again with Retriever.open()")
        if self._pid != os.getpid():
            raise StoreForkedError(
                f"{self.name}: opened by the process this one was forked from; open it in each "
                f"process, or start processes with 'spawn'"
            )

    def guarded(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function of pymilvus, and raise its errors as errors of imgret."""
        with self._named():
            return work(*args, **kwargs)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Raise errors of the client as errors of imgret that name the gallery."""
        started = time.monotonic()
        try:
            yield
        except (MilvusException, grpc.RpcError, grpc.FutureTimeoutError) as error:
            raise _explained(self.name, error, time.monotonic() - started) from error


def _entered(address: Address) -> _Engine:
    """Start Milvus Lite for a file, or share it with the galleries of this process."""
    file = address.file
    assert file is not None  # noqa: S101  # of the caller
    try:
        # Servers do without it.
        from milvus_lite.server_manager import server_manager_instance  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError.of("A file of Milvus Lite", extra="milvus-lite") from error
    if not file.parent.is_dir():
        raise StoreNotFoundError(f"{address.name}: expected a folder {file.parent}, found none")
    if file.exists() and not (file.is_dir() and (file / "LOCK").is_file()):
        raise StoreError(
            f"{address.name}: expected a database of Milvus Lite, which is a folder, found "
            f"something else at {file}; choose another path"
        )
    with _engines_lock:
        engine = _engines.setdefault(file, _Engine())
        if not engine.users:
            with _failures("milvus_lite.server_manager") as failures:
                uri = server_manager_instance.start_and_get_uri(str(file))
            if uri is None:
                del _engines[file]
                reason = failures[0] if failures else None
                if type(reason).__name__ == "DataDirLockedError":
                    raise StoreLockedError(
                        f"{address.name}: in use by another process, and Milvus Lite is for one "
                        f"process at a time; close it there, or use a Milvus server"
                    ) from reason
                raise StoreError(
                    f"{address.name}: Milvus Lite cannot open it: {reason}"
                ) from reason
        engine.users += 1
        return engine


def _leave(file: Path, engine: _Engine) -> None:
    from milvus_lite.server_manager import server_manager_instance  # noqa: PLC0415

    with _engines_lock:
        engine.users -= 1
        if not engine.users:
            _engines.pop(file, None)
            server_manager_instance.release_server(str(file))


@contextmanager
def _failures(name: str) -> Iterator[list[BaseException]]:
    """Collect the errors that a library logs instead of raising them, and keep them off stderr."""
    found: list[BaseException] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info and record.exc_info[1]:
                found.append(record.exc_info[1])

    logger, handler = logging.getLogger(name), Collect()
    propagate = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield found
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate


def _explained(name: str, error: BaseException, seconds: float) -> ImgretError:
    """Return an error in words that name the gallery."""
    code: Any = None
    if isinstance(error, MilvusException) and isinstance(error.__cause__, grpc.RpcError):
        error = error.__cause__  # pymilvus hides why it could not connect, such as a password
    if isinstance(error, MilvusException):
        code, reason = error.code, str(error.message)
    elif isinstance(error, grpc.RpcError):
        code, reason = error.code(), str(error.details())
    else:
        reason = str(error)
    reason = _short(" ".join(reason.split()))
    plain = reason.lower()
    kind: type[StoreError] = StoreError
    if code in _UNKNOWN_USER or "auth check failure" in plain:
        told = (
            "the server does not accept the user or the password; give them in the URI, "
            "milvus://user:password@host:19530/collection"
        )
    elif code == grpc.StatusCode.PERMISSION_DENIED or "permission deny" in plain:
        kind, told = StoreReadOnlyError, f"not allowed: {reason}"
    elif "database not found" in plain:
        kind, told = StoreNotFoundError, f"{reason}; create the database first"
    elif code in _FULL or any(word in plain for word in _NO_ROOM):
        told = f"the server takes no more: {reason}. Make room there, and try again"
    elif code == grpc.StatusCode.DEADLINE_EXCEEDED:
        told = (
            f"no answer within {seconds:.0f} seconds; a longer time is set in the URI with "
            f"timeout=SECONDS"
        )
    elif code == grpc.StatusCode.UNAVAILABLE or any(word in plain for word in _LOST):
        long = f", for {seconds:.0f} seconds" if seconds >= 1 else ""
        told = f"cannot be reached, or stopped answering{long}: {reason}"
    else:
        told = reason
    return kind(f"{name}: {told}")


def _short(reason: str) -> str:
    """Return the part of a message that says something."""
    for word in (", channel_state=", ", debug="):
        reason = reason.partition(word)[0]
    return reason[:300]
