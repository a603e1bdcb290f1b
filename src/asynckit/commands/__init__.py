"""One thin module per subcommand: options → config → one call → print."""
