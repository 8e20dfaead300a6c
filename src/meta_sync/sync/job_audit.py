"""What the audit log is told of jobs: one entry for each, however many items it is about."""

from __future__ import annotations

from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.stores.audit import AuditAction, AuditTarget, first_ids, record_action
from meta_sync.sync.job_models import JobOrder, JobScope, OrderedJob, ScopeKind

__all__ = ["record_cancel", "record_start"]


async def record_start(
    connection: AsyncConnection, store_id: str, order: JobOrder, ordered: OrderedJob
) -> None:
    """Record that somebody started a job; what the service starts by itself has its reason elsewhere."""
    if order.requested_by is None:
        return
    await record_action(
        connection,
        store_id,
        actor=order.requested_by,
        action=AuditAction.JOB_STARTED,
        target_type=AuditTarget.JOB,
        target_id=ordered.started.job_id,
        after={
            "type": order.type,
            "action": order.action.value,
            "dryRun": order.dry_run,
            "items": ordered.started.total,
            "notFound": len(ordered.not_found),
            "scope": _scope(order.scope),
            "description": order.description,
        },
    )


async def record_cancel(
    connection: AsyncConnection, store_id: str, job_id: str, actor: str | None, *, is_import: bool
) -> None:
    """Record that somebody called a job or an import off."""
    if actor is None:
        return
    await record_action(
        connection,
        store_id,
        actor=actor,
        action=AuditAction.JOB_CANCELLED,
        target_type=AuditTarget.IMPORT if is_import else AuditTarget.JOB,
        target_id=job_id,
        after={"status": "cancelled" if is_import else "cancelling"},
    )


def _scope(scope: JobScope) -> dict[str, Any]:
    if scope.kind in {ScopeKind.VARIANTS, ScopeKind.PRODUCTS}:
        return {"kind": scope.kind.value, "count": len(scope.ids), "firstIds": first_ids(scope.ids)}
    return {"kind": scope.kind.value, **({} if scope.kind is ScopeKind.ALL else scope.stored())}
