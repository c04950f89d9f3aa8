"""Every command that the product shows can be given as it stands. A hint that fails here is to be mended
where it is written."""

import argparse
import re
import sys
from dataclasses import fields

import pytest
from hint_helpers import ROOT, SOMETHING, Hint, documented, messages, unquoted

from condense import specs
from condense.command import cli
from condense.command.arguments import parser
from condense.specs import catalogue

MENDING = "put the command there so that it works as it stands (in backticks, with every argument it needs)"
HINTS = sorted({*messages(), *documented()}, key=lambda hint: (hint.where, hint.text))
# What a choice may be where the hint leaves it open.
OPEN_CHOICES = {"list": "methods"}
SETTINGS = {field.name for field in fields(specs.WorkflowSettings)}
OF_THE_README = ["ed_strong_critic"]  # which tells how to write it


def named(hint: Hint) -> str:
    return f"{hint.where} {hint.text}"


def of(program: str) -> list[Hint]:
    return [hint for hint in HINTS if hint.words[0] == program]


def understood(
    command: argparse.ArgumentParser, words: list[str], hint: Hint, whole: bool
) -> argparse.Namespace:
    """What a parser makes of the words; `whole`: nothing that it requires may be left out. Fails naming the
    hint."""
    said = []

    def complain(message):
        said.append(message)
        raise SystemExit(2)

    for one in [command, *_children(command)]:
        one.error = complain
        for action in one._actions if not whole else ():
            action.required = False
            if action.option_strings and action.nargs is None:
                action.nargs = "?"
            if not action.option_strings and action.nargs is None:
                action.nargs = "?"
            elif not action.option_strings and action.nargs == "+":
                action.nargs = "*"
    try:
        args, others = command.parse_known_args(words)
        if whole or set(others) - {SOMETHING}:  # a rule may put several words in one place
            command.parse_args(words)
        return args
    except SystemExit:
        pytest.fail(f"{hint.where} shows `{hint.text}`: {said or 'it is not understood'}; {MENDING}")


