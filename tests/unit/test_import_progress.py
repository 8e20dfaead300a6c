"""What the command line says of an import on its way where there is no terminal. Nothing is imported here."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from meta_sync.catalog.ingest.imports import ImportView
from meta_sync.cli.progress import ImportProgress

VIEW = ImportView(
    import_id="import_1",
    status="fetching",
    format=None,
    mode="upsert",
    source=None,
    file_name=None,
    size_bytes=0,
    progress=0,
    counts=dict.fromkeys(("rows", "created", "changed", "unchanged", "skipped", "failed", "deleted"), 0),
    message=None,
    error_code=None,
    dry_run=False,
    allow_mass_delete=False,
    requested_by=None,
    created_at=datetime(2026, 5, 3, tzinfo=UTC),
    started_at=None,
    finished_at=None,
)


def test_why_a_file_is_still_being_fetched_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    waiting = replace(VIEW, message="The server answers 503.")
    with ImportProgress() as progress:
        for view in (VIEW, waiting, waiting, replace(VIEW, message="The server answers 500.")):
            progress.show(view)
    assert capsys.readouterr().out == "  The server answers 503.\n  The server answers 500.\n"


def test_a_line_per_ten_percent_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    with ImportProgress() as progress:
        for percent in range(0, 100, 3):
            progress.show(replace(VIEW, status="running", progress=percent))
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        *("12", "24", "36", "48", "60", "72", "84", "96")
    ]
