"""The command line: arguments to Settings, mistakes in one line, the exit status."""

import argparse
import dataclasses
import difflib
import os
import sys

from seg import augment
from seg.files import InputError
from seg.runs import find_run, write_settings
from seg.settings import (
    FIELDS,
    FLAGS,
    Settings,
    add_flags,
    file_name,
    number,
    read_settings,
    resolve,
    version_note,
    versions,
)

MASKS, SCORING = ('output', 'opacity', 'side_by_side'), ('flip',)
NETWORK = FLAGS[FLAGS.index('filters') : FLAGS.index('model')]
DATA = FLAGS[: FLAGS.index('filters')]
JUDGED = ('data', 'images', 'labels', 'val_split', 'classes', 'num_class', 'size', 'seed')
VERBS = {  # name: (what it does, the settings that it takes)
    'train': ('train only', [*DATA, *NETWORK, 'model', *SCORING]),
    'preview': ('draw what augmentations do to image and label', [*DATA, *NETWORK]),
    'predict': ('paint the classes of pictures', ['data', 'images', 'model', *MASKS, *SCORING]),
    'evaluate': ('score a model, or masks made by any program', [*JUDGED, 'model', *SCORING]),
    'check': ('what a data set holds, and whether it is fit to train on', JUDGED),
    'sample': (
        'draw street scenes into sample/ and do the whole job on them',
        [*NETWORK, 'model', *MASKS, *SCORING],
    ),
    'download': ('fetch CamVid into CamVid/ (about 200 MB) and verify it', ['data']),
}


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


def make_parser(presets, doc):
    """The whole command line."""
    p = OneLineParser(
        prog='main.py',
        allow_abbrev=False,
        description=doc,
        epilog=f'augmentations:\n{augment.help_text()}',
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    add_flags(p, FLAGS)
    _add_run_flags(p, presets)
    verbs = p.add_subparsers(
        dest='verb',
        metavar='VERB',
        parser_class=OneLineParser,
        title='verbs (none: train, then predict, then evaluate)',
    )
    own = {}
    for name, (text, names) in VERBS.items():
        own[name] = v = verbs.add_parser(
            name,
            help=text,
            description=text,
            allow_abbrev=False,
            argument_default=argparse.SUPPRESS,
        )
        add_flags(v, names)
        if name in ('train', 'preview', 'sample'):
            _add_run_flags(v, presets)
    page, json_file = file_name('.png', '.jpg'), file_name('.json')
    add = own['preview'].add_argument
    add('--batches', action='store_true', help='instead, the first batches that training will see')
    add('--page', type=page, metavar='FILE', default='preview.png', help='default preview.png')
    add = own['predict'].add_argument
    text = 'files, folders or globs (default the test images of --data)'
    add('pictures', nargs='*', default=[], help=text)
    add = own['evaluate'].add_argument
    add('--masks', metavar='FOLDER', help='score these masks instead of a model')
    add('--scores', type=json_file, metavar='FILE', help='default scores.json')
    text = 'also write the report, one HTML file'
    add(
        '--report',
        type=file_name('.html'),
        metavar='FILE',
        nargs='?',
        const='report.html',
        help=text,
    )
    add = own['check'].add_argument
    add('folder', nargs='?', help='same as --data')
    add('--json', action='store_true', help='the result for programs')
    add('--write-classes', metavar='FILE', help='write the class table found, to edit')
    add('--repair', metavar='OUT', help='write clean index PNGs of all labels to OUT')
    text = 'repair: how far a colour may be from its class (default 16)'
    add('--tolerance', type=number(int, 0, 255), default=16, metavar='N', help=text)
    own['download'].add_argument('--url', help='another copy of the archive')
    return p


def _add_run_flags(parser, presets):
    group = parser.add_argument_group('a whole run')
    text = (
        'set of defaults (default article); fast: half an hour on a CPU; best: an hour more, '
        'from --weights of fast'
    )
    group.add_argument('--preset', choices=presets, help=text)
    text = 'settings of another run, its settings.json; flags go over them'
    group.add_argument('--config', metavar='FILE', help=text)
    text = 'go on with the last run, or with log/RUN'
    group.add_argument('--resume', nargs='?', const='', metavar='RUN', help=text)


def resume(flags):
    """(run folder, Settings) to go on with; InputError where a flag given now says otherwise."""
    run = find_run(flags.get('log', Settings.log), flags['resume'])
    saved = read_settings(run / 'settings.json')
    given = {k: v for k, v in flags.items() if k in FIELDS}
    old = Settings(**saved)
    differ = [
        f'{k} is {getattr(old, k)!r} there and {v!r} here'
        for k, v in given.items()
        if v != getattr(old, k) and not FIELDS[k].metadata['later']
    ]
    if differ:
        raise InputError(
            f'{run} can not go on with other settings: {"; ".join(differ)}. Leave these flags out, '
            'or start anew without --resume'
        )
    new = Settings(**saved | given)
    if new.epochs != old.epochs:
        what = f'{new.schedule} schedule now runs over all {new.epochs}'
        print(f'{run}: {new.epochs} epochs instead of {old.epochs}; the {what}')
        write_settings(run, dataclasses.asdict(new), versions())
    return run, new


def run(argv, presets, verbs, doc):
    """Run one command line; returns the exit status.

    verbs: {name or None: function(settings, flags, run) -> exit status or None}.
    """
    for stream in (sys.stdout, sys.stderr):  # Chinese names on any terminal; Jupyter's has no such
        if hasattr(stream, 'reconfigure'):
            stream.reconfigure(encoding='utf-8', errors='replace')
    try:
        flags = vars(make_parser(presets, doc).parse_args(argv))
    except SystemExit as e:
        return e.code
    if note := version_note():
        print(note, file=sys.stderr)
    verb, folder = flags.get('verb'), None
    try:
        if verb == 'sample':  # on these data whatever the preset
            drawn = {name: presets['sample'][name] for name in ('data', 'model')}
            flags = drawn | {'preset': 'sample'} | flags
        if 'resume' in flags:
            folder, settings = resume(flags)
        else:
            settings = resolve(flags, presets, 'article')
        return verbs[verb](settings, flags, folder) or 0
    except InputError as e:
        if 'keras' in sys.modules:
            print()  # below a progress bar
        print(f'main.py: {e}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('\nmain.py: stopped', file=sys.stderr)
        return 130


def quiet_tensorflow():
    """Import TensorFlow without its chatter about missing GPUs, which looks like an error."""
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
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
