"""``python -m gkd_plugin SCRIPT [args]``: imports the plugin, then runs the user's script untouched."""

from __future__ import annotations

import os
import runpy
import sys


def main() -> None:
    """Runs the script named on the command line as ``__main__``, as ``python SCRIPT`` would."""
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(
            "usage: python -m gkd_plugin SCRIPT [args]\n\nImports gkd_plugin and runs SCRIPT, e.g. GraphGym's main.py."
        )
        raise SystemExit(0 if len(sys.argv) > 1 else 2)
    script = sys.argv[1]
    if not os.path.isfile(script):
        print(f"gkd_plugin: there is no script '{script}' in {os.getcwd()}.", file=sys.stderr)
        raise SystemExit(2)
    sys.argv = sys.argv[1:]
    # python SCRIPT puts the script's folder first; custom_graphgym lies there
    sys.path.insert(0, os.path.dirname(os.path.abspath(script)))
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
