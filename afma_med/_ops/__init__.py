"""How the steps of the method stay thin: patches, factored products, counts of non-zeros, slices."""
