"""A Pulumi stack and the mesh that it deploys: its file and outputs, its state of health, rotations and repairs of it.

May import every package but `meshtrust.fleet` and `meshtrust.commands`.
"""
