"""Every table of the database in one metadata. For Alembic, the schema check and tests only."""

from __future__ import annotations

import meta_sync.access.tables
import meta_sync.catalog.tables
import meta_sync.connection.tables
import meta_sync.stores.tables
import meta_sync.sync.activity_tables
import meta_sync.sync.control_tables
import meta_sync.sync.job_tables
import meta_sync.sync.tables  # noqa: F401 - imported for the tables they define
from meta_sync.core.db import metadata

__all__ = ["metadata"]
