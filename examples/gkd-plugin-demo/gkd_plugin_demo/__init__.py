"""A plugin of gkd_plugin: the knowledge ``energy`` and the kernel ``cauchy``."""
