"""A multi-class U-Net on CamVid: train, predict, evaluate.

python main.py                     the article's job: train on CamVid/, predict its test images
python main.py sample              the same on drawn street scenes, in minutes
python main.py predict photo.jpg   paint classes with the trained model
python main.py check FOLDER        are these labels fit to train on?
python main.py VERB --help         each verb's own flags
"""

import argparse
import difflib
import json
import os
import sys
from pathlib import Path

AUG_ARGS = dict(
    rotation_range=0.2,
    width_shift_range=0.05,
    height_shift_range=0.05,
    shear_range=0.05,
    zoom_range=0.05,
    horizontal_flip=True,
    vertical_flip=True,
    fill_mode='nearest',
)
FLIP_ARGS = dict(horizontal_flip=True, zoom_range=0.1, brightness_range=(0.8, 1.2))

AUGMENTATIONS = """\
NAME[=STRENGTH][@PROBABILITY],... with
  S: a number, 0 changes nothing; +-S: -S to S, or LOW-HIGH; xS: a factor from
  1/(1+S) to 1+S, or LOW-HIGH
geometry, all in one warp; what the picture does not supply has no class
  crop=HxW                        window of pixels at a random place
  scale=0.5            x0 to 9    magnification
  rotate=10            +-0 to 180 degrees
  shear=10             +-0 to 80  degrees
  shift=0.1            +-0 to 1   share of the side
  flip=0.5             0 to 1     probability of mirroring left-right
  vflip=0.5            0 to 1     probability of mirroring upside down
colour, the label untouched
  gamma=0.5            x0 to 9    exponent
  brightness=0.2       +-0 to 1   added to 0..1
  hue=0.05             +-0 to 0.5 turns of the colour circle
  saturation=0.5       x0 to 9    distance from grey
  contrast=0.5         x0 to 9    distance from the mean grey
  noise=0.1            0 to 1     largest deviation of Gaussian noise
  channel_shift=0.1    +-0 to 1   added to each channel
  jitter=0.2           0 to 1     brightness, contrast and saturation
  augmix=0.3           0 to 1     severity of AugMix's colour chains
dropping; NAME:void also drops the label there
  cutout=0.5           0 to 2     side of a square / shorter side
  erasing=0.4          0 to 1     largest area of a patch of noise
  gridmask=0.4         0 to 1     side / distance of squares
  hide=0.5             0 to 1     probability of hiding each patch
mixing, within a batch, image and label alike
  mixup=0.4            0 to 100   alpha of Mixup's Beta
  cutmix=1             0 to 100   alpha of CutMix's Beta
  fmix=1               0 to 100   alpha of FMix's Beta
  classmix=0.5         0 to 1     share of classes that is pasted"""

SHIPPED = Path(__file__).parent / 'weights/camvid-fast.hdf5'

# A preset is a set of defaults; any flag overrides it.
ARTICLE = dict(
    data='CamVid',
    images=None,
    labels=None,
    classes=None,
    num_class=None,
    size=None,
    val_split=None,
    filters=64,
    stride=1,
    dilated=False,
    residual=False,
    batch_norm=True,
    fusion='concat',
    activation=None,
    loss=None,
    class_weights=False,
    weights=None,
    batch_size=2,
    steps=100,
    epochs=20,
    learning_rate=1e-3,
    schedule='constant',
    weight_decay=0.0,
    optimizer='adam',
    ema=0.0,
    bfloat16=False,
    monitor='val_loss',
    seed=1,
    aug_dict=AUG_ARGS,
    augment=None,
    model='camvid.hdf5',
    output=None,
    log='log',
)
SHAPED = dict(  # what fast and best have in common
    filters=16,
    stride=2,
    dilated=True,
    residual=True,
    loss='crossentropy+dice',
    class_weights=True,
    optimizer='muon',
    learning_rate=5e-3,
    schedule='cosine',
    weight_decay=0.01,
    augment='scale=0.75-1.6,flip,jitter=0.2',
    steps=250,
    monitor='val_miou',
)
PRESETS = {
    'article': ARTICLE,
    'sample': ARTICLE
    | dict(
        data='sample',
        num_class=13,
        filters=16,
        steps=160,
        epochs=6,
        learning_rate=2e-3,
        schedule='cosine',
        class_weights=True,
        aug_dict=FLIP_ARGS,
        model='sample.hdf5',
    ),
    'fast': ARTICLE | SHAPED | dict(epochs=10),
    'best': ARTICLE | SHAPED | dict(epochs=30, learning_rate=3e-3, class_weights=False, ema=0.998),
}


