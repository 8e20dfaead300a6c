"""The part of the example shop's life in which a person decides about what only Meta has, and about what Meta shows otherwise."""

from __future__ import annotations

from tests.support.api import Api, Caller
from tests.support.example_reconciliations import PATH
from tests.support.examples import Recorder
from tests.support.findings import at_meta_item, find, put_at_meta
from tests.support.pipeline import execute

__all__ = ["live_through_adoption"]

_LINKS = "UPDATE catalog_links SET active = NOT active"


async def live_through_adoption(to: Recorder, api: Api, shop: Caller) -> None:
    """A cap of another tool becomes the shop's; the title of the shirt at Meta is kept there for a while."""
    world = api.world
    [newest] = (await shop("GET", f"{PATH}?limit=1")).json()["data"]
    path, job_id = newest["href"], newest["id"]
    put_at_meta(
        world, at_meta_item("cap", title="Cap", link="https://shop.example/cap"), at_meta_item("stale")
    )
    await find(world, "foreign", "cap", job_id=job_id)
    await execute(world, "DELETE FROM reconcile_findings WHERE retailer_id = 'shirt-blue-m'")
    differences = {"title": ["Linen shirt", "Linen shirt SALE"]}
    await find(
        world, "different", "shirt-blue-m", job_id=job_id, differences=differences, name="Linen shirt SALE"
    )
    await execute(world, "UPDATE reconcile_findings SET product_id = 'shirt' WHERE product_id = 'p'")
    adopt, repair, unpin = f"{path}/adopt", f"{path}/repair", "/admin/meta/items/shirt-blue-m/unpin"
    await execute(world, _LINKS)
    await to.failure("adoptItems", "meta_not_connected", shop, "POST", adopt, json={"all": True})
    body = {"pin": [{"retailerId": "shirt-blue-m", "fields": ["title"]}]}
    await to.failure("repairReconciliation", "meta_not_connected", shop, "POST", repair, json=body)
    await to.failure("unpinItem", "meta_not_connected", shop, "POST", unpin)
    await execute(world, _LINKS)
    await execute(world, "UPDATE reconcile_findings SET link_id = link_id + 1")
    await to.failure("adoptItems", "CONFLICT", shop, "POST", adopt, json={"all": True})
    await execute(world, "UPDATE reconcile_findings SET link_id = link_id - 1")
    chosen = {"retailerIds": ["cap", "stale"]}
    await to.success("adoptItems", shop, "POST", adopt, json=chosen)
    await to.success("repairReconciliation", shop, "POST", repair, json=body)
    await to.success("unpinItem", shop, "POST", unpin, json={"fields": ["title"]})
    await to.failure("unpinItem", "NOT_FOUND", shop, "POST", unpin)
    unknown = f"{PATH}/job_unknown/adopt"
    await to.failure("adoptItems", "NOT_FOUND", shop, "POST", unknown, json=chosen)
    await world.run()
