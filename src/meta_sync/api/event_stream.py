"""Server-sent events that follow one object until it is over. Holds nothing between two looks but what it said last."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Header, Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from meta_sync.api.documentation import errors
from meta_sync.api.etags import digest_of
from meta_sync.core.errors import RateLimitedError
from meta_sync.core.outages import is_outage

__all__ = [
    "MOST_STREAMS",
    "EventStreamResponse",
    "LastEventId",
    "OpenStreams",
    "Seen",
    "StreamTimes",
    "documented_stream",
    "follow",
    "stream",
]

LastEventId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        description="The `id` of the last event that came: its state is not told again, unless it is the last.",
    ),
]

MOST_STREAMS = 20
"""Of one store in one process. Each asks the database every other second."""
_RETRY_AFTER_SECONDS = 30


class OpenStreams:
    """Counts the streams of each store. One per process."""

    def __init__(self, most_per_store: int = MOST_STREAMS) -> None:
        self._most_per_store = most_per_store
        self._open: Counter[str] = Counter()

    def open_of(self, store_id: str) -> int:
        """How many streams a store has."""
        return self._open[store_id]

    @contextmanager
    def place(self, store_id: str) -> Iterator[None]:
        """One more stream of a store while this is entered.

        Raises
        ------
        RateLimitedError
            The store has as many as it may have.
        """
        if self._open[store_id] >= self._most_per_store:
            raise RateLimitedError(
                f"The store follows {self._most_per_store} jobs and imports at once already, which is the most. Close one of "
                "these streams, or ask for the job itself now and then.",
                retry_after_seconds=_RETRY_AFTER_SECONDS,
            )
        self._open[store_id] += 1
        try:
            yield
        finally:
            self._open[store_id] -= 1
            if not self._open[store_id]:
                del self._open[store_id]


class EventStreamResponse(StreamingResponse):
    """An answer in ``text/event-stream``, kept from being buffered on its way. Takes its place when it begins.

    Raises
    ------
    RateLimitedError
        When it begins: there is no place.
    """

    media_type = "text/event-stream"

    def __init__(self, content: AsyncIterator[bytes], *, place: AbstractContextManager[None]) -> None:
        super().__init__(content, headers={"X-Accel-Buffering": "no"})
        self._place = place

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Not in the route: an answer that is never begun would keep its place for ever.
        with self._place:
            await super().__call__(scope, receive, send)


@dataclass(frozen=True, slots=True)
class StreamTimes:
    """The rhythm of a stream, in seconds."""

    look: float = 1.0
    """Between two looks at an object that moves; each takes a connection for some milliseconds."""
    idle_look: float = 2.0
    """Between two looks at one that did not move."""
    comment: float = 15.0
    """Proxies end connections on which nothing is said."""
    life: float = 600.0
    """A client that is gone unnoticed, or whose key was ended, follows no longer than this."""


_TIMES = StreamTimes()


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look at an object showed.

    Attributes
    ----------
    content
        One line of JSON.
    state
        What of it has to differ for the object to have moved; all of it when absent.
    """

    content: bytes
    is_over: bool
    state: bytes | None = None


async def follow(
    look: Callable[[], Awaitable[Seen]],
    *,
    last_event_id: str | None = None,
    times: StreamTimes | None = None,
) -> AsyncIterator[bytes]:
    """Events of an object: ``progress`` for each state that differs from the one before, ``done`` for the last.

    The id of an event is a digest of the state it tells, so that any process can resume for any other.

    Parameters
    ----------
    look
        The object now. It is asked again after an outage.
    last_event_id
        What the client has: that state is not told again, unless it is the last.
    """
    times = times or _TIMES
    clock = asyncio.get_running_loop().time
    ends = clock() + times.life
    said, said_at = last_event_id, clock()
    yield b"retry: 1000\n\n"
    while True:
        try:
            seen = await look()
        except Exception as error:
            if not is_outage(error):
                raise
            seen = Seen(b"", is_over=False)
        state = digest_of(seen.content if seen.state is None else seen.state)
        moved = bool(seen.content) and state != said
        if moved or seen.is_over:
            yield _event("done" if seen.is_over else "progress", state, seen.content)
            said, said_at = state, clock()
        if seen.is_over or clock() >= ends:
            return
        if clock() - said_at >= times.comment:
            yield b": still here\n\n"
            said_at = clock()
        await asyncio.sleep(times.look if moved else times.idle_look)


def _event(name: str, state: str, content: bytes) -> bytes:
    return b"event: %s\nid: %s\ndata: %s\n\n" % (name.encode(), state.encode(), content)


def documented_stream(what: str) -> dict[str, Any]:
    """What a route that streams says of itself in the document; ``what`` is followed, such as ``the job``."""
    return {
        "description": (
            f"Server-sent events: `progress` with {what} whenever it moved, `done` with it once it is over. `Last-Event-ID`"
            " resumes without repeating what is known. A stream lives for ten minutes at most; then connect again. A store"
            f" has {MOST_STREAMS} of them at once."
        ),
        "response_class": EventStreamResponse,
        "status_code": 200,
        "responses": {
            200: {
                "content": {"text/event-stream": {"schema": {"type": "string"}}},
                "description": "The events.",
            },
            **errors("RATE_LIMITED"),
        },
    }


def stream(
    request: Request,
    store_id: str,
    look: Callable[[], Awaitable[Seen]],
    last_event_id: str | None,
) -> EventStreamResponse:
    """Follow what ``look`` shows, in a place of the store's own."""
    places: OpenStreams = request.app.state.streams
    return EventStreamResponse(follow(look, last_event_id=last_event_id), place=places.place(store_id))
