"""The part of the example shop's life in which what Meta shows is compared with what it confirmed."""

from __future__ import annotations

from meta_sync.sandbox.options import DEMO_CATALOG_ID
from tests.support.api import Api, Caller
from tests.support.examples import Recorder
from tests.support.pipeline import execute

__all__ = ["live_through_reconciliations"]

PATH = "/admin/meta/reconciliations"


async def live_through_reconciliations(to: Recorder, api: Api, shop: Caller) -> None:
    """Somebody changed a title in Commerce Manager; another tool's item stands there, too."""
    await api.world.run()
    catalog = api.world.sandbox.catalog(DEMO_CATALOG_ID)
    shirt = catalog.items["shirt-blue-m"]
    catalog.store("shirt-blue-m", {**shirt, "title": "Linen shirt SALE"})
    catalog.feeds["old-shirt"] = {"id": "5150", "name": "Nightly feed"}
    started = await to.success("createReconciliation", shop, "POST", PATH)
    await to.failure("createReconciliation", "CONFLICT", shop, "POST", PATH)
    await api.world.run()
    path = started["href"]
    await to.success("getReconciliation", shop, "GET", path)
    await to.success("listReconciliations", shop, "GET", PATH)
    await to.success("listReconciledItems", shop, "GET", f"{path}/items?state=agreed")
    repair = f"{path}/repair"
    moved = "UPDATE jobs SET link_id = link_id + {} WHERE type = 'reconciliation'"
    await execute(api.world, moved.format(1))
    await to.failure("repairReconciliation", "CONFLICT", shop, "POST", repair)
    await execute(api.world, moved.format(-1))
    body = {"verdicts": ["different"]}
    await to.success("repairReconciliation", shop, "POST", repair, json=body)
    await api.world.run()
    unknown = f"{PATH}/job_unknown"
    await to.failure("getReconciliation", "NOT_FOUND", shop, "GET", unknown)
    await to.failure("listReconciledItems", "NOT_FOUND", shop, "GET", f"{unknown}/items")
    await to.failure("repairReconciliation", "NOT_FOUND", shop, "POST", f"{unknown}/repair")
