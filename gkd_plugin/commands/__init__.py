"""What each ``gkd`` command does, as functions that a notebook can call too."""
