"""The Ray cluster, for whoever spreads work over one."""
