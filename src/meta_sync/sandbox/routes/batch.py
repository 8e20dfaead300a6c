"""Several Graph calls in one: ``POST /`` with ``batch``, as the SDKs' batch objects send it. Each call counts."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

from meta_sync.sandbox import auth
from meta_sync.sandbox.dispatch import answer_call
from meta_sync.sandbox.errors import GraphError, parameter_error
from meta_sync.sandbox.state import SandboxState
from meta_sync.sandbox.wire import Answer, Call

__all__ = ["answer_batch"]

_MOST_CALLS = 50
"""Documented limit of one batch."""


def answer_batch(state: SandboxState, call: Call) -> Answer:
    """Answer every call of a batch in order; one whose answer was lost is ``null``, as Meta's timed-out ones are."""
    try:
        auth.authenticate(state, call)
        entries = _entries(call)
    except GraphError as error:
        return Answer(error.envelope(), status=error.status, error_code=error.code)
    return Answer([_one(state, call, entry) for entry in entries])


def _entries(call: Call) -> list[dict[str, Any]]:
    entries = call.structure("batch")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise parameter_error("The parameter batch must be an array of objects")
    if len(entries) > _MOST_CALLS:
        raise parameter_error(f"Too many requests in batch message. Maximum batch size is {_MOST_CALLS}")
    return entries


def _one(state: SandboxState, outer: Call, entry: dict[str, Any]) -> dict[str, Any] | None:
    url = urlsplit(str(entry.get("relative_url", "")))
    segments = tuple(part for part in url.path.split("/") if part)
    if segments and segments[0].startswith("v") and segments[0][1:2].isdigit():
        segments = segments[1:]
    params: dict[str, Any] = dict(parse_qsl(url.query, keep_blank_values=True))
    params |= dict(parse_qsl(str(entry.get("body") or ""), keep_blank_values=True))
    token = params.pop("access_token", None) or outer.token
    if token == outer.token and "appsecret_proof" in outer.params:
        params.setdefault("appsecret_proof", outer.params["appsecret_proof"])
    answer = answer_call(
        state,
        Call(
            method=str(entry.get("method", "GET")).upper(),
            path="/" + "/".join(segments),
            segments=segments,
            params=params,
            token=token,
            base_url=outer.base_url,
        ),
    )
    if answer.delivery != "whole":
        return None
    headers = [{"name": name, "value": value} for name, value in answer.headers.items()]
    return {"code": answer.status, "headers": headers, "body": answer.content().decode()}
