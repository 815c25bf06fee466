"""Cross-validation: a network for each fold of a data set, scored on what it has not seen, and the
mean of networks.

    python main.py train FOLDER --folds 5
    python main.py predict --model 'log/<run>/fold*/best.hdf5' PICTURE
"""

import shlex
import time
from dataclasses import replace
from pathlib import Path

import seg
from seg.cli import quiet_tensorflow
from seg.files import InputError, make_folder, read_json, write_json
from seg.runs import BEST, check_data, check_place, new_run, publish, read_progress, write_settings
from seg.settings import Settings, read_settings

DONE = 'done.json'  # in the folder of a fold that needs no more work


class Average:
    """Networks as one, for predict.paint: on a batch they give the mean of their probabilities, one
    after another. files: Paths that they are from. InputError where they do not fit one another."""

    def __init__(self, networks, files):
        self.networks, self.files, first = networks, files, networks[0]
        self.about, self.input_shape = first.about, first.input_shape
        self.output_shape = first.output_shape
        for file, network in zip(files, networks):
            for what, value in _fitting(network).items():
                if value != _fitting(first)[what]:
                    found = f'{files[0]} and {file}: expected networks that fit one another'
                    raise InputError(f'{found}, found other {what}; average those of one training')

    def make_predict_function(self):
        for network in self.networks:
            network.make_predict_function()

    def predict_on_batch(self, batch):
        """Probabilities float32 (n, h, w, channels) of pictures (n, h, w, c)."""
        outputs = (network.predict_on_batch(batch) for network in self.networks)
        return sum(outputs) / len(self.networks)


def _fitting(network):
    """{what: value} of all that networks must have in common."""
    about, sides = network.about, (network.input_shape[-1], network.output_shape[-1])
    found = {'classes': about.classes, 'size rule': about.rule, 'channels': (*sides, about.paged)}
    return found | {'intensity': about.intensity, 'formats': about.formats}


def load_models(path):
    """The keras.Model of a model file, or the seg.runtimes.Exported; of a glob, the Average of
    those that it names. InputError where there is none."""
    from seg.modelfile import load_model, model_files

    if Path(path).suffix == '.onnx':
        from seg.runtimes import open_onnx as load_model

    networks = [*map(load_model, files := model_files(path))]
    return Average(networks, files) if len(files) > 1 else networks[0]


def in_folds(settings, data, run, one, last=BEST):
    """one(settings, data, run); with settings.folds for each fold, or settings.fold alone, in a run
    folder of its own below the run's. What is done and has left the file `last` is not done again.
    The best is published; after the last of all folds come the out-of-fold scores. InputError where
    a run cannot go on."""
    if not settings.folds:
        return one(settings, data, run)
    quiet_tensorflow(settings.devices)
    check_place(settings)
    if run and run.name == f'fold{settings.fold}':
        run = run.parent
    if run and settings.changed_data:
        found = '--changed-data: pictures would move from one fold to another'
        raise InputError(f'{run}: {found}; restore them, or start anew without --resume')
    if run:
        check_data(run, data)
        begun = Settings(**read_settings(run / 'settings.json'))
        if begun.epochs < settings.epochs:
            write_settings(run, replace(begun, epochs=settings.epochs))
    whole = begun if run else settings
    minutes = whole.minutes and whole.minutes / (1 if settings.fold else settings.folds)
    if minutes and minutes < 0.2:
        wanted = f'expected {0.2 * settings.folds:g} or more for {settings.folds} folds'
        raise InputError(f'--minutes {whole.minutes:g}: {wanted}')
    run = run or new_run(settings, data)
    folders = {i: run / f'fold{i}' for i in range(1, settings.folds + 1)}

    def is_done(folder):
        if not all((folder / name).exists() for name in (DONE, BEST, last)):
            return False
        return read_json(folder / DONE).get('epochs') in range(settings.epochs, 10**6 + 1)

    chosen = [settings.fold] if settings.fold else [*folders]
    for i in chosen:
        print(f'Fold {i} of {settings.folds}' + ' has been trained already' * is_done(folders[i]))
        if is_done(folders[i]):
            continue
        part, folder = replace(settings, fold=i, minutes=minutes), make_folder(folders[i])
        if not (folder / 'settings.json').exists():
            write_settings(folder, part)
        one(part, data.in_fold(i), folder)
        seg.started = time.monotonic()  # of the next one's share of the time
        write_json(folder / DONE, {'epochs': settings.epochs}, replace=True)
    better = min if settings.monitor == 'val_loss' else max
    best = better(chosen, key=lambda i: read_progress(folders[i])['best'])
    publish(folders[best], replace(settings, fold=None))
    left = [i for i in folders if not is_done(folders[i])]
    if left:
        left = ', '.join(map(str, left))
        print(f'Still to be trained: fold {left}; the scores of all come with the last')
    else:
        _score(settings, data, run, folders)
    command = f'python main.py predict --model {shlex.quote(f"{run}/fold*/{BEST}")} PICTURE'
    print(f'Wrote the best of them, fold {best}, to {settings.model}')
    print(f'Next, by the mean of {"what there is" if left else "all"}: {command}')


def _score(settings, data, run, folders):
    """The out-of-fold scores and report of a run."""
    from seg.evaluate import conclude, out_of_fold
    from seg.modelfile import load_model, read_about
    from seg.report import Report
    from seg.suspects import Suspects

    page, look = Report(run / 'report.html', data.classes), Suspects(data.classes)
    networks = (load_model(folder / BEST) for folder in folders.values())
    counts, about = out_of_fold(networks, data, page.add, look, settings)
    about |= dict(of=f'{run}/fold*/{BEST}', data=data.where)
    network = read_about(folders[1] / BEST)
    conclude(counts, data.classes, about, run / 'scores.json', page, look, network, {})
