"""What a sandbox is started with, and the fixed identities of its demo world.

Nothing here reads the environment: the command line and the tests fill it in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

__all__ = [
    "BATCH_CALLS_PER_HOUR",
    "DEMO_ACCESS_TOKEN",
    "DEMO_APP_ID",
    "DEMO_APP_SECRET",
    "DEMO_BUSINESS_ID",
    "DEMO_CATALOG_ID",
    "DEMO_SYSTEM_USER_ID",
    "MANAGEMENT_CALLS_PER_HOUR",
    "Profile",
    "SandboxOptions",
]

DEMO_APP_ID = "138483919580948"
DEMO_APP_SECRET = "sandbox-app-secret"  # noqa: S105 - a made-up secret of a made-up app
DEMO_BUSINESS_ID = "7100195296754001"
DEMO_CATALOG_ID = "7100195296754519"
DEMO_SYSTEM_USER_ID = "122093000000000001"
DEMO_ACCESS_TOKEN = "EAAsandboxDemoSystemUserToken"  # noqa: S105 - opens nothing but the sandbox

BATCH_CALLS_PER_HOUR = 200
"""Documented floor of write calls per app and catalog in a rolling hour (one unique user)."""
MANAGEMENT_CALLS_PER_HOUR = 20_000
"""Documented floor of all other catalog calls per app and catalog in a rolling hour."""

Profile = Literal["clean", "adverse"]


@dataclass(frozen=True, slots=True)
class SandboxOptions:
    """How one sandbox behaves for as long as it lives.

    Attributes
    ----------
    app_id, app_secret
        The Meta app that tokens belong to; the secret signs ``appsecret_proof``.
    require_proof
        The app's "Require App Secret" switch. A proof that is sent is checked either way.
    processing_delay_seconds
        How long an accepted batch takes. Real life: about two minutes.
    profile
        ``clean`` behaves as well as Meta ever does; ``adverse`` overtakes, loses answers, caps lists
        and words things differently, within what is documented or was seen.
    seed
        Of every random choice, so that a run can be repeated.
    calls_per_hour
        Budget of write calls per catalog in a rolling hour; ``None`` is the documented 200. Reads get
        a hundred times as much, as documented.
    error_list_cap
        How many errors and ids a batch report lists at most; totals stay true. ``None``: all.
    demo
        Whether the demo business, catalog and token exist from the start and after a reset.
    """

    app_id: str = DEMO_APP_ID
    app_secret: str = field(default=DEMO_APP_SECRET, repr=False)
    require_proof: bool = False
    processing_delay_seconds: float = 2.0
    profile: Profile = "clean"
    seed: int = 0
    calls_per_hour: int | None = None
    error_list_cap: int | None = None
    demo: bool = False

    @property
    def batch_calls_per_hour(self) -> int:
        """Write calls allowed per catalog in a rolling hour."""
        return BATCH_CALLS_PER_HOUR if self.calls_per_hour is None else self.calls_per_hour

    @property
    def management_calls_per_hour(self) -> int:
        """Other catalog calls allowed per catalog in a rolling hour."""
        if self.calls_per_hour is None:
            return MANAGEMENT_CALLS_PER_HOUR
        return self.calls_per_hour * (MANAGEMENT_CALLS_PER_HOUR // BATCH_CALLS_PER_HOUR)
