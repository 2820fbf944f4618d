"""What all figures share: style, layouts and wording."""
