"""Shared by all figures: style, layouts, fonts and wording."""
