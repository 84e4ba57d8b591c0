"""URIs of galleries in Milvus, and what of them may be shown."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from imgret.errors import InvalidInputError

__all__ = ["Address"]

_COLLECTION = "imgret"
_PORT = 19530
# Seconds a request may take, with all attempts to repeat it.
_TIMEOUT = 30.0
# Names as Milvus takes them; imgret appends a suffix to that of the collection.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,239}")
# Files of certificates, for TLS; pymilvus calls them the same.
_FILES = frozenset({"server_pem_path", "ca_pem_path", "client_pem_path", "client_key_path"})
_KNOWN = frozenset({"db", "secure", "token", "timeout", "collection", "server_name", *_FILES})
_SECRETS = frozenset({"token"})
# The URI is not shown in an error, as it may have a password in it.
_EXPECTED = (
    "gallery: expected a URI such as milvus://host:19530/collection, or "
    "milvus:///folder/file.db for Milvus Lite"
)


@dataclass(frozen=True)
class Address:
    """Where a gallery is.

    Attributes
    ----------
    name : str
        URI without what is secret.
    target : str
        What the client connects to: ``http://host:port``, or the path of a file.
    file : Path or None
        File of Milvus Lite; None on a server.
    collection, db : str
        ``db`` is empty for the default database.
    token : str
        ``user:password`` or a token; empty without.
    timeout : float
        Seconds that a request may take.
    options : dict
        Options of the client for TLS.
    """

    name: str
    target: str
    file: Path | None
    collection: str
    db: str
    token: str
    timeout: float
    options: dict[str, Any]

    @classmethod
    def parse(cls, uri: str) -> Address:
        """Return the address in a URI.

        Raises
        ------
        InvalidInputError
            The URI is not valid. The message does not show it.
        """
        try:
            parts = urlsplit(uri)
            port = parts.port
            query = dict(
                parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True)
                if parts.query
                else []
            )
        except ValueError:
            raise InvalidInputError(f"{_EXPECTED}, found another") from None
        if unknown := sorted(set(query) - _KNOWN):
            raise InvalidInputError(
                f"gallery: expected parameters of {', '.join(sorted(_KNOWN))}, found {unknown[0]!r}"
            )
        file, collection = _collection(parts, query)
        _check_name("collection", collection)
        if db := query.get("db", ""):
            _check_name("db", db)
        user, token = _credentials(parts, query)
        options = _tls(query)
        # One file is run by one server, however its folder is spelled.
        real = None if file is None else file.parent.resolve() / file.name
        host = parts.hostname or ""
        shown_host = f"[{host}]" if ":" in host else host
        place = f"{shown_host}:{port or _PORT}"
        return cls(
            name=_name(user, place, query, file, collection),
            target=str(real) if real else f"{'https' if options else 'http'}://{place}",
            file=real,
            collection=collection,
            db=db,
            token=token,
            timeout=_seconds(query),
            options=options,
        )

    @property
    def spec_collection(self) -> str:
        """Name of the collection that holds the spec."""
        return f"{self.collection}_imgret"


def _collection(parts: SplitResult, query: dict[str, str]) -> tuple[Path | None, str]:
    """Return the file of Milvus Lite, if it is one, and the name of the collection."""
    path = unquote(parts.path)
    given = query.get("collection", _COLLECTION)
    if not parts.netloc:
        return _file(path, query), given
    named = path.strip("/")
    if named and "collection" in query:
        raise InvalidInputError(
            "collection: expected it either as the path or as the parameter, found both"
        )
    return None, named or given


def _credentials(parts: SplitResult, query: dict[str, str]) -> tuple[str, str]:
    """Return the user, who may be shown, and what the client sends."""
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if (user or password) and "token" in query:
        raise InvalidInputError("token: expected either a token or a user, found both")
    if bool(user) != bool(password):  # not shown: it may be a token
        raise InvalidInputError(
            "gallery: expected user and password, as in milvus://user:password@host, or a token, "
            "as in milvus://host/collection?token=TOKEN, found only one name before the host"
        )
    return user, query.get("token") or (f"{user}:{password}" if user else "")


def _tls(query: dict[str, str]) -> dict[str, Any]:
    """Return the options of the client for TLS; none without it."""
    secure = _flag(query, "secure")
    options: dict[str, Any] = {key: query[key] for key in sorted(_FILES & set(query))}
    for option, file in options.items():
        if not Path(file).is_file():
            raise InvalidInputError(
                f"{option}: expected a file with a certificate or key, found no file {file}"
            )
    if "server_name" in query:
        options["server_name"] = query["server_name"]
    return {**options, "secure": True} if secure or options else {}


def _file(path: str, query: dict[str, str]) -> Path:
    if not path.endswith(".db") or not path.startswith("/"):
        raise InvalidInputError(
            f"gallery: expected milvus:///folder/file.db, the absolute path of a file for Milvus "
            f"Lite that ends with .db, or milvus://host:{_PORT}/collection, found the path {path!r}"
        )
    if server := sorted(set(query) - {"collection", "timeout", "db"}):
        raise InvalidInputError(
            f"gallery: expected no {server[0]!r} for a file of Milvus Lite, which has no users and "
            f"no network"
        )
    return Path(path)


def _name(user: str, place: str, query: dict[str, str], file: Path | None, collection: str) -> str:
    shown = {key: value for key, value in query.items() if key not in _SECRETS}
    shown.pop("collection", None)
    if file is not None:
        if collection != _COLLECTION:
            shown["collection"] = collection
        start = f"milvus://{quote(str(file))}"
    else:
        start = f"milvus://{quote(user) + '@' if user else ''}{place}/{collection}"
    return start + (f"?{urlencode(shown, quote_via=quote, safe='/')}" if shown else "")


def _check_name(what: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidInputError(
            f"{what}: expected a name of at most 240 letters of ASCII, digits and underscores that "
            f"does not start with a digit, found {name!r}"
        )


def _flag(query: dict[str, str], name: str) -> bool:
    value = query.get(name, "false")
    if value not in {"true", "false"}:
        raise InvalidInputError(f"{name}: expected true or false, found {value!r}")
    return value == "true"


def _seconds(query: dict[str, str]) -> float:
    text = query.get("timeout", str(_TIMEOUT))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 86400:
        raise InvalidInputError(
            f"timeout: expected a number of seconds larger than 0, found {text!r}"
        )
    return seconds
