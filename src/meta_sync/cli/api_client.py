"""The public API as the demo calls it: like any other client, over HTTP with a key. Not for use inside the service."""

from __future__ import annotations

import asyncio
import http.client
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

import orjson

from meta_sync.core.errors import ServiceError

__all__ = ["ApiClient"]

_TIMEOUT_SECONDS = 30.0


class ApiClient:
    """One API with one key.

    Parameters
    ----------
    url
        ``http://host:port``.
    api_key
        ``None`` for endpoints that take none.
    """

    def __init__(self, url: str, api_key: str | None) -> None:
        self._host = urlsplit(url).netloc
        self._headers = {"Content-Type": "application/json"}
        if api_key is not None:
            self._headers["Authorization"] = f"Bearer {api_key}"

    async def get(self, path: str, query: Mapping[str, object] | None = None) -> Any:
        """The whole body of an answer."""
        return await asyncio.to_thread(
            self._call, "GET", f"{path}?{urlencode(query)}" if query else path, None
        )

    async def post(self, path: str, body: object) -> Any:
        """The whole body of an answer."""
        return await asyncio.to_thread(self._call, "POST", path, body)

    def _call(self, method: str, path: str, body: object | None) -> Any:
        connection = http.client.HTTPConnection(self._host, timeout=_TIMEOUT_SECONDS)
        try:
            connection.request(method, path, None if body is None else orjson.dumps(body), self._headers)
            response = connection.getresponse()
            answer = orjson.loads(response.read())
        finally:
            connection.close()
        if response.status >= 400:
            raise ServiceError(f"{method} {path.partition('?')[0]}: {answer.get('message', response.status)}")
        return answer
