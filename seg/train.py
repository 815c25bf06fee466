"""The fit and its callbacks: checkpoint, TensorBoard, resume, guards, time estimate.

A run's files are in log/<run>/: TensorBoard events, settings.json (arguments and versions) and
state.npz, everything that `--resume` needs after any interruption.
"""

import json
import math
import os
import signal
import sys
import threading
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from datapre import eval_batches, sample_index, train_batches
from model import ModelCheckpoint, compile_model, load_weights, unet
from seg import augment, check, metrics, report
from seg.readers import InputError, whole_file


class Interrupted(Exception):
    """Ctrl-C: the state of the last whole epoch and the best model are on disk."""


def fit(settings, pairs, val_pairs, run, class_weights=None):
    """Train as `settings` says; the best model by val_loss is at settings['model'] afterwards.

    Args:
        settings: dict of main.py's flags; pairs, val_pairs: datapre.Pairs;
        run: Path of the run's folder. Where it holds a state.npz the training goes on from there.
    Returns: {name: [value of each epoch]}. Raises: InputError, Interrupted.
    """
    if (
        settings['ema'] and keras.backend.backend() != 'tensorflow'
    ):  # Keras' swap fails at jax's end
        raise InputError(
            f'--ema {settings["ema"]} works on the tensorflow backend only, this is '
            f'{keras.backend.backend()}; add --ema 0, or leave KERAS_BACKEND out'
        )
    keras.utils.set_random_seed(settings['seed'])
    num_class = settings['num_class'] or len(pairs.classes)
    keras.config.set_dtype_policy('mixed_bfloat16' if settings['bfloat16'] else 'float32')
    model = unet(
        num_class=num_class,
        input_size=pairs.input_size,
        filters=settings['filters'],
        batch_norm=settings['batch_norm'],
        fusion=settings['fusion'],
        activation=settings['activation'],
        classes=pairs.classes,
        stride=settings['stride'],
        dilated=settings['dilated'],
        residual=settings['residual'],
    )
    keras.config.set_dtype_policy('float32')  # its layers keep theirs
    scores = compile_model(
        model,
        pairs.classes,
        settings['loss'],
        learning_rate(settings),
        class_weights,
        settings['weight_decay'],
        settings['optimizer'],
        settings['ema'],
    )
    if settings['weights'] and not (run / 'state.npz').exists():  # a resumed run has its own
        load_weights(model, settings['weights'])
    checkpoint = ModelCheckpoint(
        settings['model'],
        monitor=settings['monitor'],
        verbose=1,
        mode='min' if settings['monitor'] == 'val_loss' else 'max',
        save_best_only=True,
    )
    average = keras.callbacks.SwapEMAWeights(swap_on_epoch=True) if settings['ema'] else None
    state = State(run / 'state.npz', checkpoint, average)
    epoch = state.load(model)
    if epoch >= settings['epochs']:
        print(f'{run} has done its {epoch} epochs')
        return state.history
    steps, batch_size = settings['steps'], settings['batch_size']
    batches = training_batches(settings, pairs, epoch * steps * batch_size)
    guard = Guard(settings, pairs)
    callbacks = [
        *([average] if average else []),  # first: the others see the average
        guard,
        Estimate(settings, len(val_pairs), epoch),
        KeepLast(settings['model'], fresh=epoch == 0),
        checkpoint,
        Board(run, val_pairs, scores, state.history),
        state,
    ]
    try:
        with guard:
            model.fit(
                batches,
                shuffle=False,
                steps_per_epoch=steps,
                epochs=settings['epochs'],
                initial_epoch=epoch,
                callbacks=callbacks,
                validation_data=eval_batches(val_pairs, batch_size, num_class),
            )
    except tf.errors.OpError as e:  # a picture that went bad since it was checked
        broken = pairs.error or val_pairs.error
        if 'No space left' in str(e):
            broken = InputError(f'{run}: the disk is full; free space there, then --resume')
        if broken:
            raise broken from None
        raise
    return state.history


def training_batches(settings, pairs, start=0):
    """The very batches that training sees, from sample `start` on."""
    augmentation = augment.parse(settings['augment']) if settings['augment'] else None
    return train_batches(
        pairs,
        settings['batch_size'],
        settings['num_class'] or len(pairs.classes),
        None if augmentation else settings['aug_dict'],
        settings['seed'],
        start,
        augmentation=augmentation,
    )


def label_weights(pairs):
    """Weight 1/ln(1.10 + p) of each class, p its share of the scored training pixels; their mean
    over those pixels is 1, so that the loss keeps its size (Paszke et al., "ENet", 2016)."""
    counts = sum(np.bincount(pairs[i][1].ravel(), minlength=256) for i in range(len(pairs)))
    weights = np.array([w or 0 for w in check.class_weights(counts.tolist(), pairs.classes)])
    held = counts[: len(weights)] * (weights > 0)
    return (weights * held.sum() / (weights * held).sum()).tolist()


