"""The embedded Redis, listening sockets, and threads that end before their caller does."""

import asyncio
import socket
import threading
from pathlib import Path

import pytest

from meta_sync.cli.embedded_redis import EmbeddedRedis, find_redis_server
from meta_sync.cli.network import address_of, listening_socket, wait_until_serving
from meta_sync.cli.running import in_thread, to_the_end
from meta_sync.core.errors import StartError
from tests.support.redis import running_redis


def test_a_redis_left_behind_is_stopped_by_the_next_one(tmp_path: Path) -> None:
    with running_redis(tmp_path) as first:
        binary = find_redis_server()
        assert binary is not None
        second = EmbeddedRedis(first.directory, binary)
        second.start()
        try:
            assert first.has_died
            assert not second.has_died
            assert first.url == second.url
        finally:
            second.stop()
        assert second.pid is None


def test_a_redis_that_does_not_start_says_its_last_words(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path / "redis", Path("/bin/false"))
    with pytest.raises(StartError, match="The embedded Redis did not start"):
        server.start()
    assert server.pid is None


def test_a_port_in_use_names_the_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(StartError, match=f"Port {port} on 127.0.0.1 is in use by another program"),
            listening_socket("127.0.0.1", port),
        ):
            pass


@pytest.mark.parametrize("host", ["198.51.100.7", "no.such.host.invalid"])
def test_an_address_of_another_machine_is_a_sentence(host: str) -> None:
    with (
        pytest.raises(StartError, match=f"{host} is not an address of this machine"),
        listening_socket(host, 0),
    ):
        pass


def test_the_address_is_one_a_browser_can_use() -> None:
    with listening_socket("0.0.0.0", 0) as listener:
        assert address_of(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"


async def test_a_server_that_never_comes_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert not await wait_until_serving(
            url, "/", seconds=0.1, given_up=lambda: False, accept=lambda _: True
        )
    assert not await wait_until_serving(url, "/", seconds=60, given_up=lambda: True, accept=lambda _: True)


async def test_a_thread_ends_before_the_cancellation_is_heard() -> None:
    go, ended = threading.Event(), threading.Event()

    def work() -> None:
        go.wait(10)
        ended.set()

    task = asyncio.create_task(in_thread(work))
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.sleep(0.01)
    assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_what_runs_to_the_end_gives_its_result_and_its_error() -> None:
    async def fail() -> None:
        raise StartError("no")

    assert await in_thread(lambda: 7) == 7
    with pytest.raises(StartError, match="no"):
        await to_the_end(fail())
