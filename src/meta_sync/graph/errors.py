"""What went wrong at Meta, split by what the caller must do.

``classify`` is the one place that judges a failed call: the body first, the HTTP status second. It is pure
and never raises. ``RULES`` holds the judgement as data. Services translate these errors; they never reach an
API answer raw.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Literal

from typing_extensions import override

from meta_sync.graph.envelope import ErrorFacts, read_facts
from meta_sync.graph.tolerant import UNREADABLE, decode_json

__all__ = [
    "RULES",
    "AccountState",
    "Advice",
    "AssetLostError",
    "BlockedError",
    "Category",
    "CredentialsError",
    "ErrorFacts",
    "GraphError",
    "InvalidRequestError",
    "NoAnswerError",
    "NotConnectedError",
    "PermissionMissingError",
    "Rule",
    "ThrottleScope",
    "ThrottledError",
    "TooLargeError",
    "TransientError",
    "UnknownGraphError",
    "UnreadableAnswerError",
    "VersionRetiredError",
    "classify",
    "classify_value",
]

Category = Literal["authentication", "permission", "catalog", "product", "rate_limit", "network", "unknown"]
"""The words the HTTP API uses for the kind of a failure."""

AccountState = Literal["unchanged", "needs_reconnect", "needs_attention"]
"""What the failure says of the store's connection: nothing, sign in again, or a person has to look at it."""

ThrottleScope = Literal["calls", "questions", "both"]
"""What has to stay silent: writes, polls and reads, or everything."""


class Advice(StrEnum):
    """What to do about a failure, as a sentence for a merchant or operator. ``sync.codes`` says what each goes with."""

    RECONNECT = "Connect the store to Meta again."
    CHECK_APP = "Check the app id and the app secret; Meta does not accept the proof made with them."
    CHECK_CONNECTION = "Meta refuses the connection without naming a reason: run the connection check."
    GRANT = "Grant the permission that the message names, then connect the store again."
    ACCOUNT_QUALITY = (
        "Meta has blocked this account for policy reasons: see Account Quality, then wait some hours."
    )
    PICK_CATALOG = (
        "The catalog was deleted or access to it was taken away: restore the access or select a catalog."
    )
    WAIT = "Nothing to do: sending goes on when Meta's waiting time is over."
    NEW_VERSION = "Set a Graph API version that Meta still serves."
    HALVE = "Nothing to do: the work is sent again in smaller parts."
    FIX = "Correct what the message names; the same request would be refused again."
    LATER = "Nothing to do: Meta has trouble of its own, the call is made again later."
    CONNECT_LATER = "Nothing to do: the connection is tried again. If this lasts, check the network."
    FIND_OUT = "Nothing to do: what Meta did is found out before anything is sent again."
    REPORT_REPEATED = "Report this error if it repeats."
    REPORT = "Report this error; its code is not known here."


class GraphError(Exception):
    """A call to Meta that failed. The subclass says what to do; ``facts`` says what is known.

    Attributes
    ----------
    category
        The word the HTTP API shows.
    retryable
        Whether the same call may succeed later without anybody doing anything.
    account_state
        What it means for the store's connection.
    reaction
        What to do, as a sentence for a merchant or operator.
    """

    category: ClassVar[Category] = "unknown"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        facts: ErrorFacts,
        reaction: Advice = Advice.REPORT,
        account_state: AccountState = "unchanged",
    ) -> None:
        super().__init__(facts, reaction, account_state)
        self.facts = facts
        self.reaction: Advice = reaction
        self.account_state: AccountState = account_state

    @property
    def code(self) -> int | None:
        return self.facts.code

    @property
    def subcode(self) -> int | None:
        return self.facts.subcode

    @property
    def message(self) -> str:
        return self.facts.message

    @property
    def http_status(self) -> int | None:
        return self.facts.http_status

    @property
    def regain_seconds(self) -> int | None:
        """How long Meta wants silence; only of throttling, and only when Meta said so."""
        return None

    @property
    def is_definite(self) -> bool:
        """Whether it is certain that Meta did not carry out the call.

        True when nothing was sent, and when Graph itself refused, except with codes 1 and 2, which it also
        uses after it has begun to work. Without a code the refusal has to be recognised by other means to
        count as one.
        """
        if self.facts.nothing_sent:
            return True
        if not self.facts.has_envelope or self.facts.code in {1, 2}:
            return False
        return self.facts.code is not None or not isinstance(self, TransientError | UnknownGraphError)

    def to_error_meta(self) -> dict[str, Any]:
        """The ``meta`` part of the HTTP API's error envelope."""
        return {
            "fbType": self.facts.type,
            "fbCode": self.facts.code,
            "fbSubcode": self.facts.subcode,
            "fbTraceId": self.facts.fb_trace_id,
            "fbMessage": self.facts.message if self.facts.has_envelope else None,
            "category": self.category,
        }

    def to_log_context(self) -> dict[str, Any]:
        """Values for a log record. They carry no secret."""
        return {**self.to_error_meta(), "error": type(self).__name__, "httpStatus": self.facts.http_status}

    @override
    def __str__(self) -> str:
        code = (
            ""
            if self.code is None
            else f"Meta code {self.code}" + (f"/{self.subcode}" if self.subcode else "")
        )
        status = "" if self.http_status is None else f"HTTP {self.http_status}"
        trace = f"trace {self.facts.fb_trace_id}" if self.facts.fb_trace_id else ""
        source = ", ".join(part for part in (code, status, trace) if part)
        return f"{self.message} ({source})" if source else self.message

    @override
    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


