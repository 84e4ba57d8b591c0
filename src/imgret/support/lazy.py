"""Properties that are computed once, without a lock, and modules imported when they are used."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

__all__ = ["LazyModule", "cached_property"]


class LazyModule:
    """Stands for a module, which is imported when one of its names is first used.

    Parameters
    ----------
    name : str
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self._name), name)

    def __repr__(self) -> str:
        return f"LazyModule({self._name!r})"


if TYPE_CHECKING or sys.version_info >= (3, 12):
    from functools import cached_property
else:
    T = TypeVar("T")

    class cached_property(Generic[T]):  # noqa: N801  # used like a function
        """Like ``functools.cached_property`` of Python 3.12.

        That of Python 3.11 holds a lock, one for all objects, while the value is computed. A forked
        child could wait for it forever.
        """

        def __init__(self, function: Callable[[Any], T]) -> None:
            self._function = function
            self.__doc__ = function.__doc__

        def __set_name__(self, owner: type, name: str) -> None:
            self._name = name

        @overload
        def __get__(self, instance: None, owner: type) -> Self: ...
        @overload
        def __get__(self, instance: object, owner: type) -> T: ...
        def __get__(self, instance: object | None, owner: type) -> Any:
            if instance is None:
                return self
            value = self._function(instance)
            vars(instance)[self._name] = value  # later look-ups find it here first
            return value
