"""What lists of items are counted and paged by, where more than one condition leaves many.

Goes out before the code that needs it.
"""

from __future__ import annotations

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
