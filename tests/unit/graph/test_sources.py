"""Who else writes a catalog, as Meta tells it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from meta_sync.graph.auth import GraphCredential
from meta_sync.graph.client import GraphClient
from meta_sync.graph.endpoints.sources import DataSource, SourcesEndpoints
from meta_sync.graph.errors import UnreadableAnswerError

_CREDENTIAL = GraphCredential(SecretStr("EAABtoken0123456789"), "123", SecretStr("app-secret-0123456789"))


async def _ask(*pages: Any) -> tuple[tuple[DataSource, ...], list[httpx.Request]]:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json=pages[min(len(asked), len(pages)) - 1])

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        client = GraphClient(http, base_url="https://graph.example", version="v25.0")
        read = await SourcesEndpoints(client).list_sources(_CREDENTIAL, "77")
    return read.value, asked


async def test_every_source_of_every_page_once() -> None:
    first = {
        "data": [
            {"id": 1, "name": "Nightly", "upload_type": "SCHEDULED", "ingestion_source_type": "PRIMARY"}
        ],
        "paging": {"cursors": {"after": "c1"}, "next": "https://graph.example/never?access_token=x"},
    }
    second = {"data": [{"id": "1"}, {"id": "2", "app_id": 5}, {"name": "without an id"}, "nonsense"]}
    found, asked = await _ask(first, second)
    assert found == (DataSource("1"), DataSource("2", app_id="5"))
    assert [request.url.params.get("after") for request in asked] == [None, "c1"]
    assert asked[0].url.path == "/v25.0/77/data_sources"
    assert asked[0].url.params["fields"] == "id,name,upload_type,ingestion_source_type,app_id"


async def test_a_catalog_without_sources() -> None:
    assert (await _ask({"data": []}))[0] == ()


async def test_a_cursor_that_goes_round_ends() -> None:
    page = {"data": [{"id": "1"}], "paging": {"cursors": {"after": "c"}, "next": "https://graph.example/x"}}
    found, asked = await _ask(page)
    assert (len(found), len(asked)) == (1, 10)


@pytest.mark.parametrize("body", [{}, {"data": None}, {"data": {}}, []])
async def test_what_is_no_list_is_no_answer(body: Any) -> None:
    with pytest.raises(UnreadableAnswerError):
        await _ask(body)
