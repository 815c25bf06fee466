"""What each family of augmentations does to val mIoU, at one small equal budget.

    python bench/families.py CAMVID [STEPS] [SEEDS]

8 filters, 180x240, batches of two, cosine rate, class weights; the last epoch's val mIoU. Results are
kept in bench/notes.md. So short a run tells what slows learning, not yet what long runs gain.
"""

import contextlib
import io
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
sys.path.insert(0, str(Path(__file__).parents[1]))

import main as program

FAMILIES = {
    'none': ['--augment', 'none'],
    'aug_args (article)': [],
    'flip': ['--augment', 'flip'],
    'geometry': ['--augment', 'scale=0.75-1.6,flip'],
    'colour': ['--augment', 'flip,jitter=0.2,hue=0.03,gamma=0.3'],
    'dropping': ['--augment', 'flip,cutout=0.4@0.5'],
    'mixing': ['--augment', 'flip,cutmix@0.5'],
    'AugMix': ['--augment', 'flip,augmix=0.3'],
}


def main(camvid, steps=400, seeds=2):
    from train import find_run, read_history

    results = {name: [] for name in FAMILIES}
    for seed in range(1, int(seeds) + 1):
        for name, flags in FAMILIES.items():
            begin = time.perf_counter()
            with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
                with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO())):
                    status = program.main([
                        'train', '--data', str(camvid), '--size', '180x240', '--filters', '8',
                        '--epochs', '1', '--steps', str(steps), '--schedule', 'cosine',
                        '--class-weights', '--seed', str(seed), *flags])  # fmt: skip
                assert status == 0
                miou = read_history(find_run('log')[0])['val_miou'][-1]
            results[name].append(100 * miou)
            print(f'{name:20} seed {seed}: {100 * miou:.1f} '
                  f'({time.perf_counter() - begin:.0f} s)', flush=True)  # fmt: skip
    for name, values in results.items():
        print(f'| {name} | {sum(values) / len(values):.1f} | '
              + ' '.join(f'{v:.1f}' for v in values) + ' |')  # fmt: skip


if __name__ == '__main__':
    main(Path(sys.argv[1]).resolve(), *sys.argv[2:])
