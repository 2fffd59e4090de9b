"""Networks that mpfl itself does not build, for the tests of what needs torch."""

from torch import nn


class FlattenedChain(nn.Module):
    """As torchvision's VGG without batch norm: the head reads a block of pixels a channel."""

    def __init__(self, channels=(4, 5), classes=3):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(2, channels[0], 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(channels[0], channels[1], 2),
            nn.ReLU(),
        )
        self.classifier = nn.Sequential(
            nn.Linear(channels[1] * 2 * 2, 5), nn.ReLU(), nn.Linear(5, classes)
        )

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


class TanhChain(nn.Module):
    """A chain in which a dead channel gets gradients: tanh, unlike ReLU, has a slope at 0.

    A sigmoid even has a value there: a dead channel is not silent.
    """

    def __init__(self, channels=(4, 5), classes=3):
        super().__init__()
        first, second = channels
        self.features = nn.Sequential(
            nn.Conv2d(1, first, 3, padding=1),
            nn.BatchNorm2d(first),
            nn.Tanh(),
            nn.Conv2d(first, second, 3, padding=1),
            nn.BatchNorm2d(second),
            nn.Sigmoid(),
        )
        self.dropout = nn.Dropout(0.3)
        self.classifier = nn.Linear(second, classes)

    def forward(self, x):
        return self.classifier(self.dropout(self.features(x).mean((2, 3))))
