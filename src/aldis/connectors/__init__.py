"""Ways to upstream networks."""
