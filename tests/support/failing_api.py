"""The API over a PostgreSQL that fails: how it is called, and what its refusals have in common."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx

from tests.support.api import Api, Caller, assert_error, product_body
from tests.support.database_faults import OwnPostgres
from tests.support.serving import serving

__all__ = [
    "PRODUCT",
    "break_products",
    "mend_products",
    "other_session",
    "put",
    "refused",
    "served",
    "title",
    "waiting_for_locks",
]

PRODUCT = "/catalog/products/p"


@asynccontextmanager
async def served(api: Api) -> AsyncIterator[Caller]:
    """A caller of the world's store over real sockets."""
    known = await api.caller()
    async with serving(api.app) as address, httpx.AsyncClient(base_url=address, timeout=20) as http:
        yield Caller(http, known.headers)


@asynccontextmanager
async def other_session(server: OwnPostgres) -> AsyncIterator[asyncpg.Connection]:
    """Another session of the server, which stands in the way."""
    connection = await asyncpg.connect(
        host=str(server.server.socket_directory), user="postgres", database=server.name, ssl=False
    )
    yield connection
    await connection.close(timeout=5)


def waiting_for_locks(server: OwnPostgres) -> int:
    """How many sessions wait for a lock."""
    return int(
        server.sql(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
    )


def refused(response: httpx.Response) -> dict[str, Any]:
    """The error of a 503 as it must be: when to come back, and nothing of our insides."""
    body = assert_error(response, 503, "SERVICE_UNAVAILABLE")
    assert 0 < int(response.headers["retry-after"]) <= 10
    assert "try again" in body["message"]
    for inside in ("asyncpg", "postgres", "SELECT", "UPDATE", "127.0.0.1", "sqlalchemy"):
        assert inside not in response.text
    return body


async def put(store: Caller, title: str = "T-shirt") -> httpx.Response:
    return await store("PUT", PRODUCT, json=product_body(title=title))


async def title(store: Caller) -> str:
    return str((await store.data("GET", PRODUCT))["title"])


def break_products(server: OwnPostgres, body: str) -> None:
    server.sql(
        f"CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body}; RETURN NEW; END $$"
    )
    server.sql("CREATE TRIGGER broken BEFORE INSERT OR UPDATE ON products EXECUTE FUNCTION broken()")


def mend_products(server: OwnPostgres) -> None:
    server.sql("DROP TRIGGER broken ON products")
