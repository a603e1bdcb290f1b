"""What ``asynckit bench-cuda`` can measure."""
