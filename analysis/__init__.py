"""Pure functions from arrays to tables, and from tables to figures; one file per question."""