class NotConnectedError(GraphError):
    """No connection was made: nothing was sent, so nothing happened at Meta."""

    category = "network"
    retryable = True


class NoAnswerError(GraphError):
    """The request left, in part or whole, and no complete answer came back: what Meta did is unknown."""

    category = "network"
    retryable = True


class TransientError(GraphError):
    """Meta has trouble of its own."""

    category = "network"
    retryable = True


class UnreadableAnswerError(GraphError):
    """An answer arrived that Graph did not write, or not whole: a proxy's page, half a body, no JSON."""

    category = "network"
    retryable = True


class ThrottledError(GraphError):
    """Too many calls. Every further one makes the block longer."""

    category = "rate_limit"
    retryable = True

    @property
    @override
    def regain_seconds(self) -> int | None:
        return self.facts.regain_seconds

    @property
    def scope(self) -> ThrottleScope:
        """80014 is the batch bucket, 80009 that of all other catalog calls (documented); others stop both."""
        if self.code == 80014:
            return "calls"
        return "questions" if self.code == 80009 else "both"


class CredentialsError(GraphError):
    """The token, or the app's proof, is not accepted."""

    category = "authentication"


class PermissionMissingError(GraphError):
    """The token is good but may not do this."""

    category = "permission"


class AssetLostError(GraphError):
    """The catalog is gone, or the token's access to it. Never a fault of the data."""

    category = "catalog"


class BlockedError(GraphError):
    """Meta blocks the account for policy reasons."""

    category = "permission"


class TooLargeError(GraphError):
    """The request asks for or carries too much; half of it may pass."""


class InvalidRequestError(GraphError):
    """Meta understands the call and refuses its content; the same content fails again."""

    category = "product"


class VersionRetiredError(GraphError):
    """The API version is no longer served."""


class UnknownGraphError(GraphError):
    """Graph refused with a code nobody here knows."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table: conditions that must all hold, and the judgement.

    Attributes
    ----------
    codes
        Meta codes; ``None`` inside stands for "no code". The attribute being ``None`` means any.
    subcodes, statuses
        Likewise for the subcode and the HTTP status.
    says
        A part of Meta's message, in lower case (calls ask for ``locale=en_US``).
    transient, envelope, type
        The flag, the presence and the ``type`` of Graph's error object.
    """

    error: type[GraphError]
    reaction: Advice
    codes: frozenset[int | None] | None = None
    subcodes: frozenset[int] | None = None
    statuses: frozenset[int] | None = None
    says: str = ""
    transient: bool = False
    envelope: bool | None = None
    type: str | None = None
    account_state: AccountState = "unchanged"

    def fits(self, facts: ErrorFacts) -> bool:
        """Whether every condition of this row holds."""
        return (
            (self.codes is None or facts.code in self.codes)
            and (self.subcodes is None or facts.subcode in self.subcodes)
            and (self.statuses is None or facts.http_status in self.statuses)
            and self.says in facts.message.lower()
            and (facts.is_transient or not self.transient)
            and (self.envelope is None or facts.has_envelope is self.envelope)
            and (self.type is None or facts.type == self.type)
        )


def _codes(*codes: int | None) -> frozenset[int | None]:
    return frozenset(codes)


