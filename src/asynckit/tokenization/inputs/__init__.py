"""What is tokenized: from paths and URLs to batches of records with the place of each."""
