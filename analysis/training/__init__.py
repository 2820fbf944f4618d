"""How accuracy and loss converge over the epochs."""
