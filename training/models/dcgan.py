"""A DCGAN for 28x28 images: a generator, and the discriminator that it is trained against."""

from torch import Tensor, nn

SLOPE = 0.2  # of the discriminator's activations below zero


class Dcgan(nn.Module):
    """Latents (B, latent) to logits of the pixels' brightness. The discriminator takes brightness,
    0 to 1, and gives one logit a picture: above 0 where it holds it for a real one."""

    def __init__(self, latent: int, width: int) -> None:
        super().__init__()
        self.generator = nn.Sequential(
            nn.Linear(latent, 2 * width * 49, bias=False),  # the norm that follows has the bias
            nn.Unflatten(1, (2 * width, 7, 7)),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),  # (B, W, 14, 14)
            nn.ReLU(),
            nn.ConvTranspose2d(width, 1, 4, stride=2, padding=1),  # (B, 1, 28, 28)
        )
        self.discriminator = nn.Sequential(
            nn.Conv2d(1, width, 4, stride=2, padding=1),  # (B, W, 14, 14)
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),  # (B, 2W, 7, 7)
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(2 * width, 1, 7),
            nn.Flatten(0),  # (B,)
        )

    def forward(self, latents: Tensor) -> Tensor:
        logits: Tensor = self.generator(latents)  # (B, 1, 28, 28)
        return logits
