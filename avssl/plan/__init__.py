"""What a training will cost, before it is begun: measured in small, and computed."""
