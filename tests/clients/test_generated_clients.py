"""Clients that other people's generators make of our document, checked strictly and driven against a running service.

Both programs do the same; what they print is compared with what the service says to a plain HTTP client.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from meta_sync.sandbox.options import DEMO_ACCESS_TOKEN, DEMO_BUSINESS_ID
from tests.clients.conftest import CATALOGS, NODE_MODULES, ROOT, Service

DOCUMENT = ROOT / "openapi" / "meta-sync.json"
PROGRAMS = Path(__file__).parent / "programs"
OPERATIONS = [
    operation
    for operations in json.loads(DOCUMENT.read_text())["paths"].values()
    for operation in operations.values()
]
# Whoever asks for anything but the service is answered by nobody. Measuring would slow other people's programs down.
_ASIDE = ("COV_", "COVERAGE_", "META_SYNC_")
_ENVIRONMENT = {
    **{
        name: value
        for name, value in os.environ.items()
        if not (name.startswith(_ASIDE) or name.lower().endswith("_proxy"))
    },
    **{name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy", "all_proxy")},
    "no_proxy": "127.0.0.1",
}
_SECONDS = 120


def _product(product_id: str, *variants: str, price: int | None = 1999, **fields: Any) -> dict[str, Any]:
    return {
        "id": product_id,
        "title": product_id.title(),
        "slug": product_id,
        "thumbnail": "https://shop.example/one.jpg",
        **fields,
        "variants": [{"id": one, "sku": f"SKU-{one}", "price": price} for one in variants],
    }


_FORM = [
    _product("mug", "mug-1", "mug-2"),
    _product("shoe", "SHOE/42"),
    _product("tee", *(f"tee-{number}" for number in range(1, 7))),
    _product("torn", "torn-1", link="https://shop/torn"),
    _product("secret", "secret-1", visibility="private"),
    _product("priceless", "priceless-1", price=None),
]
_RAW = [_product("lamp", "lamp-1", "lamp-2")]
_SYNCED = ["SHOE/42", "lamp-1", "lamp-2", "mug-1", "mug-2", *(f"tee-{number}" for number in range(1, 7))]


def _lines(products: Sequence[Any]) -> str:
    return "".join(json.dumps(product) + "\n" for product in products)


class _Run:
    """A command that runs while others do."""

    def __init__(self, directory: Path, *command: str | Path, given: str = "") -> None:
        self._command = [str(word) for word in command]
        self._given = given
        path = os.pathsep.join([str(Path(command[0]).parent), os.environ["PATH"]])
        self._process = subprocess.Popen(
            self._command,
            cwd=directory,
            env={**_ENVIRONMENT, "PATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin
        self._process.stdin.write(given)
        self._process.stdin.close()
        self._process.stdin = None

    def said(self) -> str:
        """All it printed, once it has ended well."""
        output, errors = self._process.communicate(timeout=_SECONDS)
        assert self._process.returncode == 0, f"{self._command}: {output}\n{errors}"
        return output + errors

    def end(self) -> None:
        """Let nothing go on."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()


def _known(service: Service, directory: Path, client: str) -> str:
    (directory / "form.ndjson").write_text(_lines(_FORM) + '{"id": "cut off\n')
    (directory / "raw.ndjson").write_text(_lines(_RAW))
    return json.dumps(
        {
            "address": service.address,
            "platformKey": service.platform_key,
            "accessToken": DEMO_ACCESS_TOKEN,
            "businessId": DEMO_BUSINESS_ID,
            "catalogId": CATALOGS[client],
            "form": str(directory / "form.ndjson"),
            "raw": str(directory / "raw.ndjson"),
        }
    )


