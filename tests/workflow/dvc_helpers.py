"""Small repositories with the project's own DVC files, for the tests that run real `dvc` and `git` in
them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from condense.files import store
from condense.files.artifacts import content_sha256, digest, write_json, write_tensors
from hang_helpers import HUNG

PROJECT = Path(__file__).resolve().parents[2]
DM = "results/synthetic/digits/dm/convnet/ipc1/seed0-0123456789ab/synthetic.safetensors"
CPDM = "results/synthetic/digits/cpdm/convnet/ipc1/seed0-ba9876543210/synthetic.safetensors"
METRICS = "results/metrics/condense/digits/dm/convnet/ipc1/seed0-0123456789ab/convnet-dc-aaaaaaaaaaaa.json"
DATA = "results/data/digits/dddddddddddd/dataset.json"


def sh(*command, cwd, fails=False, env=None):
    environment = (
        os.environ
        | (env or {})
        | {"DVC_NO_ANALYTICS": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    )
    environment |= {
        f"GIT_{who}_{what}": "a@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=HUNG,
    )
    assert (done.returncode != 0) == fails, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def dvc(*arguments, cwd, fails=False, env=None):
    return sh(sys.executable, "-m", "dvc", *arguments, cwd=cwd, fails=fails, env=env)


def make_set(root, path, fill=0.5):
    """A tiny finished set at `path`, with the files that lie beside a real one."""
    folder = (root / path).parent
    method, key = path.split("/")[3], folder.name.split("-")[1]
    tensors = {"images": np.full((2, 1, 4, 4), fill, np.float32), "labels": np.arange(2)}
    header = {
        "kind": "synthetic",
        "dataset": "digits",
        "method": method,
        "key": key,
        "arch": "convnet",
        "data_sha256": 64 * "5",
    }
    write_tensors(root / path, tensors, header | {"class_names": ["a", "b"], "mean": [0.5], "std": [0.5]})
    write_json(folder / "run.json", {"seconds": 1.0})
    # Another for each set
    (folder / "history.jsonl").write_text(f'{{"loss":1.0,"step":{int(digest(path, 6), 16)}}}\n')
    (folder / "grid.png").write_bytes(b"grid of " + path.encode())


def make_metrics(root, path, mean=90.0, seconds=1.0):
    about = {
        "schema": 1,
        "kind": "metrics",
        "task": "condense",
        "key": Path(path).stem.split("-")[-1],
        "n_networks": 1,
    }
    write_json(
        root / path, about | {"accuracies": [mean], "mean": mean, "std": 0.0, "run": {"seconds": seconds}}
    )


def make_data(root, path=DATA):
    """Prepared data: some 400 bytes of images."""
    tensors = {"images": np.zeros((2, 1, 2, 2), np.uint8), "labels": np.arange(2)}
    about = {"kind": "dataset", "dataset": path.split("/")[2], "class_names": ["a", "b"]}
    known = {"counts": [1, 1], "data_sha256": content_sha256(tensors)}
    for split in ("train", "test"):
        header = about | known | {"split": split, "channels": 1, "size": 2, "mean": [0.5], "std": [0.5]}
        write_tensors((root / path).with_name(f"{split}.safetensors"), tensors, header)
    splits = {split: {"file": f"{split}.safetensors", "images": 2, **known} for split in ("train", "test")}
    write_json(
        root / path, about | {"title": "Some", "source": {"some.tar": "md5:" + 32 * "0"}, "splits": splits}
    )


def make_summary(root, accuracy="90.0", folder="results/summary"):
    """What the rule `summary` writes."""
    write_json(
        root / folder / "accuracy.json", {"digits": {"ipc1": {"dm": {"convnet-convnet": float(accuracy)}}}}
    )
    rows = f"dataset,ipc,method,train_arch,eval_arch,accuracy\ndigits,1,dm,convnet,convnet,{accuracy}\n"
    (root / folder / "accuracy.csv").write_text(rows)


def repository(root):
    """A repository with the project's DVC files whose maintainer kept two sets, one metrics file and the
    data; git knows nothing of it."""
    for name in (".dvc/config", ".dvc/.gitignore", ".dvcignore", "dvc.yaml", ".gitignore", ".gitattributes"):
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copy(PROJECT / name, root / name)
    sh("git", "init", "-q", "-b", "main", cwd=root)
    make_set(root, DM), make_set(root, CPDM), make_metrics(root, METRICS), make_data(root), make_summary(root)
    make_summary(root, folder="kept")
    kept = store.keep([DM, CPDM, METRICS, DATA], root)
    assert kept.added == [DM, CPDM, METRICS, DATA]
    return root


def publish(root):
    """What `make keep` does after `condense keep`, and the commit."""
    listed = root / ".dvc/tmp/kept"
    listed.parent.mkdir(exist_ok=True)
    listed.write_text("".join(f"{path}\n" for path in store.tracked(root)))
    sh("git", "add", "--all", ".", cwd=root)
    sh("git", "add", "--force", f"--pathspec-from-file={listed}", cwd=root)
    sh("git", "add", "--update", "dvcstore", cwd=root)
    sh("git", "commit", "-q", "-m", "Keep results", cwd=root)


def clone(origin, folder):
    sh("git", "clone", "-q", str(origin), str(folder), cwd=origin)
    return folder
