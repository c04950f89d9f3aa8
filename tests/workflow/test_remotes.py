"""The remotes of docs/remotes.md, set up with the very commands shown there: a folder, a real sshd, a server
that speaks S3."""

import getpass
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from dvc_helpers import CPDM, DATA, DM, METRICS, PROJECT, clone, dvc, make_set, publish, repository, sh

from condense.files import store

pytestmark = pytest.mark.workflow
KEPT = [DM, CPDM, METRICS, DATA]
DOCUMENT = (PROJECT / "docs" / "remotes.md").read_text(encoding="utf-8")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def served(command, port, folder, **more):
    """A server process that listens on `port` until the block ends."""
    with (
        open(folder / "server.log", "wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log, **more) as server,
    ):
        try:
            for _ in range(300):
                assert server.poll() is None, (folder / "server.log").read_text()
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.1)
            else:
                pytest.fail(f"{command[0]} does not listen: {(folder / 'server.log').read_text()}")
            yield
        finally:
            server.terminate()


class FolderRemote:
    """Objects are files below `root`."""

    title, env = "A folder that all can reach", {}

    def __init__(self, root):
        self.root, self.words = root, {"/mnt/team/condense": str(root)}

    def objects(self):
        return {str(path): path.read_bytes() for path in self.root.rglob("*") if path.is_file()}

    def replace(self, name, data):
        Path(name).chmod(0o644)
        Path(name).write_bytes(data)


class SshRemote(FolderRemote):
    title = "A machine with SSH"

    def __init__(self, root, port, key):
        super().__init__(root)
        address = f"ssh://{getpass.getuser()}@127.0.0.1:{port}{root}"
        self.words = {
            "ssh://me@storage.example.org:22/data/condense": address,
            "me": getpass.getuser(),
            "~/.ssh/id_ed25519": str(key),
        }


class S3Remote:
    title, bucket = "An object store that speaks S3", "condense"

    def __init__(self, port, folder):
        import boto3

        # Whatever the person who runs the tests has set up for the real service stays out of it.
        (folder / "none").write_text("")
        self.env = {
            "AWS_CONFIG_FILE": str(folder / "none"),
            "AWS_SHARED_CREDENTIALS_FILE": str(folder / "none"),
            "NO_PROXY": "127.0.0.1",
        }
        self.words = {"https://s3.example.org": f"http://127.0.0.1:{port}"}
        self.client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{port}",
            region_name="us-east-1",
            aws_access_key_id="KEY",
            aws_secret_access_key="SECRET",
        )
        self.client.create_bucket(Bucket=self.bucket)

    def objects(self):
        listed = self.client.list_objects_v2(Bucket=self.bucket).get("Contents", [])
        return {
            entry["Key"]: self.client.get_object(Bucket=self.bucket, Key=entry["Key"])["Body"].read()
            for entry in listed
        }

    def replace(self, name, data):
        self.client.put_object(Bucket=self.bucket, Key=name, Body=data)


def sshd_config(folder, port):
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    lines = [
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f"HostKey {folder}/host",
        f"AuthorizedKeysFile {folder}/user.pub",
    ]
    # Temporary folders belong to all, which StrictModes forbids; PAM needs a system set up for it.
    lines += [
        "StrictModes no",
        "UsePAM no",
        "PasswordAuthentication no",
        "PidFile none",
        "Subsystem sftp internal-sftp",
    ]
    (folder / "config").write_text("\n".join(lines) + "\n")
    return folder / "config"


@pytest.fixture(scope="module", params=["folder", "ssh", "s3"])
def remote(request, tmp_path_factory):
    folder, port = tmp_path_factory.mktemp(request.param), free_port()
    if request.param == "folder":
        yield FolderRemote(folder / "store")
        return
    if request.param == "ssh":
        sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
        if sshd is None:
            pytest.skip("no OpenSSH server here: sshd is not installed")
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd started by root insists on it
        with served([sshd, "-D", "-e", "-f", str(sshd_config(folder, port))], port, folder):
            yield SshRemote(folder / "store", port, folder / "user")
        return
    pytest.importorskip("moto.server", reason="no S3 server here: moto is not installed")
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with served(command, port, folder, cwd=folder):
        yield S3Remote(port, folder)


