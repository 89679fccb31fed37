"""What the expressions of the bundles call: the run's folder, ids, the command line, processes, packages."""
