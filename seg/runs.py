"""Run folders: log/<run>/ owns settings, state, best model and everything written of a run."""

import json
import os
import time
from dataclasses import asdict
from pathlib import Path

from seg.files import InputError, copy_whole, remove_parts, write_json
from seg.settings import versions

BEST = 'best.hdf5'


def new_run(settings):
    """A fresh folder log/<time>-<preset> with settings.json in it."""
    stamp = time.strftime('%Y%m%d-%H%M%S')
    for suffix in ('', *(f'-{i}' for i in range(2, 100))):
        run = Path(settings.log) / f'{stamp}-{settings.preset}{suffix}'
        try:
            run.mkdir(parents=True)
            break
        except FileExistsError:
            continue
        except OSError as e:
            where = f'{settings.log}: cannot write there ({e.strerror})'
            raise InputError(f'{where}; name another with --log') from None
    write_settings(run, settings)
    return run


def check_place(settings):
    """InputError where settings.model can not be a copy of a run's best model."""
    place = Path(settings.model).parent
    if (place / 'settings.json').exists() or not os.access(place, os.W_OK):
        what = 'in the folder of a run' if place.is_dir() else 'in no folder'
        raise InputError(f'{settings.model}: {what}, or not writable; name another with --model')


def write_settings(run, settings):
    content = {'settings': asdict(settings), 'versions': versions()}
    write_json(run / 'settings.json', content, replace=True)


def find_run(log, name=''):
    """The run folder to go on with: log/<name>, a path, or the last one begun; else InputError."""
    runs = [p.parent for p in Path(log).glob('*/settings.json')]
    if name:
        runs = [r for r in (Path(name), Path(log) / name) if (r / 'settings.json').is_file()][:1]
    if not runs:
        found = f'expected a run in {log}/, found {name or "none"}'
        raise InputError(f'--resume: {found}; start anew without --resume')
    return max(runs, key=lambda r: (r / 'settings.json').stat().st_mtime)


def read_progress(run):
    """{'epoch', 'best', 'history'} of a run's state."""
    import numpy as np

    with np.load(run / 'state.npz') as saved:
        return json.loads(str(saved['progress']))


def publish(run, settings):
    """Make settings.model an atomic copy of the run's best model. What it replaces is kept as
    <name>.<time of its last change>, unless it is a copy of a run that still has its model."""
    from seg.modelfile import load_model, read_about, save_model

    target, best = Path(settings.model), run / BEST
    if target.exists():
        try:
            name = read_about(target).run or '?'
        except Exception:  # no model of ours
            name = '?'
        if not any((log / name / BEST).exists() for log in (run.parent, Path(settings.log))):
            _keep(target)
    if target.suffix == '.keras':  # another format: a copy of the network, not of the file
        save_model(load_model(best), target)
    else:
        copy_whole(best, target, replace=True)
    remove_parts(target.parent)


def _keep(target):
    """Give a file another name, too, before it is replaced."""
    stamp = time.strftime('%Y%m%d-%H%M%S', time.localtime(target.stat().st_mtime))
    names = (f'{target.stem}.{stamp}{end}{target.suffix}' for end in ('', *range(2, 999)))
    kept = next(p for name in names if not os.path.lexists(p := target.with_name(name)))
    try:
        os.link(target, kept)  # a copy that fails leaves the file under its own name, too
    except OSError:  # a disk without links
        os.replace(target, kept)
    print(f'\nThe last {target} is kept as {kept}')
