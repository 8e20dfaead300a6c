"""Upgrading the schema, and refusing to work on one that is older or newer than the code."""

from __future__ import annotations

import asyncio
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

import meta_sync
from meta_sync.core.db import Database, DatabaseRole
from meta_sync.core.errors import StartError

__all__ = ["expected_revision", "migrations_directory", "require_current_schema", "require_ready", "upgrade"]


def migrations_directory() -> Path:
    """Where the migrations are: in the package when it was installed, else at the top of the checkout."""
    package = Path(meta_sync.__file__).parent
    packed = package / "_migrations"
    return packed if packed.is_dir() else package.parents[1] / "migrations"


def _config(url: str | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations_directory()).replace("%", "%%"))
    if url is not None:
        config.attributes["url"] = url
    return config


def expected_revision() -> str:
    """The revision this code was written for."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None
    return head


async def upgrade(url: str) -> None:
    """Bring the database to the newest schema, as its owner.

    Raises
    ------
    StartError
        The database cannot be reached or the login may not change it.
    """
    try:
        await asyncio.to_thread(command.upgrade, _config(url), "head")
    except (OSError, SQLAlchemyError) as error:
        raise StartError(f"The database could not be migrated: {_reason(error)}") from error


async def require_current_schema(engine: AsyncEngine) -> None:
    """Refuse a schema that is not the one this code was written for.

    Raises
    ------
    StartError
        The schema is older or newer, missing, or the database cannot be reached.
    """
    expected = expected_revision()
    try:
        async with engine.connect() as connection:
            found = (
                await connection.execute(text("SELECT version_num FROM alembic_version"))
            ).scalar_one_or_none()
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) in {"42P01", "42501", "22023"}:
            found = None
        else:
            raise StartError(f"The database cannot be reached: {_reason(error)}") from error
    except (OSError, SQLAlchemyError) as error:
        raise StartError(f"The database cannot be reached: {_reason(error)}") from error
    if found is None:
        raise StartError("The database has no meta-sync schema yet. Run: meta-sync migrate")
    if found != expected:
        known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
        if found in known:
            raise StartError(
                f"The database schema is older ({found}) than this version needs ({expected}). Run: meta-sync migrate"
            )
        raise StartError(
            f"The database schema ({found}) is newer than this version knows ({expected}). Deploy a newer meta-sync."
        )


async def require_ready(database: Database) -> None:
    """Refuse a database that is not ours to work on: another schema, or connections that act as somebody else.

    A pooler may drop the parameter by which a connection takes its role. It would then act as the owner, whom no
    row-level policy holds, and one store could see another.

    Raises
    ------
    StartError
        The schema is not the one this code was written for, or a pool does not act in its role.
    """
    await require_current_schema(database.worker)
    for engine, role in ((database.app, DatabaseRole.APP), (database.worker, DatabaseRole.WORKER)):
        try:
            async with engine.connect() as connection:
                acting = (await connection.execute(text("SELECT current_user"))).scalar_one()
        except (OSError, SQLAlchemyError) as error:
            raise StartError(f"The database cannot be reached: {_reason(error)}") from error
        if acting != role.value:
            raise StartError(
                f"The database lets connections act as {acting} where they asked to be {role.value}. A connection pooler "
                "that drops the start-up parameter role does that; connect to PostgreSQL directly, or let it pass."
            )


def _reason(error: BaseException) -> str:
    origin = getattr(error, "orig", None) or error
    return str(origin).splitlines()[0] if str(origin) else type(origin).__name__
