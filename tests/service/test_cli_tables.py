"""How commands look on terminals of two widths, with long, wide and hostile texts, and where there is no terminal."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from meta_sync.catalog.models import Lane
from meta_sync.cli import console, doctor_commands, error_commands, item_commands, sync_commands
from meta_sync.sync.checkup import Check
from meta_sync.sync.codes import entry_of
from meta_sync.sync.errors_list import FailedItem
from meta_sync.sync.items import ItemSummary
from meta_sync.sync.models import Presence, Status

TITLES = (
    "Lamp",
    "A lamp with a title that goes on and on, " * 5,
    "日本語のとても長い商品名です。ランプと机と椅子のセット、送料無料、即日発送",
    "[red]Lamp[/red] \x1b[31m\twith \n lines",
)


def items() -> list[ItemSummary]:
    return [
        ItemSummary(
            variant_id=f"gid-shop-variant-4412398{number}",
            product_id="p",
            product_title=title,
            product_slug="p",
            product_status="active",
            product_visibility="public",
            sku=None,
            price=1,
            thumbnail=None,
            deleted_at=None,
            sync_status=Status.SYNCED if number else Status.FAILED,
            presence=Presence.PRESENT,
            meta_retailer_id=None,
            last_handle=None,
            last_pushed_at=datetime(2026, 5, 3, 12, tzinfo=UTC),
            last_error=f"{title} is [no] title",
            error_code=None if number else "rejected_by_meta",
            attempts=0,
            confirmed_at=None,
            retry_at=None,
            lane=Lane.LIVE,
            updated_at=None,
        )
        for number, title in enumerate(TITLES)
    ]


def failed() -> list[FailedItem]:
    return [FailedItem(item, "rejected_by_meta", entry_of("rejected_by_meta")) for item in items()]


@pytest.fixture(params=[80, 120])
def width(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    output = io.StringIO()
    screen = Console(file=output, width=width, force_terminal=True, color_system=None, highlight=False)
    monkeypatch.setattr(console, "screen", lambda: screen)
    return output


def shown(output: io.StringIO, width: int) -> list[str]:
    lines = output.getvalue().splitlines()
    assert lines
    assert all(cell_len(line) <= width for line in lines)
    assert "\x1b[31m" not in output.getvalue()
    return lines


def test_items_take_a_line_each_and_keep_their_ids(terminal: io.StringIO, width: int) -> None:
    item_commands._show(items())
    lines = shown(terminal, width)
    if width == 120:
        assert len(lines) == 2 + len(TITLES)
        assert all(item.variant_id in line for item, line in zip(items(), lines[2:], strict=True))
        assert sum("synced, changed" in line for line in lines) == 3
    whole = "".join(line.split()[0] for line in lines[2:] if line.startswith("gid") or line[:1].isdigit())
    assert all(item.variant_id[:10] in whole for item in items())
    assert "…" in terminal.getvalue()
    assert "[red]L" in terminal.getvalue()


def test_errors_stand_under_what_their_code_means(terminal: io.StringIO, width: int) -> None:
    error_commands._show(failed())
    lines = shown(terminal, width)
    assert lines[0].startswith(f"rejected_by_meta: {entry_of('rejected_by_meta').sentence}")
    assert sum("rejected_by_meta" in line for line in lines) == 1
    assert all(any(line.startswith(f"  {item.variant_id}") for line in lines) for item in items())
    assert "is [no] title" in " ".join(terminal.getvalue().split())


def test_a_check_is_folded_beside_its_verdict(terminal: io.StringIO, width: int) -> None:
    doctor_commands._lines([Check("store_settings", "problem", "Not set: [currency]. " * 9, "Set it.")])
    lines = shown(terminal, width)
    assert lines[0].startswith("  problem  store settings  Not set: [currency].")
    assert len(lines) > 1
    assert all(line.startswith(" " * 20) for line in lines[1:])


def test_a_store_in_preview_is_told_why_nothing_is_sent() -> None:
    row: dict[str, Any] = {"pauseReason": None, "pausedUntil": None, "missingKeys": [], "feedMode": "preview"}
    said = sync_commands._standstill(row, None)
    assert said == f"{entry_of('preview').sentence} {entry_of('preview').action}"
    assert sync_commands._standstill({**row, "feedMode": "live"}, None) == ""
    off = sync_commands._standstill({**row, "pauseReason": "sync_disabled"}, None)
    assert off.startswith(entry_of("sync_disabled").sentence)


def test_elsewhere_than_on_a_terminal_there_are_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    item_commands._show(items())
    shown_items = capsys.readouterr().out.splitlines()
    error_commands._show(failed())
    shown_errors = capsys.readouterr().out.splitlines()
    assert [line.count("\t") for line in shown_items] == [5] * 5
    assert [line.count("\t") for line in shown_errors] == [5] * 5
    assert shown_items[0] == "item\ttitle\tstatus\tat Meta\tlast sent (UTC)\tcode"
    assert shown_items[2].split("\t")[1] == TITLES[1]
    assert "[red]Lamp[/red] \ufffd[31m with   lines" in shown_items[4]
