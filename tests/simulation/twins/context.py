"""What a turn knows of a store before it reads its items: settings, secrets, link, token."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Mapping
from typing import Any

from meta_sync.connection import repository as connections
from meta_sync.stores import repository as stores
from meta_sync.sync import context
from tests.simulation.memory import Row, Rows, Transaction, Twin, twin
from tests.simulation.tables import COLUMNS

__all__ = ["is_sending"]

# These rows are read by attribute. Their names are the schema's, so no type can be written for them here.
_row_type: Any = namedtuple  # noqa: PYI024 - the fields are known at run time only
_LinkWithKind = _row_type("_LinkWithKind", (*COLUMNS["catalog_links"], "token_kind"))
_Credential = _row_type("_Credential", COLUMNS["credentials"])


def _json_text(settings: Mapping[str, Any], name: str, missing: str) -> str:
    """``COALESCE(settings ->> name, missing)``, for the kinds of values that settings have."""
    value = settings.get(name)
    if value is None:
        return missing
    if isinstance(value, bool):
        return "true" if value else "false"
    assert isinstance(value, str), value
    return value


def is_sending(store: Row) -> bool:
    """Whether the store's settings let anything go out, as several statements ask."""
    settings = store["settings"]
    return (
        _json_text(settings, "sync_enabled", "false") == "true"
        and _json_text(settings, "feed_mode", "live") == "live"
    )


@twin(stores._SETTINGS)
def settings_of(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.stores.get(p["store_id"])
    return Rows() if row is None else Rows([(row["settings"], row["mapping_epoch"])])


def _secret(column: str) -> Twin:
    def secret(t: Transaction, p: Mapping[str, Any]) -> Rows:
        row = t.stores.get(p["store_id"])
        return Rows() if row is None else Rows([(row[column],)])

    return secret


for _column, _statement in stores._SECRETS.items():
    twin(_statement)(_secret(_column))


def _with_kind(t: Transaction, link: Row) -> Any:
    token = t.credentials.get(link["credential_id"])
    kind = None
    if token is not None and token["store_id"] == link["store_id"]:
        kind = token["token_kind"]
    return _LinkWithKind(*(link[name] for name in COLUMNS["catalog_links"]), kind)


@twin(connections._ACTIVE_LINK)
def active_link(t: Transaction, p: Mapping[str, Any]) -> Rows:
    return Rows(
        _with_kind(t, link)
        for link in t.catalog_links
        if link["store_id"] == p["store_id"] and link["active"]
    )


@twin(connections._LINK)
def link_of(t: Transaction, p: Mapping[str, Any]) -> Rows:
    link = t.catalog_links.get(p["link_id"])
    return Rows() if link is None else Rows([_with_kind(t, link)])


@twin(connections._CREDENTIAL)
def credential(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.credentials.get(p["credential_id"])
    return Rows() if row is None else Rows([_Credential(*(row[name] for name in COLUMNS["credentials"]))])


@twin(connections._MARK_DEAD)
def mark_dead(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.credentials.get(p["of_credential"])
    if row is None or row["dead_at"] is not None:
        return Rows()
    t.credentials.update(
        row, dead_at=t.now, dead_code=p["code"], dead_subcode=p["subcode"], dead_reason=p["reason"]
    )
    return Rows([(row["credential_id"],)])


@twin(context._NEWER_MAPPER)
def newer_mapper(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.stores.get(p["store_id"])
    if row is None or row["mapper_version"] <= p["mapper_version"]:
        return Rows()
    return Rows([(t.now,)])
