"""An item while it is being mapped: what is known of it so far, and what there is to say about it."""

from __future__ import annotations

from typing import Any

from meta_sync.sync.mapping_issues import IssueCode, MappingIssue, issue

__all__ = ["Draft"]


class Draft:
    """The fields and issues of one item. Each ``fill_…`` function of the mapping adds its own fields to it.

    Attributes
    ----------
    data
        Fields with a value; an empty value is never put in.
    issues
        In the order in which they were found.
    """

    __slots__ = ("data", "issues")

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}
        self.issues: list[MappingIssue] = []

    def note(self, code: IssueCode, field: str, value: object) -> None:
        """Add an issue about a field."""
        self.issues.append(issue(code, field, value))
