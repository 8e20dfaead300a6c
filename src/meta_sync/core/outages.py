"""Which errors say that PostgreSQL is away, full, read-only or busy, as opposed to a fault of ours. One answer for all.

The edges and the worker ask here; nobody else looks at a SQLSTATE to tell an outage from a fault.
"""

from __future__ import annotations

from asyncpg import InterfaceError as DriverInterfaceError
from asyncpg import PostgresError
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

__all__ = ["DatabaseAwayError", "is_contention", "is_outage", "outage_reason", "sqlstate"]

READ_ONLY = "25006"
"""What a former primary says after a fail-over, and a server that was made read-only."""
LOCK_NOT_AVAILABLE = "55P03"

_CONTENTION = frozenset({"40001", "40P01", LOCK_NOT_AVAILABLE})
"""Serialisation failure, deadlock, lock not available: the same transaction can succeed at the next attempt."""

_OUTAGE_CLASSES = ("08", "53", "57", "58")
"""Connection exceptions, insufficient resources (disk, memory, connections), operator intervention (shutdown, start,
a statement over its time), errors of the system below."""
_OUTAGE_STATES = frozenset({READ_ONLY, "25P03", "25P04"})
"""Besides the read-only server: a transaction that stood idle or took too long, which the server ended."""

_LONGEST_REASON = 300


class DatabaseAwayError(ConnectionError):
    """No connection could be had: nobody listens, the server refuses, or it does not answer in time.

    The driver lets such errors through as they come (an ``OSError``, an error of its own); they all read alike here.
    """


def sqlstate(error: BaseException) -> str | None:
    """The five-character SQLSTATE of a database error, when the driver gives one."""
    origin = error.orig if isinstance(error, DBAPIError) else error
    value = getattr(origin, "sqlstate", None) or getattr(origin, "pgcode", None)
    return str(value) if value else None


def is_contention(error: BaseException) -> bool:
    """Whether others were in the way: nothing was written, and the same transaction may succeed a moment later."""
    return sqlstate(error) in _CONTENTION


def is_outage(error: BaseException) -> bool:
    """Whether a server is away, full, read-only or too slow just now, so that waiting helps and nobody is to blame.

    What was being written may have been committed. Errors of the operating system count: on the ways that ask, they
    come from sockets.
    """
    state = sqlstate(error)
    if state is not None:
        return state.startswith(_OUTAGE_CLASSES) or state in _OUTAGE_STATES
    if isinstance(error, DBAPIError):
        # Errors of the connection carry no state.
        return error.connection_invalidated or isinstance(error, InterfaceError | OperationalError)
    return isinstance(error, OSError | PoolTimeoutError | DriverInterfaceError)


def outage_reason(error: BaseException) -> str:
    """What the server or the driver said, on one line, for a log or an operator; not for a caller of the API."""
    origin = getattr(error, "orig", None) or error
    said = str(origin).partition("\n")[0] or type(origin).__name__
    # SQLAlchemy's adapter puts the driver's class in front.
    said = said.rpartition(">: ")[2][:_LONGEST_REASON]
    state = sqlstate(error)
    return f"{said} ({state})" if state else said


CONNECT_ERRORS = (OSError, PostgresError, DriverInterfaceError, DBAPIError)
"""What comes out of an attempt to connect. SQLAlchemy wraps only some of it."""
