"""The images: samples of them, and how their pixels go together."""
