"""Real files of other people's packages: what Strandline stores of each, against the file's own text and other readers."""
