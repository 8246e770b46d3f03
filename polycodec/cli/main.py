# SPDX-License-Identifier: Apache-2.0
"""The command `polycodec`.

    encode decode info verify tokens     signals in, .plc out, and back
    features classify                    what a classifier reads, and what it says
    models parts schema                  what there is
    train export shrink eval bench       codecs made and measured

Each command's signature is its list of options. What goes wrong is one line on
standard error and an exit code (failure.py); `--debug`, anywhere on the line, shows the
trace as well. Nothing heavy is imported before a command needs it.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Annotated

import typer
from typer.main import get_command

from polycodec.cli import process
from polycodec.cli.bench import bench
from polycodec.cli.decode import decode
from polycodec.cli.encode import encode
from polycodec.cli.eval import evaluate
from polycodec.cli.export import export, optional_name
from polycodec.cli.failure import INTERRUPTED, explain, printable
from polycodec.cli.features import classify, features
from polycodec.cli.inspect import info, verify
from polycodec.cli.listing import models, parts, schema
from polycodec.cli.sets import pack, unpack
from polycodec.cli.shrink import shrink
from polycodec.cli.tokens import tokens
from polycodec.cli.train import train
from polycodec.cli.values import spread
from polycodec.errors import InputError

# Rich's panels would double the time of --help, which is a tenth of a second.
app = typer.Typer(
    name="polycodec",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 2 usage, 3 input, 4 bitstream, 5 model.",
)
_SIGNALS = encode, decode, pack, unpack, features, classify
for command in (*_SIGNALS, info, verify, tokens, models, parts):
    app.command()(command)
app.command()(train)
app.command()(export)
app.command("eval")(evaluate)
app.command()(bench)
app.command()(shrink)
app.command()(schema)

# typer hands the errors of its parser on under one public name only.
_ParserError = typer.BadParameter.__mro__[2]


def _version(wanted: bool) -> None:
    if wanted:
        from polycodec import __version__

        print(f"polycodec {__version__}")
        raise typer.Exit()


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print it."),
    ] = False,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug", help="Say what is done, and show the trace of an error."
        ),
    ] = False,
) -> None:
    """Learned codecs for images and speech: the same bytes on every machine."""


def main(argv: list[str] | None = None) -> None:
    """Run the command line; ends the process with the exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    debug = _take_debug(args)
    given = list(args)  # a report says the command that it came from
    if args[:1] in (["eval"], ["bench"]):
        args = spread(args, ("--dataset", "--codec", "--codecs", "--reuse"))
    if args[:1] == ["export"]:
        args = optional_name(args)
    if debug:
        _show_log()
    try:
        _check_folder()
        code = get_command(app).main(
            args or ["--help"],
            prog_name="polycodec",
            standalone_mode=False,
            obj=given,
        )
        code = code if isinstance(code, int) else 0
        sys.stdout.flush()
        if not args:
            code = 2
    except BrokenPipeError:
        # Nobody reads on: not an error of ours. The interpreter's own flush at exit
        # must not find the pipe again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1  # what the parser's library makes of it, too
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        if process.received() is None:
            if debug:
                raise
            code, message = _said(error)
            print(f"polycodec: error: {message}", file=sys.stderr)
    if number := process.received():  # what a library made of it does not count
        code = 128 + number
    if code > 128:
        print("polycodec: interrupted; nothing half-written is left", file=sys.stderr)
    sys.exit(code)


def _show_log() -> None:
    """Send what the library logs to stderr, with the time since the start."""
    handler, logger = logging.StreamHandler(), logging.getLogger("polycodec")
    form = "%(relativeCreated)6d ms  %(name)s: %(message)s"
    handler.setFormatter(logging.Formatter(form))
    logger.handlers, logger.level = [handler], logging.DEBUG


def _check_folder() -> None:
    """Refuse to work where no path can be found: torch's libraries would abort."""
    try:
        os.getcwd()
    except OSError:
        raise InputError(
            "the current folder is gone; change to one that exists"
        ) from None


def _said(error: Exception) -> tuple[int, str]:
    if not isinstance(error, _ParserError):
        return explain(error)
    command = getattr(getattr(error, "ctx", None), "command_path", "polycodec")
    what = error.format_message().rstrip(".")  # type: ignore[attr-defined]
    return 2, printable(" ".join(f"{what}; see {command} --help".split()))


def _take_debug(args: list[str]) -> bool:
    """Remove --debug wherever it stands before a `--`; tell whether it was there."""
    end = args.index("--") if "--" in args else len(args)
    found = [k for k in range(end) if args[k] == "--debug"]
    for k in reversed(found):
        del args[k]
    return bool(found)
