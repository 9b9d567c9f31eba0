"""What a training minimises: one file per objective."""