# ---------------------------------------------------------------------------- arguments


class OneLineParser(argparse.ArgumentParser):
    """Errors in one line on standard error, with the nearest name; exit status 2."""

    def parse_args(self, argv=None):
        argv = sys.argv[1:] if argv is None else argv
        for word in argv:  # before argparse takes a misspelt flag's value for a verb
            if word.startswith('--') and word.split('=')[0] not in self.words():
                self.error(f'no such flag: {word}')
        return super().parse_args(argv)

    def words(self):
        """Every flag, verb and choice, those of the verbs too."""
        words = set(self._option_string_actions)
        for action in self._actions:
            words |= {str(c) for c in action.choices or ()}
            if isinstance(action, argparse._SubParsersAction):
                words |= {w for sub in set(action.choices.values()) for w in sub.words()}
        return words

    def error(self, message):
        wrong = message.split("'")[1] if 'invalid choice' in message else message.split()[-1]
        near = difflib.get_close_matches(wrong, self.words(), 1)
        hint = f'did you mean {near[0]}?' if near else 'see --help'
        self.exit(2, f'main.py: {message}; {hint}\n')


def number(kind, low, high):
    def parse(text):
        value = kind(text)
        if not low <= value <= high:  # also refuses nan
            raise argparse.ArgumentTypeError(f'expected {low} to {high}, got {text}')
        return value

    parse.__name__ = kind.__name__
    return parse


def height_width(text):
    try:
        height, width = (int(side) for side in text.lower().split('x'))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f'expected HEIGHTxWIDTH as in 360x480, got {text}'
        ) from None
    if not (16 <= height <= 8192 and 16 <= width <= 8192):
        raise argparse.ArgumentTypeError(f'expected sides of 16 to 8192 pixels, got {text}')
    return height, width


