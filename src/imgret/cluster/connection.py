"""Connections to a Ray cluster."""

from __future__ import annotations

import logging
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import grpc
import ray
from ray.exceptions import RayError

from imgret.errors import ClusterError, InvalidInputError
from imgret.support.uris import without_secrets

__all__ = ["connected"]

# Seconds to wait for the port of a cluster.
_SECONDS = 10.0
_PORT = 10001
# What a client of Ray asks first; a cluster that wants a token refuses it without one.
_PING = "/ray.rpc.RayletDriver/ClusterInfo"
_ADVICE = (
    "before this program starts, set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to the token of the "
    "cluster or RAY_AUTH_TOKEN_PATH to a file with it (~/.ray/auth_token by default); on the "
    "cluster, `ray get-auth-token` prints it"
)


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Connect to a cluster for the duration of a block, unless this process is connected already.

    Parameters
    ----------
    address : str
        ``"ray"`` for the cluster of the variable ``RAY_ADDRESS``; without it, one is started on
        this machine and stopped at the end. Or ``"ray://host:10001"``.

    Raises
    ------
    InvalidInputError
        The address is another one.
    ClusterError
        The cluster cannot be reached, or asks for another token.
    """
    place = None if address == "ray" else _place(address)
    if place is not None:
        _check_port(address, place)
    if ray.is_initialized():
        yield
        return
    _connect(address, place)
    try:
        yield
    finally:
        ray.shutdown()


def _place(address: str) -> tuple[str, int]:
    """Return host and port of an address."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port or _PORT
    except ValueError:
        host, port = "", 0
    if not address.startswith("ray://") or not host:
        shown = without_secrets(address) if "://" in address else address
        raise InvalidInputError(
            f"on: expected 'ray' or an address such as 'ray://host:10001', found {shown!r}"
        )
    if "@" in parts.netloc or parts.query:
        raise InvalidInputError(
            f"on: expected an address such as 'ray://{host}:{port}', found one with a name, a "
            f"token or options; if the cluster asks for a token, {_ADVICE}"
        )
    return host, port


def _check_port(address: str, place: tuple[str, int]) -> None:
    """Raise at once if nobody listens; Ray itself tries for minutes."""
    try:
        socket.create_connection(place, timeout=_SECONDS).close()
    except OSError as error:
        raise ClusterError(_unreached(address, error)) from error


def _connect(address: str, place: tuple[str, int] | None) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to anybody
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # as it will be; else it warns
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    asks = place is not None and _asks_for_a_token(place)
    refused = (
        f"{address}: the cluster asks for a token, and that of this process is missing or wrong; "
        f"{_ADVICE}"
    )
    if asks and os.environ.get("RAY_AUTH_MODE", "disabled").lower() == "disabled":
        raise ClusterError(refused)  # Ray itself tries for half a minute
    try:
        if place is not None:
            with warnings.catch_warnings():  # the error says it
                warnings.filterwarnings("ignore", message="Ray Client connection timed out")
                ray.init(address, **quiet)
        elif named := os.environ.get("RAY_ADDRESS"):
            ray.init(named, **quiet)
        else:  # not "auto", which waits for minutes for a cluster that was killed
            ray.init("local", include_dashboard=False, **quiet)
    except (RayError, ConnectionError, RuntimeError, OSError, ValueError) as error:
        raise ClusterError(refused if asks else _unreached(address, error)) from error


def _asks_for_a_token(place: tuple[str, int]) -> bool:
    """Return whether a cluster answers only those who have a token."""
    host, port = place
    with grpc.insecure_channel(f"[{host}]:{port}" if ":" in host else f"{host}:{port}") as channel:
        try:
            channel.unary_unary(_PING)(b"", timeout=_SECONDS)
        except grpc.RpcError as error:
            return bool(error.code() == grpc.StatusCode.UNAUTHENTICATED)
    return False


def _unreached(address: str, error: BaseException) -> str:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    # Only the port of `ray://` says that it asks for a token.
    advice = f"; if it asks for a token, {_ADVICE}" if "RAY_ADDRESS" in os.environ else ""
    return (
        f"{address}: expected a Ray cluster, which `ray start --head` starts, found none: "
        f"{reason}{advice}"
    )
