"""The shared configuration: one schema, layered loading, and where every value came from."""
