"""Whatever a caller sends, Graph answers: a refusal is an envelope, never a crash."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from meta_sync.sandbox.dispatch import answer_call
from meta_sync.sandbox.fields import FIELDS, words
from meta_sync.sandbox.options import DEMO_ACCESS_TOKEN, DEMO_CATALOG_ID, SandboxOptions
from meta_sync.sandbox.reading import READ_FIELDS
from meta_sync.sandbox.state import SandboxState
from meta_sync.sandbox.wire import Call
from tests.sandbox.support import item

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | TEXT
    | st.just("9" * 5000),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | st.just("url"), inner, max_size=3),
    max_leaves=6,
)
RECORDS = st.lists(
    st.fixed_dictionaries(
        {"data": st.dictionaries(st.sampled_from(sorted(FIELDS)) | TEXT, VALUES, max_size=5)},
        optional={"method": st.sampled_from(["CREATE", "UPDATE", "DELETE"]) | VALUES},
    ),
    max_size=4,
)


def world() -> SandboxState:
    return SandboxState(SandboxOptions(demo=True, processing_delay_seconds=0))


def ask(state: SandboxState, method: str, edge: str, params: dict[str, Any]) -> Any:
    call = Call(method, f"/{edge}", (DEMO_CATALOG_ID, edge), params, DEMO_ACCESS_TOKEN)
    answer = answer_call(state, call)
    body = json.loads(answer.content())
    assert ("error" in body) is (answer.status != 200)
    return body


@settings(max_examples=150, deadline=None)
@given(RECORDS, st.booleans())
def test_any_record(records: list[dict[str, Any]], complete: bool) -> None:
    state = world()
    if complete:
        records = [{**record, "data": {**item("A"), **record["data"]}} for record in records]
    body = ask(state, "POST", "items_batch", {"item_type": "PRODUCT_ITEM", "requests": records})
    for handle in body["handles"]:
        [report] = ask(state, "GET", "check_batch_request_status", {"handle": handle})["data"]
        assert report["status"] == "finished"
        assert report["errors_total_count"] == len(report["errors"])
    read = ask(state, "GET", "products", {"fields": ",".join(sorted(READ_FIELDS)), "limit": "100"})
    assert len(read["data"]) == len(state.catalog(DEMO_CATALOG_ID).items)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["items_batch", "products", "check_batch_request_status", "data_sources"]),
    st.dictionaries(
        st.sampled_from(
            sorted(
                words(
                    "item_type requests allow_upsert fields filter limit after before summary handle locale "
                    "load_ids_of_invalid_requests appsecret_proof appsecret_time"
                )
            )
        ),
        VALUES,
        max_size=4,
    ),
)
def test_any_parameter(edge: str, params: dict[str, Any]) -> None:
    ask(world(), "POST" if edge == "items_batch" else "GET", edge, params)
