"""What pyproject.toml cannot say: all packages, and the configs as one of them (they lie beside the package here)."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["gkd_cli", "gkd_plugin", "gkd_plugin.*"]), "gkd_plugin.graphgym_configs"],
    package_dir={"gkd_plugin.graphgym_configs": "graphgym_configs"},
)
