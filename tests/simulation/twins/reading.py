"""Items with all that a decision needs. Columns in the order of ``CatalogItem`` and ``ItemState``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from meta_sync.sync import bulk, reading
from tests.simulation.memory import Row, Rows, Transaction, twin

_NOTHING: Any = None
_NO_ITEM = (
    (_NOTHING,) * 7
    + ("draft", "private")
    + (_NOTHING,) * 6
    + (True,)
    + (_NOTHING,) * 14
    + (False,)
    + (_NOTHING,) * 4
    + (0, False, _NOTHING)
)
"""Where the catalog has no such variant: an outer join gives NULL, and expressions what they make of NULL."""

_IS_EXCLUDED = "is_excluded"
_STATE_NAMES = tuple(column.name for column in reading.STATE_COLUMNS)
_NO_STATE = tuple(False if name == _IS_EXCLUDED else None for name in _STATE_NAMES)


class _Catalog:
    """The store's catalog as one statement sees it; who shares a product is counted once."""

    def __init__(self, t: Transaction, store_id: str) -> None:
        self._t = t
        self._store_id = store_id
        self._live: dict[str, int] = {}
        for row in t.variants.rows.values():
            if row["store_id"] == store_id and row["deleted_at"] is None:
                product_id = row["product_id"]
                self._live[product_id] = self._live.get(product_id, 0) + 1

    def item(self, variant: Row) -> tuple[Any, ...]:
        """The columns of ``catalog_item_columns``."""
        store_id, product_id = self._store_id, variant["product_id"]
        product = self._t.products.get(store_id, product_id)
        return (
            variant["variant_id"],
            product_id,
            *_product_columns(product),
            *(variant[name] for name in _VARIANT_COLUMNS),
            variant["deleted_at"] is not None,
            *_stock_columns(self._t.inventory.get(store_id, variant["variant_id"])),
            min(self._live.get(product_id, 0), 2),
            self._t.variants.get(store_id, product_id) is not None,
            variant["source"] or (None if product is None else product["source"]),
        )


_VARIANT_COLUMNS = (
    "sku",
    "link",
    "price",
    "special_price",
    "special_price_start",
    "special_price_end",
    "condition",
    "thumbnail",
    "images",
    "ean",
    "upc",
    "barcode",
    "options",
    "availability",
)
_PRODUCT_COLUMNS = (
    "title",
    "subtitle",
    "description",
    "slug",
    "link",
    "status",
    "visibility",
    "brand",
    "vendor",
    "thumbnail",
    "images",
    "categories",
    "google_product_category",
)
_STOCK_COLUMNS = ("track_inventory", "quantity_on_hand", "reserved_quantity", "allow_backorder")


def _product_columns(product: Row | None) -> tuple[Any, ...]:
    if product is None:
        return _NO_ITEM[2:16]
    return (*(product[name] for name in _PRODUCT_COLUMNS), product["deleted_at"] is not None)


def _stock_columns(stock: Row | None) -> tuple[Any, ...]:
    return (None,) * 4 if stock is None else tuple(stock[name] for name in _STOCK_COLUMNS)


def _state_columns(state: Row | None) -> tuple[Any, ...]:
    """The columns of ``STATE_COLUMNS``."""
    if state is None:
        return _NO_STATE
    return tuple(
        state["excluded_at"] is not None if name == _IS_EXCLUDED else state[name] for name in _STATE_NAMES
    )


@twin(reading._READY)
def ready(t: Transaction, p: Mapping[str, Any]) -> Rows:
    return _ready(t, p, lambda split_part: split_part is None)


@twin(reading._READY_OF_PART)
def ready_of_part(t: Transaction, p: Mapping[str, Any]) -> Rows:
    return _ready(t, p, lambda split_part: split_part is not None and split_part == p["part_id"])


def _ready(t: Transaction, p: Mapping[str, Any], is_wanted: Callable[[int | None], bool]) -> Rows:
    store_id, link_id = p["store_id"], p["link_id"]
    waiting = []
    for intent in t.intents:
        if intent["store_id"] == store_id and intent["parked_by"] is None and intent["held_by"] is None:
            state = t.sync_state.get(link_id, intent["variant_id"])
            if is_wanted(None if state is None else state["split_part"]):
                waiting.append(intent)
    # Ties go by id here and anyhow in PostgreSQL.
    waiting.sort(key=lambda row: (row["lane"], row["first_at"], row["variant_id"]))
    return _with_rows(t, link_id, waiting[: p["most"]])


@twin(reading._OUTSIDE)
def outside(t: Transaction, p: Mapping[str, Any]) -> Rows:
    return _page_of_intents(
        t, p, lambda row: row["store_id"] == p["store_id"] and row["held_by"] != p["hold_id"]
    )


@twin(reading._HELD)
def held(t: Transaction, p: Mapping[str, Any]) -> Rows:
    return _page_of_intents(t, p, lambda row: row["held_by"] == p["hold_id"])


def _page_of_intents(t: Transaction, p: Mapping[str, Any], is_wanted: Callable[[Row], bool]) -> Rows:
    wanted = [row for row in t.intents if is_wanted(row) and row["variant_id"] > p["after"]]
    wanted.sort(key=lambda row: row["variant_id"])
    return _with_rows(t, p["link_id"], wanted[: p["most"]])


def _with_rows(t: Transaction, link_id: int, intents: list[Row]) -> Rows:
    """The intents of one store with their states and the rows of the catalog."""
    if not intents:
        return Rows()
    store_id = intents[0]["store_id"]
    catalog = _Catalog(t, store_id)
    found = []
    for intent in intents:
        variant_id = intent["variant_id"]
        variant = t.variants.get(store_id, variant_id)
        state = t.sync_state.get(link_id, variant_id)
        state_row_id = None if state is None else state["ctid"]
        found.append(
            (
                variant_id,
                intent["version"],
                intent["lane"],
                intent["first_at"],
                intent["job_id"] is not None,
                intent["released_kinds"],
                intent["ctid"],
                state_row_id,
                state_row_id,
                *(_NO_ITEM if variant is None else catalog.item(variant)),
                *_state_columns(state),
            )
        )
    return Rows(found)


@twin(reading._FIRST_PAGE, reading._NEXT_PAGE)
def page(t: Transaction, p: Mapping[str, Any]) -> Rows:
    store_id, link_id = p["store_id"], p["link_id"]
    after = p.get("after", "")
    rows = [row for row in t.variants if row["store_id"] == store_id and row["variant_id"] > after]
    rows.sort(key=lambda row: row["variant_id"])
    catalog = _Catalog(t, store_id)
    return Rows(
        (*catalog.item(row), *_state_columns(t.sync_state.get(link_id, row["variant_id"])))
        for row in rows[: p["most"]]
    )


@twin(bulk._EXPECT_BULK)
def expect_bulk(t: Transaction, p: Mapping[str, Any]) -> Rows:
    return Rows([("off", "off")])


@twin(bulk._EXPECT_LOOKUPS)
def expect_lookups(t: Transaction, p: Mapping[str, Any]) -> Rows:
    return Rows([("off", "off")])
