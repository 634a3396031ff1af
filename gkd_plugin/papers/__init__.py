"""Published results: recipes that repeat them as studies, and what came out beside what was printed."""
