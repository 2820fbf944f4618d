"""Whatever is typed, and whatever lies in the files: one sentence and exit code 2, or it works; never a traceback.

Commands run for real up to where a stage would begin its work, which is stopped there. What is refused changes
neither store. STUDY_TEST_PROFILE=long tries thousands of cases instead of some.
"""

import contextlib
import io
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.main
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipelines.cli import app
from study.errors import StudyError
from study.home import Home
from tests.conftest import Finished, copy_of
from tests.support.process import study_here
from tests.support.refusal import REACHED, assert_refused_or_done, cases, contents

COMMANDS: dict[str, Any] = typer.main.get_command(app.app).commands  # type: ignore[attr-defined]
STAGES = (
    # First: it imports the others, and would keep what they are replaced by.
    "pipelines.reproduce.retrain",
    "pipelines.tune._search_run",
    "pipelines.retrain.retrain",
    "pipelines.seeds.retrain",
    "pipelines.analyse._draw",
    "pipelines.experiment.experiment",
    "os.execv",
)
"""Where work begins that takes long; all before it runs as it is."""


NUMBERS = st.one_of(
    st.sampled_from(
        ["0", "1", "-1", "2", "03", "-0", "+1", " 1", "1.5", "1e3", "1_0", "٣", "Ⅷ", "0x10", "nan", "inf", "1e999", "",
         "10**30", "9" * 30, "9" * 5000, "-" + "9" * 30, str(2**31), str(2**32), str(2**63), "1;2", "1\n", "\x1b[31m1"]
    ),
    st.integers().map(str),
)  # fmt: skip
ODD = [
    "", " ", "'", '"', "`", "'\"", "' or '1'='1", "%s%n", "{}", "$\\frac", "<script>", "[red]", "[/]", "../../x", "/",
    "..", ".", "a/b", "x" * 1000, "x" * 5000, "two\nlines", "\x1b[31mred", "\u202egnp", "größe 猫", "-", "=cmd()",
    "best", "best:", "best:ffnn", "digits-cnn", "train:0", "train:-1", "train:9999999999999999999999", "0/0", "0/-1",
    "bird/٣", "~nobody/x", "~",
]  # fmt: skip
TEXTS = st.one_of(
    st.sampled_from(ODD), st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
)
RANGES = st.one_of(
    st.tuples(NUMBERS, NUMBERS).map(":".join),
    st.sampled_from(["1:0.1", "1e-5:1e-1", "0:1", "nan:nan", "-inf:inf", "1e-400:1", "1:1e999", ":", "1:2:3", "1"]),
    TEXTS,
)
CHOICES = {
    "model": ["cnn", "ffnn", "CNN"],
    "sampler": ["tpe", "random", "grid"],
    "pruner": ["percentile", "hyperband", "median", "none"],
    "device": ["auto", "cpu", "cuda:99", "cuda:-1", "cuda:", "meta", "mps"],
    "precision": ["auto", "float32", "bf16", "fp8"],
    "layer": ["conv1", "conv2", "conv3"],
    "ablation": ["mean", "zero"],
    "only": ["roc", "roc,fog", ",", "kernels,,"],
    "stage": ["trial", "search"],
    "name": ["dead-filters", "winner", "recipe"],
    "host": ["127.0.0.1", "localhost", "::1", "0.0.0.0", "::", "999.1.1.1", "a" * 70 + ".b", "x" * 300],
}
ADDRESSES = [
    "gopher://burrow", "http://127.0.0.1:9", "http://anna:geheim@127.0.0.1:9", "http://", "http://[::1", "http://x:y",
    "postgresql://anna:geheim@127.0.0.1:9/x", "postgresql://", "postgresql://127.0.0.1:99999/x", "mysql://127.0.0.1/x",
    "sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:////proc/no/x.db", "sqlite:////dev/null", "sqlite:////",
    "sqlite:///{folder}", "sqlite:///{text}", "sqlite:///{text}/below.db", "sqlite:///{home}/mlruns/mlflow.db",
    "sqlite:///{home}/mlruns/optuna.db", "sqlite:///{home}/mlruns/../mlruns/mlflow.db", "sqlite+x:///y", "://", "x://",
]  # fmt: skip
PLACES = ["{text}", "{text}/below", "/proc/nowhere", "/dev/null", "/dev/null/x", "/" + "x" * 300, "/x" * 3000]
DATASETS = ["digits", "nowhere", "", "{folder}", "{text}", "/dev/null", "/proc/self", "~nobody"]


