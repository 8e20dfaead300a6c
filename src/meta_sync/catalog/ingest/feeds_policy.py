"""What a fetch means for its feed: which failures pass, what is said of them, when to look again. Pure."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "MOST_ATTEMPTS_ONCE",
    "FetchFailure",
    "failure_of_status",
    "wait_after_failure_seconds",
    "wait_once_seconds",
    "wait_seconds",
]

MOST_ATTEMPTS_ONCE = 5
"""Over some twenty minutes: somebody waits for the import."""

_LONGEST_BACKOFF_SECONDS = 86_400.0
_FIRST_WAIT_ONCE_SECONDS = 15.0
_SPREAD = 0.05
"""Feeds that were made in one go must not be fetched in one go for ever."""
_MOST_SPREAD_SECONDS = 600.0

_PASSING = frozenset({408, 425, 429})
"""Statuses below 500 that say: later."""

_SENTENCES = {
    401: "The server asks for a user name and a password, or does not accept the ones it was given.",
    403: "The server refuses access. Check the user name, the password and any key in the address.",
    404: "There is no file at this address.",
    410: "The file at this address was taken away.",
    429: "The server says that it is asked too often.",
}


@dataclass(frozen=True, slots=True)
class FetchFailure:
    """Why a file was not fetched."""

    message: str
    """A sentence for the owner of the feed, without a secret."""
    is_passing: bool
    """Whether the same may succeed a little later."""


def failure_of_status(status: int) -> FetchFailure:
    """What an answer other than a whole file means."""
    if status >= 500:
        return FetchFailure(f"The server has a problem of its own (status {status}).", is_passing=True)
    sentence = _SENTENCES.get(status, "The server did not answer with a file.")
    return FetchFailure(f"{sentence.removesuffix('.')} (status {status}).", is_passing=status in _PASSING)


def wait_seconds(interval_seconds: int, draw: float) -> float:
    """From a fetch that went well to the next one; ``draw`` is random, from 0 to 1."""
    return interval_seconds + draw * min(interval_seconds * _SPREAD, _MOST_SPREAD_SECONDS)


def wait_after_failure_seconds(interval_seconds: int, failures: int, draw: float) -> float:
    """From the given number of failures in a row to the next try: doubling up to a day, never faster than usual."""
    doubled = interval_seconds * 2.0 ** min(failures - 1, 20)
    longest = max(float(interval_seconds), _LONGEST_BACKOFF_SECONDS)
    return wait_seconds(round(min(doubled, longest)), draw)


def wait_once_seconds(failures: int, draw: float) -> float | None:
    """The same for an import that somebody waits for; ``None`` when it is given up."""
    if failures >= MOST_ATTEMPTS_ONCE:
        return None
    return _FIRST_WAIT_ONCE_SECONDS * 4.0 ** (failures - 1) * (1 + draw * 0.2)
