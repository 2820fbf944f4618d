"""Recorded studies checked, repaired, exported and imported."""
