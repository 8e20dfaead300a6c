"""Misbehaviour on request: which faults exist, and the book that says which one strikes a call.

A fault strikes ``count`` times (``None``: for ever), each time with ``probability``, after letting ``skip`` matching
calls pass, and only on the edge and catalog it names.
"""

from __future__ import annotations

import random
from collections.abc import Container, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["ArmedFault", "FaultBook", "FaultKind", "FaultSpec", "adverse_faults"]


class FaultKind(StrEnum):
    """What can go wrong. The comment of each group says where it strikes."""

    # The way of an answer, on any edge.
    DROP_BEFORE = "drop_before"
    DROP_AFTER = "drop_after"
    HTML_500_BEFORE = "html_500_before"
    HTML_500_AFTER = "html_500_after"
    TRANSIENT_BEFORE = "transient_before"
    TRANSIENT_AFTER = "transient_after"
    SLOW = "slow"
    HALF_RESPONSE = "half_response"
    INVALID_JSON = "invalid_json"
    # Refusals, on any edge.
    REDUCE_DATA = "reduce_data"
    THROTTLED = "throttled"
    TOKEN_ERROR = "token_error"  # noqa: S105 - a kind of fault
    ACCESS_LOST = "access_lost"
    BLOCKED = "blocked"
    GRAPH_ERROR = "graph_error"
    # Calls of items_batch that carry one record, however many others.
    POISON = "poison"
    # The fate of an accepted batch, chosen when items_batch accepts it.
    NO_HANDLES = "no_handles"
    HANDLE_ERROR = "handle_error"
    HANDLE_CANCELED = "handle_canceled"
    HANDLE_LATE = "handle_late"
    HANDLE_NEVER = "handle_never"
    ERRORS_CAPPED = "errors_capped"
    IDS_TRIMMED = "ids_trimmed"
    IDS_OTHER_CASE = "ids_other_case"
    REQUIRED_AS_WARNINGS = "required_as_warnings"
    # The wording and age of answers.
    UNKNOWN_HANDLE = "unknown_handle"
    ABSENT_KEYS = "absent_keys"
    LOCALIZED_MESSAGES = "localized_messages"
    STATUS_WORDS = "status_words"
    READ_LAG = "read_lag"
    LOCALE_PRICES = "locale_prices"