def _children(command: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    below = [action for action in command._actions if isinstance(action, argparse._SubParsersAction)]
    children = [child for action in below for child in action.choices.values()]
    return [*children, *(grandchild for child in children for grandchild in _children(child))]


@pytest.mark.parametrize("hint", of("condense"), ids=named)
def test_condense_understands_its_hints(hint):
    words = hint.words[1:]
    if words[0] in OPEN_CHOICES and words[1:] in ([SOMETHING], []):
        words = [words[0], OPEN_CHOICES[words[0]]]
    if words[-1] in ("--help", "-h"):
        assert words[:-1] == [] or words[0] in cli.VERBS, f"{hint.where}: {hint.text}"
        return
    if hint.words[1:] == [SOMETHING]:
        return  # `condense VERB`
    args = understood(parser(cli.VERBS), words, hint, whole=hint.printed and not hint.ends_open)
    if "{" not in hint.text:
        for kind, name in {"scales": "scale", "methods": "method", "datasets": "dataset"}.items():
            value = getattr(args, name, None)
            known = [*catalogue.names_in(kind), *OF_THE_README, SOMETHING, None]
            assert value in known, f"{hint.where} shows `{hint.text}`: there is no {name} '{value}'"


@pytest.mark.parametrize("hint", of("snakemake"), ids=named)
def test_snakemake_understands_its_hints(hint, monkeypatch):
    snakemake = pytest.importorskip("snakemake.cli")
    monkeypatch.chdir(ROOT)
    if hint.words[1:] == [SOMETHING]:
        pytest.fail(f"{hint.where} shows `{hint.text}`: Snakemake asks for --cores; {MENDING}")
    args = understood(snakemake.get_argument_parser(), hint.words[1:], hint, whole=True)
    for entry in [
        word for words in args.config or [] for word in (words if isinstance(words, list) else [words])
    ]:
        assert "=" in entry, (
            f"{hint.where} shows `{hint.text}`: --config takes '{entry}' for a setting; put files before it"
        )
        key, value = entry.split("=", 1)
        assert key in SETTINGS or key.isupper(), (
            f"{hint.where} shows `{hint.text}`: there is no setting '{key}'"
        )
        known = key != "scale" or value in [*catalogue.names_in("scales"), SOMETHING]
        assert known, f"{hint.where} shows `{hint.text}`: there is no scale '{value}'"
    for file in args.targets:
        assert SOMETHING in file or "/" in file or file in _rules(), (
            f"{hint.where} shows `{hint.text}`: no file and no rule '{file}'"
        )
        table = re.fullmatch(r"results/(?:tables|figures)/(\w+)/(\w+)\.\w+", file)
        assert not table or "_".join(table.groups()) in catalogue.names_in("tables"), (
            f"{hint.where}: there is no {file}"
        )
    for profile in args.profile or []:
        assert (ROOT / profile / "config.yaml").is_file(), f"{hint.where}: there is no profile '{profile}'"
    somewhere = args.cores or args.profile or args.executor or args.dryrun or args.touch or args.unlock
    if hint.printed:
        assert somewhere, f"{hint.where} shows `{hint.text}`: Snakemake asks for --cores; {MENDING}"


def _rules() -> set[str]:
    texts = [
        path.read_text(encoding="utf-8") for path in [ROOT / "Snakefile", *(ROOT / "workflow").rglob("*.smk")]
    ]
    return {name for text in texts for name in re.findall(r"^ *rule (\w+):", text, flags=re.MULTILINE)}


@pytest.mark.parametrize("hint", of("make"), ids=named)
def test_make_has_the_targets_of_its_hints(hint):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word in hint.words[1:]:
        if "=" in word:
            assert f"$({word.split('=')[0]})" in makefile, (
                f"{hint.where} shows `{hint.text}`: the Makefile uses no such variable"
            )
        else:
            assert re.search(rf"^{re.escape(word)}:", makefile, flags=re.MULTILINE), (
                f"{hint.where} shows `{hint.text}`: no such target"
            )


@pytest.mark.parametrize("hint", of("dvc"), ids=named)
def test_dvc_understands_its_hints(hint):
    dvc = pytest.importorskip("dvc.cli.parser")
    understood(dvc.get_main_parser(), hint.words[1:], hint, whole=hint.printed and not hint.ends_open)


@pytest.mark.parametrize("hint", of("mlflow"), ids=named)
def test_mlflow_has_the_verbs_of_its_hints(hint):
    mlflow = pytest.importorskip("mlflow.cli")
    assert hint.words[1] in mlflow.cli.commands, (
        f"{hint.where} shows `{hint.text}`: MLflow has no such command"
    )


def test_variables_of_hints_are_read_somewhere():
    code = "".join(
        path.read_text(encoding="utf-8")
        for top in ("src", "tests", "workflow")
        for path in (ROOT / top).rglob("*.py")
    )
    code += (ROOT / "Makefile").read_text(encoding="utf-8")
    assert [
        named(hint)
        for hint in HINTS
        for name in hint.variables
        if name.startswith("CONDENSE") and name not in code
    ] == []


def test_messages_quote_the_commands_that_they_name():
    found = unquoted()
    assert not found, f"put these commands in backticks, so that they are tried: {found}"


def test_hints_are_found_everywhere():
    """The collection itself: without it the other tests would pass on nothing."""
    places = {hint.where.split(":")[0].split("/")[0] for hint in HINTS}
    assert {"src", "workflow", "README.md", "docs"} <= places
    assert {"condense", "snakemake", "dvc", "make"} <= {hint.words[0] for hint in HINTS}
    assert sum(hint.printed for hint in HINTS) >= 30


CHEAP = [["--help"], *([verb, "--help"] for verb in cli.VERBS)]
CHEAP += [["list", what] for what in ("methods", "datasets", "protocols", "scales")]


@pytest.mark.parametrize("words", CHEAP, ids=" ".join)
def test_cheap_commands_run(words, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    try:
        status = cli.main(words)
    except SystemExit as ended:
        status = ended.code
    assert status == 0 and capsys.readouterr().out.strip(), sys.argv
