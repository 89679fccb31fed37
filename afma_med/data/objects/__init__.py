"""Objects of labels: connected components, their sizes, shapes and pixels."""
