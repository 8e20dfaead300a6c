"""The app behind real sockets, in the test's own loop, so that a test can look into its pools while it serves."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI

from meta_sync.api.protocol import GuardedProtocol
from meta_sync.cli.serve import _Server

__all__ = ["serving"]


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[str]:
    """The address of the app under uvicorn, with the protocol of production."""
    # asyncio turns Nagle's algorithm off only where the protocol is named; it costs 40 ms per request.
    with socket.socket(proto=socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        config = uvicorn.Config(
            app, http=GuardedProtocol, ws="none", lifespan="off", log_config=None, access_log=False
        )
        server = _Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await asyncio.wait_for(task, 20)
