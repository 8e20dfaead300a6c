"""What a hostile or unlucky outside must not be able to do: stall a process, read a secret, pass for another role."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from meta_sync.catalog.ingest.describe import root_element
from meta_sync.catalog.ingest.detect import detect, format_by_name
from meta_sync.catalog.ingest.formats.slugs import wordpress_slug
from meta_sync.catalog.ingest.rows import FileRefusedError, FormatContext, ImportedVariant
from meta_sync.catalog.ingest.values import split_images
from meta_sync.cli.embedded_postgres import EmbeddedPostgres
from meta_sync.cli.server_environment import server_environment
from meta_sync.core.db import Database, create_engine, normalise_database_url
from meta_sync.core.errors import StartError
from meta_sync.core.logging import configure_logging, get_logger, redact
from meta_sync.core.migrations import require_ready


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail instead of hanging: a pattern that backtracks for ever still looks at signals."""

    def stop(*_: object) -> None:
        raise AssertionError(f"still at it after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# --- files that are made to take long -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "head",
    [
        b"<!DOCTYPE x " + b"[]" * 30_000,
        b"<!DOCTYPE x " + b"[" * 60_000,
        b"<!DOCTYPE x [" + b"] " * 30_000,
        b"<?a?>" * 13_000,
        b"<!--" * 16_000,
    ],
    ids=["pairs", "open", "closed", "instructions", "comments"],
)
def test_no_head_of_a_file_takes_long_to_recognise(head: bytes) -> None:
    with within(5), pytest.raises(FileRefusedError):
        detect(head, None)


def test_what_stands_before_the_first_element_is_still_passed_over() -> None:
    prolog = '<?xml version="1.0"?>\n<!-- a > b -->\n<!DOCTYPE rss [ <!ENTITY x "y"> ] >\n'
    assert root_element(prolog + "<rss><a/></rss>") == "rss"
    assert root_element('<!DOCTYPE feed SYSTEM "feed.dtd"><feed/>') == "feed"
    assert root_element("<!DOCTYPE html><p>") == "html"


LONG = 90_000


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("additional_variant_attribute", "a" + " " * LONG + "b"),
        ("additional_image_link", "http://a" + " " * LONG + "b"),
        ("additional_image_link", "http://a" + ", " * (LONG // 2)),
        ("price", ",-" * (LONG // 2)),
        ("price", "1" + " " * LONG),
    ],
)
def test_no_cell_takes_long_to_read(column: str, cell: str) -> None:
    row = {"id": "1", "title": "T", "price": "1 EUR", "link": "https://a.example", column: cell}
    file = ("\t".join(row) + "\n" + "\t".join(row.values()) + "\n").encode()
    with within(5):
        assert list(format_by_name("google-tsv").parse(io.BytesIO(file), FormatContext("EUR")))


def test_no_product_name_takes_long_to_make_an_address_of() -> None:
    with within(2):
        assert wordpress_slug("<" * LONG) is None
    assert wordpress_slug("A <b>Shirt</b>") == "a-shirt"


def test_attributes_and_images_are_split_as_before() -> None:
    row = "id\ttitle\tprice\tadditional_variant_attribute\n1\tT\t1 EUR\t Fit : Slim,, Note:10:30 ,Cut:, :x\n"
    parsed = list(format_by_name("google-tsv").parse(io.BytesIO(row.encode()), FormatContext("EUR")))
    (item,) = [one for one in parsed if isinstance(one, ImportedVariant)]
    assert item.variant.options == {"Fit": "Slim", "Note": "10:30"}
    assert split_images(["http://a/1,2.jpg , http://b//c.jpg|//d/e.jpg  https://f ; http://g ,"]) == [
        "http://a/1,2.jpg",
        "http://b//c.jpg",
        "//d/e.jpg",
        "https://f",
        "http://g ,",
    ]


# --- logs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        "Error 111 connecting to redis://:CANARY@cache:6379/0.",
        "postgresql://user:CANARY/CANARY@db/name and postgresql://user:CANARY@CANARY@db/name",
        "postgresql://db/name?user=u&password=CANARY",
        "connect(user='u', password='CANARY CANARY', host='db')",
        '{"appSecret": "CANARY", "accessToken":"CANARY"}',
        "X-API-Key: CANARY",
        "Authorization: Bearer CANARY",
        "Authorization: Basic Q0FOQVJZQ0FOQVJZCANARY",
        "GET /oauth/access_token?client_secret=CANARY&fb_exchange_token=CANARY",
        "META_SYNC_ENCRYPTION_KEYS=CANARY",
        "EAABwzLixnjYBOCANARY_and-more_CANARY",
        "123456789012345|CANARYCANARY",
    ],
)
def test_a_secret_in_a_sentence_is_not_logged(said: str) -> None:
    assert "CANARY" not in redact(said)