_OAUTH_CODES = _codes(102, 190, 452, 458, 459, 460, 463, 464, 465, 467, 492)
"""190 and 102, and the subcodes of 190, which also turn up in the place of the code."""

RULES: tuple[Rule, ...] = (
    # Meta's texts decide only where one code stands for several things.
    Rule(
        CredentialsError,
        Advice.CHECK_APP,
        _codes(100, None),
        says="appsecret_proof",
        account_state="needs_attention",
    ),
    Rule(CredentialsError, Advice.CHECK_APP, _codes(101, 104), account_state="needs_attention"),
    Rule(CredentialsError, Advice.RECONNECT, _OAUTH_CODES, account_state="needs_reconnect"),
    Rule(
        CredentialsError, Advice.RECONNECT, _codes(2500), says="access token", account_state="needs_reconnect"
    ),
    Rule(AssetLostError, Advice.PICK_CATALOG, _codes(100), frozenset({33}), account_state="needs_attention"),
    Rule(
        AssetLostError,
        Advice.PICK_CATALOG,
        _codes(100, None),
        says="cannot be loaded due to missing permissions",
        account_state="needs_attention",
    ),
    Rule(AssetLostError, Advice.PICK_CATALOG, _codes(33, 803), account_state="needs_attention"),
    Rule(
        PermissionMissingError,
        Advice.GRANT,
        _codes(3, 10, 415, *range(200, 300)),
        account_state="needs_attention",
    ),
    Rule(
        BlockedError,
        Advice.ACCOUNT_QUALITY,
        _codes(368),
        account_state="needs_attention",
    ),
    Rule(ThrottledError, Advice.WAIT, _codes(4, 17, 32, 341, 613, *range(80000, 80100))),
    Rule(
        VersionRetiredError,
        Advice.NEW_VERSION,
        _codes(2635),
        account_state="needs_attention",
    ),
    Rule(TooLargeError, Advice.HALVE, _codes(None, 1, 2), says="reduce the amount of data"),
    Rule(TooLargeError, Advice.HALVE, _codes(None, 1, 2), statuses=frozenset({413})),
    Rule(TransientError, Advice.LATER, _codes(1, 2)),
    # A file that cannot be read stays so, although Meta flags this one as transient (observed).
    Rule(InvalidRequestError, Advice.FIX, _codes(324)),
    Rule(TransientError, Advice.LATER, transient=True),
    Rule(InvalidRequestError, Advice.FIX, _codes(100, 110, 115, 506, 801, 804, 2500, 10800, 10803, 2310019)),
    # From here on the code says nothing, and the status decides.
    Rule(ThrottledError, Advice.WAIT, statuses=frozenset({429})),
    Rule(TransientError, Advice.LATER, statuses=frozenset({408, *range(500, 600)})),
    Rule(CredentialsError, Advice.RECONNECT, statuses=frozenset({401}), account_state="needs_reconnect"),
    Rule(
        CredentialsError,
        Advice.CHECK_CONNECTION,
        _codes(None),
        statuses=frozenset({403}),
        envelope=True,
        account_state="needs_attention",
    ),
    Rule(
        CredentialsError,
        Advice.RECONNECT,
        _codes(None),
        type="OAuthException",
        account_state="needs_reconnect",
    ),
    Rule(UnknownGraphError, Advice.REPORT, envelope=True),
    Rule(UnreadableAnswerError, Advice.LATER),
)
"""Walked from the top; the first row that fits decides. The last one always does.

Codes are from Meta's pages "Error handling", "Rate limits" and the error tables of the catalog edges.
"""


def classify(status: int, headers: Mapping[str, str], body: bytes) -> GraphError | None:
    """The error an answer stands for, or ``None`` when it is a success.

    A success is any 2xx with a body that is JSON without an error object, and 204. An error object under HTTP
    200 is an error; a 200 that cannot be read is one too, since it says nothing about what happened.
    """
    return classify_value(status, headers, decode_json(body))


def classify_value(status: int, headers: Mapping[str, str], value: Any) -> GraphError | None:
    """As ``classify``, for a body that is decoded already (``UNREADABLE`` when it is no JSON)."""
    facts = read_facts(status, headers, value)
    is_success_status = 200 <= status < 300
    if is_success_status and not facts.has_envelope and (value is not UNREADABLE or status == 204):
        return None
    rule = next(rule for rule in RULES if rule.fits(facts))
    return rule.error(facts, rule.reaction, rule.account_state)
