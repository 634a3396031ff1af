"""From plain values to a plan with every key decided."""
