"""Sets of node pairs and similarities on them: exact, lean in memory, fast."""
