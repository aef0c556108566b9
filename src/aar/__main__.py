"""`python -m aar`."""

from aar.cli import main

main()
