"""TensorBoard's files of a run."""

import keras
import numpy as np
import tensorflow as tf

from seg import metrics, report
from seg.progress import say
from seg.settings import effective


def text_of(value):
    """A value as TensorBoard takes it: a path may have any bytes."""
    return str(value).encode('utf-8', 'replace').decode()


class Board(keras.callbacks.TensorBoard):
    """TensorBoard, by the order of names: accuracy, loss and mIoU, then IoU of each class, learning
    rate, and pictures, four fixed validation images with truth and prediction; settings as text and
    as HParams."""

    def __init__(self, run, validation, history):
        from tensorboard.plugins.hparams import api

        super().__init__(str(run), write_graph=False)
        self.validation, self.history, self.said = validation, history, set()
        chosen, default = effective(validation.plain.about)
        chosen, default = ({k: text_of(v) for k, v in part.items()} for part in (chosen, default))
        rows = [f'| {name} | {value} |' for name, value in (chosen | default).items()]
        writer = tf.summary.create_file_writer(str(run))
        with writer.as_default():
            tf.summary.text('settings', '\n'.join(['| setting | value |', '|---|---|', *rows]), 0)
            api.hparams(chosen, trial_id=run.name)
        writer.close()

    def on_epoch_end(self, epoch, logs=None):
        classes, counts = self.validation.classes, self.validation.counts
        values = {f'epoch_{name}': value for name, value in logs.items() if name[:4] != 'val_'}
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        self._scalars(self._train_writer, values | {'learning_rate': rate}, epoch)
        values = {f'epoch_{name[4:]}': value for name, value in logs.items() if name[:4] == 'val_'}
        ious = zip(classes.scored, metrics.scores(counts)['iou'])
        values |= {f'iou/{classes.names[i]}': iou for i, iou in ious if not np.isnan(iou)}
        self._scalars(self._val_writer, values, epoch)
        with self._val_writer.as_default():
            for place, shown in enumerate(self.validation.shown, 1):
                image, *maps = report.enlarged(*shown)
                maps = [report.in_colours(index, classes) for index in maps]
                picture = report.side_by_side(image, *maps)
                name = f'pictures/{place} image, truth, prediction'
                tf.summary.image(name, picture[None], epoch)
        if epoch >= 4 or epoch + 1 == self.params['epochs']:  # before, a class may well be missing
            losses = [*self.history.get('val_loss', []), logs['val_loss']]
            for line in metrics.warnings(counts, classes, losses):
                if line not in self.said:
                    say(f'Note: {line}')
                self.said.add(line)
        self._train_writer.flush()  # a killed run has its last epoch's points, too
        self._val_writer.flush()

    def _scalars(self, writer, values, epoch):
        with writer.as_default():
            for name, value in values.items():
                tf.summary.scalar(name, value, epoch)
