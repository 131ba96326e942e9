"""Random distortion of images, a whole batch in one go."""

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from training.config import Augmentation


def distort(images: Tensor, most: Augmentation) -> Tensor:
    """Rotates, stretches, shears and shifts each image of a float batch (B, C, H, W) by its own
    random amounts; mirrors every other one and adds noise where asked to. What moves in from
    outside is 0. Distort raw pixels, of which 0 is black."""
    batch, _, height, width = images.shape

    def draw(limit: float) -> Tensor:
        return torch.empty(batch, device=images.device).uniform_(-limit, limit)

    angle = draw(math.radians(most.rotation))
    stretch_x, stretch_y = 1 + draw(most.scale), 1 + draw(most.scale)
    cos, sin = angle.cos(), angle.sin()
    # The affine map from output to input, in coordinates from -1 to 1 across the image.
    row_x = (cos * stretch_x, (draw(most.shear) - sin) * stretch_y, draw(2 * most.shift / width))
    row_y = (sin * stretch_x, cos * stretch_y, draw(2 * most.shift / height))
    theta = torch.stack((*row_x, *row_y), dim=1).view(batch, 2, 3)
    grid = affine_grid(theta, list(images.shape), align_corners=False)  # (B, H, W, 2)
    if most.mirror:
        mirrored = torch.rand(batch, device=images.device) < 0.5
        images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(-1), images)
    moved = grid_sample(images, grid, align_corners=False)
    if most.noise:
        moved = (moved + most.noise * torch.randn_like(moved)).clamp(0, 255)
    return moved
