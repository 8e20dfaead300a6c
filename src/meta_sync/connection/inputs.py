"""What callers send to connect a store, checked field by field. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pydantic import SecretStr

from meta_sync.core.errors import ErrorDetail, ValidationFailedError
from meta_sync.core.text import text_fault

__all__ = ["Selection", "checked_selection", "checked_token"]

_LONGEST_ID = 100
_LONGEST_NAME = 200
_LONGEST_TOKEN = 4096
"""Meta gives no bound and asks for room; its tokens stay well below a thousand characters (observed)."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The business and catalog a caller names. The names are for showing."""

    business_id: str
    business_name: str
    catalog_id: str
    catalog_name: str


def checked_selection(business_id: str, business_name: str, catalog_id: str, catalog_name: str) -> Selection:
    """The selection, trimmed.

    Raises
    ------
    ValidationFailedError
        ``details`` names each field that is missing, too long or no id.
    """
    values = {
        "businessId": business_id.strip(),
        "businessName": business_name.strip(),
        "catalogId": catalog_id.strip(),
        "catalogName": catalog_name.strip(),
    }
    faults = []
    for field, value in values.items():
        fault = _id_fault(value) if field.endswith("Id") else _name_fault(value)
        if fault is not None:
            faults.append(ErrorDetail(field, fault))
    if faults:
        raise ValidationFailedError(
            " ".join(f"{fault.field} {fault.message}." for fault in faults), details=faults
        )
    return Selection(*values.values())


def _id_fault(value: str) -> str | None:
    # The id becomes part of an address, so nothing but what ids are made of gets through.
    if re.fullmatch(rf"[A-Za-z0-9_]{{1,{_LONGEST_ID}}}", value):
        return None
    return f"must be an id as Meta shows it: 1 to {_LONGEST_ID} digits"


def _name_fault(value: str) -> str | None:
    if not 0 < len(value) <= _LONGEST_NAME:
        return f"must have 1 to {_LONGEST_NAME} characters"
    return text_fault(value)


def checked_token(access_token: SecretStr) -> SecretStr:
    """The token without the white space that copying leaves around it.

    Raises
    ------
    ValidationFailedError
        It is empty, too long, or holds characters that no token has.
    """
    token = access_token.get_secret_value().strip()
    if not re.fullmatch(rf"[\x21-\x7e]{{1,{_LONGEST_TOKEN}}}", token):
        fault = f"must be an access token: 1 to {_LONGEST_TOKEN} letters, digits and signs without spaces"
        raise ValidationFailedError(f"accessToken {fault}.", details=[ErrorDetail("accessToken", fault)])
    return SecretStr(token)
