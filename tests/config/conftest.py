"""Certificates that the tests of this folder share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tercet_broker import certificates


@pytest.fixture(scope="session")
def pems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ca.pem, cert.pem and key.pem, and another pair in `other/`."""
    folder = tmp_path_factory.mktemp("pems")
    certificates.write(certificates.make(["localhost"]), folder)
    certificates.write(certificates.make(["localhost"]), folder / "other")
    return folder
