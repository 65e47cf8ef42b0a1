"""The real command, as a subprocess."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import handgrad

SMALL = ["--steps", "50", "--n-hidden", "8", "--names", "2"]


class Result:
    def __init__(self, completed: subprocess.CompletedProcess[str]) -> None:
        self.code, self.stdout, self.stderr = completed.returncode, completed.stdout, completed.stderr

    @property
    def json(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads(self.stdout)
        return loaded


def run(*arguments: str, cwd: Path, **environment: str) -> Result:
    command = [sys.executable, "-m", "handgrad", *arguments]
    completed = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False, env=os.environ | environment
    )
    assert "Traceback" not in completed.stderr, completed.stderr
    return Result(completed)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    result = run("train", "--out", "run", *SMALL, cwd=folder)
    assert result.code == 0, result.stderr
    return folder / "run"


def test_the_installed_command_is_this_command(tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("handgrad")

    completed = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)

    assert completed.stdout == f"handgrad {handgrad.__version__}\n"


@pytest.mark.parametrize(
    "command", [[], ["exercises"], ["train"], ["sample"], ["evaluate"], ["data"], ["data", "download"]]
)
def test_every_command_has_help_with_its_purpose(tmp_path: Path, command: list[str]) -> None:
    result = run(*command, "--help", cwd=tmp_path)

    assert result.code == 0
    assert "Usage: " in result.stdout


def test_shell_completion_is_there(tmp_path: Path) -> None:
    result = run("--show-completion", "bash", cwd=tmp_path, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")

    assert "handgrad" in result.stdout


def test_the_command_and_the_library_have_the_same_defaults() -> None:
    from handgrad.cli.training import train
    from handgrad.training import Config

    parameters = inspect.signature(train).parameters
    of_command = {f.name: parameters[f.name].default for f in fields(Config) if f.name in parameters}

    assert of_command == {name: getattr(Config(), name) for name in of_command}
    assert len(of_command) >= 13


# exercises


def test_exercises_print_26_exact_rows_and_the_closed_forms(tmp_path: Path) -> None:
    result = run("exercises", cwd=tmp_path)

    assert result.code == 0
    exact = [
        line for line in result.stdout.splitlines() if "| exact: True  | approximate: True  | maxdiff: 0.0 " in line
    ]
    assert len(exact) >= 26
    assert "26 of 26 right, 26 bit for bit" in result.stdout
    assert "Exercise 2: cross-entropy in one line" in result.stdout
    assert "Exercise 3: batch norm in one line" in result.stdout


def test_exercises_as_json_hold_every_row(tmp_path: Path) -> None:
    result = run("exercises", "--json", "--seed", "456789096543", "--spelling", "plain", cwd=tmp_path)

    tables = result.json["exercises"]
    assert [len(table["gradients"]) for table in tables] == [26, 1, 1, 13]
    assert all(row["verdict"] == "right" for table in tables for row in table["gradients"])
    assert tables[0]["gradients"][0]["name"] == "dlogprobs"
    assert tables[0]["gradients"][0]["shape"] == [32, 27]


def test_exercises_exit_with_1_when_a_gradient_is_wrong(tmp_path: Path) -> None:
    script = (
        "import torch\n"
        "from handgrad.models.mlp import cross_entropy\n"
        "right = cross_entropy.backward\n"
        "cross_entropy.backward = lambda logits, Yb: 2 * right(logits, Yb)\n"
        "from handgrad.cli import main\n"
        "main()\n"
    )

    command = [sys.executable, "-c", script, "exercises"]
    completed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert completed.returncode == 1
    assert "| wrong: differs from autograd by up to " in completed.stdout
    assert "0 of 1 right" in completed.stdout


def test_lock_step_exits_with_1_when_a_gradient_is_wrong(tmp_path: Path) -> None:
    script = (
        "from dataclasses import replace\n"
        "from handgrad import models\n"
        "right = models.MODELS['mlp']\n"
        "def backward(*arguments):\n"
        "    gradients = right.backward(*arguments)\n"
        "    return gradients._replace(dW2=2 * gradients.dW2)\n"
        "models.MODELS['mlp'] = replace(right, backward=backward)\n"
        "from handgrad.cli import main\n"
        "main()\n"
    )

    command = [sys.executable, "-c", script, "train", "--lock-step", "1", *SMALL]
    completed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert completed.returncode == 1
    assert "HG707: at step 0 1 gradients are not autograd's:\nW2 " in completed.stderr


# train, sample, evaluate


def test_train_prints_losses_and_names_and_where_the_run_lies(tmp_path: Path) -> None:
    result = run("train", *SMALL, "--lock-step", "10", cwd=tmp_path)

    assert result.code == 0, result.stderr
    assert "runs/1: 11,451 words (built-in names)" in result.stdout
    assert "bigram" in result.stdout
    assert "more names: handgrad sample runs/1" in result.stdout
    assert (tmp_path / "runs/1/result.json").is_file()


def test_train_as_json_prints_json_alone_on_stdout(tmp_path: Path) -> None:
    result = run("train", *SMALL, "--json", "--split", "distinct", cwd=tmp_path)

    assert result.json["step"] == 50
    assert set(result.json["losses"]) == {"mlp", "bigram"}
    assert len(result.json["names"]) == 2


def test_train_draws_plots(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="plots are an extra")

    result = run("train", *SMALL, "--plots", "--json", cwd=tmp_path)

    assert [Path(p).name for p in result.json["plots"]] == [
        "loss.png",
        "activations.png",
        "gradients.png",
        "embedding.png",
    ]


def test_without_matplotlib_plots_say_what_to_install_before_anything_is_trained(tmp_path: Path) -> None:
    (tmp_path / "matplotlib.py").write_text("raise ImportError")

    result = run("train", *SMALL, "--plots", cwd=tmp_path, PYTHONPATH=str(tmp_path))

    assert result.code == 2
    assert result.stderr == (
        "error: HG901: plots need matplotlib, which is not installed: pip install 'handgrad[plots]'\n"
    )
    assert not (tmp_path / "runs").exists()


def test_sample_marks_names_as_new_or_known(trained: Path) -> None:
    result = run("sample", str(trained), "--count", "30", "--seed", "5", cwd=trained)

    assert len(result.stdout.splitlines()) == 30
    assert all(line.endswith((" new", " in the training words")) for line in result.stdout.splitlines())


def test_sample_with_the_same_seed_prints_the_same(trained: Path) -> None:
    first, second = (run("sample", str(trained), "--seed", "5", "--json", cwd=trained) for _ in range(2))

    assert first.stdout == second.stdout
    assert len(first.json["names"]) == 20


def test_evaluate_gives_what_training_gave(trained: Path) -> None:
    result = run("evaluate", str(trained), "--json", cwd=trained)

    assert result.json["losses"] == json.loads((trained / "result.json").read_text())["losses"]


def test_a_run_needs_no_words_but_its_own(tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text(
        "\n".join(["josé", "李白", "ANNA", "o'neil", "ann lee", "ada", "eva", "åsa"] * 3), encoding="utf-8"
    )
    assert run("train", "--words", "words.txt", "--out", "run", *SMALL, cwd=tmp_path).code == 0
    words.unlink()

    assert run("train", "--resume", "run", cwd=tmp_path).code == 0
    assert run("sample", "run", cwd=tmp_path).code == 0
    assert "step 50 of 50" in run("evaluate", "run", cwd=tmp_path).stdout


def test_a_run_folder_may_have_brackets_in_its_name(tmp_path: Path) -> None:
    result = run("train", "--out", "run [red]1[/red]", *SMALL, cwd=tmp_path)

    assert "run: run [red]1[/red]   more names" in result.stdout


# a user's mistakes: one line, status 2


NOWHERE = "HG703: nowhere is no run folder (there is no such folder): check the path, or start a run: handgrad train"
NO_RUN = "HG703: . is no run folder (it has no config.json): check the path, or start a run: handgrad train"
BATCH_OF_1 = (
    "HG701: --batch-size 1 is too small: batch norm divides by the batch size less one, so it must be 2 or more"
)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train --n-hidden 0", "HG701: --n-hidden 0 must be 1 or more"),
        ("train --lr -0.1", "HG701: --lr -0.1 must be a positive number"),
        ("train --batch-size 1", BATCH_OF_1),
        ("train --threads 10000000000", "HG701: --threads 10000000000 must be 1024 or less"),
        ("exercises --seed -1", "HG701: --seed -1 must lie between 0 and 2**63 - 1"),
        ("exercises --n-hidden 99999999999999999999", "HG701: --n-hidden 99999999999999999999 is too large"),
        ("exercises --batch-size 1", "HG701: --batch-size 1 must be 2 or more"),
        ("sample nowhere", NOWHERE),
        ("train --resume nowhere", NOWHERE),
        ("evaluate .", NO_RUN),
    ],
)
def test_a_mistake_gets_one_sentence(tmp_path: Path, command: str, message: str) -> None:
    result = run(*command.split(), cwd=tmp_path)

    assert (result.code, result.stdout, result.stderr) == (2, "", f"error: {message}\n")
    assert not list(tmp_path.iterdir())


def test_a_run_that_diverges_in_its_last_step_says_so(tmp_path: Path) -> None:
    result = run("train", "--lr", "1e30", "--steps", "1", "--out", "run", cwd=tmp_path)

    assert result.code == 2
    assert result.stderr.splitlines()[-1].startswith("error: HG706: the loss of the trained model is ")
    assert run("sample", "run", cwd=tmp_path).stderr.startswith("error: HG706: the trained model gives logits")


def test_resuming_with_other_versions_is_noted(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "run")
    config = tmp_path / "run" / "config.json"
    config.write_text(config.read_text().replace('"torch": "', '"torch": "1.'))

    result = run("train", "--resume", "run", cwd=tmp_path)

    assert result.code == 0
    assert "note: run was made with torch 1." in result.stderr


def test_a_diverging_run_says_what_to_try(tmp_path: Path) -> None:
    result = run("train", "--lr", "1e30", *SMALL, cwd=tmp_path)

    assert result.code == 2
    assert "error: HG706: at step " in result.stderr
    assert "try a smaller --lr" in result.stderr


def test_sizes_beyond_the_memory_get_one_sentence(tmp_path: Path) -> None:
    result = run("exercises", "--n-hidden", str(10**13), cwd=tmp_path)

    assert (result.code, result.stderr) == (
        2,
        "error: there is not enough memory for these sizes: choose smaller ones\n",
    )


def test_a_terminal_that_lacks_letters_gets_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("josé\n李白\nada\neva\nben\ndan\n", encoding="utf-8")

    table = run("data", "--words", "words.txt", cwd=tmp_path, PYTHONIOENCODING="ascii")
    as_json = run("data", "--words", "words.txt", "--json", cwd=tmp_path, PYTHONIOENCODING="ascii")

    assert (table.code, table.stderr) == (0, "")
    assert as_json.json["alphabet"] == "abdejnosv\xe9\u674e\u767d"


def test_options_that_are_not_the_runs_own_do_not_go_with_resume(trained: Path) -> None:
    own = run("train", "--resume", str(trained), "--n-hidden", "8", cwd=trained)
    other = run("train", "--resume", str(trained), "--n-hidden", "9", cwd=trained)
    words = run("train", "--resume", str(trained), "--words", "x", cwd=trained)

    assert own.code == 0
    assert other.stderr == (
        f"error: HG704: --n-hidden 9 does not fit {trained}, which was started with 8: "
        "leave --n-hidden out, or start a new run with --out\n"
    )
    assert "HG704: --words does not go with --resume" in words.stderr


def test_an_existing_run_is_not_overwritten(trained: Path) -> None:
    before = (trained / "checkpoint.safetensors").read_bytes()

    result = run("train", "--out", str(trained), *SMALL, cwd=trained)

    assert "HG702" in result.stderr
    assert f"handgrad train --resume {trained}" in result.stderr
    assert (trained / "checkpoint.safetensors").read_bytes() == before


# data


def test_data_counts_words_symbols_and_rows(tmp_path: Path) -> None:
    result = run("data", "--json", cwd=tmp_path)

    assert result.json["source"] == "built-in names"
    assert result.json["words"] == result.json["distinct_words"] == 11451
    assert result.json["symbols"] == 27


def test_data_shows_a_table(tmp_path: Path) -> None:
    result = run("data", cwd=tmp_path)

    assert "11,451 words, 11,451 distinct" in result.stdout
    assert "9,160" in result.stdout


def test_the_variable_names_the_word_list_and_the_option_wins(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n".join(["ada", "eva", "ben", "dan", "kim", "leo", "tom"]))
    (tmp_path / "b.txt").write_text("\n".join(["ada", "eva", "ben", "dan", "kim", "leo", "tom", "max"]))

    by_variable = run("data", "--json", cwd=tmp_path, HANDGRAD_WORDS="a.txt")
    by_option = run("data", "--json", "--words", "b.txt", cwd=tmp_path, HANDGRAD_WORDS="a.txt")

    assert (by_variable.json["words"], by_option.json["words"]) == (7, 8)


def test_notes_on_a_word_list_go_to_stderr(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_bytes(b"ada\r\neva\r\n\r\nben\r\ndan\r\nkim\r\nleo\r\n")

    result = run("data", "--words", "words.txt", "--json", cwd=tmp_path)

    assert result.json["words"] == 6
    assert result.stderr.startswith("note: words.txt:1")
    assert "words.txt:3" in result.stderr


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "HG103"),
        (b"ada\n", "HG103"),
        (b"ada\ne.va\n", "HG104"),
        (b"ada\n\xff\xfe\n", "HG102"),
        (b"ada\neva\n", "HG105"),
    ],
)
def test_a_bad_word_list_gets_one_sentence(tmp_path: Path, content: bytes, code: str) -> None:
    (tmp_path / "words.txt").write_bytes(content)

    result = run("data", "--words", "words.txt", cwd=tmp_path)

    assert result.code == 2
    assert result.stderr.startswith(f"error: {code}: ")
    assert result.stderr.count("\n") == 1
