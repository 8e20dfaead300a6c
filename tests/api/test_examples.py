"""The examples of the document are answers of this service: one shop, from its creation to the last of its items.

They are recorded here. When an answer changes on purpose: RECORD_EXAMPLES=1 pytest tests/api/test_examples.py
"""

from __future__ import annotations

import json
import os

from meta_sync.api.examples import EXAMPLES_FILE
from tests.support.api import Api
from tests.support.audited import assert_everything_is_audited
from tests.support.example_shop import live_through_everything
from tests.support.examples import Recorder, without_what_varies
from tests.support.feed_server import feed_server


async def test_the_examples_are_what_the_service_answers(api: Api) -> None:
    to = Recorder()
    async with feed_server() as server:
        secrets = await live_through_everything(to, api, server)
    await assert_everything_is_audited(api.world.database, to.request_ids)
    recorded = to.document(secrets)
    if os.environ.get("RECORD_EXAMPLES"):
        text = json.dumps(recorded, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        EXAMPLES_FILE.write_text(text, encoding="utf-8")
    kept = json.loads(EXAMPLES_FILE.read_text(encoding="utf-8"))
    again = "RECORD_EXAMPLES=1 pytest tests/api/test_examples.py; make openapi"
    for operation, example in recorded["operations"].items():
        kept_of_it = kept["operations"].get(operation)
        assert without_what_varies(kept_of_it) == without_what_varies(example), f"{operation}: {again}"
    assert without_what_varies(kept) == without_what_varies(recorded), again
