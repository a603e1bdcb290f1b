"""After a run: listing, reading, auditing and exporting what it left behind."""
