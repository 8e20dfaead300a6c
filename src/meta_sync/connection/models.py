"""Links and tokens as plain values, and what the pipeline hooks into a selection."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol
from urllib.parse import urlsplit

from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = [
    "ActiveLink",
    "KnownLink",
    "LinkListener",
    "SelectResult",
    "StoredCredential",
    "TokenKind",
    "TokenVerdict",
    "graph_host",
]

TokenKind = Literal["user", "system_user"]
"""A person's token, or that of a System User."""


@dataclass(frozen=True, slots=True)
class ActiveLink:
    """A store's use of one Meta catalog.

    Attributes
    ----------
    graph_host
        Host of the Graph API the catalog lives at; ids of a sandbox mean nothing at Meta.
    system_user_id
        The System User the token belongs to; ``None`` for a person's token.
    epoch
        Raised when the store comes back to the catalog: what was confirmed under an older one counts as unknown.
    was_empty
        Whether the catalog held no item when it was selected. If not, any item may hold fields that we never sent.
    vertical, product_count, checked_at
        What Meta said of the catalog, and when.
    first_run_approved_at
        Since when items may be sent into the catalog; ``None`` while a catalog that was not empty waits for a person.
    removal_job_id
        The job that takes everything off Meta that was sent; ``None``: nobody asked for that.
    """

    link_id: int
    store_id: str
    graph_host: str
    catalog_id: str
    catalog_name: str | None
    business_id: str | None
    business_name: str | None
    system_user_id: str | None
    token_kind: TokenKind
    credential_id: str
    epoch: int
    was_empty: bool
    vertical: str | None = None
    product_count: int | None = None
    checked_at: datetime | None = None
    first_run_approved_at: datetime | None = None
    removal_job_id: str | None = None


@dataclass(frozen=True, slots=True)
class KnownLink:
    """Whether a catalog that the store used at any time is in use now, and whether its first run was approved."""

    active: bool
    is_approved: bool


@dataclass(frozen=True, slots=True)
class StoredCredential:
    """A token with what is known of it.

    Attributes
    ----------
    expires_at
        ``None``: it does not expire, as far as Meta said.
    is_active
        Whether it is the one the store uses now. Older ones serve what was begun with them.
    dead_at
        When Meta said that this very token is no longer accepted.
    """

    credential_id: str
    store_id: str
    access_token: SecretStr
    app_id: str | None
    token_kind: TokenKind
    account_id: str | None
    account_name: str | None
    scopes: tuple[str, ...]
    expires_at: datetime | None
    is_active: bool
    dead_at: datetime | None
    dead_code: int | None
    dead_subcode: int | None
    dead_reason: str | None
    created_at: datetime
    checked_at: datetime | None

    @property
    def system_user_id(self) -> str | None:
        """The System User it belongs to; ``None`` for a person's token."""
        return self.account_id if self.token_kind == "system_user" else None  # noqa: S105 - a kind, no token


@dataclass(frozen=True, slots=True)
class TokenVerdict:
    """What Meta said of a token that will do."""

    token_kind: TokenKind
    account_id: str | None
    account_name: str | None
    scopes: tuple[str, ...]
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class SelectResult:
    """What selecting a catalog came to, or would come to.

    ``job_id`` is the first sync it started, if it did. ``waits_for_approval``: nothing is sent until a person has
    approved the first run, because the catalog has items already.
    """

    system_user_id: str | None
    catalog_id: str
    token_kind: TokenKind
    job_id: str | None
    waits_for_approval: bool = False


class LinkListener(Protocol):
    """Acts on the selection of a catalog within its transaction."""

    async def link_selected(
        self, connection: AsyncConnection, link: ActiveLink, *, returning: bool
    ) -> str | None:
        """Called after the link became the active one and before that is committed.

        Parameters
        ----------
        connection
            The transaction of the selection; the store's row is locked in it.
        link
            The link that is active now.
        returning
            Whether the store used this catalog before; its epoch was raised then.

        Returns
        -------
        str or None
            The id of the job that was started for it.
        """
        ...


def graph_host(graph_url: str) -> str:
    """The host (and port, where one is named) of an address of the Graph API."""
    return urlsplit(graph_url).netloc.lower()
