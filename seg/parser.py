"""The words of the command line: verbs, their flags and their help; slips in one line."""

import argparse
import difflib
import os
import re
import sys

from seg import augment, settings
from seg.files import nearest_name
from seg.settings import FLAGS, Settings, file_name

DATA, FITTING = (
    FLAGS[: FLAGS.index('filters')],
    FLAGS[FLAGS.index('filters') : FLAGS.index('model')],
)
JUDGED = [name for name in DATA if name not in ('resize', 'crop')]
SCORED = [name for name in JUDGED if name != 'size']  # a model has its own
DRAWN = ['batch_size', 'augment']
TILES = ['flip', 'tile', 'overlap']
MASKS = ['model', 'output', 'save', 'opacity', 'side_by_side', *TILES]
SWITCH, PAGE = dict(action='store_true'), file_name('.png', '.jpg')
READ = {  # what is trained, to be read; ONNX, which `export` writes, too
    '--model': dict(type=file_name('.hdf5', '.h5', '.keras', '.onnx'), metavar='FILE')
    | dict(help=f'the trained model, or its .onnx (default {Settings.model})')
}
FILM = 'a video, or 0, the first camera, until Ctrl-C, becomes a video of overlays, without sound, '
FILM += 'and where --save is given also masks of its frames'


def size_or_free(text):
    """'free', or '360x480' -> (360, 480)."""
    return text if text == 'free' else settings.height_width(text)


VERBS = {  # name: (what it does, the settings that it takes, whether it begins a run)
    'train': ('train only', [*DATA, *FITTING, 'model'], True),
    'preview': ('draw what augmentations do to image and label', [*DATA, *DRAWN], False),
    'predict': ('paint the classes of pictures and videos', ['data', 'images', *MASKS[1:]], False),
    'evaluate': ('score a model, or masks of any program', [*SCORED, *TILES], False),
    'next': ('choose which pictures to label next', TILES, False),
    'export': (
        'write a model as ONNX, LiteRT, SavedModel or a web page, once it gives what Keras gives',
        [name for name in JUDGED if name != 'size'],
        False,
    ),
    'check': ('what a data set holds; whether it is fit to train on', JUDGED, False),
    'sample': ('the whole job on street scenes, drawn into sample/', [*FITTING, *MASKS], True),
    'download': ('fetch CamVid into CamVid/ (about 200 MB) and verify it', ['data'], False),
}
RUN = {  # of those that begin a run
    '--config': dict(metavar='FILE', help='the settings.json of another run; flags go over it'),
    '--resume': dict(
        nargs='?', const='', metavar='RUN', help='go on with the last run, or log/RUN'
    ),
}
FOLDER = {'folder': dict(nargs='?', metavar='[FOLDER]', help='the data set, as --data FOLDER')}
LEARNED = {'folder': FOLDER['folder'] | dict(help='default what the model was trained on')}
HOSTS = {
    '--hosts': dict(metavar='A,B', help='train on several machines: the same command on each; jax'),
    '--process': dict(type=settings.number(int, 0, 999), metavar='N')
    | dict(help='which of --hosts this is, where the names do not tell'),
}
OWN = {  # of one verb alone
    '': HOSTS,
    'train': FOLDER | HOSTS,
    'preview': FOLDER
    | {
        '--batches': SWITCH | dict(help='draw the first batches of a training instead'),
        '--page': dict(type=PAGE, metavar='FILE', default='preview.png')
        | dict(help='where to (default preview.png)'),
        '--preset': dict(metavar='NAME', help='whose augmentations, and batches'),
        '--config': RUN['--config'],
    },
    'predict': READ
    | {
        'pictures': dict(nargs='*', default=[], metavar='[PICTURE ...]')
        | dict(help='files, folders, patterns (default the test pictures of --data); ' + FILM),
        '--fps': dict(type=settings.number(float, 0.01, 1000), metavar='X')
        | dict(help='the pictures of a folder are frames, X a second, of a video'),
    },
    'evaluate': LEARNED
    | READ
    | {
        '--masks': dict(metavar='FOLDER', help='score these masks, of any program, not a model'),
        '--scores': dict(type=file_name('.json'), metavar='FILE')
        | dict(help='where the scores go (default scores.json)'),
        '--report': dict(nargs='?', const='report.html', type=file_name('.html'), metavar='FILE')
        | dict(help='also write a page to look at (report.html)'),
    },
    'next': READ
    | {
        'pictures': dict(nargs='+', metavar='PICTURE ...')
        | dict(help='not labelled yet: files, folders, patterns'),
        '--count': dict(type=settings.COUNT, default=20, metavar='N')
        | dict(help='how many to choose (default 20); they are written to next.csv, too'),
    },
    'export': {
        'model': dict(type=settings.MODEL, nargs='?', metavar='MODEL', default=Settings.model)
        | dict(help=f'default {Settings.model}; of folds a pattern: their mean'),
        '--to': dict(choices=settings.EXPORTS, required=True, help='the format'),
        '--size': dict(type=size_or_free, metavar='HxW')
        | dict(help='of its pictures; free: any that 32 divides (default as it was trained)'),
        '--int8': SWITCH
        | dict(help='smaller, calibrated on training pictures; tells the mIoU that it loses'),
        '--output': dict(metavar='FILE', help="default the model's name, in this folder"),
        '--title': dict(metavar='TEXT', help="web: the page's heading (default the model's name)"),
        '--runtime': dict(metavar='FILE')
        | dict(help='web: what `npm pack onnxruntime-web@1.30.0` wrote (else npm fetches it)'),
    },
    'check': FOLDER
    | {
        '--json': SWITCH | dict(help='print the result as JSON, for programs'),
        '--write-classes': dict(metavar='FILE', help='write the class table found, to edit'),
        '--convert': dict(metavar='OUT', help="write the data set to OUT in CamVid's layout"),
        '--repair': dict(metavar='OUT', help='write clean labels, PNGs of class numbers, to OUT'),
        '--tolerance': dict(type=settings.number(int, 0, 255), metavar='N')
        | dict(help='of --repair: how far a colour may be from its class (default 16)'),
    },
    'download': {'--url': dict(metavar='URL', help='another copy of the archive')},
}


