"""`python -m ams`."""

from ams.cli import main

main()
