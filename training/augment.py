"""Random distortion of images, a whole batch in one go."""

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate, pad

from training.config import Augmentation, TrainConfig

GROWTH = 0.75  # of the training, in which images become as large as they are
GRAIN = 4  # pixels; sides in between would not outlast the pooling


class Augmenter:
    """The random distortions of one training run."""

    def __init__(self, config: TrainConfig, samples: int, device: torch.device) -> None:
        self._most, self._epochs = config.augmentation, config.epochs
        # A coin for each sample, the same in every epoch and when a run goes on.
        generator = torch.Generator().manual_seed(config.seed)
        self._heads = (torch.rand(samples, generator=generator) < 0.5).to(device)  # (N,)

    def __call__(self, x: Tensor, index: Tensor, epoch: int) -> Tensor:
        """The samples (B, ...) from the places `index` (B,), as they are met in an epoch from 1."""
        if self._most is None:
            return x
        turn = self._heads[index] ^ (epoch % 2 == 0)
        distorted = distort(x.float(), self._most, turn)
        return shrink(distorted, self._most.smallest, (epoch - 1) / self._epochs)


def distort(images: Tensor, most: Augmentation, turn: Tensor | None = None) -> Tensor:
    """Rotates, stretches, shears and shifts each image of a float batch (B, C, H, W) by its own
    random amounts; mirrors every other one, crops and adds noise where asked to. What moves in from
    outside is 0, or with a crop a mirror image. Distort raw pixels, of which 0 is black. `turn`
    (B,) says whose epoch it is to be mirrored, where images alternate."""
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
        at_random = torch.rand(batch, device=images.device) < 0.5
        mirrored = at_random if turn is None or not most.alternate else turn
        images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(-1), images)
    if most.crop:
        images = _crop(images, most.crop)
    moved = grid_sample(images, grid, align_corners=False)
    if most.noise:
        moved = (moved + most.noise * torch.randn_like(moved)).clamp(0, 255)
    return moved


def _crop(images: Tensor, most: int) -> Tensor:
    """Each image out of a larger one, which goes on beyond its borders as in a mirror; at whole
    pixels, so that nothing is blurred."""
    batch, _, height, width = images.shape

    def places(length: int) -> Tensor:
        starts = torch.randint(2 * most + 1, (batch, 1), device=images.device)
        return starts + torch.arange(length, device=images.device)  # (B, length)

    rows, columns = places(height)[:, :, None], places(width)[:, None, :]
    sample = torch.arange(batch, device=images.device)[:, None, None]
    larger = pad(images, (most,) * 4, mode="reflect").permute(0, 2, 3, 1)  # (B, H', W', C)
    return larger[sample, rows, columns].permute(0, 3, 1, 2)


def shrink(images: Tensor, smallest: float, share: float) -> Tensor:
    """Images (B, C, H, W) as small as they may be where `share` of the training is over: what is
    coarse is learnt first, at less cost. They grow evenly until GROWTH of it is over, but for sides
    that are no multiples of GRAIN."""
    if smallest == 1:
        return images
    grown = smallest + (1 - smallest) * min(1.0, share / GROWTH)
    size = [round(grown * side) // GRAIN * GRAIN for side in images.shape[2:]]
    return interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)
