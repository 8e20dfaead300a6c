"""What the sandbox remembers: businesses, tokens, catalogs with their items, and accepted batches.

Plain data with its indexes; who may touch it, and when a batch takes effect, is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from meta_sync.sandbox.fields import text_of
from meta_sync.sandbox.messages import Finding
from meta_sync.sandbox.validation import Record

__all__ = ["AccessToken", "Batch", "Business", "Catalog", "Refusal"]


@dataclass(slots=True)
class Business:
    """A business. Without accepted catalog terms it cannot create its first catalog by API."""

    id: str
    name: str
    terms_accepted: bool = True
    verification_status: str = "verified"
    client_catalog_ids: list[str] = field(default_factory=list)


@dataclass(slots=True)
class AccessToken:
    """A token and what it opens.

    Attributes
    ----------
    scopes
        Permissions granted.
    business_ids
        Businesses its owner belongs to.
    catalog_ids
        Catalogs assigned to its owner; ``None``: every catalog of its businesses, future ones too.
    expires_at
        Epoch seconds; ``None``: never.
    dead_subcode
        Set when the token was killed: the subcode of its 190 answers, 0 for none.
    """

    value: str = field(repr=False)
    user_id: str
    user_name: str
    type: str
    scopes: frozenset[str]
    business_ids: tuple[str, ...]
    catalog_ids: tuple[str, ...] | None
    issued_at: float
    expires_at: float | None = None
    dead_subcode: int | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Meta's standing "no" to one retailer id: its sentence, and whether it comes at once or in the report."""

    text: str
    immediate: bool = False


@dataclass(slots=True)
class Batch:
    """One accepted call and its fate, all of it chosen when it was accepted.

    ``number`` is the order of acceptance; ``tie`` decides between batches that end in the same instant. ``records`` is
    emptied once they were applied.
    """

    handle: str
    number: int
    tie: float
    accepted_at: float
    ends_at: float
    records: list[Record]
    allow_upsert: bool
    end_status: str = "finished"
    applied_share: float = 1.0
    error_cap: int | None = None
    trim_ids_to: int | None = None
    ids_other_case: bool = False
    required_as_warnings: bool = False
    required_still_counted: bool = False
    line_base: int = 1
    is_over: bool = False
    errors: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)


@dataclass(slots=True)
class _Lag:
    until: float
    item: dict[str, Any] | None


class Catalog:
    """A catalog and its items.

    Attributes
    ----------
    items
        What is stored now: retailer id to fields, under the names and values they were written with (``id`` included).
    feeds
        Retailer ids that a feed put there, each with the feed as Graph names it (``id``, ``name``).
    applied_counts
        How many records changed or deleted each retailer id so far. Survives deletion.
    number
        Which catalog of the sandbox it is, from 1; part of the Graph ids of its items.
    """

    def __init__(
        self, catalog_id: str, name: str, business_id: str, *, number: int, vertical: str = "commerce"
    ) -> None:
        self.id = catalog_id
        self.number = number
        self.name = name
        self.business_id = business_id
        self.vertical = vertical
        self.items: dict[str, dict[str, Any]] = {}
        self.feeds: dict[str, dict[str, str]] = {}
        self.applied_counts: dict[str, int] = {}
        self.data_sources: list[dict[str, Any]] = []
        self.batches: dict[str, Batch] = {}
        self.open_batches: list[Batch] = []
        self.last_end_at = 0.0
        self._known: list[str] = []
        self._graph_ids: dict[str, str] = {}
        self._retailer_ids: dict[str, str] = {}
        self._folded: dict[str, list[str]] = {}
        self._group_graph_ids: dict[str, str] = {}
        self._groups: dict[str, set[str]] = {}
        self._lags: dict[str, _Lag] = {}

    def store(self, retailer_id: str, item: dict[str, Any]) -> None:
        """Put an item in the place of what was there."""
        self._leave_group(retailer_id)
        self.items[retailer_id] = item
        self.applied_counts[retailer_id] = self.applied_counts.get(retailer_id, 0) + 1
        if retailer_id not in self._graph_ids:
            graph_id = f"9{self.number:04d}{len(self._known) + 1:011d}"
            self._graph_ids[retailer_id] = graph_id
            self._retailer_ids[graph_id] = retailer_id
            self._known.append(retailer_id)
            self._folded.setdefault(retailer_id.casefold(), []).append(retailer_id)
        if "item_group_id" in item:
            group = text_of(item["item_group_id"])
            self._groups.setdefault(group, set()).add(retailer_id)
            number = len(self._group_graph_ids) + 1
            self._group_graph_ids.setdefault(group, f"8{self.number:04d}{number:011d}")

    def remove(self, retailer_id: str) -> None:
        """Delete an item; one that is not there is no error."""
        if retailer_id in self.items:
            self._leave_group(retailer_id)
            del self.items[retailer_id]
            self.feeds.pop(retailer_id, None)
            self.applied_counts[retailer_id] += 1

    def hold_back(self, retailer_id: str, until: float, now: float) -> None:
        """Let reads show the present state of an item until the given instant. Call before changing it."""
        lag = self._lags.get(retailer_id)
        if lag is not None and lag.until > now:
            lag.until = max(lag.until, until)
        else:
            self._lags[retailer_id] = _Lag(until, self.items.get(retailer_id))

    def seen(self, retailer_id: str, now: float) -> dict[str, Any] | None:
        """The item as a read sees it, lag included."""
        lag = self._lags.get(retailer_id)
        if lag is not None:
            if lag.until > now:
                return lag.item
            del self._lags[retailer_id]
        return self.items.get(retailer_id)

    def walk(self, start: int, now: float) -> Iterator[tuple[int, str, dict[str, Any]]]:
        """Items from a position on, oldest first: position, retailer id, fields as a read sees them."""
        for position in range(start, len(self._known)):
            retailer_id = self._known[position]
            item = self.seen(retailer_id, now)
            if item is not None:
                yield position, retailer_id, item

    def count(self, now: float) -> int:
        """Number of items a read sees."""
        if not self._lags:
            return len(self.items)
        return sum(1 for _ in self.walk(0, now))

    def graph_id(self, retailer_id: str) -> str:
        """The item's own Graph id; it stays the same when the item is created again."""
        return self._graph_ids[retailer_id]

    def group_graph_id(self, group: str) -> str:
        """The Graph id of a group that items made by naming it."""
        return self._group_graph_ids[group]

    def retailer_id(self, graph_id: str) -> str | None:
        """The retailer id behind a Graph id."""
        return self._retailer_ids.get(graph_id)

    def position(self, retailer_id: str) -> int:
        """The item's place in the order of the edge."""
        return int(self._graph_ids[retailer_id][-11:]) - 1

    def same_but_case(self, retailer_id: str) -> list[str]:
        """All retailer ids ever stored that equal this one when case is ignored, oldest first."""
        return self._folded.get(retailer_id.casefold(), [])

    def is_group(self, group: str) -> bool:
        """Whether an item names this group."""
        return group in self._groups

    def _leave_group(self, retailer_id: str) -> None:
        item = self.items.get(retailer_id, {})
        if "item_group_id" in item:
            group = text_of(item["item_group_id"])
            members = self._groups.get(group, set())
            members.discard(retailer_id)
            if not members:
                self._groups.pop(group, None)
