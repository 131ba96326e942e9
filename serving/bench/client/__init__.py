"""What sends the requests and counts what becomes of them, in processes of its own."""
