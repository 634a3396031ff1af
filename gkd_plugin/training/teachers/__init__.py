"""Trained models that teach: found, checked against the data, frozen, read once on a fixed graph."""
