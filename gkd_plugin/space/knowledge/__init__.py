"""What is compared: one file for each knowledge."""
