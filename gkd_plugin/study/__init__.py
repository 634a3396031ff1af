"""Studies: many runs from one grid or search, spread over workers, aggregated and reported."""