class OneLineParser(argparse.ArgumentParser):
    """Errors in one line on standard error, with what may have been meant; exit status 2. verbs:
    {name: parser} of the verbs, '' of none."""

    verbs = {}

    def parse_args(self, argv=None):
        argv = sys.argv[1:] if argv is None else argv
        for before, word in zip(['the first word', *argv], argv):
            if not word.strip() or word.startswith('--') and word[-1] == '=':  # an unset variable
                flag = word.rstrip('= ') or before
                self.error(f'{flag}: expected a value, found nothing; is a variable unset?')
        verb = next((word for word in argv if word in self.verbs), '')
        for flag in (word.split('=')[0] for word in argv if word.startswith('--')):
            if not any(p.has(flag) for p in self.verbs.values()):
                near = [n for p in (self.verbs[verb], *self.verbs.values()) for n in p.near(flag)]
                hint = f'did you mean {near[0]}?' if near else '--help-all lists them'
                self.error(f'{flag}: no such flag; {hint}')
            if not verb and not self.has(flag):  # argparse would take its value for a verb
                self.lack(flag, verb)
        if argv and os.path.isdir(argv[0]) and argv[0] not in VERBS:
            argv = ['--data', *argv]
        found, left = self.parse_known_args(argv)
        verb = getattr(found, 'verb', None) or ''
        mine = {'verb', *(action.dest for action in self.verbs[verb]._actions)}
        before = [f'--{name}'.replace('_', '-') for name in vars(found) if name not in mine]
        for word in [*before, *left][:1]:
            self.lack(word.split('=')[0], verb)
        return found

    def lack(self, word, verb):
        """Say that a verb has no such flag, but which have, or no place for a word."""
        *others, last = [name for name, p in self.verbs.items() if name and p.has(word)] or ['']
        whose = f'{", ".join(others)} and {last} have it' if others else f'{last} has it'
        what = 'no such flag of' if word[0] == '-' else 'one word too many for'
        verb = verb or 'main.py without a verb'
        self.error(f'{word}: {what} {verb}; {whose if last else "see --help"}')

    def has(self, flag):
        return flag in self._option_string_actions

    def near(self, flag):
        """The flags of this verb that may have been meant."""
        names = [name[2:] for name in self._option_string_actions if name.startswith('--')]
        word = flag[2:]  # a name and more of it, or its initials: --lr
        sure = [n for n in names if word.startswith(f'{n}-') or word == re.sub(r'\B\w|-', '', n)]
        return [f'--{n}' for n in sure or difflib.get_close_matches(word, names, 1)]

    def error(self, message):
        word = re.match(r'argument VERB: invalid choice: .(.*). \(choose from', message, re.DOTALL)
        if word and os.path.isfile(word[1]):
            message = f'{word[1]}: a file; to paint it, python main.py predict {word[1]}'
        elif word:
            hint = nearest_name(word[1], [*VERBS, *filter(os.path.isdir, os.listdir())])
            hint = hint or '; see --help'
            message = f'{word[1]}: expected a verb or a folder{hint}'
        message = re.sub("ignored explicit argument '(.*)'", r'takes no value, found \1', message)
        message = message.removeprefix('argument ')
        message = message.replace('expected one argument', 'expected a value after it')
        message = message.replace('the following arguments are required', 'expected after it')
        message = f'{self.prog[8:]}: {message}' if message.startswith('expected') else message
        self.exit(2, f'main.py: {message}\n')


