# SPDX-License-Identifier: Apache-2.0
"""`python -m polycodec` is the command `polycodec`."""

from polycodec.cli.main import main

if __name__ == "__main__":
    main()
