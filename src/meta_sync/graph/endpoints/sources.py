"""Who else writes a Meta catalog: its data sources. What that means for a store is decided elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from meta_sync.graph.auth import GraphCredential
from meta_sync.graph.client import GraphClient
from meta_sync.graph.outcomes import unreadable
from meta_sync.graph.tolerant import identifier, items, mapping, text
from meta_sync.graph.usage import Usage, merge_usage
from meta_sync.graph.wire import Answered, next_cursor

__all__ = ["DataSource", "SourcesEndpoints"]

_FIELDS = "id,name,upload_type,ingestion_source_type,app_id"
_MOST_PAGES = 10
"""A catalog has a few sources. More pages than this are a cursor that goes round."""
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class DataSource:
    """Something that writes items into a catalog; absent facts are ``None``.

    Attributes
    ----------
    upload_type
        Meta's word for how its items come, such as a schedule or an upload by hand (no list is documented).
    ingestion_source_type
        ``PRIMARY`` creates and replaces items; ``SUPPLEMENTARY`` and ``SUPPLEMENTAL`` only fill fields of others.
    """

    id: str
    name: str | None = None
    upload_type: str | None = None
    ingestion_source_type: str | None = None
    app_id: str | None = None


class SourcesEndpoints:
    """Reads about data sources. They raise ``GraphError`` when they fail."""

    def __init__(self, client: GraphClient) -> None:
        self._client = client

    async def list_sources(
        self, credential: GraphCredential, catalog_id: str
    ) -> Answered[tuple[DataSource, ...]]:
        """Every data source of the catalog, feeds above all. Items sent through the API have none.

        Raises
        ------
        GraphError
            The question failed, or the answer holds no list.
        """
        usage = Usage()
        found: dict[str, DataSource] = {}
        params = {"fields": _FIELDS}
        for _ in range(_MOST_PAGES):
            answer = await self._client.read(credential, catalog_id, "data_sources", params=params)
            if answer.error is not None:
                raise answer.error
            usage = merge_usage(usage, answer.usage)
            body = mapping(answer.value)
            if not isinstance(body.get("data"), list):
                raise unreadable(answer, "Meta's answer holds no list of data sources.")
            for one in map(_source, items(body["data"])):
                if one is not None:
                    found[one.id] = one
            _, after = next_cursor(body)
            if after is None:
                break
            params = {**params, "after": after}
        return Answered(tuple(found.values()), usage)


def _source(value: Any) -> DataSource | None:
    node = mapping(value)
    source_id = identifier(node.get("id"))
    if not source_id:
        return None
    return DataSource(
        source_id,
        text(node.get("name"), _LONGEST_NAME),
        text(node.get("upload_type"), _LONGEST_NAME),
        text(node.get("ingestion_source_type"), _LONGEST_NAME),
        identifier(node.get("app_id")),
    )
