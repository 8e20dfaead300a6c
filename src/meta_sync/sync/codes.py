"""The one table of codes: what each code that the service shows means and what to do about it.

The API, the commands and the documents read from here; nothing else holds these sentences. What Meta said itself stands
beside a code, word for word, and never in the table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from meta_sync.graph.errors import RULES, Advice, ErrorFacts, GraphError
from meta_sync.sync.code_entry import CodeEntry, CodeGroup, Severity
from meta_sync.sync.codes_adopt import ADOPT
from meta_sync.sync.codes_api import API
from meta_sync.sync.codes_guard import GUARD
from meta_sync.sync.codes_imports import IMPORTS
from meta_sync.sync.codes_jobs import JOBS, JobCode
from meta_sync.sync.codes_mapping import MAPPING
from meta_sync.sync.codes_pipeline import FAMILIES, PIPELINE, FailureCode
from meta_sync.sync.codes_preflight import PREFLIGHT, PreflightCode

__all__ = [
    "CODES",
    "CodeEntry",
    "CodeGroup",
    "FailureCode",
    "JobCode",
    "PreflightCode",
    "Severity",
    "entry_of",
    "explain",
    "family_of",
    "names_of",
]

CODES: Mapping[str, CodeEntry] = MappingProxyType(
    {entry.code: entry for entry in (*PIPELINE, *GUARD, *JOBS, *MAPPING, *PREFLIGHT, *IMPORTS, *ADOPT, *API)}
)
"""Every entry by its code, in the order of the groups."""

_NUMBER = re.compile(r"(\d{1,9})(?:/(\d{1,9}))?")
"""Meta's code, and its subcode, as pauses and batches keep them."""


def entry_of(code: str) -> CodeEntry:
    """The entry of one of our own codes.

    Raises
    ------
    KeyError
        The table has no such code.
    """
    return CODES[code]


def explain(code: str, said: str | None = None, *, reason: str | None = None) -> CodeEntry:
    """The entry to show with a code that is stored: our own one, or the family that Meta's number belongs to.

    Parameters
    ----------
    said
        What Meta said with the number; some numbers stand for several things that only the words tell apart.
    reason
        Why the store stands still with it, which says more than a number that nobody knows.
    """
    entry = CODES.get(code)
    if entry is not None:
        return entry
    number = _NUMBER.fullmatch(code)
    if number is None:
        return entry_of(reason) if reason else FAMILIES[Advice.REPORT]
    subcode = int(number[2]) if number[2] else None
    facts = ErrorFacts(said or "", code=int(number[1]), subcode=subcode, has_envelope=True)
    advice = next(rule.reaction for rule in RULES if rule.fits(facts))
    return entry_of(reason) if reason and advice is Advice.REPORT else FAMILIES[advice]


def family_of(error: GraphError) -> CodeEntry:
    """The entry of a failed call."""
    return FAMILIES[error.reaction]


def names_of(*groups: CodeGroup) -> str:
    """The codes of these groups as a list for a description, such as ``a``, ``b``."""
    return ", ".join(f"`{entry.code}`" for entry in CODES.values() if entry.group in groups)
