"""The failed items of a store, each with what its code means and what to do. Reads only."""

from __future__ import annotations

from dataclasses import dataclass, replace

from meta_sync.sync.codes import CodeEntry, FailureCode, explain
from meta_sync.sync.item_filters import ItemFilter
from meta_sync.sync.items import ItemsService, ItemSummary
from meta_sync.sync.models import Status

__all__ = ["ErrorPage", "ErrorsService", "FailedItem"]


@dataclass(frozen=True, slots=True)
class FailedItem:
    """One failed item: its row in the list of items, and what its code means."""

    item: ItemSummary
    code: str
    entry: CodeEntry


@dataclass(frozen=True, slots=True)
class ErrorPage:
    """A page of the list."""

    items: list[FailedItem]
    total: int
    is_total_exact: bool
    next_cursor: str | None


class ErrorsService:
    """Answers what went wrong with items: the list of items, narrowed to the failed ones and explained."""

    def __init__(self, items: ItemsService) -> None:
        self._items = items

    async def list(
        self,
        store_id: str,
        wanted: ItemFilter,
        *,
        page: int = 1,
        limit: int = 50,
        cursor: str | None = None,
    ) -> ErrorPage:
        """A page of the failed items that pass the filter, whose own status is not looked at.

        Raises
        ------
        ValidationFailedError
            The page lies beyond what pages reach, or the cursor is not one of this list.
        """
        failed = replace(wanted, status=Status.FAILED)
        found = await self._items.list(store_id, failed, page=page, limit=limit, cursor=cursor)
        items = [_failed(item) for item in found.items]
        return ErrorPage(items, found.total, found.is_total_exact, found.next_cursor)


def _failed(item: ItemSummary) -> FailedItem:
    code = item.error_code or FailureCode.REFUSED_WITHOUT_REASON.value
    return FailedItem(item, code, explain(code, item.last_error))
