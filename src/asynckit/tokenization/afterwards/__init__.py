"""What can be done with token shards once they are written: look into them, verify them, count them."""
