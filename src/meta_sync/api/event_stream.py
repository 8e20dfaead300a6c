"""Server-sent events that follow one object until it is over. Holds nothing between two looks but what it said last."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from starlette.responses import StreamingResponse

from meta_sync.api.etags import digest_of
from meta_sync.core.outages import is_outage

__all__ = ["EventStreamResponse", "StreamTimes", "follow"]


class EventStreamResponse(StreamingResponse):
    """An answer in ``text/event-stream``, kept from being buffered on its way."""

    media_type = "text/event-stream"

    def __init__(self, content: AsyncIterator[bytes]) -> None:
        super().__init__(content, headers={"X-Accel-Buffering": "no"})


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


async def follow(
    look: Callable[[], Awaitable[tuple[bytes, bool]]],
    *,
    last_event_id: str | None = None,
    times: StreamTimes | None = None,
) -> AsyncIterator[bytes]:
    """Events of an object: ``progress`` for each state that differs from the one before, ``done`` for the last.

    The id of an event is a digest of the state it tells, so that any process can resume for any other.

    Parameters
    ----------
    look
        The object as one line of JSON now, and whether it is over. It is asked again after an outage.
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
            content, is_over = await look()
        except Exception as error:
            if not is_outage(error):
                raise
            content, is_over = b"", False
        state = digest_of(content)
        moved = bool(content) and state != said
        if moved or is_over:
            yield _event("done" if is_over else "progress", state, content)
            said, said_at = state, clock()
        if is_over or clock() >= ends:
            return
        if clock() - said_at >= times.comment:
            yield b": still here\n\n"
            said_at = clock()
        await asyncio.sleep(times.look if moved else times.idle_look)


def _event(name: str, state: str, content: bytes) -> bytes:
    return b"event: %s\nid: %s\ndata: %s\n\n" % (name.encode(), state.encode(), content)
