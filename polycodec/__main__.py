# SPDX-License-Identifier: Apache-2.0
"""The command `polycodec`, and `python -m polycodec`.

While the command line is loaded nothing is written: until then a signal ends the
process at once, without a trace.
"""

from polycodec.cli import process


def main() -> None:
    """Run the command line; ends the process with the exit code."""
    process.open_streams()
    process.end_at_once()
    from polycodec.cli.main import main as run

    process.end_orderly()
    run()


if __name__ == "__main__":
    main()
