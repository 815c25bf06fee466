"""A multi-class U-Net on CamVid: train, predict, evaluate.

python main.py                     the article's job: train on CamVid/, predict its test images
python main.py FOLDER              the best on your own pictures in half an hour, or --minutes N
python main.py sample              the same on drawn street scenes, in minutes
python main.py predict photo.jpg   paint classes with the trained model; or street.mp4
python main.py check FOLDER        are these labels fit to train on?
python main.py next UNLABELLED     which of these pictures to label next?
python main.py export --to onnx    the model for other programs, phones, servers
python main.py VERB --help         each verb's own flags
"""

import shlex
import sys
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # `python -P` leaves it out
from seg import cli, hosts
from seg.files import InputError, check_target, locked
from seg.progress import say
from seg.runs import (
    BEST,
    STATE,
    check_data,
    check_place,
    fingerprints,
    new_run,
    tell_best,
    tell_rivals,
)
from seg.settings import SHIPPED, Settings, versions

AUG_ARGS = dict(rotation_range=0.2, shear_range=0.05, zoom_range=0.05, fill_mode='nearest')
AUG_ARGS |= dict(width_shift_range=0.05, height_shift_range=0.05)
AUG_ARGS |= dict(horizontal_flip=True, vertical_flip=True)
SHAPED = dict(filters=16, stride=2, dilated=True, residual=True)  # as all from fast on have
SHAPED |= dict(loss='crossentropy+dice', class_weights=True, steps=250, monitor='val_miou')
SHAPED |= dict(optimizer='muon', learning_rate=5e-3, schedule='cosine', weight_decay=0.01)
SHAPED |= dict(augment='scale=0.75-1.6,flip,jitter=0.2', patience=0.34)
PRETRAINED = dict(encoder='efficientnet-lite0', stride=1, residual=False, epochs=12)
LONGER = dict(epochs=20, learning_rate=2.5e-3, class_weights=False, ema=0.998)
LONGER |= dict(augment='scale=0.5-2,flip,jitter=0.2')
DRAWN = dict(data='sample', model='sample.hdf5', filters=16, steps=160, epochs=6)
DRAWN |= dict(optimizer='muon', learning_rate=5e-3, schedule='cosine', class_weights=True)
DRAWN |= dict(augment='scale=0.9-1.1,flip,brightness=0.1')
PRESETS = {  # sets of defaults; any flag overrides them
    'article': dict(aug_dict=AUG_ARGS),
    'sample': DRAWN,
    'fast': SHAPED | dict(epochs=10),
    'transfer': SHAPED | PRETRAINED,
    'auto': SHAPED | dict(minutes=30.0, epochs=12),  # and what seg/plan.py decides
    'best': SHAPED | PRETRAINED | LONGER,
}
NETWORK = 'filters batch_norm fusion activation loss stride dilated residual'.split()
NETWORK += ['encoder', 'encoder_weights']


def whole(settings, flags, run):
    """The article's job: data -> model -> fit -> predict the test images -> save, and score."""
    from seg.check import load_fit
    from seg.folds import in_folds

    settings, data, rows = planned(settings, flags, load_fit(settings), run)
    in_folds(settings, data, run, partial(fit_and_paint, rows=rows), 'scores.json')
    tell_next(settings)


def planned(settings, flags, data, run):
    """(settings, data, rows of the plan) with what nobody has said decided, see seg/plan.py."""
    if settings.preset != 'auto' or run or 'config' in flags:
        return settings, data, []
    cli.quiet_tensorflow(settings.devices)
    from seg.plan import plan

    return plan(settings, flags, data)


def fit_and_paint(settings, data, run, rows):
    from seg.evaluate import paint_and_score
    from seg.masks import check_output

    check_output(data, settings)
    painted = {*data.splits.get('test', ()), *data.scored()[1]}
    run = fit(settings, data, run, rows, len(painted))
    if hosts.rank():
        return
    from model import load_model

    paint_and_score(load_model(run / BEST), data, run, settings)


