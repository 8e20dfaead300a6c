"""What a pre-flight look needs of its store, read anew for every page, and what it does where it cannot go on."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.connection.models import ActiveLink
from meta_sync.connection.repository import active_link
from meta_sync.stores.repository import load_settings
from meta_sync.sync.codes import JobCode, entry_of
from meta_sync.sync.context import mapping_settings
from meta_sync.sync.item_queries import NO_LINK
from meta_sync.sync.mapping import Mapper
from meta_sync.sync.mapping_settings import MappingSettings
from meta_sync.sync.models import Link
from meta_sync.sync.read_jobs import ReadJob, finish, give_back

__all__ = ["PreflightStore", "catalog_changed", "said", "stand_still"]

_LOOK_AGAIN_SECONDS = 10.0
"""Until a store whose settings are not complete is looked at again."""


class PreflightStore:
    """What is needed of a store to map its items."""

    __slots__ = ("currency", "link", "mapper", "store_id")

    def __init__(self, store_id: str, link: ActiveLink | None, settings: MappingSettings) -> None:
        self.store_id = store_id
        self.link = link
        self.currency = settings.currency
        self.mapper = Mapper(settings)

    @property
    def link_id(self) -> int:
        """The link's number, or one that no link has."""
        return NO_LINK if self.link is None else self.link.link_id

    @property
    def state_link(self) -> Link | None:
        """The link as decisions see it."""
        link = self.link
        return None if link is None else Link(link.link_id, link.epoch, link.was_empty)

    @classmethod
    async def read(cls, connection: AsyncConnection, job: ReadJob) -> PreflightStore | str:
        """The store, or the code of why nothing can be said of it."""
        settings, _ = await load_settings(connection, job.store_id)
        link = await active_link(connection, job.store_id)
        if (None if link is None else link.link_id) != job.link_id:
            return JobCode.CATALOG_CHANGED
        mapping = mapping_settings(settings, None if link is None else link.business_name)
        return "config_incomplete" if mapping is None else cls(job.store_id, link, mapping)


async def stand_still(connection: AsyncConnection, job: ReadJob, why: str) -> None:
    """Leave the job until the store can be looked at; end it where its catalog is no longer the store's."""
    if why == JobCode.CATALOG_CHANGED:
        await catalog_changed(connection, job)
    else:
        await give_back(connection, job, in_seconds=_LOOK_AGAIN_SECONDS, message=said(why))


async def catalog_changed(connection: AsyncConnection, job: ReadJob) -> None:
    """End the job, because what it says would be about another catalog."""
    await finish(connection, job, status="cancelled", error_code=JobCode.CATALOG_CHANGED)


def said(code: str) -> str:
    """What is the matter, and what to do, as a job's message."""
    entry = entry_of(code)
    return f"{entry.sentence} {entry.action}"