def learning_rate(settings):
    """The rate itself, or a schedule over the whole run: warm-up over a twentieth, cosine to 0."""
    rate, total = settings['learning_rate'], settings['epochs'] * settings['steps']
    if settings['schedule'] == 'constant':
        return rate
    warm_up = total // 20
    return keras.optimizers.schedules.CosineDecay(
        rate / 10, total - warm_up, warmup_target=rate, warmup_steps=warm_up
    )


class State(keras.callbacks.Callback):
    """Weights, optimizer, epoch, best value and history after each epoch, in one whole file."""

    def __init__(self, path, checkpoint, average=None):
        super().__init__()
        self.path, self.checkpoint, self.average, self.history = Path(path), checkpoint, average, {}

    def load(self, model):
        """Put a saved state into model and checkpoint; the epoch to go on with, 0 without one."""
        model.optimizer.build(model.trainable_variables)
        if not self.path.exists():
            return 0
        try:
            with np.load(self.path) as saved:
                for i, variable in enumerate(self._variables(model)):
                    variable.assign(saved[f'v{i}'])
                progress = json.loads(str(saved['progress']))
        except Exception as e:
            raise InputError(
                f'{self.path}: expected the state of this training, could not read it '
                f'({str(e)[:100]}); start anew without --resume'
            ) from None
        self.checkpoint.best, self.history = progress['best'], progress['history']
        if self.average:  # as saved: the average in the model, and the weights in its place
            self.average._ema_weights_in_model = True
        return progress['epoch']

    def on_epoch_end(self, epoch, logs=None):
        rate = keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)
        for name, value in {**logs, 'learning_rate': rate}.items():
            self.history.setdefault(name, []).append(float(value))
        best = self.checkpoint.best
        progress = {
            'epoch': epoch + 1,
            'history': self.history,
            'best': None if best is None else float(best),
        }
        values = {
            f'v{i}': keras.ops.convert_to_numpy(v)
            for i, v in enumerate(self._variables(self.model))
        }
        with whole_file(self.path) as beside:
            np.savez(beside, progress=json.dumps(progress), **values)

    def _variables(self, model):
        return [*model.weights, *model.optimizer.variables]


class KeepLast(keras.callbacks.Callback):
    """Before the first save of a fresh run: the last run's model file gets another name."""

    def __init__(self, path, fresh):
        super().__init__()
        self.path, self.due = Path(path), fresh

    def on_epoch_end(self, epoch, logs=None):
        if self.due and self.path.exists():
            stamp = time.strftime('%Y%m%d-%H%M%S', time.localtime(self.path.stat().st_mtime))
            kept = self.path.with_name(f'{self.path.stem}.{stamp}{self.path.suffix}')
            kept.unlink(missing_ok=True)
            try:
                os.link(
                    self.path, kept
                )  # a save that fails leaves the file under its own name, too
            except OSError:  # a disk without links
                os.replace(self.path, kept)
            print(f'\nThe last {self.path} is kept as {kept}')
        self.due = False


class Guard(keras.callbacks.Callback):
    """Stops when the loss is no number, or a thousand times the first; entered, on Ctrl-C too."""

    def __init__(self, settings, pairs):
        super().__init__()
        self.settings, self.pairs = settings, pairs
        self.interrupted, self.first = False, None

    def __enter__(self):
        def interrupt(number, frame):
            if self.interrupted:
                os._exit(130)
            self.interrupted = True
            print('\nCtrl-C: stopping after this step; once more ends at once.', file=sys.stderr)

        self.main_thread = threading.current_thread() is threading.main_thread()
        if self.main_thread:
            self.before = signal.signal(signal.SIGINT, interrupt)

    def __exit__(self, *exception):
        if self.main_thread:
            signal.signal(signal.SIGINT, self.before)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        if not math.isfinite(logs.get('val_loss', 0)):
            raise InputError(
                f'the validation loss is {logs["val_loss"]} after epoch {epoch + 1}; '
                'a learning rate too high (try a tenth) or a damaged picture. '
                f'{self.settings["model"]} is left as it was.'
            )

    def on_train_batch_end(self, batch, logs=None):
        self.first = self.first or max(logs['loss'], 1)
        if not logs['loss'] < 1000 * self.first:  # nor inf, nor nan
            size = self.settings['batch_size']
            first = (self.epoch * self.settings['steps'] + batch) * size
            files = [
                self.pairs.pairs[sample_index(k, len(self.pairs), self.settings['seed'])][0]
                for k in range(first, first + size)
            ]
            rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
            raise InputError(
                f'the loss is {logs["loss"]} at step {batch + 1} of epoch {self.epoch + 1}, '
                f'learning rate {rate:g}, batch {", ".join(map(str, files))}. Likely causes: a '
                'learning rate too high (try a tenth), a damaged picture. '
                f'{self.settings["model"]} holds the last good model, if an epoch was finished.'
            )
        self.on_test_batch_end(batch)

    def on_test_batch_end(self, batch, logs=None):
        if self.interrupted:
            raise Interrupted


