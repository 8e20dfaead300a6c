"""One table of codes: whatever the source can show is in it, and what is in it is shown somewhere and tried somewhere."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import get_args

import pytest

from meta_sync.api.app import openapi_document
from meta_sync.core.errors import ServiceError
from meta_sync.graph.errors import RULES, Advice, Category, ErrorFacts, GraphError, NotConnectedError
from meta_sync.sync.adopt_models import NotDoneCode
from meta_sync.sync.code_entry import CodeGroup, Severity
from meta_sync.sync.codes import CODES, CodeEntry, entry_of, explain, family_of, names_of
from meta_sync.sync.codes_adopt import ADOPT
from meta_sync.sync.codes_api import API
from meta_sync.sync.codes_document import document
from meta_sync.sync.codes_guard import GUARD, HeldCode
from meta_sync.sync.codes_imports import IMPORTS
from meta_sync.sync.codes_jobs import JOBS, JobCode
from meta_sync.sync.codes_mapping import MAPPING
from meta_sync.sync.codes_pipeline import FAMILIES, PIPELINE, FailureCode
from meta_sync.sync.codes_preflight import PREFLIGHT, PreflightCode
from meta_sync.sync.decide import KeptCode
from meta_sync.sync.eligibility import IneligibleReason
from meta_sync.sync.mapping_issues import IssueCode
from meta_sync.sync.reactions import PauseReason
from meta_sync.sync.status import StoreStandstill
from meta_sync.sync.status_rules import PREVIEW

_ROOT = Path(__file__).resolve().parents[2]
_SOURCE = _ROOT / "src" / "meta_sync"
_TABLE = re.compile(r"code_entry|codes(_\w+)?")
_RULE_PLACES = {"RowFailure": 4, "RowSkip": 4, "RowWarning": 4, "RecordFault": 2}
"""Where the rule stands among the arguments that have no name."""
_SQL_CODE = re.compile(r"(?:\bcode|error_code) = '([a-z_]+)'|'excluded', '([a-z_]+)'")


@cache
def _trees() -> dict[Path, ast.Module]:
    """Every module but the table itself and the sandbox, which speaks for Meta."""
    return {
        path: ast.parse(path.read_text())
        for path in sorted(_SOURCE.rglob("*.py"))
        if not _TABLE.fullmatch(path.stem) and "sandbox" not in path.parts
    }


def _constants(value: ast.expr | None) -> Iterator[str]:
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        yield value.value
    elif isinstance(value, ast.IfExp):
        yield from _constants(value.body)
        yield from _constants(value.orelse)


def _calls() -> Iterator[tuple[str, ast.Call, Path]]:
    for path, tree in _trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                yield name, node, path


def _texts(trees: dict[Path, ast.Module] | None = None) -> Iterator[str]:
    for tree in (_trees() if trees is None else trees).values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def _import_rules() -> set[str]:
    """Rules of rows: arguments, defaults of the row types and their errors, and variables named ``rule``."""
    found: set[str] = set()
    for name, call, path in _calls():
        if "catalog" not in path.parts:
            continue
        given = [one.value for one in call.keywords if one.arg == "rule"]
        if name in _RULE_PLACES:
            given += call.args[_RULE_PLACES[name] : _RULE_PLACES[name] + 1]
        for value in given:
            found |= set(_constants(value))
    for path, tree in _trees().items():
        if "ingest" not in path.parts:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.AnnAssign | ast.Assign):
                targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets
                if any(isinstance(one, ast.Name) and one.id == "rule" for one in targets):
                    found |= set(_constants(node.value))
            elif isinstance(node, ast.FunctionDef):
                names = [one.arg for one in node.args.kwonlyargs]
                defaults = dict(zip(names, node.args.kw_defaults, strict=True))
                found |= set(_constants(defaults.get("rule")))
    return found


def _api_codes() -> set[str]:
    """Codes of error answers: of the error classes, of their ``code=``, and of rows that name one."""
    kinds: list[type[ServiceError]] = [ServiceError, *ServiceError.__subclasses__()]
    found = {kind.code for kind in kinds}
    for _, call, path in _calls():
        if "ingest" in path.parts and path.name != "batch.py":
            continue
        for one in call.keywords:
            if one.arg in {"code", "error_code"}:
                found |= {
                    text for text in _constants(one.value) if re.fullmatch(r"[A-Z_]{6,}|meta_\w+", text)
                }
    for tree in _trees().values():
        for node in ast.walk(tree):
            # STATUS → code, and fields such as ``error_code: str = "VALIDATION_ERROR"``.
            if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "error_code":
                found |= set(_constants(node.value))
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "_STATUS_CODES":
                assert isinstance(node.value, ast.Dict)
                found |= {code for value in node.value.values for code in _constants(value)}
    return found


def _sql_codes() -> set[str]:
    return {first or second for text in _texts() for first, second in _SQL_CODE.findall(text)}


def _pipeline_codes() -> set[str]:
    found = {*FailureCode, *JobCode, *PauseReason, *get_args(StoreStandstill), *_sql_codes()}
    for name, call, path in _calls():
        if name == "of" and path.name == "status.py":
            found |= set(_constants(call.args[0]))
        if name == "Pause" and len(call.args) > 2:
            found |= set(_constants(call.args[2]))
        if name == "Standstill" and call.args:
            found |= set(_constants(call.args[0]))
        if name == "Decision" and len(call.args) > 1:
            found |= set(_constants(call.args[1]))
    return found


def _family_codes() -> set[str]:
    return {FAMILIES[advice].code for advice in Advice}


def _shown() -> set[str]:
    return {
        *IneligibleReason,
        *KeptCode,
        *NotDoneCode,
        *IssueCode,
        *HeldCode,
        *PreflightCode,
        *_pipeline_codes(),
        *_import_rules(),
        *_api_codes(),
        *_family_codes(),
    }


def test_every_code_of_the_source_is_in_the_table() -> None:
    assert {str(code) for code in _shown()} - set(CODES) == set()


def test_nothing_is_in_the_table_that_the_source_does_not_show() -> None:
    assert set(CODES) - {str(code) for code in _shown()} == set()


def test_the_walk_finds_what_it_looks_for() -> None:
    """A walk that finds nothing would agree with anything."""
    assert {"ragged_row", "wrong_currency", "remark", "not_an_item", "absent", "stale"} <= _import_rules()
    assert {"bad_text", "too_long"} <= _import_rules()
    assert {"BAD_REQUEST", "METHOD_NOT_ALLOWED", "meta_misconfigured", "RATE_LIMITED"} <= _api_codes()
    assert {"no_answer", "poll_timeout", "excluded_by_operator"} <= _sql_codes()
    assert {
        "graph_url_changed",
        "token_unreadable",
        "mapping_failed",
        "throttled",
        "meta_unreachable",
        "preview",
        "newer_mapper",
    } <= _pipeline_codes()


def test_every_failure_code_is_used_by_the_pipeline() -> None:
    used = {
        node.attr
        for tree in _trees().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "FailureCode"
    }
    assert used == set(FailureCode.__members__)


@pytest.mark.parametrize("entry", CODES.values(), ids=list(CODES))
def test_an_entry_can_be_read_and_acted_on(entry: CodeEntry) -> None:
    assert CODES[entry.code] is entry is entry_of(entry.code)
    assert re.fullmatch(r"[a-z][a-z_]*|[A-Z][A-Z_]*", entry.code)
    assert entry.group in get_args(CodeGroup)
    assert entry.category in get_args(Category)
    assert entry.severity in get_args(Severity)
    for text in (entry.sentence, entry.action):
        assert re.fullmatch(r"(meta-sync|[A-Z]).*\.", text), text
        assert "{" not in text
        assert "  " not in text
        assert "|" not in text
    assert entry.sentence != entry.action
    assert entry.template == "" or entry.template.count("{}") == 1
    assert (entry.template != "") is (entry.group == "issue")


def test_no_code_stands_for_two_things() -> None:
    assert len(CODES) == len((*PIPELINE, *GUARD, *JOBS, *MAPPING, *PREFLIGHT, *IMPORTS, *ADOPT, *API))


def test_sentences_stand_in_the_table_and_nowhere_else() -> None:
    sentences = {text for entry in CODES.values() for text in (entry.sentence, entry.template)} - {""}
    # Advice is written once, in the rules that the table takes it from.
    sentences |= {entry.action for entry in CODES.values()} - {*map(str, Advice), "Nothing to do."}
    above = {
        path: tree for path, tree in _trees().items() if {"sync", "api", "cli", "worker"} & set(path.parts)
    }
    assert above
    assert set(_texts(above)) & sentences == set()


# --- Meta's numbers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "said", "family"),
    [
        ("190/463", "Session has expired", "meta_token_refused"),
        ("104", "", "meta_app_refused"),
        ("100", "Invalid appsecret_proof provided in the API argument", "meta_app_refused"),
        ("100/33", "Unsupported post request.", "meta_catalog_lost"),
        ("200", "Requires catalog_management permission", "meta_permission_missing"),
        ("368", "The action is deemed abusive", "meta_account_blocked"),
        ("80014", "There have been too many calls", "meta_rate_limited"),
        ("2635", "You are calling a deprecated version", "meta_version_retired"),
        ("1", "Please reduce the amount of data you're asking for", "meta_call_too_large"),
        ("100", "Param price must be a string", "meta_call_refused"),
        ("2", "Service temporarily unavailable", "meta_trouble"),
        ("123456", "Whatever", "meta_unknown_error"),
        ("meta_not_reached", None, "meta_not_reached"),
        ("meta_no_answer", None, "meta_no_answer"),
        ("meta_answer_too_long", None, "meta_answer_too_long"),
        ("meta_access_refused", None, "meta_access_refused"),
        ("something", None, "meta_unknown_error"),
        ("", None, "meta_unknown_error"),
    ],
)
def test_a_number_of_metas_is_explained_by_its_family(code: str, said: str | None, family: str) -> None:
    assert explain(code, said).code == family


def test_a_number_that_nobody_knows_is_explained_by_the_pause_that_came_with_it() -> None:
    assert explain("123456", "Whatever", reason="meta_unreachable").code == "meta_unreachable"
    assert explain("x", reason="blocked_by_meta").code == "blocked_by_meta"
    assert explain("190", reason="needs_reconnect").code == "meta_token_refused"


def test_every_reason_to_stand_still_says_what_to_do() -> None:
    assert [(reason, entry_of(reason).group) for reason in get_args(StoreStandstill)] == [
        ("not_connected", "pause"),
        ("needs_reconnect", "pause"),
        ("config_incomplete", "pause"),
        ("sync_disabled", "pause"),
        ("throttled", "pause"),
        ("meta_unreachable", "pause"),
        ("blocked_by_meta", "pause"),
        ("held", "pause"),
    ]
    # No reason of the status: what somebody asked for, and what concerns the workers of one version.
    assert (entry_of(PREVIEW).group, entry_of("newer_mapper").group) == ("pause", "pause")


def test_every_rule_and_every_advice_has_its_family() -> None:
    for rule in RULES:
        error: GraphError = rule.error(ErrorFacts("x"), rule.reaction)
        entry = family_of(error)
        assert (entry.group, entry.action) == ("meta", rule.reaction)
        assert entry.category == rule.error.category or entry.code in {"meta_trouble", "meta_call_too_large"}
    assert len({entry.code for entry in FAMILIES.values()}) == len(Advice) == len(FAMILIES)
    assert family_of(NotConnectedError(ErrorFacts("x"), Advice.CONNECT_LATER)).code == "meta_not_reached"


# --- Where codes can be read -------------------------------------------------------------------------------------


def test_the_page_is_that_of_the_table() -> None:
    page = _ROOT / "docs" / "errors.md"
    assert page.read_text() == document(), "run: make error-codes"
    for code in CODES:
        assert f"| `{code}` |" in page.read_text()


def test_every_code_is_in_the_api_document() -> None:
    text = openapi_document()
    assert [code for code in CODES if f"`{code}`" not in text] == []


def test_every_code_is_in_at_least_one_other_test() -> None:
    members = {
        str(member): member.name
        for kind in (FailureCode, IssueCode, IneligibleReason, PreflightCode)
        for member in kind
    }
    tests = "\n".join(
        path.read_text()
        for path in sorted((_ROOT / "tests").rglob("*.py"))
        if path != Path(__file__) and "twins" not in path.parts
    )
    own = Path(__file__).read_text().partition("# --- Meta's numbers")[2]

    def is_tried(code: str) -> bool:
        member = members.get(code)
        return f'"{code}"' in tests + own or (
            member is not None and re.search(rf"\.{member}\b", tests) is not None
        )

    assert [code for code in CODES if not is_tried(code)] == []


def test_lists_of_codes_are_for_descriptions() -> None:
    assert names_of("item").startswith("`rejected_by_meta`, `refused_without_reason`")
    assert "`missing_price`" in names_of("skip", "issue")
    assert "`missing_price`" not in names_of("issue")
