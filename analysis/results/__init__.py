"""How well the models classify, what they confuse, and how certain that is."""