class Estimate(keras.callbacks.Callback):
    """After the first steps, one line: how long the whole run takes, and what to do about hours."""

    first, last = 2, 7  # the first steps also build the graph

    def __init__(self, settings, val_images, epoch):
        super().__init__()
        self.settings, self.epochs = settings, settings['epochs'] - epoch
        self.val_images, self.seconds = val_images, None

    def on_train_batch_end(self, batch, logs=None):
        if self.seconds is not None:
            return
        last = min(self.last, self.settings['steps'] - 1)
        if batch == min(self.first, last - 1):
            self.begin = time.perf_counter(), batch
        elif batch == last and last > 0:
            step = (time.perf_counter() - self.begin[0]) / (batch - self.begin[1])
            # Scoring an image takes about a third of training on it: no backward pass.
            val = step / self.settings['batch_size'] * self.val_images / 3
            self.seconds = self.epochs * (step * self.settings['steps'] + val)
            print(
                f'\nThe whole run takes about {duration(self.seconds)} on this machine '
                f'({step:.2f} s a step).' + self.advice()
            )

    def advice(self):
        filters = self.settings['filters']
        if self.seconds < 3600 or filters <= 16:
            return ''
        return (
            f' To shorten it: --preset fast, --filters 16 (about '
            f'{duration(self.seconds * 20 / filters)} or less), or a GPU (README).'
        )


def duration(seconds):
    """'40 s', '12 min' or '3 h 20 min'."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f'{seconds:.0f} s'
    return f'{minutes} min' if minutes < 60 else f'{minutes // 60} h {minutes % 60} min'


class Board(keras.callbacks.TensorBoard):
    """Keras' TensorBoard with four fixed validation images, their truth and prediction each epoch."""

    def __init__(self, run, val_pairs, scores, history, shown=4):
        super().__init__(str(run), write_graph=False)
        self.pairs, self.scores, self.history, self.said = val_pairs, scores, history, set()
        # Evenly over the set: neighbouring frames of a video look alike.
        self.shown = np.unique(np.linspace(0, len(val_pairs) - 1, shown).round().astype(int))

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        classes, counts = self.pairs.classes, keras.ops.convert_to_numpy(self.scores.counts)
        with self._val_writer.as_default():
            for place, i in enumerate(self.shown):
                image, truth = self.pairs[i]
                probability = keras.ops.convert_to_numpy(
                    self.model.predict_on_batch(image[None] / np.float32(255))
                )[0]
                picture = report.side_by_side(
                    np.broadcast_to(image, (*truth.shape, 3)),
                    report.indices_to_colours(truth, classes),
                    report.indices_to_colours(report.to_index(probability, classes), classes),
                )
                tf.summary.image(f'image, truth, prediction {place + 1}', picture[None], step=epoch)
            for i, iou in zip(classes.scored, metrics.scores(counts)['iou']):
                if not np.isnan(iou):
                    tf.summary.scalar(f'IoU/{classes.names[i]}', iou, step=epoch)
            tf.summary.image(
                'confusion matrix', report.confusion_picture(counts, classes)[None], step=epoch
            )
        if epoch >= 4 or epoch + 1 == self.params['epochs']:  # before, a class may well be missing
            losses = [*self.history.get('val_loss', []), logs['val_loss']]
            for line in metrics.warnings(counts, classes, losses):
                if line not in self.said:
                    print(f'\nNote: {line}')
                self.said.add(line)
        for writer in (self._train_writer, self._val_writer):
            writer.flush()  # a killed run has its last epoch's points, too


def new_run(log, name, settings, versions):
    """A fresh folder log/<time>-<name> with settings.json in it."""
    stamp = time.strftime('%Y%m%d-%H%M%S')
    for suffix in ('', *(f'-{i}' for i in range(2, 100))):
        run = Path(log) / f'{stamp}-{name}{suffix}'
        try:
            run.mkdir(parents=True)
            break
        except FileExistsError:
            continue
        except OSError as e:
            raise InputError(
                f'{log}: can not write there ({e.strerror}); name another with --log'
            ) from None
    write_json(run / 'settings.json', {'settings': settings, 'versions': versions})
    return run


def read_history(run):
    """{name: [value of each epoch]} of a run."""
    with np.load(run / 'state.npz') as saved:
        return json.loads(str(saved['progress']))['history']


def find_run(log, name=''):
    """The run folder to go on with and its settings: log/<name>, a path, or the last one begun.

    Raises: InputError where there is none, or nothing to go on with.
    """
    if name:
        run = next((r for r in (Path(name), Path(log) / name) if r.is_dir()), None)
    else:
        runs = [p.parent for p in Path(log).glob('*/settings.json')]
        run = max(runs, key=lambda r: (r / 'settings.json').stat().st_mtime, default=None)
    if run is None or not (run / 'settings.json').is_file():
        raise InputError(
            f'--resume: expected a run in {log}/, found {name or "none"}; '
            'start anew without --resume'
        ) from None
    settings = json.loads((run / 'settings.json').read_text(encoding='utf-8'))['settings']
    return run, settings


def write_json(path, content):
    with whole_file(path) as beside:
        beside.write_text(json.dumps(content, indent=2, ensure_ascii=False) + '\n', 'utf-8')
