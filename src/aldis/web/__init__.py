"""HTTP: the legacy API, health, metrics."""
