"""``python -m gkd_cli`` is ``gkd``."""

from gkd_cli import start

start()
