"""Pictures to train and measure on: the library of parts, the composer, shards."""