def test_what_is_no_secret_stays_readable() -> None:
    for said in (
        "The token was refused by Meta (code 190).",
        "https://cdn.example:8443/a/b.jpg is not reachable",
        "Expecting value at line 1 column 2",
        "postgresql://db.example/meta_sync",
    ):
        assert redact(said) == said


@contextmanager
def logging_as(form: Literal["json", "console"]) -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure_logging("INFO", form)
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


def _log_everything() -> None:
    get_logger("meta_sync.review").info(
        "Said.",
        headers={"Authorization": "CANARY", "inner": [{"password": "CANARY"}, "redis://:CANARY@h"]},
        pair=("token=CANARY", b"EAABCANARYCANARYCANARY"),
        error=ValueError("client_secret=CANARY"),
        app_secret=b"CANARY",
        forged="one\r\nINFO all is well \x1b[2J\x9b1A",
        count=3,
    )
    try:
        int("redis://:CANARY@cache \x1b[2J")
    except ValueError:
        get_logger("meta_sync.review").exception("It failed.")
        logging.getLogger("a.library").exception("It failed at %s", "postgresql://u:CANARY@db/x")


def test_secrets_are_found_at_any_depth_and_in_tracebacks(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_as("json"):
        _log_everything()
    said = capsys.readouterr().err
    assert "CANARY" not in said
    lines = [json.loads(line) for line in said.splitlines()]
    assert (len(lines), lines[0]["count"], lines[0]["headers"]["Authorization"]) == (3, 3, "[redacted]")


def test_nothing_logged_moves_a_terminal_or_makes_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_as("console"):
        _log_everything()
    said = capsys.readouterr().err
    assert "CANARY" not in said
    assert not {"\x1b", "\x9b", "\r"} & set(said)
    assert not any(line.startswith("INFO") for line in said.splitlines())


def test_a_record_that_cannot_be_written_is_not_shown_raw(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_as("json"):
        logging.getLogger("a.library").warning("%d of them", "redis://:CANARY@cache")
    said = capsys.readouterr().err
    assert "a.library" in said
    assert "CANARY" not in said


# --- the database -------------------------------------------------------------------------------------------------


def test_an_address_as_providers_write_it_is_understood() -> None:
    address = normalise_database_url("postgres://u:p%40@db.example/x?sslmode=require")
    assert address == "postgresql+asyncpg://u:p%40@db.example/x?ssl=require"
    with pytest.raises(StartError, match="not known here: channel_binding"):
        normalise_database_url("postgresql://u:CANARY@db.example/x?channel_binding=require")


async def test_a_failed_statement_does_not_show_what_it_was_to_store(database: Database) -> None:
    async with database.store("a") as connection:
        with pytest.raises(DBAPIError) as failure:
            await connection.execute(text("SELECT CAST(:value AS text) || 1 / 0"), {"value": "CANARY"})
    assert "CANARY" not in str(failure.value)


async def test_a_pool_that_does_not_act_in_its_role_is_refused(database: Database, database_url: str) -> None:
    """As behind a pooler that drops the start-up parameter: the owner is held by no policy."""
    await require_ready(database)
    owner = create_engine(database_url, role=None)
    try:
        with pytest.raises(StartError, match=r"act as postgres where they asked to be meta_sync_app"):
            await require_ready(Database(owner, database.worker))
        with pytest.raises(StartError, match=r"asked to be meta_sync_worker"):
            await require_ready(Database(database.app, owner))
    finally:
        await owner.dispose()


NEVER_BY_A_REQUEST = [
    "UPDATE stores SET public_id = 'x'",
    "UPDATE stores SET store_id = 'b'",
    "DELETE FROM stores",
    "UPDATE api_keys SET permissions = '{platform:admin}'",
    "DELETE FROM api_keys",
    "UPDATE counters SET value = 0",
    "DELETE FROM counter_deltas",
    "UPDATE batches SET state = 'over'",
    "DELETE FROM batch_calls",
    "INSERT INTO batch_items SELECT * FROM batch_items",
    "UPDATE item_payloads SET payload = ''",
    "DELETE FROM item_events",
    "DELETE FROM products",
    "DELETE FROM variants",
    "DELETE FROM sync_state",
    "DELETE FROM intents",
    "SELECT * FROM schedules",
    "SELECT * FROM worker_heartbeats",
    "SELECT drop_partitions('2999-01-01', '2999-01-01')",
    "SELECT ensure_partitions('2999-01-01')",
    "CREATE TABLE mine (x integer)",
]


@pytest.mark.parametrize("statement", NEVER_BY_A_REQUEST)
async def test_the_role_of_requests_may_do_no_more_than_requests_do(
    database: Database, statement: str
) -> None:
    with pytest.raises(DBAPIError, match="permission denied"):
        async with database.store("a") as connection:
            await connection.execute(text(statement))


async def test_every_table_of_a_store_is_under_a_policy_for_requests(database: Database) -> None:
    async with database.platform() as connection:
        rows = await connection.execute(
            text(
                """
                SELECT c.relname FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
                WHERE a.attname = 'store_id' AND c.relkind IN ('r', 'p') AND NOT c.relispartition
                  AND c.relnamespace = 'public'::regnamespace
                  AND (NOT c.relrowsecurity OR NOT EXISTS (
                    SELECT 1 FROM pg_policies AS p WHERE p.tablename = c.relname
                      AND p.roles = '{meta_sync_app}' AND p.qual LIKE '%current_store_id()%'))
                """
            )
        )
        assert rows.scalars().all() == []
        rows = await connection.execute(
            text(
                """
                SELECT p.proname FROM pg_proc AS p
                WHERE p.prosecdef AND p.pronamespace = 'public'::regnamespace
                  AND (has_function_privilege('public', p.oid, 'EXECUTE') OR p.proconfig IS NULL)
                """
            )
        )
        assert rows.scalars().all() == []


# --- the embedded servers -----------------------------------------------------------------------------------------


def test_the_embedded_servers_learn_no_secret_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("META_SYNC_ENCRYPTION_KEYS", "CANARY")
    monkeypatch.setenv("META_SYNC_APP_SECRET", "CANARY")
    monkeypatch.setenv("PGPORT", "6543")
    assert "CANARY" not in str(server_environment())
    server = EmbeddedPostgres(tmp_path / "postgres", {"fsync": "off"})
    server.start()
    try:
        assert server.pid is not None
        told = Path(f"/proc/{server.pid}/environ")
        if told.exists() and os.access(told, os.R_OK):
            assert b"CANARY" not in told.read_bytes()
        # PGPORT of whoever starts it, or of whoever connects, leads nobody elsewhere.
        assert server.psql("postgres", "SHOW port").strip() == "5432"
        assert "port=5432" in server.url()
    finally:
        server.stop()
        server.destroy()
