"""What a trained student costs, and the student alone, for machines that only use it."""
