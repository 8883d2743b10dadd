"""Configuration files: whatever they say is a configuration or a `ConfigError`, and a configuration can be written."""

from __future__ import annotations

import tempfile
from pathlib import Path

import attrs

from tercet_broker import config
from tercet_broker.config.loading import SECTIONS

_FOLDER = Path(tempfile.mkdtemp(prefix="tercet-fuzz-"))  # with nothing in it
_HASH = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$MTIzNDU2Nzg5MDEyMzQ1Ng"

WORDS = [
    *(f"[{name}]\n".encode() for name in SECTIONS),
    *(f"[[{name}]]\n".encode() for name in ("listener", "rule", "auth.token", "auth.jwt")),
    *(f"{name} = ".encode() for cls in SECTIONS.values() for name in attrs.fields_dict(cls)),
    *(b"inf", b"nan", b"1e400", b"0x7fffffffffffffff", b"{}", b"[[]]", b"1979-05-27", b'"unix:/x"', b'"[::]:0"'),
    *(b'"0.0.0.0:1"', b'"{user}/#"', b'"user:a"', b'"*"', b'"https://x"', b'"10.0.0.0/8"', _HASH.encode()),
]
SEEDS = [
    (
        b'[[listener]]\nbind = "127.0.0.1:1"\npath = "/x"\norigins = ["https://a.example"]\nbacklog = 5\n'
        b'trusted_proxies = ["10.0.0.0/8", "::1"]\nproxy_protocol = true\n'
    ),
    b"[namespace.a]\nhistory = { messages = 5, seconds = 1.5 }\nretained = false\n[default]\nallow = false\n",
    (
        b"[limits]\nlast = 5\noutbox_bytes = 1000000\n[timeouts]\nwrite = 1\n[rates]\nrequests = 1.5\n"
        b'[logging]\nlevel = "debug"\nformat = "json"\n[connections]\ntotal = 5\n'
    ),
    f'[auth]\nrequired = false\n[[auth.token]]\nid = "a"\nhash = "{_HASH}"\nuser = "u"\ngroups = ["g"]\n'.encode(),
    b'[[auth.jwt]]\nissuer = "i"\naudience = "a"\nalgorithm = "ES256"\njwks = "https://x/y"\n',
    b'[[rule]]\nwho = ["user:a", "*"]\nallow = ["publish"]\nfilters = ["chat/{user}/#"]\n',
]


def run(data: bytes) -> None:
    """Load it as text, and if it is a configuration write it and load that."""
    text = data.decode("utf-8", "replace")
    try:
        loaded = config.parse(text, _FOLDER)
    except config.ConfigError as error:
        assert error.problems
        assert "\x1b" not in str(error)
        assert all(str(problem) for problem in error.problems)
        return
    again = config.parse(config.render(loaded), _FOLDER)
    assert again == loaded or "nan" in text
