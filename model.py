"""The U-Net: five levels, four skips, a class for every pixel.

Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation",
MICCAI 2015, with 'same' convolutions and batch norm. Stock Keras layers only, so that every backend
trains it and plain `keras.models.load_model` opens the file.
"""

import seg  # noqa: F401  # isort: skip - it sets what TensorFlow reads when it is imported
import keras
from keras import layers
from keras.callbacks import TensorBoard

from seg.classes import class_table
from seg.encoders import encode
from seg.files import InputError
from seg.losses import compile_model
from seg.modelfile import About, ModelCheckpoint, load_model, load_weights, save_model
from seg.sizes import SizeRule
from seg.speed import quicken

__all__ = ['ModelCheckpoint', 'TensorBoard', 'load_model', 'save_model', 'unet']
LEVELS = 5


def unet(
    pretrained_weights=None,
    input_size=(360, 480, 3),
    num_class=13,
    filters=64,
    batch_norm=True,
    fusion='concat',
    activation=None,
    loss=None,
    learning_rate=1e-3,
    classes=None,
    stride=1,
    dilated=False,
    residual=False,
    encoder='none',
    encoder_weights='imagenet',
):
    """A compiled five-level U-Net whose output has exactly the input's height and width.

    Args:
        pretrained_weights: path of a model or weights file to start from, or a pattern of several.
        input_size: (height, width, channels), any sides from 16 on; the model pads and crops. None
            for both is a network for pictures of any sides that 32 divides.
        num_class: output channels; 1 is the two-class net with one sigmoid channel.
        filters: channels of the first level; each level down doubles them.
        batch_norm: normalise after every 3x3 convolution, in place of its bias.
        fusion: 'concat', the U-Net, or 'add', as FCN fuses.
        activation: of the output: 'softmax' (default), 'relu', or 'sigmoid' (default of 1 class).
        loss: a key of seg.losses.LOSSES; default cross-entropy. Void pixels carry none.
        learning_rate: of Adam.
        classes: ClassTable; default `class_table(num_class)`.
        stride: 2 enters and leaves at half resolution, at a quarter of the cost.
        dilated: the bottom's convolutions, at rates 2 and 4, see nearly the whole picture
            (Chen et al., "Rethinking Atrous Convolution", 2017).
        residual: each pair's second convolution adds to its first (He et al., CVPR 2016).
        encoder: a key of seg.encoders.ENCODERS in place of the contracting path. At stride 2 its
            maps at 1/2 to 1/32 are the levels; at 1 those to 1/16, below one of our own.
        encoder_weights: of it: 'imagenet', an .h5 file, or None for a random start.

    Returns: keras.Model, (N, H, W, channels) in 0..1 -> (N, H, W, num_class).
    Raises: ValueError for arguments out of range; InputError for weights that do not fit.
    """
    height, width, _ = input_size
    activation = activation or ('sigmoid' if num_class == 1 else 'softmax')
    free = height is width is None
    if not free and min(height or 0, width or 0) < 16:
        raise ValueError(f'input_size: expected sides of 16 pixels or more, found {input_size}')
    if fusion not in ('concat', 'add') or stride not in (1, 2):
        raise ValueError(f'expected fusion concat or add, stride 1 or 2, found {fusion}, {stride}')
    if num_class == 1 and activation == 'softmax':
        raise InputError('softmax of one channel is always 1; use sigmoid, or two classes')
    he = dict(kernel_initializer='he_normal')
    same = dict(padding='same', use_bias=not batch_norm, **he)

    def conv(x, filters, name, size=3, **options):
        x = layers.Conv2D(filters, size, name=name, **same, **options)(x)
        if batch_norm:  # Keras' momentum of .99 lags behind in runs of a few hundred steps
            x = layers.BatchNormalization(momentum=0.9, name=name.replace('conv', 'norm'))(x)
        return x

    def two_convs(x, level, name, rates=(1, 1)):
        for i, rate in enumerate(rates, 1):
            entry, x = x, conv(x, filters << level, f'{name}_conv{i}', dilation_rate=rate)
            if residual and i == 2:
                x = layers.Add(name=f'{name}_residual')([entry, x])
            x = layers.ReLU(name=f'{name}_relu{i}')(x)
        return x

    x = inputs = keras.Input(input_size, name='image')
    stem = stride == 2 and encoder == 'none'  # an encoder has its own
    if stem:  # 6x6 at stride 2 sees what 3x3 sees of the picture's 2x2 blocks
        x = layers.ReLU(name='stem_relu')(conv(x, filters, 'stem_conv', 6, strides=2))
    # Four poolings halve the sides, so the padded ones are multiples of 16: 360 rows become 368.
    times, least = (16, 0) if encoder == 'none' else (16 * stride, 32)  # Keras' take no fewer
    missing = [0 if free else max(-side % times, least - side) for side in x.shape[1:3]]
    pads = [(n // 2, (n + 1) // 2) for n in missing]
    if any(map(any, pads)):
        x = layers.ZeroPadding2D(pads, name='pad')(x)
    if encoder == 'none':
        skips = []
        for level in range(LEVELS - 1):
            skips.append(two_convs(x, level, f'down{level + 1}'))
            x = layers.MaxPooling2D(name=f'pool{level + 1}')(skips[-1])
        x = two_convs(x, LEVELS - 1, f'bottom{LEVELS}', (2, 4) if dilated else (1, 1))
    else:
        own = [two_convs(x, 0, 'down1')] if stride == 1 else []
        *skips, x = own + encode(inputs, x, encoder, encoder_weights)[: LEVELS - len(own)]
        if dilated:
            x = two_convs(x, LEVELS - 1, f'bottom{LEVELS}', (2, 4))
    fuse = layers.Concatenate if fusion == 'concat' else layers.Add
    for level in reversed(range(LEVELS - 1)):
        up = layers.Conv2DTranspose(filters << level, 2, 2, name=f'upconv{level + 1}', **he)
        x = fuse(name=f'{fusion}{level + 1}')([skips[level], up(x)])
        x = two_convs(x, level, f'up{level + 1}')
    if stride == 1:
        x = layers.Conv2D(num_class, 1, name='scores')(x)
    elif not stem:  # padded at full resolution, so cropped there
        x = layers.Conv2DTranspose(num_class, 2, strides=2, name='scores')(x)
    if any(map(any, pads)):
        x = layers.Cropping2D(pads, name='crop')(x)
    if stem:
        x = layers.Conv2DTranspose(num_class, 2, strides=2, name='scores')(x)
        if not free and (height % 2 or width % 2):
            x = layers.Cropping2D(((0, height % 2), (0, width % 2)), name='crop_odd')(x)
    # Last, so that training takes the logits before it; float32 under mixed precision too.
    outputs = layers.Activation(activation, dtype='float32', name=activation)(x)
    model = quicken(keras.Model(inputs, outputs, name='unet'))
    model.about = About(classes or class_table(num_class), SizeRule('pad', height, width))
    compile_model(model, model.about.classes, keras.optimizers.Adam(learning_rate), loss)
    if pretrained_weights:
        load_weights(model, pretrained_weights)
    return model
