"""The command `study`: its options, and the stage that each command calls."""
