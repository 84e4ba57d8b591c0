"""Connections to a Ray cluster."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import ray

from imgret.errors import ClusterError, InvalidInputError

__all__ = ["connected"]

# Seconds to wait for the port of a cluster.
_SECONDS = 10.0
_PORT = 10001


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
        The cluster cannot be reached.
    """
    if address != "ray" and not address.startswith("ray://"):
        raise InvalidInputError(
            f"on: expected 'ray' or an address such as 'ray://host:10001', found {address!r}"
        )
    if address != "ray":
        _check_port(address)
    if ray.is_initialized():
        yield
        return
    _connect(address)
    try:
        yield
    finally:
        ray.shutdown()


def _connect(address: str) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to anybody
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # as it will be; else it warns
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address != "ray":
            ray.init(address, **quiet)
            return
        if named := os.environ.get("RAY_ADDRESS"):
            ray.init(named, **quiet)
        else:  # not "auto", which waits for minutes for a cluster that was killed
            ray.init("local", include_dashboard=False, **quiet)
    except (ConnectionError, RuntimeError, OSError, ValueError) as error:
        raise ClusterError(_unreached(address, error)) from error


def _check_port(address: str) -> None:
    """Raise at once if nobody listens; Ray itself tries for minutes."""
    try:
        parts = urlsplit(address)
        place = (parts.hostname or "", parts.port or _PORT)
    except ValueError:
        place = ("", 0)
    if not place[0]:
        raise InvalidInputError(
            f"on: expected an address such as 'ray://host:10001', found {address!r}"
        )
    try:
        socket.create_connection(place, timeout=_SECONDS).close()
    except OSError as error:
        raise ClusterError(_unreached(address, error)) from error


def _unreached(address: str, error: BaseException) -> str:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    advice = "; it may ask for a token (RAY_AUTH_MODE)" if "timeout" in reason else ""
    return (
        f"{address}: expected a Ray cluster, which `ray start --head` starts, found none: "
        f"{reason}{advice}"
    )
