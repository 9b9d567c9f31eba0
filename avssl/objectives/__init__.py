"""The objectives that a run minimises: one file per objective."""
