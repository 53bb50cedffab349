"""Plugins for Strandline, written from its contracts alone."""
