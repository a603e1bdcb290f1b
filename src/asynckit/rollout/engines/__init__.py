"""What a rollouter generates with: engines here, and engines at the other end of a network."""
