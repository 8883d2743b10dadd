"""Fuzz one target, guided by coverage: `python -m tests.fuzz TARGET --seconds 600`.

Needs atheris, which is libFuzzer for Python. What fails is written to the
corpus folder and shown; the exit code is then not 0.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click
import structlog

from . import targets


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


@click.command()
@click.argument("name", metavar="TARGET", type=click.Choice(targets.NAMES))
@click.option("--seconds", type=click.IntRange(min=1), default=600, show_default=True)
@click.option("--corpus", type=click.Path(path_type=Path, file_okay=False), help="Is kept, and gone on from.")
@click.option("--seed", type=int, default=1, show_default=True)
def main(name: str, seconds: int, corpus: Path | None, seed: int) -> None:
    """Run a target with ever other bytes."""
    try:
        import atheris  # noqa: PLC0415 - nothing but this command needs it
    except ImportError as error:
        raise click.ClickException("atheris is not installed: pip install atheris") from error
    with atheris.instrument_imports(include=["tercet_protocol", "tercet_broker", "tercet"]):
        target = targets.load(name)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    folder = corpus or Path(tempfile.mkdtemp(prefix=f"tercet-fuzz-{name}-"))
    folder.mkdir(parents=True, exist_ok=True)
    for number, one in enumerate(target.seeds):
        (folder / f"seed-{number}").write_bytes(one)
    words = folder.with_name(f"{folder.name}.words")
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in target.words))
    options = [f"-max_total_time={seconds}", f"-seed={seed}", f"-dict={words}", f"-artifact_prefix={folder}/"]
    options += ["-max_len=4096", "-timeout=20", "-rss_limit_mb=2048", "-print_final_stats=1", "-verbosity=1"]
    atheris.Setup([sys.argv[0], *options, str(folder)], target.run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
