"""The fit and its callbacks: validation, best model, progress, state to resume from."""

import dataclasses
import json
import time
from contextlib import contextmanager
from functools import partial

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from seg import hosts, metrics, report
from seg.average import Average
from seg.board import Board
from seg.check import class_weights
from seg.devices import ALONE
from seg.encoders import encoder_layers
from seg.files import InputError, counted, whole_file
from seg.guard import Guard
from seg.losses import compile_model, make_loss, one_hot
from seg.modelfile import ModelCheckpoint, at_any_size, load_weights, plain_network, save_model
from seg.predict import Job, paint
from seg.progress import Count, draw, duration, say
from seg.runs import (
    BEST,
    STATE,
    damaged,
    keep,
    open_state,
    publish,
    read_progress,
    write_settings,
)
from seg.settings import Settings, read_settings
from seg.sizes import resize
from seg.speed import make_optimizer, quicken


@contextmanager
def prepared(settings, place):
    """Build the network of a run in here: its random start follows from the seed, its layers
    multiply in bfloat16 where that is asked for, its weights are on all devices."""
    keras.utils.set_random_seed(settings.seed)
    keras.config.set_dtype_policy('mixed_bfloat16' if settings.bfloat16 else 'float32')
    try:
        with place.scope():
            yield
    finally:
        keras.config.set_dtype_policy('float32')  # its layers keep theirs


def fit(model, stream, val_pairs, settings, run, balance=None, budget=None, place=ALONE):
    """Train as `settings` say; the best model is at run/best.hdf5 and settings.model afterwards.

    Args: model: a network that ends in an activation, with its `about`; trained on the logits.
        stream: .batches(first sample, size), .half() and .files(first sample, count), as
            datapre.Stream.
        val_pairs: sequence of (image, label), as they are, with `.pairs` of their paths.
        run: Path of the run's folder. Where it holds a state.npz the training goes on from there.
        balance: what a pixel of each class counts, default 1.
        budget: Budget of a run that ends with its time.
        place: where `model` was built. Of several processes the first alone writes.
    Raises: InputError, Interrupted.
    """
    for layer in encoder_layers(model) if settings.freeze else ():
        layer.trainable = False
    with place.scope():
        logits = keras.Model(model.inputs, model.layers[-1].input, name=model.name)
    activation = keras.activations.serialize(model.layers[-1].activation)

    def compiled(network):
        optimizer = make_optimizer(network, settings, learning_rate(settings))
        how = settings.loss, balance, activation, settings.border_weights
        compile_model(network, model.about.classes, optimizer, *how)
        optimizer.build(network.trainable_variables)
        return network

    with place.scope():
        compiled(logits)
    first, saved = hosts.rank() == 0, hosts.told_file(run / STATE)
    known = False  # whether the network has learned all of itself already
    if saved is None:  # a resumed run has its own weights
        known = settings.weights and load_weights(model, settings.weights)
        if not (known or settings.epochs):
            found = 'expected --weights of the whole of this network'
            raise InputError(f'--epochs 0: {found}; with 1 or more it learns the rest')
        if first and (run / BEST).exists():  # killed in its first epoch, or the state was removed
            keep(run / BEST)
    plain = plain_network(model, place.count > 1)
    guard = Guard(settings, stream, run, len(val_pairs))
    validation = Validation(plain, val_pairs, logits.loss.__name__, balance, activation, guard)
    average = Average(settings.ema) if settings.ema else None
    best = Best(plain, run, settings)
    state = State(run / STATE, best, average, budget)
    epoch = state.load(logits, saved)
    if saved is not None and first and _epochs(run) < settings.epochs:
        write_settings(run, settings)  # now that its state is read
    if saved is not None and epoch >= (budget.epochs if budget else settings.epochs):
        print(f'{run} has finished {"all " * (epoch > 1)}{counted(epoch, "epoch")}')
        return first and publish(run, settings)
    board = Board(run, validation, state.history)
    writers = [best, Progress(settings, best, budget), board] if first else []
    callbacks = [validation, guard, *writers, *([budget] if budget else ()), state]
    callbacks = [average, *callbacks] if average else callbacks  # the others see it
    guard.budget, guard.validation, guard.history = budget, validation, state.history
    clock, sizes, steps = budget or settings, {logits: None}, settings.steps
    if epoch < settings.grow * clock.epochs:  # a copy learns from small pictures first
        logits.about = model.about
        with place.scope():
            small = compiled(quicken(at_any_size(logits)))
        copy_state(logits, small)
        sizes = {small: stream.half(), logits: None}
    if budget:
        with place.running():
            budget.measure({n: stream.batches(0, size) for n, size in sizes.items()}, validation)
        if first:
            budget.tell(run)
        steps = 10**9
    try:
        with guard, place.running():
            start = score_start(logits, validation) if known else {}
            for callback in (best, state) if first and start and not settings.epochs else ():
                callback.set_model(logits)
                callback.on_epoch_end(-1, start)
            for network, size in sizes.items():
                end = round(settings.grow * clock.epochs) if size else clock.epochs
                done = budget.steps if budget else epoch * steps
                batches = stream.batches(done * settings.batch_size, size)
                epochs = dict(epochs=end, initial_epoch=epoch, steps_per_epoch=steps)
                network.fit(batches, shuffle=False, verbose=0, callbacks=callbacks, **epochs)
                epoch = end
                if network is not logits:
                    copy_state(network, logits)
                if network.stop_training:
                    break
    except tf.errors.OpError as e:  # a picture that went bad since it was checked
        broken = stream.pairs.error
        full = isinstance(e, tf.errors.ResourceExhaustedError) and 'No space left' in str(e)
        if full and not broken:  # the words alone may be a folder's name
            broken = InputError(f'{run}: the disk is full; free space there, then --resume')
        raise (broken or e) from None
    if first:
        publish(run, settings)
        if start and settings.epochs and not best.monitor_op(best.best, start[settings.monitor]):
            mend = 'it may be the better one, or have learned from the validation pictures'
            say(f'Note: no epoch was better than {settings.weights}; {mend}')


