"""One picture, in whatever form it comes, as pixels."""
