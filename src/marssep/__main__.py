"""`python -m marssep`, which is also how a launcher of many processes starts it."""

from marssep.cli import main

if __name__ == "__main__":
    main()
