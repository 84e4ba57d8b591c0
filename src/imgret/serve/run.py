"""The server."""

from __future__ import annotations

import contextlib
import logging
import secrets
import socket
import threading
import webbrowser
from collections.abc import Callable, Iterable
from typing import Any, final

import uvicorn

from imgret.errors import InvalidInputError
from imgret.images import isolated
from imgret.serve.app import create_app
from imgret.serve.guard import Limits, is_loopback
from imgret.serve.site import Site

__all__ = ["run"]

_log = logging.getLogger(__name__)
_GRACE = 10  # seconds that requests have to end


def run(
    site: Site,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    token: str | None = None,
    hosts: Iterable[str] = (),
    limits: Limits | None = None,
    open_browser: bool = False,
    isolate: bool = True,
) -> None:
    """Serve until the process is interrupted; running requests are finished first.

    Parameters
    ----------
    site : Site
    host : str
        Address to listen at. Any other than this computer's own is open to the network.
    port : int
        Port to listen at; 0 takes a free one.
    token : str, optional
        Secret that requests must have; ``"auto"`` makes one.
    hosts, limits
        As for `create_app`.
    open_browser : bool
        Whether to show the page in the browser.
    isolate : bool
        Whether images other than plain JPEGs and PNGs are decoded in processes with limits of
        memory and time: see `imgret.images.isolated`.

    Raises
    ------
    InvalidInputError
        The address or port cannot be used.
    """
    if token == "auto":  # noqa: S105  # no password
        token = secrets.token_urlsafe(24)
    listening = _listen(host, port)
    name = f"[{host}]" if ":" in host else host
    link = f"http://{name}:{listening.getsockname()[1]}/"
    if token is not None:
        link += f"?token={token}"
    if not is_loopback(host):
        _log.warning(
            "%s is open to the network: %s, and without encryption; put a proxy with TLS before it",
            host,
            "whoever has the token can search"
            if token
            else "everybody can search, as no --token is set",
        )
    own = [host, socket.gethostname()] if not is_loopback(host) else []
    app = create_app(site, limits=limits, token=token, hosts=[*own, *hosts])
    config = uvicorn.Config(
        app,
        http=_protocol(),
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE,
    )

    def ready() -> None:
        _log.info("serving %s at %s (stop with Ctrl-C)", site.shown or "a choice of folders", link)
        if open_browser:
            threading.Timer(0.5, webbrowser.open, (link,)).start()

    decoding = isolated(plain=False) if isolate else contextlib.nullcontext()
    with contextlib.suppress(KeyboardInterrupt), decoding:  # an interrupt is how one stops it
        _WebServer(config, ready).run(sockets=[listening])
    site.close()  # done already, unless it was stopped before it had started
    _log.info("stopped")


@final
class _WebServer(uvicorn.Server):
    """Calls a function once requests are answered, and an interrupt ends it in order."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to answer."""
        await super().startup(sockets=sockets)
        if self.started:
            self._ready()


def _protocol() -> Any:
    try:
        from imgret.serve.http import BoundedHttp  # noqa: PLC0415  # there may be no httptools
    except ImportError:
        return "h11"
    return BoundedHttp


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidInputError(
            f"{host}:{port}: expected an address to listen at, found {reason}; choose another "
            f"--port, or --port 0 for a free one"
        ) from error
    listening.listen(128)
    return listening