def parser():
    def group(title, *flags):
        part = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
        arguments = part.add_argument_group(title)
        for name, options in flags:
            arguments.add_argument(name, **options)
        return part

    a, either = ARTICLE, argparse.BooleanOptionalAction
    data = group(
        'data (only read)',
        (
            '--data',
            dict(
                metavar='FOLDER',
                help='folder with train, trainannot, val, valannot, '
                f'test[, testannot] (default {a["data"]})',
            ),
        ),
        ('--images', dict(metavar='WHERE', help='pictures of your own: a folder or a pattern ...')),
        ('--labels', dict(metavar='WHERE', help='... and their labels, of the same names')),
        (
            '--val-split',
            dict(
                type=number(float, 0.01, 0.99),
                metavar='X',
                help='share kept for validation where there is no val folder',
            ),
        ),
        (
            '--classes',
            dict(
                metavar='FILE',
                help='class table: name,r,g,b[,role] a line (default: '
                'classes.csv beside the data, else what the labels hold)',
            ),
        ),
        (
            '--num-class',
            dict(
                type=number(int, 1, 255),
                metavar='N',
                help='number of classes without a table; 1: one sigmoid channel',
            ),
        ),
        (
            '--size',
            dict(
                type=height_width,
                metavar='HxW',
                help="resize to this, labels nearest (default the files' own size)",
            ),
        ),
        ('--seed', dict(type=number(int, 0, 2**32 - 1), metavar='N', help='default 1')),
    )
    fitting = group(
        'network and training',
        (
            '--preset',
            dict(
                choices=PRESETS,
                help='set of defaults (default article); fast: '
                'half an hour on a CPU; best: an hour more, from --weights of fast',
            ),
        ),
        (
            '--filters',
            dict(
                type=number(int, 1, 1024),
                metavar='N',
                help=f'channels of the first level (default {a["filters"]}; 16 is 12 times faster)',
            ),
        ),
        (
            '--stride',
            dict(
                type=int,
                choices=(1, 2),
                help='2: enter at half resolution, leave at '
                'full; a quarter of the arithmetic (default 1)',
            ),
        ),
        ('--dilated', dict(action=either, help='dilated convolutions at the bottom level')),
        (
            '--residual',
            dict(action=either, help='the second convolution of each pair adds to the first'),
        ),
        ('--batch-norm', dict(action=either, help='normalise after each convolution (default)')),
        ('--fusion', dict(choices=('concat', 'add'), help='concat: U-Net (default); add: as FCN')),
        ('--activation', dict(choices=('softmax', 'relu', 'sigmoid'), help='of the output')),
        (
            '--loss',
            dict(
                choices=(
                    'categorical_crossentropy',
                    'binary_crossentropy',
                    'mse',
                    'rmse',
                    'focal',
                    'dice',
                    'crossentropy+dice',
                ),
                help='default categorical_crossentropy',
            ),
        ),
        (
            '--class-weights',
            dict(
                action=either,
                help='rare classes count more: 1/ln(1.10 + share of the training pixels)',
            ),
        ),
        (
            '--batch-size',
            dict(
                type=number(int, 1, 1024),
                metavar='N',
                help=f'images a step (default {a["batch_size"]})',
            ),
        ),
        (
            '--steps',
            dict(
                type=number(int, 1, 10**6),
                metavar='N',
                help=f'steps an epoch (default {a["steps"]})',
            ),
        ),
        ('--epochs', dict(type=number(int, 1, 10**6), metavar='N', help=f'default {a["epochs"]}')),
        (
            '--optimizer',
            dict(
                choices=('adam', 'muon'),
                help='muon: fewer steps to the same score, each a little slower (default adam)',
            ),
        ),
        (
            '--learning-rate',
            dict(
                type=number(float, 0, 1e9),
                metavar='X',
                help=f'of Adam (default {a["learning_rate"]})',
            ),
        ),
        (
            '--schedule',
            dict(
                choices=('constant', 'cosine'),
                help='of the learning rate; cosine: '
                'warm-up, then down to 0 at the end (default constant)',
            ),
        ),
        (
            '--weight-decay',
            dict(
                type=number(float, 0, 10), metavar='X', help='of AdamW (default 0, which is Adam)'
            ),
        ),
        (
            '--ema',
            dict(
                type=number(float, 0, 0.9999),
                metavar='X',
                help='score and keep a moving average of the weights, of this momentum: 0.998 '
                'is over about 500 steps (default 0: the last weights)',
            ),
        ),
        (
            '--bfloat16',
            dict(
                action=either,
                help='multiply in bfloat16, the file stays float32: a third '
                'off a step where the processor (AVX-512 BF16, AMX) or GPU can',
            ),
        ),
        (
            '--monitor',
            dict(
                choices=('val_loss', 'val_miou'),
                help='which epoch is best and kept (default val_loss)',
            ),
        ),
        (
            '--augment',
            dict(
                metavar='LIST',
                help='augmentations, as in scale=0.75-1.6,flip,jitter '
                "(listed below; default the article's aug_args; none: none)",
            ),
        ),
        ('--weights', dict(metavar='FILE', help='start from the weights of this model')),
        (
            '--resume',
            dict(
                nargs='?', const='', metavar='RUN', help='go on with the last run, or with log/RUN'
            ),
        ),
        ('--log', dict(metavar='FOLDER', help='TensorBoard and run files (default log)')),
    )
    model = group(
        'the trained model', ('--model', dict(metavar='FILE', help=f'default {a["model"]}'))
    )
    masks = group(
        'masks',
        (
            '--output',
            dict(
                metavar='FOLDER',
                help='where masks go (default CamVid/testpred, for pictures of your own predicted)',
            ),
        ),
        (
            '--opacity',
            dict(
                type=number(float, 0, 1),
                metavar='X',
                help='of the colours in overlays (default 0.5)',
            ),
        ),
        ('--side-by-side', dict(action='store_true', help='picture and mask instead of overlays')),
    )
    flip = group(
        'scoring and painting',
        (
            '--flip',
            dict(
                action='store_true',
                help='average with the mirrored picture: slower, a little better',
            ),
        ),
    )

    p = OneLineParser(
        prog='main.py',
        allow_abbrev=False,
        description=__doc__,
        epilog=f'augmentations:\n{AUGMENTATIONS}',
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[data, fitting, model, masks, flip],
        argument_default=argparse.SUPPRESS,
    )
    verbs = p.add_subparsers(
        dest='verb',
        metavar='VERB',
        parser_class=OneLineParser,
        title='verbs (none: train, then predict, then evaluate)',
    )

    def verb(name, text, *parents):
        return verbs.add_parser(
            name,
            help=text,
            description=text,
            parents=parents,
            allow_abbrev=False,
            argument_default=argparse.SUPPRESS,
        )

    verb('train', 'train only', data, fitting, model)
    v = verb('preview', 'draw what augmentations do to image and label', data, fitting)
    v.add_argument(
        '--batches', action='store_true', help='instead, the first batches that training will see'
    )
    v.add_argument('--page', metavar='FILE', default='preview.png', help='default preview.png')
    v = verb('predict', 'paint the classes of pictures', data, model, masks, flip)
    v.add_argument(
        'pictures',
        nargs='*',
        default=[],
        help='files, folders or globs (default the test images of --data)',
    )
    v = verb('evaluate', 'score a model, or masks made by any program', data, model, flip)
    v.add_argument('--masks', metavar='FOLDER', help='score these masks instead of a model')
    v.add_argument('--scores', metavar='FILE', help='default scores.json')
    v.add_argument(
        '--report',
        metavar='FILE',
        nargs='?',
        const='report.html',
        help='also write the report, one HTML file',
    )
    v = verb('check', 'what a data set holds, and whether it is fit to train on', data)
    v.add_argument('folder', nargs='?', help='same as --data')
    v.add_argument('--json', action='store_true', help='the result for programs')
    v.add_argument('--write-classes', metavar='FILE', help='write the class table found, to edit')
    v.add_argument('--repair', metavar='OUT', help='write clean index PNGs of all labels to OUT')
    v.add_argument(
        '--tolerance',
        type=number(int, 0, 255),
        default=16,
        metavar='N',
        help='repair: how far a colour may be from its class (default 16)',
    )
    verb(
        'sample',
        'draw street scenes into sample/ and do the whole job on them',
        fitting,
        model,
        masks,
        flip,
    )
    v = verb('download', 'fetch CamVid into CamVid/ (about 200 MB) and verify it')
    v.add_argument('--data', metavar='FOLDER', help='where to (default CamVid)')
    v.add_argument('--url', help='another copy of the archive')
    return p


