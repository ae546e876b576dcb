"""`python -m paintbox_client`: the same as `paintbox`."""

from paintbox_client.cli import main

if __name__ == "__main__":
    main()
