"""A better network teaches a smaller one: what it paints is half of what each pixel should be.

Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, at temperature 1.

    python main.py train --teacher best.hdf5 --filters 8 --stride 2
"""

from functools import cache
from pathlib import Path

import tensorflow as tf

from seg.export import at_size
from seg.files import InputError
from seg.folds import load_models

SHARE = 0.5  # of the target


class Teacher:
    """Mixes what a model, or the mean of those of a glob, paints of a batch into its labels.

    Args: path: of the model. classes: ClassTable of who learns. channels: of the pictures.
    Raises: InputError where the model has other classes or channels.
    """

    def __init__(self, path, classes, channels):
        self.model = load_models(Path(path))
        theirs, bands = self.model.about.classes.names, self.model.input_shape[-1]
        if (theirs, bands) != (classes.names, channels):
            found = f'{len(theirs)} classes ({", ".join(theirs)[:80]}) of {bands} channels'
            wanted = f'{len(classes)} ({", ".join(classes.names)[:80]}) of {channels}, as the data'
            raise InputError(f'--teacher {path}: expected {wanted}, found {found}')
        self.of_size = cache(lambda size: at_size(self.model, size))

    def batches(self, batches, size):
        """A dataset of (images (N, H, W, C), one-hot) of this size, (N, H, W, n), with the targets
        of a pixel half of the label, half of the teacher; of one without a class its half alone."""
        network = self.of_size(size)

        def paint(images):
            return network.predict_on_batch(images)

        def mix(images, one_hot):
            painted = tf.numpy_function(paint, [images], tf.float32)
            painted.set_shape(one_hot.shape)
            return images, tf.where(one_hot < 0, painted, one_hot + SHARE * (painted - one_hot))

        return batches.map(mix).prefetch(2)
