"""The configuration of a stack, read and checked as a whole before anything is declared. Asks no cluster."""
