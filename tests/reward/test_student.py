"""The student of the reward encoder: shape, silence, level, files, and that it learns to place sounds as taught."""

import pytest
import torch

from marssep.errors import ModelError
from marssep.query.encoder import load_encoder
from marssep.reward.encoder import RewardEncoder
from marssep.reward.student import CARD, FILE, GridStudent, StudentSettings
from marssep.train.distil import DistilSettings, Lesson, fidelity, teach

SMALL = StudentSettings(bands=16, segments=16, channels=(8, 16))


@pytest.fixture(scope="module")
def teacher() -> RewardEncoder:
    made = RewardEncoder(load_encoder("tiny"))
    made.stage = 2
    return made


def test_embeddings_have_length_1_at_any_level_and_silence_has_none(teacher):
    student = GridStudent(teacher, SMALL).eval()
    power = torch.rand(3, 40, 21)
    power[2] = 0
    placed = student(power)
    assert placed.shape == (3, teacher.dimension) == (3, student.dimension)
    assert torch.allclose(placed.norm(dim=1), torch.tensor([1.0, 1.0, 0.0]), atol=1e-5)
    assert torch.allclose(placed, student(power * 1e-5), atol=1e-4)


def test_names_lie_where_the_teacher_puts_them(teacher):
    student = GridStudent(teacher, SMALL)
    names = teacher.encoder.embed_text(["dog", "rain"])
    assert torch.allclose(student.place_name(names), teacher.embed_text(["dog", "rain"]), atol=1e-5)


def test_what_is_saved_is_what_is_loaded(teacher, tmp_path):
    student = GridStudent(teacher, SMALL).eval()
    student.save(tmp_path, {"seed": 1})
    again = GridStudent.load(tmp_path)
    power = torch.rand(2, 32, 20)
    assert torch.equal(student(power), again(power))
    assert again.card == {"seed": 1}
    assert not any(parameter.requires_grad for parameter in again.parameters())


def test_missing_and_damaged_files_are_named(teacher, tmp_path):
    with pytest.raises(ModelError, match="no student there"):
        GridStudent.load(tmp_path)
    GridStudent(teacher, SMALL).save(tmp_path, {})
    (tmp_path / FILE).write_bytes(b"pickle")
    with pytest.raises(ModelError, match="no usable student"):
        GridStudent.load(tmp_path)
    (tmp_path / CARD).write_text("{")
    with pytest.raises(ModelError, match="no usable student"):
        GridStudent.load(tmp_path)


def test_it_learns_to_place_sounds_and_only_its_first_part_moves(teacher):
    generator = torch.Generator().manual_seed(0)
    m, k = 12, 6
    grids = torch.rand(m, k, 16, 16, generator=generator) * 0.3
    places = torch.zeros(m, k, 16)
    for mixture in range(m):
        for row in range(k):
            kind = (mixture + row) % 4
            grids[mixture, row, 4 * kind : 4 * kind + 4] += 1.0
            places[mixture, row, kind] = 1.0
    names = places[:, 0]
    lesson = Lesson(grids, places, names, torch.rand(m, k), ("target", "mixture", *["explored"] * 4), ("x",) * m)
    student = GridStudent(teacher, SMALL)
    detail = student.detail.linear.weight.clone()
    before = fidelity(student.eval(), lesson)
    taught = teach(student, lesson, DistilSettings(steps=60, mixtures=6), report=lambda line: None)
    after = fidelity(taught, lesson)
    assert after["place"] > 0.9 > before["place"] + 0.3
    assert torch.equal(detail, taught.detail.linear.weight)
