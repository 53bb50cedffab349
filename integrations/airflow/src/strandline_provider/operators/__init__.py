"""Operators: ``sync``."""
