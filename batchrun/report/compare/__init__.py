"""Two runs side by side: what one cost, took and answered, row by row, against the other."""
