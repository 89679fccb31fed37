"""Functions that the expressions of the bundles call: run folder, ids, command line, processes, packages."""
