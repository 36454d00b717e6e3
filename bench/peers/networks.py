"""The workloads of the products' comparison as PyTorch modules, with the parameter names of the library's own networks."""
from collections import OrderedDict

import torch
import torch.nn as nn


def shortcut(inputs, outputs, stride):
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class Residual(nn.Module):
    """Two 3 x 3 convolutions with batch normalisation, beside a shortcut (He et al. 2016)."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = shortcut(inputs, outputs, stride)

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.downsample(x))


def resnet18(width=64):
    layers = [("conv1", nn.Conv2d(3, width, 3, 1, 1, bias=False)), ("bn1", nn.BatchNorm2d(width)), ("relu", nn.ReLU())]
    inputs = width
    for stage in range(4):
        outputs = width * 2**stage
        blocks = Residual(inputs, outputs, 2 if stage else 1), Residual(outputs, outputs, 1)
        layers.append((f"layer{stage + 1}", nn.Sequential(*blocks)))
        inputs = outputs
    layers += [("pool", nn.AdaptiveAvgPool2d(1)), ("flatten", nn.Flatten()), ("fc", nn.Linear(inputs, 10))]
    return nn.Sequential(OrderedDict(layers))


def mlp():
    layers = [("flatten", nn.Flatten()), ("fc1", nn.Linear(784, 1024)), ("relu1", nn.ReLU())]
    layers += [("fc2", nn.Linear(1024, 1024)), ("relu2", nn.ReLU()), ("fc3", nn.Linear(1024, 10))]
    return nn.Sequential(OrderedDict(layers))


def convnet():
    layers = []
    for i, (inputs, outputs) in enumerate([(3, 32), (32, 32), (32, 64), (64, 64)], 1):
        layers += [(f"conv{i}", nn.Conv2d(inputs, outputs, 3, padding=1)), (f"relu{i}", nn.ReLU())]
        if i % 2 == 0:
            layers.append((f"pool{i}", nn.MaxPool2d(2)))
    layers += [("flatten", nn.Flatten()), ("fc1", nn.Linear(4096, 128)), ("relu5", nn.ReLU()), ("fc2", nn.Linear(128, 10))]
    return nn.Sequential(OrderedDict(layers))


class Bottleneck(nn.Module):
    """A 3 x 3 convolution between two of 1 x 1, beside a shortcut (He et al. 2016), the stride in the middle."""

    def __init__(self, inputs, channels, stride):
        super().__init__()
        outputs = 4 * channels
        self.conv1, self.bn1 = nn.Conv2d(inputs, channels, 1, bias=False), nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3, self.bn3 = nn.Conv2d(channels, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        self.downsample = shortcut(inputs, outputs, stride)

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        return torch.relu(self.bn3(self.conv3(y)) + self.downsample(x))


def resnet50(width=64):
    layers = [("conv1", nn.Conv2d(3, width, 7, 2, 3, bias=False)), ("bn1", nn.BatchNorm2d(width)), ("relu", nn.ReLU())]
    layers.append(("pool1", nn.MaxPool2d(3, 2, 1)))
    inputs = width
    for stage, depth in enumerate([3, 4, 6, 3]):
        channels, blocks = width * 2**stage, []
        for i in range(depth):
            blocks.append(Bottleneck(inputs, channels, 2 if stage and i == 0 else 1))
            inputs = 4 * channels
        layers.append((f"layer{stage + 1}", nn.Sequential(*blocks)))
    layers += [("pool", nn.AdaptiveAvgPool2d(1)), ("flatten", nn.Flatten()), ("fc", nn.Linear(inputs, 1000))]
    return nn.Sequential(OrderedDict(layers))


NETWORKS = {"mlp": mlp, "convnet": convnet, "resnet18": resnet18, "resnet50": resnet50}
