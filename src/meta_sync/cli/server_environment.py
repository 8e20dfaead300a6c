"""What the embedded servers are told of our environment: nothing that is ours, and nothing that moves them elsewhere."""

from __future__ import annotations

import os

from meta_sync.core.config import ENVIRONMENT_PREFIX

__all__ = ["server_environment"]


def server_environment() -> dict[str, str]:
    """The environment without our settings, which hold keys, and without what PostgreSQL takes its port and files from.

    The servers may run under another account, and whoever can read that account's processes reads their environment.
    """
    return {
        name: value for name, value in os.environ.items() if not name.startswith((ENVIRONMENT_PREFIX, "PG"))
    }
