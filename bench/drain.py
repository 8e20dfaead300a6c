"""S: the service's own pipeline, driven tick by tick as a worker drives it, without pauses between the ticks."""

from __future__ import annotations

from bench.program import Place, Work, serve
from meta_sync.core.config import load_settings
from meta_sync.core.logging import configure_logging
from meta_sync.factory import Factory, ProcessContext
from meta_sync.sync.drain import Timing

_EMPTY_TICKS = 3
"""A turn may find that something moved; the end is reached when nothing was due this often."""


async def open_works(place: Place) -> dict[str, Work]:
    configure_logging("WARNING", "json")
    settings = load_settings(
        {},
        env_file=None,
        database_url=place.database_url,
        encryption_keys=place.encryption_key,
        graph_url=f"http://127.0.0.1:{place.sink_port}",
        app_id="1",
        app_secret="secret-of-the-benchmark",
    )
    context = await ProcessContext.open(settings)
    # Handles are asked about as soon as the poll is run: waiting for Meta is not what is measured.
    pipeline = Factory(context).pipeline(timing=Timing(first_poll_seconds=0.0))

    async def drain() -> None:
        """From intents to submitted batches."""
        empty = 0
        while empty < _EMPTY_TICKS:
            empty = 0 if await pipeline.drain_tick() else empty + 1

    async def settle() -> None:
        """From submitted batches to settled items."""
        while await pipeline.poll_tick():
            pass

    return {"drain": drain, "settle": settle}


if __name__ == "__main__":
    serve(open_works)
