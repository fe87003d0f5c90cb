"""The linter: its rules one by one, the files it reads, what it reports, and that nothing makes it fall over."""
