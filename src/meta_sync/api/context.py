"""What a route is given: who calls, for which store, and the factory of services."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import structlog
from fastapi import Depends
from starlette.requests import Request

from meta_sync.access.models import Principal
from meta_sync.core.config import Settings
from meta_sync.core.paging import CursorCodec
from meta_sync.factory import Factory, ProcessContext
from meta_sync.stores.audit import Actor

__all__ = ["Context", "RequestContext"]


@dataclass(frozen=True, slots=True)
class RequestContext:
    """One request's surroundings."""

    settings: Settings
    process: ProcessContext
    factory: Factory
    cursors: CursorCodec
    logger: structlog.stdlib.BoundLogger
    request_id: str
    caller: Principal | None
    """``None`` on open routes."""
    store: str | None

    @property
    def principal(self) -> Principal:
        """Who calls; for routes that are not open."""
        assert self.caller is not None
        return self.caller

    @property
    def actor(self) -> Actor:
        """Who calls, as the audit log and whatever is asked for name it."""
        return Actor(self.principal.key_id, self.request_id)

    @property
    def store_id(self) -> str:
        """The store acted on; for routes of a store."""
        assert self.store is not None
        return self.store


def _request_context(request: Request) -> RequestContext:
    context: RequestContext = request.state.context
    return context


Context = Annotated[RequestContext, Depends(_request_context)]
"""Parameter type of routes."""