def _epochs(run):
    return Settings(**read_settings(run / 'settings.json')).epochs


def score_start(network, validation):
    """{name: value} that a network scores before its training, which it may do worse after."""
    logs = {}
    validation.set_model(network)
    validation.on_epoch_end(-1, logs)
    say(f'Before the first epoch: validation: {in_words(validated(logs))}')
    return logs


def copy_state(source, target):
    """Weights and what the optimizer keeps, of one network into another of the same layers."""
    variables = ([*n.variables, *n.optimizer.variables] for n in (source, target))
    for value, variable in zip(*variables, strict=True):
        variable.assign(keras.ops.copy(value))  # jax gives away what it trains on


def balanced(data):
    """What a pixel of each class counts: 1/ln(1.10 + its share of the scored training pixels); 1 on
    average, so that the loss keeps its size (Paszke et al., "ENet", 2016)."""
    counts = data.class_pixels('train')[:-1]
    weights = np.array([w or 0 for w in class_weights(counts.tolist(), data.classes)])
    held = counts * (weights > 0)
    return (weights * held.sum() / (weights * held).sum()).tolist()


def learning_rate(settings):
    """The rate itself, or a schedule over the whole run: warm-up over a twentieth, cosine to 0."""
    rate, total = settings.learning_rate, max(settings.epochs, 1) * settings.steps
    if settings.schedule == 'constant' or settings.minutes:
        return rate
    warm_up = total // 20
    how = dict(warmup_target=rate, warmup_steps=warm_up)
    return keras.optimizers.schedules.CosineDecay(rate / 10, total - warm_up, **how)


class Validation(keras.callbacks.Callback):
    """Scores every validation picture after each epoch as `evaluate` does, at its own size, through
    the network that the file will hold; val_loss is the mean of the pictures' losses."""

    def __init__(self, plain, pairs, loss, balance, activation, guard, shown=4):
        super().__init__()
        self.plain, self.guard, self.pairs = plain, guard, pairs
        self.classes, n = plain.about.classes, plain.output_shape[-1]
        loss = make_loss(loss, self.classes, n, activation, balance, on_logits=False)
        self.loss = lambda label, output: loss(np.asarray(one_hot(label, n)), output)
        if keras.backend.backend() == 'tensorflow':  # as a graph in half the time
            graph = tf.function(reduce_retracing=True)
            self.loss = graph(lambda label, output: loss(one_hot(label, n), output))
        self.counts, self.shown, self.most = None, [], shown
        self.choose(len(pairs))

    def choose(self, count):
        """Score so many of the pictures alone, evenly over the set, and show four of them: frames
        that are neighbours look alike."""
        chosen = np.linspace(0, len(self.pairs) - 1, count).round().astype(int).tolist()
        self.count, self.chosen = count, chosen[hosts.rank() :: hosts.count()]  # of this process
        places = np.linspace(0, len(self.chosen) - 1, self.most).round() if self.chosen else ()
        self.places = {self.chosen[int(i)] for i in places}

    def on_epoch_end(self, epoch, logs=None):
        self.plain.set_weights(self.model.get_weights())  # they may share them, or may not
        held, losses, plain = {}, [], self.plain
        s = dataclasses.replace(self.guard.settings, flip=False)

        def read(i):
            image, label = self.pairs[i]
            held[i] = np.asarray(label)
            return image

        def part(i, rows, columns, output):  # of a picture that is painted in tiles
            label = held[i][rows, columns]
            losses.append((float(self.loss(label[None], output[None])), label.size / held[i].size))

        jobs = []
        for i in self.chosen:
            image, label = self.pairs.pairs[i]
            jobs.append(Job(image, partial(read, i), None, label, partial(part, i)))
        self.counts, self.shown = np.zeros([len(self.classes.scored)] * 2, np.int64), []
        count = Count(len(jobs), 'Validating')
        for painted, i in zip(paint(plain, jobs, s), self.chosen):
            self.guard.stop_if_asked()
            count.add()
            truth = held.pop(i)
            self.counts = self.counts + metrics.confusion(truth, painted.index, self.classes)
            if painted.output is not None:
                size = painted.output.shape[:2]
                label = resize(truth, size, Image.Resampling.NEAREST)
                losses.append((float(self.loss(label[None], painted.output[None])), 1))
            if i in self.places:
                image = report.as_rgb(painted.image[:, :])
                self.shown.append((image, truth, painted.index))
        self.counts = sum(hosts.gathered(self.counts))
        loss = sum(hosts.gathered(float(sum(loss * share for loss, share in losses))))
        scores = metrics.scores(self.counts)
        logs['val_loss'] = float(loss) / self.count
        logs['val_accuracy'], logs['val_miou'] = scores['accuracy'], scores['miou']


