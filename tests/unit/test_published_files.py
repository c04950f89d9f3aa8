"""Synthetic sets in the files that the papers' codes publish, made here by torch.save as they are: each is
read without running anything, and gives the same set."""

import numpy as np
import pytest
import torch
from test_outside import IPC, UNCHECKED, normalised, sorted_pixels, taken

from condense.jobs import Reading


@pytest.fixture(scope="module")
def bytes_of(digits):
    """Two digits a class as bytes (20, 1, 8, 8), class by class, and their labels."""
    from condense.data.dataset import load

    data = load(digits / "train.safetensors")
    images = torch.cat([data.images[data.class_slice(label)][:IPC] for label in range(10)])
    return images.numpy(), np.repeat(np.arange(10), IPC)


def of_dc(folder, images, labels):
    """DC, DSA and DM (main.py, main_DM.py): `res_METHOD_DATASET_MODEL_IPCipc.pt`, one entry a run, of images
    and labels that were optimised, and all accuracies as NumPy's numbers."""
    accuracies = {"ConvNet": [np.float64(48.5), np.float64(49.1)], "AlexNet": []}
    images = images.clone().requires_grad_().detach().clone()
    torch.save({"data": [[images, labels]], "accs_all_exps": accuracies}, folder / "res_DM.pt")
    return folder / "res_DM.pt", {}


def of_idc(folder, images, labels):
    """IDC (condense.py): `data.pt`, a list of images and labels on the CPU."""
    torch.save([images.detach().cpu(), labels.cpu()], folder / "data.pt")
    return folder / "data.pt", {}


def of_idc_as_tuple(folder, images, labels):
    torch.save((images, labels), folder / "data.pt")
    return folder / "data.pt", {}


def of_mtt(folder, images, labels):
    """MTT (distill.py): `images_best.pt` and `labels_best.pt`, tensors of their own."""
    torch.save(images, folder / "images_best.pt")
    torch.save(labels, folder / "labels_best.pt")
    return folder / "images_best.pt", {"labels": str(folder / "labels_best.pt")}


def of_ncfm(folder, images, labels):
    """NCFM (condense_ist.py): `data_ITERATION.pt`, images as a parameter, and labels."""
    torch.save([torch.nn.Parameter(images).detach(), labels], folder / "data_20000.pt")
    return folder / "data_20000.pt", {}


def of_ncfm_with_parameter(folder, images, labels):
    torch.save([torch.nn.Parameter(images), labels], folder / "data_20000.pt")
    return folder / "data_20000.pt", {}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "write",
    [of_dc, of_idc, of_idc_as_tuple, of_mtt, of_ncfm, of_ncfm_with_parameter],
    ids=lambda w: w.__name__,
)
def test_the_files_of_the_papers_codes(write, legacy, digits, bytes_of, tmp_path, monkeypatch):
    """DC's family and MTT keep normalised images, IDC and NCFM pixels. Everything is loaded with weights
    alone."""
    wanted = sorted_pixels(bytes_of)
    of_pixels = write.__name__.startswith(("of_idc", "of_ncfm"))
    images = wanted if of_pixels else normalised(digits, bytes_of[0])
    if legacy:
        save = torch.save
        monkeypatch.setattr(torch, "save", lambda *given: save(*given, _use_new_zipfile_serialization=False))
    file, more = write(tmp_path, torch.from_numpy(images), torch.from_numpy(bytes_of[1]))
    asked, load = [], torch.load

    def watched(*given, **named):
        asked.append(named.get("weights_only"))
        return load(*given, **named)

    monkeypatch.setattr(torch, "load", watched)
    reading = Reading(check=False, **more)
    tensors, header = taken(digits, tmp_path, file, reading)
    np.testing.assert_allclose(tensors["images"], wanted, atol=1e-5)
    assert tensors["labels"].tolist() == bytes_of[1].tolist()
    assert header["origin"]["coding"] == ("unit" if of_pixels else "normalised")
    assert asked and set(asked) == {True}


def with_classes(values):
    return values.reshape(10, IPC, *values.shape[1:])


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_labels_may_have_the_axis_of_classes_that_images_have(kind, digits, bytes_of, tmp_path):
    """Not only in the order of the classes."""
    turned = (bytes_of[1] + 3) % 10
    labels = turned if kind == "hard" else 0.9 * np.eye(10)[turned] + 0.01
    np.savez(tmp_path / "a.npz", images=with_classes(bytes_of[0]), labels=with_classes(labels))
    tensors, header = taken(digits, tmp_path, tmp_path / "a.npz", UNCHECKED)
    moved = np.roll(sorted_pixels(bytes_of), 3 * IPC, 0)
    np.testing.assert_allclose(tensors["images"], moved, atol=1e-6)
    assert header["ipc"] == IPC and ("soft_labels" in tensors) == (kind == "soft")
