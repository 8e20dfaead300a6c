"""Bodies of decisions about what a reconciliation found: adopting, taking, pinning, deleting, and what came of each."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StrictBool, StringConstraints, model_validator

from meta_sync.api.schemas.base import Answer, Body, View
from meta_sync.sync.adopt_models import ActResult, NotDone
from meta_sync.sync.codes import names_of

__all__ = [
    "AdoptBody",
    "AdoptResult",
    "AdoptResultAnswer",
    "ChosenFields",
    "DecidedItem",
    "RetailerIds",
    "UndecidedItem",
    "UnpinBody",
    "UnpinResult",
    "UnpinResultAnswer",
    "decided_items",
]

_Id = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=1024)]
RetailerIds = Annotated[list[_Id], Field(min_length=1, max_length=1000)]
_Field = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=64)]
_Fields = Annotated[list[_Field], Field(min_length=1, max_length=50)]


class AdoptBody(Body):
    """Which of the items that only Meta has are taken into the catalog: named ones, or all."""

    # Told by what it may not be: makers of clients leave that out, and make a class of each of several choices.
    model_config = ConfigDict(
        json_schema_extra={
            "not": {
                "anyOf": [
                    {
                        "required": ["retailerIds", "all"],
                        "properties": {"retailerIds": {"type": "array"}, "all": {"const": True}},
                    },
                    {"properties": {"retailerIds": {"type": "null"}, "all": {"const": False}}},
                ]
            }
        }
    )

    retailer_ids: RetailerIds | None = Field(default=None, description="The items with these ids.")
    all: StrictBool = Field(default=False, description="All of them, at most 5,000 by one call.")
    dry_run: StrictBool = Field(default=False, description="Change nothing; only say what would be adopted.")

    @model_validator(mode="after")
    def _one_choice(self) -> AdoptBody:
        if self.all == (self.retailer_ids is not None):
            raise ValueError("give retailerIds, or set all to true")
        return self


class UndecidedItem(View):
    """An item that was left as it is."""

    retailer_id: str = Field(description="The item's id at Meta.")
    code: str = Field(description=f"One of {names_of('adopt')}. More may be added.")
    message: str = Field(description="What the code means, as a sentence.")
    next_step: str = Field(description="What to do about it, as a sentence.")

    @classmethod
    def of(cls, one: NotDone) -> UndecidedItem:
        """The item as answered."""
        return cls(
            retailer_id=one.retailer_id,
            code=one.code.value,
            message=one.code.sentence,
            next_step=one.code.next_step,
        )


class AdoptResult(View):
    """What was adopted, or would be."""

    dry_run: bool
    adopted: int = Field(
        description="Items that are variants of the catalog now; of a dry run, that would be."
    )
    products: int = Field(description="Products that were made for them. 0 in a dry run.")
    remaining: bool = Field(description="Whether one call did not reach all: ask again.")
    retailer_ids: list[str] = Field(
        description="Ids of the adopted items, which are those of their variants."
    )
    not_adopted: list[UndecidedItem] = Field(
        description="The items that were left out, each with the reason."
    )

    @classmethod
    def of(cls, result: ActResult, *, dry_run: bool) -> AdoptResult:
        """The result as answered."""
        return cls(
            dry_run=dry_run,
            adopted=len(result.done),
            products=result.products,
            remaining=result.remaining,
            retailer_ids=result.done,
            not_adopted=[UndecidedItem.of(one) for one in result.not_done],
        )


class ChosenFields(Body):
    """An item that Meta shows otherwise than it confirmed it, and the fields that are decided about."""

    retailer_id: _Id = Field(description="The item's id at Meta.")
    fields: _Fields | None = Field(
        default=None,
        description="Without them: all that differ. Price and sale go together, and so do availability and quantity.",
    )


class DecidedItem(View):
    """An item that was decided about."""

    retailer_id: str = Field(description="The item's id at Meta.")
    decision: Literal["taken", "pinned", "deleted"] = Field(
        description="taken: Meta's values are the store's now. pinned: they are kept at Meta. deleted: it is deleted there."
    )
    values: dict[str, Any] = Field(
        description="By field Meta's value, in the form in which it is sent; null where Meta shows none."
    )


def decided_items(decision: Literal["taken", "pinned", "deleted"], result: ActResult) -> list[DecidedItem]:
    """What was decided, as answered."""
    return [
        DecidedItem(retailer_id=one, decision=decision, values=result.fields.get(one, {}))
        for one in result.done
    ]


class UnpinBody(Body):
    """Which fields of an item are the store's again."""

    fields: _Fields | None = Field(default=None, description="Without them: all that are pinned.")


class UnpinResult(View):
    """The fields that are the store's again."""

    variant_id: str
    fields: list[str] = Field(description="In the order of their names.")


class AdoptResultAnswer(Answer):
    data: AdoptResult


class UnpinResultAnswer(Answer):
    data: UnpinResult
