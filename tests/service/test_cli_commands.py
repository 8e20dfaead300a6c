"""The short commands against a database that is there: results, errors as sentences, exit codes."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from meta_sync.cli.main import main
from meta_sync.core.config import Settings
from meta_sync.core.crypto import generate_encryption_key
from meta_sync.core.db import Database


class Result(NamedTuple):
    code: int
    output: str
    errors: str


Run = Callable[..., Result]


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, database_url: str
) -> Run:
    """Runs the command in this process, against a migrated database."""
    for name in [name for name in os.environ if name.startswith("META_SYNC_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("META_SYNC_DATABASE_URL", database_url)
    monkeypatch.setenv("META_SYNC_ENCRYPTION_KEYS", generate_encryption_key())
    monkeypatch.setenv("META_SYNC_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["meta-sync", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr()
        return Result(end.value.code or 0, said.out, said.err)  # type: ignore[arg-type]  # main exits with numbers

    return call


@pytest.fixture
def store(run: Run) -> str:
    made = run(
        "stores", "create", "Shop", "--currency", "EUR", "--storefront-url", "https://shop.example", "--json"
    )
    assert made.code == 0, made.errors
    created = json.loads(made.output)
    assert set(created) == {"storeId", "publicId", "name"}
    assert created["name"] == "Shop"
    return str(created["storeId"])


def feed(path: Path, rows: int, broken: int = 0) -> Path:
    lines = ["id\ttitle\tdescription\tavailability\tcondition\tprice\tlink\timage_link\tbrand"]
    for number in range(rows + broken):
        currency = "EUR" if number < rows else "USD"
        url = f"https://shop.example/{number}"
        lines.append(
            f"sku-{number}\tLamp {number}\tBright\tin stock\tnew\t{number + 1}.50 {currency}\t{url}\t{url}.jpg\tAcme"
        )
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_key_is_shown_once_and_stored_as_a_hash(run: Run, store: str, database_url: str) -> None:
    made = run("keys", "create", "--store", store, "--permission", "metaCatalog:view", "--json")
    assert made.code == 0, made.errors
    key = json.loads(made.output)
    assert set(key) == {"keyId", "apiKey"}

    async def stored() -> str:
        database = Database.connect(database_url, pool_size=1)
        async with database.platform() as connection:
            row = (await connection.execute(text("SELECT api_keys::text FROM api_keys"))).scalar_one()
        await database.dispose()
        return str(row)

    row = asyncio.run(stored())
    assert key["keyId"] in row
    assert key["apiKey"] not in row


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("keys", "create", "--store", "store_none", "--permission", "catalog:read"),
            "There is no such store.",
        ),
        (("keys", "create", "--permission", "catalog:read"), "Give either --store ID or --platform."),
        (("keys", "create", "--platform", "--permission", "everything"), "unknown permission"),
        (("stores", "create", "Shop", "--currency", "EURO"), "currency"),
        (("status", "--store", "store_none"), "There is no such store."),
        (("sync", "--store", "store_none"), "There is no such store."),
        (("import", "missing.csv", "--store", "store_none"), "There is no file missing.csv."),
        (("import", ".", "--store", "store_none"), "is a folder"),
        (("import", "http://127.0.0.1/feed.csv", "--store", "store_none"), "url"),
        (("import", "https://shop.example/feed.csv", "--store", "store_none"), "There is no such store."),
    ],
)
def test_what_can_go_wrong_is_a_sentence(run: Run, arguments: tuple[str, ...], sentence: str) -> None:
    result = run(*arguments)
    assert result.code in {1, 2}
    assert sentence in result.errors
    assert "Traceback" not in result.errors
    assert result.output == ""


def test_import_says_what_became_of_the_file_by_its_exit_code(run: Run, store: str, tmp_path: Path) -> None:
    good = run("import", str(feed(tmp_path / "good.tsv", 3)), "--store", store, "--json")
    assert good.code == 0, good.errors
    view = json.loads(good.output)
    assert (view["status"], view["progress"]) == ("success", 100)
    assert view["counts"]["created"] == 3
    again = json.loads(run("import", str(tmp_path / "good.tsv"), "--store", store, "--json").output)
    assert again["counts"] | {"created": 0, "unchanged": 3} == again["counts"]

    partial = run("import", str(feed(tmp_path / "partial.tsv", 2, broken=1)), "--store", store)
    assert partial.code == 3
    assert re.search(
        r'row 3, price "[^"]*USD": The price is in USD, but the store sells in EUR\.', partial.output
    )
    assert "\x1b" not in partial.output

    assert re.search(
        r"  Row 1 is the first below the header\.\n  Report, with .*: GET /catalog/imports/import_\w+/report\n$",
        partial.output,
    )

    (tmp_path / "nonsense.bin").write_bytes(bytes(range(256)) * 40)
    refused = run("import", str(tmp_path / "nonsense.bin"), "--store", store, "--json")
    assert refused.code == 1
    assert json.loads(refused.output)["status"] == "error"

    (tmp_path / "empty.csv").touch()
    assert "The file is empty." in run("import", str(tmp_path / "empty.csv"), "--store", store).errors


def test_a_fault_of_one_field_is_said_once(run: Run) -> None:
    assert run("stores", "create", "Shop", "--currency", "EURO").errors.count("ISO 4217") == 1


def test_import_shows_what_was_left_out_of_rows_that_went_in(run: Run, store: str, tmp_path: Path) -> None:
    file = tmp_path / "words.tsv"
    file.write_text("id\ttitle\tprice\tavailability\na\tLamp\t1 USD\tin stock\nb\tMug\t1 EUR\tperhaps\n")
    lines = run("import", str(file), "--store", store).output.splitlines()
    assert lines[2:-1] == [
        '  row 1, price "1 USD": The price is in USD, but the store sells in EUR.',
        '  row 2, availability (warning): The availability "perhaps" is not known and was left out.',
        "  Row 1 is the first below the header.",
    ]


def test_import_says_only_what_its_lines_are_about(run: Run, store: str, tmp_path: Path) -> None:
    one = run("import", str(feed(tmp_path / "one.tsv", 1)), "--store", store, "--dry-run").output
    assert "  1 row, 1 product, 1 variant: 1 created, 0 changed, 0 unchanged, 0 skipped, 0 failed\n" in one
    assert "sku-0 (new)" in one
    assert "Row 1 is" not in one

    (tmp_path / "bodies.ndjson").write_text(
        '{"id": "p", "title": "Lamp", "variants": [{"id": "v", "price": "1"}]}\n'
    )
    bodies = run("import", str(tmp_path / "bodies.ndjson"), "--store", store).output
    assert "row 1, variants[0].price" in bodies
    assert "header" not in bodies

    (tmp_path / "names.txt").write_text("Alice\nBob\n")
    refused = run("import", str(tmp_path / "names.txt"), "--store", store).output
    assert refused.startswith("names.txt: error (unknown format)\n  The file does not begin with")
    assert " rows" not in refused


def test_import_replaces_and_shows_before_what_it_would_do(run: Run, store: str, tmp_path: Path) -> None:
    run("import", str(feed(tmp_path / "ten.tsv", 10)), "--store", store, "--source", "main")
    four = (str(feed(tmp_path / "four.tsv", 4)), "--store", store, "--source", "main", "--mode", "replace")
    refused = run("import", *four)
    assert refused.code == 1
    assert "leaves out 6 of the 10 items of the source main (60%)" in refused.output
    assert "import it again with --allow-mass-delete." in refused.output
    tried = run("import", *four, "--dry-run", "--json")
    assert tried.code == 1
    view = json.loads(tried.output)
    assert (view["dryRun"], view["errorCode"], view["counts"]["deleted"]) == (True, "CONFLICT", 6)
    tried = run("import", *four, "--dry-run", "--allow-mass-delete")
    assert tried.code == 0
    assert "4 unchanged, 0 skipped, 0 failed, 6 deleted" in tried.output
    assert tried.output.count(" (deleted): The file leaves this item out; it would be deleted.") == 6
    assert json.loads(run("status", "--store", store, "--json").output)["counts"]["total"] == 10
    done = run("import", *four, "--allow-mass-delete", "--json")
    assert done.code == 0
    assert json.loads(done.output)["counts"]["deleted"] == 6
    assert json.loads(run("status", "--store", store, "--json").output)["counts"]["total"] == 4


def test_a_format_that_the_file_is_not_in_is_said(run: Run, store: str, tmp_path: Path) -> None:
    result = run("import", str(feed(tmp_path / "f.tsv", 1)), "--store", store, "--format", "google-rss")
    assert result.code == 1
    assert (
        "is not in the format google-rss that was asked for; it is recognised as google-tsv" in result.output
    )


def test_a_store_that_is_not_there_is_looked_for_in_a_named_place(
    run: Run, monkeypatch: pytest.MonkeyPatch, database_url: str, tmp_path: Path
) -> None:
    @asynccontextmanager
    async def located(settings: Settings) -> AsyncIterator[Settings]:
        yield settings.model_copy(update={"database_url": SecretStr(database_url)})

    monkeypatch.delenv("META_SYNC_DATABASE_URL")
    monkeypatch.setattr("meta_sync.cli.session.located_database", located)
    result = run("status", "--store", "store_none")
    assert result.code == 1
    assert str(tmp_path / "data") in result.errors


def test_status_shows_every_store(run: Run, store: str, tmp_path: Path) -> None:
    run("import", str(feed(tmp_path / "good.tsv", 3)), "--store", store)
    everything = json.loads(run("status", "--json").output)
    assert [row["storeId"] for row in everything] == [store]
    one = json.loads(run("status", "--store", store, "--json").output)
    assert one["connectionState"] == "not_connected"
    assert one["counts"]["total"] == 3
    table = run("status").output
    assert store in table
    assert "not connected to Meta" in table


def test_sync_needs_a_catalog_and_says_so(run: Run, store: str) -> None:
    result = run("sync", "--store", store)
    assert result.code == 1
    assert "No Meta catalog is selected yet" in result.errors


def test_migrate_may_run_again(run: Run) -> None:
    assert "has the schema of this version" in run("migrate").output


def test_an_older_schema_is_refused_with_the_command_that_helps(run: Run, database_url: str) -> None:
    async def forget() -> None:
        database = Database.connect(database_url, pool_size=1)
        await database.dispose()
        from meta_sync.core.db import create_engine

        engine = create_engine(database_url, role=None, pool_size=1)
        async with engine.begin() as connection:
            await connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
        await engine.dispose()

    asyncio.run(forget())
    for arguments in (("status",), ("worker",), ("api", "--port", "0")):
        result = run(*arguments)
        assert result.code == 2
        assert "Run: meta-sync migrate" in result.errors


@pytest.mark.parametrize("command", ["migrate", "status", "worker", "up"])
@pytest.mark.parametrize(
    "url",
    [
        "postgresql://nobody:wrong-secret@127.0.0.1:1/none",
        "postgresql://stranger:wrong-secret@/meta_sync?host={socket}",
        "postgresql://postgres:wrong-secret@/no_such_database?host={socket}",
        "mysql://root:wrong-secret@127.0.0.1/none",
        "not an address wrong-secret",
    ],
)
def test_a_database_that_cannot_be_used_is_a_sentence(
    run: Run, monkeypatch: pytest.MonkeyPatch, database_url: str, command: str, url: str
) -> None:
    monkeypatch.setenv("META_SYNC_DATABASE_URL", url.format(socket=database_url.partition("host=")[2]))
    arguments = (command, "--port", "0") if command == "up" else (command,)
    result = run(*arguments)
    assert result.code == 2, result.errors
    assert result.errors.startswith("meta-sync: ")
    assert result.errors.count("\n") == 1
    assert "wrong-secret" not in result.errors


def test_a_redis_address_that_is_none_is_a_sentence(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for url in ("http://localhost", "redis://host:port/0", "localhost:6379"):
        monkeypatch.setenv("META_SYNC_REDIS_URL", url)
        result = run("worker")
        assert result.code == 2
        assert "META_SYNC_REDIS_URL is not an address" in result.errors


@pytest.mark.parametrize("command", ["api", "worker"])
def test_processes_without_a_database_or_a_key_say_what_to_set(
    run: Run, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    arguments = (command, "--port", "0") if command == "api" else (command,)
    monkeypatch.delenv("META_SYNC_ENCRYPTION_KEYS")
    assert "META_SYNC_ENCRYPTION_KEYS is not set." in run(*arguments).errors
    monkeypatch.delenv("META_SYNC_DATABASE_URL")
    result = run(*arguments)
    assert result.code == 2
    assert "META_SYNC_DATABASE_URL is not set." in result.errors


def test_a_broken_setting_is_named_and_an_unknown_one_guessed(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("META_SYNC_DATABSE_URL", "x")
    assert "META_SYNC_DATABSE_URL is not a setting of meta-sync" in run("status").errors
    monkeypatch.setenv("META_SYNC_PORT", "eighty")
    result = run("status")
    assert result.code == 2
    assert result.errors.startswith("meta-sync: META_SYNC_PORT is not usable")


def test_openapi_prints_the_document(run: Run, tmp_path: Path) -> None:
    printed = run("openapi")
    assert json.loads(printed.output)["openapi"].startswith("3.")
    run("openapi", "--output", str(tmp_path / "api.json"))
    assert (tmp_path / "api.json").read_text() == printed.output
