"""`python -m meshtrust`: the commands."""

from meshtrust.commands.cli import main

if __name__ == "__main__":
    main()
