"""Loops, evaluation, selection, checkpoints."""
