"""One page of the list of items and its total, each by the cheaper way. Reads only.

The default order (last pushed first, never pushed last) is walked as two lists, one after the other, because no index
holds both: pushed items in the order of their push, then the others in the order of their ids. A filter that leaves few
ids (see ``item_filters``) is not walked at all: those are looked up.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.core.paging import MAX_PAGE_ROWS
from meta_sync.sync.bulk import expect_lookups
from meta_sync.sync.item_filters import (
    ItemFilter,
    ItemSort,
    Narrowed,
    is_short,
    is_small_lane,
    narrow,
)
from meta_sync.sync.item_named import named_items
from meta_sync.sync.item_queries import (
    NO_LINK,
    Key,
    Position,
    Segment,
    StateCounts,
    live_variants,
    state_counts,
    status_count,
)
from meta_sync.sync.item_walk import Stretch, Walk, count_by_id, expect_walks, is_text_alone
from meta_sync.sync.models import Status

__all__ = ["ItemReader", "PageKeys", "Total"]

_MOST = MAX_PAGE_ROWS + 1
_FIRST_STRETCH = 400
_SECOND_STRETCH = 4_000
_LONG_STRETCH = 20_000
"""More than that is walked at once only where enough of it is left."""
_DEEP = 1_000
"""From here on the walk to the page is most of the walk that counts."""
_SHORT_WALK = 40_000
"""Items of a status. A text is looked for in so many faster than in the documents of a large store."""


@dataclass(frozen=True, slots=True)
class Total:
    """How many items match, counted no further than ``page`` reaches."""

    count: int
    is_exact: bool

    @classmethod
    def of(cls, counted: int) -> Total:
        """The total by a count that went one beyond the reach."""
        return cls(min(counted, MAX_PAGE_ROWS), counted <= MAX_PAGE_ROWS)


@dataclass(frozen=True, slots=True)
class PageKeys:
    """The keys of a page, in order, and the total; walked for, unless all ids were known."""

    keys: list[Key]
    total: Total
    is_walked: bool


@dataclass(slots=True)
class ItemReader:
    """Reads one page of one list within a transaction of the store."""

    connection: AsyncConnection
    store_id: str
    link_id: int
    item_filter: ItemFilter
    _walk: Walk = field(init=False)
    _is_lane_worth_holding: bool | None = field(init=False, default=None)
    _counts: StateCounts | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._walk = Walk(self.store_id, self.item_filter)

    async def read(self, limit: int, offset: int, after: Position | None, known: Total | None) -> PageKeys:
        """The keys past an offset or behind a position, and the total, unless it is known already."""
        found = await self._read(limit, offset, after, known)
        await expect_walks(self.connection, is_over=True)
        return found

    async def _read(self, limit: int, offset: int, after: Position | None, known: Total | None) -> PageKeys:
        narrowed = Narrowed()
        if self.item_filter.lane is not None or is_short(self.item_filter.search or ""):
            self._walk = replace(self._walk, are_states_few=await self._are_states_few())
        if known is None:
            await expect_lookups(self.connection)
            narrowed = await narrow(
                self.connection,
                self.store_id,
                self.item_filter,
                is_walk_short=self._walk.are_states_few,
                is_walk_deep=after is None and offset >= _DEEP,
            )
        await expect_walks(self.connection)
        if narrowed.ids is not None:
            keys, total = await named_items(
                self.connection,
                self.store_id,
                self.item_filter,
                narrowed.ids,
                limit=limit,
                offset=offset,
                after=after,
            )
            return PageKeys(keys, Total(total, True), is_walked=False)
        if known is None:
            known = await self._total(
                narrowed, is_page_walked=after is None and self._is_page_counted(offset)
            )
        keys, counted = await self._keys(limit, offset, after, known)
        is_cheap = self.item_filter.is_empty or self.item_filter.is_status_only
        return PageKeys(keys, known or Total.of(counted), is_walked=not is_cheap)

    @property
    def _is_by_id(self) -> bool:
        return self.item_filter.sort is ItemSort.VARIANT_ID

    async def _are_states_few(self) -> bool:
        """Whether the status leaves so few that each may be looked at."""
        wanted = self.item_filter
        if wanted.status is None or not wanted.needs_state:
            return False
        counted = await status_count(self.connection, self.store_id, self.link_id, wanted.status)
        return counted <= _SHORT_WALK

    def _is_page_counted(self, offset: int) -> bool:
        """Whether the walk to the page is as good for the total as any."""
        return offset >= _DEEP or (self._is_by_id and self._walk.is_narrowed(Segment.BY_ID))

    async def _total(self, narrowed: Narrowed, *, is_page_walked: bool) -> Total | None:
        """The total; ``None``: the walk to the page counts it."""
        wanted = self.item_filter
        if wanted.is_status_only and wanted.status is not None:
            if wanted.status is Status.NEVER_SYNCED:
                return Total((await self._state_counts()).by_status[wanted.status], True)
            counted = await status_count(self.connection, self.store_id, self.link_id, wanted.status)
            return Total(counted, True)
        if narrowed.has_many:
            return Total(MAX_PAGE_ROWS, False)
        if wanted.is_empty:
            counted = await live_variants(self.connection, self.store_id)
            if counted <= MAX_PAGE_ROWS:
                counted = (await self._state_counts()).total
            return Total.of(counted)
        if is_page_walked:
            return None
        if wanted.status is Status.NEVER_SYNCED:
            await self._look_for_rows()
        if not self._walk.is_narrowed(Segment.BY_ID):
            return Total.of(await count_by_id(self.connection, self._walk, most=_MOST))
        _, counted = await self._walk_segments([Segment.BY_ID], 0, 0, None, None)
        return Total.of(counted)

    async def _keys(
        self, limit: int, offset: int, after: Position | None, known: Total | None
    ) -> tuple[list[Key], int]:
        if self._is_by_id:
            if self.item_filter.status is Status.NEVER_SYNCED:
                await self._look_for_rows()
            return await self._walk_segments([Segment.BY_ID], limit, offset, after, known)
        segments = [Segment.PUSHED, Segment.UNPUSHED]
        if after is not None:
            segments = segments[segments.index(after.segment) :]
        return await self._walk_segments(segments, limit, offset, after, known)

    async def _walk_segments(
        self,
        segments: list[Segment],
        limit: int,
        offset: int,
        after: Position | None,
        known: Total | None,
    ) -> tuple[list[Key], int]:
        """The keys asked for, and how many were passed: where no total is known, all of them, up to one beyond the reach."""
        keys: list[Key] = []
        passed = 0
        is_counted = known is None
        # Where all are known to have been met, nothing is looked for in what is left.
        most = known.count if known is not None and known.is_exact and after is None else None
        if most == 0:
            return keys, passed
        for segment in segments:
            if segment is Segment.UNPUSHED:
                await self._look_for_rows()
            place = after if after is not None and after.segment is segment else None
            goal = max(offset + limit, _MOST if is_counted else 0)
            length = await self._first_stretch(segment, goal - passed)
            while True:
                found = await self._walk.read(
                    self.connection,
                    segment,
                    place,
                    stretch=length,
                    offset=max(0, offset - passed),
                    limit=limit - len(keys),
                    is_lane_held=await self._is_lane_held(segment, length),
                )
                keys += found.keys
                passed += found.found
                if len(keys) == limit and not (is_counted and passed < _MOST):
                    return keys, passed
                if most is not None and passed >= most:
                    return keys, passed
                if found.last is None:
                    break
                place = Position(segment, *found.last)
                length = _next_stretch(found, goal - passed)
        return keys, passed

    async def _first_stretch(self, segment: Segment, wanted: int) -> int:
        """How many keys to walk first for so many that are left of them."""
        is_deep = wanted >= _DEEP
        is_lane_held = is_deep and await self._is_lane_held(segment, _SECOND_STRETCH + 1)
        if not self._walk.is_narrowed(segment, is_lane_held=is_lane_held):
            return wanted
        if not is_deep:
            return _FIRST_STRETCH
        if segment is Segment.BY_ID and is_text_alone(self.item_filter):
            return max(_SECOND_STRETCH, wanted + wanted // 20)
        return max(_SECOND_STRETCH, wanted + wanted // 2)

    async def _is_lane_held(self, segment: Segment, length: int) -> bool:
        """Whether what waits in the lane is held as a set: it is when a few looks have not filled the page."""
        lane = self.item_filter.lane
        if lane is None or segment is Segment.BY_ID or length <= _SECOND_STRETCH:
            return False
        if self._is_lane_worth_holding is None:
            self._is_lane_worth_holding = not self._walk.are_states_few and await is_small_lane(
                self.connection, self.store_id, lane
            )
        return self._is_lane_worth_holding

    async def _state_counts(self) -> StateCounts:
        if self._counts is None:
            self._counts = await state_counts(self.connection, self.store_id, self.link_id)
        return self._counts

    async def _look_for_rows(self) -> None:
        """Whether the state rows are all there is: then nothing need be looked for among variants."""
        if self._walk.is_every_row_written or self.link_id == NO_LINK or self.item_filter.needs_state:
            return
        unwritten = (await self._state_counts()).unwritten
        self._walk = replace(self._walk, is_every_row_written=unwritten == 0)


def _next_stretch(found: Stretch, wanted: int) -> int:
    """How many keys to walk for so many more, if as many of them are left as of those before."""
    if not found.found:
        return _LONG_STRETCH if found.walked >= _SECOND_STRETCH else _SECOND_STRETCH
    expected = wanted * found.walked // found.found
    return min(max(expected + expected // 10, _SECOND_STRETCH), 2 * _LONG_STRETCH)
