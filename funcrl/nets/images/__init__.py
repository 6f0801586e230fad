"""Networks for images from the literature, as templates on the meta device: `nets.pure(lenet())` is what one runs.

Each says its images' shape, its number of classes and a width, so that a small one of the same build trains on a CPU.

With weights of its own in each lane, a convolution under `vmap` is one grouped convolution, and is left so. Compiled updates of
64 images, milliseconds a lane on one core of a CPU with AVX-512 (torch 2.13): LeNet at 32 x 32 with 1, 8, 32 lanes 7.8, 7.8, 9.7,
with patches laid out and multiplied as matrices 16.6, 25.4, 24.5, one lane after the other in torch's own loop 12.5; ResNet-18
of width 8 at 8 x 8 with 8 lanes 10.3, 18.0 and 15.2. `supervised.fit` takes two lanes after two where images are large: 5.7 for
LeNet's 32. (The convolutions of policies, `nets.cnn`, are another matter: smaller images, and strides.)
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
