"""The other ways to feed the same clips, each set up as somebody would who knows it well."""
