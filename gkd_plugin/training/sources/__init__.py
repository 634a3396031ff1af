"""The sources, one file each: who teaches, and the model behind those that are not students."""
