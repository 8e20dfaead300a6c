"""What is done about one item: the cases of the table, and what holds for any item and any knowledge."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta_sync.catalog.models import CatalogItem
from meta_sync.sync.decide import GONE_REASONS, decide, is_as_adopted, known_may_hold, known_presence
from meta_sync.sync.mapping import Ineligible, MappedItem, Mapper
from meta_sync.sync.mapping_fields import FIELDS, MANAGED_FIELDS
from meta_sync.sync.models import (
    ADOPTED_HASH,
    DELETE_HASH,
    GRACE_HASH,
    GRACE_OVER,
    NEW_ITEM,
    Decision,
    DecisionKind,
    ItemState,
    Link,
    Method,
    Presence,
    Status,
)
from tests.unit.mapping.builders import ITEMS, NOW, SETTINGS, make_item, mapped

_LINK = Link(1, epoch=2, was_empty=True)
_FILLED = replace(_LINK, was_empty=False)
_MAPPER = Mapper(SETTINGS)
_WANTED = mapped()
_CONFIRMED = replace(
    NEW_ITEM,
    status=Status.SYNCED,
    presence=Presence.PRESENT,
    retailer_id="v1",
    confirmed_hash=_WANTED.hash,
    confirmed_epoch=2,
    may_hold=_WANTED.fields,
)
_DRAFT: dict[str, Any] = {"status": "draft"}


def _decide(
    state: ItemState = NEW_ITEM,
    link: Link = _LINK,
    /,
    *,
    gone: bool = False,
    is_job_only: bool = False,
    now: datetime = NOW,
    **changes: Any,
) -> Decision:
    item = None if gone else make_item(**changes)
    return decide(item, state, link, _MAPPER, now=now, is_job_only=is_job_only)


def _payload(decision: Decision) -> dict[str, Any]:
    value: dict[str, Any] = msgspec.json.decode(decision.payload)
    return value


def test_a_new_item_is_sent_whole_and_clears_nothing() -> None:
    decision = _decide()
    assert decision.kind is DecisionKind.UPSERT
    assert decision.method is Method.UPDATE
    assert decision.retailer_id == "v1"
    assert _payload(decision) == _WANTED.data
    assert decision.payload_hash == _WANTED.hash
    assert decision.fields == _WANTED.fields
    assert decision.cleared == frozenset()


def test_what_meta_confirmed_is_not_sent_again() -> None:
    decision = _decide(_CONFIRMED)
    assert (decision.kind, decision.method, decision.retailer_id) == (DecisionKind.NOOP, None, "v1")


def test_a_changed_item_is_sent() -> None:
    assert _decide(_CONFIRMED, price=2990).kind is DecisionKind.UPSERT


def test_a_clear_that_is_owed_goes_out_even_where_the_hash_is_confirmed() -> None:
    decision = _decide(replace(_CONFIRMED, may_hold=_WANTED.fields | {"sale_price", "additional_image_link"}))
    assert decision.kind is DecisionKind.UPSERT
    assert decision.cleared == {"sale_price", "additional_image_link"}
    assert _payload(decision) == {**_WANTED.data, "sale_price": "", "additional_image_link": []}
    assert decision.payload_hash == _WANTED.hash, "clears are not part of what the item is"


def test_a_required_field_and_the_id_are_never_cleared() -> None:
    required = {name for name, field in FIELDS.items() if field.required} | {"id"}
    decision = _decide(replace(_CONFIRMED, may_hold=_WANTED.fields | required))
    assert decision.kind is DecisionKind.NOOP


def test_the_id_is_the_one_it_was_first_sent_under() -> None:
    decision = _decide(replace(_CONFIRMED, retailer_id="old-id", confirmed_hash=None))
    assert decision.retailer_id == _payload(decision)["id"] == "old-id"


@pytest.mark.parametrize("epoch", [1, 3])
def test_another_epoch_s_confirmation_counts_for_nothing(epoch: int) -> None:
    state = replace(_CONFIRMED, confirmed_epoch=epoch)
    decision = _decide(state)
    assert decision.kind is DecisionKind.UPSERT
    optional = {name for name, field in FIELDS.items() if not field.required}
    assert decision.cleared == optional - _WANTED.fields
    assert known_presence(replace(state, presence=Presence.ABSENT), _LINK) is Presence.MAYBE
    assert known_may_hold(state, _LINK) == MANAGED_FIELDS


def test_a_hash_that_no_claim_wrote_confirms_nothing() -> None:
    """The epoch says under which claim it was confirmed; without one the hash is a leftover."""
    assert _decide(replace(_CONFIRMED, confirmed_epoch=None)).kind is DecisionKind.UPSERT


def test_a_catalog_that_was_not_empty_may_hold_every_field_until_the_first_send() -> None:
    decision = _decide(NEW_ITEM, _FILLED)
    assert decision.cleared == {name for name, field in FIELDS.items() if not field.required} - _WANTED.fields
    assert _decide(_CONFIRMED, _FILLED).kind is DecisionKind.NOOP


@pytest.mark.parametrize(
    ("changes", "gone", "reason"),
    [
        ({"variant_deleted": True}, False, "variant_deleted"),
        ({"product_deleted": True}, False, "product_deleted"),
        (_DRAFT, False, "product_not_active"),
        ({"price": None}, False, "missing_price"),
        ({}, True, "variant_deleted"),
    ],
)
@pytest.mark.parametrize("presence", [Presence.MAYBE, Presence.PRESENT])
def test_an_item_that_is_not_to_be_there_is_deleted_under_the_id_it_was_sent_with(
    changes: dict[str, Any], gone: bool, reason: str, presence: Presence
) -> None:
    state = replace(_CONFIRMED, presence=presence, retailer_id="sent-as")
    decision = _decide(state, gone=gone, **changes)
    assert (decision.kind, decision.reason) == (DecisionKind.DELETE, reason)
    assert decision.method is Method.DELETE
    assert decision.payload_hash == DELETE_HASH
    assert _payload(decision) == {"id": "sent-as"}
    assert decision.fields == decision.cleared == frozenset()


@pytest.mark.parametrize("retailer_id", [None, "v1"])
def test_an_absent_item_is_skipped_with_the_reason_or_dropped_when_it_is_gone(
    retailer_id: str | None,
) -> None:
    state = replace(NEW_ITEM, retailer_id=retailer_id, confirmed_epoch=2)
    assert _decide(state, **_DRAFT) == Decision(DecisionKind.SKIP, "product_not_active", retailer_id)
    assert _decide(state, gone=True) == Decision(DecisionKind.DROP, "variant_deleted", retailer_id)
    assert _decide(state, product_deleted=True).kind is DecisionKind.DROP
    assert _decide(replace(state, is_excluded=True)).reason == "excluded_by_operator"


def test_a_stranger_s_item_is_never_deleted() -> None:
    """In a catalog that was not empty something may be there under our id; we did not send it."""
    assert _decide(NEW_ITEM, _FILLED, **_DRAFT).kind is DecisionKind.SKIP
    assert _decide(NEW_ITEM, _FILLED, gone=True).kind is DecisionKind.DROP
    forced = replace(NEW_ITEM, presence=Presence.MAYBE, may_hold=MANAGED_FIELDS)
    assert _decide(forced, _LINK, **_DRAFT).kind is DecisionKind.SKIP


def test_what_meta_refused_is_left_alone_by_jobs_only() -> None:
    refused = replace(_CONFIRMED, confirmed_hash=None, rejected_hash=_WANTED.hash)
    assert _decide(refused, is_job_only=True).kind is DecisionKind.KEEP
    assert _decide(refused).kind is DecisionKind.UPSERT
    assert _decide(refused, is_job_only=True, price=5).kind is DecisionKind.UPSERT
    not_deleted = replace(_CONFIRMED, rejected_hash=DELETE_HASH)
    assert _decide(not_deleted, is_job_only=True, **_DRAFT).kind is DecisionKind.KEEP
    assert _decide(not_deleted, **_DRAFT).kind is DecisionKind.DELETE


def test_what_a_person_discarded_is_left_alone_until_it_wants_something_else() -> None:
    discarded = replace(_CONFIRMED, confirmed_hash=b"older", discarded_hash=_WANTED.hash)
    assert _decide(discarded).kind is DecisionKind.KEEP
    assert _decide(discarded, price=5).kind is DecisionKind.UPSERT
    kept = replace(_CONFIRMED, discarded_hash=DELETE_HASH)
    assert _decide(kept, **_DRAFT) == Decision(DecisionKind.KEEP, "product_not_active", "v1")
    assert _decide(kept).kind is DecisionKind.NOOP


def test_new_images_are_a_change() -> None:
    assert _decide(replace(_CONFIRMED, image_version=1)).kind is DecisionKind.UPSERT


# --- What was adopted ------------------------------------------------------------------------------------------------

_ADOPTED = replace(_CONFIRMED, discarded_hash=_WANTED.hash, may_hold=MANAGED_FIELDS, confirmed_epoch=2)


def test_an_adopted_item_is_left_alone_until_its_row_changes_and_then_sent_whole() -> None:
    assert _decide(_ADOPTED, source="meta").kind is DecisionKind.KEEP
    assert _decide(replace(_ADOPTED, confirmed_epoch=1), source="meta").kind is DecisionKind.KEEP
    changed = _decide(_ADOPTED, source="meta", price=2990)
    assert changed.kind is DecisionKind.UPSERT
    assert changed.cleared == {name for name, field in FIELDS.items() if not field.required} - _WANTED.fields


@pytest.mark.parametrize("changes", [_DRAFT, {"price": None}, {"title": None}, {"visibility": "private"}])
@pytest.mark.parametrize("confirmed", [_WANTED.hash, ADOPTED_HASH, None])
def test_an_adopted_item_that_is_not_fit_to_be_sent_stays(
    changes: dict[str, Any], confirmed: bytes | None
) -> None:
    state = replace(_ADOPTED, confirmed_hash=confirmed)
    for link in (_LINK, replace(_LINK, delete_grace_days=3)):
        decision = _decide(state, link, source="meta", **changes)
        assert decision == Decision(DecisionKind.KEEP, "adopted_left_alone", "v1")
        assert _decide(state, link, source="api", **changes).method is not None, "somebody took it over"
    absent = replace(state, presence=Presence.ABSENT)
    assert _decide(absent, source="meta", **changes).kind is DecisionKind.SKIP


def test_an_adopted_item_that_is_deleted_or_excluded_goes() -> None:
    assert _decide(_ADOPTED, source="meta", variant_deleted=True).kind is DecisionKind.DELETE
    excluded = _decide(replace(_ADOPTED, is_excluded=True), source="meta", **_DRAFT)
    assert (excluded.kind, excluded.reason) == (DecisionKind.DELETE, "excluded_by_operator")


def test_whoever_takes_an_adopted_item_over_sends_it_once_though_nothing_else_changed() -> None:
    assert is_as_adopted(_ADOPTED) and not is_as_adopted(_CONFIRMED)
    taken = _decide(_ADOPTED, source="api")
    assert taken.kind is DecisionKind.UPSERT and taken.payload_hash == _WANTED.hash
    assert _decide(_CONFIRMED, source="api").kind is DecisionKind.NOOP, "as it is then"


# --- Grace -----------------------------------------------------------------------------------------------------------

_WITH_GRACE = replace(_LINK, delete_grace_days=3)


@pytest.mark.parametrize("changes", [{"variant_deleted": True}, _DRAFT])
def test_a_grace_shows_the_item_as_out_of_stock_then_waits_then_deletes(changes: dict[str, Any]) -> None:
    begun = _decide(_CONFIRMED, _WITH_GRACE, **changes)
    assert (begun.kind, begun.method, begun.payload_hash) == (DecisionKind.UPSERT, Method.UPDATE, GRACE_HASH)
    assert _payload(begun) == {"id": "v1", "availability": "out of stock"}
    assert begun.fields == _CONFIRMED.may_hold | {"availability"} and not begun.cleared
    # As the claim and the settle leave it.
    until = NOW + timedelta(days=3)
    waiting = replace(_CONFIRMED, confirmed_hash=GRACE_HASH, grace_until=until, may_hold=begun.fields)
    for passed in (timedelta(0), timedelta(days=1), timedelta(days=3, microseconds=-1)):
        kept = _decide(waiting, _WITH_GRACE, now=NOW + passed, **changes)
        assert (kept.kind, kept.reason) == (DecisionKind.KEEP, "delete_grace")
    for over in (_decide(waiting, _WITH_GRACE, now=until, **changes), _decide(waiting, **changes)):
        assert (over.kind, over.payload_hash) == (DecisionKind.DELETE, DELETE_HASH)
    woken = replace(waiting, grace_until=GRACE_OVER)
    assert _decide(woken, _WITH_GRACE, **changes).kind is DecisionKind.DELETE
    # A first try that failed leaves the item as it was: it is tried again, not shown once more.
    assert _decide(replace(woken, confirmed_hash=None), _WITH_GRACE, **changes).kind is DecisionKind.DELETE


def test_what_is_disturbed_within_its_grace_is_shown_as_out_of_stock_once_more() -> None:
    state = replace(_CONFIRMED, confirmed_hash=None, grace_until=NOW + timedelta(days=1))
    again = _decide(state, _WITH_GRACE, **_DRAFT)
    assert again.payload_hash == GRACE_HASH
    older = replace(state, confirmed_hash=GRACE_HASH, confirmed_epoch=1)
    assert _decide(older, _WITH_GRACE, **_DRAFT).fields == MANAGED_FIELDS | {"availability"}


def test_what_comes_back_within_its_grace_is_sent_whole() -> None:
    state = replace(_CONFIRMED, confirmed_hash=GRACE_HASH, grace_until=NOW + timedelta(days=1))
    back = _decide(state, _WITH_GRACE)
    assert (back.kind, back.payload_hash) == (DecisionKind.UPSERT, _WANTED.hash)


def test_a_person_s_exclusion_knows_no_grace() -> None:
    for changes in ({}, {"variant_deleted": True}, _DRAFT):
        state = replace(_CONFIRMED, is_excluded=True, grace_until=NOW + timedelta(days=1))
        decision = _decide(state, _WITH_GRACE, **changes)
        assert (decision.kind, decision.reason) == (DecisionKind.DELETE, "excluded_by_operator")


@pytest.mark.parametrize("left", [DELETE_HASH, GRACE_HASH])
def test_a_discarded_delete_stays_discarded_whatever_the_grace(left: bytes) -> None:
    state = replace(_CONFIRMED, discarded_hash=left)
    for link in (_LINK, _WITH_GRACE):
        assert _decide(state, link, **_DRAFT).kind is DecisionKind.KEEP


def test_a_refused_grace_is_tried_again_by_a_change_only() -> None:
    state = replace(_CONFIRMED, confirmed_hash=None, rejected_hash=GRACE_HASH)
    assert _decide(state, _WITH_GRACE, is_job_only=True, **_DRAFT).kind is DecisionKind.KEEP
    assert _decide(state, _WITH_GRACE, **_DRAFT).payload_hash == GRACE_HASH
    assert _decide(state, is_job_only=True, **_DRAFT).kind is DecisionKind.DELETE


# --- Pins ------------------------------------------------------------------------------------------------------------


def test_a_pinned_value_goes_in_place_of_ours_and_is_part_of_what_the_item_is() -> None:
    state = replace(_CONFIRMED, pinned={"title": "Meta's own", "no_such_field": "x", "id": "other"})
    decision = _decide(state)
    assert _payload(decision) == {**_WANTED.data, "title": "Meta's own"}
    assert decision.payload_hash != _WANTED.hash
    confirmed = replace(state, confirmed_hash=decision.payload_hash)
    assert _decide(confirmed).kind is DecisionKind.NOOP
    assert _decide(confirmed, title="Ours anew").kind is DecisionKind.NOOP, "ours does not show"
    assert _decide(replace(confirmed, pinned=None)).kind is DecisionKind.UPSERT


def test_a_field_that_is_pinned_as_empty_is_emptied_unless_meta_requires_it() -> None:
    state = replace(_CONFIRMED, pinned={"mpn": None, "brand": "", "title": None, "additional_image_link": []})
    decision = _decide(state, sku="SKU-1", brand="Ours")
    assert "mpn" not in decision.fields and "brand" not in decision.fields and "title" in decision.fields


@pytest.mark.parametrize("pinned", [None, {}])
def test_no_pins_change_nothing(pinned: dict[str, Any] | None) -> None:
    assert _decide(replace(_CONFIRMED, pinned=pinned)).kind is DecisionKind.NOOP


# --- For any item and anything that may be known of it ---------------------------------------------------------------

_HASHES: st.SearchStrategy[bytes | str | None] = st.sampled_from([None, b"other", DELETE_HASH, "wanted"])


@st.composite
def _situations(draw: st.DrawFn) -> tuple[CatalogItem | None, ItemState, Link, bool]:
    item = draw(
        st.one_of(
            st.none(),
            ITEMS,
            st.builds(
                make_item,
                special_price=st.sampled_from([None, 5]),
                ean=st.sampled_from([None, "4006381333931"]),
                options=st.sampled_from([{}, {"Color": "Red"}, {"Scent": "Rose"}]),
                status=st.sampled_from(["active", "draft"]),
                price=st.sampled_from([1990, None]),
            ),
        )
    )
    retailer_id = draw(st.sampled_from([None, "v1", "sent-as"]))
    is_excluded = draw(st.integers(0, 9)) == 0
    image_version = draw(st.integers(0, 2))
    wanted = None if item is None else _evaluate(item, retailer_id, is_excluded, image_version)

    def drawn_hash() -> bytes | None:
        drawn = draw(_HASHES)
        if isinstance(drawn, str):
            return wanted.hash if isinstance(wanted, MappedItem) else b"any"
        return drawn

    state = ItemState(
        status=draw(st.sampled_from(Status)),
        presence=draw(st.sampled_from(Presence)),
        retailer_id=retailer_id,
        confirmed_hash=drawn_hash(),
        confirmed_epoch=draw(st.sampled_from([None, 1, 2])),
        may_hold=frozenset(draw(st.sets(st.sampled_from(sorted(MANAGED_FIELDS))))),
        rejected_hash=drawn_hash(),
        discarded_hash=drawn_hash(),
        in_flight=None,
        is_excluded=is_excluded,
        batch_limit=None,
        image_version=image_version,
        code=None,
        attempts=0,
    )
    return item, state, draw(st.sampled_from([_LINK, _FILLED])), draw(st.booleans())


def _evaluate(
    item: CatalogItem, retailer_id: str | None, is_excluded: bool, image_version: int
) -> MappedItem | Ineligible:
    return _MAPPER.evaluate(
        item, excluded=is_excluded, retailer_id=retailer_id, now=NOW, image_version=image_version
    )


def _merged(at_meta: dict[str, Any], payload: dict[str, Any]) -> dict[str, Any]:
    """What Meta makes of an update: fields sent replace, empty ones vanish, the others stay."""
    result = {**at_meta, **payload}
    return {name: value for name, value in result.items() if value not in ("", [])}


@given(_situations())
def test_the_decision_for_any_item(situation: tuple[CatalogItem | None, ItemState, Link, bool]) -> None:
    item, state, link, is_job_only = situation
    decision = decide(item, state, link, _MAPPER, now=NOW, is_job_only=is_job_only)
    wanted = (
        None if item is None else _evaluate(item, state.retailer_id, state.is_excluded, state.image_version)
    )
    presence, may_hold = known_presence(state, link), known_may_hold(state, link)
    kind = decision.kind
    if isinstance(wanted, MappedItem):
        assert kind in {DecisionKind.UPSERT, DecisionKind.NOOP, DecisionKind.KEEP}
        owed = {one for one in may_hold - wanted.fields if not FIELDS[one].required}
        is_known = state.confirmed_hash == wanted.hash and state.confirmed_epoch == link.epoch
        assert (kind is DecisionKind.NOOP) == (is_known and not owed)
        if kind is DecisionKind.UPSERT:
            assert decision.cleared == owed
            # Whatever Meta holds of the fields it may hold, afterwards it holds exactly what is wanted.
            at_meta = dict.fromkeys(may_hold, "something old")
            assert _merged(at_meta, _payload(decision)) == wanted.data
            then = replace(
                state,
                confirmed_hash=decision.payload_hash,
                confirmed_epoch=link.epoch,
                may_hold=decision.fields,
            )
            again = decide(item, then, link, _MAPPER, now=NOW, is_job_only=is_job_only)
            assert again.kind is DecisionKind.NOOP, "what was confirmed is not sent a second time"
        return
    reason = "variant_deleted" if wanted is None else wanted.reason.value
    if kind is DecisionKind.DELETE and state.is_excluded:
        reason = "excluded_by_operator"
    assert decision.reason == reason
    if presence is Presence.ABSENT or state.retailer_id is None:
        expected = DecisionKind.DROP if reason in GONE_REASONS else DecisionKind.SKIP
        assert kind is expected, "nothing of ours is there, so nothing is deleted"
    else:
        assert kind in {DecisionKind.DELETE, DecisionKind.KEEP}
    if kind is DecisionKind.DELETE:
        assert _payload(decision) == {"id": state.retailer_id}


@given(_situations())
def test_an_item_is_left_alone_only_for_the_very_thing_that_was_refused_or_discarded(
    situation: tuple[CatalogItem | None, ItemState, Link, bool],
) -> None:
    item, state, link, is_job_only = situation
    if decide(item, state, link, _MAPPER, now=NOW, is_job_only=is_job_only).kind is not DecisionKind.KEEP:
        return
    free = replace(state, discarded_hash=None, rejected_hash=None)
    asked = decide(item, free, link, _MAPPER, now=NOW, is_job_only=is_job_only)
    assert asked.method is not None
    blockers = {state.discarded_hash} | ({state.rejected_hash} if is_job_only else set())
    assert asked.payload_hash in blockers
