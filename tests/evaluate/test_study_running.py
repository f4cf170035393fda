"""The study on made sounds: rows are trained, scaled, scored and resumed; the open questions get answers."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from marssep.corpus.lists import write_list
from marssep.corpus.made import make_corpus
from marssep.corpus.mixing import MixingSettings, MixtureSampler
from marssep.corpus.store import Corpus
from marssep.errors import UsageError
from marssep.evaluate.study import StudyPlan, run_study, summarise
from marssep.evaluate.study.bench import Ears
from marssep.evaluate.study.questions import PAIRS, SHARES, Questions
from marssep.evaluate.study.running import StudyParts
from marssep.evaluate.study.table import draw_study, study_table
from marssep.evaluate.study.variants import Refinement, Variant, variant
from marssep.model import build_network, load_model, save_model
from marssep.presets import load_preset
from marssep.query.bank import EmbeddingBank
from marssep.query.encoder import load_encoder
from marssep.reward.student import GridStudent, StudentSettings
from marssep.separate.refining import RefineSettings
from marssep.train.recognition import fit_recogniser

TINY = (
    'model.encoder="tiny"',
    "model.query_dimension=16",
    "model.chunk_steps=32",
    "model.network={channels=[8,12,16],query_channels=16}",
    "model.spectral={n_bands=32,max_frequency=8000.0}",
    "sample_rate=16000",
    "batch_size=2",
    "group_size=2",
    "exploration.blocks=4",
    "steps=2",
)
SHORT = RefineSettings(steps=4, group_size=4)
ROWS = (
    Variant("warm start", "as it is", "start", trains=False, scale=1.0),
    Variant("supervised, equal time", "more", "control", ('objective="supervised"', "inner_epochs=1")),
    Variant("reinforced", "the default", "reinforced"),
    Variant("refined by search", "search", "reinforced", trains=False, refined=Refinement("search", SHORT)),
    Variant("refined by gradient", "gradient", "control", trains=False, refined=Refinement("gradient", SHORT)),
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Corpus, list, start model and everything that rows share."""
    folder = tmp_path_factory.mktemp("world")
    make_corpus(folder / "made")
    corpus = Corpus.open(folder / "made")
    encoder = load_encoder("tiny")
    bank = EmbeddingBank.build(corpus, encoder, folder / "bank")
    sampler = MixtureSampler(corpus, split="val", settings=MixingSettings(background=0.0), duration=1.0, seed=5)
    write_list(folder / "made.jsonl", [sampler.draw(index, n_sources=2) for index in range(3)])
    settings = load_preset("reinforce", TINY)
    torch.manual_seed(1)
    save_model(folder / "start", build_network(settings.model), settings.model, card={})
    shape = {"bands": 16, "segments": 8, "detail": 8, "dimension": 16, "exponent": 0.5}
    student = GridStudent(None, StudentSettings(bands=16, segments=16, channels=(4, 8)), shape=shape).eval()
    recogniser = fit_recogniser(corpus, settings.model.spectral, per_label=3)

    def judge(waveform: torch.Tensor, sample_rate: int) -> torch.Tensor:
        return torch.nn.functional.normalize(waveform, dim=-1)

    return folder, StudyParts(corpus, bank, student.requires_grad_(False), Ears(encoder, judge, recogniser))


def _plan(folder: Path) -> StudyPlan:
    fixed = (*TINY, f'start="{folder / "start"}"')
    return StudyPlan(
        ROWS,
        load=lambda changes: load_preset("reinforce", (*fixed, *changes)),
        seeds=(0, 1),
        test=str(folder / "made.jsonl"),
        mixtures=3,
        validation=(str(folder / "made.jsonl"),),
        validation_mixtures=2,
        pool=3,
    )


def test_rows_run_once_and_make_a_table(world, tmp_path):
    folder, parts = world
    said: list[str] = []
    files = run_study(_plan(folder), parts, tmp_path, report=said.append)
    assert len(files) == len(said) == 8  # what holds no chance runs for one seed
    assert run_study(_plan(folder), parts, tmp_path, report=said.append) == files
    assert len(said) == 8
    files[-1].unlink()
    run_study(_plan(folder), parts, tmp_path, report=said.append)
    assert len(said) == 9
    with pytest.raises(UsageError, match=r"warm-start-0\.json: this row was made with other settings"):
        run_study(replace(_plan(folder), mixtures=2), parts, tmp_path)
    rows = json.loads(files[0].read_text())["queries"]
    assert {row["kind"] for row in rows} >= {"text", "audio", "composed"}
    assert sum("judge" in row for row in rows) == 3
    found = summarise(files)
    assert {row["name"]: len(row["seeds"]) for row in found["rows"]}["reinforced"] == 2
    assert found["gain_over_best_control"].keys() == {"si_sdri", "judge", "text_similarity", "black_box"}
    text = study_table(found)
    assert "| reinforced | 2 |" in text
    assert "gain over the best control" in text
    draw_study(found, tmp_path / "study.png")
    assert (tmp_path / "study.png").read_bytes().startswith(b"\x89PNG")


def test_a_mask_that_is_the_same_everywhere_changes_nothing(world, tmp_path):
    folder, parts = world
    (file,) = run_study(replace(_plan(folder), variants=[variant("no-op")]), parts, tmp_path)
    found = json.loads(file.read_text())
    assert found["scale"] == 0
    assert [row["si_sdri"] for row in found["queries"]] == pytest.approx([0.0] * len(found["queries"]), abs=0.01)


def test_rows_that_do_not_train_need_no_training_batches(world, tmp_path):
    folder, parts = world
    run_study(replace(_plan(folder), variants=[variant("warm start")]), parts, tmp_path)
    assert not (tmp_path / "pool").exists()


def test_trained_rows_differ_and_untrained_ones_are_the_start(world, tmp_path):
    folder, parts = world
    files = run_study(_plan(folder), parts, tmp_path)
    by_name = {}
    for path in files:
        found = json.loads(path.read_text())
        by_name.setdefault(found["variant"], found)
    assert by_name["reinforced"]["training"]["updates"] == 4
    assert by_name["warm start"]["training"] == {}
    assert by_name["warm start"]["scale"] == 1.0
    before = load_model(folder / "start").network.state_dict()
    after = load_model(tmp_path / "runs" / "reinforced-0" / "last").network.state_dict()
    assert any(not torch.equal(before[key], after[key]) for key in before)


def test_the_open_questions_are_answered(world):
    folder, parts = world
    loaded = load_model(folder / "start")
    asked = Questions(loaded.network.eval(), loaded.spectral, parts.corpus, parts.bank)
    rows = asked.inference(str(folder / "made.jsonl"), mixtures=2, encoder=parts.ears.encoder, concentrations=(9.0,))
    assert [row["way"] for row in rows] == [
        "mode",
        "mean, k = 9",
        "sample, independent, k = 9",
        "sample, blockwise, k = 9",
    ]
    assert rows[0]["si_sdri_spread"] == 0.0
    assert rows[3]["si_sdri_spread"] > 0.0
    conflicts = asked.conflicts(str(folder / "made.jsonl"), mixtures=2)
    both = [row for row in conflicts if row["holds"] == "both" and (row["first"], row["second"]) == PAIRS[1]]
    assert [row["weight_of_first"] for row in both] == list(SHARES)
    assert all(0.0 <= row["first_wins"]["mean"] <= 1.0 for row in both)
