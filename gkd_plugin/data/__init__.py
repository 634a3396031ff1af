"""Data sets, splits and checks that the host lacks."""
