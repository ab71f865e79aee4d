"""Aldis: an SMS platform that answers for every message it accepts."""

__version__ = "0.1.0"
