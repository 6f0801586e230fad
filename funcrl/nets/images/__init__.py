"""Networks for images from the literature, as templates on the meta device: `nets.pure(lenet())` is what one runs.

Each says its images' shape, its number of classes and a width, so that a small one of the same build trains on a CPU.
"""

from funcrl.nets.images.alexnet import alexnet
from funcrl.nets.images.built import shaped
from funcrl.nets.images.densenet import densenet
from funcrl.nets.images.googlenet import googlenet
from funcrl.nets.images.lenet import lenet
from funcrl.nets.images.nin import nin
from funcrl.nets.images.resnet import resnet18
from funcrl.nets.images.vgg import vgg11

__all__ = ["alexnet", "densenet", "googlenet", "lenet", "nin", "resnet18", "shaped", "vgg11"]
