"""The page for people, as a browser shows it: every operation, every code, and nothing from anywhere else."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
from typing_extensions import override

from meta_sync.api.app import api_routes, openapi_document
from meta_sync.api.docs_page import DOCS_PAGE, DOCS_POLICY
from meta_sync.sync.codes import CODES

_BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class _Pages(BaseHTTPRequestHandler):
    asked: ClassVar[list[str]]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        bodies = {
            "/docs": ("text/html", DOCS_PAGE),
            "/openapi.json": ("application/json", openapi_document()),
        }
        kind, body = bodies.get(self.path, ("text/plain", ""))
        self.send_response(200 if body else 404)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Security-Policy", DOCS_POLICY)
        self.end_headers()
        self.wfile.write(body.encode())

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Nothing is written."""


@pytest.fixture
def address() -> Iterator[str]:
    class Pages(_Pages):
        asked: ClassVar[list[str]] = []

    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
    assert set(Pages.asked) <= {"/docs", "/openapi.json", "/favicon.ico"}


def _shown(address: str, profile: str, *, opened: str = "") -> str:
    """The text of the page once its scripts have run."""
    assert _BROWSER is not None
    done = subprocess.run(
        [
            _BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            f"--user-data-dir={profile}",
            "--virtual-time-budget=10000",
            "--dump-dom",
            f"{address}/docs{opened}",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    without_scripts = re.sub(r"<script>.*?</script>", "", done.stdout, flags=re.DOTALL)
    return html.unescape(re.sub(r"<[^>]+>", "", without_scripts))


@pytest.mark.skipif(_BROWSER is None, reason="no Chromium here")
def test_a_person_finds_every_operation_and_every_code(
    address: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = _shown(address, str(tmp_path_factory.mktemp("browser")), opened="#createSyncJob")
    assert "The document could not be read" not in text
    assert "undefined" not in text
    assert [route.path for route in api_routes() if route.include_in_schema and route.path not in text] == []
    for entry in CODES.values():
        assert entry.code in text
        assert entry.sentence in text
        assert entry.action in text
    # The one that the address names stands open.
    for shown in (
        "notFound: [string]",
        "A sync is running already: job_",
        "Leads to cancelSyncJob getSyncJob",
        "dryRun",
    ):
        assert shown in text


def test_the_page_loads_nothing_from_elsewhere() -> None:
    assert set(re.findall(r'(?:src|href)="([^"]+)"', DOCS_PAGE)) == {"/openapi.json"}
    assert set(re.findall(r'fetch\("([^"]+)"', DOCS_PAGE)) == {"/openapi.json"}
    assert "http:" not in DOCS_PAGE
    assert "https:" not in DOCS_PAGE
    assert "default-src 'none'" in DOCS_POLICY
