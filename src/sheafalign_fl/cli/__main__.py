"""`python -m sheafalign_fl.cli` is `sheafalign`."""

from sheafalign_fl.cli.commands import main

main()