@pytest.fixture(scope="module")
def python_client(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the generated package and the program."""
    directory = tmp_path_factory.mktemp("python")
    options = ("--output-path", "meta_sync_client", "--meta", "none", "--fail-on-warning")
    said = _Run(directory, tools / "openapi-python-client", "generate", "--path", DOCUMENT, *options).said()
    assert said == "Generating meta_sync_client\n"
    for name in ("drive.py", "mypy.ini"):
        shutil.copy(PROGRAMS / name, directory)
    return directory


@pytest.fixture(scope="module")
def typescript_client(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the generated types and the program."""
    directory = tmp_path_factory.mktemp("typescript")
    (directory / "node_modules").symlink_to(NODE_MODULES, target_is_directory=True)
    (directory / "package.json").write_text('{"type": "module"}')
    generator = NODE_MODULES / "openapi-typescript" / "bin" / "cli.js"
    said = _Run(directory, tools / "node", generator, DOCUMENT, "--output", "api.ts").said()
    assert len(said.splitlines()) == 2, said
    for name in ("drive.ts", "tsconfig.json"):
        shutil.copy(PROGRAMS / name, directory)
    return directory


@pytest.fixture(scope="module")
def runs(
    python_client: Path, typescript_client: Path, tools: Path, service: Service
) -> Iterator[dict[str, _Run]]:
    """Type checkers and programs, all at work at once: the programs mostly wait for the service."""
    python, typescript = (
        _known(service, directory, name)
        for name, directory in (("python", python_client), ("typescript", typescript_client))
    )
    mypy = (sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "--cache-dir", os.devnull)
    tsc = (tools / "node", NODE_MODULES / "typescript" / "bin" / "tsc")
    started = {
        "python": _Run(python_client, tools / "python", "drive.py", given=python),
        "typescript": _Run(typescript_client, tools / "node", "drive.ts", given=typescript),
        "mypy": _Run(python_client, *mypy, "-p", "meta_sync_client", "-m", "drive"),
        "tsc": _Run(typescript_client, *tsc, "--project", "tsconfig.json"),
    }
    yield started
    for run in started.values():
        run.end()


def test_the_python_client_has_every_operation(python_client: Path) -> None:
    made = {file.stem for file in python_client.glob("meta_sync_client/api/*/*.py")} - {"__init__"}
    wanted = {re.sub(r"(?=[A-Z])", "_", operation["operationId"]).lower() for operation in OPERATIONS}
    assert made == wanted
    for file in python_client.glob("meta_sync_client/api/*/*.py"):
        # A body without a class of its own, which the client could not tell from another and would fail at.
        assert not re.search(r"isinstance\(\w+, \w+\[", file.read_text()), file


def test_the_python_client_has_clean_names(python_client: Path) -> None:
    names = [file.stem for file in python_client.glob("meta_sync_client/models/*.py")]
    assert len(names) > 100
    assert [name for name in names if re.search(r"type_\d|field_|_\d$", name)] == []


def test_the_typescript_client_has_every_operation(typescript_client: Path) -> None:
    text = (typescript_client / "api.ts").read_text()
    operations = text.partition("export interface operations {")[2]
    made = re.findall(r"^    (\w+): \{$", operations, re.MULTILINE)
    assert sorted(made) == sorted(operation["operationId"] for operation in OPERATIONS)


def test_the_python_client_is_typed_strictly(runs: dict[str, _Run]) -> None:
    assert runs["mypy"].said().startswith("Success: ")


def test_the_typescript_client_is_typed_strictly(runs: dict[str, _Run]) -> None:
    assert runs["tsc"].said() == ""


@pytest.mark.parametrize("client", ["python", "typescript"])
def test_the_client_drives_the_service(client: str, runs: dict[str, _Run], service: Service) -> None:
    seen = json.loads(runs[client].said())
    headers = {"Authorization": f"Bearer {service.platform_key}", "X-Store-Id": seen["storeId"]}
    with httpx.Client(base_url=service.address, headers=headers, trust_env=False) as http:

        def data(path: str) -> Any:
            return http.get(path).raise_for_status().json()["data"]

        # What it sent became what the files say, and it saw what the service says.
        items = {item["variantId"]: item for item in data("/admin/meta/items?limit=100")}
        by_status = {
            status: sorted(one for one, item in items.items() if item["syncStatus"] == status)
            for status in ("synced", "skipped", "failed")
        }
        assert seen["synced"] == _SYNCED == by_status["synced"]
        assert seen["skipped"] == [["priceless-1", "missing_price"], ["secret-1", "product_not_public"]]
        assert by_status["skipped"] == ["priceless-1", "secret-1"]
        assert by_status["failed"] == ["torn-1"]
        assert seen["found"] == ["mug-1", "mug-2"]
        assert seen["counts"] == data("/admin/meta/status")["counts"]
        assert (seen["counts"]["synced"], seen["counts"]["total"]) == (len(_SYNCED), len(_SYNCED) + 3)
        _judge_imports(seen)
        assert seen["events"] == {"accepted": 2, "product": ["Renamed", "active", "private", "feed"]}
        job = data(f"/admin/meta/sync-jobs/{seen['job']['id']}")
        assert seen["job"] == {name: job[name] for name in ("id", "status", "counts")}
        assert (job["type"], job["status"], job["counts"]["failed"]) == ("bootstrap", "partial", 1)
        assert seen["stream"][-1] == "event: done"
        [failed] = data("/admin/meta/errors")
        told = [failed[name] for name in ("variantId", "code", "category", "lastError", "action")]
        assert seen["errors"] == [told]
        assert "URL Incorrectly Formatted" in failed["lastError"]
        entries = data(items["SHOE/42"]["href"] + "/timeline")
        assert seen["timeline"]["variantId"] == "SHOE/42"
        assert seen["timeline"]["kinds"] == sorted({entry["kind"] for entry in entries})
        assert {"attempt", "resync", "state"} <= set(seen["timeline"]["kinds"])
        attempts = [entry for entry in entries if entry["kind"] == "attempt"]
        assert len(attempts) == 2
        assert (attempts[0]["attempt"]["payloadHash"], attempts[0]["message"]) == (
            seen["timeline"]["hash"],
            seen["timeline"]["message"],
        )
    assert seen["refusals"] == [
        {"status": 404, "code": "NOT_FOUND", "fields": []},
        {"status": 400, "code": "VALIDATION_ERROR", "fields": ["batchSize"]},
        {"status": 401, "code": "UNAUTHORIZED", "fields": []},
    ]


def _judge_imports(seen: dict[str, Any]) -> None:
    form, raw = seen["imports"]["form"], seen["imports"]["raw"]
    ended = sum(form[name] for name in ("created", "changed", "unchanged", "skipped", "failed"))
    assert (form["created"], form["failed"], ended) == (12, 1, 13)
    assert (raw["created"], raw["failed"]) == (2, 0)
    header, *rows = seen["imports"]["report"]
    assert header.startswith("row,kind,itemId")
    assert any(row.startswith(f"{len(_FORM) + 1},failure,") for row in rows), rows
