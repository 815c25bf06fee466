"""Run folders: log/<run>/ owns settings, state, best model and everything written of a run."""

import io
import json
import operator
import os
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from seg.files import (
    MANY,
    InputError,
    check_target,
    copy_whole,
    file_of,
    is_locked,
    is_pattern,
    read_json,
    remove_parts,
    suffix_of,
    write_json,
)
from seg.progress import say
from seg.settings import read_settings, versions

BEST, STATE, PLAN = 'best.hdf5', 'state.npz', 'plan.json'


def new_run(settings, data):
    """A fresh folder log/<time>-<preset> with settings.json and data.json in it."""
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
    check_data(run, data)
    return run


def check_place(settings):
    """InputError where settings.model cannot be a copy of a run's best model."""
    from seg.modelfile import read_about

    if is_pattern(settings.model):
        found = f'--model {settings.model}: expected one file to write, found a pattern of several'
        raise InputError(f'{found}; name one')

    def is_model(path):
        with suppress(Exception):  # whatever a file of another kind raises
            return read_about(path) is not None
        return False

    place = Path(settings.model).parent
    if (place / 'settings.json').exists() or not place.is_dir():
        what = 'it lies in the folder of a run' if place.is_dir() else 'its folder is missing'
        raise InputError(f'{settings.model}: {what}; name another with --model')
    check_target(settings.model, is_model)


def write_settings(run, settings):
    """settings.json. Its number tells the last run begun, whatever clocks and copies say."""
    number = 1 + max([0, *map(_number, run.parent.glob('*/settings.json'))])
    kept = asdict(settings) | {'changed_data': False}  # said once, it holds once
    content = {'settings': kept, 'versions': versions(), 'number': number}
    write_json(run / 'settings.json', content, replace=True)


def _number(path):
    with suppress(InputError):
        found = read_json(path).get('number') if path.is_file() else 0
        return found if isinstance(found, int) else 0
    return 0


def find_run(log, name=''):
    """The run folder to go on with: log/<name>, a path, or the last one begun; InputError without
    one, or where its state cannot be read."""
    runs = [p.parent for p in Path(log).glob('*/settings.json') if p.is_file()]
    if name:
        runs = [r for r in (Path(name), Path(log) / name) if (r / 'settings.json').is_file()][:1]
    if not runs:
        found = f'expected a run in {log}/, found {name or "none"}'
        raise InputError(f'--resume: {found}; start anew without --resume')
    files = {run: run / 'settings.json' for run in runs}
    run = max(runs, key=lambda r: (_number(files[r]), files[r].stat().st_mtime))
    if os.path.lexists(run / STATE):
        read_progress(run)
    return run


def read_progress(run, state=None):
    """{'epoch', 'best', 'history'} of a run's state, or of the bytes of one; InputError where it
    is damaged."""
    try:
        with open_state(state or run / STATE) as saved:
            found = json.loads(str(saved['progress']))
        epoch, best = operator.index(found['epoch']), found['best']
        history = {name: [*map(float, past)] for name, past in found['history'].items()}
        if epoch < 0 or any(len(past) != epoch for past in history.values()):
            raise ValueError(f'no history of {epoch} epochs')
        known = {'history': history, 'clock': found.get('clock')}  # of a run with settings.minutes
        return {'epoch': epoch, 'best': best and float(best)} | known
    except Exception as e:  # whatever zipfile, numpy and json make of it
        raise damaged(run / STATE, e) from None


def open_state(state):
    """What np.load makes of a state, a Path or bytes."""
    import numpy as np

    if isinstance(state, bytes):
        return np.load(io.BytesIO(state))
    if not state.is_file():
        raise ValueError('no file')
    return np.load(state)


def damaged(path, error):
    """The InputError of a state that cannot be read."""
    why = ' '.join(str(error).split())[:100]
    found = f'expected the state of this training, could not read it ({why})'
    return InputError(f'{path}: {found}; start anew without --resume')


def check_data(run, data, changed=False):
    """InputError that names the files where a run's data are no longer those that it was begun
    with. What they are is kept in data.json; `changed`: as they now are."""
    path, now = run / 'data.json', fingerprints(data)
    then = now
    if path.exists() and not changed:
        then = read_json(path, 1 << 30, 'what the data were; --changed-data makes it anew')
    elif path.exists():
        with suppress(InputError):
            then = read_json(path, 1 << 30)
    both = [name for name in now if name in then and now[name] != then[name]]
    moved = [name for name in both if str(then[name]).split()[1:] == now[name].split()[1:]]
    found = {
        'new': [name for name in now if name not in then],
        'gone': [name for name in then if name not in now],
        'in another split': moved,
        'changed': [name for name in both if name not in {*moved}],
    }
    told = '; '.join(
        f'{what}: {", ".join(names[:5])}' + f' and {len(names) - 5} more' * (len(names) > 5)
        for what, names in found.items()
        if names
    )
    if told and not changed:
        mend = 'restore them, start anew without --resume, or go on with --changed-data'
        raise InputError(f'{run}: its data have changed since it was begun ({told}); {mend}')
    if told:
        print(f'{run} goes on with other data ({told})')
    if told or changed or not path.exists():
        write_json(path, now, replace=True)


