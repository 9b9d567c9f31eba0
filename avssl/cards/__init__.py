"""Published weights: a card of each, and the files that were fetched or converted."""
