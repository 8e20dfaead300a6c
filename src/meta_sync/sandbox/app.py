"""The sandbox as an ASGI application: the control surface, and Graph for every other path.

It needs no lifespan and starts no task: whatever takes time is worked out when somebody looks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from meta_sync.core.clock import Clock, utc_now
from meta_sync.sandbox.control import control_routes
from meta_sync.sandbox.dispatch import answer_call
from meta_sync.sandbox.edge import ConnectionLost, GraphResponse, read_call
from meta_sync.sandbox.options import SandboxOptions
from meta_sync.sandbox.routes.batch import answer_batch
from meta_sync.sandbox.state import SandboxState
from meta_sync.sandbox.wire import Delivery

__all__ = ["create_app"]


class _SandboxApp(Starlette):
    """Starlette, but the server's own send function stays within reach, to cut a connection through it."""

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["sandbox.send"] = send
        await super().__call__(scope, receive, send)


def create_app(
    options: SandboxOptions | None = None,
    *,
    clock: Clock = utc_now,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    connection_lost: ConnectionLost | None = None,
) -> Starlette:
    """Build a sandbox. Its memory is ``app.state.sandbox``, a :class:`SandboxState`.

    Parameters
    ----------
    options
        How it behaves; the defaults make a clean, empty one.
    clock
        Its idea of now; batches, budgets and tokens follow it.
    sleep
        Waits before slow answers.
    connection_lost
        Makes the exception raised for a lost answer when the app runs in process, from ``"close"``, ``"timeout"``
        or ``"half"``. Callers through httpx pass one that makes ``httpx.TransportError``s, since this package must
        not know httpx. Without it: ``TimeoutError`` and ``ConnectionResetError``.
    """
    state = SandboxState(options, clock=clock)
    lost = connection_lost or _connection_lost

    async def graph(request: Request) -> Response:
        call = await read_call(request)
        if call.method == "POST" and not call.segments:
            answer = answer_batch(state, call)
        else:
            answer = answer_call(state, call)
        return GraphResponse(answer, call, sleep=sleep, connection_lost=lost)

    app = _SandboxApp(
        routes=[
            *control_routes(state),
            Route("/{path:path}", graph, methods=["GET", "POST", "DELETE", "PUT", "PATCH"]),
        ]
    )
    app.state.sandbox = state
    return app


def _connection_lost(delivery: Delivery) -> Exception:
    if delivery == "timeout":
        return TimeoutError("The sandbox gave no answer")
    return ConnectionResetError("The sandbox closed the connection")
