"""The laboratory: what was asked of the method, and what came out."""