def value_of(option: Any) -> st.SearchStrategy[str]:
    """Values for an option, or an argument, of its kind: good ones, and ones that are not."""
    if option.name in ("home", "folder", "file", "path", "target", "source"):
        return st.sampled_from(PLACES)
    if option.name in ("tracking_uri", "storage"):
        return st.sampled_from(ADDRESSES)
    if option.name == "dataset":
        return st.one_of(st.sampled_from(DATASETS), st.sampled_from(ODD).filter(lambda text: "~" not in text))
    if option.name in ("lr", "decay"):
        return RANGES
    if option.name == "image":
        return st.one_of(TEXTS, st.sampled_from(["{folder}", "{text}", "/dev/zero", "/dev/stdin", "/proc/self/mem"]))
    if option.name in CHOICES:
        return st.one_of(st.sampled_from(CHOICES[option.name]), TEXTS)
    return NUMBERS if option.metavar == "INTEGER" else TEXTS


@st.composite
def command_lines(draw: st.DrawFn) -> tuple[list[str], dict[str, str]]:
    """A command with some of its options, and some more as environment variables."""
    name = draw(st.sampled_from(sorted(COMMANDS)))
    words, variables = [name], {}
    options = [option for option in COMMANDS[name].params if option.name != "help"]
    arguments = [option for option in options if option.param_type_name == "argument"]
    if any(option.name == "dataset" for option in options):
        # The default would be downloaded.
        words += ["--dataset", "digits"]
    for option in draw(st.lists(st.sampled_from(options), max_size=3, unique_by=lambda option: option.name)):
        if option in arguments:
            continue
        value = draw(value_of(option))
        if getattr(option, "is_flag", False):
            words.append(option.opts[0])
        elif draw(st.booleans()) or option.name == "dataset":
            words.append(f"{option.opts[0]}={value}")
        else:
            variables[option.envvar if isinstance(option.envvar, str) else option.envvar[0]] = value
    words += [draw(value_of(argument)) for argument in arguments if draw(st.booleans())]
    return words + draw(st.sampled_from([[]] * 12 + [["--speed", "9"], ["surplus"], ["--help"], ["--"]])), variables


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, finished_study: Finished) -> Iterator[dict[str, str]]:
    """A finished study, a folder and a text file, to be named in command lines."""
    root = tmp_path_factory.mktemp("bad input")
    home = copy_of(finished_study.context.home, root / "home")
    (root / "folder").mkdir()
    (root / "text").write_text("a shopping list\n")

    def reached(*_: object, **__: object) -> None:
        raise StudyError(REACHED)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root / "folder")
        for name in STAGES:
            patch.setattr(name, reached)
        yield {"home": str(home.root), "folder": str(root / "folder"), "text": str(root / "text")}


@given(line=command_lines())
@cases(short=90, long=1400)
def test_any_command_line_is_refused_in_a_sentence_or_works(
    line: tuple[list[str], dict[str, str]], place: dict[str, str]
) -> None:
    words, variables = [[_filled(word, place) for word in line[0]], {k: _filled(v, place) for k, v in line[1].items()}]
    home = Path(place["home"])
    before = contents(home)
    assert_refused_or_done(study_here(*words, home=home, **variables), before, home)


def _filled(word: str, place: dict[str, str]) -> str:
    for name, path in place.items():
        word = word.replace(f"{{{name}}}", path)
    return word


SUFFIXES = ("png", "jpeg", "gif", "bmp", "tiff", "webp", "ppm")


