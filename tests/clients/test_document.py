"""The API document as a stranger's linter sees it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

_HERE = Path(__file__).resolve().parent
_ROOT = _HERE.parents[1]
_DOCUMENT = _ROOT / "openapi" / "meta-sync.json"
_LINTER = _HERE / "node_modules" / ".bin" / "redocly"
_NODE = _ROOT / ".venv-clients" / "bin"
_ENVIRONMENT = {
    "PATH": os.pathsep.join([str(_NODE), os.environ.get("PATH", "")]),
    "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true",
    "REDOCLY_TELEMETRY": "off",
    # Whatever it may try to reach in spite of these is led nowhere.
    "HTTP_PROXY": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
}


def _lint(path: Path) -> list[str]:
    """The findings of the linter."""
    if not (_ROOT / ".venv-clients" / "installed.stamp").exists():
        # `make test` installs it before the tests run, so that this can only be somebody's run of single tests.
        assert "CI" not in os.environ, "The linter is not installed; run make clients first."
        pytest.skip("The linter is not installed: make clients")
    done = subprocess.run(
        [_LINTER, "lint", "--config", _HERE / "redocly.yaml", "--format=json", "--max-problems=1000", path],
        env=_ENVIRONMENT,
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    report = json.loads(done.stdout)
    found = [
        f"{one['ruleId']}: {one['message']} ({one['location'][0]['pointer']})" for one in report["problems"]
    ]
    assert report["totals"]["ignored"] == 0
    assert done.returncode == (1 if found else 0), done.stderr
    return found


def test_the_linter_has_nothing_to_say() -> None:
    assert _lint(_DOCUMENT) == []


def test_the_linter_does_find_what_is_wrong(tmp_path: Path) -> None:
    """A linter that is not given its rules would be silent, too."""
    document = json.loads(_DOCUMENT.read_text())
    operation = document["paths"]["/admin/meta/items"]["get"]
    del operation["description"]
    operation["parameters"][0].pop("description")
    operation["responses"]["200"]["content"]["application/json"]["example"] = {"data": []}
    document["components"]["schemas"]["Unused"] = {"type": "object"}
    path = tmp_path / "document.json"
    path.write_text(json.dumps(document))
    found = {one.partition(":")[0] for one in _lint(path)}
    assert found == {
        "no-invalid-media-type-examples",
        "no-unused-components",
        "operation-description",
        "parameter-description",
    }
