"""What stops a training: Ctrl-C, a loss that is no number, nothing won; and how long it takes."""

import itertools
import math
import os
import signal
import sys
import threading
import time

import keras
import numpy as np

from seg import hosts, metrics
from seg.files import InputError
from seg.progress import clear, duration, say
from seg.runs import BEST

FEW = 100  # steps, before which nothing is said of what a training can reach
IDLE = 300  # seconds of nothing won; to stop before saves nobody anything


class Interrupted(Exception):
    """Ctrl-C: the state of the last whole epoch and the best model are on disk."""


class Guard(keras.callbacks.Callback):
    """Stops when the loss is no number, or a thousand times the first; entered, on Ctrl-C too. The
    first steps tell how long the whole run takes, and what to do about hours."""

    def __init__(self, settings, stream, run, val_images):
        super().__init__()
        self.settings, self.stream, self.run, self.val_images = settings, stream, run, val_images
        self.interrupted, self.first, self.epoch, self.times, self.idle = False, None, 0, [], ''
        self.done, self.ends, self.history, self.budget, self.validation = 0, [], {}, None, None

    def __enter__(self):
        def interrupt(number, frame):
            if self.interrupted:
                os._exit(130)
            self.interrupted = True
            clear()
            print('Ctrl-C: stopping after this step; once more ends at once.', file=sys.stderr)

        self.heard = threading.current_thread() is threading.main_thread()  # others hear no signal
        self.before = self.heard and signal.signal(signal.SIGINT, interrupt)

    def __exit__(self, *exception):
        if self.heard:
            signal.signal(signal.SIGINT, self.before)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        self.begun = self.budget.steps if self.budget else epoch * self.settings.steps

    def on_epoch_end(self, epoch, logs=None):
        if not math.isfinite(logs['val_loss']):
            self._stop(f'validation loss is {logs["val_loss"]} after epoch {epoch + 1}')
        self.ends.append(time.monotonic())
        past = {name: [*self.history.get(name, ()), value] for name, value in logs.items()}
        line = metrics.hopeless(self.validation.counts, past['val_miou'], past['loss'])
        if line and self.done >= FEW:
            raise InputError(f'{self.run}: stopped after epoch {epoch + 1}: {line}')
        self._stop_if_idle(past[self.settings.monitor], epoch + 1)

    def on_train_end(self, logs=None):
        if self.idle:  # below the line of its epoch
            say(self.idle)

    def _stop_if_idle(self, values, epoch):
        """End the training early where a share of it, and five minutes, have won nothing; while a
        cosine still has much of its rate, that says nothing."""
        s, clock = self.settings, self.budget or self.settings
        values = [-v for v in values] if s.monitor == 'val_loss' else values
        steps = enumerate(zip(values[1:], itertools.accumulate(values, max)), 2)
        won = max((i for i, (v, best) in steps if v - best > 0.001 * abs(best)), default=1)
        early = s.schedule == 'cosine' and epoch < 2 / 3 * clock.epochs
        if epoch - won < max(5, s.patience * clock.epochs) or early or not s.patience:
            return
        begin = self.ends[max(len(self.ends) - 1 - epoch + won, 0)]
        if epoch < clock.epochs and hosts.agreed(self.ends[-1] - begin) >= IDLE:
            line = 'val mIoU has not risen' if s.monitor == 'val_miou' else 'val loss has not sunk'
            line = f'Stopped after epoch {epoch} of {clock.epochs}: {line} by a thousandth in'
            self.idle = f'{line} {epoch - won} epochs; --patience 0 goes on all the same'
            if self.budget:
                self.budget.epochs = epoch
            self.model.stop_training = True

    def on_train_batch_end(self, batch, logs=None):
        self.first = self.first or max(logs['loss'], 1)
        if not logs['loss'] < 1000 * self.first:  # nor inf, nor nan
            size = self.settings.batch_size
            files = self.stream.files((self.begun + batch) * size, size)
            getattr(self.model, 'jax_state_sync', int)()  # it trains on copies of the variables
            rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
            where = f'step {batch + 1} of epoch {self.epoch + 1}, learning rate {rate:g}'
            self._stop(f'loss is {logs["loss"]} at {where}, batch {", ".join(map(str, files))}')
        self.done = self.begun + batch + 1
        self.stop_if_asked()
        self.times.append(time.perf_counter())
        if len(self.times) == min(8, self.settings.steps) > 1 and not self.settings.minutes:
            self._estimate(np.diff(self.times[min(2, len(self.times) - 2) :]).mean())

    def _estimate(self, step):
        """One line; the first steps are not counted, for they also build the graph."""
        s = self.settings
        # Scoring an image takes about a third of training on it: no backward pass.
        seconds = step * (s.steps + self.val_images / s.batch_size / 3) * (s.epochs - self.epoch)
        line = f'The whole run takes about {duration(max(seconds, 1))} on this machine'
        if seconds >= 3600 and s.filters > 16:
            less = duration(seconds * 20 / s.filters)
            line += f'; to shorten it: --preset fast, --filters 16 ({less} or less), or a GPU'
        say(f'{line} ({step:.2f} s a step).')

    def _stop(self, what):
        best, kept = self.run / BEST, 'No epoch was finished.'
        if best.exists():
            kept = f'{best} holds the last good model.'
        cause = 'Likely causes: a learning rate too high (try a tenth), a damaged picture'
        raise InputError(f'the {what}. {cause}. {kept}')

    def stop_if_asked(self):
        if self.interrupted:
            raise Interrupted
