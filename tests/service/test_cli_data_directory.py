"""The data directory: whose it is, who holds it, and the key that must not be lost."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from meta_sync.cli.data_directory import DataDirectory, DirectoryInUseError, Runtime
from meta_sync.cli.socket_directory import private_socket_directory, require_private
from meta_sync.core.errors import StartError


@pytest.fixture
def directory(tmp_path: Path) -> DataDirectory:
    directory = DataDirectory(tmp_path / "data")
    directory.prepare()
    return directory


def test_it_is_made_for_its_owner_only(directory: DataDirectory) -> None:
    assert directory.path.stat().st_mode & 0o777 == 0o700


def test_a_file_in_its_place_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    for path in (tmp_path / "data", tmp_path / "data" / "deeper"):
        with pytest.raises(StartError, match=r"is not a directory\. Set META_SYNC_DATA_DIR"):
            DataDirectory(path).prepare()


def test_another_users_directory_is_a_sentence(
    directory: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: directory.path.stat().st_uid + 1)
    with pytest.raises(StartError, match=r"belongs to another user \(uid \d+\)"):
        directory.prepare()


def test_a_directory_that_cannot_be_written_is_a_sentence(
    directory: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(StartError, match=r"cannot be written \(Permission denied\)\. Set META_SYNC_DATA_DIR"):
        directory.prepare()


def test_one_holds_it_and_the_other_learns_who(directory: DataDirectory) -> None:
    with directory.lock("up"), pytest.raises(DirectoryInUseError) as refused, directory.lock("demo"):
        pass
    assert (refused.value.role, refused.value.pid) == ("up", os.getpid())
    assert f"Another meta-sync up (process {os.getpid()}) uses" in str(refused.value)
    with directory.lock("demo"):
        pass


def test_the_lock_ends_with_the_process_that_was_killed(directory: DataDirectory) -> None:
    code = (
        "import os, pathlib, sys\n"
        "from meta_sync.cli.data_directory import DataDirectory\n"
        "with DataDirectory(pathlib.Path(sys.argv[1])).lock('up'):\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(directory.path)], check=False)
    with directory.lock("up"):
        pass


def test_what_runs_is_told_while_it_runs(directory: DataDirectory) -> None:
    assert directory.read_runtime() is None
    with directory.lock("up"):
        directory.write_runtime(Runtime(pid=1, database_url="postgresql:///x"))
        assert directory.read_runtime() == Runtime(pid=1, database_url="postgresql:///x")
        directory.clear_runtime()
        assert directory.read_runtime() is None


def test_the_word_of_a_killed_holder_is_forgotten_by_the_next(directory: DataDirectory) -> None:
    directory.write_runtime(Runtime(pid=1))
    with directory.lock("up"):
        assert directory.read_runtime() is None


def test_a_damaged_word_is_no_word(directory: DataDirectory) -> None:
    (directory.path / "runtime.json").write_text('{"pid": 1, "unheard_of": true}')
    assert directory.read_runtime() is None


def test_the_key_is_made_once_and_kept_private(directory: DataDirectory) -> None:
    assert directory.encryption_key(create=False) is None
    key = directory.encryption_key(create=True)
    assert key is not None
    assert directory.encryption_key(create=True) == key
    assert (directory.path / "encryption.key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in directory.path.iterdir()] == ["encryption.key"]


def test_a_damaged_key_is_never_replaced(directory: DataDirectory) -> None:
    file = directory.path / "encryption.key"
    for content in ("", "not a key", "c2hvcnQ="):
        file.write_text(content)
        with pytest.raises(StartError, match="Put the original file back"):
            directory.encryption_key(create=True)
        assert file.read_text() == content


def test_sockets_go_to_a_private_place(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["directory" * 3] * 6)
    place = private_socket_directory(deep)
    assert place == private_socket_directory(deep)
    assert place != private_socket_directory(deep / "other")
    assert len(str(place / ".s.PGSQL.5432.lock")) < 107


def test_a_socket_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir(mode=0o755)
    require_private(mine, set())
    assert mine.stat().st_mode & 0o777 == 0o700
    (tmp_path / "link").symlink_to(mine)
    with pytest.raises(StartError, match="belongs to another user"):
        require_private(tmp_path / "link", set())


def test_data_without_its_key_is_not_given_a_new_one(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    directory.prepare()
    directory.postgres.mkdir()
    (directory.postgres / "PG_VERSION").write_text("18\n")
    with pytest.raises(StartError, match=r"encryption\.key is missing"):
        directory.encryption_key(create=True)
    assert not (tmp_path / "encryption.key").exists()
