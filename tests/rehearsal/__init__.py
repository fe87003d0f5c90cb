"""What needs a real API server: the rehearsal cluster, the program on it, and the stand-ins for Linkerd."""
