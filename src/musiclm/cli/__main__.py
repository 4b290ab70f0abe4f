"""`python -m musiclm.cli`."""

from musiclm.cli import main

main()
