"""The sections [auth] and [[rule]]: what they may say, and what is said of what they may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tercet_broker import certificates, config
from tercet_broker.cli import main

HASH = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$6W0SzRvOPl4Uhp0tqDF4tw"
TOKEN = f'[[auth.token]]\nid = "feed"\nhash = "{HASH}"\nuser = "feed"\n'
JWT = '[[auth.jwt]]\nissuer = "i"\naudience = "a"\n'
RULE = '[[rule]]\nwho = ["*"]\nallow = ["publish"]\nfilters = ["a/#"]\n'


def problems(text: str, folder: Path = Path("/nonexistent")) -> dict[str, str]:
    """Return {path: what is said of it}."""
    try:
        config.parse(text, folder)
    except config.ConfigError as error:
        return {problem.path: str(problem) for problem in error.problems}
    return {}


def test_nothing_is_wrong() -> None:
    assert problems(f"[auth]\n{TOKEN}{RULE}") == {}


@pytest.mark.parametrize(
    ("text", "path", "says"),
    [
        ("[auth]", "auth", "[[auth.token]]"),
        ("auth = true", "auth", "must be a table"),
        ("[auth]\nrequired = 1\n" + TOKEN, "auth.required", "must be true or false"),
        ("[auth]\ngrace = -1\n" + TOKEN, "auth.grace", "at least 0"),
        ("[auth]\ntokens = []\n" + TOKEN, "auth.tokens", "did you mean 'token'?"),
        (TOKEN.replace("[[auth.token]]", "[auth.token]"), "auth.token", "two brackets"),
        (TOKEN.replace("$argon2id", "$bcrypt"), "auth.token[0].hash", "tercet token"),
        (TOKEN.replace(HASH, "secret"), "auth.token[0].hash", "argon2 hash"),
        (TOKEN.replace('"feed"', '"a.b"', 1), "auth.token[0].id", "letters, digits"),
        (TOKEN.replace('user = "feed"', 'user = ""'), "auth.token[0].user", "must not be empty"),
        (TOKEN.replace('user = "feed"', ""), "auth.token[0].user", "is missing"),
        (TOKEN + 'groups = "x"\n', "auth.token[0].groups", "must be a list"),
        (TOKEN + TOKEN, "auth.token[1].id", "taken by auth.token[0]"),
        (JWT + 'algorithm = "none"\nkey = "k"', "auth.jwt[0].algorithm", "must be one of HS256, RS256, ES256, EdDSA"),
        (JWT + 'algorithm = "RS512"\nkey = "k"', "auth.jwt[0].algorithm", "RS256"),
        (JWT + 'algorithm = "RS256"', "auth.jwt[0]", "either 'key', a file, or 'jwks'"),
        (JWT + 'algorithm = "RS256"\nkey = "k"\njwks = "https://x/y"', "auth.jwt[0]", "either"),
        (JWT + 'algorithm = "HS256"\njwks = "https://x/y"', "auth.jwt[0]", "shared secret"),
        (JWT + 'algorithm = "RS256"\njwks = "http://x/y"', "auth.jwt[0].jwks", "https"),
        (JWT + 'algorithm = "RS256"\nkey = "k"', "auth.jwt[0].key", "cannot be read: No such file"),
        (RULE.replace("[[rule]]", "[rule]"), "rule", "two brackets"),
        (RULE.replace("[[rule]]", "[[rules]]"), "rules", "did you mean 'rule'?"),
        (RULE.replace('["*"]', '["alice"]'), "rule[0].who[0]", "'user:NAME'"),
        (RULE.replace('["*"]', '"*"'), "rule[0].who", "must be a list"),
        (RULE.replace('["*"]', "[]"), "rule[0].who", "must not be empty"),
        (RULE.replace('"publish"', '"publsh"'), "rule[0].allow[0]", "did you mean 'publish'?"),
        (RULE.replace("a/#", "a/#/b"), "rule[0].filters[0]", "'#' may only be the last level"),
        (RULE.replace("a/#", "a/{user}x"), "rule[0].filters[0]", "must stand alone"),
        (RULE + "deny = true", "rule[0].deny", "unknown option"),
        (RULE.replace('allow = ["publish"]', ""), "rule[0].allow", "is missing"),
    ],
)
def test_what_is_wrong(text: str, path: str, says: str) -> None:
    found = problems(text)
    assert set(found) == {path}
    assert says in found[path]


def test_each_item_of_a_list_is_looked_at() -> None:
    """Every problem, and not one for each time that somebody tries again."""
    rule = '[[rule]]\nwho = ["alice", "*", "bob"]\nallow = ["publish", "x"]\nfilters = ["a", "b/#/c", "{user}x"]\n'
    listener = '[[listener]]\nbind = "127.0.0.1:1"\norigins = ["x", "https://y.z"]\ntrusted_proxies = ["::1", "x", 1]\n'
    assert set(problems(rule + listener)) == {
        *("rule[0].who[0]", "rule[0].who[2]", "rule[0].allow[1]", "rule[0].filters[1]", "rule[0].filters[2]"),
        *("listener[0].origins[0]", "listener[0].trusted_proxies[2]"),  # types first: the text "x" is not looked at
    }


def test_short_secret(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x" * 31)
    found = problems(JWT + 'algorithm = "HS256"\nkey = "secret"', tmp_path)
    assert "32 or more" in found["auth.jwt[0].key"]


def test_secrets_are_not_in_a_problem(canary: str) -> None:
    """Whoever pastes a token where its hash belongs does not find it in the log."""
    assert canary not in str(problems(TOKEN.replace(HASH, f"feed.{canary}")))


@pytest.mark.parametrize(
    ("bind", "auth", "is_warned"),
    [("0.0.0.0:80", TOKEN, True), ("127.0.0.1:80", TOKEN, False), ("unix:/x", TOKEN, False), ("0.0.0.0:80", "", False)],
)
def test_check_warns_of_tokens_without_tls(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], bind: str, auth: str, *, is_warned: bool
) -> None:
    """A-005, as an operator sees it."""
    file = tmp_path / "tercet.toml"
    file.write_text(f'[[listener]]\nbind = "{bind}"\ninsecure = true\n{auth}')
    assert main(["check", str(file)]) == 0
    output, errors = capsys.readouterr()
    assert ("warning: listener[0]: takes tokens without TLS" in errors) == is_warned
    assert output


@pytest.mark.parametrize(
    ("who", "auth", "is_warned"),
    [
        ('"user:alice", "group:x"', "", True),
        ('"authenticated"', "", True),
        ('"authenticated", "anonymous"', "", False),
        ('"*"', "", False),
        ('"user:alice"', TOKEN, False),
    ],
)
def test_check_warns_of_rules_for_nobody(who: str, auth: str, *, is_warned: bool) -> None:
    loaded = config.parse(auth + RULE.replace('"*"', who), Path("/nonexistent"))
    assert [warning.path for warning in config.warnings(loaded)] == ["rule[0].who"] * is_warned


def test_certificates_make_somebody_of_clients(tmp_path: Path) -> None:
    certificates.write(certificates.make(["localhost"]), tmp_path)
    tls = 'tls = { certificate = "cert.pem", key = "key.pem", client_ca = "ca.pem" }\norigins = []\n'
    text = f'[[listener]]\nbind = "127.0.0.1:1"\n{tls}{RULE.replace("*", "user:alice")}'
    assert list(config.warnings(config.parse(text, tmp_path))) == []


@pytest.mark.parametrize(("mode", "is_warned"), [(0o600, False), (0o640, False), (0o644, True)])
def test_check_warns_of_secrets_that_everyone_can_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mode: int, *, is_warned: bool
) -> None:
    """The key of a certificate, and the secret of HS256."""
    certificates.write(certificates.make(["localhost"]), tmp_path)
    (tmp_path / "secret").write_text("x" * 32)
    for name in ("key.pem", "secret"):
        (tmp_path / name).chmod(mode)
    (tmp_path / "tercet.toml").write_text(
        f'{JWT}algorithm = "HS256"\nkey = "secret"\n'
        '[[listener]]\nbind = "127.0.0.1:1"\ntls = { certificate = "cert.pem", key = "key.pem" }\n'
    )
    assert main(["check", str(tmp_path / "tercet.toml")]) == 0
    errors = capsys.readouterr().err
    for path in ("auth.jwt[0].key", "listener[0].tls.key"):
        assert (f"warning: {path}: everyone on this machine can read" in errors) == is_warned
