"""A better network teaches a smaller one: what it paints is half of what each pixel should be.

Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, at temperature 1.

    python main.py train --teacher best.hdf5 --filters 8 --stride 2
"""

from functools import cache
from glob import glob
from pathlib import Path

import tensorflow as tf

from seg.export import at_size
from seg.files import InputError
from seg.folds import load_models

SHARE = 0.5  # of the target


class Teacher:
    """Mixes what a model, or the mean of those of a glob, paints of a batch into its labels.

    Args: path: of the model. data: DataSet that is learned from. n: output channels of who learns.
        target: the file that the learner is written to.
    Raises: InputError where the model is for other classes or pictures, or `target`.
    """

    def __init__(self, path, data, n, target):
        self.model, rule = load_models(Path(path)), data.rule
        files = [path, *glob(str(path), recursive=True)]
        if Path(target).resolve() in {Path(file).resolve() for file in files}:
            raise InputError(f'--teacher {path}: --model would write over it; name another there')
        if hasattr(self.model, 'file'):
            raise InputError(f'--teacher {path}: expected .hdf5, .h5 or .keras, found an export')
        about = self.model.about
        theirs = about.classes.names, self.model.output_shape[-1], self.model.input_shape[-1]
        theirs = f'{_said(*theirs)}, values {about.intensity}'
        ours = f'{_said(data.classes.names, n, data.channels)}, values {data.intensity}'
        if theirs != ours:
            line = f'expected {ours}, as the data, found {theirs}'
            raise InputError(f'--teacher {path}: {line}; train one on such data')
        self.of_size = cache(lambda size: at_size(self.model, size))
        self.of_size((rule.height, rule.width))  # which may refuse

    def batches(self, batches, size):
        """A dataset of (images (N, H, W, C), one-hot) of this size, (N, H, W, n), with the targets
        of a pixel half of the label, half of the teacher; of one without a class its half alone.
        What a pixel counts, where border weights have rows above 1, stays."""
        network = self.of_size(size)

        def paint(images):
            return network.predict_on_batch(images)

        def mix(images, one_hot):
            painted = tf.numpy_function(paint, [images], tf.float32)
            painted.set_shape(one_hot.shape)
            painted *= tf.maximum(tf.reduce_sum(one_hot, -1, keepdims=True), 1)
            return images, tf.where(one_hot < 0, painted, one_hot + SHARE * (painted - one_hot))

        return batches.map(mix).prefetch(2)


def _said(names, outputs, channels):
    known = ', '.join(names)
    known = known if len(known) < 80 else known[:79] + '…'
    return f'{len(names)} classes ({known}) by {outputs} outputs of {channels} channels'
