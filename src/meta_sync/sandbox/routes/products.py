"""Reading items back: the products edge with its filter language and paging, and single items."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from meta_sync.sandbox.errors import nonexisting_field, parameter_error
from meta_sync.sandbox.faults import FaultKind
from meta_sync.sandbox.fields import text_of, words
from meta_sync.sandbox.model import AccessToken, Catalog
from meta_sync.sandbox.reading import READ_FIELDS, read_item
from meta_sync.sandbox.state import SandboxState
from meta_sync.sandbox.wire import Call, Fields, decode_cursor, page_of, paging, select

__all__ = ["data_sources", "item_node", "products"]

_DEFAULT_LIMIT = 25
_LARGEST_LIMIT = 1000
"""Assumed; Meta caps the page size without saying where."""

_Entry = tuple[int, str, dict[str, Any]]
_Test = Callable[[dict[str, Any], str], bool]

_FILTER_FIELDS = {
    "retailer_id": "id",
    "retailer_product_group_id": "item_group_id",
    "name": "title",
    "category": "google_product_category",
    **{
        name: name
        for name in sorted(
            words(
                "age_group availability brand color condition gender material pattern product_type size custom_label_0 "
                "custom_label_1 custom_label_2 custom_label_3 custom_label_4"
            )
        )
    },
}
"""Filterable field to the name it was written under. ``product_item_id`` is looked up apart."""


def products(state: SandboxState, call: Call, _token: AccessToken) -> dict[str, Any]:
    """``GET /{catalog}/products``: items oldest first, under their legacy names."""
    catalog = state.catalog(call.segments[0])
    fields = call.fields(("id", "name", "retailer_id"))
    _refuse_unknown(fields)
    limit = min(max(1, call.integer("limit", _DEFAULT_LIMIT)), _LARGEST_LIMIT)
    if state.options.profile == "adverse" and limit > 1 and state.chance.random() < 0.2:
        # A short page is no end: only a missing "next" is.
        limit = state.chance.randint(1, limit)
    condition = call.structure("filter")
    page, has_more, has_previous = _page(state, call, catalog, condition, limit)
    american = state.strikes(FaultKind.LOCALE_PRICES, "products", catalog.id) is None
    body: dict[str, Any] = {
        "data": [select(read_item(catalog, rid, item, american=american), fields) for _, rid, item in page]
    }
    if page:
        body["paging"] = paging(
            call, first=page[0][0], last=page[-1][0], has_more=has_more, has_previous=has_previous
        )
    if call.text("summary") in {"true", "1", "total_count", '["total_count"]'}:
        total = (
            catalog.count(state.now())
            if not condition
            else sum(1 for _ in _entries(state, catalog, condition, 0))
        )
        body["summary"] = {"total_count": total}
    return body


def item_node(state: SandboxState, call: Call, catalog: Catalog, retailer_id: str) -> dict[str, Any] | None:
    """``GET /{item}``; ``None`` when it is not there (any more, or not yet to be seen)."""
    fields = call.fields(("id", "name", "retailer_id"))
    _refuse_unknown(fields)
    item = catalog.seen(retailer_id, state.now())
    if item is None:
        return None
    american = state.strikes(FaultKind.LOCALE_PRICES, "node", catalog.id) is None
    return select(read_item(catalog, retailer_id, item, american=american), fields)


def data_sources(state: SandboxState, call: Call, _token: AccessToken) -> dict[str, Any]:
    """``GET /{catalog}/data_sources``: other ways items come into the catalog; none unless a test put some."""
    page, rest = page_of(call, state.catalog(call.segments[0]).data_sources)
    return {"data": page, **rest}


def _refuse_unknown(fields: Fields) -> None:
    for name in fields:
        if name not in READ_FIELDS:
            raise nonexisting_field(name, "ProductItem")


def _page(
    state: SandboxState, call: Call, catalog: Catalog, condition: Any, limit: int
) -> tuple[list[_Entry], bool, bool]:
    """One page, whether more follow, and whether some came before."""
    before = call.text("before")
    if before:
        stop = decode_cursor(before)
        earlier = [entry for entry in _entries(state, catalog, condition, 0) if entry[0] < stop]
        return earlier[-limit:], True, len(earlier) > limit
    start = decode_cursor(call.text("after")) + 1 if call.text("after") else 0
    page: list[_Entry] = []
    for entry in _entries(state, catalog, condition, start):
        if len(page) == limit:
            return page, True, start > 0
        page.append(entry)
    return page, False, start > 0


def _entries(state: SandboxState, catalog: Catalog, condition: Any, start: int) -> Iterator[_Entry]:
    """The items that match, from a position on. Looking up retailer ids does not walk the catalog."""
    now = state.now()
    if not condition:
        yield from catalog.walk(start, now)
        return
    wanted = _retailer_ids(condition)
    if wanted is not None:
        known = {rid for text in wanted for rid in catalog.same_but_case(text)}
        for position, rid in sorted((catalog.position(rid), rid) for rid in known):
            item = catalog.seen(rid, now)
            if position >= start and item is not None:
                yield position, rid, item
        return
    test = _compile(condition)
    for entry in catalog.walk(start, now):
        if test(entry[2], catalog.graph_id(entry[1])):
            yield entry


def _retailer_ids(condition: Any) -> list[str] | None:
    """The ids of a plain look-up by retailer id, or ``None`` for any other filter."""
    if not isinstance(condition, dict) or list(condition) != ["retailer_id"]:
        return None
    match condition["retailer_id"]:
        case {"eq": value, **rest} if not rest:
            return [str(value)]
        case {"is_any": [*values], **rest} if not rest:
            return [str(value) for value in values]
        case _:
            return None


def _compile(condition: Any) -> _Test:
    """Turn a filter into a test of a stored item and its Graph id.

    Raises
    ------
    GraphError
        Code 100 for what the language does not have.
    """
    if not isinstance(condition, dict):
        raise parameter_error("Param filter must be a JSON object")
    tests: list[_Test] = []
    for name, value in condition.items():
        if name in ("and", "or"):
            if not isinstance(value, list):
                raise parameter_error(f"Filter operator {name} needs a list")
            tests.append(_join(name, [_compile(entry) for entry in value]))
        elif name != "product_item_id" and name not in _FILTER_FIELDS:
            raise parameter_error(f"Invalid filter field: {name}")
        elif not isinstance(value, dict):
            raise parameter_error(f"Invalid filter for field {name}")
        else:
            tests += [_compare(name, operator, operand) for operator, operand in value.items()]
    return _join("and", tests)


def _join(word: str, tests: list[_Test]) -> _Test:
    joined = all if word == "and" else any
    return lambda item, graph_id: joined(test(item, graph_id) for test in tests)


def _compare(name: str, operator: str, operand: Any) -> _Test:
    """One comparison. Case never counts, with or without the ``i_`` in front."""
    values = [text_of(entry).casefold() for entry in (operand if isinstance(operand, list) else [operand])]
    checks: dict[str, Callable[[str], bool]] = {
        "eq": lambda text: text in values,
        "is_any": lambda text: text in values,
        "neq": lambda text: text not in values,
        "is_not_any": lambda text: text not in values,
        "contains": lambda text: any(value in text for value in values),
        "not_contains": lambda text: not any(value in text for value in values),
        "starts_with": lambda text: any(text.startswith(value) for value in values),
    }
    check = checks.get(operator.removeprefix("i_"))
    if check is None:
        raise parameter_error(f"Invalid filter operator: {operator}")
    written = _FILTER_FIELDS.get(name)
    if written is None:
        return lambda _item, graph_id: check(graph_id)
    return lambda item, _graph_id: check(text_of(item.get(written, "")).casefold())
