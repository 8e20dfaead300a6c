"""What a change of settings was, for the audit log: keys with their old and new values, secrets without any. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr
from pydantic.alias_generators import to_camel

from meta_sync.stores.settings import StoreSettings
from meta_sync.stores.settings_patch import SECRET_SHOWN_AS

__all__ = ["SECRET_CHANGED_AS", "changes_of", "secret_change"]

SECRET_CHANGED_AS = "changed"  # noqa: S105 - the word that stands for a secret
"""What stands for a secret in the place of another one."""

_ADDRESSES_THAT_ARE_KEYS = frozenset({"alert_webhook_url"})
"""Whoever knows such an address can use it, so it is told of like a secret."""


def secret_change(*, was: bool, now: bool) -> tuple[str | None, str | None]:
    """How a secret is told of before and after it was set or removed."""
    if not now:
        return (SECRET_SHOWN_AS if was else None), None
    return (SECRET_SHOWN_AS, SECRET_CHANGED_AS) if was else (None, SECRET_SHOWN_AS)


def changes_of(
    before: StoreSettings,
    after: StoreSettings,
    secrets: Mapping[str, SecretStr | None] | None = None,
    present: Mapping[str, bool] | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings that differ, by the keys that callers write: as they were, and as they are.

    Parameters
    ----------
    secrets
        Columns of secrets that are written; ``None`` removes one.
    present
        Which of the secrets there were.
    """
    old, new = before.model_dump(mode="json"), after.model_dump(mode="json")
    was: dict[str, Any] = {}
    now: dict[str, Any] = {}
    for name in StoreSettings.model_fields:
        if old[name] == new[name]:
            continue
        key = to_camel(name)
        if name in _ADDRESSES_THAT_ARE_KEYS:
            was[key], now[key] = secret_change(was=old[name] is not None, now=new[name] is not None)
        else:
            was[key], now[key] = old[name], new[name]
    for name, secret in (secrets or {}).items():
        is_there = bool((present or {}).get(name))
        if is_there or secret is not None:
            key = to_camel(name)
            was[key], now[key] = secret_change(was=is_there, now=secret is not None)
    return was, now
