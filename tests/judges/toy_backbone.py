"""A backbone without weights of others."""

import torch


class Colours(torch.nn.Module):
    """A backbone whose eight maps are the mean colours of 32 x 32 fields."""

    def maps(self, x):
        return [torch.nn.functional.avg_pool2d(x, 32)] * 8
