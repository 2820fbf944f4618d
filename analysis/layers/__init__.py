"""What each operation of a layer does, with its numbers."""