def fit(settings, data, run, rows=(), after=0):
    """data -> model -> fit; the run's folder, which holds the best model. rows: of the plan; after:
    pictures that are painted then."""
    first = hosts.rank() == 0  # of several processes that alone writes
    if run and first:
        if (run / STATE).exists():  # a fold's may just have been made
            print(f'Going on with {run}')
        with locked(run, 'training in it'):
            check_data(run, data, settings.changed_data)
    elif settings.preset == 'best' and not settings.weights:
        wanted = 'best goes on from what transfer has learned; name its model with --weights, as'
        print(f'Note: {wanted} weights/camvid-transfer.hdf5')
    cli.quiet_tensorflow(settings.devices)
    if first:
        check_place(settings)
    from datapre import Stream, read_pairs
    from model import About, unet
    from seg import devices, guard, train
    from seg.budget import Budget

    place, settings = devices.place(settings)
    num_class = 1 if settings.num_class == 1 else len(data.classes)
    pairs, val_pairs = read_pairs(data, settings.log, settings.border_weights)
    teacher = None
    if settings.teacher:
        from seg.teacher import Teacher

        teacher = Teacher(settings.teacher, data, num_class, settings.model)
    stream = Stream(pairs, settings, num_class, teacher)
    size, count = (data.rule.height, data.rule.width), f'{len(pairs)} training and {len(val_pairs)}'
    what = 'images, crops' if data.rule.kind == 'tile' else 'images'
    print(f'{count} validation {what} of {size[0]}x{size[1]}, {len(data.classes)} classes')
    size = size if data.rule.fixed else (None, None)
    network = {name: getattr(settings, name) for name in NETWORK}
    with train.prepared(settings, place):
        model = unet(None, (*size, data.channels), num_class, classes=data.classes, **network)
    if hosts.joined:
        hosts.same(data.where, repr([fingerprints(data), data.rule, data.intensity]))
    run = Path(hosts.told_json(str(run or new_run(settings, data)) if first else None))
    begun = run.parent if settings.fold else run
    known = dict(paged=data.paged, run=begun.name, settings=asdict(settings), versions=versions())
    model.about = About(data.classes, data.rule, data.intensity, data.formats, **known)
    weights = train.balanced(data) if settings.class_weights else None
    try:
        with locked(run, 'training in it') if first else nullcontext():
            if first:
                tell_rivals(run, settings)
            after += len(val_pairs) if settings.folds else 0  # out of fold, in the end
            budget = settings.minutes and Budget(settings, len(val_pairs), after, rows)
            train.fit(model, stream, val_pairs, settings, run, weights, budget, place)
    except guard.Interrupted:
        say(f'Stopped. Go on with: python main.py --resume {shlex.quote(str(begun))}')
        raise KeyboardInterrupt from None
    if first:
        tell_best(run, settings)
    if hosts.joined:
        hosts.joined.leave()
    return run


def train(settings, flags, run):
    from seg.check import load_fit
    from seg.folds import in_folds

    settings, data, rows = planned(settings, flags, load_fit(settings), run)
    in_folds(settings, data, run, partial(fit, rows=rows))
    tell_next(settings)


def tell_next(settings):
    print(f'Curves: tensorboard --logdir {shlex.quote(settings.log)}')
    if not settings.folds:
        other = f' --model {shlex.quote(settings.model)}' * (settings.model != Settings.model)
        print(f'Next: python main.py predict PICTURE{other}')


def sample(settings, flags, run):
    from seg.scenes import draw_camvid

    if not (Path(settings.data) / 'train').is_dir():
        print(f'Drawing street scenes into {settings.data}/')
        draw_camvid(settings.data, train=160, val=32, test=32, size=(120, 160), seed=0)
    whole(settings, flags, run)


def predict(settings, flags, run):
    from seg.predict import paint_files

    paint_files(*trained_model(settings), flags['pictures'], settings, flags)


def trained_model(settings):
    """(model, path) that settings name; before any training, the one that comes along."""
    cli.quiet_tensorflow()
    from seg.folds import load_models

    path = Path(settings.model)
    if not path.exists() and settings.model == Settings.model:
        print(f'No {path} yet; taking {SHIPPED.name}, which comes along (weights/README.md)')
        path = SHIPPED
    from seg.modelfile import described

    model = load_models(path)
    several = f'the mean of {len(model.networks)} networks, ' if hasattr(model, 'networks') else ''
    print(f'Model: {several}{described(path, model.about)}')
    return model, path


def evaluate(settings, flags, run):
    from seg.evaluate import evaluate

    evaluate(settings, flags, *(() if flags.get('masks') else trained_model(settings)))


def choose_next(settings, flags, run):
    from seg.choose import choose

    choose(trained_model(settings)[0], flags['pictures'], flags['count'], settings)


def check(settings, flags, run):
    from seg.check import tell

    return tell(settings, flags)


def preview(settings, flags, run):
    from seg.check import load_fit

    if 'batch_size' in flags and 'batches' not in flags:
        raise InputError('--batch-size changes nothing without --batches')
    check_target(flags['page'])
    data = load_fit(settings, 'train')
    cli.quiet_tensorflow()
    from datapre import draw_preview

    draw_preview(data, settings, flags)


def export(settings, flags, run):
    model, path = trained_model(settings)
    from seg.export import export

    export(model, path, settings, flags)


def download(settings, flags, run):
    from seg.download import URL, download

    download(settings.data, flags.get('url', URL))
    print('Next: python main.py' + f' {settings.data}' * (settings.data != Settings.data))


VERBS = {None: whole, 'next': choose_next}
VERBS |= {f.__name__: f for f in (train, predict, evaluate, check, preview, sample)}
VERBS |= {f.__name__: f for f in (download, export)}


def main(argv=None):
    """Run one command line; returns the exit status."""
    return cli.run(argv, PRESETS, VERBS, __doc__)


if __name__ == '__main__':
    sys.exit(main())
