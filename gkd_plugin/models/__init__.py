"""Models under their own cfg, observed from outside."""
