"""The sandbox's whole memory, usable without HTTP: tests prepare and inspect a world through it.

One event loop touches it, without awaiting in between; it takes no locks.
"""

from __future__ import annotations

import random
import secrets
from collections import deque
from collections.abc import Container, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from meta_sync.core.clock import Clock, utc_now
from meta_sync.sandbox.faults import FaultBook, FaultKind, FaultSpec, adverse_faults
from meta_sync.sandbox.limits import Bucket, Limiter
from meta_sync.sandbox.model import AccessToken, Business, Catalog, Refusal
from meta_sync.sandbox.options import (
    DEMO_ACCESS_TOKEN,
    DEMO_BUSINESS_ID,
    DEMO_CATALOG_ID,
    DEMO_SYSTEM_USER_ID,
    SandboxOptions,
)
from meta_sync.sandbox.processing import Processor

__all__ = ["ALL_SCOPES", "LoggedRequest", "SandboxState"]

ALL_SCOPES = frozenset({"catalog_management", "business_management", "public_profile"})

_LOG_LENGTH = 10_000
"""Requests remembered; enough for any one test, small enough to forget about."""


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """One call as it ended. Carries no token, no query and no body.

    ``status`` is 0 when the answer never left; ``error_code`` is Graph's code of a refusal; ``records`` counts the
    entries of ``requests``; ``time`` is ISO 8601 in UTC.
    """

    time: str
    method: str
    path: str
    edge: str
    catalog_id: str | None
    records: int
    status: int
    error_code: int | None
    fault: str | None

    def describe(self) -> dict[str, Any]:
        """The entry for the control surface."""
        return asdict(self)


