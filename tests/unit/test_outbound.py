"""The gate to the web: what happens on the way there and back."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from meta_sync.core.outbound import (
    BasicCredentials,
    OutboundClient,
    OutboundError,
    OversizedBodyError,
    RefusedAddressError,
    resolve_with_system,
)
from meta_sync.core.outbound_address import AddressFaultError, is_public_address, read_web_address
from tests.support.feed_server import FeedServer, feed_server, plain, redirect


@pytest.fixture
async def server() -> AsyncIterator[FeedServer]:
    async with feed_server() as server:
        yield server


async def fetched(client: OutboundClient, url: str, **arguments: object) -> tuple[int, bytes]:
    given = {"most_bytes": 1_000_000, "total_seconds": 5.0, **arguments}
    async with client.get(client.read(url), **given) as answer:  # type: ignore[arg-type]  # whatever a test gives
        return answer.status, b"".join([piece async for piece in answer.body()])


async def test_a_fetch_keeps_the_name_and_goes_to_the_checked_address(server: FeedServer) -> None:
    server.answers["/feed.csv"] = plain(b"id,title\n")
    client = server.client()
    assert await fetched(client, server.url("/feed.csv?key=1")) == (200, b"id,title\n")
    (heard,) = server.heard
    assert heard.path == "/feed.csv?key=1"
    assert heard.headers["host"] == f"shop.example:{server.port}"
    assert heard.headers["accept-encoding"] == "identity"
    assert "cookie" not in heard.headers
    assert server.looked_up == ["shop.example"]


async def test_a_name_is_resolved_once_so_that_a_second_answer_changes_nothing(server: FeedServer) -> None:
    answers = iter([["127.0.0.1"], ["10.0.0.1"]])

    async def rebinding(_: str, __: int) -> list[str]:
        return next(answers)

    server.answers["/feed.csv"] = plain(b"x")
    client = server.client()
    client._resolve = rebinding
    assert await fetched(client, server.url()) == (200, b"x")
    with pytest.raises(RefusedAddressError):
        await fetched(client, server.url())
    assert len(server.heard) == 1


@pytest.mark.parametrize(
    "addresses",
    [
        ["10.0.0.1"],
        ["127.0.0.1", "10.0.0.1"],
        ["127.0.0.1", "::1"],
        ["127.0.0.1", "169.254.169.254"],
        ["127.0.0.1", "::ffff:192.168.0.1"],
        ["127.0.0.1", "fe80::1%1"],
    ],
)
async def test_one_address_inside_refuses_the_whole_name(server: FeedServer, addresses: list[str]) -> None:
    server.names["shop.example"] = addresses
    with pytest.raises(RefusedAddressError, match="private or reserved") as refused:
        await fetched(server.client(), server.url())
    assert not refused.value.is_passing
    assert server.heard == []


async def test_production_lets_no_loopback_in(server: FeedServer) -> None:
    client = OutboundClient(resolve=server.resolve, ports={server.port})
    with pytest.raises(RefusedAddressError):
        await fetched(client, server.url())
    assert server.heard == []


async def test_names_without_an_address(server: FeedServer) -> None:
    client = server.client()
    for answer in ([], ["nonsense"]):
        server.names["shop.example"] = answer
        with pytest.raises(OutboundError, match="DNS") as failed:
            await fetched(client, server.url())
        assert failed.value.is_passing
    with pytest.raises(OutboundError, match=r"nowhere\.example cannot be found"):
        await fetched(client, server.url(host="nowhere.example"))


async def test_the_next_address_is_tried_where_nobody_listens(server: FeedServer) -> None:
    server.answers["/feed.csv"] = plain(b"x")
    server.names["shop.example"] = ["127.0.0.2", "127.0.0.1"]
    client = server.client()
    client._is_allowed = lambda address: address.is_loopback
    assert await fetched(client, server.url()) == (200, b"x")
    server.names["shop.example"] = ["127.0.0.2"]
    with pytest.raises(OutboundError, match="cannot be connected to") as failed:
        await fetched(client, server.url())
    assert failed.value.is_passing


async def test_redirects_are_followed(server: FeedServer) -> None:
    server.answers |= {
        "/1": redirect("/2?a=b", 301),
        "/2": redirect(server.url("/3", "other.example"), 302),
        "/3": redirect("4", 303),
        "/4": redirect("//shop.example:" + str(server.port) + "/5", 307),
        "/5": redirect("?six=6", 308),
    }
    with pytest.raises(OutboundError, match="more than 5 times") as failed:
        await fetched(server.client(), server.url("/1"))
    assert not failed.value.is_passing
    server.heard.clear()
    server.answers["/5"] = plain(b"the end")
    assert await fetched(server.client(), server.url("/1")) == (200, b"the end")
    assert [one.path for one in server.heard] == ["/1", "/2?a=b", "/3", "/4", "/5"]
    assert [one.headers["host"].partition(":")[0] for one in server.heard] == [
        "shop.example",
        "shop.example",
        "other.example",
        "other.example",
        "shop.example",
    ]


@pytest.mark.parametrize(
    "location",
    [
        "http://10.0.0.1/",
        "http://127.0.0.1:22/",
        "http://[::1]:{port}/",
        "http://[::ffff:a9fe:a9fe]:{port}/",
        "http://inside.example:{port}/",
        "http://2130706433:{port}/",
        "file:///etc/passwd",
        "ftp://shop.example/",
        "//user:pw@shop.example:{port}/",
        "http://shop.example:5432/",
        "http://localhost:{port}/",
        "http://[",
        "/\x01",
    ],
)
async def test_a_redirect_goes_through_the_same_gate(server: FeedServer, location: str) -> None:
    server.names["inside.example"] = ["10.0.0.7"]
    server.answers["/feed.csv"] = redirect(location.format(port=server.port))
    with pytest.raises(OutboundError) as refused:
        await fetched(server.client(), server.url())
    assert "pw" not in refused.value.message
    assert len(server.heard) == 1


async def test_passwords_stay_with_their_origin(server: FeedServer) -> None:
    server.answers |= {
        "/same": redirect("/away"),
        "/away": redirect(server.url("/back", "other.example")),
        "/back": redirect(server.url("/end")),
        "/end": plain(b"x"),
    }
    credentials = BasicCredentials("ünser", SecretStr("s3cret:"))
    assert await fetched(server.client(), server.url("/same"), credentials=credentials) == (200, b"x")
    sent = [one.headers.get("authorization") for one in server.heard]
    said = f"Basic {base64.b64encode('ünser:s3cret:'.encode()).decode()}"
    assert sent == [said, said, None, None]
    assert "s3cret" not in repr(credentials)


async def test_an_answer_of_any_status_is_an_answer(server: FeedServer) -> None:
    server.answers |= {
        "/304": plain(b"", 304, ETag='"a"'),
        "/500": plain(b"broken", 500),
        "/300": plain(b"choose", 300),
        "/302": plain(b"nowhere", 302),
    }
    for path in server.answers:
        status, _ = await fetched(server.client(), server.url(path), headers={"If-None-Match": '"a"'})
        assert path == f"/{status}"
    assert server.heard[0].headers["if-none-match"] == '"a"'


HEAD = b"HTTP/1.1 200 OK\r\n"
CUT_SHORT = {
    "length": HEAD + b"Content-Length: 100\r\n\r\nabc",
    "no last chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    "half a chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\nff\r\nabc",
    "head": b"HTTP/1.1 200 O",
    "nothing": b"",
    "no HTTP": b"SSH-2.0-OpenSSH_9.9\r\n",
    "two lengths": HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
}


@pytest.mark.parametrize("name", CUT_SHORT)
async def test_a_body_that_is_cut_short_is_no_end(server: FeedServer, name: str) -> None:
    server.answers["/feed.csv"] = CUT_SHORT[name]
    with pytest.raises(OutboundError, match="broke off") as failed:
        await fetched(server.client(), server.url())
    assert failed.value.is_passing


async def test_how_the_end_of_a_body_is_proved(server: FeedServer) -> None:
    bodies = {
        plain(b"abc"): True,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n": True,
        HEAD + b"\r\nabc": False,
    }
    client = server.client()
    for body, proved in bodies.items():
        server.answers["/feed.csv"] = body
        async with client.get(client.read(server.url()), most_bytes=10, total_seconds=5) as answer:
            assert answer.is_end_proved is proved
            assert b"".join([piece async for piece in answer.body()]) == b"abc"


async def test_a_body_that_is_too_large_is_not_read_to_its_end(server: FeedServer) -> None:
    server.answers |= {
        "/declared": HEAD + b"Content-Length: 1000\r\n\r\n" + b"x" * 1000,
        "/chunked": HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"64\r\n" + b"x" * 100 + b"\r\n" * 1,
        "/open": HEAD + b"\r\n" + b"x" * 100_000,
    }
    for path in server.answers:
        with pytest.raises(OversizedBodyError, match="larger than 99 bytes") as failed:
            await fetched(server.client(), server.url(path), most_bytes=99)
        assert not failed.value.is_passing
    server.answers["/fits"] = plain(b"x" * 99)
    assert (await fetched(server.client(), server.url("/fits"), most_bytes=99))[1] == b"x" * 99


def dripping(piece: bytes, times: int = 500, pause_seconds: float = 0.02) -> list[bytes | float]:
    return [part for _ in range(times) for part in (piece, pause_seconds)]


async def test_a_body_that_trickles_is_given_up(server: FeedServer) -> None:
    """However it is cut: in pieces of a byte, in the head of a chunk, and after a quick beginning."""
    chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    server.answers |= {
        "/bytes": [HEAD + b"Content-Length: 1000\r\n\r\n", *dripping(b"x")],
        "/chunks": [chunked, *dripping(b"1\r\nx\r\n")],
        "/never-a-chunk": [chunked + b"1;", *dripping(b"x")],
        "/then-slow": [HEAD + b"Content-Length: 1000\r\n\r\n" + b"x" * 300, *dripping(b"x")],
        "/slow-enough": [HEAD + b"Content-Length: 6000\r\n\r\n", *dripping(b"x" * 100, 60, 0.005)],
    }
    client = server.client(slow_start_seconds=0.2, least_bytes_per_second=1_000.0)
    for path in list(server.answers)[:-1]:
        began = asyncio.get_running_loop().time()
        with pytest.raises(OutboundError, match="less than 1,000 bytes a second") as failed:
            await fetched(client, server.url(path), total_seconds=20.0)
        assert failed.value.is_passing
        assert asyncio.get_running_loop().time() - began < 5
    assert len((await fetched(client, server.url("/slow-enough"), total_seconds=20.0))[1]) == 6_000


async def test_a_slow_reader_is_not_taken_for_a_slow_server(server: FeedServer) -> None:
    server.answers["/feed.csv"] = [
        HEAD + b"Content-Length: 30\r\n\r\n",
        b"x" * 10,
        0.02,
        b"x" * 10,
        0.02,
        b"x" * 10,
    ]
    client = server.client(slow_start_seconds=0.2, least_bytes_per_second=1_000.0)
    received = 0
    async with client.get(client.read(server.url()), most_bytes=100, total_seconds=20.0) as answer:
        async for piece in answer.body():
            received += len(piece)
            await asyncio.sleep(0.15)
    assert received == 30


async def test_every_wait_ends(server: FeedServer) -> None:
    server.answers |= {
        "/silent": [30.0],
        "/drip": [b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", *dripping(b"x")],
        "/slow-head": dripping(b"H"),
        "/stall": [b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"x", 30.0],
    }
    waits = {
        "/silent": server.client(read_seconds=0.1),
        "/drip": server.client(),
        "/slow-head": server.client(head_seconds=0.3),
        "/stall": server.client(read_seconds=0.1),
    }
    for path, client in waits.items():
        began = asyncio.get_running_loop().time()
        with pytest.raises(OutboundError, match="too long") as failed:
            await fetched(client, server.url(path), total_seconds=0.5)
        assert failed.value.is_passing
        assert asyncio.get_running_loop().time() - began < 5

    async def never(_: str, __: int) -> list[str]:
        await asyncio.sleep(30)
        return []

    client = server.client(head_seconds=0.1)
    client._resolve = never
    with pytest.raises(OutboundError, match="too long"):
        await fetched(client, server.url())


async def test_codings_that_were_not_asked_for(server: FeedServer) -> None:
    server.answers |= {
        "/br": plain(b"\x0b\x02", Content_Encoding="br"),
        "/twice": plain(b"x", Content_Encoding="gzip, gzip"),
        "/identity": plain(b"x", Content_Encoding="identity"),
        # Handed on as the compressed file that it is; whoever reads files inflates it within bounds.
        "/gzip": plain(b"\x1f\x8b...", Content_Encoding="gzip"),
    }
    for path in ("/br", "/twice"):
        with pytest.raises(OutboundError, match="coding"):
            await fetched(server.client(), server.url(path))
    assert await fetched(server.client(), server.url("/identity")) == (200, b"x")
    assert await fetched(server.client(), server.url("/gzip")) == (200, b"\x1f\x8b...")


async def test_nothing_is_taken_from_the_environment(
    server: FeedServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine shop.example login a password b\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    server.answers["/feed.csv"] = plain(b"x")
    assert await fetched(server.client(), server.url()) == (200, b"x")
    assert "authorization" not in server.heard[0].headers


def certificate(directory: Path, *names: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Contexts of a server with a certificate for these names, and of a client that believes it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = directory / "both.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(path)
    return serving, ssl.create_default_context(
        cadata=signed.public_bytes(serialization.Encoding.PEM).decode()
    )


async def test_certificates_are_checked_for_the_name_and_not_for_the_address(tmp_path: Path) -> None:
    serving, believing = certificate(tmp_path, "shop.example")
    asked: list[str | None] = []
    serving.sni_callback = lambda _, name, __: asked.append(name)
    async with feed_server(serving) as server:
        server.answers |= {"/feed.csv": plain(b"x"), "/down": redirect("http://shop.example/")}
        client = server.client(believing)
        assert await fetched(client, server.url()) == (200, b"x")
        # The same address, another name: no connection of the first is used for it.
        with pytest.raises(OutboundError, match="certificate is not valid") as failed:
            await fetched(client, server.url(host="other.example"))
        assert not failed.value.is_passing
        with pytest.raises(OutboundError, match="certificate is not valid"):
            await fetched(client, server.url(host="127.0.0.1"))
        with pytest.raises(OutboundError, match="certificate is not valid"):
            await fetched(server.client(), server.url())
        assert asked == ["shop.example", "other.example", None, "shop.example"]


def test_https_never_falls_to_http() -> None:
    secure = read_web_address("https://shop.example/a")
    with pytest.raises(AddressFaultError, match="must stay with https"):
        secure.redirected("http://shop.example/b", ports={80, 443}, is_allowed=is_public_address)
    plain_one = read_web_address("http://shop.example/a")
    up = plain_one.redirected("https://shop.example/b c", ports={80, 443}, is_allowed=is_public_address)
    assert (up.scheme, up.target) == ("https", "/b%20c")


async def test_the_machines_own_resolver() -> None:
    with pytest.raises(OSError):
        await resolve_with_system("no-such-name.invalid", 80)