def shown(title):
    """The commands of the first block below a heading of docs/remotes.md."""
    section = DOCUMENT[DOCUMENT.index(f"## {title}\n") :]
    return [
        shlex.split(line, comments=True)
        for line in re.search(r"```sh\n(.*?)```", section, re.DOTALL)[1].splitlines()
    ]


def follow(remote, title, here, only_local=False):
    """Runs the commands shown under `title` in `here`, with this remote's address, name and keys in their
    place."""
    for program, *words in shown(title):
        if only_local and "--local" not in words:
            continue
        arguments = [remote.words.get(word, word) for word in words]
        dvc(*arguments, cwd=here, env=remote.env) if program == ".venv/bin/dvc" else sh(
            program, *arguments, cwd=here
        )


@pytest.fixture(scope="module")
def origin(remote, tmp_path_factory):
    """A repository whose maintainer kept results, and then set up the team's remote."""
    root = repository(tmp_path_factory.mktemp("origin"))
    publish(root)
    follow(remote, remote.title, root)
    assert remote.objects() == {}
    dvc("push", cwd=root, env=remote.env)
    sh("git", "commit", "-q", "-m", "A remote of our own", ".dvc/config", cwd=root)
    assert len(remote.objects()) > len(KEPT)
    return root


@pytest.fixture
def member(remote, origin, tmp_path):
    """A fresh clone of a member who set up nothing but what is private, without what git brought along."""
    here = clone(origin, tmp_path / "clone")
    follow(remote, remote.title, here, only_local=True)
    (
        shutil.rmtree(here / "dvcstore"),
        shutil.rmtree(here / "kept/sets/digits/dm"),
        shutil.rmtree(here / "kept/sets/digits/cpdm"),
    )
    shutil.rmtree(here / "kept/data/digits")
    assert sh("git", "status", "--short", "--", ".dvc", cwd=here) == "", "keys are no business of git"
    return here


def test_one_method_alone_and_then_everything_comes_with_its_very_bytes(remote, origin, member):
    dvc("pull", "kept/sets/digits/dm", cwd=member, env=remote.env)
    assert (
        store.restore_all(KEPT, member) == [DM, METRICS] and not (member / "kept/sets/digits/cpdm").exists()
    )
    dvc("pull", cwd=member, env=remote.env)
    assert store.restore_all(KEPT, member) == [CPDM, DATA]
    assert all((member / path).read_bytes() == (origin / path).read_bytes() for path in KEPT)
    assert sh("git", "status", "--short", cwd=member) == ""


def test_what_a_cluster_made_is_pushed_from_there_and_pulled_elsewhere(remote, origin, tmp_path):
    """The jobs wrote files; afterwards one process on a node keeps and pushes them. Only the new objects
    travel."""
    before = remote.objects()
    here = clone(origin, tmp_path / "clone")
    follow(remote, remote.title, here, only_local=True)
    newer = DM.replace("seed0-0123456789ab", "seed1-111111111111")
    make_set(here, newer, fill=0.25)
    assert store.keep([newer], here).added == [newer]
    publish(here)
    dvc("push", "-q", cwd=here, env=remote.env)
    after = remote.objects()
    # The set, its history, the list
    assert {name: after[name] for name in before} == before and len(after) == len(before) + 3
    other = clone(here, tmp_path / "other")
    follow(remote, remote.title, other, only_local=True)
    shutil.rmtree(other / "dvcstore"), shutil.rmtree(other / "kept/sets/digits/dm")
    dvc("pull", "kept/sets/digits/dm", cwd=other, env=remote.env)
    assert (
        store.restore_all([DM, newer], other) == [DM, newer]
        and (other / newer).read_bytes() == (here / newer).read_bytes()
    )


def test_a_corrupted_object_is_refused_and_stops_only_its_own_group(remote, origin, member):
    history = (origin / DM).with_name("history.jsonl").read_bytes()
    name, good = next((name, data) for name, data in remote.objects().items() if data == history)
    remote.replace(name, good.replace(b"loss", b"LOSS"))
    try:
        assert "kept/sets/digits/dm" in dvc("pull", cwd=member, fails=True, env=remote.env)
        assert not (member / store.kept_path(DM)).exists() and store.restore_all([CPDM, DATA], member) == [
            CPDM,
            DATA,
        ]
    finally:
        remote.replace(name, good)
    dvc("pull", cwd=member, env=remote.env)
    assert store.restore_all(KEPT, member) == [DM, METRICS]