class SandboxState:
    """Businesses, tokens, catalogs, faults, budgets and the log of one sandbox.

    Attributes
    ----------
    faults
        What misbehaves: ``faults.add(FaultSpec(kind=...))``, ``faults.clear()``.
    requests
        The latest calls, oldest first.
    """

    def __init__(self, options: SandboxOptions | None = None, *, clock: Clock = utc_now) -> None:
        self.options = options or SandboxOptions()
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        """Forget everything and begin again as at the start, the demo world included if it was asked for."""
        options = self.options
        self.chance = random.Random(options.seed)
        self._clock_ahead_seconds = 0.0
        self._numbers = 0
        self.businesses: dict[str, Business] = {}
        self.tokens: dict[str, AccessToken] = {}
        self._catalogs: dict[str, Catalog] = {}
        self.requests: deque[LoggedRequest] = deque(maxlen=_LOG_LENGTH)
        self.faults = FaultBook(self.chance)
        self.limits = Limiter(
            {
                Bucket.BATCH: options.batch_calls_per_hour,
                Bucket.MANAGEMENT: options.management_calls_per_hour,
            }
        )
        self.processor = Processor(options, self.faults, self.chance)
        if options.profile == "adverse":
            for spec in adverse_faults(options.processing_delay_seconds):
                self.faults.add(spec)
        if options.demo:
            self.seed_demo()

    def now(self) -> float:
        """The sandbox's present instant in epoch seconds: the clock it was given, plus what it was put forward."""
        return self._clock().timestamp() + self._clock_ahead_seconds

    def put_clock_forward(self, seconds: float) -> None:
        """Let the sandbox live in the future of its clock; adds up."""
        self._clock_ahead_seconds += seconds

    def seed_demo(self) -> None:
        """Create the demo business, its catalog and a system user's token, all with well-known ids."""
        self.add_business("Demo Business", business_id=DEMO_BUSINESS_ID)
        self.add_catalog(DEMO_BUSINESS_ID, "Demo Catalog", catalog_id=DEMO_CATALOG_ID)
        self.add_token(value=DEMO_ACCESS_TOKEN, user_id=DEMO_SYSTEM_USER_ID, user_name="Demo System User")

    def add_business(
        self, name: str, *, business_id: str | None = None, terms_accepted: bool = True
    ) -> Business:
        """Create a business, or return the one that already has the id."""
        business_id = business_id or self._new_id()
        return self.businesses.setdefault(business_id, Business(business_id, name, terms_accepted))

    def add_catalog(
        self, business_id: str, name: str, *, catalog_id: str | None = None, vertical: str = "commerce"
    ) -> Catalog:
        """Create a catalog owned by a business, or return the one that already has the id.

        Raises
        ------
        KeyError
            There is no such business.
        """
        business = self.businesses[business_id]
        catalog_id = catalog_id or self._new_id()
        if catalog_id not in self._catalogs:
            number = len(self._catalogs) + 1
            self._catalogs[catalog_id] = Catalog(
                catalog_id, name, business.id, number=number, vertical=vertical
            )
        return self._catalogs[catalog_id]

    def add_token(
        self,
        *,
        value: str | None = None,
        user_id: str | None = None,
        user_name: str = "System User",
        token_type: str = "SYSTEM_USER",  # noqa: S107 - a word of Meta's
        scopes: Iterable[str] = ALL_SCOPES,
        business_ids: Iterable[str] | None = None,
        catalog_ids: Iterable[str] | None = None,
        expires_at: float | None = None,
    ) -> AccessToken:
        """Create a token. Without ids it opens every business there is, with all their catalogs."""
        token = AccessToken(
            value=value or "EAA" + secrets.token_urlsafe(48).replace("-", "x").replace("_", "y"),
            user_id=user_id or self._new_id(),
            user_name=user_name,
            type=token_type,
            scopes=frozenset(scopes),
            business_ids=tuple(self.businesses if business_ids is None else business_ids),
            catalog_ids=None if catalog_ids is None else tuple(catalog_ids),
            issued_at=self.now(),
            expires_at=expires_at,
        )
        self.tokens[token.value] = token
        return token

    def kill_token(self, value: str, subcode: int = 458) -> None:
        """Let a token answer 190 with the subcode (0: none) from now on.

        Raises
        ------
        KeyError
            There is no such token.
        """
        self.tokens[value].dead_subcode = subcode

    def catalog(self, catalog_id: str) -> Catalog:
        """A catalog as it stands now, every batch that has ended applied.

        Raises
        ------
        KeyError
            There is no such catalog.
        """
        catalog = self._catalogs[catalog_id]
        self.processor.advance(catalog, self.now())
        return catalog

    def has_catalog(self, catalog_id: str) -> bool:
        """Whether there is a catalog with this id."""
        return catalog_id in self._catalogs

    def catalogs(self) -> list[Catalog]:
        """All catalogs, oldest first, as they stand now."""
        return [self.catalog(catalog_id) for catalog_id in self._catalogs]

    def catalogs_of(self, token: AccessToken) -> list[Catalog]:
        """The catalogs a token opens: assigned ones, or all that its businesses own or were lent."""
        if token.catalog_ids is not None:
            return [
                self.catalog(catalog_id) for catalog_id in token.catalog_ids if self.has_catalog(catalog_id)
            ]
        lent = {
            catalog_id
            for business_id in token.business_ids
            if business_id in self.businesses
            for catalog_id in self.businesses[business_id].client_catalog_ids
        }
        return [c for c in self.catalogs() if c.business_id in token.business_ids or c.id in lent]

    def opens(self, token: AccessToken, catalog_id: str) -> bool:
        """Whether a token opens a catalog. Cheap: it is asked on every call."""
        catalog = self._catalogs.get(catalog_id)
        if catalog is None:
            return False
        if token.catalog_ids is not None:
            return catalog_id in token.catalog_ids
        return catalog.business_id in token.business_ids or any(
            catalog_id in self.businesses[business_id].client_catalog_ids
            for business_id in token.business_ids
            if business_id in self.businesses
        )

    def refuse(
        self, retailer_id: str, text: str, *, catalog_id: str | None = None, immediate: bool = False
    ) -> None:
        """Let Meta refuse a retailer id with a text until that is lifted, at once or in the batch's report."""
        self.processor.refusals[catalog_id, retailer_id] = Refusal(text, immediate)

    def lift_refusal(self, retailer_id: str, *, catalog_id: str | None = None) -> bool:
        """End a refusal; whether it stood."""
        return self.processor.refusals.pop((catalog_id, retailer_id), None) is not None

    def strikes(
        self, kind: FaultKind, edge: str, catalog_id: str | None, retailer_ids: Container[str] = ()
    ) -> FaultSpec | None:
        """Whether a fault of this kind strikes this call; see :meth:`FaultBook.take`."""
        return self.faults.take(kind, edge, catalog_id, retailer_ids)

    def timestamp(self) -> str:
        """The present instant as ISO 8601 text."""
        return datetime.fromtimestamp(self.now(), UTC).isoformat(timespec="milliseconds")

    def _new_id(self) -> str:
        """A fresh Graph id: 16 digits, more than a JavaScript number can carry exactly."""
        self._numbers += 1
        return f"7{self.options.seed % 1000:03d}{self._numbers:012d}"
