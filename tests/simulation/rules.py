"""Protective rules, each of which can be switched off alone: without any one of them, some history must end wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

__all__ = ["RULES", "Rule", "without"]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of the protocol and the way to switch it off."""

    promise: str
    switch_off: Callable[[], AbstractContextManager[Any]]


RULES: dict[str, Rule] = {}


@contextmanager
def without(name: str) -> Iterator[None]:
    """Switch a rule off."""
    with RULES[name].switch_off():
        yield
