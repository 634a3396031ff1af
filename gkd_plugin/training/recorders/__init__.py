"""What a run writes down beside its rows: gradients of terms, learned layer maps."""