def fingerprints(data):
    """{file: 'split size checksum'} of what a training learns from and is measured by."""
    files = {path: s for s in ('train', 'val') for p in data.splits.get(s, ()) for path in p}
    real = [*{os.fspath(file_of(path)) for path in files}]  # one may hold many
    with ThreadPoolExecutor() as pool:
        sums = dict(zip(real, pool.map(_checksum, real)))
    held = {str(path): f'{split} {sums[os.fspath(file_of(path))]}' for path, split in files.items()}
    classes = zlib.crc32(repr(data.classes).encode('utf-8', 'replace'))
    return held | {'the class table': f'- {classes:08x}'}


def _checksum(path, end=1 << 17):
    """Size and checksum of a file; of a large one its two ends: a PNG has the checksum of all its
    pixels in the last, and a JPEG that was changed is of another size; of arrays all is read."""
    try:
        with open(path, 'rb') as f:
            size = os.fstat(f.fileno()).st_size
            found = zlib.crc32(f.read(end))
            if suffix_of(path) not in MANY:
                f.seek(max(size - end, f.tell()))
            while part := f.read(end):
                found = zlib.crc32(part, found)
            return f'{size} {found:08x}'
    except OSError:  # whoever reads it says so
        return 'unreadable'


def tell_rivals(run, settings):
    """A line for each run that is training and has the same name for its model."""
    for lock in run.parent.glob('*/lock'):
        with suppress(InputError):
            other = read_settings(lock.parent / 'settings.json').get('model', '')
            same = os.path.abspath(other) == os.path.abspath(settings.model) and not settings.fold
            if same and lock.parent.name != run.name and is_locked(lock.parent):
                both = f'will hold whichever improves last; each run keeps its own {BEST}'
                print(f'Note: {lock.parent} trains too: {other} {both}. --model names another')


def tell_best(run, settings):
    """Say which epoch's network a training has left, and where."""
    state = read_progress(run)
    past, best = state['history'].get(settings.monitor, []), state['best']
    epoch = past.index(best) + 1 if best in past else 0  # 0: what --weights gave, by --epochs 0
    name, score = 'val loss', f'{best:.4f}'
    if settings.monitor == 'val_miou':
        name, score = 'val mIoU', f'{100 * best:.1f} %'
    line = f'Wrote the best model, of epoch {epoch} ({name} {score}), to {run / BEST}'
    print(line + f', a copy of it to {settings.model}' * (not settings.fold))


def publish(run, settings):
    """Make settings.model an atomic copy of the run's best model. What it replaces is kept as
    <name>.<time of its last change>, unless it is a copy of a run that still has its model. A fold
    is left where it is: folds.in_folds publishes the best of them."""
    from seg.modelfile import load_model, read_about, save_model

    target, best = Path(settings.model), run / BEST
    if not best.exists():
        raise InputError(f'{best}: it is gone; go on with more --epochs, or start anew')
    if settings.fold:
        return
    if target.exists():
        try:
            about = read_about(target)
            fold = about.settings.get('fold')
            name = Path(about.run or '?', f'fold{fold}' if fold else '')
        except Exception:  # no model of ours
            name = '?'
        logs = run.parent, run.parent.parent, Path(settings.log)
        if not any((log / name / BEST).exists() for log in logs):
            keep(target)
    if target.suffix == '.keras':  # another format: a copy of the network, not of the file
        save_model(load_model(best), target)
    else:
        copy_whole(best, target, replace=True)
    remove_parts(target.parent)


def keep(target):
    """Give a file another name, too, before it is replaced."""
    stamp = time.strftime('%Y%m%d-%H%M%S', time.localtime(target.stat().st_mtime))
    names = (f'{target.stem}.{stamp}{end}{target.suffix}' for end in ('', *range(2, 999)))
    kept = next(p for name in names if not os.path.lexists(p := target.with_name(name)))
    try:
        os.link(target, kept)  # a copy that fails leaves the file under its own name, too
    except OSError:  # a disk without links
        os.replace(target, kept)
    say(f'The last {target} is kept as {kept}')
