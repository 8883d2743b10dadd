"""`tercet token`: a static token, and the hash that the broker is told."""

from __future__ import annotations

import secrets  # noqa: TID251 - a token is nothing but randomness

import click

_BYTES = 32  # 256 bits: nothing to be guessed, whatever hashes it


@click.command()
@click.argument("id_", metavar="ID")
@click.option("--user", metavar="NAME", help="Whom it stands for; ID unless given.")
def token(id_: str, user: str | None) -> None:
    """Make a token for the broker's configuration.

    Prints the token on standard output, once and nowhere else, and on standard
    error what the configuration has to say of it: only a hash, from which
    nobody can make the token again.

    \b
    Examples:
      tercet token feed > feed.token
      tercet token feed-2026 --user feed
    """  # noqa: D301 - click wants the control character
    # argon2 and the runtime's settings, which no other command needs.
    from ..config.problems import quote  # noqa: PLC0415
    from ..runtime.settings import TokenSettings  # noqa: PLC0415
    from ..runtime.static_tokens import hash_secret  # noqa: PLC0415

    secret = secrets.token_urlsafe(_BYTES)
    try:
        settings = TokenSettings(id_, hash_secret(secret), user or id_)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="ID") from error
    lines = ["[[auth.token]]", *(f"{name} = {quote(getattr(settings, name))}" for name in ("id", "hash", "user"))]
    click.echo("\n".join(lines), err=True)
    click.echo(f"{id_}.{secret}")
