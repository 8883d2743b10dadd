"""What `tercet certificate` makes works between two ends of TLS."""

from __future__ import annotations

import ssl
import stat
from pathlib import Path

import pytest

from tercet_broker import certificates


def handshake(folder: Path, name: str) -> None:
    """Do a TLS handshake in memory, checking `name`."""
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    client_context = ssl.create_default_context(cafile=folder / "ca.pem")
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(down, up, server_hostname=name)
    server = server_context.wrap_bio(up, down, server_side=True)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert client.version() is not None


@pytest.mark.parametrize("name", certificates.DEFAULT_NAMES)
def test_default_names_are_trusted(tmp_path: Path, name: str) -> None:
    certificates.write(certificates.make(certificates.DEFAULT_NAMES), tmp_path)
    handshake(tmp_path, name)


def test_another_name_is_not(tmp_path: Path) -> None:
    certificates.write(certificates.make(["localhost"]), tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tmp_path, "example.org")


def test_key_is_private_even_in_place_of_an_open_one(tmp_path: Path) -> None:
    (tmp_path / "key.pem").touch(mode=0o666)
    certificates.write(certificates.make(["localhost"]), tmp_path, force=True)
    assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ca.pem", "cert.pem", "key.pem"]


@pytest.mark.parametrize("existing", ["ca.pem", "cert.pem", "key.pem"])
def test_nothing_is_written_if_one_file_exists(tmp_path: Path, existing: str) -> None:
    (tmp_path / existing).write_text("mine")
    with pytest.raises(FileExistsError):
        certificates.write(certificates.make(["localhost"]), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [existing]
    assert (tmp_path / existing).read_text() == "mine"


@pytest.mark.parametrize("name", ["", "a b", "a,b", "a/b", "x" * 300, "a\x1b", "\udcff", "me@here"])
def test_names_that_no_host_has(name: str) -> None:
    with pytest.raises(ValueError, match=r"certificate|neither"):
        certificates.make([name])


def test_no_names() -> None:
    with pytest.raises(ValueError, match="one name at least"):
        certificates.make([])
