"""`python -m ams.amc`."""

from ams.amc import main

main()