class FaultSpec(BaseModel):
    """One fault as it is asked for. Parameters a kind does not use are ignored.

    Attributes
    ----------
    kind
        What goes wrong.
    edge
        Last word of the path it strikes (``items_batch``, ``products``, …), ``node`` for ``GET /{id}``, ``batch`` for
        the batch of calls; ``None``: wherever the kind makes sense.
    catalog_id
        Only calls about this catalog.
    count
        How often it strikes: 1 unless a probability is given; ``None`` (JSON ``null``) for ever.
    probability
        Chance per matching call, from 0 to 1.
    skip
        Matching calls that pass first.
    how
        ``drop_*``: the connection is closed, or nothing comes until the caller gives up.
    seconds
        ``slow``: before the answer; ``handle_late``: on top of the usual delay; ``read_lag``: old state is read.
    minutes
        ``throttled``: how long calls are refused.
    code, subcode, status, message
        ``graph_error`` and ``poison`` use all; ``token_error`` the subcode (463 unless given, 0 for none).
    retailer_id
        ``poison``: the record that spoils the call; ``None``: any.
    limit
        ``errors_capped``: entries listed; ``no_handles``: records named; ``ids_trimmed``: longest id (0: only outer
        spaces go).
    share
        ``handle_error``, ``handle_canceled``: part of the records that is applied all the same.
    counted
        ``required_as_warnings``: whether the totals and the id list still count them as errors.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: FaultKind
    edge: str | None = None
    catalog_id: str | None = None
    count: int | None = Field(default=1, ge=1)
    probability: float = Field(default=1.0, ge=0, le=1)
    skip: int = Field(default=0, ge=0)
    how: Literal["close", "timeout"] = "close"
    seconds: float = Field(default=10.0, ge=0)
    minutes: float = Field(default=1.0, gt=0)
    code: int = 1
    subcode: int | None = None
    status: int = Field(default=400, ge=200, le=599)
    message: str = "An unknown error occurred"
    retailer_id: str | None = None
    limit: int = Field(default=0, ge=0)
    share: float = Field(default=0.5, ge=0, le=1)
    counted: bool = False

    @model_validator(mode="after")
    def _chance_means_for_ever(self) -> Self:
        if "probability" in self.model_fields_set and "count" not in self.model_fields_set:
            object.__setattr__(self, "count", None)
        return self


@dataclass(slots=True)
class ArmedFault:
    """A fault in the book, with what is left of it."""

    id: str
    spec: FaultSpec
    left: int | None
    to_skip: int
    fired: int = 0

    def describe(self) -> dict[str, object]:
        """The fault for the control surface."""
        return {"id": self.id, **self.spec.model_dump(mode="json"), "left": self.left, "fired": self.fired}


class FaultBook:
    """The faults that wait to strike, oldest first."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._armed: dict[str, ArmedFault] = {}
        self._last_number = 0

    def add(self, spec: FaultSpec) -> ArmedFault:
        """Arm a fault."""
        self._last_number += 1
        fault = ArmedFault(f"fault-{self._last_number}", spec, left=spec.count, to_skip=spec.skip)
        self._armed[fault.id] = fault
        return fault

    def remove(self, fault_id: str) -> bool:
        """Disarm one fault; whether it was there."""
        return self._armed.pop(fault_id, None) is not None

    def clear(self) -> None:
        """Disarm all faults."""
        self._armed.clear()

    def armed(self) -> list[ArmedFault]:
        """All faults, used-up ones included until they are removed."""
        return [*self._armed.values()]

    def take(
        self, kind: FaultKind, edge: str, catalog_id: str | None, retailer_ids: Container[str] = ()
    ) -> FaultSpec | None:
        """Whether a fault of this kind strikes this call with these records; one that does is used once."""
        for fault in self._armed.values():
            spec = fault.spec
            if spec.kind is not kind or fault.left == 0:
                continue
            if spec.edge not in (None, edge) or spec.catalog_id not in (None, catalog_id):
                continue
            if spec.retailer_id is not None and spec.retailer_id not in retailer_ids:
                continue
            if fault.to_skip > 0:
                fault.to_skip -= 1
                continue
            if spec.probability < 1 and self._chance.random() >= spec.probability:
                continue
            fault.fired += 1
            if fault.left is not None:
                fault.left -= 1
            return spec
        return None


def adverse_faults(processing_delay_seconds: float) -> Iterable[FaultSpec]:
    """What the adverse profile does all the time. A caller that is right survives each of them.

    Throttling, dead tokens, blocks and handles that never end are not among them: they stop work for minutes or
    for good, so a test asks for them where it wants them.
    """

    def often(kind: FaultKind, probability: float, edge: str | None = None, **parameters: float) -> FaultSpec:
        return FaultSpec.model_validate(
            {"kind": kind, "edge": edge, "count": None, "probability": probability, **parameters}
        )

    return [
        often(FaultKind.DROP_BEFORE, 0.02, "items_batch"),
        often(FaultKind.DROP_AFTER, 0.03, "items_batch"),
        often(FaultKind.HTML_500_AFTER, 0.01, "items_batch"),
        often(FaultKind.TRANSIENT_BEFORE, 0.02, "items_batch"),
        often(FaultKind.TRANSIENT_AFTER, 0.01, "items_batch"),
        often(FaultKind.INVALID_JSON, 0.01, "items_batch"),
        often(FaultKind.DROP_BEFORE, 0.02, "check_batch_request_status"),
        often(FaultKind.HTML_500_BEFORE, 0.02, "check_batch_request_status"),
        often(FaultKind.TRANSIENT_BEFORE, 0.02, "products"),
        often(FaultKind.HANDLE_ERROR, 0.02),
        often(FaultKind.HANDLE_LATE, 0.03, seconds=10 * processing_delay_seconds),
        often(FaultKind.ERRORS_CAPPED, 0.5, limit=5),
        often(FaultKind.IDS_OTHER_CASE, 0.01),
        often(FaultKind.REQUIRED_AS_WARNINGS, 0.1),
        often(FaultKind.ABSENT_KEYS, 0.5),
        often(FaultKind.LOCALIZED_MESSAGES, 1.0),
        often(FaultKind.STATUS_WORDS, 0.3),
        often(FaultKind.READ_LAG, 0.5, seconds=processing_delay_seconds),
        often(FaultKind.LOCALE_PRICES, 0.5),
    ]
