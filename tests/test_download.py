"""Downloading the original list, from a server on this machine."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pooch
import pytest

from handgrad.data import download, download_names
from handgrad.errors import DownloadError


class Server(HTTPServer):
    content = b""
    status = 200
    requests = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/names.txt"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests += 1
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HANDGRAD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "cache"


@pytest.fixture
def a_list(server: Server, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Serve a list, and let its checksum be the expected one."""
    server.content = b"emma\nolivia\nava\n"
    monkeypatch.setattr(download, "NAMES_SHA256", hashlib.sha256(server.content).hexdigest())
    return server.content


def test_the_checksum_is_that_of_the_original_list(original_names: Path) -> None:
    assert hashlib.sha256(original_names.read_bytes()).hexdigest() == download.NAMES_SHA256


def test_the_list_is_downloaded_once(
    server: Server, cache: Path, a_list: bytes, capfd: pytest.CaptureFixture[str]
) -> None:

    first, second = download_names(url=server.url), download_names(url=server.url)

    assert first == second == cache / "names.txt"
    assert first.read_bytes() == a_list
    assert server.requests == 1
    assert "100%" in capfd.readouterr().err


def test_a_cached_file_that_was_changed_is_downloaded_again(server: Server, cache: Path, a_list: bytes) -> None:
    download_names(url=server.url, progress=False).write_text("something else")

    path = download_names(url=server.url, progress=False)

    assert path.read_bytes() == a_list


def test_another_file_is_refused_and_not_kept(server: Server, cache: Path) -> None:
    server.content = b"ada\nben\n"

    with pytest.raises(DownloadError, match=r"what came is not the original list \(its SHA-256 differs\)"):
        download_names(url=server.url, progress=False)

    assert not list(cache.glob("*"))


def test_the_logger_of_pooch_is_silent_during_a_download_and_not_after_it(server: Server) -> None:
    messages: list[logging.LogRecord] = []
    logger, handler = pooch.get_logger(), logging.Handler()
    handler.emit = messages.append
    logger.addHandler(handler)

    logger.info("before")
    with pytest.raises(DownloadError):
        download_names(url=server.url, progress=False)
    logger.info("after")

    logger.removeHandler(handler)
    assert [record.getMessage() for record in messages] == ["before", "after"]


def test_the_users_cache_folder_is_the_default(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HANDGRAD_CACHE")
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "user" / project)

    with pytest.raises(DownloadError):
        download_names(url=server.url, progress=False)

    assert (tmp_path / "user" / "handgrad").is_dir()


def test_a_servers_refusal_is_told(server: Server) -> None:
    server.status = 404

    with pytest.raises(DownloadError) as raised:
        download_names(url=server.url, progress=False)

    assert str(raised.value) == (
        f"HG106: {server.url} could not be downloaded: the server answered 404 Not Found; "
        "try again later, or set HANDGRAD_WORDS to a list of your own"
    )


def test_a_server_that_is_not_there_is_told() -> None:
    with Server(("127.0.0.1", 0), Handler) as gone:
        url = gone.url

    with pytest.raises(DownloadError, match="the connection failed"):
        download_names(url=url, progress=False)


def test_a_cache_that_cannot_be_written_is_told(server: Server, cache: Path) -> None:
    cache.write_text("a file where the folder should be")

    with pytest.raises(DownloadError, match=r"the cache folder .* cannot be written"):
        download_names(url=server.url, progress=False)
