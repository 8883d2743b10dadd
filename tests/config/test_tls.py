"""Certificates and keys are read when the configuration is, not when the first client comes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from tercet_broker import config


def tls_problems(folder: Path, certificate: str, key: str) -> dict[str, str]:
    text = f'[[listener]]\nbind = "0.0.0.0:1"\ntls = {{ certificate = "{certificate}", key = "{key}" }}'
    try:
        config.parse(text, folder)
    except config.ConfigError as error:
        return {problem.path.removeprefix("listener[0].tls."): problem.message for problem in error.problems}
    return {}


def test_good_pair(pems: Path) -> None:
    assert tls_problems(pems, "cert.pem", "key.pem") == {}


def test_missing_files_are_both_told(pems: Path) -> None:
    found = tls_problems(pems, "none.pem", "nokey.pem")
    assert found == {
        "certificate": f"'{pems / 'none.pem'}' cannot be read: No such file or directory",
        "key": f"'{pems / 'nokey.pem'}' cannot be read: No such file or directory",
    }


def test_key_of_another_certificate(pems: Path) -> None:
    assert "is not the key of the certificate" in tls_problems(pems, "cert.pem", "other/key.pem")["key"]


def test_files_swapped(pems: Path) -> None:
    found = tls_problems(pems, "key.pem", "cert.pem")
    assert "holds no certificate in PEM form; it holds a" in found["certificate"]
    assert "holds no private key in PEM form; it holds a certificate" in found["key"]


def test_der(pems: Path, tmp_path: Path) -> None:
    shutil.copy(pems / "key.pem", tmp_path / "key.pem")
    (tmp_path / "cert.pem").write_bytes(b"\x30\x82\x01\x0a" + bytes(range(256)))
    assert "holds no certificate in PEM form" in tls_problems(tmp_path, "cert.pem", "key.pem")["certificate"]


def test_broken_pem(pems: Path, tmp_path: Path) -> None:
    shutil.copy(pems / "key.pem", tmp_path / "key.pem")
    (tmp_path / "cert.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert "cannot be used" in tls_problems(tmp_path, "cert.pem", "key.pem")["certificate"]


def test_encrypted_key_does_not_ask_for_a_passphrase(pems: Path, tmp_path: Path) -> None:
    key = serialization.load_pem_private_key((pems / "key.pem").read_bytes(), None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    (tmp_path / "key.pem").write_bytes(encrypted)
    shutil.copy(pems / "cert.pem", tmp_path / "cert.pem")
    assert "is encrypted" in tls_problems(tmp_path, "cert.pem", "key.pem")["key"]


def test_key_is_required() -> None:
    with pytest.raises(config.ConfigError) as caught:
        config.parse('[[listener]]\nbind = "0.0.0.0:1"\ntls = { certificate = "c", kye = "k" }', Path())
    assert [(problem.path, problem.suggestion) for problem in caught.value.problems] == [
        ("listener[0].tls.key", None),
        ("listener[0].tls.kye", "did you mean 'key'?"),
    ]


def test_tls_alone_needs_an_example_of_a_table() -> None:
    with pytest.raises(config.ConfigError, match=r"must be a table, not true \(as in \{ certificate"):
        config.parse('[[listener]]\nbind = "0.0.0.0:1"\ntls = true', Path())
