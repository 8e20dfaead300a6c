"""An import against its limit: ``python -m bench.imports [--rows N]``.

The limit reads the same file with the same CSV reader and COPYs its rows into one table with a key; the service checks,
parses and merges every row, writes products, variants, stock, search documents and intents, counts, and can be killed at
any moment. What is compared is the whole import after the upload. Memory is that of the measured process alone, and is
taken for a tenth of the file first: it must not grow with the file.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import os
import tempfile
from pathlib import Path

from bench.import_program import FILE_VARIABLE, STORE_ID
from bench.program import Place, Program, Timed, connect
from meta_sync.cli.embedded_postgres import EmbeddedPostgres
from meta_sync.core.crypto import generate_encryption_key
from meta_sync.core.migrations import upgrade

__all__ = ["main"]

_DATABASE = "bench"
_SERVER = {"shared_buffers": "1GB", "max_wal_size": "4GB"}
_VARIANTS_PER_PRODUCT = 5
_HEADER = (
    *("id", "item_group_id", "title", "description", "link", "image_link", "additional_image_link", "price"),
    *("sale_price", "availability", "quantity", "brand", "gtin", "condition", "color", "size"),
)
_SIZES = ("XS", "S", "M", "L", "XL")


def write_file(path: Path, rows: int) -> None:
    """A feed of about 420 bytes a row."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_HEADER)
        for number in range(rows):
            product, size = divmod(number, _VARIANTS_PER_PRODUCT)
            writer.writerow(
                (
                    f"item-{number}",
                    f"group-{product}",
                    f"Organic cotton shirt no. {product}",
                    f"A shirt of heavy cotton, cut wide, no. {product}. Washed at 40 degrees, made to last.",
                    f"https://shop.example/products/organic-cotton-shirt-{product}?variant={number}",
                    f"https://cdn.shop.example/images/{product}/front.jpg",
                    f"https://cdn.shop.example/images/{product}/back.jpg",
                    f"{19 + product % 80}.99 EUR",
                    f"{14 + product % 80}.49 EUR" if product % 3 == 0 else "",
                    "in stock" if number % 7 else "out of stock",
                    number % 40 if number % 7 else 0,
                    "Harbour & Hill",
                    "",
                    "new",
                    "blue",
                    _SIZES[size],
                )
            )


async def _passes(url: str, key: str, path: Path) -> dict[str, Timed]:
    """Import one file twice into an empty store, then read and COPY it by hand."""
    owner = await connect(url)
    for table in (
        "imports",
        "import_seen",
        "variants",
        "products",
        "inventory",
        "search_documents",
        "intents",
    ):
        await owner.execute(f"TRUNCATE {table}")
    await owner.execute("VACUUM ANALYZE")
    await owner.execute("CHECKPOINT")
    os.environ[FILE_VARIABLE] = str(path)
    place = Place(url, key, 0, 0, 0)
    found: dict[str, Timed] = {}
    service = Program("bench.import_program", place)
    await service.start()
    for name, work in (("upload", "upload"), ("first", "run"), ("upload again", "upload"), ("again", "run")):
        found[name] = await service.do(work)
        counts = await owner.fetchval("SELECT counts FROM imports ORDER BY created_at DESC LIMIT 1")
        if work == "run":
            print(f"  {name}: {found[name].seconds:.1f} s, {counts}", flush=True)
    await service.stop()
    limit = Program("bench.import_program", place)
    await limit.start()
    found["limit"] = await limit.do("limit")
    await limit.stop()
    await owner.close()
    return found


async def _run(rows: int) -> None:
    with tempfile.TemporaryDirectory(prefix="meta-sync-bench-") as directory:
        server = EmbeddedPostgres(Path(directory) / "postgres", _SERVER)
        server.start()
        try:
            server.create_database(_DATABASE)
            url = server.url(_DATABASE)
            await upgrade(url)
            owner = await connect(url)
            await owner.execute(
                "INSERT INTO stores (store_id, public_id, name, settings)"
                ' VALUES ($1, $1, $1, \'{"currency": "EUR"}\')',
                STORE_ID,
            )
            await owner.close()
            key = generate_encryption_key()
            peaks = []
            for count in (rows // 10, rows):
                path = Path(directory) / "feed.csv"
                write_file(path, count)
                size = path.stat().st_size
                print(f"{count:,} rows, {size / 1e6:.0f} MB", flush=True)
                found = await _passes(url, key, path)
                peaks.append(found["again"].peak_rss_bytes)
                _report(count, found)
            print(f"Memory at ten times the rows: {peaks[1] / peaks[0]:.2f} times")
        finally:
            server.stop()


def _report(rows: int, found: dict[str, Timed]) -> None:
    limit = found["limit"]
    print(f"  limit (read and COPY): {limit.seconds:.1f} s, {rows / limit.seconds:,.0f} rows/s")
    for name in ("upload", "first", "again"):
        timed = found[name]
        print(
            f"  {name}: {timed.seconds:.1f} s, {rows / timed.seconds:,.0f} rows/s,"
            f" {timed.seconds / limit.seconds:.1f} times the limit, {timed.cpu_seconds:.1f} s of it ours,"
            f" {timed.peak_rss_bytes / 1e6:.0f} MB"
        )


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    arguments = parser.parse_args()
    asyncio.run(_run(arguments.rows))


if __name__ == "__main__":
    main()
