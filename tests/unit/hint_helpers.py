"""The commands that the product shows its users: in messages, in the Snakefile's rules, and in the
documents."""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = "condense snakemake dvc make mlflow".split()
TEXTS = [
    "Makefile",
    "environment.yml",
    "container/*",
    "workflow/profiles/*/config.yaml",
    "params/**/*.yaml",
    "dvc.yaml",
]
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "docs/*.md"]
SOMETHING = "1"  # for what stands in braces: a name, a path or a number
_START = rf"(?:[A-Z_]+=\S+ +)*(?:\S*/)?(?:{'|'.join(PROGRAMS)})"
_QUOTED = re.compile(rf"`({_START} [^`]+)`|'({_START} [^']+)'")
_STRING = re.compile(r'"""(.*?)"""|"((?:[^"\\\n]|\\.)*)"', re.DOTALL)


@dataclass(frozen=True)
class Hint:
    """A command and where it stands. `printed`: the product tells its user to give it, so it has to be
    whole."""

    where: str
    text: str
    printed: bool = False

    @property
    def ends_open(self) -> bool:
        """It is there for its beginning: the reader fills in the rest."""
        return self.text.endswith(("...", "…"))

    @property
    def words(self) -> list[str]:
        """Program and arguments, what is to be filled in by something, without the settings of the
        environment before them."""
        text = re.sub(r"\{[^{}]*\}", SOMETHING, self.text.rstrip("… ").removesuffix("...").strip())
        text = re.sub(r"(?<=[ =:/])[A-Z]{1,8}(?=$|[ :/])", SOMETHING, text)  # FILE, HOST:PORT
        text = re.sub(r"(?<= )(\w+)(?:\|\w+)+", r"\1", text)  # png|npz|parquet
        parts = re.findall(r"""(?:[^\s"']|"[^"]*"|'[^']*')+""", text)
        start = next(place for place, word in enumerate(parts) if word.rsplit("/", 1)[-1] in PROGRAMS)
        return [
            parts[start].rsplit("/", 1)[-1],
            *(part.replace('"', "").replace("'", "") for part in parts[start + 1 :]),
        ]

    @property
    def variables(self) -> list[str]:
        """The settings of the environment that stand before it."""
        return re.findall(r"\b([A-Z_]+)=", self.text.split(self.words[0])[0])


def _name(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def _in_text(text: str, where: str, printed: bool = False) -> list[Hint]:
    found = [next(filter(None, match.groups())) for match in _QUOTED.finditer(text)]
    return [Hint(where, " ".join(command.split()), printed) for command in found]


def _text_of(node: ast.AST) -> str:
    """A string as it is printed, with {} for what is worked out."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    return "".join(_text_of(value) if isinstance(value, ast.Constant) else "{}" for value in node.values)


def _strings(path: Path) -> list[tuple[int, str, bool]]:
    """Line, text and whether it can be printed, of the strings of a Python file; documentation of modules and
    functions cannot."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    homes = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    told = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, homes) and isinstance(node.body[0], ast.Expr)
    }
    pieces = {
        id(value) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for value in ast.walk(node)
    } - {id(node) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)}
    strings = [
        node
        for node in ast.walk(tree)
        if isinstance(node, (ast.Constant, ast.JoinedStr)) and id(node) not in pieces
    ]
    return [(node.lineno, _text_of(node), id(node) not in told) for node in strings]


def messages() -> list[Hint]:
    """From the Python files of the package, its page, and the workflow."""
    hints = []
    for path in sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "workflow").rglob("*.py")]):
        for line, text, printed in _strings(path):
            hints += _in_text(text, _name(path, line), printed)
    for path in (ROOT / "src").rglob("*.html"):
        hints += [
            Hint(_name(path, 1), text)
            for text in re.findall(rf"<code>({_START} [^<]+)</code>", path.read_text(encoding="utf-8"))
        ]
    for path in [ROOT / "Snakefile", *sorted((ROOT / "workflow").rglob("*.smk"))]:
        content = path.read_text(encoding="utf-8")
        for match in _STRING.finditer(content):
            line, text = content[: match.start()].count("\n") + 1, match[2] or match[1] or ""
            hints += _in_text(text, _name(path, line), printed=match[1] is None)
            if re.match(_START + " ", text):  # what a rule calls
                hints.append(Hint(_name(path, line), text.split(" > ")[0].strip()))
    return hints


def documented() -> list[Hint]:
    """From the documents, the comments of settings, and the blocks of commands."""
    hints = []
    for pattern in [*DOCUMENTS, *TEXTS]:
        for path in sorted(path for path in ROOT.glob(pattern) if path.is_file()):
            content = path.read_text(encoding="utf-8")
            hints += _in_text(
                re.sub(r"\n#? *", " ", content) if pattern in DOCUMENTS else content, _name(path, 1)
            )
            for line, text in enumerate(_blocks(content), 1):
                command = text.split(" #")[0].strip()
                if re.match(_START + r"( |$)", command) and " " in command:
                    hints.append(Hint(_name(path, line), command, printed=True))
    return hints


def _blocks(content: str) -> list[str]:
    """The lines of a document, empty outside blocks of shell commands; a command that goes on in the next
    line stands in the first."""
    lines, inside = [], False
    for line in content.split("\n"):
        inside = not inside if line.startswith("```") else inside
        comment = re.match(r"#   ( *\S.*)", line)
        lines.append(line if inside else comment[1].strip() if comment else "")
    for place in reversed(range(len(lines) - 1)):
        if lines[place].endswith("\\"):
            lines[place], lines[place + 1] = f"{lines[place][:-1].strip()} {lines[place + 1].strip()}", ""
    return [part for line in lines for part in [line.split(" && ")[-1]]]


def unquoted() -> list[str]:
    """Places where a message names a command outside quotes, so that nothing can try it."""
    from condense.command.cli import VERBS

    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    calls = rf"condense (?:{'|'.join(VERBS)})\b|make (?:{'|'.join(targets)})\b"
    calls += r"|snakemake (?:--?[a-z]|\{|results)|dvc (?:pull|push|add|gc|repro)\b"
    found = []
    for path in sorted((ROOT / "src").rglob("*.py")):
        for line, text, printed in _strings(path):
            rest = _QUOTED.sub("", text)
            match = (
                re.search(rf"(?:^|: |run |with |by |see |and )({calls})(?![`'])", rest) if printed else None
            )
            if match:
                found.append(f"{_name(path, line)}: {match[1]}")
    return found
