"""`python -m meshtrust`: the commands."""

from meshtrust.cli import main

if __name__ == "__main__":
    main()
