"""The time that a run has, kept by the clock: epochs are shares of it, and the rate follows it."""

import math
import statistics
import time

import keras
import numpy as np

import seg
from seg import hosts
from seg.files import write_json
from seg.predict import jobs_of, paint
from seg.runs import PLAN

WARM_UP = 0.05  # of the training
MEASURED = 6  # steps; the first two also build the graph
VALIDATED = 0.08  # of the training at most, by all validations but the last
KEPT = ('begin', 'epochs', 'steps', 'chosen')  # of a budget, when its run is resumed


def time_of_step(model, batches):
    """Seconds of a training step, by a few of them, which are undone."""
    times = []
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: times.append(time.perf_counter())
    )
    variables = [*model.variables, *model.optimizer.variables]
    before = [keras.ops.convert_to_numpy(v) for v in variables]
    model.fit(batches, steps_per_epoch=MEASURED, verbose=0, shuffle=False, callbacks=[note])
    for variable, value in zip(variables, before):
        variable.assign(value)
    return hosts.agreed(float(np.median(np.diff(times[1:]))))


class Budget(keras.callbacks.Callback):
    """Ends a training so that it, its last validation and what comes after fit into
    settings.minutes, counted from the command. The epochs last equally long, and the rate follows
    the clock: a machine that slows down meanwhile does fewer steps, and the cosine ends all the
    same. Of the callbacks only State, which keeps its state, comes after it.

    Args: images: how many are validated. after: how many are painted after the training. plan: rows
        of what was decided, see plan.plan.
    """

    def __init__(self, settings, images, after=0, plan=()):
        super().__init__()
        self.plan = [*plan]
        self.settings, self.images, self.after = settings, images, after
        self.total, self.used, self.begin = 60 * settings.minutes, 0.0, None
        self.step, self.validation = {}, 0.0  # seconds, as measured last; of each network's step
        self.validations = []  # the last of them
        self.epochs, self.steps, self.chosen = settings.epochs, 0, images
        self.expected = 1  # steps of this epoch

    def spent(self):
        """Seconds that are over, those of the parts of a resumed run too."""
        return self.used + time.monotonic() - seg.started

    def end(self):
        """At which of them the training ends: a validation, the painting, which also writes masks
        and looks for wrong labels, and the report fit in."""
        painting = 1.3 * self.after * self.validation / self.chosen * (1 + self.settings.flip)
        return self.total - 1.1 * self.validation - min(painting, 0.3 * self.total) - 2

    def progress(self):
        """Which share of the training is over, 0 to 1; of several machines by one clock."""
        over = (self.spent() - self.begin) / max(self.end() - self.begin, 1e-3)
        return hosts.agreed(min(over, 1))

    def state(self):
        """What a resumed run goes on with."""
        kept = {name: getattr(self, name) for name in KEPT}
        over = self.epoch + 1 if self.model.stop_training else self.epochs
        return {'used': self.spent(), **kept, 'epochs': over}

    def load(self, state):
        for name in ('used', *KEPT):
            setattr(self, name, state[name])

    def measure(self, networks, validation):
        """Take the time of a step and of a validation by a few of them, then undo what they did.
        networks: {network: its batches}, in the order of their epochs."""
        plain = validation.plain
        self.step = {model: time_of_step(model, batches) for model, batches in networks.items()}
        jobs = jobs_of(plain, validation.pairs.pairs[:2])
        for _ in range(2):  # the first builds the graph
            begin = time.perf_counter()
            count = sum(1 for _ in paint(plain, jobs))
            picture = (time.perf_counter() - begin) / count
            if picture > 0.1 * self.total:  # very large ones
                break
        picture = hosts.agreed(picture / hosts.count())  # they share the pictures
        if self.begin is None:
            self.begin = hosts.agreed(self.spent())
            self.plan_epochs(picture)
        self.validation = picture * self.chosen
        self.validations = [self.validation]
        if self.chosen < self.images:
            validation.choose(self.chosen)

    def plan_epochs(self, picture):
        """How many epochs, and how many pictures are validated after each, of `picture` seconds."""
        self.validation = picture * self.images
        room = VALIDATED * max(self.end() - self.begin, 1)
        self.epochs = int(min(max(room / self.validation, 3), self.epochs))
        self.chosen = int(min(max(room / self.epochs / picture, 1), self.images))
        self.validation = picture * self.chosen

    def tell(self, run):
        """Print the plan and keep it in the run's folder."""
        room, grow = self.end() - self.begin - (self.epochs - 1) * self.validation, 1
        if len(self.step) > 1:
            grow = round(self.settings.grow * self.epochs) / self.epochs
        parts = zip((grow, 1 - grow), self.step.values())
        counts = [f'{max(round(part * room / s), 1):,} of {s:.2f} s' for part, s in parts]
        steps = f'about {" and ".join(counts)}'
        checks = f'{self.epochs} times {self.validation:.1f} s'
        why = f'of {self.chosen} of {self.images} pictures, to save time' * (
            self.chosen < self.images
        )
        rows = [
            *self.plan,
            ('steps', steps, 'measured on the first of them'),
            ('validation', checks, why),
        ]
        if room <= 0:
            over = f'{self.begin:.0f} s were over before the first step'
            print(f'Note: {over}; give it {2 * self.settings.minutes:g} minutes or more to learn')
        minutes = self.settings.minutes
        print(f'Plan for {minutes:g} minute{"s" * (minutes != 1)}:')
        for what, decision, why in rows:
            print(f'  {what:11} {decision:36} {why}'.rstrip())
        if not (run / PLAN).exists():  # a resumed run goes on with its own
            write_json(run / PLAN, {'plan': rows}, replace=True)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch, left = epoch, (epoch + 1) / self.epochs - self.progress()
        self.share = 0.0  # of the rate, as it is set: not yet
        self.expected = max(int(left * (self.end() - self.begin) / self.step[self.model]), 1)

    def on_train_batch_begin(self, batch, logs=None):
        if self.settings.schedule == 'constant':
            return
        progress = self.progress()
        done, after = progress / WARM_UP, (progress - WARM_UP) / (1 - WARM_UP)
        share = 0.1 + 0.9 * done if done < 1 else (1 + math.cos(math.pi * after)) / 2
        if abs(share - self.share) < 0.01 * self.share:  # jax trains on copies of the variables,
            return  # and to sync them takes time
        self.share = share
        getattr(self.model, 'jax_state_sync', int)()
        self.model.optimizer.learning_rate = self.settings.learning_rate * share

    def on_train_batch_end(self, batch, logs=None):
        self.last, self.steps = time.perf_counter(), self.steps + 1
        if self.progress() >= min((self.epoch + 1) / self.epochs, 1):
            self.model.stop_training = True  # Keras ends the epoch

    def on_epoch_end(self, epoch, logs=None):
        # a single slow one (a busy disk) would have the training end early
        self.validations.append(hosts.agreed(time.perf_counter() - self.last))
        self.validation = statistics.median_low(self.validations[-3:])
        self.model.stop_training = self.progress() >= 1 or epoch + 1 >= self.epochs
