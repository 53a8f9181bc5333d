"""`python -m sercha` is the command `sercha`."""

from sercha.cli.entry import main

if __name__ == "__main__":
    main()
