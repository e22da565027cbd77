"""Local pages and services; each binds to this machine unless told otherwise."""
