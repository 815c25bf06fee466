"""An average of a network over its steps, which is validated and kept in its place."""

import keras
from keras import ops


def _moved(averages, values, rest):
    return [average + rest * (value - average) for average, value in zip(averages, values)]


class Average(keras.callbacks.Callback):
    """The exponential average of all weights and of batch norm's statistics (Polyak and Juditsky,
    1992), in the network from the end of an epoch to the begin of the next; the first of callbacks.

    After t steps its momentum is t / (9 + t), but at most `momentum`: it begins with the first step
    and at any time is of the last tenth of them, so that a short run need not outlive its start.
    Keras' own has no such start, and its swap hands jax one array twice.
    """

    def __init__(self, momentum):
        super().__init__()
        self.momentum, self.steps, self.inside = momentum, 0, False
        self.other = None  # the average, or while that is in the network the weights themselves
        self.move = None

    def _compiled(self):
        if keras.backend.backend() == 'jax':
            import jax

            return jax.jit(_moved)
        import tensorflow as tf

        return tf.function(_moved)

    def load(self, weights, steps):
        """Go on after so many steps with a network that holds the average; weights: its own."""
        self.other, self.steps, self.inside = weights, steps, True

    def on_train_batch_end(self, batch, logs=None):
        if keras.backend.backend() == 'jax':  # which trains on copies of the variables
            self.model.jax_state_sync()
        self.move = self.move or self._compiled()
        self.other = self.other or self._copies()  # an update in place would reach what is held
        values = [ops.convert_to_tensor(v) for v in self.model.weights]
        most = min(self.momentum, self.steps / (9 + self.steps))
        rest = ops.convert_to_tensor(1 - most, 'float32')
        self.other, self.steps = self.move(self.other, values, rest), self.steps + 1

    def _copies(self):
        return [ops.copy(ops.convert_to_tensor(v)) for v in self.model.weights]

    def swap(self):
        held = self._copies()
        for variable, value in zip(self.model.weights, self.other):
            variable.assign(value)
        self.other, self.inside = held, not self.inside

    def on_epoch_begin(self, epoch, logs=None):
        if self.inside:
            self.swap()

    def on_epoch_end(self, epoch, logs=None):
        self.swap()

    def on_train_end(self, logs=None):
        if self.inside:  # for the next network that goes on with these weights
            self.swap()
