"""A caller's patch of settings: checked as a whole, every fault named by its key. Pure; nothing is written here."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

from meta_sync.core.errors import ErrorDetail, ValidationFailedError
from meta_sync.core.text import text_fault
from meta_sync.stores.settings import READ_ONLY_FIELDS, SECRET_FIELDS, StoreSettings

__all__ = ["SECRET_SHOWN_AS", "CheckedPatch", "check_patch"]

SECRET_SHOWN_AS = "configured"  # noqa: S105 - the word that stands for a secret
"""What a read shows in the place of a stored secret."""

_LONGEST_SECRET = 4096
_LONGEST_SHOWN_KEY = 100

_KEYS = {to_camel(name): name for name in StoreSettings.model_fields}
_SECRET_KEYS = {to_camel(name): name for name in SECRET_FIELDS}
_READ_ONLY_KEYS = frozenset(to_camel(name) for name in READ_ONLY_FIELDS)


@dataclass(frozen=True, slots=True)
class CheckedPatch:
    """A patch without faults.

    Attributes
    ----------
    settings
        The settings as they are after it.
    secrets
        Columns of secrets to write; ``None`` removes one.
    """

    settings: StoreSettings
    secrets: dict[str, SecretStr | None]


def check_patch(current: StoreSettings, patch: Mapping[str, Any]) -> CheckedPatch:
    """Apply a patch to settings. ``null`` puts a key back to its default; a key that is absent stays.

    Raises
    ------
    ValidationFailedError
        A key is unknown or read-only or a value is wrong; ``details`` names each as the caller wrote it.
    """
    faults: list[ErrorDetail] = []
    changes: dict[str, Any] = {}
    secrets: dict[str, SecretStr | None] = {}
    for key, value in patch.items():
        if key in _KEYS:
            changes[_KEYS[key]] = value
        elif key in _SECRET_KEYS:
            fault = _secret_fault(value)
            if fault is None:
                secrets[_SECRET_KEYS[key]] = None if value is None else SecretStr(value.strip())
            else:
                faults.append(ErrorDetail(key, fault))
        else:
            faults.append(_unknown_or_read_only(key))
    kept = {name: value for name, value in _explicit(current).items() if name not in changes}
    try:
        settings = StoreSettings.model_validate(
            kept | {name: value for name, value in changes.items() if value is not None}
        )
    except ValidationError as error:
        faults.extend(_faults(error))
        raise _failure(faults) from None
    if faults:
        raise _failure(faults)
    return CheckedPatch(settings, secrets)


def _explicit(settings: StoreSettings) -> dict[str, Any]:
    return settings.model_dump(exclude_defaults=True)


def _unknown_or_read_only(key: str) -> ErrorDetail:
    if key in _READ_ONLY_KEYS:
        return ErrorDetail(key, "is read-only here; it is set by selecting a catalog")
    near = difflib.get_close_matches(key[:_LONGEST_SHOWN_KEY], [*_KEYS, *_SECRET_KEYS], n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    shown = key[:_LONGEST_SHOWN_KEY].encode("utf-8", "replace").decode()
    return ErrorDetail(shown, f"is not a setting{hint}")


def _secret_fault(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        return "must be text, or null to remove it"
    if not value.strip():
        return "must not be empty; null removes it"
    if value == SECRET_SHOWN_AS:
        return f'"{SECRET_SHOWN_AS}" only shows that it is set; leave the key out to keep it'
    if len(value) > _LONGEST_SECRET:
        return f"must have at most {_LONGEST_SECRET} characters"
    if not value.strip().isprintable():
        return text_fault(value) or "must not contain control characters"
    return text_fault(value)


def _faults(error: ValidationError) -> list[ErrorDetail]:
    """The first fault of each key: what follows it, such as a list that is too short, is only its echo."""
    found: dict[str, ErrorDetail] = {}
    for fault in error.errors(include_url=False):
        key = _key(str(fault["loc"][0]))
        found.setdefault(key, ErrorDetail(key, _sentence(fault)))
    return list(found.values())


def _key(name: str) -> str:
    return to_camel(name) if name in StoreSettings.model_fields else name


def _sentence(fault: ErrorDetails) -> str:
    """What is wrong, as a sentence without a subject. Never repeats the value."""
    kind, context = fault["type"], fault.get("ctx", {})
    unit = " characters" if kind.startswith("string_too") else " entries"
    match kind:
        case "value_error":
            return str(context["error"])
        case "int_type" | "int_from_float":
            return "must be a whole number"
        case "float_type" | "finite_number":
            return "must be a number"
        case "bool_type":
            return "must be true or false"
        case "string_type" | "string_unicode":
            return "must be text"
        case "tuple_type":
            return "must be a list"
        case "literal_error":
            return f"must be one of {context['expected'].replace(' or ', ', ')}".replace("'", "")
        case "greater_than":
            return f"must be more than {_number(context['gt'])}"
        case "greater_than_equal":
            return f"must be at least {_number(context['ge'])}"
        case "less_than_equal":
            return f"must be at most {_number(context['le'])}"
        case "string_too_long" | "too_long":
            return f"must have at most {context['max_length']}{unit}"
        case "string_too_short" | "too_short":
            return "must not be empty"
        case _:
            return fault["msg"][:1].lower() + fault["msg"][1:]


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)


def _failure(faults: list[ErrorDetail]) -> ValidationFailedError:
    if len(faults) == 1:
        return ValidationFailedError(f"{faults[0].field} {faults[0].message}.", details=faults)
    named = ", ".join(dict.fromkeys(fault.field for fault in faults))
    return ValidationFailedError(f"Several settings are not valid: {named}.", details=faults)
