"""Structured logs: a fixed sentence, values as keys, secrets redacted. One place configures them per process."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Literal

import structlog

__all__ = ["configure_logging", "get_logger", "redact"]

_SECRET_KEYS = re.compile(r"token|secret|password|authorization|api_?key|proof|cookie", re.IGNORECASE)
_SECRET_TEXT = re.compile(
    r"(EAA[A-Za-z0-9]{12,}|mk_[A-Za-z0-9_\-]{12,}|(?:access_token|appsecret_proof|client_secret|input_token)=[^&\s\"']+"
    r"|Bearer\s+[^\s\"']+|(?<=://)[^/\s:@]+:[^/\s@]+(?=@))"
)
_REDACTED = "[redacted]"


def redact(text: str) -> str:
    """Replace whatever looks like a token, a key, a proof or the password of an address."""
    return _SECRET_TEXT.sub(_REDACTED, text)


def _redact_event(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = _REDACTED if _SECRET_KEYS.search(key) else redact(value)
    return event


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
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
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
