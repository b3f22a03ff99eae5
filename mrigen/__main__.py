"""``python -m mrigen``: the command where the script is not on the PATH."""

from mrigen.cli.main import main

main()
