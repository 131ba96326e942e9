"""`--workers`: the processes of one server, and the one that keeps them running."""
