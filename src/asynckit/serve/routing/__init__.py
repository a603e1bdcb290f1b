"""What the router decides, without sockets: who is next, which replica, and how every request ends."""
