"""URIs of galleries on servers, as messages may show them."""

from __future__ import annotations

__all__ = ["without_secrets"]

# Schemes of servers where a name before the host is a user's, even without a password.
_WITH_USERS = frozenset({"postgresql", "postgres"})
_SECRETS = ("password", "passfile", "token", "secret", "key")


def without_secrets(uri: str) -> str:
    """Return a URI without its password, and without parameters that are secret.

    A name before the host is kept for PostgreSQL, and for Milvus if it has a password; elsewhere
    people write a token there, as in ``https://TOKEN@host``.

    Of one in which the end of the password cannot be seen, only the scheme is left.
    """
    scheme, _, rest = uri.partition("://")
    place, _, query = rest.partition("?")
    authority, slash, path = place.partition("/")
    user, at, host = authority.rpartition("@")
    if "@" in path or (not at and "@" in rest):
        return f"{scheme}://..."
    name, _, password = user.partition(":")
    if not (scheme in _WITH_USERS or (scheme == "milvus" and password)):
        name = "..." if name else ""
    shown = f"{scheme}://{name}{at}{host}{slash}{path}"
    kept = [each for each in query.split("&") if each and not _is_secret(each)]
    return f"{shown}?{'&'.join(kept)}" if kept else shown


def _is_secret(parameter: str) -> bool:
    name = parameter.partition("=")[0].lower()
    return any(secret in name for secret in _SECRETS)
