"""The migrations build exactly the schema of the code, and no process works on another one."""

from __future__ import annotations

import asyncio

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from meta_sync.cli.embedded_postgres import EmbeddedPostgres
from meta_sync.core.db import Database
from meta_sync.core.errors import StartError
from meta_sync.core.migrations import migrations_directory, require_current_schema, upgrade
from tests.support.postgres import fresh_database


def _config(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations_directory()))
    config.attributes["url"] = url
    return config


def test_migrations_equal_the_tables_in_code(database_url: str) -> None:
    command.check(_config(database_url))


def test_down_and_up_again(postgres_server: EmbeddedPostgres) -> None:
    with fresh_database(postgres_server) as url:
        command.downgrade(_config(url), "base")
        command.upgrade(_config(url), "head")
        command.check(_config(url))


async def test_a_migration_that_was_broken_off_is_run_again(
    postgres_server: EmbeddedPostgres,
) -> None:
    with fresh_database(postgres_server) as url:
        await asyncio.to_thread(command.downgrade, _config(url), "0004")
        name = url.split("/")[3].split("?", maxsplit=1)[0]
        # An index that was built in part stays behind under its name.
        postgres_server.psql(name, "CREATE INDEX sync_state_code_idx ON sync_state (status)")
        await upgrade(url)
        await asyncio.to_thread(command.check, _config(url))


async def test_upgrade_twice_changes_nothing(database_url: str, database: Database) -> None:
    await upgrade(database_url)
    await require_current_schema(database.app)


async def test_older_schema_is_refused_with_a_sentence(
    database_url: str, postgres_server: EmbeddedPostgres, database: Database
) -> None:
    postgres_server.psql(
        database_url.split("/")[3].split("?", maxsplit=1)[0],
        "UPDATE alembic_version SET version_num = '0001'",
    )
    with pytest.raises(StartError, match=r"is older .* Run: meta-sync migrate"):
        await require_current_schema(database.app)


async def test_newer_schema_is_refused_with_a_sentence(
    database_url: str, postgres_server: EmbeddedPostgres, database: Database
) -> None:
    postgres_server.psql(
        database_url.split("/")[3].split("?", maxsplit=1)[0],
        "UPDATE alembic_version SET version_num = '9999'",
    )
    with pytest.raises(StartError, match="is newer"):
        await require_current_schema(database.app)


async def test_empty_database_is_refused_with_a_sentence(postgres_server: EmbeddedPostgres) -> None:
    database = Database.connect(postgres_server.url("postgres"))
    with pytest.raises(StartError, match="no meta-sync schema"):
        await require_current_schema(database.worker)
    await database.dispose()


async def test_app_role_without_a_store_is_an_error(database: Database) -> None:
    async with database.app.connect() as connection:
        with pytest.raises(DBAPIError, match=r"meta_sync\.store_id is not set"):
            await connection.execute(text("SELECT * FROM products"))


async def test_app_role_sees_its_own_store_only(database: Database) -> None:
    async with database.platform() as connection:
        for store in ("a", "b"):
            await connection.execute(
                text("INSERT INTO stores (store_id, public_id, name) VALUES (:s, :s, :s)"), {"s": store}
            )
    async with database.store("a") as connection:
        assert (await connection.execute(text("SELECT store_id FROM stores"))).scalars().all() == ["a"]
        with pytest.raises(DBAPIError, match="row-level security"):
            await connection.execute(
                text("INSERT INTO intents (store_id, variant_id, version, lane) VALUES ('b', 'v', 1, 0)")
            )
