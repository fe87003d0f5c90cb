"""What the program declares and decides, without an engine and without a cluster."""
