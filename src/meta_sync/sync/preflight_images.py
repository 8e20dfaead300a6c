"""Looks whether Meta's crawler could use an image: asks for its beginning, as anybody on the internet may.

Asks through the guarded client only, under our own name, and reads no more than the head of a file. What a server shows
Meta's own crawler, or its robots.txt allows it, cannot be told from here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from meta_sync.core.outbound import OutboundAnswer, OutboundClient, OutboundError, RefusedAddressError
from meta_sync.sync.codes_preflight import PreflightCode

__all__ = ["ImageVerdict", "judge_head", "picture_size", "probe_images"]

MAX_IMAGE_BYTES = 8_000_000
MIN_PIXELS = 500
"""Both documented by Meta, with JPEG and PNG as the formats."""

_HEAD_BYTES = 65_536
"""The size of nearly every JPEG stands in its first 64 KiB; where it does not, it is not judged."""
_SECONDS = 10.0
_AT_ONCE = 8
_MOST_BYTES = 1 << 40
"""The body is left as soon as its head is known, so its length is judged here and not by the client."""
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_NO_FRAME = frozenset({0xC4, 0xC8, 0xCC})
"""Markers among those of frames that begin none."""
_REFUSALS = frozenset({401, 403, 406, 429, 451})
_GONE = frozenset({404, 410})


@dataclass(frozen=True, slots=True)
class ImageVerdict:
    """What is the matter with an image; ``code`` is ``None`` for one that will do. ``detail`` is a sentence or empty."""

    url: str
    code: PreflightCode | None = None
    detail: str = ""


async def probe_images(client: OutboundClient, urls: Sequence[str]) -> list[ImageVerdict]:
    """Judge images, a few at a time; each takes ten seconds at most. Never raises for an address."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def probe(url: str) -> ImageVerdict:
        async with gate:
            return await _probe(client, url)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(probe(url)) for url in urls]
    return [task.result() for task in tasks]


async def _probe(client: OutboundClient, url: str) -> ImageVerdict:
    headers = {"Range": f"bytes=0-{_HEAD_BYTES - 1}", "Accept": "image/jpeg, image/png"}
    try:
        address = client.read(url)
        async with client.get(
            address, most_bytes=_MOST_BYTES, total_seconds=_SECONDS, headers=headers
        ) as answer:
            head = await _head(answer)
            return judge_head(url, answer.status, _length(answer), head)
    except RefusedAddressError as error:
        return ImageVerdict(url, PreflightCode.IMAGE_NOT_PUBLIC, error.message)
    except OutboundError as error:
        return ImageVerdict(url, PreflightCode.IMAGE_NOT_REACHED, error.message)


async def _head(answer: OutboundAnswer) -> bytes:
    if answer.status not in {200, 206}:
        return b""
    head = b""
    async for piece in answer.body():
        head += piece
        if len(head) >= _HEAD_BYTES:
            break
    return head[:_HEAD_BYTES]


def _length(answer: OutboundAnswer) -> int | None:
    """Bytes of the whole file, where the server says so."""
    told = answer.headers.get("content-range", "").rpartition("/")[2]
    if not told.isdigit() and answer.status == 200:
        told = answer.headers.get("content-length", "")
    return int(told) if told.isascii() and told.isdigit() else None


def judge_head(url: str, status: int, length: int | None, head: bytes) -> ImageVerdict:
    """What an answer says of an image. Pure; ``length`` is that of the whole file, ``head`` its first bytes."""
    if status in _GONE:
        return ImageVerdict(url, PreflightCode.IMAGE_GONE, f"The server answers {status}.")
    if status in _REFUSALS:
        return ImageVerdict(url, PreflightCode.IMAGE_REFUSED, f"The server answers {status}.")
    if status not in {200, 206}:
        return ImageVerdict(url, PreflightCode.IMAGE_NOT_REACHED, f"The server answers {status}.")
    if not head.startswith((_JPEG, _PNG)):
        return ImageVerdict(url, PreflightCode.IMAGE_WRONG_FORMAT)
    if length is not None and length > MAX_IMAGE_BYTES:
        return ImageVerdict(url, PreflightCode.IMAGE_TOO_LARGE, f"It has {length:,} bytes.")
    size = picture_size(head)
    if size is not None and min(size) < MIN_PIXELS:
        return ImageVerdict(url, PreflightCode.IMAGE_TOO_SMALL, f"It has {size[0]} by {size[1]} pixels.")
    return ImageVerdict(url)


def picture_size(head: bytes) -> tuple[int, int] | None:
    """Width and height of a JPEG or PNG from its first bytes; ``None`` where they do not tell."""
    if head.startswith(_PNG):
        if len(head) < 24 or head[12:16] != b"IHDR":
            return None
        return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    return _jpeg_size(head) if head.startswith(_JPEG) else None


def _jpeg_size(head: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(head):
        if head[at] != 0xFF:
            return None
        marker = head[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in _NO_FRAME:
            height, width = (
                int.from_bytes(head[at + 5 : at + 7], "big"),
                int.from_bytes(head[at + 7 : at + 9], "big"),
            )
            return width, height
        length = int.from_bytes(head[at + 2 : at + 4], "big")
        if length < 2:
            return None
        at += 2 + length
    return None