class Best(ModelCheckpoint):
    """Keeps the best network at run/best.hdf5 and a copy of it at settings.model."""

    def __init__(self, plain, run, settings):
        mode = 'min' if settings.monitor == 'val_loss' else 'max'
        super().__init__(run / BEST, settings.monitor, save_best_only=True, mode=mode)
        self.plain, self.run, self.settings, self.kept = plain, run, settings, False

    def save(self, path):
        save_model(self.plain, path)
        publish(self.run, self.settings)
        self.kept = True


class Progress(keras.callbacks.Callback):
    """A line an epoch; where a terminal shows it, also what the running one has done so far."""

    def __init__(self, settings, best, budget):
        super().__init__()
        self.settings, self.best, self.budget = settings, best, budget

    def on_epoch_begin(self, epoch, logs=None):
        self.begun = time.monotonic()
        self.head = f'Epoch {epoch + 1}/{(self.budget or self.settings).epochs}'

    def on_train_batch_end(self, batch, logs=None):
        steps = max(self.budget.expected if self.budget else self.settings.steps, batch + 1)
        left = (time.monotonic() - self.begun) / (batch + 1) * (steps - batch - 1)
        draw(f'{self.head}, step {batch + 1}/{steps}, {duration(left)} left: {in_words(logs)}')

    def on_epoch_end(self, epoch, logs=None):
        learned = {name: value for name, value in logs.items() if not name.startswith('val_')}
        kept, self.best.kept = ', the best so far' * self.best.kept, False
        line = f'{self.head}: {in_words(learned)}; validation: {in_words(validated(logs))}{kept}'
        say(f'{line} ({duration(time.monotonic() - self.begun)})')


def validated(logs):
    return {name[4:]: value for name, value in logs.items() if name.startswith('val_')}


def in_words(logs):
    """'loss 0.5123, accuracy 83.1 %, mIoU 41.2 %' of what Keras calls logs."""
    shares = (('accuracy', 'accuracy'), ('miou', 'mIoU'))
    shares = [f'{word} {100 * logs[name]:.1f} %' for name, word in shares if name in logs]
    return ', '.join([f'loss {logs["loss"]:.4f}', *shares])


class State(keras.callbacks.Callback):
    """Weights, optimizer, epoch, best value and history after each epoch, in one whole file."""

    def __init__(self, path, best, average=None, budget=None):
        super().__init__()
        self.path, self.best, self.average, self.history = path, best, average, {}
        self.budget = budget

    def load(self, model, state):
        """Put a state, its path or bytes, into model and checkpoint; the epoch to go on with, 0 of
        None."""
        if state is None:
            return 0
        progress = read_progress(self.path.parent, state)
        try:
            with open_state(state) as saved:
                variables = [*model.weights, *model.optimizer.variables]
                values = [saved[f'v{i}'] for i in range(len(saved.files) - 1)]
                count = len(variables) + len(model.weights) * bool(self.average)
                if len(values) != count:
                    raise ValueError(f'{len(values)} values, expected {count}')
                for i, value in enumerate(values):
                    if not np.isfinite(value).all():
                        raise ValueError(f'v{i} is not finite')
                for variable, value in zip(variables, values):
                    variable.assign(value)
            if self.average:
                steps = int(keras.ops.convert_to_numpy(model.optimizer.iterations))
                self.average.load(values[len(variables) :], steps)
            if self.budget:
                self.budget.load(progress['clock'])
        except Exception as e:  # whatever zipfile, numpy and keras make of it
            raise damaged(self.path, e) from None
        self.history = progress['history']
        if (self.path.parent / BEST).exists():  # else the next epoch is the best there is
            self.best.best = progress['best']
        return progress['epoch']

    def on_epoch_end(self, epoch, logs=None):
        rate = keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)
        past = {**logs, 'learning_rate': rate} if epoch >= 0 else {}  # -1: before the first
        for name, value in past.items():
            self.history.setdefault(name, []).append(float(value))
        if hosts.rank():
            return
        best = None if self.best.best is None else float(self.best.best)
        progress = {'epoch': epoch + 1, 'history': self.history, 'best': best}
        progress['clock'] = self.budget and self.budget.state()
        variables = [*self.model.weights, *self.model.optimizer.variables]
        others = (self.average.other or self.model.weights) if self.average else []
        numbered = enumerate([*variables, *others])
        values = {f'v{i}': keras.ops.convert_to_numpy(v) for i, v in numbered}
        with whole_file(self.path, replace=True) as beside:
            np.savez(beside, progress=json.dumps(progress), **values)