def _whole(suffix: str, mode: str, size: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    image = Image.fromarray(pixels).convert(mode if suffix in ("png", "tiff") or mode in ("L", "RGB") else "RGB")
    image.save(buffer, suffix)
    return buffer.getvalue()


@st.composite
def image_files(draw: st.DrawFn) -> bytes:
    """An image, damaged; or no image at all."""
    if draw(st.integers(0, 5)) == 0:
        return draw(st.binary(max_size=200))
    mode = draw(st.sampled_from(["RGB", "L", "1", "P", "RGBA", "LA", "I", "F", "I;16", "CMYK"]))
    size = draw(st.tuples(st.integers(1, 60), st.integers(1, 60)))
    try:
        whole = bytearray(_whole(draw(st.sampled_from(SUFFIXES)), mode, size))
    except (OSError, ValueError):
        return b"this mode is not written"
    for _ in range(draw(st.integers(0, 6))):
        whole[draw(st.integers(0, min(len(whole) - 1, 120)))] = draw(st.integers(0, 255))
    return bytes(whole[: draw(st.one_of(st.just(len(whole)), st.integers(0, len(whole))))])


@given(content=image_files(), suffix=st.sampled_from(SUFFIXES), skip=st.booleans())
@cases(short=40, long=400)
def test_any_image_file_is_read_named_or_skipped(
    content: bytes, suffix: str, skip: bool, place: dict[str, str]
) -> None:
    home = Path(place["home"])
    before = contents(home)
    with tempfile.TemporaryDirectory() as folder:
        for name in ("cat", "dog"):
            (Path(folder) / "train" / name).mkdir(parents=True)
            for number in range(10):
                Image.new("RGB", (4, 4), (number, 9, 9)).save(Path(folder) / "train" / name / f"{number}.png")
        odd = Path(folder) / "train" / "cat" / f"odd.{suffix}"
        odd.write_bytes(content)
        flags = ["--skip-unreadable"] if skip else []
        ended = study_here("data", "--dataset", folder, *flags, home=home)
        assert_refused_or_done(ended, before, home)
        assert ended.code == 0 or (not skip and str(odd) in ended.err), ended
    assert contents(home) == before
    shutil.rmtree(home / "data", ignore_errors=True)


def _spoil(file: Path, how: str, seed: int) -> None:
    chance = random.Random(seed)
    content = file.read_bytes()
    if how == "text":
        file.write_text("a shopping list\n" * chance.randrange(1, 400))
    elif how == "random":
        file.write_bytes(chance.randbytes(chance.randrange(1, 20_000)))
    elif how == "cut":
        file.write_bytes(content[: chance.randrange(1, len(content))])
    elif how == "flipped":
        spoilt = bytearray(content)
        for _ in range(chance.randrange(1, 200)):
            spoilt[chance.randrange(len(spoilt))] = chance.randrange(256)
        file.write_bytes(spoilt)
    elif how == "folder":
        file.unlink()
        file.mkdir()
    elif how == "foreign":
        file.unlink()
        _execute(file, "CREATE TABLE recipes (name TEXT)", "INSERT INTO recipes VALUES ('soup')")
    elif how == "revision":
        _execute(file, "UPDATE alembic_version SET version_num = 'deadbeef'")
    elif how == "column":
        tables = ("runs", "tags", "params", "experiments") if file.name == "mlflow.db" else ("trials", "studies")
        _execute(file, f"ALTER TABLE {chance.choice(tables)} RENAME TO recipes")
    else:
        other = file.with_name("optuna.db" if file.name == "mlflow.db" else "mlflow.db")
        shutil.copyfile(other, file)


def _execute(file: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(file)) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()


SPOILT = ("text", "random", "cut", "flipped", "folder", "foreign", "revision", "column", "other's")
READING = (
    ("runs",),
    ("analyse",),
    ("retrain",),
    ("tune", "--dataset", "digits", "--trials", "1", "--epochs", "1"),
    ("experiment", "winner"),
    ("doctor",),
    ("ui", "--port", "47391"),
)


@given(
    name=st.sampled_from(["mlflow.db", "optuna.db"]),
    how=st.sampled_from(SPOILT),
    seed=st.integers(0, 2**32),
    command=st.sampled_from(READING),
)
@cases(short=30, long=300)
def test_any_database_is_used_or_refused_and_left_as_it_is(
    name: str, how: str, seed: int, command: tuple[str, ...], place: dict[str, str]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = copy_of(Home(root=Path(place["home"])), Path(folder) / "home").root
        _spoil(home / "mlruns" / name, how, seed)
        before = contents(home)
        assert_refused_or_done(study_here(*command, home=home), before, home)
