"""CT volumes: grids, slices, series, checks."""
