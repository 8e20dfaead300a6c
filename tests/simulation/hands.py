"""Somebody at Meta's own screens: deletes items, changes them, puts others there. Nobody on our side is told."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.simulation.world import SimulatedWorld

__all__ = ["FOREIGN_TITLES", "STRANGE_FIELD", "Hands"]

FOREIGN_TITLES = ("Old", "Not ours")
"""Of items that nobody here sent."""

STRANGE_FIELD = "color"
"""Which no item of ours has."""

Key = tuple[str, str]
"""A catalog and a retailer id."""


class Hands:
    """What was done at Meta past us, and what must have become of it.

    Attributes
    ----------
    foreign
        Items that nobody here ever sent, as they were put there: to stay as they are.
    touched
        Items of ours that were changed or deleted at any time.
    strange
        Items that were given a field which nobody here sent, while they may have been on their way: what is not sent
        is not compared, so nothing has to notice it.
    """

    def __init__(self, world: SimulatedWorld, rng: random.Random) -> None:
        self._world = world
        self._rng = rng
        self.foreign: dict[Key, dict[str, Any]] = {}
        self.touched: set[Key] = set()
        self.strange: set[Key] = set()

    def add_foreign(self, catalog_id: str) -> None:
        """Put an item there that is nobody's here."""
        retailer_id = f"foreign-{len(self.foreign)}"
        item = {"id": retailer_id, "title": FOREIGN_TITLES[-1], "price": "1.00 EUR", STRANGE_FIELD: "red"}
        self.foreign[catalog_id, retailer_id] = item
        self._world.meta.put(catalog_id, retailer_id, item)

    def meddle(self, link: Mapping[str, Any], *, at_rest: bool = False) -> None:
        """Do something to one of our items. ``at_rest``: none is on its way, so that everything must be put right."""
        catalog_id = link["catalog_id"]
        states = [
            row
            for row in self._world.tables["sync_state"]
            if row["link_id"] == link["link_id"] and row["retailer_id"] is not None
        ]
        if at_rest:
            states = [
                row
                for row in states
                if row["confirmed_epoch"] == link["epoch"]
                and (row["confirmed_hash"] is not None or row["presence"] == "absent")
            ]
        if not states:
            return
        state = self._rng.choice(sorted(states, key=lambda row: str(row["variant_id"])))
        retailer_id = state["retailer_id"]
        shown = self._world.meta.items.get(catalog_id, {}).get(retailer_id)
        key = (catalog_id, retailer_id)
        if shown is None:
            is_gone = state["presence"] == "absent" and state["confirmed_epoch"] == link["epoch"]
            if is_gone:
                # A backup of somebody's brings back what was deleted.
                item = {"id": retailer_id, "title": "Again", "price": "2.00 EUR", STRANGE_FIELD: "red"}
                self._change(key, item, at_rest=at_rest)
        elif self._rng.random() < 0.4:
            self.touched.add(key)
            self._world.meta.put(catalog_id, retailer_id, None)
        else:
            changes = self._rng.choice([{"price": "0.01 EUR"}, {"title": "By hand"}])
            self._change(key, {**shown, **changes, STRANGE_FIELD: "red"}, at_rest=at_rest)

    def _change(self, key: Key, item: dict[str, Any], *, at_rest: bool) -> None:
        self.touched.add(key)
        if at_rest:
            self.strange.discard(key)
        else:
            self.strange.add(key)
        self._world.meta.put(*key, item)
