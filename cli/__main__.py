"""`python -m cli`: the same command where it is not installed as a script."""

from cli.main import main

if __name__ == "__main__":
    main(prog_name="millrace")
