"""What an image's first bytes say, and what a server's answer does."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta_sync.core.outbound import OutboundClient, OutboundTiming
from meta_sync.sync.codes_preflight import PreflightCode
from meta_sync.sync.preflight_images import judge_head, picture_size, probe_images

_URL = "https://shop.example/a.jpg"


def _png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height) + b"\x08\x02"


def _jpeg(width: int, height: int, *, before: bytes = b"", marker: int = 0xC0) -> bytes:
    app = b"\xff\xe1" + struct.pack(">H", 2 + len(before)) + before
    return b"\xff\xd8" + app + b"\xff\xff" + bytes([marker]) + struct.pack(">HBHHB", 17, 8, height, width, 3)


@pytest.mark.parametrize("make", [_png, _jpeg])
@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
def test_the_size_is_read(make: Callable[[int, int], bytes], width: int, height: int) -> None:
    assert picture_size(make(width, height)) == (width, height)


@given(st.binary(max_size=300), st.sampled_from([0xC1, 0xC2, 0xCF]), st.integers(0, 400))
def test_any_beginning_can_be_read(before: bytes, marker: int, length: int) -> None:
    head = _jpeg(640, 480, before=before, marker=marker)
    assert picture_size(head) == (640, 480)
    assert picture_size(head[:length]) in {None, (640, 480)}
    for start in (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b""):
        picture_size(start + before)


@pytest.mark.parametrize(
    ("status", "length", "head", "code"),
    [
        (200, 900_000, _jpeg(500, 500), None),
        (206, None, _png(1200, 628), None),
        (206, 100, b"\xff\xd8\xff\xe0" + b"\x00" * 50, None),
        (206, 8_000_001, _png(600, 600), PreflightCode.IMAGE_TOO_LARGE),
        (200, None, _jpeg(499, 900), PreflightCode.IMAGE_TOO_SMALL),
        (200, 10, b"GIF89a" + b"\x00" * 20, PreflightCode.IMAGE_WRONG_FORMAT),
        (200, 10, b"<!DOCTYPE html>", PreflightCode.IMAGE_WRONG_FORMAT),
        (200, 0, b"", PreflightCode.IMAGE_WRONG_FORMAT),
        (404, None, b"", PreflightCode.IMAGE_GONE),
        (410, None, b"", PreflightCode.IMAGE_GONE),
        (403, None, b"", PreflightCode.IMAGE_REFUSED),
        (500, None, b"", PreflightCode.IMAGE_NOT_REACHED),
        (304, None, b"", PreflightCode.IMAGE_NOT_REACHED),
    ],
)
def test_verdicts(status: int, length: int | None, head: bytes, code: PreflightCode | None) -> None:
    verdict = judge_head(_URL, status, length, head)
    assert verdict.code == code
    assert verdict.url == _URL


@asynccontextmanager
async def _server(answers: dict[str, bytes]) -> AsyncIterator[tuple[int, list[str]]]:
    """Answers each path with bytes as they are; a path without an answer is left waiting."""
    asked: list[str] = []
    closing = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        asked.append(head)
        answer = answers.get(head.split(" ")[1])
        if answer is None:
            await closing.wait()
        else:
            writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, family=socket.AF_INET)
    async with server:
        yield server.sockets[0].getsockname()[1], asked
        closing.set()


async def test_images_are_asked_for_by_their_beginning_and_never_inside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("meta_sync.sync.preflight_images._SECONDS", 0.5)
    body = _png(800, 800) + b"\x00" * 500_000
    answers = {
        "/whole.png": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body,
        "/part.png": b"HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-33/9000000\r\nContent-Length: 26\r\n\r\n"
        + _png(800, 800)[:26],
        "/moved.png": b"HTTP/1.1 302 Found\r\nLocation: http://10.0.0.1/a.png\r\nContent-Length: 0\r\n\r\n",
    }
    async with _server(answers) as (port, asked):
        client = OutboundClient(
            resolve=_resolve,
            is_allowed=lambda address: str(address) == "127.0.0.1",
            ports={port},
            timing=OutboundTiming(connect_seconds=1.0, read_seconds=1.0, head_seconds=1.0),
        )
        at = f"http://shop.example:{port}"
        urls = [
            f"{at}/whole.png",
            f"{at}/part.png",
            f"{at}/moved.png",
            f"{at}/never.png",
            "http://10.0.0.1/a.png",
        ]
        verdicts = await probe_images(client, urls)
    assert [one.code for one in verdicts] == [
        None,
        PreflightCode.IMAGE_TOO_LARGE,
        PreflightCode.IMAGE_NOT_PUBLIC,
        PreflightCode.IMAGE_NOT_REACHED,
        PreflightCode.IMAGE_NOT_PUBLIC,
    ]
    assert len(asked) == 4
    assert all("Range: bytes=0-65535" in head and "User-Agent: meta-sync\r\n" in head for head in asked)


async def test_an_address_that_leads_inside_is_never_asked() -> None:
    async with _server({"/a.png": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"}) as (port, asked):
        client = OutboundClient(resolve=_resolve, ports={port, 80, 443})
        urls = [f"http://shop.example:{port}/a.png", f"http://127.0.0.1:{port}/a.png", "ftp://shop.example/a"]
        verdicts = await probe_images(client, urls)
    assert [one.code for one in verdicts] == [PreflightCode.IMAGE_NOT_PUBLIC] * 3
    assert asked == []


async def _resolve(_host: str, _port: int) -> list[str]:
    return ["127.0.0.1"]
