"""Structured logs: a fixed sentence, values as keys, secrets redacted. One place configures them per process."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Literal, TextIO

import structlog
from typing_extensions import override

__all__ = ["configure_logging", "get_logger", "redact"]

_SECRET_WORDS = "token|secret|password|passwd|authorization|api[_-]?key|encryption_?key|proof|cookie"  # noqa: S105 - words
_SECRET_KEYS = re.compile(_SECRET_WORDS, re.IGNORECASE)
_SECRET_TEXT = re.compile(
    r"EAA[A-Za-z0-9_\-]{12,}|mk_[A-Za-z0-9_\-]{12,}"
    # An app's own token: its id and its secret.
    r"|\b[0-9]{5,20}(?:\||%7C)[A-Za-z0-9_\-]{8,}"
    r"|\b(?i:bearer)\s++[^\s\"',]++|\b(?i:basic)\s++[A-Za-z0-9+/=]{12,}"
    # Up to the last @ of an address: a password may hold any sign, and an address of Redis has no user name.
    r"|(?<=://)[^\s/:@\"']{0,100}+:[^\s\"']{0,300}(?=@)"
)
_SECRET_PAIR = re.compile(
    # name=value, name: value and "name": "value", as queries, headers and dumps write them. The name stays.
    rf"(?P<name>(?:{_SECRET_WORDS})[\w\-]{{0,40}}[\"']?(?:=|:\s?))"
    r"(?:b?\"[^\"]*+\"?|b?'[^']*+'?|[^\s&,;\"'(){}\[\]]++)",
    re.IGNORECASE,
)
_REDACTED = "[redacted]"
_DEEPEST = 8
"""Values nested deeper are shown as Python writes them; nothing we log is."""

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_CONTROL_AND_BREAKS = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""What would move a terminal's cursor, forge a second line or turn the order of what is read."""
_MULTILINE = frozenset({"exception", "stack"})


def redact(text: str) -> str:
    """Replace whatever looks like a token, a key, a proof or the password of an address."""
    return _SECRET_PAIR.sub(rf"\g<name>{_REDACTED}", _SECRET_TEXT.sub(_REDACTED, text))


def _redact_event(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        # structlog's own: the record and the live exception, which are text by the time they are written.
        if not key.startswith("_") and key != "exc_info":
            event[key] = _redacted(key, value, 0)
    return event


def _redacted(key: str, value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if _SECRET_KEYS.search(key):
        return _REDACTED
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping) and depth < _DEEPEST:
        return {redact(str(name)): _redacted(str(name), inner, depth + 1) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset) and depth < _DEEPEST:
        return [_redacted("", inner, depth + 1) for inner in value]
    return redact(repr(value))


def _escape_control(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """For a terminal; JSON escapes by itself."""
    for key, value in event.items():
        if isinstance(value, str):
            pattern = _CONTROL if key in _MULTILINE else _CONTROL_AND_BREAKS
            event[key] = pattern.sub(lambda found: ascii(found[0])[1:-1], value.rstrip())
    return event


class _Handler(logging.StreamHandler[TextIO]):
    """Standard error. A record that cannot be written is not shown raw instead, as the library's own handler would."""

    @override
    def handleError(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(f"A log record of {record.name} could not be written.\n")


def configure_logging(level: str, form: Literal["json", "console"]) -> None:
    """Send the logs of this process, our own and the libraries', to standard error in one form."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        _redact_event,
    ]
    renderers: list[Any] = [structlog.processors.JSONRenderer()]
    if form == "console":
        console = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        renderers = [_escape_control, console]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = _Handler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # These log every request with its address at INFO; ours says the same without the query.
    for noisy in ("httpx", "httpcore", "uvicorn.access", "arq.worker", "asyncio"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLevelName(level)))


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger whose records carry a sentence and keys."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
