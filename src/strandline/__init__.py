"""Strandline: an ELT sync engine for incremental tables that never leaves a gap."""

__version__ = "0.1.0"
