"""What every stage is given: context, display, and a clean end when interrupted."""
