"""Queries on the command line: regions of the recording, weights, where a negative works; and what makes no sense."""

import json

import pytest

from marssep.audio import encode_audio, read_audio


def _done(ran):
    return [row for row in map(json.loads, ran.out.splitlines()) if row["event"] == "done"]


def test_regions_over_a_folder(marssep, tiny_model, recording, tmp_path):
    """Half a second each; in one of the files there is no such region, and the others do not mind."""
    takes = tmp_path / "takes"
    takes.mkdir()
    for name in ("a.wav", "c.wav"):
        (takes / name).write_bytes(recording.read_bytes())
    short = read_audio(recording).waveform[:, :4000]
    (takes / "b.wav").write_bytes(encode_audio(short, sample_rate=16000, format="WAV", subtype="PCM_16"))
    call = ("separate", takes, "--model", tiny_model, "-o", tmp_path / "out", "--json")
    ran = marssep(*call, "--like", "0:00.2-0:00.4", "--text", "dog", "--weights", "text=3, audio=0.5")
    assert ran.code == 1
    assert "b.wav: the region 0:00.2-0:00.4 ends after the recording, which lasts 0.25 s" in ran.out
    rows = _done(ran)
    assert [row["query"]["like"] for row in rows] == [[[0.2, 0.4]]] * 2
    assert rows[0]["query"]["weights"] == {"text": 3.0, "audio": 0.5}
    rows = _done(marssep(*call, "--like", "0-.1,0.1-0.25", "--like", "0.1-0.2", "--jobs", "2"))
    assert rows == []
    rows = _done(marssep(*call, "--like", "0-0.1,0.1-0.25", "--like", "0.1-0.2", "--jobs", "2"))
    assert sorted(len(row["query"]["like"]) for row in rows) == [1, 1, 1, 2, 2, 2]


def test_where_a_negative_works_is_recorded(marssep, tiny_model, recording, tmp_path):
    call = ("separate", recording, "--text", "dog", "--model", tiny_model, "-o", tmp_path / "out", "--json", "--resume")
    made = [_done(marssep(*call, "--not", "rain", *more))[0] for more in ((), ("--not-in", "embedding"))]
    assert made[1]["query"]["negative_in"] == "embedding"
    assert made[0]["query"]["negative_in"] in ("logits", "embedding")
    assert _done(marssep(*call))[0]["query"]["negative_in"] is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--like", "0:05-0:03"], "0:05-0:03 ends before it begins"),
        (["--like", "1-1"], "is empty"),
        (["--like", "soon"], "'soon' is no region of a recording"),
        (["--like", "0-0.2", "--like", "0-0.3", "--text", "dog"], "of one kind"),
        (["--text", "dog", "--weights", "text"], "'text' is no weight; give them as text=2"),
        (["--text", "dog", "--weights", "text=much"], "'text=much' is no weight"),
        (["--text", "dog", "--weights", "image=1"], "there is no --image in the query; weigh what it has: text"),
        (["--text", "dog", "--weights", "text=1,text=2"], "weighed twice"),
        (["--text", "dog", "--weights", "text=-1"], "must be >= 0"),
        (["--text", "dog", "--like", "0-0.2", "--weights", "text=0,audio=0"], "not all 0"),
        (["--text", "dog", "--weights", "text=nan"], "not all 0"),
    ],
)
def test_queries_that_make_no_sense(marssep, tiny_model, recording, tmp_path, options, words):
    ran = marssep("separate", recording, *options, "--model", tiny_model, "-o", tmp_path / "out")
    assert ran.code == 2
    assert words in ran.err
    assert ran.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("like", "words"), [("0:07-0:09", "ends after"), ("0:00-0:00.5", "is silent")])
def test_regions_that_the_recording_does_not_have(marssep, tiny_model, tmp_path, like, words):
    import numpy as np

    (tmp_path / "in.wav").write_bytes(encode_audio(np.zeros(16000), sample_rate=16000, format="WAV"))
    ran = marssep("separate", tmp_path / "in.wav", "--like", like, "--model", tiny_model, "-o", tmp_path / "out")
    assert ran.code == 1
    assert words in ran.err
    assert ran.err.count("\n") == 1
    assert not (tmp_path / "out").exists()
