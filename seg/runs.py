"""Run folders: log/<run>/ owns settings, state, best model and everything written of a run."""

import json
import os
import shutil
import time
from pathlib import Path

from seg.files import InputError, remove_parts, whole_file, write_json

BEST = 'best.hdf5'


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
                f'{log}: cannot write there ({e.strerror}); name another with --log'
            ) from None
    write_settings(run, settings, versions)
    return run


def write_settings(run, settings, versions):
    content = {'settings': settings, 'versions': versions}
    write_json(run / 'settings.json', content, replace=True)


def find_run(log, name=''):
    """The run folder to go on with: log/<name>, a path, or the last one begun.

    Raises: InputError where there is none, or nothing to go on with.
    """
    if name:
        run = next((r for r in (Path(name), Path(log) / name) if r.is_dir()), None)
    else:
        runs = [p.parent for p in Path(log).glob('*/settings.json')]
        run = max(runs, key=lambda r: (r / 'settings.json').stat().st_mtime, default=None)
    if run is None or not (run / 'settings.json').is_file():
        raise InputError(
            f'--resume: expected a run in {log}/, found {name or "none"}; start anew without '
            '--resume'
        )
    return run


def read_progress(run):
    """{'epoch', 'best', 'history'} of a run's state."""
    import numpy as np

    with np.load(run / 'state.npz') as saved:
        return json.loads(str(saved['progress']))


def publish(run, target, log):
    """Make `target` an atomic copy of the run's best model.

    What it replaces is kept as <name>.<time of its last change>, unless it is a copy of a run that
    still has its model.
    """
    from seg.modelfile import load_model, read_about, save_model

    target, best = Path(target), run / BEST
    if target.exists():
        try:
            name = read_about(target).run
        except Exception:  # no model of ours
            name = ''
        if not name or not (run.parent / name / BEST).exists() | (Path(log) / name / BEST).exists():
            stamp = time.strftime('%Y%m%d-%H%M%S', time.localtime(target.stat().st_mtime))
            names = (f'{target.stem}.{stamp}{end}{target.suffix}' for end in ('', *range(2, 999)))
            kept = next(p for n in names if not os.path.lexists(p := target.with_name(n)))
            try:
                os.link(target, kept)  # a copy that fails leaves the file under its own name, too
            except OSError:  # a disk without links
                os.replace(target, kept)
            print(f'\nThe last {target} is kept as {kept}')
    if target.suffix == '.keras':  # another format: a copy of the network, not of the file
        save_model(load_model(best), target)
    else:
        with whole_file(target, replace=True) as beside:
            shutil.copyfile(best, beside)
    remove_parts(target.parent)
