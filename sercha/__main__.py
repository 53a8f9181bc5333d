"""`python -m sercha` is the command `sercha`."""

from sercha.cli.main import main

if __name__ == "__main__":
    main()
