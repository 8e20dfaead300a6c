"""Damaged files over HTTP and through the whole import: an import that ends with counts that add up, or a sentence."""

from __future__ import annotations

import pytest

from tests.fuzz_imports import damaged, sample_files
from tests.support.api import Api, Caller

_CASES = 80
_AT_ONCE = 40
_OVER = {"success", "partial", "error"}


@pytest.mark.parametrize("first", range(0, _CASES, _AT_ONCE))
async def test_a_damaged_file_never_fails_the_service(api: Api, store: Caller, first: int) -> None:
    files = sample_files(shared=False)
    for number in range(first, first + _AT_ONCE):
        name, content = damaged(1_000_000 + number, files)
        answer = await store(
            "POST", "/catalog/imports", params={"fileName": name, "source": f"case-{number}"}, content=content,
            headers={"Content-Type": "application/octet-stream"},
        )  # fmt: skip
        if answer.status_code == 400:
            assert not content, (number, answer.text)
            continue
        assert answer.status_code == 202, (number, answer.text)
        started = answer.json()["data"]
        while started["status"] in {"queued", "running"}:
            assert await api.factory.import_runner().run(started["importId"]), number
            started = await store.data("GET", started["href"]) | {"href": started["href"]}
        view = await store.data("GET", started["href"])
        assert view["status"] in _OVER, (number, view)
        assert view["message"] or view["status"] != "error", number
        counts = view["counts"]
        items = sum(counts[one] for one in ("created", "changed", "unchanged", "skipped", "failed"))
        assert items >= counts["variants"], (number, counts)
        report = await store("GET", f"{started['href']}/report")
        assert report.status_code == 200
        assert report.text.startswith("row,kind,itemId,field")