def resolve(flags):
    """Flags given on the command line, over their preset."""
    name = flags.get('preset') or ('sample' if flags.get('verb') == 'sample' else 'article')
    settings = PRESETS[name] | {k: v for k, v in flags.items() if k in ARTICLE}
    return settings | {'preset': name}


def resume(flags):
    """(run folder, its settings); InputError where a flag given now says otherwise."""
    from seg.readers import InputError

    quiet_tensorflow()
    from seg.train import find_run

    run, settings = find_run(flags.get('log', ARTICLE['log']), flags['resume'])
    settings = ARTICLE | settings  # a run begun by an older version lacks newer flags
    given = {k: list(v) if isinstance(v, tuple) else v for k, v in flags.items()}
    differ = [
        f'{k} is {settings[k]!r} there and {given[k]!r} here'
        for k in settings
        if k in given and given[k] != settings[k]
    ]
    if differ:
        raise InputError(
            f'{run} can not go on with other settings: {"; ".join(differ)}. Leave '
            'these flags out, or start anew without --resume'
        )
    return run, settings


# ---------------------------------------------------------------------------- the story


def main(argv=None):
    """Run one command line; returns the exit status."""
    for stream in (sys.stdout, sys.stderr):  # Chinese names on any terminal
        stream.reconfigure(encoding='utf-8', errors='replace')
    try:
        flags = vars(parser().parse_args(argv))
    except SystemExit as e:
        return e.code
    from seg.readers import InputError  # from here on slower than --help

    warn_of_versions()
    try:
        return run_verb(flags)
    except InputError as e:
        if 'keras' in sys.modules:
            print()  # below a progress bar
        print(f'main.py: {e}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('\nmain.py: stopped', file=sys.stderr)
        return 130


def run_verb(flags):
    verb = flags.get('verb')
    if verb == 'download':
        from seg.download import URL, download

        download(flags.get('data', 'CamVid'), flags.get('url', URL))
        return 0
    run, settings = resume(flags) if 'resume' in flags else (None, resolve(flags))
    if verb == 'check':
        return check(settings, flags)
    if verb == 'preview':
        preview(settings, flags)
    elif verb == 'predict':
        files = find_pictures(flags['pictures'] or [Path(settings['data']) / 'test'])
        predict(settings, flags, files, own=bool(flags['pictures']))
    elif verb == 'evaluate':
        evaluate(settings, flags)
    else:
        if verb == 'sample':
            draw_sample(settings)
        run = train(settings, run)
        if verb != 'train':
            test = Path(settings['data']) / 'test'
            own = bool(settings['images'])
            files = (
                [i for i, _ in scored_pairs(settings)[1]]
                if own or not test.is_dir()
                else find_pictures([test])
            )
            output = predict(settings, flags, files, own)
            evaluate(settings, {'flip': flags.get('flip')}, run)
            print(
                f'Masks: {output}/, overlays: {output}/overlay/, report: {run}/report.html, '
                f'curves: tensorboard --logdir {settings["log"]}'
            )
    return 0


def source(settings):
    """Arguments for check.check: where the data are and how they are meant."""
    own = dict(images=settings['images'], labels=settings['labels'])
    return (own if any(own.values()) else dict(folder=settings['data'])) | dict(
        table=given_classes(settings),
        val_split=settings['val_split'],
        seed=settings['seed'],
        size=settings['size'],
        two_class=(settings['num_class'] or 3) <= 2,
    )


def given_classes(settings):
    """The class table that flags name; None leaves it to the data."""
    from seg.readers import class_table, read_classes

    if settings['classes']:
        return read_classes(settings['classes'])
    return class_table(settings['num_class']) if settings['num_class'] else None


def load_pairs(settings):
    """{'train': pairs, 'val': pairs[, 'test': pairs]} of the data that `settings` names."""
    from seg.readers import pair_files, split

    data = Path(settings['data'])
    if settings['images'] or settings['labels']:
        found = {'train': pair_files(settings['images'], settings['labels'])}
    else:
        found = {
            s: pair_files(data / s, data / f'{s}annot')
            for s in ('train', 'val', 'test')
            if (data / f'{s}annot').is_dir()
        }
    if 'val' not in found and settings['val_split'] and 'train' in found:
        found['train'], found['val'] = split(
            found['train'], settings['val_split'], settings['seed']
        )
    return found


def scored_pairs(settings):
    """(split, pairs) to score: test where it is labelled, else val, else all there is."""
    found = load_pairs(settings)
    return next(((s, found[s]) for s in ('test', 'val', 'train') if s in found), ('test', []))


def read_pairs(settings, splits):
    """The fast part of the check, then datapre.Pairs of each split."""
    from seg.check import check
    from seg.readers import ClassTable, InputError

    result = check(**source(settings), fast=True)
    for line in result['warnings']:
        print(f'Note: {line}')
    found = load_pairs(settings)
    if 'val' in splits and 'val' not in found:
        raise InputError('no validation pictures; keep some of the training ones: --val-split 0.2')
    quiet_tensorflow()
    from datapre import Pairs
    from seg.augment import parse

    if settings['augment']:
        if parse(settings['augment']).size:  # and a misspelt name, before pictures are read
            raise InputError(
                '--augment crop: training and validation pictures have one size; use '
                'scale, whose window lies at a random place, or --size'
            )
    classes, two_class = ClassTable.from_dict(result['table']), (settings['num_class'] or 3) <= 2
    pairs, size = [], settings['size']
    for name in splits:
        pairs.append(Pairs(found[name], classes, size, two_class))
        size = pairs[0].size
    return pairs


def train(settings, run=None):
    """Check the data, then fit; the run's folder."""
    from seg.readers import InputError

    data = Path(settings['data'])
    if not settings['images'] and not (data / 'train').is_dir():
        raise InputError(
            f'{data}: expected the folders train, trainannot, val, valannot, found '
            'none.\n`python main.py download` fetches CamVid; `python main.py sample` '
            'needs no data; --data or --images and --labels name your own'
        )
    pairs, val_pairs = read_pairs(settings, ('train', 'val'))
    from seg.train import Interrupted, fit, label_weights, new_run

    print(
        f'{len(pairs)} training and {len(val_pairs)} validation images of '
        f'{pairs.size[0]}x{pairs.size[1]}, {len(pairs.classes)} classes'
    )
    if run:
        print(f'Going on with {run}')
    weights = label_weights(pairs) if settings['class_weights'] else None
    run = run or new_run(settings['log'], settings['preset'], settings, versions())
    try:
        fit(settings, pairs, val_pairs, run, weights)
    except Interrupted:
        print(f'\nStopped. Go on with: python main.py --resume {run}')
        raise KeyboardInterrupt from None
    return run


def preview(settings, flags):
    """One page: every augmentation, or those of --augment, or batches as training gets them."""
    (pairs,) = read_pairs(settings, ('train',))
    from seg.augment import batch_cells, preview_cells
    from seg.report import preview_page, save_picture
    from seg.train import training_batches

    if flags.get('batches'):
        n, batches = settings['batch_size'], training_batches(settings, pairs).take(6)
        cells = [c for i, (x, y) in enumerate(batches) for c in batch_cells(x, y, i * n)]
    else:
        cells = preview_cells(
            [pairs[0], pairs[len(pairs) - 1]],
            len(pairs.classes),
            settings['augment'] or '',
            settings['seed'],
        )
    save_picture(preview_page(cells, pairs.classes), flags['page'])
    print(f'{len(cells)} cells on {flags["page"]}: image, label, both')


def predict(settings, flags, files, own=False):
    """Masks and overlays of `files`; the folder they are in."""
    quiet_tensorflow()
    from seg.predict import predict_files

    article = {'CamVid': 'CamVid/testpred', 'sample': 'sample/testpred'}
    output = settings['output'] or (
        'predicted' if own else article.get(settings['data'], 'CamVid/testpred')
    )
    model = trained_model(settings)
    count = predict_files(
        model,
        files,
        output,
        flags.get('opacity', 0.5),
        flags.get('side_by_side', False),
        flags.get('flip', False),
    )
    print(f'{count} masks in {output}/')
    return output


def evaluate(settings, flags, run=None):
    """Print the scores of a model or of masks; write scores.json, and the report where asked."""
    from seg import metrics
    from seg.readers import ClassTable, InputError
    from seg.report import Report, curves_png

    split, files = scored_pairs(settings)
    if not files:
        raise InputError(f'{settings["data"]}: no labels to score against (testannot or valannot)')
    two_class, masks = (settings['num_class'] or 3) <= 2, flags.get('masks')
    page = run / 'report.html' if run else flags.get('report')
    if masks:
        from seg.check import check

        # Nothing is stacked here, so pictures may differ in size: any `size` says so.
        found = check(**source(settings) | {'size': (1, 1)}, fast=True)
        classes = ClassTable.from_dict(found['table'])
        report = Report(page, classes) if page else None
        counts = metrics.evaluate_masks(
            masks, files, classes, two_class, each=report and report.add
        )
        result = metrics.scores(counts)
    else:
        quiet_tensorflow()
        from seg import predict

        model = trained_model(settings)
        classes = model.class_table
        report = Report(page, classes) if page else None
        counts, result = predict.evaluate(
            model, files, two_class, bool(flags.get('flip')), each=report and report.add
        )
    what = masks or settings['model']
    print(
        f'{what} on the {split} split, {len(files)} images'
        + ('' if split == 'test' else ' (not a test score)')
    )
    print(metrics.format_scores(result, classes))
    losses = []
    if run:
        from seg.train import read_history

        history = read_history(run)
        losses = history.get('val_loss', [])
        curves_png(history, run / 'curves.png')
    lines = metrics.warnings(counts, classes, losses)
    for line in lines:
        print(f'Note: {line}')
    path = run / 'scores.json' if run else Path(flags.get('scores', 'scores.json'))
    metrics.write_scores(
        path,
        counts,
        classes,
        split=split,
        images=len(files),
        of=str(what),
        flip=bool(flags.get('flip')),
    )
    if page:
        report.write(
            counts,
            settings if run else {'scored': str(what)},
            versions(),
            history if run else None,
            split,
            lines,
        )


def check(settings, flags):
    """Print what a data set holds; 0 fit to train, 1 not. Or repair its labels."""
    import seg.check as checker
    from seg.readers import ClassTable, write_classes

    settings = settings | {'data': flags.get('folder', settings['data'])}
    arguments = source(settings)
    if 'repair' in flags:
        done = checker.repair(
            settings['labels'] or settings['data'],
            flags['repair'],
            arguments['table'],
            flags['tolerance'],
            arguments['two_class'],
        )
        for d in done:
            print(f'{d["out"]}: {d["converted"]} pixels converted, {d["snapped"]} snapped')
        print(f'{len(done)} labels written to {flags["repair"]}/')
        return 0
    result = checker.check(**arguments)
    if flags.get('json'):
        print(json.dumps(result, ensure_ascii=False, indent=2))
    else:
        print(checker.format_check(result))
    if 'write_classes' in flags and result['table']:
        write_classes(flags['write_classes'], ClassTable.from_dict(result['table']))
    return 0 if result['fit'] else 1


def draw_sample(settings):
    from seg.scenes import draw_camvid

    if not (Path(settings['data']) / 'train').is_dir():
        print(f'Drawing street scenes into {settings["data"]}/')
        draw_camvid(settings['data'], train=160, val=32, test=32, size=(120, 160), seed=0)


def find_pictures(paths):
    """Files, folders and globs -> picture files; InputError for what matches none."""
    import glob

    from seg.readers import PICTURES, InputError, list_pictures

    files = []
    for path in map(Path, paths):
        if path.is_dir():
            files += list_pictures(path)
        elif path.is_file():
            files.append(path)
        else:
            found = [Path(f) for f in sorted(glob.glob(str(path), recursive=True))]
            found = [f for f in found if f.suffix.lower() in PICTURES]
            if not found:
                raise InputError(f'{path}: expected a picture, a folder or a glob, found nothing')
            files += found
    return files


def trained_model(settings):
    """The model that settings name; before any training, the one that comes with the program."""
    from model import load_model

    path = Path(settings['model'])
    if not path.exists() and path == Path(ARTICLE['model']) and SHIPPED.exists():
        print(
            f'No {path} yet; this is {SHIPPED.name}, which comes with the program (weights/README.md)'
        )
        path = SHIPPED
    return load_model(path)


def quiet_tensorflow():
    """Import TensorFlow without its chatter about missing GPUs, which looks like an error."""
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
    os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '1')  # as model.py does for those who import it
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)  # the C++ side writes to the descriptor itself
    try:
        import tensorflow as tf

        tf.config.list_physical_devices('GPU')
        tf.zeros(1)
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
    import absl.logging

    absl.logging.set_verbosity(absl.logging.ERROR)  # "HDF5 is legacy", said at every save


def versions():
    """{package: installed version or None} of requirements.txt."""
    return {name: found for name, found, _ in requirements()}


def requirements():
    from importlib.metadata import PackageNotFoundError, version

    from packaging.requirements import Requirement

    for line in (Path(__file__).parent / 'requirements.txt').read_text().splitlines():
        if line and not line.startswith('#'):
            required = Requirement(line)
            try:
                yield required.name, version(required.name), required
            except PackageNotFoundError:
                yield required.name, None, required


def warn_of_versions():
    wrong = [
        f'{name} {found or "missing"} (tested: {required.specifier})'
        for name, found, required in requirements()
        if found is None or not required.specifier.contains(found, prereleases=True)
    ]
    if wrong:
        print(
            'Note: outside the tested versions: '
            + ', '.join(wrong)
            + '; `pip install -r requirements.txt` mends it.',
            file=sys.stderr,
        )


if __name__ == '__main__':
    sys.exit(main())
