"""`python -m text2layer` is the `text2layer` program."""

from text2layer.cli import main

if __name__ == "__main__":
    main()
