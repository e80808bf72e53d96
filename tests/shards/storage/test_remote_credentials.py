"""Credentials of a user who has a command and no Python: from the environment, and from fsspec's own files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shards.dataset import ShardDataset
from shards.errors import UserError
from shards.storage.cache_config import CacheConfig
from tests.project import ROOT
from tools.trials.faulty_server import FaultyServer, folder

pytest.importorskip("aiohttp", reason="http:// needs aiohttp")

READER = """
import sys
from pathlib import Path
from scenebias.data.datasets import RemoteConfig
from shards.errors import UserError

location, cache = sys.argv[1:]
remote = RemoteConfig(cache=Path(cache), download_retries=0, download_timeout_s=20)
try:
    print(len(remote.open(location)), "clips")
except UserError as error:
    print(error)
"""


def open_as_user(location: str, home: Path, **environment: str) -> str:
    """What a new process prints whose user has this home folder and these variables."""
    home.mkdir(exist_ok=True)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "FSSPEC_"))}
    process = subprocess.run(
        [sys.executable, "-c", READER, location, str(home / "cache")],
        env={**inherited, "AWS_EC2_METADATA_DISABLED": "true", "HOME": str(home), **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.strip()


def configure(home: Path, name: str, options: dict) -> None:
    """Write a configuration file of fsspec."""
    path = home / ".config" / "fsspec" / name
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(options))


@pytest.fixture(scope="module")
def s3_url(tiny_dataset):
    """Where a server of S3's protocol is that has the tiny data set as s3://mine/train."""
    s3fs = pytest.importorskip("s3fs", reason="s3:// needs s3fs")
    moto_server = pytest.importorskip("moto.server", reason="the server is that of moto")
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    files = s3fs.S3FileSystem(key="k", secret="s", endpoint_url=url, skip_instance_cache=True)
    files.mkdir("mine")
    for path in tiny_dataset.iterdir():
        files.pipe_file(f"mine/train/{path.name}", path.read_bytes())
    yield url
    server.stop()


def test_s3_is_read_with_what_the_environment_says(s3_url, tmp_path):
    keys = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}
    assert open_as_user("s3://mine/train", tmp_path / "home", AWS_ENDPOINT_URL=s3_url, **keys) == "12 clips"


def test_s3_is_read_with_what_the_files_of_fsspec_say(s3_url, tmp_path):
    configure(tmp_path / "home", "s3.json", {"s3": {"key": "k", "secret": "s", "endpoint_url": s3_url}})
    assert open_as_user("s3://mine/train", tmp_path / "home") == "12 clips"


def test_without_credentials_the_error_names_both_places(s3_url, tmp_path):
    error = open_as_user("s3://mine/train", tmp_path / "home", AWS_ENDPOINT_URL=s3_url)
    for part in ("s3://mine/train/manifest.json may not be read", "the environment", "~/.config/fsspec/*.json"):
        assert part in error


@pytest.fixture
def guarded(tiny_dataset):
    """A web server that gives the tiny data set only to who has the token."""
    files = folder(tiny_dataset.parent)

    def answer(method, path, headers):
        return files(method, path, headers) if headers.get("Authorization") == "Bearer t" else (401, {}, b"")

    with FaultyServer(answer) as server:
        yield f"{server.url}/{tiny_dataset.name}"


def test_a_token_for_a_web_server_comes_from_the_files_of_fsspec(guarded, tmp_path):
    assert "manifest.json may not be read" in open_as_user(guarded, tmp_path / "nobody")
    configure(tmp_path / "home", "web.json", {"http": {"client_kwargs": {"headers": {"Authorization": "Bearer t"}}}})
    assert open_as_user(guarded, tmp_path / "home") == "12 clips"


def test_options_given_in_python_reach_the_file_system_beside_our_own(guarded, tmp_path):
    options = {"client_kwargs": {"headers": {"Authorization": "Bearer t"}}}
    config = CacheConfig(directory=tmp_path / "c", download_retries=0, storage_options=options)
    dataset = ShardDataset.open(guarded, config)
    assert len(dataset) == 12
    assert dataset.store._files._file_system()[0].client_kwargs["timeout"].total is None
    with pytest.raises(UserError, match="may not be read"):
        ShardDataset.open(guarded, CacheConfig(directory=tmp_path / "d", download_retries=0))
