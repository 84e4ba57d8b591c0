"""What a request must fulfil before it reaches a route, and the headers of every answer."""

from __future__ import annotations

import hmac
import ipaddress
import json
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from typing import Any, TypeAlias, final
from urllib.parse import parse_qs, urlsplit

from starlette.exceptions import HTTPException

from imgret.support.checks import check_count, check_number

__all__ = ["Guard", "Limits", "is_loopback"]

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_COOKIE = "imgret_token"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(self), microphone=(), geolocation=()"),
)
_OPEN = {"/healthz"}  # no token needed


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of a server.

    Attributes
    ----------
    bytes : int
        Maximum size of an upload.
    concurrency : int
        Requests that are worked on at once, searches by an image and others each; by default four
        for each core.
    waiting : int
        Requests that wait for their turn; further ones are refused with status 503.
    seconds : float
        Seconds after which a request is given up with status 504.
    hits : int
        Maximum number of hits that can be paged through.
    """

    bytes: int = 32 * 2**20
    concurrency: int = 4 * (os.cpu_count() or 1)
    waiting: int = 256
    seconds: float = 60.0
    hits: int = 10_000

    def __post_init__(self) -> None:
        for name in ("bytes", "concurrency", "hits"):
            check_count(getattr(self, name), name)
        check_number(self.waiting, "waiting", at_least=0, at_most=1_000_000)
        check_number(self.seconds, "seconds", at_least=0.001, at_most=86_400)


@final
class Guard:
    """Checks host, origin, token and size of a request, and adds headers to the answer.

    The check of the host keeps other pages away: a name of theirs that suddenly points to this
    computer (DNS rebinding) is not among the names it answers to. Addresses and this computer's
    own names are.

    Parameters
    ----------
    app
        ASGI application.
    hosts : iterable of str
        Names, without port, that the server may be called by besides ``localhost``.
    token : str or None
        Secret that requests must have, as ``Authorization: Bearer TOKEN``, or once as ``?token=``,
        which sets a cookie.
    limits : Limits
    """

    def __init__(
        self, app: App, *, hosts: Iterable[str] = (), token: str | None, limits: Limits
    ) -> None:
        self._app = app
        self._hosts = {"localhost", *(host.casefold() for host in hosts)}
        self._token = token
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer why not."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = _headers_of(scope)
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await _refuse(send, *refusal)
            return
        if self._token is not None and scope["path"] not in _OPEN:
            given = _token_in_query(scope)
            if given is not None and self._is_token(given):
                await self._set_cookie(scope, send)
                return
            if not self._is_token(_token_of(headers)):
                await _refuse(
                    send,
                    HTTPStatus.UNAUTHORIZED,
                    "expected the token of this server, found none or another; open the link "
                    "that the server printed, or send 'Authorization: Bearer TOKEN'",
                )
                return
        await self._limited(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Mapping[str, str]) -> tuple[HTTPStatus, str] | None:
        host = headers.get("host", "")
        if not self._is_ours(host):
            return HTTPStatus.MISDIRECTED_REQUEST, (
                f"expected a host name of this server, found {host!r}; allow it with --allow-host"
            )
        if scope["method"] not in {"GET", "HEAD"}:
            origin = headers.get("origin")
            if (origin is not None and urlsplit(origin).netloc != host) or headers.get(
                "sec-fetch-site", "same-origin"
            ) not in {"same-origin", "none"}:
                return HTTPStatus.FORBIDDEN, (
                    f"expected a request from a page of this server, found one from {origin}"
                )
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit():
            return HTTPStatus.BAD_REQUEST, f"content-length: expected a number, found {length!r}"
        if int(length) > self._limits.bytes:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._too_large(int(length))
        return None

    def _too_large(self, found: int | None = None) -> str:
        size = "more" if found is None else f"{found / 2**20:.3g} MiB"
        return f"expected an upload of at most {self._limits.bytes / 2**20:.3g} MiB, found {size}"

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            return False
        if name is None:
            return False
        if name in self._hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True  # no name, so that no other page can have it

    def _is_token(self, given: str | None) -> bool:
        known = (self._token or "").encode()
        return given is not None and hmac.compare_digest(given.encode(), known)

    async def _set_cookie(self, scope: Scope, send: Send) -> None:
        cookie = f"{_COOKIE}={self._token}; Path=/; HttpOnly; SameSite=Strict"
        headers = [(b"set-cookie", cookie.encode()), (b"location", scope["path"].encode())]
        start = {"type": "http.response.start", "status": 303, "headers": [*headers, *_HEADERS]}
        await send(start)
        await send({"type": "http.response.body", "body": b""})

    async def _limited(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count the bytes of the upload, also if the request does not state its length."""
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > self._limits.bytes:  # raised where the route reads it
                    raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._too_large())
            return message

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_HEADERS]
            await send(message)

        await self._app(scope, counted, with_headers)


def is_loopback(host: str) -> bool:
    """Whether only this computer can reach a server at a host."""
    if host.casefold() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _headers_of(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _token_in_query(scope: Scope) -> str | None:
    found = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token")
    return found[0] if found else None


def _token_of(headers: Mapping[str, str]) -> str | None:
    kind, _, token = headers.get("authorization", "").partition(" ")
    if kind.casefold() == "bearer":
        return token.strip()
    try:
        cookie = SimpleCookie(headers.get("cookie", "")).get(_COOKIE)
    except CookieError:
        return None
    return None if cookie is None else cookie.value


async def _refuse(send: Send, status: HTTPStatus, message: str) -> None:
    body = json.dumps({"error": {"kind": status.phrase, "message": message}}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *_HEADERS,
    ]
    await send({"type": "http.response.start", "status": int(status), "headers": headers})
    await send({"type": "http.response.body", "body": body})
