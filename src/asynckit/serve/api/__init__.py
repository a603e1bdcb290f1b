"""The server's HTTP routes, and what guards them."""
