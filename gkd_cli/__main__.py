"""``python -m gkd_cli`` is ``gkd``."""

from gkd_cli import start

if __name__ == "__main__":
    start()
