"""Run the command line as ``python -m asynckit``."""

from asynckit.cli import main

if __name__ == "__main__":
    main()
