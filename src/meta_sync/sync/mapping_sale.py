"""The special price and its window. The window is sent ahead, so that Meta flips the price without a call of ours."""

from __future__ import annotations

from datetime import UTC, datetime

from meta_sync.catalog.models import CatalogItem
from meta_sync.sync.mapping_draft import Draft
from meta_sync.sync.mapping_issues import IssueCode
from meta_sync.sync.mapping_money import PriceFormat

__all__ = ["OPEN_END", "OPEN_START", "fill_sale"]

OPEN_START = datetime(1970, 1, 1, tzinfo=UTC)
"""Stands for "always has been". A fixed instant, so that the payload does not change from day to day."""
OPEN_END = datetime(2099, 12, 31, 23, 59, tzinfo=UTC)
"""Stands for "until further notice"."""


def fill_sale(item: CatalogItem, price_amount: int, prices: PriceFormat, now: datetime, draft: Draft) -> None:
    """Add ``sale_price`` and ``sale_price_effective_date`` where a special price is to be known to Meta.

    It is, from the moment it is entered until its end (exclusive, to the second), and only below the price as rounded
    for Meta. With neither bound set it is sent without a window.

    Parameters
    ----------
    price_amount
        The regular price as ``PriceFormat.amount`` gives it.
    now
        The present instant, aware.
    """
    special = item.special_price
    amount = 0 if special is None else prices.amount(special)
    if special is None or amount <= 0:
        return
    start, end = _instant(item.special_price_start), _instant(item.special_price_end)
    if end is not None and now >= end:
        return
    text = prices.text(amount)
    if amount >= price_amount:
        draft.note(IssueCode.SALE_NOT_BELOW_PRICE, "sale_price", text)
        return
    if start is not None or end is not None:
        start = OPEN_START if start is None or start < OPEN_START else start
        end = OPEN_END if end is None or end > OPEN_END else end
        window = f"{_text(start)}/{_text(end)}"
        if start >= end:
            draft.note(IssueCode.SALE_WINDOW_EMPTY, "sale_price_effective_date", window)
            return
        draft.data["sale_price_effective_date"] = window
    draft.data["sale_price"] = text
    if not prices.is_exact(special):
        draft.note(IssueCode.PRICE_PRECISION_LOST, "sale_price", text)


def _instant(moment: datetime | None) -> datetime | None:
    """The moment in UTC to the second; without an offset it is read as UTC."""
    if moment is None:
        return None
    if moment.tzinfo is UTC:  # what the database gives
        return moment.replace(microsecond=0) if moment.microsecond else moment
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC, microsecond=0)
    try:
        return moment.astimezone(UTC).replace(microsecond=0)
    except OverflowError:  # within a day of the first or last instant there is
        return OPEN_START if moment.year < OPEN_START.year else OPEN_END


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds" if moment.second else "minutes")
