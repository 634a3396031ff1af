"""The five axes of graph knowledge distillation."""
