"""`tercet certificate`: what TLS needs, for development."""

from __future__ import annotations

from pathlib import Path

import click

from .exits import Failure

# certificates.DEFAULT_NAMES, which a test compares: importing that costs a tenth of a second.
DEFAULT_NAMES = ("localhost", "127.0.0.1", "::1")


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--name",
    "names",
    metavar="HOST",
    multiple=True,
    default=DEFAULT_NAMES,
    show_default=True,
    help="A name or IP address of the server. May be repeated, and replaces the default ones.",
)
@click.option("--force", is_flag=True, help="Overwrite files that are there already.")
def certificate(directory: Path, names: tuple[str, ...], *, force: bool) -> None:
    """Make a certificate for development, and put it into DIR.

    \b
      DIR/ca.pem    the certificate authority, which clients are told to trust
      DIR/cert.pem  the server's certificate chain
      DIR/key.pem   its private key, readable by you alone

    It is not for production: only clients that are given ca.pem trust it.

    \b
    Examples:
      tercet certificate certificates
      tercet certificate certificates --name broker.lan --name 192.168.1.7
    """  # noqa: D301 - click wants the control character
    # trustme brings in all of cryptography, which no other command needs.
    from .. import certificates  # noqa: PLC0415

    try:
        made = certificates.make(names)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--name") from error
    try:
        certificates.write(made, directory, force=force)
    except FileExistsError as error:
        hint = "" if force else "; --force overwrites it"
        raise Failure(f"{error.filename} exists already{hint}") from error
    except OSError as error:
        raise Failure(f"cannot write to {error.filename or directory}: {error.strerror}") from error
    click.echo(f"wrote ca.pem, cert.pem and key.pem to {directory}, for {', '.join(names)}")
