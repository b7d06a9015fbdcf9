"""A sample of the rows that runs first: which rows, what they say of the rest, and whether the rest turns out so."""
