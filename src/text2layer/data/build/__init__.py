"""Training material of the quality classifiers, and the stages that ask them."""
