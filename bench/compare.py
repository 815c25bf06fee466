"""What one choice does to val mIoU, all else equal, at one small budget.

    python bench/compare.py families CAMVID [SEEDS]     the families of augmentations
    python bench/compare.py article CAMVID [SEEDS]     batch norm, losses and fusion: the article's
    python bench/compare.py pretrained CAMVID [SEEDS]  `transfer` with and without ImageNet, whole

The first two: 8 filters, 180x240 (a quarter of the pixels), 500 steps of two images. Val mIoU of
the last epoch, of `pretrained` of each epoch, and the best.
Two trainings at a time, a core each. So short a run tells what speeds learning up, not yet what
long runs gain. Results are kept in bench/notes.md.
"""

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

BUDGET = '--size 180x240 --filters 8 --epochs 1 --steps 500'
COSINE = f'{BUDGET} --schedule cosine --class-weights'
TABLES = {
    'families': {
        'none': f'{COSINE} --augment none',
        'aug_args, the article': COSINE,
        'flip': f'{COSINE} --augment flip',
        'geometry': f'{COSINE} --augment scale=0.75-1.6,flip',
        'colour': f'{COSINE} --augment flip,jitter=0.2,hue=0.03,gamma=0.3',
        'dropping': f'{COSINE} --augment flip,cutout=0.4@0.5',
        'mixing': f'{COSINE} --augment flip,cutmix@0.5',
        'AugMix': f'{COSINE} --augment flip,augmix=0.3',
    },
    'article': {
        f'{name}{ending}': f'{BUDGET} {flags}{more}'
        for ending, more in (('', ''), (', no batch norm', ' --no-batch-norm'))
        for name, flags in {
            'softmax + cross-entropy': '',
            'softmax + MSE': '--loss mse',
            'ReLU + MSE': '--activation relu --loss mse',
            'ReLU + RMSE': '--activation relu --loss rmse',
            'add for concat': '--fusion add',
        }.items()
    },
    'pretrained': {
        'from ImageNet': '--preset transfer',
        'at random': '--preset transfer --encoder-weights none',
    },
}


def one_run(camvid, flags, seed):
    """val mIoU of each epoch, percent, of one training; its seconds."""
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            ROOT / 'main.py',
            'train',
            '--data',
            camvid,
            '--seed',
            str(seed),
            *flags.split(),
        ]
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            env=os.environ | {'TF_NUM_INTRAOP_THREADS': '1', 'TF_NUM_INTEROP_THREADS': '1'},
        )
        if done.returncode:
            sys.exit(f'{flags}: {done.stderr[-500:]}')
        from seg.runs import find_run, read_progress

        seconds = time.perf_counter() - begin
        curve = read_progress(find_run(Path(folder) / 'log'))['history']['val_miou']
    return [100 * value for value in curve], seconds


def main(table, camvid, seeds=2):
    def run(job):
        name, seed = job
        curve, seconds = one_run(camvid, TABLES[table][name], seed)
        print(f'{name:40} seed {seed}: {" ".join(f"{v:.1f}" for v in curve)} ({seconds:.0f} s)')
        return max(curve)

    jobs = [(name, seed) for name in TABLES[table] for seed in range(1, seeds + 1)]
    with ThreadPoolExecutor(2) as pool:
        results = dict(zip(jobs, pool.map(run, jobs)))
    print('| | val mIoU, mean | ' + ' | '.join(f'seed {s + 1}' for s in range(seeds)) + ' |')
    print('|---|' + '---|' * (seeds + 1))
    for name in TABLES[table]:
        values = [results[name, s + 1] for s in range(seeds)]
        print(
            f'| {name} | {sum(values) / seeds:.1f} | '
            + ' | '.join(f'{v:.1f}' for v in values)
            + ' |'
        )


if __name__ == '__main__':
    camvid = sys.argv[2] if len(sys.argv) > 2 else os.environ.get('CAMVID')
    if not camvid or len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1], Path(camvid).resolve(), *map(int, sys.argv[3:]))
