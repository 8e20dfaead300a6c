"""What a pre-flight look must recognise again, kept beside its job: ids and texts of a whole store, in constant memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.sync.bulk import expect_lookups
from meta_sync.sync.preflight_scan import ID_KINDS, MOST_EXAMPLES, KeyKind, PageKey, id_key

__all__ = ["Alike", "alike_ids", "alike_texts", "equal_ids", "keep_keys", "known_ids", "large_groups"]

MOST_VARIANTS_PER_GROUP = 300
"""From where on Meta warns, by its help pages."""

_KEEP = text(
    """
    INSERT INTO job_keys AS k (job_id, kind, key, store_id, example, times)
    SELECT :job_id, u.kind, u.key, :store_id, u.example, u.times
    FROM unnest(CAST(:kinds AS text[]), CAST(:keys AS text[]), CAST(:examples AS text[]), CAST(:times AS integer[]))
        AS u (kind, key, example, times)
    ORDER BY u.kind COLLATE "C", u.key COLLATE "C"
    ON CONFLICT (job_id, kind, key) DO UPDATE
    SET times = k.times + CASE excluded.kind WHEN 'text' THEN 0 ELSE excluded.times END
    """
)
# The keys come in the order of their index, so that nothing has to be sorted or held.
_ALIKE = text(
    f"""
    WITH found AS (
        SELECT split_part(key, ':', 1) AS alike, count(*) AS different, min(example) AS one, max(example) AS other
        FROM job_keys WHERE job_id = :job_id AND kind = :kind GROUP BY 1 HAVING count(*) > 1
    )
    SELECT one, other, CAST(sum(different) OVER () AS bigint) FROM found ORDER BY one LIMIT {MOST_EXAMPLES}
    """
)
_EQUAL = text(
    f"""
    SELECT example, example, CAST(sum(times) OVER () AS bigint) FROM job_keys
    WHERE job_id = :job_id AND kind = :kind AND times > 1 ORDER BY example LIMIT {MOST_EXAMPLES}
    """
)
_GROUPS = text(
    f"""
    WITH found AS (
        SELECT product_id, count(*) AS variants, min(variant_id) AS one FROM variants
        WHERE store_id = :store_id AND deleted_at IS NULL
        GROUP BY product_id HAVING count(*) > {MOST_VARIANTS_PER_GROUP}
    )
    SELECT one, CAST(variants AS text), count(*) OVER () FROM found ORDER BY one LIMIT {MOST_EXAMPLES}
    """
)
_KNOWN = text(
    """
    SELECT kind, key, example FROM job_keys
    WHERE job_id = :job_id AND kind = ANY(CAST(:kinds AS text[])) AND key = ANY(CAST(:keys AS text[]))
    """
)


@dataclass(frozen=True, slots=True)
class Alike:
    """Items that are alike: how many in all, and a few of them with what each is like."""

    count: int
    examples: tuple[tuple[str, str], ...]
    """A variant, and another one (of a group: how many variants it has)."""


async def keep_keys(connection: AsyncConnection, job_id: str, store_id: str, keys: Sequence[PageKey]) -> None:
    """Keep the keys of a page, each given once."""
    if not keys:
        return
    await connection.execute(
        _KEEP,
        {
            "job_id": job_id,
            "store_id": store_id,
            "kinds": [one.kind for one in keys],
            "keys": [one.key for one in keys],
            "examples": [one.example for one in keys],
            "times": [one.times for one in keys],
        },
    )


async def alike_texts(connection: AsyncConnection, job_id: str) -> Alike:
    """Products that share title and description with another one."""
    return _alike((await connection.execute(_ALIKE, {"job_id": job_id, "kind": KeyKind.TEXT})).all())


async def alike_ids(connection: AsyncConnection, job_id: str) -> Alike:
    """Ids that differ from another one by case only."""
    return _alike((await connection.execute(_ALIKE, {"job_id": job_id, "kind": KeyKind.SENDABLE})).all())


async def equal_ids(connection: AsyncConnection, job_id: str) -> Alike:
    """Variants that would be sent under one and the same id."""
    return _alike((await connection.execute(_EQUAL, {"job_id": job_id, "kind": KeyKind.SENDABLE})).all())


async def large_groups(connection: AsyncConnection, store_id: str) -> Alike:
    """Products with more variants than Meta likes."""
    return _alike((await connection.execute(_GROUPS, {"store_id": store_id})).all())


async def known_ids(
    connection: AsyncConnection, job_id: str, retailer_ids: Sequence[str]
) -> dict[str, tuple[str, str]]:
    """Of ids at Meta those that the store knows: by the id what it stands for, and the variant."""
    by_key = {id_key(one): one for one in retailer_ids}
    await expect_lookups(connection)
    given = {"job_id": job_id, "kinds": list(ID_KINDS), "keys": sorted(by_key)}
    found: dict[str, tuple[str, str]] = {}
    for kind, key, variant_id in await connection.execute(_KNOWN, given):
        known = found.get(by_key[key])
        # Of several the one that would be sent: it is what happens to the item.
        if known is None or ID_KINDS.index(kind) < ID_KINDS.index(known[0]):
            found[by_key[key]] = kind, variant_id
    return found


def _alike(rows: Sequence[Row[Any]]) -> Alike:
    found: list[tuple[str, str, int]] = [tuple(row) for row in rows]
    return Alike(found[0][2] if found else 0, tuple((one, other) for one, other, _ in found))
