"""Decisions about a message that need no I/O: route, price, admission, retry."""
