"""What the demo shows at its end: counts, what went wrong in plain words, and where to go on."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from rich.table import Table

from meta_sync.cli import console
from meta_sync.cli.api_client import ApiClient
from meta_sync.cli.sandbox_store import SandboxStore
from meta_sync.cli.supervisor import System
from meta_sync.sandbox.options import DEMO_CATALOG_ID

__all__ = ["show_report"]

_MEANINGS = (
    ("synced", "Meta has confirmed the item as it is now"),
    ("failed", "Meta refused it; it is sent again when it changes"),
    ("skipped", "not sent: something is missing or it is not for sale"),
    ("deleted", "taken off Meta"),
    ("pending", "waits to be sent"),
    ("submitted", "sent, Meta has not answered yet"),
)
_MOST_LISTED = 100


async def show_report(api: ApiClient, system: System, store: SandboxStore, *, stay: bool) -> None:
    """Print the report; with addresses to look around at only where everything stays up."""
    screen = console.screen()
    counts = (await api.get("/admin/meta/status"))["data"]["counts"]
    table = Table(title="Items by status", title_justify="left")
    table.add_column("status")
    table.add_column("items", justify="right")
    table.add_column("meaning")
    for name, meaning in _MEANINGS:
        if counts[name]:
            table.add_row(name, str(counts[name]), meaning)
    table.add_row("total", str(counts["total"]), "")
    screen.print()
    screen.print(table)
    for status, title in (("failed", "Refused by Meta"), ("skipped", "Not sent")):
        rows = (await api.get("/admin/meta/items", {"status": status, "limit": _MOST_LISTED}))["data"]
        if rows:
            screen.print()
            screen.print(_reasons(title, [await _reason(api, row) for row in rows]))
    if not stay:
        return
    console.say()
    console.say(f"API docs     {system.api_url}/docs")
    console.say(f"Sandbox      {system.sandbox_url}/_sandbox/catalogs/{DEMO_CATALOG_ID}/items")
    console.say("Look at one item, with what Meta has and what would be sent next:")
    console.say(
        f"curl -s -H 'Authorization: Bearer {store.api_key}' "
        f"{system.api_url}/admin/meta/items/organic-cotton-t-shirt-black-s"
    )


async def _reason(api: ApiClient, row: dict[str, Any]) -> tuple[str, str]:
    detail = (await api.get(f"/admin/meta/items/{quote(row['variantId'], safe='')}"))["data"]
    eligibility = detail["eligibility"]
    said = (row["lastError"] or eligibility.get("message"), eligibility.get("nextStep"))
    return row["variantId"], " ".join(filter(None, said))


def _reasons(title: str, rows: list[tuple[str, str]]) -> Table:
    table = Table(title=title, title_justify="left", show_lines=False)
    table.add_column("item", overflow="fold", max_width=36)
    table.add_column("why", overflow="fold", max_width=80)
    for variant_id, reason in sorted(rows):
        table.add_row(variant_id, reason)
    return table