class Version(argparse.Action):
    """What a question should name: this program, and what it stands on."""

    def __init__(self, **options):
        super().__init__(nargs=0, **options)

    def __call__(self, parser, *_):
        held = {'Python': sys.version.split()[0], **settings.versions()}
        held = ', '.join(f'{name} {number or "missing"}' for name, number in held.items())
        print(f'unet-camvid {settings.own_version()} ({held})')
        parser.exit()


def make_parser(presets, doc, every=False):
    """The whole command line. every: help shows the rare flags, too."""
    common = dict(allow_abbrev=False, argument_default=argparse.SUPPRESS)
    common |= dict(formatter_class=argparse.RawDescriptionHelpFormatter)
    listed = f'augmentations:\n{augment.help_text()}' if every else ''
    usage = 'main.py [FOLDER | VERB] [flags]'
    p = OneLineParser('main.py', usage=usage, description=doc, epilog=listed, **common)
    title = 'verbs (none: train, then predict, then evaluate)'
    how = dict(dest='verb', metavar='VERB', parser_class=OneLineParser, prog='main.py', title=title)
    verbs, parsers = p.add_subparsers(**how), {'': (p, FLAGS, True)}
    for name, (text, names, begins) in VERBS.items():
        own = [o.get('metavar', f) for f, o in OWN.get(name, {}).items() if f[0] != '-']
        how = dict(usage=' '.join(['main.py', name, *own, '[flags]']), description=text, help=text)
        how |= dict(epilog=listed if 'augment' in names else '')
        parsers[name] = verbs.add_parser(name, **how, **common), names, begins
    p.verbs = {name: parser for name, (parser, *_) in parsers.items()}
    text = f'set of defaults: {", ".join(presets)} (default article; with FOLDER auto, which plans)'
    preset = dict(type=settings.one_of(*presets), metavar='NAME', help=text)
    for name, (parser, names, begins) in parsers.items():
        text = argparse.SUPPRESS if name else 'what a question should name'
        parser.add_argument('--version', action=Version, help=text)
        rare = begins or 'augment' in names
        text = 'all flags and augmentations, the rare ones too' if rare else argparse.SUPPRESS
        parser.add_argument('--help-all', action='help', help=text)
        few = settings.COMMON if name else settings.FIRST
        settings.add_flags(parser, names, few if begins and not every else names)
        shared = {'--preset': preset} | RUN if begins else {}
        for flag, options in (OWN.get(name, {}) | shared).items():
            parser.add_argument(flag, **options)
    return p
