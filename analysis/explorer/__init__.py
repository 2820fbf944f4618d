"""The explorer: a page that runs the convolutions in the browser."""
