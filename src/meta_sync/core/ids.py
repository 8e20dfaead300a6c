"""Identifiers we make ourselves. They are opaque text; nobody parses them."""

from __future__ import annotations

import secrets

__all__ = ["new_id", "new_secret"]

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32 in lower case: no letter that is read as another."""


def new_id(prefix: str) -> str:
    """A fresh identifier such as ``store_8f3k…`` with 100 random bits."""
    return f"{prefix}_{''.join(secrets.choice(_ALPHABET) for _ in range(20))}"


def new_secret(prefix: str) -> str:
    """A fresh secret such as an API key, with 256 random bits."""
    return f"{prefix}_{secrets.token_urlsafe(32)}"
