"""What only studies of the method need: benchmarks, the dense form, the tables of the paper."""
