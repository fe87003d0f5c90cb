"""Output of the commands: progress, tables, pictures, and formats for machines."""
