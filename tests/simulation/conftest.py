"""A simulation tells its history by itself; the product's log lines about thousands of failures are kept out of the way."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs


@pytest.fixture(autouse=True)
def _no_log_lines() -> Iterator[None]:
    with capture_logs():
        yield
